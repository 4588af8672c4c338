"""Processes that really crash: a core is there where the diagnosis promised one, and nowhere else.

The kernel's pattern is what it is on this machine, as it is the host's and never changed here: the
other kinds of patterns are in test_core_patterns, on a kernel of their own. Each
row is held to be as the diagnosis said; why a row is not ready is held for the kind of pattern that
a kernel has by itself, which is relative.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from docker.errors import NotFound
from docker.models.containers import Container
from docker.types import Ulimit

from demo.processes import wait_until
from service.adapters.engine import DockerEngine
from service.domain.containers import Allowed
from service.domain.coredump_facts import CoreDumps, core_dumps
from service.settings import EngineSettings
from tests.e2e.bed.api import get, problem
from tests.e2e.bed.engine import Engine
from tests.e2e.bed.service import MakeService, Service, engine_table

PATTERN = Path("/proc/sys/kernel/core_pattern").read_text(encoding="utf-8").rstrip("\n")
RELATIVE = not PATTERN.startswith(("/", "|"))
CRASH = "sleep 100 & kill -SEGV $!; wait $!; true"
UNLIMITED = (-1, -1)
"""Soft and hard limit of the size of cores."""


@dataclass(frozen=True)
class Row:
    """A container, and the check that fails there; None where a core is left."""

    fails: str | None
    core: tuple[int, int] = UNLIMITED
    shape: dict[str, Any] = field(default_factory=dict)
    first: str = ":"
    """What its root does before."""


ROWS = {
    "all-is-well": Row(None),
    "limit-0": Row("core-limit", core=(0, -1)),
    "limit-below-a-page": Row("core-limit", core=(4095, -1)),
    "limit-of-a-page": Row(None, core=(4096, -1)),
    "not-writable": Row("directory-writable", shape={"user": "1000"}),
    "own-folder": Row(
        None,
        shape={"user": "1000:1000", "working_dir": "/work"},
        first="chown 1000 /work && chmod 700 /work",
    ),
    "another-s-folder": Row(
        "directory-writable",
        shape={"user": "1000", "working_dir": "/work"},
        first="chown 1001 /work && chmod 755 /work",
    ),
    "a-group-s-folder": Row(
        None,
        shape={"user": "1000", "group_add": ["2000"], "working_dir": "/work"},
        first="chown 1001:2000 /work && chmod 770 /work",
    ),
    "root-without-its-power": Row(
        "directory-writable",
        shape={"cap_drop": ["DAC_OVERRIDE"], "working_dir": "/work"},
        first="chown 1001 /work && chmod 755 /work",
    ),
    "read-only-root": Row("directory-writable", shape={"read_only": True}),
    "tmpfs": Row(
        None,
        shape={
            "read_only": True,
            "working_dir": "/work",
            "tmpfs": {"/work": ""},
        },
    ),
    "tmpfs-of-root": Row(
        "directory-writable",
        shape={"user": "1000", "working_dir": "/work", "tmpfs": {"/work": "mode=755"}},
    ),
    "volume": Row(None, shape={"read_only": True, "working_dir": "/data", "volumes": "rw"}),
    "read-only-volume": Row("directory-writable", shape={"working_dir": "/data", "volumes": "ro"}),
}

Make = Callable[..., Container]


@pytest.fixture
def make(engine: Engine) -> Iterator[Make]:
    """Run containers for one test; a shape's ``volumes`` are how one is mounted at /data."""
    with ExitStack() as stack:

        def run(*command: str, core: tuple[int, int] = UNLIMITED, **shape: Any) -> Container:  # noqa: ANN401
            if mode := shape.pop("volumes", None):
                volume = engine.client.volumes.create(labels=engine.labels)
                stack.callback(volume.remove)
                shape["volumes"] = {volume.name: {"bind": "/data", "mode": mode}}
            made = engine.client.containers.run(
                shape.pop("image", None) or engine.busybox_image(),
                list(command) or ["sleep", "600"],
                detach=True,
                network_mode="none",
                labels=engine.labels,
                stop_signal="SIGKILL",
                ulimits=[Ulimit(name="core", soft=core[0], hard=core[1])],
                **shape,
            )
            stack.callback(remove, made)
            return made

        yield run


def remove(container: Container) -> None:
    with suppress(NotFound):  # one that was recreated
        container.remove(force=True)


