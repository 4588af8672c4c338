"""Jobs in the database: their rows, their logs, and what must be put back if one dies."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import asdict
from datetime import datetime
from typing import Any, cast

from sqlalchemy import (
    ColumnElement,
    Connection,
    Row,
    and_,
    bindparam,
    case,
    exists,
    func,
    null,
    select,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import IntegrityError

from service.adapters.store import tallies
from service.adapters.store.database import Database
from service.adapters.store.job_tables import compensation, job_log
from service.adapters.store.job_tables import job as table
from service.domain.audit import Change
from service.domain.errors import IdempotencyKeyReused, JobAlreadyActive, JobUnknown
from service.domain.job import (
    Figures,
    Job,
    JobQuery,
    JobState,
    LogLevel,
    LogLine,
    Progress,
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

LISTED_RESULT_LIMIT = 64 * 1024
"""Bytes of a result that is still shown in a list: a page of the largest would fill the memory."""

TRIES = 5
"""How often a job is stored anew when what was in its way has gone in the meantime."""

_ACTIVE = table.c.state.in_(("queued", "running"))
_RUNNING = table.c.state == "running"
_GET = select(table).where(table.c.id == bindparam("job_id"))
_BY_KEY = select(table).where(table.c.key == bindparam("key"))
_BY_SINGLE = select(table).where(table.c.single == bindparam("single"), _ACTIVE)
_OF_KIND = (
    select(table)
    .where(table.c.kind == bindparam("kind"), table.c.registry == bindparam("registry"), _ACTIVE)
    .order_by(table.c.id)
    .limit(1)
)
_LOOK = select(table.c.id, table.c.run, table.c.cancel_requested).where(
    table.c.id.in_(bindparam("ids", expanding=True))
)
_LAST = select(func.max(job_log.c.seq)).where(job_log.c.job_id == bindparam("job_id"))
_UNENDED = (
    select(
        table.c.kind,
        table.c.state,
        func.count().label("n"),
        func.min(table.c.created_at).label("oldest"),
    )
    .where(_ACTIVE)
    .group_by(table.c.kind, table.c.state)
)
_LISTED = select(
    *(column for column in table.c if column.name != "result"),
    case((table.c.result_size <= LISTED_RESULT_LIMIT, table.c.result), else_=null()).label(
        "result"
    ),
).order_by(table.c.id.desc())
_COMPENSATIONS = (
    select(table, compensation.c.kind.label("what"), compensation.c.data)
    .join_from(compensation, table)
    .order_by(compensation.c.job_id, compensation.c.created_at)
)
_SETTLED = ~exists().where(compensation.c.job_id == table.c.id)
_EQUAL = ("kind", "state", "registry", "container")


class SqlJobRecords:
    """The port ``JobRecords`` over SQL."""

    def __init__(self, database: Database, clock: Clock) -> None:
        """Keep the jobs in ``database``."""
        self._database = database
        self._clock = clock

    def known(self, new: NewJob) -> Job | None:
        """See the port."""
        rows = self._database.rows(_BY_KEY, key=new.key) if new.key else ()
        if not rows:
            return None
        if rows[0].fingerprint != new.fingerprint:
            raise IdempotencyKeyReused(
                "This Idempotency-Key was sent before with another request. Nothing was changed. "
                "Send another key, or the same request.",
                {"job": rows[0].id},
            )
        return _job(rows[0])

    def add(self, change: Change, new: NewJob, enqueue: Enqueue) -> Job:
        """See the port."""
        change.require_open()
        for _ in range(TRIES):
            known = self.known(new)
            if known is not None:
                return known
            try:
                return self._insert(change, new, enqueue)
            except IntegrityError as error:
                self._refuse(new, error)
        raise JobAlreadyActive("Other jobs for the same thing begin and end all the time.")

    def get(self, job_id: str) -> Job:
        """See the port."""
        return _job(self._row(job_id))

    def page(self, query: JobQuery, n: int, last: str | None) -> Sequence[Job]:
        """See the port."""
        statement = _LISTED.where(*_filters(query)).limit(n)
        if last is not None:
            statement = statement.where(table.c.id < last)
        return [_job(row) for row in self._database.rows(statement)]

    def log(self, job_id: str, after: int, n: int) -> Sequence[LogLine]:
        """See the port."""
        query = select(job_log).where(job_log.c.job_id == job_id, job_log.c.seq > after)
        rows = self._database.rows(query.order_by(job_log.c.seq).limit(n))
        if not rows:
            self._row(job_id)
        return [LogLine(row.seq, row.time, row.level, row.message) for row in rows]

    def active(self, kind: str, registry: str) -> Job | None:
        """See the port."""
        rows = self._database.rows(_OF_KIND, kind=kind, registry=registry)
        return _job(rows[0]) if rows else None

    def cancel(self, change: Change, job_id: str) -> Cancellation:
        """See the port."""
        change.require_open()
        ended = {"state": "cancelled", "finished_at": self._clock.now(), "cancel_requested": True}
        mine = table.c.id == job_id
        with self._database.writing() as connection:
            if _end(connection, ended, mine, table.c.state == "queued"):
                return "cancelled"
            asked = {"cancel_requested": True}
            if _changed(connection, asked, mine, _RUNNING, table.c.beyond_return.is_(False)):
                return "requested"
        return "refused"

    def start(self, job_id: str, run: str) -> Started | None:
        """See the port."""
        values = {
            "state": "running",
            "run": run,
            "attempts": table.c.attempts + 1,
            "started_at": func.coalesce(table.c.started_at, self._clock.now()),
        }
        update = table.update().where(table.c.id == job_id, _ACTIVE).values(values)
        with self._database.writing() as connection:
            row = connection.execute(update.returning(table)).one_or_none()
            if row is None:
                return None
            last = connection.execute(_LAST, {"job_id": job_id}).scalar() or 0
            return Started(_job(row), row.attempts, last)

    def look(self, job_ids: Collection[str]) -> Mapping[str, Look]:
        """See the port."""
        rows = self._database.rows(_LOOK, ids=list(job_ids))
        return {row.id: Look(row.run, row.cancel_requested) for row in rows}

    def write(
        self, job_id: str, run: str, progress: Progress | None, lines: Sequence[LogLine]
    ) -> bool:
        """See the port; lines that are there already are left as they are."""
        values = asdict(progress) if progress else {"run": run}
        with self._database.writing() as connection:
            if not _changed(connection, values, *_held(job_id, run)):
                return False
            _append(connection, job_id, lines)
        return True

    def pass_return(self, job_id: str, run: str) -> bool:
        """See the port."""
        held = _held(job_id, run)
        with self._database.writing() as connection:
            uncancelled = table.c.cancel_requested.is_(False)
            return _changed(connection, {"beyond_return": True}, *held, uncancelled)

    def compensate(self, job_id: str, run: str, kind: str, data: Mapping[str, Any]) -> bool:
        """See the port."""
        values = {"job_id": job_id, "kind": kind, "data": data, "created_at": self._clock.now()}
        with self._database.writing() as connection:
            if not _changed(connection, {"run": run}, *_held(job_id, run)):
                return False
            _settle(connection, job_id, [kind])
            connection.execute(compensation.insert().values(values))
        return True

    def settle(self, job_id: str, kinds: Collection[str] | None, run: str | None) -> bool:
        """See the port."""
        held = (table.c.id == job_id, ~_ACTIVE) if run is None else _held(job_id, run)
        with self._database.writing() as connection:
            if not _changed(connection, {"run": run}, *held):
                return False
            _settle(connection, job_id, kinds)
        return True

    def note(self, job_id: str, level: LogLevel, message: str) -> None:
        """See the port."""
        with self._database.writing() as connection:
            seq = (connection.execute(_LAST, {"job_id": job_id}).scalar() or 0) + 1
            _append(connection, job_id, [LogLine(seq, self._clock.now(), level, message)])

    def finish(self, job_id: str, run: str, ending: Ending, *, unless_cancelled: bool) -> bool:
        """See the port."""
        values = {
            "state": ending.state,
            "result": ending.result,
            "result_size": len(json.dumps(ending.result, default=str)),
            "error": ending.error,
            "finished_at": self._clock.now(),
            "run": None,
        }
        where = _held(job_id, run)
        if unless_cancelled:
            where.append(table.c.cancel_requested.is_(False))
        with self._database.writing() as connection:
            return _end(connection, values, *where)

    def unended(self, state: JobState, n: int) -> Sequence[Unended]:
        """See the port."""
        columns = (table.c.id, table.c.state, table.c.exclusive, table.c.created_at)
        query = select(*columns).where(table.c.state == state).order_by(table.c.id).limit(n)
        rows = self._database.rows(query)
        return [Unended(row.id, row.state, row.exclusive, row.created_at) for row in rows]

    def compensations(self) -> Sequence[Compensation]:
        """See the port."""
        return [_compensation(row) for row in self._database.rows(_COMPENSATIONS)]

    def compensations_of(self, job_id: str) -> Sequence[Compensation]:
        """See the port."""
        query = _COMPENSATIONS.where(table.c.id == job_id)
        return [_compensation(row) for row in self._database.rows(query)]

    def expired(self, before: datetime, n: int) -> Sequence[str]:
        """See the port."""
        query = select(table.c.id).where(table.c.finished_at < before, _SETTLED)
        rows = self._database.rows(query.order_by(table.c.finished_at).limit(n))
        return [row.id for row in rows]

    def forget(self, job_ids: Collection[str]) -> None:
        """See the port."""
        with self._database.writing() as connection:
            connection.execute(job_log.delete().where(job_log.c.job_id.in_(job_ids)))
            connection.execute(table.delete().where(table.c.id.in_(job_ids)))

    def figures(self) -> Figures:
        """See the port."""
        active = self._database.rows(_UNENDED)
        ended = tallies.read(self._database, tallies.JOBS_ENDED)
        counts: dict[tuple[str, JobState], int] = {(row.kind, row.state): row.n for row in active}
        counts |= {cast("tuple[str, JobState]", tuple(of.split())): ended[of] for of in ended}
        oldest = min((row.oldest for row in active if row.state == "queued"), default=None)
        return Figures(counts, oldest, tallies.read(self._database, tallies.BYTES_FREED))

    def _row(self, job_id: str) -> Row[Any]:
        rows = self._database.rows(_GET, job_id=job_id)
        if not rows:
            raise JobUnknown(f"There is no job with the id '{job_id}'.")
        return rows[0]

    def _insert(self, change: Change, new: NewJob, enqueue: Enqueue) -> Job:
        insert = table.insert().values(_values(change, new)).returning(table)
        with self._database.writing() as connection:
            row = connection.execute(insert).one()
            enqueue(connection)
        return _job(row)

    def _refuse(self, new: NewJob, error: IntegrityError) -> None:
        """Raise what was in the way; nothing when it has gone, or is the same request."""
        if new.key and self._database.rows(_BY_KEY, key=new.key):
            return
        if new.single is None:
            raise error
        for row in self._database.rows(_BY_SINGLE, single=new.single):
            raise JobAlreadyActive(
                f"Another job of kind {new.request.kind} for the same thing is {row.state}. "
                f"Nothing was changed. Wait for it to end, or cancel it: /v1/jobs/{row.id}",
                {"job": row.id},
            )


def _filters(query: JobQuery) -> Iterator[ColumnElement[bool]]:
    for name in _EQUAL:
        wanted = getattr(query, name)
        if wanted is not None:
            yield table.c[name] == wanted
    if query.registries:
        yield table.c.registry.in_(query.registries)


def _held(job_id: str, run: str) -> list[ColumnElement[bool]]:
    return [table.c.id == job_id, table.c.run == run, _RUNNING]


def _changed(
    connection: Connection, values: Mapping[str, object], *where: ColumnElement[bool]
) -> bool:
    return connection.execute(table.update().where(and_(*where)).values(values)).rowcount > 0


def _end(connection: Connection, values: Mapping[str, Any], *where: ColumnElement[bool]) -> bool:
    """Do as _changed, and count the job among those that have ended."""
    update = table.update().where(and_(*where)).values(values)
    row = connection.execute(update.returning(table.c.kind, table.c.registry)).one_or_none()
    if row is None:
        return False
    tallies.add(connection, tallies.JOBS_ENDED, f"{row.kind} {values['state']}")
    freed = bytes_freed(values.get("result"))
    if freed and row.registry is not None:
        tallies.add(connection, tallies.BYTES_FREED, row.registry, freed)
    return True


def _append(connection: Connection, job_id: str, lines: Sequence[LogLine]) -> None:
    if lines:
        insert = postgresql.insert if connection.dialect.name == "postgresql" else sqlite.insert
        # A write whose acknowledgement got lost comes twice.
        connection.execute(
            insert(job_log).on_conflict_do_nothing(),
            [{"job_id": job_id, **asdict(line)} for line in lines],
        )


def _settle(connection: Connection, job_id: str, kinds: Collection[str] | None) -> None:
    statement = compensation.delete().where(compensation.c.job_id == job_id)
    if kinds is not None:
        statement = statement.where(compensation.c.kind.in_(kinds))
    connection.execute(statement)


def _values(change: Change, new: NewJob) -> dict[str, object]:
    request = new.request
    return {
        "id": new.id,
        "kind": request.kind,
        "state": "queued",
        "registry": request.registry,
        "container": request.container,
        "params": dict(request.params),
        "requested_by": request.requested_by,
        "request_id": request.request_id,
        "change_id": change.id,
        "exclusive": request.exclusive,
        "single": new.single,
        "key": new.key,
        "fingerprint": new.fingerprint,
        "created_at": new.created_at,
        "result_size": 0,
        "cancel_requested": False,
        "beyond_return": False,
        "attempts": 0,
    }


def _job(row: Row[Any]) -> Job:
    return Job(
        id=row.id,
        kind=row.kind,
        state=row.state,
        registry=row.registry,
        container=row.container,
        params=row.params,
        requested_by=row.requested_by,
        request_id=row.request_id,
        created_at=row.created_at,
        started_at=row.started_at,
        finished_at=row.finished_at,
        progress=Progress(row.phase, row.done, row.total) if row.phase is not None else None,
        result=row.result,
        error=row.error,
        cancel_requested=row.cancel_requested,
    )


def _compensation(row: Row[Any]) -> Compensation:
    return Compensation(_job(row), row.exclusive, row.what, row.data)
