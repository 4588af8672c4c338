"""Docker's engine keeps to the contract of engines, by the adapter."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from itertools import count
from typing import Any

import docker.errors
import pytest

from service.adapters.engine import DockerEngine
from service.settings import EngineSettings
from tests.contract.engine.suite import EngineContract
from tests.e2e.bed.engine import Engine

NUMBERS = count(1)


class DockerBed:
    def __init__(self, engine: Engine, stack: ExitStack) -> None:
        self.engine = DockerEngine(EngineSettings("local", engine.host))
        self.image = engine.busybox_image()
        self._bed = engine
        self._stack = stack

    def name(self) -> str:
        name = f"contract-{self._bed.workspace.owner}-{next(NUMBERS)}"
        self._stack.callback(self._remove, name)
        return name

    def network(self) -> str:
        name = f"contract-{self._bed.workspace.owner}-{next(NUMBERS)}"
        network = self._bed.client.networks.create(name, labels=self._bed.labels)
        self._stack.callback(network.remove)
        return name

    def body(self, *command: str, **fields: Any) -> dict[str, Any]:  # noqa: ANN401
        labels = {**self._bed.labels, **fields.pop("Labels", {})}
        host_config = {"HostConfig": {"NetworkMode": "none"}}
        common = {"Image": self.image, "Cmd": list(command), "Labels": labels}
        return {**common, **host_config, **fields}

    def pause(self, container_id: str) -> None:
        self._bed.client.containers.get(container_id).pause()

    def write_file(self, container_id: str, path: str, content: bytes) -> None:
        code, said = self._bed.client.containers.get(container_id).exec_run(
            ["sh", "-c", 'printf %s "$CONTENT" > "$TARGET"'],
            environment={"CONTENT": content.decode(), "TARGET": path},
        )
        assert code == 0, said

    def _remove(self, name: str) -> None:
        try:
            self._bed.client.containers.get(name).remove(force=True, v=True)
        except docker.errors.NotFound:
            return


@pytest.fixture
def bed(engine: Engine) -> Iterator[DockerBed]:
    with ExitStack() as stack:
        yield DockerBed(engine, stack)


class TestDockerEngine(EngineContract):
    pass