@pytest.fixture(params=["by our own /proc", "through the container"])
def sight(request: pytest.FixtureRequest, engine: Engine, tmp_path: Path) -> DockerEngine:
    """The engine's adapter, with a /proc in which it sees its containers, or none of them."""
    proc = Path("/proc") if request.param == "by our own /proc" else tmp_path
    return DockerEngine(EngineSettings("local", engine.host), proc)


def diagnosed(sight: DockerEngine, container: Container) -> CoreDumps:
    return core_dumps(Allowed(sight, str(container.id), str(container.name)))


def said(container: Container, command: str, user: str = "0") -> str:
    code, output = container.exec_run(["sh", "-c", command], user=user, workdir="/")
    assert code == 0, output
    assert isinstance(output, bytes)
    return output.decode()


def files(container: Container) -> dict[str, int]:
    """Every file that the container sees, with its size, whoever may read it."""
    look = "find / '(' -path /proc -o -path /sys ')' -prune -o -type f -exec stat -c '%s %n' {} +"
    found = said(container, look)
    rows = (line.split(" ", 1) for line in found.splitlines())
    return {path: int(size) for size, path in rows}


def crash(container: Container) -> dict[str, int]:
    """Let a process crash, as the user and where its container runs; give the files that came."""
    before = files(container)
    code, output = container.exec_run(["sh", "-c", CRASH])
    assert code == 0, output
    after = files(container)
    return {path: after[path] for path in after.keys() - before.keys()}


@pytest.mark.parametrize("name", ROWS)
def test_a_core_is_left_where_it_was_promised(sight: DockerEngine, make: Make, name: str) -> None:
    row = ROWS[name]
    container = make(core=row.core, **row.shape)
    said(container, row.first)
    told = diagnosed(sight, container)
    assert told.core_pattern == PATTERN
    assert (told.soft_limit, told.hard_limit) == row.core
    came = crash(container)
    assert told.ready == bool(came), told
    if RELATIVE:
        failed = [check.name for check in told.checks if not check.passed]
        assert failed == ([row.fails] if row.fails else []), told
        assert told.files == ([] if told.files is not None else None)
    listed = diagnosed(sight, container).files
    if listed is not None:
        assert {one.path: one.size for one in listed} == came


def test_a_folder_that_is_gone_leaves_none(sight: DockerEngine, make: Make) -> None:
    """Where the first process was when its folder was removed, nobody else can go: it crashes."""
    gone = "mkdir /gone && cd /gone && rmdir /gone && touch /ready"
    crashing = f"until [ -e /crash ]; do sleep 0.1; done; {CRASH}; touch /over; sleep 600"
    container = make("sh", "-c", f"{gone}; {crashing}")
    wait_until(lambda: "/ready" in files(container), 30, "the folder is gone")
    told = diagnosed(sight, container)
    before = files(container)
    said(container, "touch /crash")
    wait_until(lambda: "/over" in files(container), 30, "it has crashed")
    came = files(container).keys() - before.keys() - {"/crash", "/over"}
    assert told.ready == bool(came), told
    if RELATIVE:
        assert [one.name for one in told.checks if one.passed is False] == ["directory-exists"]


def test_a_program_alone_in_its_image_is_seen_from_outside(engine: Engine, make: Make) -> None:
    """Nothing can be run in it but what it is: no shell, no cat."""
    alone = engine.alone_image()
    container = make("/sleep", "600", image=alone)
    found = diagnosed(DockerEngine(EngineSettings("local", engine.host)), container)
    assert (found.core_pattern, found.soft_limit, found.hard_limit) == (PATTERN, -1, -1)
    assert found.ready or not RELATIVE


def test_what_cannot_be_seen_is_no_promise(engine: Engine, make: Make, tmp_path: Path) -> None:
    kernel = tmp_path / "sys" / "kernel"
    kernel.mkdir(parents=True)
    (kernel / "core_pattern").write_text("core.%e\n")
    (kernel / "core_uses_pid").write_text("0\n")
    container = make("/sleep", "600", image=engine.alone_image())
    found = diagnosed(DockerEngine(EngineSettings("local", engine.host), tmp_path), container)
    # The engine is on this machine, so its kernel is ours, but its processes are out of sight.
    assert (found.core_pattern, found.soft_limit, found.ready) == ("core.%e", None, False)
    by_name = {check.name: check.passed for check in found.checks}
    assert by_name == {
        "core-limit": None,
        "core-pattern": True,
        "directory-exists": True,
        "directory-writable": True,
    }


