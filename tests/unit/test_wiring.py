from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from service import wiring
from service.adapters.store import SqlStore
from service.domain.errors import ContainerUnknown, EngineUnreachable, RegistryUnknown
from service.settings import Settings, load

CONFIG = """
[registries.b]
url = "http://127.0.0.1:1"
container = "registry"
[registries.a]
url = "http://127.0.0.1:2"
engine = "far"
[engines.local]
url = "tcp://127.0.0.1:1"
[engines.far]
url = "tcp://127.0.0.1:1"
[engines.idle]
url = "tcp://127.0.0.1:1"
[engines.seen]
url = "tcp://127.0.0.1:1"
containers = ["web-*"]
"""
FORBIDDEN = {
    "service.supervisor": {"sqlalchemy", "flask", "requests", "docker", "alembic", "gunicorn"},
    "service.web": {"sqlalchemy", "flask", "requests", "docker", "alembic"},
    "service.wiring": {"flask", "requests", "docker", "alembic", "dbos", "gunicorn", "yaml"},
    "service.cli": {"sqlalchemy", "flask", "requests", "docker", "alembic", "gunicorn"},
}


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    (tmp_path / "c.toml").write_text(CONFIG)
    return load(tmp_path / "c.toml", {"REGISTRY_ADMIN_DATA_DIR": str(tmp_path / "data")})


def test_building_touches_nothing(settings: Settings) -> None:
    services = wiring.build(settings)
    assert services.registries.get("a").url == "http://127.0.0.1:2"
    assert not settings.data_dir.exists()


def test_registries_are_named_in_order_and_built_once(settings: Settings) -> None:
    registries = wiring.build(settings).registries
    assert list(registries.names()) == ["a", "b"]
    assert registries.get("b") is registries.get("b")
    assert registries.get("b").name == "b"
    with pytest.raises(RegistryUnknown):
        registries.get("c")


def test_a_registry_s_container_and_version(settings: Settings) -> None:
    registries = wiring.build(settings).registries
    assert [registries.container(name) for name in ("a", "b", "c")] == [None, "registry", None]
    assert registries.version("a") is None
    assert registries.version("b") is None


def test_readiness_asks_the_engines_that_somebody_uses(settings: Settings) -> None:
    services = wiring.build(settings)
    assert isinstance(services.store, SqlStore)
    services.store.migrate()
    found = services.readiness.health()
    assert found.ready
    assert set(found.engines) == {"local", "seen"}
    assert set(found.registries) == {"a", "b"}


def test_the_tables_are_there_after_preparing(settings: Settings) -> None:
    parts = wiring.build_prepared(settings)
    assert parts.store.tokens.page(1, None) == []
    assert parts.recover() == 0
    parts.store.close()


FAR = "[engines.far]\nurl = 'tcp://127.0.0.1:1'\n"
REGISTRY = "[registries.a]\nurl = 'http://127.0.0.1:2'\ncontainer = 'registry'\n"


@pytest.mark.parametrize(
    ("config", "engines"),
    [
        ("", {"local"}),
        (FAR, {"far"}),
        (FAR + "[engines.local]\n", {"far", "local"}),
        (FAR + REGISTRY, {"far", "local"}),
    ],
)
def test_containers_are_looked_for_on_engines_that_somebody_named(
    tmp_path: Path, config: str, engines: set[str]
) -> None:
    (tmp_path / "c.toml").write_text(config)
    environment = {
        "REGISTRY_ADMIN_DATA_DIR": str(tmp_path),
        "DOCKER_HOST": f"unix://{tmp_path}/none.sock",
    }
    containers = wiring.build(load(tmp_path / "c.toml", environment)).containers
    for name in ("far", "local"):
        with pytest.raises(EngineUnreachable if name in engines else ContainerUnknown):
            containers.find(f"{name}:web")


@pytest.mark.parametrize("module", FORBIDDEN)
def test_a_process_imports_only_what_it_needs(module: str) -> None:
    code = f"import sys, {module}; print(*sys.modules)"
    command = [sys.executable, "-c", code]
    said = subprocess.run(command, capture_output=True, text=True, check=True, env=os.environ)
    loaded = {name.partition(".")[0] for name in said.stdout.split()}
    assert loaded & (FORBIDDEN[module] | {"opentelemetry"}) == set()
