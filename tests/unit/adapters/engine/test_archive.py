"""Single files by the engine's archives, where they are odd, grow, or never come."""

from __future__ import annotations

import base64
import io
import json
import tarfile

import pytest

from service.adapters.engine import DockerEngine, archive
from service.domain.errors import ContainerUnknown, EngineUnreachable
from tests.unit.adapters.engine.conftest import StandIn

HEAD = "HEAD /containers/a/archive"
GET = "GET /containers/a/archive"
LINK, FOLDER, DEVICE = 1 << 27, 1 << 31, 1 << 26


def stat(size: int = 4, mode: int = 0o644, target: str = "") -> dict[str, str]:
    told = {"name": "f", "size": size, "mode": mode, "linkTarget": target}
    return {archive.STAT_HEADER: base64.b64encode(json.dumps(told).encode()).decode()}


def packed(content: bytes, kind: bytes = tarfile.REGTYPE, name: str = "f") -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as made:
        member = tarfile.TarInfo(name)
        member.size, member.type = len(content), kind
        made.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


def test_a_file_is_taken_out_of_its_tar(engine: DockerEngine, stand_in: StandIn) -> None:
    stand_in.on(HEAD, headers=stat(4))
    stand_in.on(GET, packed(b"kept", name="a-name-" * 30))
    assert engine.file_size("a", "/etc/f") == 4
    assert engine.read_file("a", "/etc/f", 4) == b"kept"
    assert stand_in.last(GET).query == {"path": "/etc/f"}


def test_a_link_is_followed(engine: DockerEngine, stand_in: StandIn) -> None:
    stand_in.on(HEAD, headers=stat(7, LINK | 0o777, "/real"))
    assert engine.file_size("a", "/link") is None  # it is a link to a link, as far as we see
    assert [one.query["path"] for one in stand_in.asked if one.what == HEAD] == ["/link", "/real"]


@pytest.mark.parametrize("mode", [FOLDER | 0o755, DEVICE | 0o600])
def test_what_is_no_file_is_not_there(engine: DockerEngine, stand_in: StandIn, mode: int) -> None:
    stand_in.on(HEAD, headers=stat(4096, mode))
    assert engine.file_size("a", "/x") is None
    assert engine.read_file("a", "/x", 10_000) is None
    assert not stand_in.count(GET)


def test_a_file_that_is_too_large_is_not_asked_for(engine: DockerEngine, stand_in: StandIn) -> None:
    stand_in.on(HEAD, headers=stat(11))
    assert engine.read_file("a", "/x", 10) is None
    assert not stand_in.count(GET)


def test_a_file_that_grew_meanwhile_is_not_read(engine: DockerEngine, stand_in: StandIn) -> None:
    stand_in.on(HEAD, headers=stat(4))
    stand_in.on(GET, packed(b"x" * 11))
    assert engine.read_file("a", "/x", 10) is None


def test_a_file_that_went_meanwhile_is_not_there(engine: DockerEngine, stand_in: StandIn) -> None:
    stand_in.on(HEAD, headers=stat(4))
    stand_in.on(GET, {"message": "Could not find the file"}, status=404)
    assert engine.read_file("a", "/x", 10) is None


def test_a_container_that_is_not_there_is_told_from_a_file(
    engine: DockerEngine, stand_in: StandIn
) -> None:
    with pytest.raises(ContainerUnknown):
        engine.file_size("a", "/x")
    stand_in.on("GET /containers/a/json", {"Id": "a"})
    assert engine.file_size("a", "/x") is None


@pytest.mark.parametrize(
    "body",
    [b"", b"no tar at all" * 100, packed(b"kept")[:514], b"\0" * 10_000_000],
    ids=["nothing", "garbage", "half", "zeros"],
)
def test_an_archive_that_makes_no_sense_is_no_file(
    engine: DockerEngine, stand_in: StandIn, body: bytes
) -> None:
    stand_in.on(HEAD, headers=stat(4))
    stand_in.on(GET, stream=[body])
    try:
        assert engine.read_file("a", "/x", 1000) is None
    except EngineUnreachable as error:
        assert "does not answer" in error.detail  # noqa: PT017 - either is right
    stand_in.on(HEAD, headers=stat(4))
    assert engine.file_size("a", "/x") == 4


def test_a_longer_name_list_than_the_file_is_not_read_to_its_end(
    engine: DockerEngine, stand_in: StandIn
) -> None:
    stand_in.on(HEAD, headers=stat(4))
    header = tarfile.TarInfo("f")
    header.size, header.type = 50_000_000, tarfile.XHDTYPE
    stand_in.on(GET, stream=[header.tobuf(), *([b"9 a=bcde\n" * 1000] * 5000)])
    with pytest.raises(EngineUnreachable):
        engine.read_file("a", "/x", 1000)
