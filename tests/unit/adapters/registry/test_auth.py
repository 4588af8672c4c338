from __future__ import annotations

import logging
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from service.adapters.registry import HttpRegistry
from service.adapters.registry.credentials import FixedLogin, NoCredentials
from service.adapters.registry.tokens import TokenSource, Wanted
from service.adapters.registry.transport import Answer, Request
from service.domain.audit import Change
from service.domain.errors import (
    RegistryAnswerInvalid,
    RegistryRateLimited,
    RegistryUnauthorized,
    RegistryUnreachable,
)
from service.domain.reference import Repository, Tag
from tests.fakes import FakeRegistry, image
from tests.standin import Reply, Seen, StandIn, json_reply, oci_error, replies, says
from tests.standin_registry import PlayedRegistry, TokenServer, basic_guard
from tests.unit.adapters.registry.support import Connect, Serve, Time

APP = Repository("team/app")
V1 = Tag("1")
ONE = image("one")


class Guarded:
    """A registry behind a token server."""

    def __init__(self, serve: Serve, fake: FakeRegistry, tokens: TokenServer) -> None:
        fake.push(APP, ONE, "1")
        self.tokens = tokens
        self.token_server = serve(tokens)
        tokens.realm = f"{self.token_server.url}/token"
        self.registry = serve(tokens.guard(PlayedRegistry(fake)))


@pytest.fixture
def guarded(serve: Serve, fake: FakeRegistry) -> Guarded:
    return Guarded(serve, fake, TokenServer())


def read(registry: HttpRegistry) -> str:
    return str(registry.resolve(APP, V1))


# Bearer.


@pytest.mark.parametrize(
    "tokens",
    [
        TokenServer(),
        TokenServer(token_field="access_token"),
        TokenServer(lifetime=None),
        TokenServer(scheme="bearer"),
        TokenServer(scheme="BEARER", quoted_realm=False),
        TokenServer(names_scope=False),
    ],
    ids=["token", "access_token", "no-expiry", "lower-case", "unquoted-realm", "no-scope-named"],
)
def test_token_servers_word_it_in_many_ways(
    serve: Serve, fake: FakeRegistry, connect: Connect, change: Change, tokens: TokenServer
) -> None:
    registry = connect(Guarded(serve, fake, tokens).registry)
    assert list(registry.repositories()) == [APP]
    assert read(registry) == ONE.digest
    registry.writer(change).put_manifest(APP, Tag("2"), ONE.raw)
    registry.writer(change).delete_manifest(APP, ONE.digest)
    assert set(tokens.tokens.values()) == {
        "registry:catalog:*",
        f"repository:{APP}:pull",
        f"repository:{APP}:pull,push",
        f"repository:{APP}:delete",
    }


def test_nothing_is_sent_before_the_registry_asks(guarded: Guarded, connect: Connect) -> None:
    read(connect(guarded.registry, username="keeper", password="secret"))
    first, second = guarded.registry.seen
    assert "authorization" not in first.headers
    assert second.headers["authorization"].startswith("Bearer ")


def test_a_token_is_fetched_once_for_each_scope(guarded: Guarded, connect: Connect) -> None:
    registry = connect(guarded.registry)
    for _ in range(5):
        read(registry)
    assert guarded.tokens.issued == 1
    assert len(guarded.registry.seen) == 6


def test_threads_share_one_fetch(guarded: Guarded, connect: Connect) -> None:
    registry = connect(guarded.registry)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: read(registry), range(24)))
    assert guarded.tokens.issued == 1


def test_a_token_the_registry_no_longer_takes_is_replaced(
    guarded: Guarded, connect: Connect
) -> None:
    registry = connect(guarded.registry)
    read(registry)
    guarded.tokens.tokens.clear()
    assert read(registry) == ONE.digest
    assert guarded.tokens.issued == 2


def test_the_scope_the_registry_names_is_asked_for_from_then_on(
    serve: Serve, connect: Connect, fake: FakeRegistry
) -> None:
    fake.push(APP, ONE, "1")
    tokens = TokenServer()
    tokens.realm = f"{serve(tokens).url}/token"
    played = PlayedRegistry(fake)

    def odd(seen: Seen) -> Reply:
        token = seen.headers.get("authorization", "").removeprefix("Bearer ")
        if tokens.tokens.get(token) == "house:all":
            return played(seen)
        challenge = f'Bearer realm="{tokens.realm}",scope="house:all",error="insufficient_scope"'
        return Reply(401, [("WWW-Authenticate", challenge)])

    server = serve(odd)
    registry = connect(server)
    read(registry)
    read(registry)
    assert list(tokens.tokens.values()) == ["house:all"]
    assert len(server.seen) == 3


