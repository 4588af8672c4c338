"""Who lives and who is dead, by what is heard of them."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

import pytest

from service.domain.errors import StoreUnavailable
from service.jobs.membership import SILENT_SECONDS, Membership, Silence
from tests.fakes_store import FakeWorkers

START = datetime(2026, 1, 1, tzinfo=UTC)


class HandClock:
    def __init__(self) -> None:
        self.seconds = 0.0

    def now(self) -> datetime:
        return START + timedelta(seconds=self.seconds)


class Workers(FakeWorkers):
    """Does not answer when told so."""

    def __init__(self, clock: HandClock) -> None:
        super().__init__(clock)
        self.broken = False

    def beats(self) -> Mapping[str, datetime]:
        if self.broken:
            raise StoreUnavailable("gone")
        return super().beats()


@pytest.fixture
def clock() -> HandClock:
    return HandClock()


@pytest.fixture
def workers(clock: HandClock) -> Workers:
    return Workers(clock)


@pytest.fixture
def member(clock: HandClock, workers: Workers) -> Membership:
    made = Membership(workers, lambda: clock.seconds)
    made.join(alone=False)
    return made


def test_names_are_the_first_that_are_free(workers: Workers) -> None:
    assert [Membership(workers).join(alone=False) for _ in range(3)] == [
        "worker-1",
        "worker-2",
        "worker-3",
    ]
    workers.leave("worker-2")
    assert Membership(workers).join(alone=False) == "worker-2"


def test_who_is_alone_takes_the_first_name_in_any_case(workers: Workers) -> None:
    workers.join("worker-1")
    assert Membership(workers).join(alone=True) == "worker-1"


def test_who_is_silent_for_too_long_is_buried(
    clock: HandClock, workers: Workers, member: Membership
) -> None:
    workers.join("worker-2")
    jobs = {"job": "worker-2"}
    assert member.left_behind(jobs) == set()
    clock.seconds += SILENT_SECONDS - 0.1
    assert member.left_behind(jobs) == set()
    clock.seconds += 0.1
    assert member.left_behind(jobs) == {"worker-2"}
    assert not workers.beat("worker-2")


def test_who_beats_lives(clock: HandClock, workers: Workers, member: Membership) -> None:
    workers.join("worker-2")
    for _ in range(10):
        clock.seconds += SILENT_SECONDS - 0.1
        workers.beat("worker-2")
        assert member.left_behind({"job": "worker-2"}) == set()


def test_who_beats_in_the_last_moment_lives(
    clock: HandClock, workers: Workers, member: Membership, monkeypatch: pytest.MonkeyPatch
) -> None:
    workers.join("worker-2")
    member.left_behind({})
    clock.seconds += SILENT_SECONDS
    heard = workers.beats()
    monkeypatch.setattr(workers, "beats", lambda: heard)
    workers.beat("worker-2")
    assert member.left_behind({"job": "worker-2"}) == set()


def test_a_store_that_does_not_answer_kills_nobody(
    clock: HandClock, workers: Workers, member: Membership
) -> None:
    workers.join("worker-2")
    member.left_behind({})
    clock.seconds += SILENT_SECONDS
    workers.broken = True
    with pytest.raises(StoreUnavailable):
        member.left_behind({})
    workers.broken = False
    assert member.left_behind({"job": "worker-2"}) == set()
    clock.seconds += SILENT_SECONDS
    assert member.left_behind({"job": "worker-2"}) == {"worker-2"}


def test_who_is_gone_is_left_behind_at_once(member: Membership) -> None:
    assert member.left_behind({"a": "worker-9", "b": member.name}) == {"worker-9"}


def test_nobody_buries_itself(clock: HandClock, member: Membership) -> None:
    member.left_behind({})
    clock.seconds += 10 * SILENT_SECONDS
    assert member.left_behind({"job": member.name}) == set()
    assert member.beat()


def test_others_clocks_do_not_matter(clock: HandClock) -> None:
    silence = Silence(lambda: clock.seconds)
    wrong = START - timedelta(days=1000)
    silence.listen({"a": wrong})
    assert silence.dead() == {}
    clock.seconds += SILENT_SECONDS
    silence.listen({"a": wrong})
    assert silence.dead() == {"a": wrong}
    silence.listen({"a": wrong - timedelta(seconds=1)})
    assert silence.dead() == {}
