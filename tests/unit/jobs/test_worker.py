from __future__ import annotations

import logging
import threading
from collections.abc import Callable

import pytest

from service.jobs import worker as module
from service.jobs.worker import Worker, recover_within
from tests.fakes_store import FakeStore


@pytest.fixture(autouse=True)
def haste(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BEAT_SECONDS", 0.001)
    monkeypatch.setattr(module, "RECOVERY_SECONDS", 0.001)


class Recovery:
    """Counts its calls, and ends the worker with the last one."""

    def __init__(self, calls: int, then: Callable[[], object] = lambda: None) -> None:
        self.left = calls
        self.then = then
        self.worker: Worker | None = None

    def __call__(self) -> int:
        self.left -= 1
        if self.left == 0 and self.worker:
            self.worker.stop()
        self.then()
        return 0


def run(recovery: Recovery, store: FakeStore) -> None:
    recovery.worker = Worker(store.workers, recovery)
    recovery.worker.run()


def test_recovers_at_once_and_again_and_again() -> None:
    recovery = Recovery(3)
    run(recovery, FakeStore())
    assert recovery.left == 0


def test_says_that_it_lives_while_it_does() -> None:
    store = FakeStore()
    beaten = threading.Event()

    def wait_for_beat() -> None:
        while store.workers.last_beat() is None:
            beaten.wait(0.001)

    run(Recovery(1, wait_for_beat), store)
    assert store.workers.last_beat() is None


def test_goes_on_after_failures_and_logs_the_first_of_a_row(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def fail() -> None:
        raise ConnectionError("the database is gone")

    with caplog.at_level(logging.WARNING):
        recovery = Recovery(5, fail)
        run(recovery, FakeStore())
    assert recovery.left == 0
    assert len(caplog.records) == 1


def test_a_recovery_that_fails_does_not_keep_the_service_from_starting(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def fail() -> int:
        raise ConnectionError

    recover_within(fail, 60)
    assert "cannot be finished yet" in caplog.text


def test_a_recovery_that_takes_long_is_left_behind(caplog: pytest.LogCaptureFixture) -> None:
    ended = threading.Event()

    def recover() -> int:
        ended.wait()
        return 1

    recover_within(recover, 0.01)
    assert "take long" in caplog.text
    ended.set()
