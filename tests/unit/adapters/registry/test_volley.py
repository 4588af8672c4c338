from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from http import HTTPStatus

import pytest

from service.adapters.registry.volley import MOST
from service.domain.content import Descriptor, parse_manifest
from service.domain.errors import (
    RegistryAnswerInvalid,
    RegistryRateLimited,
    RegistryTimeout,
    RegistryUnauthorized,
    RegistryUnreachable,
    RepositoryUnknown,
    UpstreamFailed,
)
from service.domain.reference import Digest, Repository, Tag
from tests.fakes import FakeRegistry, image
from tests.standin import Reply, Seen, StandIn, oci_error, replies, says
from tests.standin_registry import PlayedRegistry, TokenServer
from tests.unit.adapters.registry.support import Connect, Play, Serve, Time

APP = Repository("team/app")
MANY = 60
TAGS = [Tag(f"v{number:02}") for number in range(MANY)]
IMAGES = [image(f"image {number}") for number in range(MANY // 2)]
DIGESTS = {tag: IMAGES[number // 2].digest for number, tag in enumerate(TAGS)}


@pytest.fixture
def server(fake: FakeRegistry, play: Play) -> StandIn:
    for number, tag in enumerate(TAGS):
        fake.push(APP, IMAGES[number // 2], tag)
    return play()


def config(number: int) -> Descriptor:
    found = parse_manifest(IMAGES[number].raw).config
    assert found is not None
    return found


def targets(server: StandIn) -> list[str]:
    return [one.target for one in server.seen]


def test_many_tags_cost_one_request_each_and_a_head_the_second_time(
    server: StandIn, connect: Connect
) -> None:
    registry = connect(server)
    for method in ("GET", "HEAD"):
        assert registry.resolve_many(APP, TAGS) == DIGESTS
        assert [one.method for one in server.seen] == [method] * MANY
        assert len(set(targets(server))) == MANY
        server.forget()


def test_few_connections_serve_many_requests(server: StandIn, connect: Connect) -> None:
    registry = connect(server)
    registry.resolve_many(APP, TAGS)
    registry.resolve_many(APP, TAGS)
    assert len({one.connection for one in server.seen}) <= MOST


def gathering(server: StandIn, parties: int) -> Callable[[Seen], Reply]:
    """Answer so many at a time: who never has that many under way never gets an answer."""
    played, gate = server.handler, threading.Barrier(parties)

    def play(seen: Seen) -> Reply:
        gate.wait(10)
        return played(seen)

    return play


@pytest.mark.parametrize(("concurrency", "least", "most"), [(5, 5, 5), (50, 12, MOST)])
def test_several_are_under_way_at_a_time_but_no_more_than_allowed(
    server: StandIn, connect: Connect, concurrency: int, least: int, most: int
) -> None:
    server.handler = gathering(server, least)
    assert connect(server, concurrency=concurrency).resolve_many(APP, TAGS) == DIGESTS
    assert server.most_at_once <= most


def test_callers_share_the_turns(server: StandIn, connect: Connect) -> None:
    registry = connect(server, concurrency=3)
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: registry.resolve_many(APP, TAGS), range(8)))
    assert found == [DIGESTS] * 8
    assert server.most_at_once <= 3


def test_unknown_and_dangling_tags_are_none(
    server: StandIn, fake: FakeRegistry, connect: Connect
) -> None:
    registry = connect(server)
    registry.resolve_many(APP, TAGS)
    fake.dangle(APP, TAGS[7])
    found = registry.resolve_many(APP, [*TAGS, Tag("unknown")])
    gone = {tag: None for tag in TAGS if DIGESTS[tag] == DIGESTS[TAGS[7]]}
    assert found == {**DIGESTS, **gone, Tag("unknown"): None}


def test_an_unknown_repository_is_an_error(server: StandIn, connect: Connect) -> None:
    server.rule(lambda _: oci_error(404, "NAME_UNKNOWN"))
    with pytest.raises(RepositoryUnknown):
        connect(server).resolve_many(Repository("team/other"), TAGS)


def test_a_head_that_tells_nothing_is_followed_by_a_get(server: StandIn, connect: Connect) -> None:
    registry = connect(server)
    registry.resolve_many(APP, TAGS)
    server.rule(replies(405), method="HEAD", path=r"/v1\d")
    server.rule(replies(200), method="HEAD", path=r"/v2\d")
    server.forget()
    assert registry.resolve_many(APP, TAGS) == DIGESTS
    assert len(server.requests("HEAD")) == MANY
    assert len(server.requests("GET", r"/v[12]\d")) == len(server.requests("GET")) == 20


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
def test_a_failure_that_passes_is_tried_again_and_nothing_asked_for_naught(
    server: StandIn, connect: Connect, time: Time, status: int
) -> None:
    server.rule(replies(status), path="v30", times=1)
    assert connect(server).resolve_many(APP, TAGS) == DIGESTS
    assert len(server.requests(path="v30")) == 2
    assert len(server.seen) < MANY + MOST + 2
    assert time.slept == []


def test_patience_is_that_of_a_single_request(
    server: StandIn, connect: Connect, time: Time
) -> None:
    server.rule(replies(429, {"Retry-After": "2"}), path="v30", times=3)
    assert connect(server).resolve_many(APP, TAGS) == DIGESTS
    assert time.slept == [2.0, 2.0]
    server.rule(replies(429), path="v31")
    with pytest.raises(RegistryRateLimited):
        connect(server).resolve_many(APP, TAGS)


def test_many_failures_are_asked_one_by_one_until_one_stays(
    server: StandIn, connect: Connect
) -> None:
    played, tried = server.handler, set[str]()

    def fails_once(seen: Seen) -> Reply:
        if seen.target in tried:
            return played(seen)
        tried.add(seen.target)
        return Reply(HTTPStatus.SERVICE_UNAVAILABLE)

    server.handler = fails_once
    assert connect(server).resolve_many(APP, TAGS) == DIGESTS


def test_a_login_is_asked_for_once(serve: Serve, server: StandIn, connect: Connect) -> None:
    tokens = TokenServer()
    tokens.realm = f"{serve(tokens).url}/token"
    server.handler = tokens.guard(server.handler)
    assert connect(server).resolve_many(APP, TAGS) == DIGESTS
    assert tokens.issued == 1


def test_refused_credentials_are_told(server: StandIn, connect: Connect) -> None:
    server.rule(lambda _: oci_error(401, "UNAUTHORIZED"))
    with pytest.raises((RegistryUnauthorized, RegistryAnswerInvalid)):
        connect(server).resolve_many(APP, TAGS)


def test_a_wrong_digest_stops_it(server: StandIn, connect: Connect) -> None:
    wrong = Reply(200, [("Docker-Content-Digest", "sha256:" + "0" * 64)], b'{"a": "b"}')
    server.rule(says(wrong), path="v05")
    with pytest.raises(RegistryAnswerInvalid, match="digest"):
        connect(server).resolve_many(APP, TAGS)


def test_silence_is_a_time_out(server: StandIn, connect: Connect) -> None:
    server.rule(says(Reply(silent=True)), path="v05")
    with pytest.raises(RegistryTimeout):
        connect(server, timeout_seconds=0.2).resolve_many(APP, TAGS)


def test_a_registry_that_is_gone_is_unreachable(connect: Connect) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    with pytest.raises(RegistryUnreachable):
        connect(url).resolve_many(APP, TAGS)


def test_idle_connections_that_were_closed_do_no_harm(server: StandIn, connect: Connect) -> None:
    registry = connect(server)
    for _ in range(3):
        assert registry.resolve_many(APP, TAGS) == DIGESTS
        server.hang_up()


def test_turns_are_given_back_whatever_happens(server: StandIn, connect: Connect) -> None:
    registry = connect(server, concurrency=2)
    for spoilt in (Reply(raw=b""), Reply(302), Reply(503), Reply(401)):
        server.rule(says(spoilt))
        with pytest.raises(UpstreamFailed):
            registry.resolve_many(APP, TAGS)
        server.rules.clear()
    server.handler = gathering(server, 2)
    assert registry.resolve_many(APP, TAGS) == DIGESTS


# Prefetching.


def test_what_was_fetched_before_is_not_asked_for(server: StandIn, connect: Connect) -> None:
    registry = connect(server)
    configs = [config(number) for number in range(len(IMAGES))]
    digests = [one.digest for one in IMAGES]
    assert registry.prefetch(APP, digests, configs) == frozenset()
    assert len(server.seen) == 2 * len(IMAGES)
    server.forget()
    assert registry.prefetch(APP, digests, configs) == frozenset()
    assert [registry.content(APP, one.digest) for one in IMAGES] == [one.raw for one in IMAGES]
    assert [registry.config(APP, one) for one in configs] == [one.blobs[0] for one in IMAGES]
    assert server.seen == []


def test_what_is_unknown_is_told(server: StandIn, fake: FakeRegistry, connect: Connect) -> None:
    nowhere = Digest("sha256:" + "5" * 64)
    del fake.contents[APP].blobs[config(3).digest]
    found = connect(server).prefetch(APP, [nowhere, IMAGES[0].digest], [config(3), config(4)])
    assert found == {nowhere, config(3).digest}


def test_configs_are_followed_elsewhere(
    serve: Serve, server: StandIn, fake: FakeRegistry, connect: Connect
) -> None:
    storage = serve(PlayedRegistry(fake))
    server.rule(
        lambda seen: Reply(307, [("Location", f"{storage.url}{seen.target}")]), path="/blobs/"
    )
    registry = connect(server)
    configs = [config(number) for number in range(len(IMAGES))]
    assert registry.prefetch(APP, (), configs) == frozenset()
    assert len(storage.seen) == len(IMAGES)
    assert [registry.config(APP, one) for one in configs] == [one.blobs[0] for one in IMAGES]


def test_a_config_of_other_bytes_stops_it(server: StandIn, connect: Connect) -> None:
    server.rule(replies(200, body=b"{}"), path="/blobs/")
    with pytest.raises(RegistryAnswerInvalid, match="other bytes"):
        connect(server).prefetch(APP, (), [config(0)])
