"""What goes on without anybody asking for it."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

log = logging.getLogger(__name__)


class Tasks:
    """Does things over and over, each in a thread of its own, until told to stop."""

    def __init__(self) -> None:
        """Do nothing yet."""
        self._stopped = threading.Event()
        self._threads: list[threading.Thread] = []

    def every(self, seconds: float, task: Callable[[], object]) -> None:
        """Do ``task`` at once, and again ``seconds`` after its end, whether it failed or not."""
        # A thread each: one that takes long must not keep the others from being done.
        thread = threading.Thread(target=self._repeat, args=(task, seconds), daemon=True)
        self._threads.append(thread)
        thread.start()

    def stop(self, seconds: float) -> None:
        """Begin nothing any more; wait for what is being done, ``seconds`` for each at most."""
        self._stopped.set()
        for thread in self._threads:
            thread.join(seconds)

    def _repeat(self, task: Callable[[], object], seconds: float) -> None:
        failing = False
        while not self._stopped.is_set():
            failing = _try(task, failing=failing)
            self._stopped.wait(seconds)


def _try(task: Callable[[], object], *, failing: bool) -> bool:
    """Tell whether it failed; only the first failure in a row is logged in full."""
    try:
        task()
    except Exception as error:
        if not failing:
            log.exception("a task of the worker failed, and is tried again")
        else:
            log.debug("a task of the worker failed again: %s", error)
        return True
    return False


def within(task: Callable[[], object], seconds: float, what: str) -> None:
    """Do ``task``, and leave it behind after ``seconds``: it can be cut off at any point.

    Whatever is left is done by a worker's task later on.
    """

    def work() -> None:
        try:
            task()
        except Exception:
            log.exception("%s cannot be finished yet", what)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join(seconds)
    if thread.is_alive():
        log.warning("%s take long to finish; the worker goes on with them", what)
