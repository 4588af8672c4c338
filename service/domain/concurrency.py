"""Many questions to a registry at once, on one small pool of threads for the process."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
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

    After an error no further item is begun. Must not be called from within ``function``: the
    pool is shared, so that could wait forever.
    """
    if len(items) <= 1:
        return [function(item) for item in items]
    turns = _Turns(len(items))
    results: dict[int, Result] = {}

    def work() -> None:
        for index in turns:
            try:
                results[index] = function(items[index])
            except BaseException:
                turns.stop()
                raise

    _finish([_pool().submit(work) for _ in range(min(WIDTH, len(items)))])
    return [results[index] for index in range(len(items))]


def _finish(futures: Sequence[Future[None]]) -> None:
    # Wait for all before raising: nothing of this call may still run when it has ended.
    errors = [error for future in futures if (error := future.exception())]
    if errors:
        raise errors[0]


class _Turns:
    """The indexes 0..n-1, each handed out once to whichever thread asks next."""

    def __init__(self, count: int) -> None:
        self._indexes: Iterator[int] = iter(range(count))
        self._lock = Lock()

    def stop(self) -> None:
        with self._lock:
            self._indexes = iter(())

    def __iter__(self) -> Iterator[int]:
        return self

    def __next__(self) -> int:
        with self._lock:
            return next(self._indexes)
