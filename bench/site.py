"""A registry in a container on a real engine, and the service beside it: the bed of the tests."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import datetime
from typing import Any

from tests.e2e.bed.engine import open_engine
from tests.e2e.bed.registry import RunningRegistry, Shape, open_registry
from tests.e2e.bed.service import Service, engine_table, registry_table
from tests.e2e.bed.workspace import Workspace


@contextmanager
def site() -> Iterator[tuple[RunningRegistry, Service]]:
    """Give an empty registry and a service that may change it and bench-* containers."""
    with ExitStack() as stack:
        workspace = Workspace()
        stack.callback(workspace.close)
        engine = open_engine(workspace)
        stack.callback(engine.close)
        registry = open_registry(engine, engine.registry_image("built"), Shape())
        stack.callback(registry.remove)
        settings = {
            "engines": {"local": engine_table(engine, "bench-*")},
            "registries": {"default": registry_table(registry)},
        }
        service = Service(workspace, settings)
        stack.callback(service.close)
        service.start()
        yield registry, service


def seconds(job: dict[str, Any], begin: str, end: str) -> float:
    """Return the time between two moments of a job, such as ``created_at`` and ``started_at``."""
    return (datetime.fromisoformat(job[end]) - datetime.fromisoformat(job[begin])).total_seconds()