def test_a_scope_that_is_never_granted_is_unauthorized(guarded: Guarded, connect: Connect) -> None:
    guarded.tokens.allowed = set()
    with pytest.raises(RegistryUnauthorized):
        read(connect(guarded.registry))
    assert len(guarded.registry.seen) <= 4


def test_the_token_server_is_given_the_password_and_the_registry_is_not(
    serve: Serve, fake: FakeRegistry, connect: Connect
) -> None:
    guarded = Guarded(serve, fake, TokenServer(users={"keeper": "s:cret"}))
    read(connect(guarded.registry, username="keeper", password="s:cret"))
    (asked,) = guarded.token_server.seen
    assert asked.query == {
        "service": "registry.test",
        "scope": f"repository:{APP}:pull",
        "account": "keeper",
        "client_id": "registry-admin",
    }
    sent = [one.headers.get("authorization", "") for one in guarded.registry.seen]
    assert not any(value.startswith("Basic") for value in sent)


@pytest.mark.parametrize("settings", [{}, {"username": "keeper", "password": "wrong"}])
def test_whom_the_token_server_refuses_is_unauthorized(
    serve: Serve, fake: FakeRegistry, connect: Connect, settings: dict[str, str]
) -> None:
    guarded = Guarded(serve, fake, TokenServer(users={"keeper": "secret"}))
    with pytest.raises(RegistryUnauthorized, match="token server") as caught:
        read(connect(guarded.registry, **settings))
    assert "wrong" not in str(caught.value)


@pytest.mark.parametrize(
    "reply",
    [
        Reply(200, body=b"<html>"),
        Reply(200, body=b""),
        Reply(200, body=b"[]"),
        json_reply({}),
        json_reply({"token": 1}),
        json_reply({"token": "a\r\nX-Injected: 1"}),
        json_reply({"token": ""}),
        Reply(200, body=b"[" * 100_000),
        Reply(200, body=b" " * 300_000),
        Reply(302, [("Location", "http://127.0.0.1:9/")]),
        oci_error(404, "NOT_FOUND"),
    ],
)
def test_a_token_server_that_makes_no_sense_is_told_so(
    guarded: Guarded, connect: Connect, reply: Reply
) -> None:
    guarded.token_server.rule(says(reply))
    with pytest.raises(RegistryAnswerInvalid):
        read(connect(guarded.registry))


def test_a_token_server_that_is_busy_for_a_moment_is_asked_again(
    guarded: Guarded, connect: Connect, time: Time
) -> None:
    guarded.token_server.rule(replies(503), times=2)
    guarded.token_server.rule(replies(429, {"Retry-After": "1"}), times=1)
    assert read(connect(guarded.registry)) == ONE.digest
    assert 1.0 in time.slept


def test_a_token_server_that_is_down_is_unreachable(guarded: Guarded, connect: Connect) -> None:
    guarded.tokens.realm = "http://127.0.0.1:9/token"
    with pytest.raises(RegistryUnreachable):
        read(connect(guarded.registry))


@pytest.mark.parametrize("realm", ["", "/token", "file:///etc/passwd", "http://", "http://x:y"])
def test_a_realm_that_is_no_url_is_not_followed(serve: Serve, connect: Connect, realm: str) -> None:
    challenge = f'Bearer realm="{realm}",service="s"'
    server = serve(replies(401, {"WWW-Authenticate": challenge}))
    with pytest.raises((RegistryAnswerInvalid, RegistryUnauthorized)):
        read(connect(server, username="keeper", password="secret"))


def test_a_realm_with_a_query_keeps_it(serve: Serve, fake: FakeRegistry, connect: Connect) -> None:
    guarded = Guarded(serve, fake, TokenServer())
    guarded.tokens.realm += "?tenant=a"
    read(connect(guarded.registry))
    assert guarded.token_server.seen[0].query["tenant"] == "a"
    assert guarded.token_server.seen[0].query["service"] == "registry.test"


def test_the_registry_may_be_its_own_token_server(
    serve: Serve, fake: FakeRegistry, connect: Connect
) -> None:
    fake.push(APP, ONE, "1")
    tokens = TokenServer()
    played = tokens.guard(PlayedRegistry(fake))
    server = serve(lambda seen: tokens(seen) if seen.path == "/token" else played(seen))
    tokens.realm = f"{server.url}/token"
    assert read(connect(server)) == ONE.digest


