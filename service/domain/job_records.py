"""What the job engine needs of the store: jobs as rows, and the right to write to a running one.

Whoever runs a job, or puts back what a dead one left, first takes it by :meth:`JobRecords.start`
with a token of its own. From then on only that token writes: an earlier execution that turns out
to live still is told False, and must not go on.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, Protocol

from service.domain.audit import Change
from service.domain.job import (
    Figures,
    Job,
    JobQuery,
    JobRequest,
    JobState,
    LogLevel,
    LogLine,
    Progress,
)

Enqueue = Callable[[object], None]
"""Puts a job into the queue within the transaction it is given: the store's own connection."""


@dataclass(frozen=True, slots=True)
class NewJob:
    """A job to be stored. ``key`` is the hash of its idempotency key and of who sent that.

    ``fingerprint`` tells one request from another. ``single`` is shared by no two active jobs.
    """

    id: str
    request: JobRequest
    created_at: datetime
    fingerprint: str
    key: str | None = None
    single: str | None = None


@dataclass(frozen=True, slots=True)
class Started:
    """A job just taken. ``attempts`` counts this time, ``last_seq`` is its last line of log."""

    job: Job
    attempts: int
    last_seq: int


@dataclass(frozen=True, slots=True)
class Look:
    """What whoever runs a job should know now: who may write to it, and whether to stop."""

    run: str | None
    cancel_requested: bool


@dataclass(frozen=True, slots=True)
class Ending:
    """How a job ends."""

    state: JobState
    result: Mapping[str, Any] | None = None
    error: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Unended:
    """A job that has not ended, and what excludes it from others."""

    id: str
    state: JobState
    exclusive: str | None
    created_at: datetime


@dataclass(frozen=True, slots=True)
class Compensation:
    """What must be put back, of which job."""

    job: Job
    exclusive: str | None
    kind: str
    data: Mapping[str, Any]


Cancellation = Literal["cancelled", "requested", "refused"]


class JobRecords(Protocol):
    """Jobs in the store. Every method may raise StoreUnavailable."""

    def known(self, new: NewJob) -> Job | None:
        """The job that is there already for its key, if any; raise IdempotencyKeyReused."""

    def add(self, change: Change, new: NewJob, enqueue: Enqueue) -> Job:
        """Store a job and put it into the queue, both or neither.

        Give the job that is there already for its key; raise IdempotencyKeyReused when that has
        another fingerprint, JobAlreadyActive when an active one has the same ``single``.
        """

    def get(self, job_id: str) -> Job:
        """One job; raise JobUnknown."""

    def page(self, query: JobQuery, n: int, last: str | None) -> Sequence[Job]:
        """At most ``n`` jobs older than ``last``, newest first, large results left out."""

    def log(self, job_id: str, after: int, n: int) -> Sequence[LogLine]:
        """At most ``n`` lines with ``seq`` beyond ``after``; raise JobUnknown."""

    def active(self, kind: str, registry: str) -> Job | None:
        """The queued or running job of that kind for a registry, if any."""

    def cancel(self, change: Change, job_id: str) -> Cancellation:
        """Cancel a queued job, ask a running one to stop, or refuse."""

    def start(self, job_id: str, run: str) -> Started | None:
        """Take a job under the token ``run``; None when it has ended, or is gone."""

    def look(self, job_ids: Collection[str]) -> Mapping[str, Look]:
        """How running jobs are; those that are gone are left out."""

    def write(
        self, job_id: str, run: str, progress: Progress | None, lines: Sequence[LogLine]
    ) -> bool:
        """Store progress and log; False when ``run`` may not."""

    def pass_return(self, job_id: str, run: str) -> bool:
        """Make a job uncancellable; False when it is to be cancelled, or ``run`` may not."""

    def compensate(self, job_id: str, run: str, kind: str, data: Mapping[str, Any]) -> bool:
        """Store what must be put back, in place of what is stored of that kind; False as above."""

    def settle(self, job_id: str, kinds: Collection[str] | None, run: str | None) -> bool:
        """Forget what must be put back, some kinds or with None all; False as above.

        ``run`` is None for a job that has ended.
        """

    def note(self, job_id: str, level: LogLevel, message: str) -> None:
        """Add a line to the log of a job that nobody runs."""

    def finish(self, job_id: str, run: str, ending: Ending, *, unless_cancelled: bool) -> bool:
        """End a job; False when ``run`` may not, or somebody cancelled it and that matters."""

    def unended(self, state: JobState, n: int) -> Sequence[Unended]:
        """The oldest jobs in a state."""

    def compensations(self) -> Sequence[Compensation]:
        """Everything that must be put back, oldest first, of jobs that run or have ended."""

    def compensations_of(self, job_id: str) -> Sequence[Compensation]:
        """The same, of one job."""

    def expired(self, before: datetime, n: int) -> Sequence[str]:
        """Ids of jobs that ended before a time and left nothing to put back, oldest first."""

    def forget(self, job_ids: Collection[str]) -> None:
        """Delete jobs with their logs."""

    def figures(self) -> Figures:
        """Jobs in numbers."""
