from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from service.domain.errors import RegistryTimeout, RegistryUnreachable
from service.domain.reference import Repository, Tag
from tests.fakes import FakeRegistry, image
from tests.standin import Reply, Seen, replies, says
from tests.standin_registry import PlayedRegistry
from tests.unit.adapters.registry.support import Connect, Play, Serve, Time

APP = Repository("team/app")
V1 = Tag("1")
ONE = image("one")


def test_no_more_requests_at_once_than_allowed(
    serve: Serve, fake: FakeRegistry, connect: Connect
) -> None:
    fake.push(APP, ONE, "1")
    played = PlayedRegistry(fake)
    gate = threading.Barrier(3)

    def slow(seen: Seen) -> Reply:
        # Opens for three at a time: with fewer allowed it would never, with more the count says so.
        gate.wait(10)
        return played(seen)

    server = serve(slow)
    registry = connect(server, concurrency=3)
    with ThreadPoolExecutor(9) as pool:
        list(pool.map(lambda _: registry.manifest(APP, V1), range(9)))
    assert server.most_at_once == 3


def test_who_waits_for_a_turn_too_long_is_told_so(
    serve: Serve, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.adapters.registry.turns.TURN_SECONDS", 0.0)
    entered, leave = threading.Event(), threading.Event()

    def slow(_: Seen) -> Reply:
        entered.set()
        leave.wait(10)
        return Reply(404)

    registry = connect(serve(slow), concurrency=1)
    thread = threading.Thread(target=registry.state)
    thread.start()
    entered.wait(10)
    with pytest.raises(RegistryTimeout, match="concurrency"):
        registry.writability(APP)
    leave.set()
    thread.join()


def test_a_turn_is_given_back_whatever_happens(serve: Serve, connect: Connect) -> None:
    server = serve(says(Reply(raw=b"")))
    registry = connect(server, concurrency=1)
    for _ in range(3):
        with pytest.raises(RegistryUnreachable):
            registry.manifest(APP, V1)


def test_pauses_hold_no_turn(play: Play, fake: FakeRegistry, connect: Connect, time: Time) -> None:
    fake.push(APP, ONE, "1")
    server = play()
    registry = connect(server, concurrency=1)
    server.rule(replies(503), times=1)
    found = []

    def meanwhile(seconds: float) -> None:
        time.slept.append(seconds)
        found.append(registry.manifest(APP, V1))

    time.sleep = meanwhile  # type: ignore[method-assign]
    assert time.slept == []
    registry.manifest(APP, V1)


def test_threads_share_connections(play: Play, fake: FakeRegistry, connect: Connect) -> None:
    fake.push(APP, ONE, *(str(number) for number in range(50)))
    server = play()
    registry = connect(server, concurrency=4)
    with ThreadPoolExecutor(16) as pool:
        tags = [Tag(str(number)) for number in range(50)]
        digests = set(pool.map(lambda tag: registry.resolve(APP, tag), tags))
    assert digests == {ONE.digest}
    assert len({one.connection for one in server.seen}) <= 4