def test_an_identity_token_is_exchanged_and_not_sent_to_the_registry(
    serve: Serve, fake: FakeRegistry, connect: Connect, tmp_path: Path
) -> None:
    guarded = Guarded(serve, fake, TokenServer(refresh_tokens={"identity"}))
    config = tmp_path / "config.json"
    config.write_text(
        f'{{"auths": {{"{guarded.registry.host}": {{"identitytoken": "identity"}}}}}}'
    )
    assert read(connect(guarded.registry, docker_config=config)) == ONE.digest
    (asked,) = guarded.token_server.requests("POST")
    assert b"grant_type=refresh_token" in asked.body
    assert b"refresh_token=identity" in asked.body


# Tokens in time.


class Tokens:
    """Counts what is fetched; every token lives for ``lifetime``."""

    def __init__(self, lifetime: object) -> None:
        self.lifetime = lifetime
        self.fetched = 0

    def send(self, _url: str, _request: Request, _authorization: str | None) -> Answer:
        self.fetched += 1
        reply = json_reply({"token": f"t{self.fetched}", "expires_in": self.lifetime})
        return Answer(200, {}, reply.body)


WANTED = Wanted("http://auth.example/token", "s", "repository:a:pull")


@pytest.mark.parametrize(
    ("lifetime", "good_for"),
    [(300, 290), (60, 50), (None, 50), ("soon", 50), (-1, 50), (8, 6), (10**9, 3590)],
)
def test_a_token_is_renewed_before_its_end(lifetime: object, good_for: float) -> None:
    time, tokens = Time(), Tokens(lifetime)
    source = TokenSource(tokens.send, NoCredentials(), time.monotonic)
    assert source.token(WANTED) == "t1"
    time.now += good_for - 0.1
    assert source.token(WANTED) == "t1"
    time.now += 0.2
    assert source.token(WANTED) == "t2"


def test_tokens_of_other_scopes_are_others() -> None:
    tokens = Tokens(300)
    source = TokenSource(tokens.send, NoCredentials())
    assert source.token(WANTED) != source.token(WANTED._replace(scope="repository:b:pull"))


def test_a_dropped_token_is_dropped_once() -> None:
    tokens = Tokens(300)
    source = TokenSource(tokens.send, NoCredentials())
    source.drop(WANTED, source.token(WANTED))
    assert source.token(WANTED) == "t2"
    source.drop(WANTED, "t1")
    assert source.token(WANTED) == "t2"


def test_a_failed_fetch_frees_those_who_wait() -> None:
    calls = iter([RegistryUnreachable("down"), None])

    def send(_url: str, _request: Request, _authorization: str | None) -> Answer:
        error = next(calls)
        if error:
            raise error
        return Answer(200, {}, b'{"token": "t"}')

    source = TokenSource(send, NoCredentials())
    with pytest.raises(RegistryUnreachable):
        source.token(WANTED)
    assert source.token(WANTED) == "t"


def test_scopes_do_not_wait_for_each_other() -> None:
    entered, leave = threading.Event(), threading.Event()

    def send(_url: str, request: Request, _authorization: str | None) -> Answer:
        if "slow" in request.target:
            entered.set()
            leave.wait(10)
        return Answer(200, {}, b'{"token": "t"}')

    source = TokenSource(send, NoCredentials())
    slow = threading.Thread(target=source.token, args=(WANTED._replace(scope="slow"),))
    slow.start()
    entered.wait(10)
    assert source.token(WANTED) == "t"
    leave.set()
    slow.join()


# Basic.


def test_a_password_is_sent_from_the_first_challenge_on(
    serve: Serve, fake: FakeRegistry, connect: Connect
) -> None:
    fake.push(APP, ONE, "1")
    server = serve(basic_guard("keeper", "s:cret ü", PlayedRegistry(fake)))
    registry = connect(server, username="keeper", password="s:cret ü")
    assert read(registry) == ONE.digest
    assert read(registry) == ONE.digest
    assert ["authorization" in one.headers for one in server.seen] == [False, True, True]


def test_a_wrong_password_is_unauthorized_and_not_hammered(
    serve: Serve, fake: FakeRegistry, connect: Connect
) -> None:
    server = serve(basic_guard("keeper", "secret", PlayedRegistry(fake)))
    with pytest.raises(RegistryUnauthorized, match="the user keeper"):
        read(connect(server, username="keeper", password="wrong"))
    assert len(server.seen) == 2


def test_a_registry_that_wants_a_password_there_is_none_for_is_unauthorized(
    serve: Serve, fake: FakeRegistry, connect: Connect
) -> None:
    server = serve(basic_guard("keeper", "secret", PlayedRegistry(fake)))
    with pytest.raises(RegistryUnauthorized, match="none are configured"):
        read(connect(server))
    assert len(server.seen) == 1


