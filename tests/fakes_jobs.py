"""Jobs without a database and without DBOS: rows in memory, run at once or when a test says so.

What happens to a job is the real thing (`service.jobs.execution`); only the store and the queue
are stood in for. `FakeJobs.die_at` lets the worker die at a step, as a power cut would.
"""

from __future__ import annotations

import json
import threading
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from service.domain.audit import Change
from service.domain.errors import (
    IdempotencyKeyReused,
    JobAlreadyActive,
    JobUnknown,
    ScheduleUnknown,
)
from service.domain.job import (
    Figures,
    Job,
    JobKind,
    JobQuery,
    JobRequest,
    JobState,
    LogLevel,
    LogLine,
    Progress,
    Work,
    bytes_freed,
)
from service.domain.job_records import (
    Cancellation,
    Compensation,
    Ending,
    Enqueue,
    Look,
    NewJob,
    Started,
    Unended,
)
from service.domain.ports import Clock
from service.domain.schedule import Schedule
from service.jobs.aftermath import Aftermath
from service.jobs.client import DurableJobs
from service.jobs.execution import Execution
from service.jobs.kinds import by_name
from service.jobs.running import Ground
from tests.fakes_store import FakeLocks, WallClock

LARGE = 64 * 1024


@dataclass
class Row:
    """A job, and what of it nobody sees from outside."""

    job: Job
    new: NewJob
    beyond_return: bool = False
    attempts: int = 0
    run: str | None = None
    log: list[LogLine] = field(default_factory=list)
    left: dict[str, Mapping[str, Any]] = field(default_factory=dict)


