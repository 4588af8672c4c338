from __future__ import annotations

from pathlib import Path

import pytest

from service.domain.errors import (
    RegistryAnswerInvalid,
    RegistryRateLimited,
    RegistryUnreachable,
    UpstreamFailed,
)
from service.domain.ports import Writability
from service.domain.reference import Repository
from tests.standin import Reply, oci_error, plain, replies, says
from tests.unit.adapters.registry.support import Connect, Play, Serve, Time

APP = Repository("team/app")
ON = Writability(delete_enabled=True, read_only=False)
OFF = Writability(delete_enabled=False, read_only=False)
READ_ONLY = Writability(delete_enabled=None, read_only=True)
UNTOLD = Writability(delete_enabled=None, read_only=False)


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        (oci_error(404, "MANIFEST_UNKNOWN"), ON),
        (oci_error(404, "NAME_UNKNOWN"), ON),
        (Reply(202), ON),
        (oci_error(405, "UNSUPPORTED"), OFF),
        (oci_error(400, "UNSUPPORTED"), OFF),
        (plain(405, "405 method not allowed\n"), READ_ONLY),
        (Reply(405), READ_ONLY),
        (oci_error(400, "DIGEST_INVALID"), UNTOLD),
        (oci_error(405, "DENIED"), UNTOLD),
        (oci_error(403, "DENIED"), UNTOLD),
        (oci_error(401, "UNAUTHORIZED"), UNTOLD),
        (Reply(418), UNTOLD),
    ],
)
def test_deleting_the_all_zero_digest_tells_what_can_be_changed(
    play: Play, connect: Connect, reply: Reply, expected: Writability
) -> None:
    server = play()
    server.rule(says(reply), method="DELETE")
    registry = connect(server)
    assert registry.writability(APP) == expected
    assert registry.writability() == expected
    first, second = server.requests("DELETE")
    assert first.path == f"/v2/{APP}/manifests/sha256:{'0' * 64}"
    assert second.path.endswith("0" * 64)


@pytest.mark.parametrize(
    ("reply", "error"),
    [
        (Reply(429), RegistryRateLimited),
        (Reply(500), RegistryAnswerInvalid),
        (Reply(503), RegistryUnreachable),
        (Reply(raw=b""), RegistryUnreachable),
    ],
)
def test_what_a_busy_registry_answers_tells_nothing(
    play: Play, connect: Connect, reply: Reply, error: type[UpstreamFailed]
) -> None:
    server = play()
    server.rule(says(reply))
    with pytest.raises(error):
        connect(server).writability(APP)


def test_a_registry_that_answers_is_up(play: Play, connect: Connect) -> None:
    state = connect(play()).state()
    assert (state.status, state.api_version) == ("up", "registry/2.0")
    assert state.problem is None
    assert state.writability == ON
    assert state.auth.scheme == "none"
    assert state.checked_at.utcoffset() is not None


def test_a_read_only_registry_is_read_only(play: Play, connect: Connect) -> None:
    server = play()
    server.rule(says(plain(405, "405 method not allowed\n")), method="DELETE")
    state = connect(server).state()
    assert (state.status, state.writability) == ("read-only", READ_ONLY)


@pytest.mark.parametrize(
    ("reply", "status"),
    [
        (Reply(raw=b""), "down"),
        (Reply(raw=b"nonsense"), "down"),
        (Reply(silent=True), "down"),
        (Reply(404), "down"),
        (Reply(500), "down"),
        (Reply(503), "down"),
        (Reply(302, [("Location", "/")]), "down"),
        (Reply(401), "unauthorized"),
        (Reply(401, [("WWW-Authenticate", "Basic")]), "unauthorized"),
        (Reply(403), "unauthorized"),
    ],
)
def test_what_is_wrong_is_a_status_and_never_an_error(
    serve: Serve, connect: Connect, time: Time, reply: Reply, status: str
) -> None:
    state = connect(serve(says(reply)), timeout_seconds=0.2).state()
    assert state.status == status
    assert state.problem
    assert state.writability is None
    assert time.slept == []


def test_a_registry_that_is_not_there_is_down(connect: Connect) -> None:
    state = connect("http://127.0.0.1:9").state()
    assert state.status == "down"
    assert "127.0.0.1:9" in str(state.problem)
    assert state.auth.scheme is None


def test_a_registry_that_does_not_let_itself_be_probed_is_up(play: Play, connect: Connect) -> None:
    server = play()
    server.rule(replies(500), method="DELETE")
    state = connect(server).state()
    assert (state.status, state.writability) == ("up", None)


def test_credentials_that_cannot_be_read_are_a_status_too(
    play: Play, connect: Connect, serve: Serve
) -> None:
    missing = connect(play(), username="keeper", password_file=Path("/no"))
    assert missing.state().status == "up"
    asking = serve(replies(401, {"WWW-Authenticate": "Basic"}))
    registry = connect(asking, username="keeper", password_file=Path("/no"))
    state = registry.state()
    assert (state.status, state.auth.scheme, state.auth.username) == ("unauthorized", "basic", None)
