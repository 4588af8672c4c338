"""The workers: each has a name of its own, and those that live do the work of those that died."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import datetime
from itertools import count

from service.domain.errors import StoreUnavailable
from service.domain.health import Workers

SILENT_SECONDS = 4.0
"""A worker that says nothing for so long is dead; it says something every second."""

log = logging.getLogger(__name__)


class Silence:
    """How long each worker has said nothing new, by our own clock: theirs may go wrong."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        """``now`` gives seconds that only ever grow."""
        self._now = now
        self._heard: dict[str, tuple[datetime, float]] = {}

    def listen(self, beats: Mapping[str, datetime]) -> None:
        """Take note of when the workers say they were last heard of."""
        now = self._now()
        for worker, beat in beats.items():
            if self._heard.get(worker, (None, 0.0))[0] != beat:
                self._heard[worker] = (beat, now)
        for gone in set(self._heard) - set(beats):
            del self._heard[gone]

    def forget(self) -> None:
        """Begin anew: while the store did not answer, nobody could be heard."""
        self._heard.clear()

    def dead(self) -> Mapping[str, datetime]:
        """Those that have been silent for too long, and their last beat."""
        now = self._now()
        return {
            worker: beat
            for worker, (beat, since) in self._heard.items()
            if now - since >= SILENT_SECONDS
        }


class Membership:
    """One worker among the others."""

    def __init__(self, workers: Workers, now: Callable[[], float] = time.monotonic) -> None:
        """Meet the others in ``workers``; ``now`` as for Silence."""
        self._workers = workers
        self._silence = Silence(now)
        self.name = ""

    def join(self, *, alone: bool) -> str:
        """Take the first name that is free; ``alone`` when no other worker can be there."""
        for number in count(1):
            self.name = f"worker-{number}"
            if alone:
                self._workers.leave(self.name)
            if self._workers.join(self.name):
                break
        return self.name

    def beat(self) -> bool:
        """Say that this worker lives; False when others have buried it."""
        return self._workers.beat(self.name)

    def leave(self) -> None:
        """Give the name back."""
        with suppress(StoreUnavailable):
            self._workers.leave(self.name)

    def left_behind(self, executors: Mapping[str, str]) -> set[str]:
        """Of the executors of jobs, those that are dead: buried now, or gone before.

        ``executors`` are asked for before this, so that a worker that joins now is not taken for
        one that is gone.
        """
        try:
            beats = self._workers.beats()
        except StoreUnavailable:
            self._silence.forget()
            raise
        self._silence.listen(beats)
        dead = {
            worker
            for worker, beat in self._silence.dead().items()
            if worker != self.name and self._workers.bury(worker, beat)
        }
        for worker in dead:
            log.warning("%s is dead: it has not been heard of for %g s", worker, SILENT_SECONDS)
        return {one for one in executors.values() if one not in beats or one in dead} - {self.name}