class FakeJobRecords:
    """The port `JobRecords`, in memory."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._rows: dict[str, Row] = {}
        self._forgotten: list[Job] = []
        self._lock = threading.RLock()

    def add(self, change: Change, new: NewJob, enqueue: Enqueue) -> Job:
        change.require_open()
        with self._lock:
            known = self.known(new)
            if known:
                return known
            self._require_single(new)
            request = new.request
            job = Job(
                id=new.id,
                kind=request.kind,
                state="queued",
                registry=request.registry,
                container=request.container,
                params=request.params,
                requested_by=request.requested_by,
                request_id=request.request_id,
                created_at=new.created_at,
            )
            self._rows[new.id] = Row(job, new)
            try:
                enqueue(None)
            except BaseException:
                del self._rows[new.id]
                raise
            return job

    def get(self, job_id: str) -> Job:
        return self._row(job_id).job

    def page(self, query: JobQuery, n: int, last: str | None) -> Sequence[Job]:
        rows = sorted(self._rows.values(), key=lambda row: row.job.id, reverse=True)
        found = (row.job for row in rows if last is None or row.job.id < last)
        return [_listed(job) for job in found if _matches(query, job)][:n]

    def log(self, job_id: str, after: int, n: int) -> Sequence[LogLine]:
        return [line for line in self._row(job_id).log if line.seq > after][:n]

    def active(self, kind: str, registry: str) -> Job | None:
        wanted = JobQuery(kind=kind, registry=registry)
        found = [row.job for row in self._rows.values() if _matches(wanted, row.job)]
        return next((job for job in found if not job.ended), None)

    def cancel(self, change: Change, job_id: str) -> Cancellation:
        change.require_open()
        with self._lock:
            row = self._row(job_id)
            if row.job.state == "queued":
                self._set(
                    row, state="cancelled", finished_at=self._clock.now(), cancel_requested=True
                )
                return "cancelled"
            if row.job.ended or row.beyond_return:
                return "refused"
            self._set(row, cancel_requested=True)
            return "requested"

    def start(self, job_id: str, run: str) -> Started | None:
        with self._lock:
            row = self._rows.get(job_id)
            if row is None or row.job.ended:
                return None
            row.run, row.attempts = run, row.attempts + 1
            self._set(row, state="running", started_at=row.job.started_at or self._clock.now())
            return Started(row.job, row.attempts, len(row.log))

    def look(self, job_ids: Collection[str]) -> Mapping[str, Look]:
        rows = {job_id: self._rows[job_id] for job_id in job_ids if job_id in self._rows}
        return {job_id: Look(row.run, row.job.cancel_requested) for job_id, row in rows.items()}

    def write(
        self, job_id: str, run: str, progress: Progress | None, lines: Sequence[LogLine]
    ) -> bool:
        with self._lock, self._held(job_id, run) as row:
            if row:
                self._set(row, progress=progress or row.job.progress)
                row.log += [line for line in lines if line.seq > len(row.log)]
            return row is not None

    def pass_return(self, job_id: str, run: str) -> bool:
        with self._lock, self._held(job_id, run) as row:
            if row is None or row.job.cancel_requested:
                return False
            row.beyond_return = True
            return True

    def compensate(self, job_id: str, run: str, kind: str, data: Mapping[str, Any]) -> bool:
        with self._lock, self._held(job_id, run) as row:
            if row:
                row.left.pop(kind, None)
                row.left[kind] = json.loads(json.dumps(data))
            return row is not None

    def settle(self, job_id: str, kinds: Collection[str] | None, run: str | None) -> bool:
        with self._lock:
            row = self._row(job_id)
            if row.run != run or (run is None) != row.job.ended:
                return False
            for kind in list(row.left) if kinds is None else kinds:
                row.left.pop(kind, None)
            return True

    def note(self, job_id: str, level: LogLevel, message: str) -> None:
        log = self._row(job_id).log
        log.append(LogLine(len(log) + 1, self._clock.now(), level, message))

    def finish(self, job_id: str, run: str, ending: Ending, *, unless_cancelled: bool) -> bool:
        with self._lock, self._held(job_id, run) as row:
            if row is None or (unless_cancelled and row.job.cancel_requested):
                return False
            row.run = None
            self._set(
                row,
                state=ending.state,
                result=ending.result,
                error=ending.error,
                finished_at=self._clock.now(),
            )
            return True

    def unended(self, state: JobState, n: int) -> Sequence[Unended]:
        rows = [row for row in self._rows.values() if row.job.state == state]
        return [
            Unended(row.job.id, state, row.new.request.exclusive, row.job.created_at)
            for row in rows
        ][:n]

    def compensations(self) -> Sequence[Compensation]:
        return [left for job_id in sorted(self._rows) for left in self.compensations_of(job_id)]

    def compensations_of(self, job_id: str) -> Sequence[Compensation]:
        row = self._row(job_id)
        exclusive = row.new.request.exclusive
        return [Compensation(row.job, exclusive, kind, data) for kind, data in row.left.items()]

    def expired(self, before: datetime, n: int) -> Sequence[str]:
        ended = [row for row in self._rows.values() if row.job.finished_at and not row.left]
        old = [row.job for row in ended if row.job.finished_at and row.job.finished_at < before]
        return [job.id for job in sorted(old, key=lambda job: (job.finished_at, job.id))][:n]

    def forget(self, job_ids: Collection[str]) -> None:
        for job_id in set(job_ids) & set(self._rows):
            self._forgotten.append(self._rows.pop(job_id).job)

    def figures(self) -> Figures:
        jobs = [*(row.job for row in self._rows.values()), *self._forgotten]
        queued = [job.created_at for job in jobs if job.state == "queued"]
        freed: Counter[str] = Counter()
        for job in jobs:
            freed[job.registry or ""] += bytes_freed(job.result)
        counts = Counter((job.kind, job.state) for job in jobs)
        return Figures(counts, min(queued, default=None), +freed)

    def known(self, new: NewJob) -> Job | None:
        for row in self._rows.values():
            if new.key and row.new.key == new.key:
                if row.new.fingerprint != new.fingerprint:
                    raise IdempotencyKeyReused("The key was used before.", {"job": row.job.id})
                return row.job
        return None

    def _require_single(self, new: NewJob) -> None:
        for row in self._rows.values():
            if new.single and row.new.single == new.single and not row.job.ended:
                raise JobAlreadyActive("Another one is active.", {"job": row.job.id})

    def _row(self, job_id: str) -> Row:
        if job_id not in self._rows:
            raise JobUnknown(f"There is no job with the id '{job_id}'.")
        return self._rows[job_id]

    @contextmanager
    def _held(self, job_id: str, run: str) -> Iterator[Row | None]:
        row = self._rows.get(job_id)
        yield row if row and row.run == run and row.job.state == "running" else None

    def _set(self, row: Row, **changed: Any) -> None:  # noqa: ANN401 - fields of a Job
        row.job = replace(row.job, **changed)


def _listed(job: Job) -> Job:
    return job if len(json.dumps(job.result)) <= LARGE else replace(job, result=None)


def _matches(query: JobQuery, job: Job) -> bool:
    wanted = (
        (query.kind, job.kind),
        (query.state, job.state),
        (query.registry, job.registry),
        (query.container, job.container),
    )
    within = not query.registries or job.registry in query.registries
    return within and all(want is None or want == is_ for want, is_ in wanted)


class FakeQueue:
    """Jobs in the order they came, as `Entrance` and as `Places`."""

    def __init__(self) -> None:
        self.waiting: dict[str, tuple[str, str | None]] = {}  # lane, and what is excluded
        self._begun: set[str] = set()
        self._lock = threading.Lock()

    def enqueue(self, transaction: object, job_id: str, exclusive: str | None, lane: str) -> None:
        del transaction
        self.waiting[job_id] = (lane, exclusive)

    def drop(self, job_id: str) -> None:
        self.waiting.pop(job_id, None)

    def take(self) -> tuple[str, str | None] | None:
        """The next job whose lane is free."""
        with self._lock:
            busy = {self.waiting[one][0] for one in self._begun if one in self.waiting}
            for job_id, (lane, exclusive) in self.waiting.items():
                if lane not in busy:
                    self._begun.add(job_id)
                    return job_id, exclusive
        return None

    def give_back(self, job_id: str, *, done: bool) -> None:
        """Let the next job of the lane, or the same again, have its turn."""
        with self._lock:
            self._begun.discard(job_id)
            if done:
                self.waiting.pop(job_id, None)

    def alive(self, job_ids: Collection[str]) -> Collection[str]:
        return set(job_ids) & set(self.waiting)


class WorkerDied(BaseException):
    """The worker died at a step. Unlike in life, what is in `finally` still runs; its steps die."""


class FakeJobs(DurableJobs):
    """The port `Jobs` over memory.

    With ``at_once`` a job has ended when `submit` returns; else `run_all` runs those that wait.
    """

    def __init__(
        self, works: Iterable[Work] = (), clock: Clock | None = None, *, at_once: bool = False
    ) -> None:
        works = list(works)
        self.records = FakeJobRecords(clock or WallClock())
        self.queue = FakeQueue()
        kinds = [work.kind for work in works]
        super().__init__(self.records, lambda: self.queue, kinds, clock or WallClock())
        ground = Ground(self.records, FakeLocks(), clock or WallClock())
        compensators = {name: do for work in works for name, do in work.compensators.items()}
        self.aftermath = Aftermath(ground, self.queue, compensators)
        self.execution = Execution(ground, self.aftermath, by_name(works), self._on_step)
        self.steps: list[str] = []
        self.die_at: str | None = None
        self.watch: Callable[[Job, str], None] = lambda _job, _step: None
        """Told of each step that begins."""
        self._dead = False
        self._at_once = at_once

    @classmethod
    def of(cls, *kinds: JobKind, clock: Clock | None = None, at_once: bool = False) -> FakeJobs:
        """Accept jobs of some kinds that do nothing."""
        works = [Work(kind, lambda _context: {}) for kind in kinds]
        return cls(works, clock, at_once=at_once)

    def submit(self, change: Change, request: JobRequest) -> Job:
        job = super().submit(change, request)
        if self._at_once:
            self.run_all()
        return self.get(job.id)

    def cancel(self, change: Change, job_id: str) -> Job:
        job = super().cancel(change, job_id)
        self.execution.pulse.beat()
        return job

    def run_all(self) -> None:
        """Run what waits; a job whose worker dies waits again."""
        self._dead = False
        while taken := self.queue.take():
            done = False
            try:
                self.execution.run(*taken)
                done = True
            except WorkerDied:
                return
            finally:
                self.queue.give_back(taken[0], done=done)

    def give_up(self, job_id: str) -> Job:
        """Let a job that died be dead for good, and what it left be put back."""
        self.queue.drop(job_id)
        self.aftermath.sweep()
        return self.get(job_id)

    def _on_step(self, job: Job, step: str) -> None:
        if step == self.die_at:
            self.die_at, self._dead = None, True
        if self._dead:
            raise WorkerDied(step)
        self.steps.append(step)
        self.watch(job, step)


class FakeScheduleRecords:
    """The port `ScheduleRecords`, in memory."""

    def __init__(self) -> None:
        self._schedules: dict[str, Schedule] = {}

    def get(self, registry: str) -> Schedule:
        if registry not in self._schedules:
            raise ScheduleUnknown(f"No schedule is set for the registry '{registry}'.")
        return self._schedules[registry]

    def put(self, change: Change, schedule: Schedule) -> None:
        change.require_open()
        known = self._schedules.get(schedule.registry)
        last = known.last_run if known else None
        self._schedules[schedule.registry] = replace(schedule, last_run=last)

    def delete(self, change: Change, registry: str) -> None:
        change.require_open()
        self.get(registry)
        del self._schedules[registry]

    def due(self, now: datetime) -> Sequence[Schedule]:
        found = sorted(self._schedules.values(), key=lambda one: one.registry)
        return [one for one in found if one.next_run_at is not None and one.next_run_at <= now]

    def advance(self, schedule: Schedule, next_run_at: datetime, last_run: str | None) -> None:
        known = self._schedules.get(schedule.registry)
        if known and (known.timetable, known.next_run_at) == (
            schedule.timetable,
            schedule.next_run_at,
        ):
            last = last_run or known.last_run
            self._schedules[schedule.registry] = replace(
                known, next_run_at=next_run_at, last_run=last
            )
