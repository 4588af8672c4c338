"""The audit trail in the database: two tables that only ever grow."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, fields
from typing import Any

from sqlalchemy import ColumnElement, Insert, Row, select
from sqlalchemy.exc import IntegrityError

from service.adapters.store import tallies
from service.adapters.store.database import Database
from service.adapters.store.tables import audit_attempt, audit_completion
from service.domain.audit import Attempt, AuditEvent, Completion
from service.domain.ports import AuditQuery, Clock

_EVENTS = select(
    audit_attempt,
    audit_completion.c.outcome,
    audit_completion.c.status,
    audit_completion.c.code,
    audit_completion.c.details,
).join_from(audit_attempt, audit_completion, isouter=True)

NO_CODE = "none"
_ATTEMPT = [field.name for field in fields(Attempt)]
_EQUAL = ("actor", "action", "registry", "container")


class SqlAudit:
    """The port ``AuditReader`` over SQL."""

    def __init__(self, database: Database, clock: Clock) -> None:
        """Keep the trail in ``database``."""
        self._database = database
        self._clock = clock

    def record_attempt(self, event_id: str, attempt: Attempt) -> None:
        """See the port; raise RuntimeError for an event that was begun already."""
        values = {"id": event_id, "time": self._clock.now(), **asdict(attempt)}
        self._insert(audit_attempt.insert().values(values), f"{event_id} was begun already")

    def record_completion(self, event_id: str, completion: Completion) -> None:
        """See the port; raise RuntimeError for an event that never began or has ended."""
        values = {"event_id": event_id, **asdict(completion)}
        refused = (completion.code or NO_CODE) if completion.outcome == "refused" else None
        self._insert(
            audit_completion.insert().values(values),
            f"{event_id} was never begun, or has ended already",
            refused,
        )

    def page(self, query: AuditQuery, n: int, last: str | None) -> Sequence[AuditEvent]:
        """See the port."""
        statement = _EVENTS.where(*_filters(query)).order_by(audit_attempt.c.id.desc()).limit(n)
        if last is not None:
            statement = statement.where(audit_attempt.c.id < last)
        return [_event(row) for row in self._database.rows(statement)]

    def refusals(self) -> Mapping[str, int]:
        """See the port."""
        return tallies.read(self._database, tallies.REFUSALS)

    def _insert(self, statement: Insert, wrong: str, refused: str | None = None) -> None:
        try:
            with self._database.writing() as connection:
                connection.execute(statement)
                if refused is not None:
                    tallies.add(connection, tallies.REFUSALS, refused)
        except IntegrityError as error:
            raise RuntimeError(f"the event {wrong}") from error


def _filters(query: AuditQuery) -> Iterator[ColumnElement[bool]]:
    for name in _EQUAL:
        wanted = getattr(query, name)
        if wanted is not None:
            yield audit_attempt.c[name] == wanted
    if query.outcome is not None:
        yield audit_completion.c.outcome == query.outcome
    if query.since is not None:
        yield audit_attempt.c.time >= query.since
    if query.until is not None:
        yield audit_attempt.c.time < query.until


def _event(row: Row[Any]) -> AuditEvent:
    attempt = Attempt(**{name: getattr(row, name) for name in _ATTEMPT})
    completion = None
    if row.outcome is not None:
        completion = Completion(row.outcome, row.status, row.code, row.details)
    return AuditEvent(row.id, row.time, attempt, completion)
