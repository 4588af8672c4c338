"""Long work: jobs, what they tell while they run, and what must be undone if they die."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal, Protocol, get_args

from service.domain.audit import Change

JobState = Literal["queued", "running", "succeeded", "failed", "cancelled"]
LogLevel = Literal["debug", "info", "warning", "error"]
STATES: tuple[JobState, ...] = get_args(JobState)
ENDED: frozenset[JobState] = frozenset({"succeeded", "failed", "cancelled"})


class Cancelled(Exception):
    """Raised by a job, or for it, to end as ``cancelled``; ``result`` tells what it had done."""

    def __init__(self, result: Mapping[str, Any] | None = None) -> None:
        """Keep what was done."""
        super().__init__("The job was cancelled.")
        self.result = result


@dataclass(frozen=True, slots=True)
class JobKind:
    """What all jobs of one kind have in common.

    ``scope`` is what starting or cancelling one takes. With ``single`` no second one is accepted
    while one for the same ``exclusive`` thing is queued or runs. ``bulk`` ones are many and long:
    only a few of them run at once.
    """

    name: str
    scope: str
    single: bool = False
    bulk: bool = False


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a job is: ``phase`` is the name of its step; None where a number is not known."""

    phase: str
    done: int | None = None
    total: int | None = None


@dataclass(frozen=True, slots=True)
class JobRequest:
    """A job to be done. ``exclusive`` names what no two jobs may work on at once, or None."""

    kind: str
    params: Mapping[str, Any]
    requested_by: str
    registry: str | None = None
    container: str | None = None
    request_id: str | None = None
    idempotency_key: str | None = None
    exclusive: str | None = None


@dataclass(frozen=True, slots=True)
class Job:
    """A job as stored. ``error`` is a problem document."""

    id: str
    kind: str
    state: JobState
    registry: str | None
    container: str | None
    params: Mapping[str, Any]
    requested_by: str
    request_id: str | None
    created_at: datetime
    started_at: datetime | None = None
    finished_at: datetime | None = None
    progress: Progress | None = None
    result: Mapping[str, Any] | None = None
    error: Mapping[str, Any] | None = None
    cancel_requested: bool = False

    @property
    def ended(self) -> bool:
        """Tell whether nothing more will happen to it."""
        return self.state in ENDED


@dataclass(frozen=True, slots=True)
class Figures:
    """Jobs in numbers, over all processes.

    ``counts`` by kind and state: of those that have ended, all there ever were. ``oldest_queued``
    is when the job was accepted that has waited longest. ``bytes_freed`` by registry, ever.
    """

    counts: Mapping[tuple[str, JobState], int]
    oldest_queued: datetime | None
    bytes_freed: Mapping[str, int]


def bytes_freed(result: Mapping[str, Any] | None) -> int:
    """Return the bytes that a job with this result has freed: 0 unless it collected garbage."""
    freed = result.get("bytes_freed") if result and not result.get("dry_run") else None
    return freed if isinstance(freed, int) else 0


@dataclass(frozen=True, slots=True)
class LogLine:
    """A line of a job's log; ``seq`` counts from 1."""

    seq: int
    time: datetime
    level: LogLevel
    message: str


@dataclass(frozen=True, slots=True)
class JobQuery:
    """Filters of the list of jobs; None matches all."""

    kind: str | None = None
    state: JobState | None = None
    registry: str | None = None
    container: str | None = None
    registries: Sequence[str] = field(default_factory=tuple)
    """The caller's limits: jobs of these registries alone; empty means no limit."""


class Jobs(Protocol):
    """The queue of jobs: kept whatever dies, each run to its end, exclusive ones never at once."""

    def submit(self, change: Change, request: JobRequest) -> Job:
        """Accept a job, durably; raise IdempotencyKeyReused, or JobAlreadyActive (exclusive kinds).

        The same idempotency key with the same request gives the job that is there already.
        """

    def known(self, request: JobRequest) -> Job | None:
        """The job that the same request with the same idempotency key was answered by, if any.

        Whatever has changed since: it is asked for before anything else about the request. Raise
        IdempotencyKeyReused.
        """

    def kind(self, name: str) -> JobKind:
        """What jobs of a kind have in common; raise ValueError for one that nobody would run."""

    def get(self, job_id: str) -> Job:
        """One job; raise JobUnknown."""

    def page(self, query: JobQuery, n: int, last: str | None) -> Sequence[Job]:
        """At most ``n`` jobs older than ``last``, newest first."""

    def log(self, job_id: str, after: int, n: int) -> Sequence[LogLine]:
        """At most ``n`` lines with ``seq`` beyond ``after``; raise JobUnknown."""

    def cancel(self, change: Change, job_id: str) -> Job:
        """Ask a job to end as ``cancelled``; raise JobUnknown or JobNotCancellable."""

    def active(self, kind: str, registry: str) -> Job | None:
        """The queued or running job of that kind for a registry, if any."""

    def figures(self) -> Figures:
        """Jobs in numbers; every kind there is has one for each state."""


class JobContext(Protocol):
    """What a running job is given. All of it is kept, so that a re-run goes on from there."""

    @property
    def job(self) -> Job:
        """The job."""

    @property
    def rerun(self) -> bool:
        """True when an earlier process died in the middle of this job."""

    def step(self, name: str) -> None:
        """Say that the step of that name begins: progress, log, and where tests kill."""

    def progress(self, done: int, total: int | None) -> None:
        """Say how far the step is."""

    def log(self, level: LogLevel, message: str) -> None:
        """Write a line of the job's log."""

    def cancel_requested(self) -> bool:
        """Tell whether somebody asked to cancel: then stop where it is safe, raise Cancelled."""

    def beyond_return(self) -> None:
        """Say that from here on the job cannot be cancelled; raise Cancelled if it already was."""

    def compensate(self, kind: str, data: Mapping[str, Any]) -> None:
        """Store, before things are touched, what puts them back: a compensator's name, its data.

        It is called if the job dies for good or ends without saying that all is settled. The same
        kind again replaces the data.
        """

    def left(self, kind: str) -> Mapping[str, Any] | None:
        """The data of that compensation as an earlier run left it, or this one; None if settled."""

    def settled(self, *kinds: str) -> None:
        """Say that things are as they were: nothing of ``kinds`` is left to undo, or at all."""


Runner = Callable[[JobContext], Mapping[str, Any]]
"""Does a job and returns its result (JSON). It may be run again after a crash, from the start."""

Tell = Callable[[LogLevel, str], None]
"""Writes a line of a job's log."""

Compensator = Callable[[Job, Mapping[str, Any], Tell], None]
"""Puts things back from the data a job left. May be called any number of times, and may raise."""


@dataclass(frozen=True, slots=True)
class Work:
    """A kind of job with what does it, and the compensators that its jobs name."""

    kind: JobKind
    run: Runner
    compensators: Mapping[str, Compensator] = field(default_factory=dict)
