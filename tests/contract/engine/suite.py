"""What every engine keeps to, whatever is behind its port."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any, Protocol

import pytest

from demo.processes import wait_until
from service.domain.audit import Attempt, AuditTrail, Change
from service.domain.engine import (
    Creation,
    Engine,
    EngineController,
    LayerChange,
    NetworkAttachment,
    PushName,
    RestartPolicy,
)
from service.domain.errors import (
    ContainerNameTaken,
    ContainerNotRunning,
    ContainerStartFailed,
    ContainerUnknown,
    EngineRefused,
    ImageUnknown,
    PushFailed,
    RegistryUnreachable,
)
from service.domain.ulimits import Ulimit, read_limits
from tests.fakes_store import FakeStore

SLEEP = ("sleep", "600")
TALK = ("sh", "-c", "echo out; echo err >&2; printf rest; exit 3")
HANG = ("sh", "-c", "echo first; exec sleep 600")
NOPE = ("/nope",)
UNKNOWN = ["nowhere", "", "..", "a/b", "../images/json", "a b", "a?x=1", "ü", "/", "-x"]


class EngineBed(Protocol):
    """An engine to work on, and what a test needs besides its port."""

    engine: Engine
    image: str

    def name(self) -> str:
        """A name for a container that nobody has."""

    def network(self) -> str:
        """A network to connect to."""

    def body(self, *command: str, **fields: Any) -> Mapping[str, Any]:  # noqa: ANN401
        """The body of a create."""

    def pause(self, container_id: str) -> None:
        """Freeze a running container."""

    def write_file(self, container_id: str, path: str, content: bytes) -> None:
        """Put a file into a running container."""


class Lines:
    """Keeps what it is given."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, bytes]] = []

    def __call__(self, stream: str, line: bytes) -> None:
        self.seen.append((stream, line))


def never() -> bool:
    return False


def streams() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "engine-stream"]


