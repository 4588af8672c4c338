"""Fixtures over the bed: each gives a real part and takes it away again."""

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.bed.clients import DockerCommand
from tests.e2e.bed.engine import Engine, open_engine
from tests.e2e.bed.postgres import Postgres
from tests.e2e.bed.proxy import Proxy
from tests.e2e.bed.registry import MakeRegistry, RunningRegistry, Shape, open_registry
from tests.e2e.bed.service import MakeService, Service, Table, engine_table, registry_table
from tests.e2e.bed.shapes import Workshop, named_things
from tests.e2e.bed.workspace import Workspace, sweep

pytest.register_assert_rewrite("tests.contract.engine.suite")  # imported, not collected

IMAGES = os.environ.get("REGISTRY_ADMIN_TEST_REGISTRY_IMAGES", "built").split(",")

LONGEST = (
    "test_interruption.py",
    "test_collection_deaths.py",
    "test_jobs.py",
    "test_deploy.py",
    "test_ulimits.py",
    "test_collection_trouble.py",
    "test_openapi.py",
    "test_collection.py",
    "test_core_patterns.py",
    "test_containers.py",
    "test_page.py",
    "test_supervision.py",
    "test_redis_cache.py",
    "test_images.py",
    "test_generated_clients.py",
)
"""Files that begin first: with several processes, one that begins last is waited for alone."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.e2e)
    rank = {here / name: place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: rank.get(item.path, len(LONGEST)))


@pytest.fixture(scope="session")
def workspace() -> Iterator[Workspace]:
    """The run's folder; whatever earlier runs left when they were killed is removed first."""
    sweep()
    made = Workspace()
    yield made
    made.close()


@pytest.fixture(scope="session")
def engine(workspace: Workspace) -> Iterator[Engine]:
    """A Docker engine: `engine.host` for DOCKER_HOST, `engine.client` of docker-py."""
    opened = open_engine(workspace)
    yield opened
    opened.close()


@pytest.fixture(scope="session", params=IMAGES)
def registry_image(request: pytest.FixtureRequest, engine: Engine) -> str:
    """Each registry image to test with: the tests that take a registry run once for each."""
    return engine.registry_image(request.param)


def registries(engine: Engine, image: str) -> Iterator[MakeRegistry]:
    with ExitStack() as stack:

        def make(seed: RunningRegistry | None = None, **shape: Any) -> RunningRegistry:  # noqa: ANN401
            made = open_registry(engine, image, Shape(**shape), seed)
            stack.callback(made.remove)
            return made

        yield make


@pytest.fixture
def registry(engine: Engine, registry_image: str) -> Iterator[MakeRegistry]:
    """Start registries for one test: `registry(delete=False, htpasswd=("u", "p"), ...)`."""
    yield from registries(engine, registry_image)


@pytest.fixture(scope="module")
def module_registry(engine: Engine, registry_image: str) -> Iterator[MakeRegistry]:
    """As `registry`, for fixtures that a whole module reads from."""
    yield from registries(engine, registry_image)


@pytest.fixture
def proxy() -> Iterator[Callable[[RunningRegistry], Proxy]]:
    """Put recording proxies in front of registries: `proxy(registry())`."""
    with ExitStack() as stack:

        def make(registry: RunningRegistry) -> Proxy:
            made = Proxy(registry.url, registry.context())
            stack.callback(made.close)
            return made

        yield make


@pytest.fixture(scope="session")
def docker_command(engine: Engine) -> DockerCommand:
    """The docker command on the bed's engine: `docker_command("images")`, `.push`, `.pull`."""
    return DockerCommand(engine)


@pytest.fixture(scope="session")
def postgres(workspace: Workspace) -> Iterator[Postgres]:
    """A private PostgreSQL, started by the first test that asks."""
    made = Postgres(workspace)
    yield made
    made.close()


@pytest.fixture
def database_url(postgres: Postgres) -> Iterator[str]:
    """An empty PostgreSQL database for one test."""
    url = postgres.create()
    yield url
    postgres.drop(url)


def services(workspace: Workspace, engine: Engine) -> Iterator[MakeService]:
    with ExitStack() as stack:

        def make(
            registry: RunningRegistry | None = None,
            *,
            url: str | None = None,
            table: Table | None = None,
            settings: Table | None = None,
            start: bool = True,
        ) -> Service:
            whole: dict[str, Any] = {"engines": {"local": engine_table(engine)}}
            if registry is not None:
                row = dict(registry_table(registry, url)) | dict(table or {})
                whole["registries"] = {"default": row}
            made = Service(workspace, whole | dict(settings or {}))
            stack.callback(made.close)
            if start:
                made.start()
            return made

        yield make


@pytest.fixture
def service(workspace: Workspace, engine: Engine) -> Iterator[MakeService]:
    """Start services: `service(registry())`, `service(made, url=proxy(made).url)`.

    `table` adds to the registry's table of the configuration, `settings` replaces whole tables
    or values at its top; `start=False` leaves starting to the test.
    """
    yield from services(workspace, engine)


@pytest.fixture(scope="module")
def module_service(workspace: Workspace, engine: Engine) -> Iterator[MakeService]:
    """As `service`, for fixtures that a whole module reads from."""
    yield from services(workspace, engine)


@pytest.fixture(scope="session")
def words(engine: Engine, docker_command: DockerCommand) -> Iterator[dict[str, str]]:
    """What the options of shapes name: images, networks, a volume, other containers."""
    with named_things(engine, docker_command) as made:
        yield made


@pytest.fixture
def shop(
    engine: Engine, docker_command: DockerCommand, words: dict[str, str]
) -> Iterator[Workshop]:
    """Make containers of any shape: `shop.create(Shape(...))`."""
    with ExitStack() as stack:
        yield Workshop(engine, docker_command, words, stack)
