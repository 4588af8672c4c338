from __future__ import annotations

from datetime import timedelta

from tests.contract.store.conftest import START, HandClock, WholeStore


def test_no_worker_was_ever_heard_of(store: WholeStore) -> None:
    assert store.workers.last_beat() is None


def test_the_last_beat_of_any_worker_counts(store: WholeStore, clock: HandClock) -> None:
    store.workers.join("a")
    clock.move(seconds=5)
    store.workers.join("b")
    assert store.workers.last_beat() == START + timedelta(seconds=5)
    clock.move(seconds=5)
    assert store.workers.beat("a")
    assert store.workers.last_beat() == START + timedelta(seconds=10)


def test_a_worker_that_leaves_is_forgotten(store: WholeStore) -> None:
    store.workers.join("a")
    store.workers.leave("a")
    store.workers.leave("a")
    assert store.workers.last_beat() is None


def test_all_beats_are_told(store: WholeStore, clock: HandClock) -> None:
    store.workers.join("a")
    clock.move(seconds=1)
    store.workers.join("b")
    assert store.workers.beats() == {"a": START, "b": START + timedelta(seconds=1)}


def test_a_worker_that_was_heard_of_since_is_not_buried(
    store: WholeStore, clock: HandClock
) -> None:
    store.workers.join("a")
    clock.move(seconds=1)
    store.workers.beat("a")
    assert not store.workers.bury("a", START)
    assert store.workers.beat("a")


def test_a_buried_worker_is_told_so_and_may_join_again(store: WholeStore) -> None:
    store.workers.join("a")
    assert store.workers.bury("a", START)
    assert not store.workers.beat("a")
    assert not store.workers.bury("a", START)
    assert store.workers.last_beat() is None
    assert store.workers.join("a")
    assert store.workers.beat("a")


def test_two_workers_have_not_the_same_id(store: WholeStore, clock: HandClock) -> None:
    assert store.workers.join("a")
    clock.move(seconds=1)
    assert not store.workers.join("a")
    assert store.workers.beats() == {"a": START}
