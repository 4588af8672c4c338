from __future__ import annotations

import ssl
from pathlib import Path

import pytest
import trustme

from service.adapters.registry.blobs import CONFIG_LIMIT, REDIRECTS_LIMIT
from service.domain.content import Descriptor
from service.domain.errors import (
    BlobUnknown,
    RegistryAnswerInvalid,
    RegistryUnauthorized,
    RegistryUnreachable,
)
from service.domain.reference import Digest, Repository
from tests.fakes import FakeRegistry, image
from tests.standin import Reply, StandIn, replies, says
from tests.standin_registry import PlayedRegistry, basic_guard
from tests.unit.adapters.registry.support import Connect, Play, Serve

APP = Repository("team/app")
ONE = image("one")
CONFIG, LAYER = ONE.blobs
EMPTY = Digest.of(b"")


def pointing_at(blob: bytes) -> Descriptor:
    return Descriptor(Digest.of(blob), "application/json", len(blob))


@pytest.fixture
def server(fake: FakeRegistry, play: Play) -> StandIn:
    fake.push(APP, ONE, "1")
    return play()


# Configs.


def test_a_config_is_fetched_once(server: StandIn, connect: Connect) -> None:
    registry = connect(server)
    for _ in range(3):
        assert registry.config(APP, pointing_at(CONFIG)) == CONFIG
    assert len(server.seen) == 1


def test_other_bytes_than_the_digest_s_are_refused_and_not_cached(
    server: StandIn, connect: Connect
) -> None:
    server.rule(replies(200, body=b"{}"), times=1)
    registry = connect(server)
    with pytest.raises(RegistryAnswerInvalid, match="other bytes"):
        registry.config(APP, pointing_at(CONFIG))
    assert registry.config(APP, pointing_at(CONFIG)) == CONFIG


def test_a_config_over_4_mib_is_refused(server: StandIn, connect: Connect) -> None:
    server.rule(replies(200, body=bytes(CONFIG_LIMIT + 1)))
    with pytest.raises(RegistryAnswerInvalid, match=f"{CONFIG_LIMIT} bytes"):
        connect(server).config(APP, pointing_at(CONFIG))


def test_a_config_by_sha512_is_checked_too(server: StandIn, connect: Connect) -> None:
    wrong = Digest.listed("sha512:" + "a" * 128)
    server.rule(replies(200, body=CONFIG))
    with pytest.raises(RegistryAnswerInvalid):
        connect(server).config(APP, Descriptor(wrong, "application/json", 1))


def test_an_unknown_config_is_an_error(server: StandIn, connect: Connect) -> None:
    with pytest.raises(BlobUnknown):
        connect(server).config(APP, pointing_at(b"never pushed"))


# Redirects.


def test_redirects_of_blobs_are_followed_without_our_credentials(
    serve: Serve, fake: FakeRegistry, connect: Connect
) -> None:
    fake.push(APP, ONE, "1")
    storage = serve(replies(200, body=CONFIG))
    server = serve(basic_guard("keeper", "secret", PlayedRegistry(fake)))
    server.rule(replies(401, {"WWW-Authenticate": "Basic"}), path="blobs", times=1)
    server.rule(replies(307, {"Location": f"{storage.url}/bucket/x?sig=a%2Fb"}), path="blobs")
    registry = connect(server, username="keeper", password="secret")
    assert registry.config(APP, pointing_at(CONFIG)) == CONFIG
    (asked,) = storage.seen
    assert asked.target == "/bucket/x?sig=a%2Fb"
    assert "authorization" not in asked.headers
    assert "authorization" in server.seen[-1].headers


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_every_kind_of_redirect_is_followed(server: StandIn, connect: Connect, status: int) -> None:
    server.rule(replies(status, {"Location": "/storage"}), path="/blobs/", times=1)
    server.rule(replies(200, body=CONFIG), path="/storage")
    assert connect(server).config(APP, pointing_at(CONFIG)) == CONFIG


def test_what_a_redirect_leads_to_is_checked_all_the_same(
    server: StandIn, serve: Serve, connect: Connect
) -> None:
    storage = serve(replies(200, body=b"other"))
    server.rule(replies(307, {"Location": storage.url}))
    with pytest.raises(RegistryAnswerInvalid, match="other bytes"):
        connect(server).config(APP, pointing_at(CONFIG))


def test_redirects_are_followed_only_so_far(server: StandIn, connect: Connect) -> None:
    server.rule(replies(307, {"Location": "/around"}))
    with pytest.raises(RegistryAnswerInvalid, match="more redirects"):
        connect(server).config(APP, pointing_at(CONFIG))
    assert len(server.seen) == 1 + REDIRECTS_LIMIT


@pytest.mark.parametrize("location", ["", "ftp://a/b", "file:///etc/passwd", "http://a:b/"])
def test_a_redirect_to_nowhere_is_not_followed(
    server: StandIn, connect: Connect, location: str
) -> None:
    server.rule(replies(307, {"Location": location}))
    with pytest.raises(RegistryAnswerInvalid):
        connect(server).config(APP, pointing_at(CONFIG))
    assert len(server.seen) == 1


def test_a_redirect_away_from_tls_is_not_followed(
    serve: Serve, connect: Connect, tmp_path: Path
) -> None:
    root = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    root.issue_cert("127.0.0.1").configure_cert(context)
    root.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    storage = serve(replies(200, body=CONFIG))
    server = serve(replies(307, {"Location": storage.url}), context)
    with pytest.raises(RegistryAnswerInvalid, match="away from TLS"):
        connect(server, ca_file=tmp_path / "ca.pem").config(APP, pointing_at(CONFIG))
    assert storage.seen == []


