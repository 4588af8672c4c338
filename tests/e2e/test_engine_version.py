from __future__ import annotations

from service.adapters.engine import DockerEngine
from service.settings import EngineSettings
from tests.e2e.bed.engine import Engine
from tests.e2e.bed.registry import MakeRegistry


def test_a_running_registry_tells_its_version(engine: Engine, registry: MakeRegistry) -> None:
    asked = DockerEngine(EngineSettings("local", engine.host))
    version = asked.registry_version(registry().name)
    assert version is not None
    assert version.split(".")[0] in {"2", "3"}
    assert asked.status() == "up"


def test_other_containers_have_none(engine: Engine) -> None:
    asked = DockerEngine(EngineSettings("local", engine.host))
    image = engine.busybox_image()
    container = engine.client.containers.run(
        image, ["sleep", "600"], detach=True, network_mode="none", labels=engine.labels
    )
    assert asked.registry_version(str(container.name)) is None
    container.kill()
    assert asked.registry_version("nowhere") is None
