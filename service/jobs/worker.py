"""The worker: what goes on without anybody asking for it."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from service.domain.health import BEAT_SECONDS, Workers
from service.domain.identity import new_id

RECOVERY_SECONDS = 5.0
"""How long an interrupted deletion may wait for its registry to be back, and then for us."""

log = logging.getLogger(__name__)


def recover_within(recover: Callable[[], int], seconds: float) -> None:
    """Call ``recover``, and leave it behind after ``seconds``: it can be cut off at any point.

    Whatever is left is the worker's.
    """

    def work() -> None:
        try:
            recover()
        except Exception:
            log.exception("interrupted deletions cannot be finished yet")

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join(seconds)
    if thread.is_alive():
        log.warning("interrupted deletions take long to finish; the worker goes on with them")


class Worker:
    """Says that it lives, and finishes what dead processes left, until told to stop."""

    def __init__(self, workers: Workers, recover: Callable[[], int]) -> None:
        """Beat in ``workers``; call ``recover`` every few seconds."""
        self._workers = workers
        self._recover = recover
        self._id = new_id()
        self._stopped = threading.Event()

    def stop(self) -> None:
        """Let :meth:`run` return soon; safe in a signal handler."""
        self._stopped.set()

    def run(self) -> None:
        """Work until stopped."""
        log.info("worker started", extra={"worker": self._id})
        # A thread of its own: a long recovery must not look like death.
        beats = threading.Thread(target=self._repeat, args=(self._beat, BEAT_SECONDS), daemon=True)
        beats.start()
        self._repeat(self._recover, RECOVERY_SECONDS)
        beats.join()
        self._leave()

    def _repeat(self, task: Callable[[], object], seconds: float) -> None:
        failing = False
        while True:
            failing = self._try(task, failing=failing)
            if self._stopped.wait(seconds):
                return

    def _try(self, task: Callable[[], object], *, failing: bool) -> bool:
        """Tell whether it failed; only the first failure in a row is logged in full."""
        try:
            task()
        except Exception as error:
            if not failing:
                log.exception("the worker's task failed, and is tried again")
            else:
                log.debug("the worker's task failed again: %s", error)
            return True
        return False

    def _beat(self) -> None:
        if not self._workers.beat(self._id):
            self._workers.join(self._id)

    def _leave(self) -> None:
        self._try(lambda: self._workers.leave(self._id), failing=False)
        log.info("worker stopped", extra={"worker": self._id})