def test_storage_that_is_down_is_unreachable(server: StandIn, connect: Connect) -> None:
    server.rule(replies(307, {"Location": "http://127.0.0.1:9/"}))
    with pytest.raises(RegistryUnreachable):
        connect(server).config(APP, pointing_at(CONFIG))


# Can it be read?


def readable(server: StandIn, connect: Connect, blob: bytes = LAYER) -> bool:
    return connect(server).blob_readable(APP, Digest.of(blob))


def test_only_the_first_byte_is_asked_for(server: StandIn, connect: Connect) -> None:
    assert readable(server, connect)
    (asked,) = server.seen
    assert asked.method == "GET"
    assert asked.headers["range"] == "bytes=0-0"


def test_a_registry_that_ignores_ranges_is_read_no_further(
    server: StandIn, connect: Connect
) -> None:
    server.rule(replies(200, body=b"x" * 50_000_000))
    assert readable(server, connect)


def test_the_empty_blob_is_readable_however_that_is_answered(
    server: StandIn, connect: Connect
) -> None:
    for reply in (Reply(200), Reply(206), Reply(416)):
        server.rule(says(reply), times=1)
        assert readable(server, connect, b"")
    assert EMPTY.hex.startswith("e3b0c442")


@pytest.mark.parametrize(
    "reply",
    [
        Reply(404),
        Reply(416),
        Reply(200),
        Reply(206),
        Reply(206, length=1),
        Reply(200, length=7),
        Reply(raw=b"HTTP/1.1 206 OK\r\nTransfer-Encoding: chunked\r\n\r\n"),
    ],
)
def test_a_blob_that_gives_no_byte_is_not_readable(
    server: StandIn, connect: Connect, reply: Reply
) -> None:
    server.rule(says(reply))
    assert not readable(server, connect)


def test_a_head_that_vouches_for_a_blob_is_not_believed(
    server: StandIn, connect: Connect, fake: FakeRegistry
) -> None:
    fake.contents[APP].vouched.add(Digest.of(LAYER))
    del fake.contents[APP].blobs[Digest.of(LAYER)]
    assert not readable(server, connect)
    assert server.requests("HEAD") == []


def test_a_blob_behind_a_redirect_is_read_there(
    server: StandIn, serve: Serve, connect: Connect
) -> None:
    storage = serve(replies(206, body=b"x"))
    server.rule(replies(307, {"Location": storage.url}))
    assert readable(server, connect)
    assert storage.seen[0].headers["range"] == "bytes=0-0"
    storage.rule(replies(404))
    assert not readable(server, connect)


def test_whether_a_blob_is_readable_is_not_guessed_when_it_cannot_be_asked(
    server: StandIn, connect: Connect
) -> None:
    server.rule(replies(403), times=1)
    with pytest.raises(RegistryUnauthorized):
        readable(server, connect)
    server.rule(says(Reply(raw=b"")))
    with pytest.raises(RegistryUnreachable):
        readable(server, connect)


# Is it what it should be?


def checked(server: StandIn, connect: Connect, *, deep: bool, blob: bytes = LAYER) -> str:
    return connect(server).check_blob(APP, pointing_at(blob), deep=deep)


@pytest.mark.parametrize("size", [0, 1, 99, 100, 101, 200, 250])
def test_a_blob_is_hashed_part_by_part(
    server: StandIn,
    connect: Connect,
    fake: FakeRegistry,
    monkeypatch: pytest.MonkeyPatch,
    size: int,
) -> None:
    monkeypatch.setattr("service.adapters.registry.blobs.PART", 100)
    content = bytes(range(250))[:size]
    fake.push(APP, image("parts", layers=[content]), "2")
    assert checked(server, connect, deep=True, blob=content) == "sound"
    fake.contents[APP].blobs[Digest.of(content)] = content[:-1] + b"!" if size else b""
    assert checked(server, connect, deep=True, blob=content) == ("corrupt" if size else "sound")
    assert all(one.headers["range"] for one in server.seen)


def test_a_blob_that_breaks_off_is_missing(server: StandIn, connect: Connect) -> None:
    whole = len(LAYER)
    server.rule(says(Reply(206, [("Content-Range", f"bytes 0-0/{whole}")], LAYER[:1])), times=1)
    server.rule(says(Reply(206, [], LAYER[:4], length=whole)))
    assert checked(server, connect, deep=True) == "missing"


def test_the_size_is_told_by_the_answer_to_a_range_or_by_the_length(
    server: StandIn, connect: Connect
) -> None:
    for size, state in ((len(LAYER), "sound"), (len(LAYER) + 1, "corrupt")):
        server.rules.clear()
        server.rule(says(Reply(206, [("Content-Range", f"bytes 0-0/{size}")], b"x")))
        assert checked(server, connect, deep=False) == state
        server.rules.clear()
        server.rule(replies(200, body=b"x" * size))
        assert checked(server, connect, deep=False) == state
    server.rules.clear()
    server.rule(says(Reply(206, [("Content-Range", "bytes 0-0/*")], b"x")))
    assert checked(server, connect, deep=False) == "sound"


def test_a_blob_that_may_not_be_read_is_not_called_missing(
    server: StandIn, connect: Connect
) -> None:
    server.rule(replies(403))
    with pytest.raises(RegistryUnauthorized):
        checked(server, connect, deep=False)
