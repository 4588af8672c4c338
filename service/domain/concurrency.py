"""Many questions to a registry at once, on one small pool of threads for the process."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextvars import copy_context
from functools import cache
from threading import Lock
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")

WIDTH = 16
"""Most items of one call under way at once; the registry adapter sets its own bound besides."""


@cache
def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(max_workers=2 * WIDTH, thread_name_prefix="spread")


# Threads do not survive a fork; the child makes its own pool.
os.register_at_fork(after_in_child=_pool.cache_clear)


def spread(function: Callable[[Item], Result], items: Sequence[Item]) -> list[Result]:
    """Apply ``function`` to all items concurrently; results in order, the first error raised.

    After an error no further item is begun, and nothing is still running when this returns or
    raises. The caller's thread does its share, so a busy pool slows a call down but never stops
    it, and ``function`` may itself call this. Context variables are those of the caller.
    """
    turns = _Turns(len(items))
    results: dict[int, Result] = {}

    def work() -> None:
        for index in turns:
            try:
                results[index] = function(items[index])
            except BaseException as error:  # noqa: BLE001 - raised in the caller's thread
                turns.stop(error)

    helpers = [_help(work) for _ in range(min(WIDTH, len(items)) - 1)]
    try:
        work()
    finally:
        turns.stop()  # an interrupt may have come between two items
        _finish(helpers)
    if turns.error:
        raise turns.error
    return [results[index] for index in range(len(items))]


def _help(work: Callable[[], None]) -> Future[None]:
    return _pool().submit(copy_context().run, work)


def _finish(helpers: Sequence[Future[None]]) -> None:
    # Who has not begun yet is not waited for: behind a long call that could take for ever.
    wait([helper for helper in helpers if not helper.cancel()])


class _Turns:
    """The indexes 0..n-1, each handed out once to whichever thread asks next, until an error."""

    def __init__(self, count: int) -> None:
        self.error: BaseException | None = None
        self._indexes: Iterator[int] = iter(range(count))
        self._lock = Lock()

    def stop(self, error: BaseException | None = None) -> None:
        with self._lock:
            self.error = self.error or error
            self._indexes = iter(())

    def __iter__(self) -> Iterator[int]:
        return self

    def __next__(self) -> int:
        with self._lock:
            return next(self._indexes)
