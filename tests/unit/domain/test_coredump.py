"""The diagnosis of core dumps, for whatever pattern a host may have."""

from __future__ import annotations

from dataclasses import replace

import pytest

from service.domain.containers import Allowed
from service.domain.core_pattern import CorePattern
from service.domain.coredump import Check, Facts, Process, diagnose, folders, is_ready
from service.domain.coredump_facts import CoreDumps, core_dumps, read_status
from service.domain.engine import Entry
from service.domain.errors import ContainerNotRunning
from service.domain.mounts import Mount, is_hidden, mount_of
from service.domain.ulimits import Ulimit
from tests.fakes_engine import Box, FakeEngine, folder_entry

ROOT = Process(0, frozenset({0}), overrides=True)
USER = Process(1000, frozenset({1000, 2000}))
PLACE = "/var/crash"


def facts(**changed: object) -> Facts:
    """A container in which a crash leaves a core."""
    well = Facts(
        name="web",
        pattern=CorePattern("/var/crash/core.%e.%p"),
        core=Ulimit("core", -1, -1),
        configured=[Ulimit("core", -1, -1)],
        process=USER,
        directory=PLACE,
        path=way(folder_entry(PLACE, 0o1777)),
    )
    return replace(well, **changed)  # type: ignore[arg-type]


def way(last: Entry | None) -> list[Entry | None]:
    return [folder_entry("/"), folder_entry("/var"), last]


def checks(told: Facts) -> dict[str, Check]:
    return {check.name: check for check in diagnose(told)}


def failing(told: Facts) -> list[str]:
    return [check.name for check in diagnose(told) if check.passed is False]


def test_all_is_well() -> None:
    assert is_ready(diagnose(facts()))
    assert list(checks(facts())) == [
        "core-limit",
        "core-pattern",
        "directory-exists",
        "directory-writable",
    ]
    assert all(check.fix is None for check in diagnose(facts()))


@pytest.mark.parametrize(
    ("soft", "passed"), [(0, False), (1, False), (4095, False), (4096, True), (-1, True)]
)
def test_the_limit(soft: int, passed: bool) -> None:  # noqa: FBT001
    assert checks(facts(core=Ulimit("core", soft, -1)))["core-limit"].passed is passed


def test_the_call_that_raises_the_limit_keeps_the_others() -> None:
    configured = [Ulimit("core", 0, 0), Ulimit("nofile", 64, 128)]
    fix = checks(facts(core=Ulimit("core", 0, 0), configured=configured))["core-limit"].fix
    assert fix == (
        'PUT /v1/containers/web/ulimits {"ulimits": [{"name": "nofile", "soft": 64, "hard": 128}, '
        '{"name": "core", "soft": -1, "hard": -1}]}'
    )


def test_a_program_on_the_host_takes_cores_whatever_the_limit_is() -> None:
    told = facts(pattern=CorePattern("|/usr/lib/systemd/systemd-coredump %P"), directory=None)
    assert failing(told) == ["core-pattern"]
    check = checks(told)["core-pattern"]
    assert "on the host" in check.detail
    assert check.fix == "On the host: sysctl -w kernel.core_pattern=/tmp/core.%e.%p"
    assert checks(told)["directory-exists"].passed is None


@pytest.mark.parametrize("pattern", [CorePattern(""), CorePattern("/cores/%e/core"), None])
def test_without_one_place_for_all_there_is_no_promise(pattern: CorePattern | None) -> None:
    told = facts(pattern=pattern, directory=None, path=[])
    assert not is_ready(diagnose(told))
    assert "sysctl -w" in (checks(told)["core-pattern"].fix or "")


def test_a_folder_that_is_missing() -> None:
    told = facts(path=way(None))
    assert failing(told) == ["directory-exists"]
    assert not is_ready(diagnose(told))
    fix = checks(told)["directory-exists"].fix or ""
    assert fix.startswith(f"docker exec -u 0 web mkdir -p -m 1777 {PLACE}")