@pytest.mark.parametrize(
    "challenge",
    ['Basic realm="r"', "basic realm=r", "Basic", 'Negotiate, Basic realm="r"',
     'Bearer service="no realm", Basic realm="r"'],
)  # fmt: skip
def test_basic_is_found_however_it_is_asked_for(
    serve: Serve, fake: FakeRegistry, connect: Connect, challenge: str
) -> None:
    fake.push(APP, ONE, "1")
    server = serve(basic_guard("keeper", "secret", PlayedRegistry(fake), challenge))
    assert read(connect(server, username="keeper", password="secret")) == ONE.digest


def test_a_token_is_preferred_to_the_password(guarded: Guarded, connect: Connect) -> None:
    inner = guarded.registry.handler

    def both(seen: Seen) -> Reply:
        reply = inner(seen)
        if reply.status != 401:
            return reply
        return Reply(401, [("WWW-Authenticate", 'Basic realm="r"'), *reply.headers], reply.body)

    guarded.registry.handler = both
    read(connect(guarded.registry, username="keeper", password="secret"))
    assert guarded.tokens.issued == 1


@pytest.mark.parametrize("challenge", ["", "Negotiate", "Digest realm=r", "garbage"])
def test_what_cannot_be_answered_is_unauthorized(
    serve: Serve, connect: Connect, challenge: str
) -> None:
    server = serve(replies(401, {"WWW-Authenticate": challenge}))
    with pytest.raises(RegistryUnauthorized, match="not supported"):
        read(connect(server, username="keeper", password="secret"))


def test_a_changed_password_file_is_in_force_at_once(
    serve: Serve, fake: FakeRegistry, connect: Connect, tmp_path: Path
) -> None:
    fake.push(APP, ONE, "1")
    server = serve(basic_guard("keeper", "old", PlayedRegistry(fake)))
    file = tmp_path / "password"
    file.write_text("old\n")
    registry = connect(server, username="keeper", password_file=file)
    assert read(registry) == ONE.digest
    server.handler = basic_guard("keeper", "brand-new", PlayedRegistry(fake))
    with pytest.raises(RegistryUnauthorized):
        read(registry)
    file.write_text("brand-new\n")
    assert read(registry) == ONE.digest


def test_a_write_is_logged_in_without_being_sent_twice_when_accepted(
    guarded: Guarded, connect: Connect, change: Change
) -> None:
    registry = connect(guarded.registry)
    registry.writer(change).put_manifest(APP, Tag("2"), ONE.raw)
    statuses = ["authorization" in one.headers for one in guarded.registry.requests("PUT")]
    assert statuses == [False, True]


def test_a_429_to_the_end_is_told_so(guarded: Guarded, connect: Connect) -> None:
    guarded.registry.rule(replies(429))
    with pytest.raises(RegistryRateLimited):
        read(connect(guarded.registry))


# Secrets.


def test_no_secret_is_logged_told_or_shown(
    serve: Serve,
    fake: FakeRegistry,
    connect: Connect,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG)
    guarded = Guarded(serve, fake, TokenServer(users={"keeper": "hunter2"}))
    registry = connect(guarded.registry, username="keeper", password="hunter2")
    read(registry)
    guarded.tokens.allowed = set()
    guarded.tokens.tokens.clear()
    with pytest.raises(RegistryUnauthorized) as caught:
        read(registry)
    shown = [caplog.text, str(caught.value), repr(caught.value), repr(registry.state())]
    shown += [repr(FixedLogin("keeper", "hunter2").login()), repr(vars(registry))]
    for text in shown:
        assert "hunter2" not in text
        assert "a2VlcGVyOmh1bnRlcjI" not in text
        assert "token-1" not in text


def test_the_state_tells_who_we_are_and_how_we_know(
    serve: Serve, fake: FakeRegistry, connect: Connect
) -> None:
    guarded = Guarded(serve, fake, TokenServer(users={"keeper": "secret"}))
    auth = connect(guarded.registry, username="keeper", password="secret").state().auth
    assert (auth.scheme, auth.username, auth.source) == ("bearer", "keeper", "settings")
    wrong = connect(guarded.registry, username="keeper", password="wrong").state()
    assert (wrong.status, wrong.auth.scheme) == ("unauthorized", "bearer")
    plain: StandIn = serve(PlayedRegistry(fake))
    assert connect(plain).state().auth.scheme == "none"
