from __future__ import annotations

import logging
import threading

import pytest

from service.jobs.tasks import Tasks, within


class Counted:
    """Counts its calls, fails where it is told to, and says when the last one came."""

    def __init__(self, calls: int, error: Exception | None = None) -> None:
        self.left = calls
        self.error = error
        self.done = threading.Event()

    def __call__(self) -> int:
        self.left -= 1
        if self.left == 0:
            self.done.set()
        if self.error:
            raise self.error
        return 0


def test_a_task_is_done_at_once_and_again_and_again() -> None:
    tasks, task = Tasks(), Counted(3)
    tasks.every(0.001, task)
    assert task.done.wait(60)
    tasks.stop(60)
    left = task.left
    threading.Event().wait(0.01)
    assert task.left == left


def test_a_task_that_hangs_keeps_no_other_from_being_done() -> None:
    tasks, task, released = Tasks(), Counted(3), threading.Event()
    tasks.every(0.001, released.wait)
    tasks.every(0.001, task)
    assert task.done.wait(60)
    tasks.stop(0.001)
    released.set()
    tasks.stop(60)


def test_goes_on_after_failures_and_logs_the_first_of_a_row(
    caplog: pytest.LogCaptureFixture,
) -> None:
    tasks, task = Tasks(), Counted(5, ConnectionError("the database is gone"))
    with caplog.at_level(logging.WARNING):
        tasks.every(0.001, task)
        assert task.done.wait(60)
        tasks.stop(60)
    assert len(caplog.records) == 1


def test_what_fails_at_the_start_keeps_nothing_from_starting(
    caplog: pytest.LogCaptureFixture,
) -> None:
    within(Counted(1, ConnectionError()), 60, "interrupted deletions")
    assert "interrupted deletions cannot be finished yet" in caplog.text


def test_what_takes_long_is_left_behind(caplog: pytest.LogCaptureFixture) -> None:
    released = threading.Event()
    within(released.wait, 0.001, "interrupted deletions")
    released.set()
    assert "interrupted deletions take long to finish" in caplog.text
