"""Folders, layers and logs that are too large, too slow, or not to be read."""

from __future__ import annotations

import io
import tarfile

import pytest

from service.adapters.engine import DockerEngine, places
from service.adapters.engine import engine as engines
from tests.unit.adapters.engine.conftest import StandIn
from tests.unit.adapters.engine.test_archive import FOLDER, GET, HEAD, stat

INSPECT = "GET /containers/a/json"
LOGS = "GET /containers/a/logs"
CONTAINER = {
    "Id": "a",
    "Config": {},
    "HostConfig": {},
    "State": {"Running": True, "Pid": 0},
    "Mounts": [{"Destination": "/data", "Type": "volume", "RW": True}],
}


def tar(*files: tuple[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as made:
        top = tarfile.TarInfo("data/")
        top.type, top.mode, top.uid, top.gid = tarfile.DIRTYPE, 0o750, 7, 8
        made.addfile(top)
        for name, content in files:
            member = tarfile.TarInfo(f"data/{name}")
            member.size = len(content)
            made.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


@pytest.fixture
def volume(stand_in: StandIn) -> StandIn:
    stand_in.on(INSPECT, CONTAINER)
    stand_in.on(HEAD, headers=stat(4096, FOLDER | 0o750))
    return stand_in


def test_a_folder_s_owner_is_told_by_the_head_of_its_archive(
    engine: DockerEngine, volume: StandIn
) -> None:
    volume.on(GET, tar(("core", b"12345")))
    found = engine.look("a", "/data")
    assert found is not None
    assert (found.directory, found.mode, found.uid, found.gid) == (True, 0o750, 7, 8)


def test_files_of_a_volume_are_told_but_not_those_in_folders_of_it(
    engine: DockerEngine, volume: StandIn
) -> None:
    volume.on(GET, tar(("core", b"12345"), ("deeper/core", b"1"), ("other", b"1")))
    found = engine.files_in("a", "/data", lambda name: name == "core")
    assert [(one.name, one.size) for one in found or ()] == [("core", 5)]


def test_a_volume_that_is_too_large_is_not_seen_into(
    engine: DockerEngine, volume: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(places, "READ_LIMIT", 20_000)
    volume.on(GET, tar(("core.1", b"x" * 100_000), ("core.2", b"1")))
    assert engine.files_in("a", "/data", lambda _: True) is None


def test_a_layer_that_takes_long_to_add_up_has_no_size(
    engine: DockerEngine, stand_in: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engines, "SIZE_SECONDS", 0.1)
    stand_in.on(f"{INSPECT} size=1", CONTAINER, hangs=True)
    stand_in.on(INSPECT, CONTAINER)
    assert engine.writable_size("a") is None
    assert engine.container("a")["Id"] == "a"


def test_a_log_that_its_driver_does_not_keep_has_no_lines(
    engine: DockerEngine, stand_in: StandIn
) -> None:
    stand_in.on(INSPECT, CONTAINER)
    refusal = "configured logging driver does not support reading"
    stand_in.on(LOGS, {"message": refusal}, status=501)
    assert engine.last_lines("a", 3) == []
