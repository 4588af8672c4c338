"""Many questions at once: in order, stopped by the first error, ended when the call has ended."""

from __future__ import annotations

import os
import threading
import time
import warnings
from collections.abc import Callable, Sequence
from contextvars import ContextVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.domain.concurrency import WIDTH, spread

PATIENCE_SECONDS = 20.0


class Broken(Exception):
    """What goes wrong in these tests."""


class Gauge:
    """Counts how many are inside at once."""

    def __init__(self) -> None:
        self.inside = 0
        self.most = 0
        self.begun: list[int] = []
        self._lock = threading.Lock()

    def run(self, number: int, work: Callable[[], object]) -> None:
        with self._lock:
            self.begun.append(number)
            self.inside += 1
            self.most = max(self.most, self.inside)
        try:
            work()
        finally:
            with self._lock:
                self.inside -= 1


@given(st.lists(st.integers(), max_size=60))
def test_results_come_in_the_order_of_the_items(numbers: list[int]) -> None:
    assert spread(lambda number: number * 2, numbers) == [number * 2 for number in numbers]


def test_order_holds_when_the_first_takes_longest() -> None:
    last_begun = threading.Event()

    def answer(number: int) -> int:
        if number == 5:
            last_begun.set()
        if number == 0:
            assert last_begun.wait(PATIENCE_SECONDS)
        return number

    assert spread(answer, range(6)) == list(range(6))


def test_as_many_as_the_width_run_at_once_and_no_more() -> None:
    gauge, all_in = Gauge(), threading.Barrier(WIDTH)

    def together(number: int) -> None:
        gauge.run(number, lambda: all_in.wait(PATIENCE_SECONDS))

    spread(together, range(3 * WIDTH))
    assert gauge.most == WIDTH


def test_the_error_raised_is_the_one_that_came_first() -> None:
    first_raised = threading.Event()

    def fail(number: int) -> None:
        if number == 3:
            try:
                raise Broken(number)
            finally:
                first_raised.set()
        assert first_raised.wait(PATIENCE_SECONDS)
        time.sleep(0.3)  # lets the first one be noted
        raise Broken(number)

    with pytest.raises(Broken) as caught:
        spread(fail, range(4))
    assert caught.value.args == (3,)


@pytest.mark.parametrize("error", [Broken, KeyboardInterrupt, SystemExit])
def test_nothing_is_begun_after_an_error(error: type[BaseException]) -> None:
    gauge, all_in = Gauge(), threading.Barrier(WIDTH)

    def fail(number: int) -> None:
        def work() -> None:
            all_in.wait(PATIENCE_SECONDS)
            raise error(number)

        gauge.run(number, work)

    with pytest.raises(error):
        spread(fail, range(10 * WIDTH))
    assert sorted(gauge.begun) == list(range(WIDTH))


@pytest.mark.parametrize("error", [Broken, KeyboardInterrupt, SystemExit])
def test_an_error_in_another_thread_is_raised_to_the_caller(error: type[BaseException]) -> None:
    caller, both_in = threading.current_thread(), threading.Barrier(2)

    def fail_elsewhere(_number: int) -> None:
        both_in.wait(PATIENCE_SECONDS)
        if threading.current_thread() is not caller:
            raise error

    with pytest.raises(error):
        spread(fail_elsewhere, range(2))


def test_nothing_runs_any_more_when_the_error_is_raised() -> None:
    gauge, both_in = Gauge(), threading.Barrier(2)

    def fail(number: int) -> None:
        def work() -> None:
            both_in.wait(PATIENCE_SECONDS)
            if number == 0:
                raise Broken
            time.sleep(0.2)

        gauge.run(number, work)

    with pytest.raises(Broken):
        spread(fail, range(2))
    assert sorted(gauge.begun) == [0, 1]
    assert gauge.inside == 0


def test_calls_within_calls_do_not_wait_for_each_other_for_ever() -> None:
    def inner(number: int) -> int:
        return sum(spread(lambda other: number * other, range(4)))

    def outer(number: int) -> int:
        return sum(spread(inner, range(number, number + 4)))

    def plain(number: int) -> int:
        return sum(6 * one for one in range(number, number + 4))

    assert spread(outer, range(5 * WIDTH)) == [plain(number) for number in range(5 * WIDTH)]


def test_a_call_goes_on_although_others_have_all_threads_of_the_pool() -> None:
    release, begun = threading.Event(), threading.Semaphore(0)

    def hold(_number: int) -> None:
        begun.release()
        release.wait(PATIENCE_SECONDS)

    holders = [threading.Thread(target=spread, args=(hold, range(100))) for _ in range(3)]
    for holder in holders:
        holder.start()
    for _ in range(2 * WIDTH + 3):  # the pool's threads, and the callers' own
        assert begun.acquire(timeout=PATIENCE_SECONDS)
    try:
        assert spread(lambda number: -number, range(40)) == [-number for number in range(40)]
        assert not release.is_set()
    finally:
        release.set()
        for holder in holders:
            holder.join()


REQUEST: ContextVar[str] = ContextVar("REQUEST", default="none")


def test_context_goes_along_to_every_item() -> None:
    token = REQUEST.set("mine")
    all_in = threading.Barrier(4)

    def named(_number: int) -> str:
        all_in.wait(PATIENCE_SECONDS)
        return REQUEST.get()

    try:
        assert spread(named, range(4)) == ["mine"] * 4
    finally:
        REQUEST.reset(token)


def test_a_forked_child_can_ask_as_its_parent_did() -> None:
    assert _together(range(4))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # threads and forks: the very point
        child = os.fork()
    if not child:
        os._exit(0 if _together(range(4)) else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def _together(numbers: Sequence[int]) -> bool:
    """Tell whether all numbers are worked on at once, as they can be with threads alone."""
    all_in = threading.Barrier(len(numbers))
    try:
        spread(lambda _number: all_in.wait(PATIENCE_SECONDS), numbers)
    except threading.BrokenBarrierError:
        return False
    return True