def test_large_cores_are_listed_without_being_read(sight: DockerEngine, make: Make) -> None:
    container = make(working_dir="/work")
    said(container, "truncate -s 5G /work/core; truncate -s 9 /work/corex; mkdir /work/core.d")
    told = diagnosed(sight, container)
    if RELATIVE:
        assert [(one.path, one.size) for one in told.files or ()] == [("/work/core", 5 << 30)]
    assert told.files is not None


def test_a_link_in_a_container_does_not_lead_to_the_host_s_files(
    sight: DockerEngine, make: Make, tmp_path: Path
) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "core").write_text("of the host")
    container = make(tmpfs={"/t": ""})
    said(container, f"ln -s {tmp_path}/outside /t/cores; ln -s {tmp_path}/outside /cores")
    for place in ("/t/cores", "/cores", f"/t/cores/../..{tmp_path}/outside"):
        assert not sight.files_in(str(container.id), place, lambda _: True)
        assert sight.look(str(container.id), place) is None


def test_another_process_of_that_number_is_not_taken_for_the_container_s(
    engine: Engine, make: Make, tmp_path: Path
) -> None:
    """As where the service is in a container itself, or the engine on another machine."""
    container = make()
    container.reload()
    pid = tmp_path / str(container.attrs["State"]["Pid"])
    pid.mkdir()
    (pid / "cgroup").write_text(f"0::/system.slice/docker-{'0' * 64}.scope\n")
    for name in ("limits", "status"):
        (pid / name).write_text("another's")
    (pid / "cwd").symlink_to("/another")
    sight = DockerEngine(EngineSettings("local", engine.host), tmp_path)
    reference = str(container.id)
    assert b"another" not in (sight.process_limits(reference) or b"another")
    assert b"another" not in (sight.read_proc(reference, "1/status") or b"another")
    assert sight.working_directory(reference) == "/"


def test_what_the_fix_says_makes_it_so(engine: Engine, make: Make, service: MakeService) -> None:
    """From a crash that leaves nothing to a core that is listed, by the call that the fix names."""
    name = f"cores-{engine.workspace.owner}-fixed"
    container = make(core=(0, 0), name=name)
    made = service(settings={"engines": {"local": engine_table(engine, "cores-*")}})
    path = f"/v1/containers/{name}/core-dumps"
    assert crash(container) == {}
    (fix,) = [one["fix"] for one in get(made, path)["checks"] if one["name"] == "core-limit"]
    method, call, body = fix.split(" ", 2)
    job = ended(made, call, method, **json.loads(body))
    assert job["state"] == "succeeded", job["error"]
    told = get(made, path)
    assert (told["soft_limit"], told["hard_limit"]) == (-1, -1)
    came = crash(engine.client.containers.get(name))
    assert told["ready"] == bool(came)
    listed = {one["path"]: one["size"] for one in get(made, path)["files"] or ()}
    assert listed == came or not told["ready"]
    engine.client.containers.get(name).remove(force=True)


def ended(service: Service, path: str, method: str, **body: object) -> Any:  # noqa: ANN401 - JSON
    """Start a job and give it when it has ended."""
    prefer = {"Prefer": "wait=60"}
    answer = service.ask(path, method, body=body, headers=prefer, timeout=90)
    assert answer.status == 200, answer.body
    return answer.json()


def test_the_api_tells_it(engine: Engine, make: Make, service: MakeService) -> None:
    name = f"cores-{engine.workspace.owner}"
    container = make(core=(0, -1), name=name)
    made = service(settings={"engines": {"local": engine_table(engine, "cores-*")}})
    path = f"/v1/containers/{name}/core-dumps"
    told = get(made, path)
    assert (told["ready"], told["core_pattern"]) == (False, PATTERN)
    assert (told["soft_limit"], told["hard_limit"]) == (0, -1)
    (limit,) = [check for check in told["checks"] if check["name"] == "core-limit"]
    assert limit["passed"] is False
    asked = '{"ulimits": [{"name": "core", "soft": -1, "hard": -1}]}'
    assert limit["fix"] == f"PUT /v1/containers/{name}/ulimits {asked}"
    for stop in (container.pause, container.unpause, container.stop):
        stop()
        if stop != container.unpause:
            problem(made.ask(path), 409, "container-not-running")