class EngineContract:
    @pytest.fixture
    def change(self) -> Change:
        return AuditTrail(FakeStore().audit).begin(Attempt("test", "tester"))

    @pytest.fixture
    def port(self, bed: EngineBed) -> Engine:
        return bed.engine

    @pytest.fixture
    def controller(self, port: Engine, change: Change) -> EngineController:
        return port.controller(change)

    @pytest.fixture
    def sleeper(self, bed: EngineBed, controller: EngineController) -> str:
        body = bed.body(*SLEEP, StopSignal="SIGKILL")  # as process 1 it ignores SIGTERM
        created = controller.create(Creation(bed.name(), body))
        controller.start(created)
        return created

    # Looking.

    def test_a_container_is_found_by_its_id_its_name_and_its_name_as_inspected(
        self, port: Engine, sleeper: str
    ) -> None:
        found = port.container(sleeper)
        assert found["Id"] == sleeper
        assert port.container(found["Name"]) == found
        assert port.container(found["Name"].lstrip("/")) == found

    @pytest.mark.parametrize("reference", UNKNOWN)
    def test_what_is_no_container_is_unknown(
        self, port: Engine, controller: EngineController, reference: str
    ) -> None:
        with pytest.raises(ContainerUnknown):
            port.container(reference)
        with pytest.raises(ContainerUnknown):
            port.file_size(reference, "/file")
        with pytest.raises(ContainerUnknown):
            port.read_file(reference, "/file", 10)
        with pytest.raises(ContainerUnknown):
            controller.start(reference)
        with pytest.raises(ContainerUnknown):
            controller.stop(reference)
        with pytest.raises(ContainerUnknown):
            controller.execute(reference, TALK, Lines(), never, 10)

    def test_containers_are_listed_stopped_ones_too(
        self, port: Engine, controller: EngineController, sleeper: str
    ) -> None:
        controller.stop(sleeper, 0)
        (found,) = [one for one in port.containers() if one["Id"] == sleeper]
        assert found["Names"] == [port.container(sleeper)["Name"]]
        assert found["State"] == "exited"

    def test_containers_are_listed_by_a_label_and_by_its_value(
        self, bed: EngineBed, port: Engine, controller: EngineController
    ) -> None:
        label = f"test.{bed.name()}"
        created = {
            controller.create(Creation(bed.name(), bed.body(*SLEEP, Labels={label: value})))
            for value in "ab"
        }
        assert {one["Id"] for one in port.containers(label)} == created
        (found,) = port.containers(f"{label}=a")
        assert found["Labels"][label] == "a"
        assert found["HostConfig"]["NetworkMode"] == "none"
        assert port.containers(f"{label}=c") == []

    def test_an_image_is_found_by_its_name_and_its_id(self, bed: EngineBed, port: Engine) -> None:
        found = port.image(bed.image)
        assert bed.image in found["RepoTags"]
        assert port.image(found["Id"]) == found

    @pytest.mark.parametrize("reference", [*UNKNOWN, "nowhere:1", "sha256:" + 64 * "0"])
    def test_what_is_no_image_is_unknown(self, port: Engine, reference: str) -> None:
        with pytest.raises(ImageUnknown):
            port.image(reference)

    # Files.

    def test_an_image_has_steps_the_last_one_first(self, bed: EngineBed, port: Engine) -> None:
        assert port.history(bed.image) == port.history(port.image(bed.image)["Id"])
        with pytest.raises(ImageUnknown):
            port.history("nowhere:1")

    def test_a_name_of_an_image_comes_and_goes(
        self, bed: EngineBed, port: Engine, change: Change
    ) -> None:
        controller, image_id = port.controller(change), port.image(bed.image)["Id"]
        name = PushName(f"127.0.0.1:1/{bed.name()}", "1")
        for _ in range(2):
            controller.tag(image_id, name)
        assert port.image(str(name))["Id"] == image_id
        for _ in range(2):
            controller.untag(name)
        with pytest.raises(ImageUnknown):
            port.image(str(name))
        assert port.image(bed.image)["Id"] == image_id
        with pytest.raises(ImageUnknown):
            controller.tag("sha256:" + 64 * "0", name)

    def test_a_push_that_cannot_be_says_so(
        self, bed: EngineBed, port: Engine, change: Change
    ) -> None:
        controller, heard = port.controller(change), list[Mapping[str, Any]]()
        name = PushName(f"127.0.0.1:1/{bed.name()}", "1")
        controller.tag(port.image(bed.image)["Id"], name)
        try:
            with pytest.raises((RegistryUnreachable, PushFailed)):
                controller.push(name, None, heard.append, lambda: False)
        finally:
            controller.untag(name)

    def test_a_file_is_read_running_or_stopped(
        self, bed: EngineBed, port: Engine, controller: EngineController, sleeper: str
    ) -> None:
        bed.write_file(sleeper, "/some.yml", b"a: 1\n")
        for _ in range(2):
            assert port.file_size(sleeper, "/some.yml") == 5
            assert port.read_file(sleeper, "/some.yml", 5) == b"a: 1\n"
            controller.stop(sleeper, 0)

    def test_a_file_larger_than_the_limit_is_not_read(
        self, bed: EngineBed, port: Engine, sleeper: str
    ) -> None:
        bed.write_file(sleeper, "/large", b"x" * 11)
        assert port.file_size(sleeper, "/large") == 11
        assert port.read_file(sleeper, "/large", 10) is None

    @pytest.mark.parametrize("path", ["/bin", "/bin/nowhere", "/nowhere/at/all"])
    def test_what_is_no_file_has_no_size(self, port: Engine, sleeper: str, path: str) -> None:
        assert port.file_size(sleeper, path) is None
        assert port.read_file(sleeper, path, 10) is None

    def test_files_of_volumes_are_seen_by_every_container_that_mounts_them(
        self, bed: EngineBed, port: Engine, controller: EngineController
    ) -> None:
        first = controller.create(Creation(bed.name(), bed.body(*SLEEP, Volumes={"/data": {}})))
        controller.start(first)
        bed.write_file(first, "/data/file", b"kept")
        sharing = {"VolumesFrom": [first], "NetworkMode": "none"}
        second = controller.create(Creation(bed.name(), bed.body(*SLEEP, HostConfig=sharing)))
        assert port.read_file(second, "/data/file", 100) == b"kept"

    # Creating.

    def test_what_a_container_wrote_into_its_own_layer_is_told(
        self, bed: EngineBed, port: Engine, sleeper: str
    ) -> None:
        assert port.layer_changes(sleeper) == []
        assert port.writable_size(sleeper) == 0
        bed.write_file(sleeper, "/note", b"12345")
        assert port.layer_changes(sleeper) == [LayerChange("/note", "added")]
        assert port.writable_size(sleeper) == 5

    def test_the_limits_of_its_process_are_told_while_it_runs(
        self, bed: EngineBed, port: Engine, controller: EngineController
    ) -> None:
        limits = [{"Name": "nofile", "Soft": 100, "Hard": 200}]
        body = dict(bed.body(*SLEEP))
        body["HostConfig"] = {**body.get("HostConfig", {}), "Ulimits": limits}
        made = controller.create(Creation(bed.name(), body))
        assert port.process_limits(made) is None
        controller.start(made)
        text = port.process_limits(made)
        assert text is not None
        assert Ulimit("nofile", 100, 200) in read_limits(text)

    def test_the_last_lines_are_told_running_or_not(
        self, bed: EngineBed, port: Engine, controller: EngineController
    ) -> None:
        made = controller.create(Creation(bed.name(), bed.body(*TALK)))
        assert port.last_lines(made, 5) == []
        controller.start(made)
        controller.wait(made, Lines(), never, 30)
        assert sorted(port.last_lines(made, 5)) == ["err", "out", "rest"]
        assert len(port.last_lines(made, 2)) == 2

    def test_what_the_kernel_tells_of_the_first_process_is_read_while_it_runs(
        self, port: Engine, controller: EngineController, sleeper: str
    ) -> None:
        assert b"Uid:" in (port.read_proc(sleeper, "1/status") or b"")
        assert port.read_proc(sleeper, "sys/kernel/core_pattern")
        assert port.read_proc(sleeper, "1/nowhere") is None
        controller.stop(sleeper, 0)
        assert port.read_proc(sleeper, "1/status") is None

    def test_a_folder_that_is_not_there_is_not_seen(self, port: Engine, sleeper: str) -> None:
        assert port.look(sleeper, "/nowhere/at/all") is None
        assert port.files_in(sleeper, "/nowhere", lambda _: True) == []

    def test_files_of_a_folder_are_told_by_their_names(
        self, bed: EngineBed, port: Engine, sleeper: str
    ) -> None:
        bed.write_file(sleeper, "/core.1", b"12345")
        bed.write_file(sleeper, "/other", b"1")
        found = port.files_in(sleeper, "/", lambda name: name.startswith("core"))
        assert [(one.name, one.size, one.regular) for one in found or ()] == [("core.1", 5, True)]

    def test_what_is_created_is_not_started(
        self, bed: EngineBed, port: Engine, controller: EngineController
    ) -> None:
        name = bed.name()
        created = controller.create(Creation(name, bed.body(*SLEEP)))
        found = port.container(name)
        assert (found["Id"], found["Name"]) == (created, f"/{name}")
        assert found["State"]["Status"] == "created"

    def test_a_name_is_given_once(
        self, bed: EngineBed, port: Engine, controller: EngineController, sleeper: str
    ) -> None:
        name = port.container(sleeper)["Name"].lstrip("/")
        with pytest.raises(ContainerNameTaken, match=name):
            controller.create(Creation(name, bed.body(*SLEEP)))
        other = controller.create(Creation(bed.name(), bed.body(*SLEEP)))
        with pytest.raises(ContainerNameTaken, match=name):
            controller.rename(other, name)

    def test_an_unknown_image_cannot_be_created_from(
        self, bed: EngineBed, port: Engine, controller: EngineController
    ) -> None:
        name = bed.name()
        with pytest.raises(ImageUnknown, match="nowhere:1"):
            controller.create(Creation(name, {**bed.body(*SLEEP), "Image": "nowhere:1"}))
        with pytest.raises(ContainerUnknown):
            port.container(name)

    def test_all_networks_are_connected(
        self, bed: EngineBed, port: Engine, controller: EngineController
    ) -> None:
        one, two = bed.network(), bed.network()
        networks = (NetworkAttachment(one, {"Aliases": ["a"]}), NetworkAttachment(two, {}))
        body = bed.body(*SLEEP, HostConfig={"NetworkMode": one})
        created = controller.create(Creation(bed.name(), body, networks))
        found = port.container(created)["NetworkSettings"]["Networks"]
        assert found.keys() == {one, two}
        assert "a" in found[one]["Aliases"]

    def test_a_container_that_cannot_be_connected_is_not_left_behind(
        self, bed: EngineBed, port: Engine, controller: EngineController
    ) -> None:
        name, known = bed.name(), bed.network()
        networks = (NetworkAttachment(known, {}), NetworkAttachment("none", {"Aliases": ["a"]}))
        body = bed.body(*SLEEP, HostConfig={"NetworkMode": known})
        with pytest.raises(EngineRefused, match="alias"):
            controller.create(Creation(name, body, networks))
        with pytest.raises(ContainerUnknown):
            port.container(name)

    # Starting and stopping.

    def test_starting_and_stopping_again_does_nothing(
        self, port: Engine, controller: EngineController, sleeper: str
    ) -> None:
        before = port.container(sleeper)["State"]
        controller.start(sleeper)
        assert port.container(sleeper)["State"] == before
        for _ in range(2):
            controller.stop(sleeper, 0)
            assert port.container(sleeper)["State"]["Status"] == "exited"

    def test_a_start_that_fails_tells_the_reason(
        self, bed: EngineBed, port: Engine, controller: EngineController
    ) -> None:
        created = controller.create(Creation(bed.name(), bed.body(*NOPE)))
        with pytest.raises(ContainerStartFailed, match="/nope"):
            controller.start(created)
        with pytest.raises(ContainerStartFailed, match="/nope"):
            controller.restart(created)
        assert port.container(created)["State"]["Running"] is False

    def test_a_paused_container_cannot_be_started(
        self, bed: EngineBed, controller: EngineController, sleeper: str
    ) -> None:
        bed.pause(sleeper)
        with pytest.raises(ContainerStartFailed, match="paused"):
            controller.start(sleeper)

    @pytest.mark.parametrize("timeout_seconds", [0, None])
    def test_a_restart_starts_what_runs_and_what_does_not(
        self,
        port: Engine,
        controller: EngineController,
        sleeper: str,
        timeout_seconds: int | None,
    ) -> None:
        first = port.container(sleeper)["State"]["StartedAt"]
        controller.restart(sleeper, timeout_seconds)
        second = port.container(sleeper)["State"]
        assert second["Running"] is True
        assert second["StartedAt"] > first
        controller.stop(sleeper, 0)
        controller.restart(sleeper, timeout_seconds)
        assert port.container(sleeper)["State"]["StartedAt"] > second["StartedAt"]

    # Renaming, removing, restart policy.

    def test_a_renamed_container_is_found_by_its_new_name_alone(
        self, bed: EngineBed, port: Engine, controller: EngineController, sleeper: str
    ) -> None:
        old, new = port.container(sleeper)["Name"], bed.name()
        controller.rename(sleeper, new)
        assert port.container(new)["Id"] == sleeper
        with pytest.raises(ContainerUnknown):
            port.container(old)

    def test_only_a_stopped_container_is_removed(
        self, port: Engine, controller: EngineController, sleeper: str
    ) -> None:
        with pytest.raises(EngineRefused, match="running"):
            controller.remove(sleeper)
        controller.stop(sleeper, 0)
        for _ in range(2):
            controller.remove(sleeper)
        with pytest.raises(ContainerUnknown):
            port.container(sleeper)

    def test_removing_leaves_the_volumes(
        self, bed: EngineBed, port: Engine, controller: EngineController
    ) -> None:
        first = controller.create(Creation(bed.name(), bed.body(*SLEEP, Volumes={"/data": {}})))
        controller.start(first)
        bed.write_file(first, "/data/file", b"kept")
        (mount,) = port.container(first)["Mounts"]
        controller.stop(first, 0)
        controller.remove(first)
        host_config = {"Binds": [f"{mount['Name']}:/there"], "NetworkMode": "none"}
        second = controller.create(Creation(bed.name(), bed.body(*SLEEP, HostConfig=host_config)))
        assert port.read_file(second, "/there/file", 100) == b"kept"

    @pytest.mark.parametrize(
        "policy",
        [
            RestartPolicy("always"),
            RestartPolicy("unless-stopped"),
            RestartPolicy("on-failure", 3),
            RestartPolicy("no"),
        ],
        ids=lambda policy: policy.name,
    )
    def test_a_restart_policy_is_changed_at_once(
        self, port: Engine, controller: EngineController, sleeper: str, policy: RestartPolicy
    ) -> None:
        controller.set_restart_policy(sleeper, policy)
        found = port.container(sleeper)
        told = {"Name": policy.name, "MaximumRetryCount": policy.maximum_retry_count}
        assert found["HostConfig"]["RestartPolicy"] == told
        assert found["State"]["Running"] is True

    # Processes.

    def test_a_command_gives_its_lines_and_its_exit_code(
        self, controller: EngineController, sleeper: str
    ) -> None:
        lines = Lines()
        assert controller.execute(sleeper, TALK, lines, never, 30) == 3
        assert sorted(lines.seen) == [("stderr", b"err"), ("stdout", b"out"), ("stdout", b"rest")]

    def test_a_command_that_is_not_there_says_so(
        self, controller: EngineController, sleeper: str
    ) -> None:
        lines = Lines()
        assert controller.execute(sleeper, NOPE, lines, never, 30) in {126, 127}
        assert b"/nope" in lines.seen[0][1]

    def test_a_command_is_left_when_told_to(
        self, controller: EngineController, sleeper: str
    ) -> None:
        lines = Lines()
        assert controller.execute(sleeper, HANG, lines, lambda: bool(lines.seen), 30) is None
        assert lines.seen == [("stdout", b"first")]

    def test_a_command_is_left_when_its_time_is_over(
        self, controller: EngineController, sleeper: str
    ) -> None:
        assert controller.execute(sleeper, HANG, Lines(), never, 0.3) is None

    def test_what_takes_the_lines_may_fail(
        self, controller: EngineController, sleeper: str
    ) -> None:
        def refuse(_stream: str, _line: bytes) -> None:
            raise LookupError("not that")

        with pytest.raises(LookupError, match="not that"):
            controller.execute(sleeper, HANG, refuse, never, 30)

    def test_a_command_needs_a_running_container(
        self, bed: EngineBed, controller: EngineController, sleeper: str
    ) -> None:
        bed.pause(sleeper)
        with pytest.raises(ContainerNotRunning):
            controller.execute(sleeper, TALK, Lines(), never, 30)
        stopped = controller.create(Creation(bed.name(), bed.body(*SLEEP)))
        with pytest.raises(ContainerNotRunning):
            controller.execute(stopped, TALK, Lines(), never, 30)

    @pytest.mark.parametrize("fields", [{}, {"Tty": True}], ids=["pipes", "terminal"])
    def test_a_container_is_followed_from_its_first_line_to_its_exit_code(
        self, bed: EngineBed, controller: EngineController, fields: Mapping[str, Any]
    ) -> None:
        lines = Lines()
        created = controller.create(Creation(bed.name(), bed.body(*TALK, **fields)))
        controller.start(created)
        assert controller.wait(created, lines, never, 30) == 3
        assert {line for _, line in lines.seen} == {b"out", b"err", b"rest"}
        if not fields:
            assert ("stderr", b"err") in lines.seen

    def test_a_container_is_left_when_told_to(
        self, bed: EngineBed, port: Engine, controller: EngineController
    ) -> None:
        lines = Lines()
        created = controller.create(Creation(bed.name(), bed.body(*HANG)))
        controller.start(created)
        assert controller.wait(created, lines, lambda: bool(lines.seen), 30) is None
        assert controller.wait(created, Lines(), never, 0.3) is None
        assert port.container(created)["State"]["Running"] is True

    def test_nothing_is_left_of_what_was_followed(
        self, controller: EngineController, sleeper: str
    ) -> None:
        for _ in range(3):
            controller.execute(sleeper, HANG, Lines(), never, 0.05)
        wait_until(lambda: not streams(), 60, "all threads that read streams gone")

    # Changes.

    def test_a_change_that_has_ended_changes_nothing(
        self, bed: EngineBed, port: Engine, sleeper: str
    ) -> None:
        with AuditTrail(FakeStore().audit).attempt(Attempt("test", "tester")) as change:
            controller = port.controller(change)
        calls = (
            lambda: controller.create(Creation(bed.name(), bed.body(*SLEEP))),
            lambda: controller.start(sleeper),
            lambda: controller.stop(sleeper),
            lambda: controller.restart(sleeper),
            lambda: controller.rename(sleeper, bed.name()),
            lambda: controller.remove(sleeper),
            lambda: controller.set_restart_policy(sleeper, RestartPolicy("always")),
            lambda: controller.execute(sleeper, TALK, Lines(), never, 10),
            lambda: controller.wait(sleeper, Lines(), never, 10),
        )
        before = port.container(sleeper)
        for call in calls:
            with pytest.raises(RuntimeError, match="has ended"):
                call()
        assert port.container(sleeper) == before