def test_a_file_is_no_folder() -> None:
    file = replace(folder_entry(PLACE, 0o777), directory=False, regular=True)
    assert failing(facts(path=way(file))) == ["directory-exists"]


@pytest.mark.parametrize(
    ("process", "folder", "passed"),
    [
        (ROOT, folder_entry(PLACE, 0o000, 1000), True),
        (Process(0), folder_entry(PLACE, 0o755, 1000), False),
        (USER, folder_entry(PLACE, 0o755), False),
        (USER, folder_entry(PLACE, 0o777), True),
        (USER, folder_entry(PLACE, 0o776), False),
        (USER, folder_entry(PLACE, 0o700, 1000), True),
        (USER, folder_entry(PLACE, 0o077, 1000), False),
        (USER, folder_entry(PLACE, 0o770, 0, 2000), True),
        (USER, folder_entry(PLACE, 0o707, 0, 2000), False),
        (USER, folder_entry(PLACE, 0o777, None, None), True),
        (USER, folder_entry(PLACE, 0o755, None, None), None),
        (None, folder_entry(PLACE, 0o777), None),
    ],
)
def test_who_may_write_there(
    process: Process | None,
    folder: Entry,
    passed: bool | None,  # noqa: FBT001
) -> None:
    told = facts(process=process, path=way(folder))
    assert checks(told)["directory-writable"].passed is passed
    assert is_ready(diagnose(told)) is (passed is True)


def test_every_folder_on_the_way_must_let_through() -> None:
    closed = [folder_entry("/"), folder_entry("/var", 0o700), folder_entry(PLACE, 0o1777)]
    assert failing(facts(path=closed)) == ["directory-writable"]
    assert failing(facts(path=closed, process=ROOT)) == []


def test_what_is_read_only_is_not_written_to_by_anybody() -> None:
    volume = Mount("/var", "volume", writable=False)
    for told in (facts(read_only=True), facts(mount=volume)):
        told = replace(told, process=ROOT)  # noqa: PLW2901 - nobody is stronger
        assert failing(told) == ["directory-writable"]
    writable = replace(volume, writable=True)
    assert failing(facts(read_only=True, mount=writable)) == []


def test_what_cannot_be_seen_into_is_no_promise() -> None:
    inside = facts(mount=Mount("/var", "tmpfs", writable=True), path=way(None))
    assert checks(inside)["directory-exists"].passed is None
    assert not is_ready(diagnose(inside))
    itself = facts(mount=Mount(PLACE, "tmpfs", writable=True), path=way(None))
    assert checks(itself)["directory-exists"].passed is True
    assert checks(itself)["directory-writable"].passed is None


def test_folders() -> None:
    assert folders("/") == ["/"]
    assert folders("/a/b") == ["/", "/a", "/a/b"]


# Mounts.


def test_the_nearest_mount_counts() -> None:
    container = {
        "HostConfig": {"Tmpfs": {"/run/": "size=1m", "/ro": "ro,size=1m"}},
        "Mounts": [
            {"Destination": "/data", "Type": "volume", "RW": False},
            {"Destination": "/data/in", "Type": "bind", "RW": True},
        ],
    }
    assert mount_of(container, "/data") == Mount("/data", "volume", writable=False)
    assert mount_of(container, "/data/in/x") == Mount("/data/in", "bind", writable=True)
    assert mount_of(container, "/database") is None
    assert mount_of(container, "/ro/x") == Mount("/ro", "tmpfs", writable=False)
    hidden = [
        one
        for one in ("/run", "/run/x", "/running", "/dev/mqueue", "/data", "/")
        if is_hidden(container, one)
    ]
    assert hidden == ["/run", "/run/x", "/dev/mqueue"]


# What is gathered of a container.

STATUS = """\
Name:\tweb
Uid:\t0\t1000\t1000\t1000
Gid:\t0\t1000\t1000\t1000
Groups:\t5 2000 
CapEff:\t{caps}
"""  # noqa: W291 - as the kernel writes it


