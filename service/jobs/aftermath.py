"""What is left of jobs that died for good, or ended without having put everything back.

Whatever is found is done under the job's lock, so never beside the job itself or another one that
works on the same thing.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from datetime import timedelta
from functools import partial
from typing import Protocol

from service.domain import problem
from service.domain.errors import InternalError, JobDied, RegistryAdminError
from service.domain.identity import new_id
from service.domain.job import Compensator, Job, JobState, LogLevel, Tell
from service.domain.job_records import Compensation, Ending, JobRecords, Unended
from service.jobs.locks import held, lock_name
from service.jobs.patience import OUTCOME_SECONDS, patiently
from service.jobs.running import Ground, Running

QUEUED_FOR = timedelta(minutes=1)
"""How long a job may wait before it is asked whether it still has its place in the queue."""

LOOKED_AT = 500
"""Most jobs of a state that are looked at in one sweep."""

DIED = "The worker died in the middle of the job, and it is not tried again."

log = logging.getLogger(__name__)


class Places(Protocol):
    """The queue, as far as jobs are in it."""

    def alive(self, job_ids: Collection[str]) -> Collection[str]:
        """Those of the jobs that wait or run, or will be run again."""


def failure(job: Job, error: Exception) -> Ending:
    """End a job by an error: its problem document; what was not foreseen is logged."""
    if not isinstance(error, RegistryAdminError):
        log.error("the job %s failed unforeseen", job.id, exc_info=error)
        error = InternalError(f"The service made a mistake; its log tells more under {job.id}.")
    row = problem.row_of(type(error))
    document = problem.document(error, row, f"/v1/jobs/{job.id}", job.request_id)
    return Ending("failed", error=document)


def end(records: JobRecords, job_id: str, run: str, endings: Sequence[Ending]) -> Ending | None:
    """End a job by the first of ``endings``, or if it was cancelled by the second.

    None when ``run`` may not, or no more since the store's answer to it got lost.
    """
    for ending in endings:
        final = ending is endings[-1] or ending.state == "cancelled"
        write = partial(records.finish, job_id, run, ending, unless_cancelled=not final)
        if patiently(write, OUTCOME_SECONDS):
            return ending
    return None


def words(error: Exception) -> str:
    """Say what an error is in a job's log: those of the rules tell, others are named."""
    return str(error) if isinstance(error, RegistryAdminError) else type(error).__name__


class Aftermath:
    """Puts back what dead jobs left, and ends them."""

    def __init__(
        self, ground: Ground, places: Places, compensators: Mapping[str, Compensator]
    ) -> None:
        """Ask ``places`` which jobs still are in the queue."""
        self._ground = ground
        self._records = ground.records
        self._places = places
        self._compensators = compensators
        self._warned: set[str] = set()

    def sweep(self) -> None:
        """Look for dead jobs and for what was left; what cannot be done now is left again."""
        for one in self._dead():
            self._locked(one.id, one.exclusive, self._bury)
        for left in self._records.compensations():
            if left.job.ended:
                self._locked(left.job.id, left.exclusive, self._put_back_late)

    def clear_way(self, job: Job, exclusive: str) -> None:
        """Put back what other jobs left of the thing that ``job`` is about to work on.

        To be called under the lock. Raise what keeps it from being put back.
        """
        mine = [left for left in self._records.compensations() if left.exclusive == exclusive]
        for other in {left.job.id for left in mine} - {job.id}:
            self._bury(other)
            errors = self._put_back_late(other)
            if errors:
                raise errors[0]

    def put_back(self, job: Job, run: str | None, tell: Tell) -> list[Exception]:
        """Put back what a job left, the newest first; give what failed, and keep that."""
        errors = []
        for left in reversed(patiently(lambda: self._records.compensations_of(job.id))):
            try:
                self._compensators[left.kind](job, left.data, tell)
            except Exception as error:  # noqa: BLE001 - whatever it is, it is tried again
                tell("error", f"{left.kind} failed, and is tried again: {words(error)}")
                errors.append(error)
            else:
                self._settle(left, run)
                tell("info", f"{left.kind} done")
        return errors

    def _settle(self, left: Compensation, run: str | None) -> None:
        patiently(lambda: self._records.settle(left.job.id, [left.kind], run))

    def end_dead(self, running: Running, run: str) -> list[Ending]:
        """Put back what a dead job left; say how it ends, and how if it was cancelled."""
        running.log("error", DIED)
        errors = self.put_back(running.job, run, running.log)
        ending = failure(running.job, JobDied(f"{DIED} {_state_of_things(errors)}"))
        return [ending] if errors else [ending, Ending("cancelled")]

    def _dead(self) -> Iterator[Unended]:
        patience = self._ground.clock.now() - QUEUED_FOR
        yield from self._without_place("running", lambda _: True)
        yield from self._without_place("queued", lambda one: one.created_at < patience)

    def _without_place(
        self, state: JobState, wanted: Callable[[Unended], bool]
    ) -> Iterator[Unended]:
        found = [one for one in self._records.unended(state, LOOKED_AT) if wanted(one)]
        alive = self._places.alive([one.id for one in found]) if found else ()
        yield from (one for one in found if one.id not in alive)

    def _locked(self, job_id: str, exclusive: str | None, task: Callable[[str], object]) -> None:
        with held(self._ground.locks, lock_name(job_id, exclusive)) as mine:
            if mine:
                task(job_id)

    def _bury(self, job_id: str) -> None:
        """End a job that is dead; nothing happens to one that lives, or has ended."""
        if self._places.alive([job_id]):
            return
        run = new_id()
        started = self._records.start(job_id, run)
        if started is None:
            return
        log.warning("the job %s died for good", job_id)
        running = Running(self._ground, started, run)
        endings = self.end_dead(running, run)
        running.close()
        end(self._records, job_id, run, endings)

    def _put_back_late(self, job_id: str) -> list[Exception]:
        def tell(level: LogLevel, message: str) -> None:
            # A failure is met again every few seconds, until what it is about is back.
            if level != "error":
                self._records.note(job_id, level, message)
            elif message not in self._warned:
                self._warned.add(message)
                log.warning("job %s: %s", job_id, message)

        job = self._records.get(job_id)
        return self.put_back(job, None, tell) if job.ended else []


def _state_of_things(errors: list[Exception]) -> str:
    if not errors:
        return "Whatever it had changed for the time being is as it was before."
    return (
        "What it had changed for the time being could not be put back yet, which is tried again "
        f"every few seconds: {'; '.join(map(words, errors))}"
    )
