from __future__ import annotations

from datetime import timedelta

from tests.contract.store.conftest import START, HandClock, WholeStore


def test_no_worker_was_ever_heard_of(store: WholeStore) -> None:
    assert store.workers.last_beat() is None


def test_the_last_beat_of_any_worker_counts(store: WholeStore, clock: HandClock) -> None:
    store.workers.beat("a")
    clock.move(seconds=5)
    store.workers.beat("b")
    assert store.workers.last_beat() == START + timedelta(seconds=5)
    clock.move(seconds=5)
    store.workers.beat("a")
    assert store.workers.last_beat() == START + timedelta(seconds=10)


def test_a_worker_that_leaves_is_forgotten(store: WholeStore) -> None:
    store.workers.beat("a")
    store.workers.leave("a")
    store.workers.leave("a")
    assert store.workers.last_beat() is None
