"""Holding an answer until something happens, with a bound to how many threads may do so."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from flask import current_app

from service.api import context

KEY = "registry-admin-waiting"
FIRST_PAUSE_SECONDS = 0.05
LONGEST_PAUSE_SECONDS = 0.4
SHARE = 2
"""One of so many threads of a process may be held; the others are for quick answers."""

_stopping = threading.Event()


def stop() -> None:
    """Let everybody go who waits in this process: it is to end."""
    _stopping.set()


@contextmanager
def place() -> Iterator[bool]:
    """Take a place among those that wait; tell whether there was one."""
    places: threading.Semaphore = current_app.extensions.setdefault(KEY, _places())
    mine = places.acquire(blocking=False)
    try:
        yield mine
    finally:
        if mine:
            places.release()


def _places() -> threading.Semaphore:
    return threading.Semaphore(max(1, context.services().settings.threads // SHARE))


class Pauses:
    """Pauses that grow, until a time is over or the process is to end."""

    def __init__(self, seconds: float) -> None:
        """Last ``seconds`` in all."""
        self._deadline = time.monotonic() + seconds
        self._pause = FIRST_PAUSE_SECONDS

    def over(self) -> bool:
        """Pause; True, without a pause, when it is time to give up."""
        left = self._deadline - time.monotonic()
        if left <= 0 or _stopping.is_set():
            return True
        # Whoever is told to stop need not be told at once.
        time.sleep(min(self._pause, left))
        self._pause = min(1.3 * self._pause, LONGEST_PAUSE_SECONDS)
        return False

    def restart(self) -> None:
        """Pause shortly again, since something has happened."""
        self._pause = FIRST_PAUSE_SECONDS
