"""What several contracts are held against."""

from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from tests.e2e.bed.postgres import Postgres, binary
from tests.e2e.bed.workspace import Workspace, sweep


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """A private PostgreSQL; only where none can be found its tests are left out."""
    try:
        binary("initdb")
    except RuntimeError as error:
        pytest.skip(str(error))
    with ExitStack() as stack:
        sweep()
        workspace = Workspace()
        stack.callback(workspace.close)
        made = Postgres(workspace)
        stack.callback(made.close)
        yield made