@pytest.mark.parametrize(
    ("caps", "overrides"), [("0000000000000000", False), ("00000000a80425fb", True)]
)
def test_a_status_is_read(caps: str, overrides: bool) -> None:  # noqa: FBT001
    groups = frozenset({5, 1000, 2000})
    assert read_status(STATUS.format(caps=caps)) == Process(1000, groups, overrides)


@pytest.mark.parametrize("text", ["", "Uid:\t0\nGid:\t0\n", "nonsense", STATUS.format(caps="x")])
def test_a_status_that_is_none_tells_nothing(text: str) -> None:
    assert read_status(text) is None


@pytest.fixture
def engine() -> FakeEngine:
    made = FakeEngine()
    made.add_image("app:1")
    return made


@pytest.fixture
def box(engine: FakeEngine) -> Box:
    limits = {"Ulimits": [{"Name": "core", "Soft": -1, "Hard": -1}]}
    made = engine.run("web", "app:1", HostConfig=limits)
    made.folders["/srv"] = folder_entry("/srv", 0o755)
    made.working_directory = "/srv"
    return made


def diagnosed(engine: FakeEngine, box: Box) -> CoreDumps:
    return core_dumps(Allowed(engine, box.id, box.name))


def test_a_container_is_diagnosed(engine: FakeEngine, box: Box) -> None:
    box.files = {"/srv/core": b"12345", "/srv/core.txt": b"", "/core": b"1"}
    found = diagnosed(engine, box)
    assert (found.ready, found.core_pattern) == (True, "core")
    assert (found.soft_limit, found.hard_limit) == (-1, -1)
    assert [(one.path, one.size) for one in found.files or ()] == [("/srv/core", 5)]


def test_the_working_directory_is_the_processes_or_as_configured(
    engine: FakeEngine, box: Box
) -> None:
    box.working_directory = None
    box.config["WorkingDir"] = "/configured"
    box.folders["/configured"] = folder_entry("/configured")
    box.files = {"/configured/core": b"1"}
    found = diagnosed(engine, box)
    assert found.ready
    assert [one.path for one in found.files or ()] == ["/configured/core"]


def test_a_place_that_cannot_be_seen_into_lists_nothing(engine: FakeEngine, box: Box) -> None:
    box.hidden.add("/srv")
    assert diagnosed(engine, box).files is None


@pytest.mark.parametrize("status", ["created", "paused", "restarting", "exited", "dead"])
def test_one_that_does_not_run_cannot_be_diagnosed(
    engine: FakeEngine, box: Box, status: str
) -> None:
    box.status = status  # type: ignore[assignment]
    with pytest.raises(ContainerNotRunning, match=status):
        diagnosed(engine, box)


@pytest.mark.parametrize(
    ("user", "host_config", "ready"),
    [
        ("", {}, True),
        ("0", {"CapDrop": ["ALL"]}, False),
        ("0", {"CapDrop": ["all"], "CapAdd": ["CAP_DAC_OVERRIDE"]}, True),
        ("0", {"CapDrop": ["ALL"], "Privileged": True}, True),
        ("app", {}, True),
        ("7", {}, True),
        ("8", {}, False),
        ("8:70", {}, True),
        ("8:staff", {}, True),
        ("8", {"GroupAdd": ["70"]}, True),
        ("member", {}, True),
        ("nobody-knows", {}, False),
    ],
)
def test_who_runs_there_is_told_by_the_settings_where_nothing_else_does(
    engine: FakeEngine,
    box: Box,
    user: str,
    host_config: dict[str, object],
    ready: bool,  # noqa: FBT001
) -> None:
    box.proc["1/status"] = b""
    box.config["User"] = user
    box.host_config.update(host_config)
    box.files["/etc/passwd"] = b"root:x:0:0::/:/\napp:x:7:7::/:/\nmember:x:9:9::/:/\n"
    box.files["/etc/group"] = b"root:x:0:\nstaff:x:70:other,member\n"
    box.folders["/srv"] = folder_entry("/srv", 0o770, 7, 70)
    assert diagnosed(engine, box).ready is ready
