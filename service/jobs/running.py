"""A running job: what its runner is given, and what of it is written when.

Log and progress are kept in memory and written by :class:`Pulse`, four times a second at most;
the beginning of a step is written before the step begins.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple

from service.domain.errors import StoreUnavailable
from service.domain.job import Cancelled, Job, LogLevel, LogLine, Progress
from service.domain.job_records import JobRecords, Look, Started
from service.domain.ports import Clock, Locks
from service.jobs.patience import OUTCOME_SECONDS, patiently
from service.log import redact

PULSE_SECONDS = 0.25
MESSAGE_LIMIT = 4000
"""Characters of a line of a job's log."""

LINES_LIMIT = 100_000
"""Lines of a job's log."""

log = logging.getLogger(__name__)


class Ground(NamedTuple):
    """What everything about jobs stands on."""

    records: JobRecords
    locks: Locks
    clock: Clock


OnStep = Callable[[Job, str], None]
"""Called when a step of a job begins and that is written."""


def nothing(_job: Job, _step: str) -> None:
    """Take no notice of a step."""


class Superseded(Exception):
    """Another worker has taken the job over, since this one seemed dead: stop at once."""


class Running:
    """The port ``JobContext``. Safe between threads."""

    def __init__(
        self,
        ground: Ground,
        started: Started,
        run: str,
        on_step: OnStep = nothing,
    ) -> None:
        """Write under the token ``run``; call ``on_step``."""
        self._started = started
        self._run = run
        self._records = ground.records
        self._clock = ground.clock
        self._on_step = on_step
        self._state = threading.Lock()
        self._writing = threading.Lock()  # lines are written in order, by one at a time
        self._seq = started.last_seq
        self._lines: list[LogLine] = []  # not written yet, as is the progress
        self._progress: Progress | None = None
        self._phase = ""
        self._cancel_requested = started.job.cancel_requested
        self._superseded = False
        self._closed = False

    @property
    def job(self) -> Job:
        """See the port."""
        return self._started.job

    @property
    def rerun(self) -> bool:
        """See the port."""
        return self._started.attempts > 1

    def step(self, name: str) -> None:
        """See the port; raise Superseded, as all of them may."""
        with self._state:
            self._phase, self._progress = name, Progress(name)
        self.log("info", name)
        patiently(self.flush)
        self._require_mine()
        self._on_step(self.job, name)

    def progress(self, done: int, total: int | None) -> None:
        """See the port."""
        self._require_mine()
        with self._state:
            self._progress = Progress(self._phase, done, total)

    def log(self, level: LogLevel, message: str) -> None:
        """See the port; what is too long is cut, what could be a secret hidden."""
        self._require_mine()
        with self._state:
            if self._seq < LINES_LIMIT:
                self._append(level, message)
            if self._seq == LINES_LIMIT - 1:
                self._append("warning", "The log is full; nothing more is written.")

    def cancel_requested(self) -> bool:
        """See the port; as known since the last pulse."""
        self._require_mine()
        return self._cancel_requested

    def beyond_return(self) -> None:
        """See the port."""
        if not patiently(lambda: self._records.pass_return(self.job.id, self._run)):
            self.seen(patiently(lambda: self._records.look([self.job.id])).get(self.job.id))
            self._require_mine()
            raise Cancelled

    def compensate(self, kind: str, data: Mapping[str, Any]) -> None:
        """See the port."""
        self._require_mine()
        write = self._records.compensate
        self._must(patiently(lambda: write(self.job.id, self._run, kind, data)))

    def left(self, kind: str) -> Mapping[str, Any] | None:
        """See the port."""
        stored = patiently(lambda: self._records.compensations_of(self.job.id))
        return next((one.data for one in stored if one.kind == kind), None)

    def settled(self, *kinds: str) -> None:
        """See the port."""
        self._require_mine()
        settle = self._records.settle
        self._must(patiently(lambda: settle(self.job.id, kinds or None, self._run)))

    def flush(self) -> None:
        """Write what has not been written; raise StoreUnavailable, and keep it then."""
        with self._writing:
            with self._state:
                lines, progress = list(self._lines), self._progress
            if (lines or progress) and not self._closed and not self._superseded:
                self._write(lines, progress)

    def seen(self, look: Look | None) -> None:
        """Take note of how the job is in the store."""
        if not self._closed:
            self._superseded = self._superseded or look is None or look.run != self._run
            self._cancel_requested = look is not None and look.cancel_requested

    def close(self) -> None:
        """Write the rest; nothing is written any more after that."""
        patiently(self.flush, OUTCOME_SECONDS)
        self._closed = True
        self._require_mine()

    def _write(self, lines: list[LogLine], progress: Progress | None) -> None:
        if not self._records.write(self.job.id, self._run, progress, lines):
            self._superseded = True
            return
        with self._state:
            del self._lines[: len(lines)]
            self._progress = None if self._progress is progress else self._progress

    def _append(self, level: LogLevel, message: str) -> None:
        self._seq += 1
        cut = redact(message)[:MESSAGE_LIMIT]
        self._lines.append(LogLine(self._seq, self._clock.now(), level, cut))

    def _must(self, done: bool) -> None:  # noqa: FBT001 - the answer of the store
        self._superseded = self._superseded or not done
        self._require_mine()

    def _require_mine(self) -> None:
        if self._superseded:
            raise Superseded(self.job.id)


class Pulse:
    """Writes what the running jobs have to say, and finds out what was said to them."""

    def __init__(self, records: JobRecords) -> None:
        """Ask ``records``; nothing is asked while no job runs."""
        self._records = records
        self._running: dict[str, Running] = {}
        self._state = threading.Lock()
        self._busy = threading.Event()
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._go_on, name="pulse", daemon=True)

    def start(self) -> None:
        """Begin, in a thread of its own."""
        self._thread.start()

    def stop(self) -> None:
        """End; what has not been written by then is not."""
        self._stopped.set()
        self._busy.set()
        self._thread.join()

    @contextmanager
    def watching(self, running: Running) -> Iterator[None]:
        """Look after a job within the block."""
        with self._state:
            self._running[running.job.id] = running
            self._busy.set()
        try:
            yield
        finally:
            with self._state:
                del self._running[running.job.id]
                if not self._running and not self._stopped.is_set():
                    self._busy.clear()

    def _go_on(self) -> None:
        while not self._stopped.is_set():
            self._busy.wait()
            try:
                self.beat()
            except StoreUnavailable:
                log.debug("the store does not answer; what was not written is kept")
            except Exception:
                log.exception("the pulse of jobs missed a beat")
            self._stopped.wait(PULSE_SECONDS)

    def beat(self) -> None:
        """Do it once."""
        with self._state:
            running = list(self._running.values())
        looks = self._records.look([one.job.id for one in running])
        for one in running:
            one.seen(looks.get(one.job.id))
            one.flush()
