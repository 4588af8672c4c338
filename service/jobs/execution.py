"""One job from its turn in the queue to its end."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from service import tracing
from service.domain.errors import InternalError, JobUnknown
from service.domain.identity import new_id
from service.domain.job import Cancelled, Job, Work
from service.domain.job_records import Ending, Started
from service.jobs.aftermath import Aftermath, end, failure, words
from service.jobs.locks import held, lock_name
from service.jobs.patience import OUTCOME_SECONDS, patiently
from service.jobs.running import Ground, OnStep, Pulse, Running, Superseded, nothing
from service.log import REQUEST_ID, milliseconds

ATTEMPTS_LIMIT = 10
"""How often a job is begun: a service that is killed over and over still gets its jobs done, and
a job that kills its worker each time ends."""

TURN_SECONDS = 5.0
RESULT_LIMIT = 32 * 1024 * 1024
"""Bytes of a result as JSON."""

log = logging.getLogger(__name__)


class Execution:
    """Runs jobs by their ids. Safe between threads."""

    def __init__(
        self,
        ground: Ground,
        aftermath: Aftermath,
        works: Mapping[str, Work],
        on_step: OnStep = nothing,
    ) -> None:
        """Do what ``works`` says for each kind."""
        self._ground = ground
        self._records = ground.records
        self._aftermath = aftermath
        self._works = works
        self._on_step = on_step
        self.pulse = Pulse(ground.records)
        self.active: set[str] = set()

    def run(self, job_id: str, exclusive: str | None) -> None:
        """Run a job to its end; nothing happens when it has ended. Raise Superseded.

        It waits for whoever still works on the same thing, though the queue thinks nobody does.
        """
        with self._noted(job_id):
            name = lock_name(job_id, exclusive)
            while not self._is_over(job_id):
                with held(self._ground.locks, name, TURN_SECONDS, OUTCOME_SECONDS) as mine:
                    if mine:
                        self._take(job_id, exclusive)
                        return

    def _is_over(self, job_id: str) -> bool:
        try:
            return patiently(lambda: self._records.get(job_id), OUTCOME_SECONDS).ended
        except JobUnknown:
            return True

    def _take(self, job_id: str, exclusive: str | None) -> None:
        run = new_id()
        started = patiently(lambda: self._records.start(job_id, run), OUTCOME_SECONDS)
        if started is None:
            return
        REQUEST_ID.set(started.job.request_id)
        log.info("job begins", extra=_about(started))
        begun = time.perf_counter()
        running = Running(self._ground, started, run, self._on_step)
        with self.pulse.watching(running), tracing.job(started.job.kind, _about(started)):
            endings = self._endings(running, started, run, exclusive)
            running.close()
        ended = self._finish(job_id, run, endings)
        took: dict[str, object] = {
            "state": ended.state,
            "duration_ms": milliseconds(time.perf_counter() - begun),
        }
        log.info("job ended", extra={**_about(started), **took})

    def _endings(
        self, running: Running, started: Started, run: str, exclusive: str | None
    ) -> Sequence[Ending]:
        """How the job ends: the first, unless it was cancelled and there is a second."""
        if started.attempts > ATTEMPTS_LIMIT:
            return self._aftermath.end_dead(running, run)
        if running.rerun:
            running.log("warning", "The worker died in the middle of the job, which begins anew.")
        ending = self._outcome(running, exclusive)
        errors = self._aftermath.put_back(running.job, run, running.log)
        if errors:
            return [ending if ending.state == "failed" else failure(running.job, errors[0])]
        # Whoever was told that the job ends cancelled is not let down, as all is put back.
        return [ending, Ending("cancelled", ending.result)]

    def _outcome(self, running: Running, exclusive: str | None) -> Ending:
        try:
            if exclusive is not None:
                self._aftermath.clear_way(running.job, exclusive)
            return Ending("succeeded", _checked(self._work(running.job).run(running)))
        except Cancelled as cancelled:
            running.log("info", "cancelled")
            return Ending("cancelled", cancelled.result)
        except Superseded:
            raise
        except Exception as error:  # noqa: BLE001 - every error is how a job ends
            running.log("error", words(error))
            return failure(running.job, error)

    def _work(self, job: Job) -> Work:
        if job.kind not in self._works:
            raise InternalError(f"This version of the service knows no jobs of kind {job.kind}.")
        return self._works[job.kind]

    def _finish(self, job_id: str, run: str, endings: Sequence[Ending]) -> Ending:
        ended = end(self._records, job_id, run, endings)
        if ended is None and not self._is_over(job_id):
            raise Superseded(job_id)
        return ended or endings[0]

    @contextmanager
    def _noted(self, job_id: str) -> Iterator[None]:
        self.active.add(job_id)
        try:
            yield
        finally:
            self.active.discard(job_id)


def _about(started: Started) -> dict[str, str | int | None]:
    job = started.job
    return {
        "job": job.id,
        "kind": job.kind,
        "attempt": started.attempts,
        "actor": job.requested_by,
        "registry": job.registry,
        "container": job.container,
    }


def _checked(result: Mapping[str, object]) -> Mapping[str, object]:
    """Refuse what is no JSON, or too much of it."""
    if len(json.dumps(result)) > RESULT_LIMIT:
        raise InternalError("The job's work is done, but its result is too large to be kept.")
    return result
