"""The engine in memory keeps to the contract; and what it does beyond it."""

from __future__ import annotations

from itertools import count
from typing import Any, Literal

import pytest

from service.domain.audit import Attempt, AuditTrail, Change
from service.domain.engine import Creation, EngineController, RestartPolicy
from service.domain.errors import ContainerStartFailed, EngineUnreachable
from tests.contract.engine.suite import HANG, NOPE, SLEEP, TALK, EngineContract
from tests.fakes import Died
from tests.fakes_engine import Box, FakeEngine, Ran, Write
from tests.fakes_store import FakeStore


def fails(_box: Box) -> Ran:
    raise ContainerStartFailed("exec: /nope: no such file or directory")


class FakeBed:
    def __init__(self) -> None:
        self.engine = FakeEngine()
        self.image = "box:1"
        self.engine.add_image(self.image, Cmd=["sh"])
        said = [("stdout", b"out"), ("stderr", b"err"), ("stdout", b"rest")]
        self.engine.programs = {
            TALK: Ran(said, 3),  # type: ignore[arg-type]
            HANG: Ran([("stdout", b"first")], endless=True),
            NOPE: fails,
        }
        self._numbers = count(1)

    def name(self) -> str:
        return f"made-{next(self._numbers)}"

    def network(self) -> str:
        name = f"net-{next(self._numbers)}"
        self.engine.networks.add(name)
        return name

    def body(self, *command: str, **fields: Any) -> dict[str, Any]:  # noqa: ANN401
        host_config = {"HostConfig": {"NetworkMode": "none"}}
        return {"Image": self.image, "Cmd": list(command), **host_config, **fields}

    def pause(self, container_id: str) -> None:
        self.engine.box(container_id).status = "paused"

    def write_file(self, container_id: str, path: str, content: bytes) -> None:
        self.engine.write_file(container_id, path, content)


@pytest.fixture
def bed() -> FakeBed:
    return FakeBed()


class TestFakeEngine(EngineContract):
    pass


class TestBeyondTheContract:
    @pytest.fixture
    def change(self) -> Change:
        return AuditTrail(FakeStore().audit).begin(Attempt("test", "tester"))

    @pytest.fixture
    def engine(self, bed: FakeBed) -> FakeEngine:
        return bed.engine

    @pytest.fixture
    def controller(self, engine: FakeEngine, change: Change) -> EngineController:
        return engine.controller(change)

    def test_changes_are_listed_in_order(
        self, engine: FakeEngine, controller: EngineController
    ) -> None:
        created = controller.create(Creation("one", {"Image": "box:1"}))
        controller.start(created)
        controller.start(created)
        controller.set_restart_policy(created, RestartPolicy("always"))
        controller.stop(created, 4)
        controller.rename(created, "two")
        controller.remove(created)
        assert engine.writes == [
            Write("create", "one"),
            Write("start", "one"),
            Write("set_restart_policy", "one"),
            Write("stop", "one"),
            Write("rename", "one"),
            Write("remove", "two"),
        ]

    @pytest.mark.parametrize("when", ["before", "after"])
    def test_death_is_around_a_change_and_for_good(
        self, engine: FakeEngine, controller: EngineController, when: Literal["before", "after"]
    ) -> None:
        box = engine.run("one", "box:1")
        engine.die(1, when)
        with pytest.raises(Died):
            controller.stop(box.id)
        with pytest.raises(Died):
            engine.container("one")
        engine.revive()
        assert engine.container("one")["State"]["Running"] is (when == "before")

    def test_an_engine_may_be_gone_for_one_call(
        self, engine: FakeEngine, controller: EngineController
    ) -> None:
        box = engine.run("one", "box:1")
        engine.die(1, "before", EngineUnreachable("gone"), for_good=False)
        with pytest.raises(EngineUnreachable):
            controller.stop(box.id)
        controller.stop(box.id)

    def test_a_port_and_an_address_can_be_had_once(
        self, engine: FakeEngine, controller: EngineController
    ) -> None:
        engine.networks.add("front")
        port = {"HostConfig": {"PortBindings": {"5000/tcp": [{"HostPort": "5000"}]}}}
        holder = engine.run("one", "box:1", **port)
        other = engine.controller(AuditTrail(FakeStore().audit).begin(Attempt("t", "t")))
        created = other.create(Creation("two", {"Image": "box:1", **port}))
        with pytest.raises(ContainerStartFailed, match="5000"):
            controller.start(created)
        controller.stop(holder.id)
        controller.start(created)

    def test_a_reboot_starts_what_its_policy_says(self, engine: FakeEngine) -> None:
        for policy in ("no", "always", "unless-stopped"):
            for state in ("ran", "stopped"):
                host_config = {"RestartPolicy": {"Name": policy, "MaximumRetryCount": 0}}
                engine.run(f"{policy}-{state}", "box:1", HostConfig=host_config)
        for box in engine.boxes.values():
            box.status = "exited" if box.name.endswith("stopped") else box.status
        engine.reboot()
        running = {box.name for box in engine.boxes.values() if box.running}
        assert running == {"always-ran", "always-stopped", "unless-stopped-ran"}

    def test_what_runs_for_ever_does_so(self, engine: FakeEngine) -> None:
        assert engine.run("one", "box:1", Cmd=list(SLEEP)).running
