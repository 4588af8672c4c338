"""Schedules of collections in the database."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime
from typing import Any

from sqlalchemy import Row, bindparam, select
from sqlalchemy.dialects import postgresql, sqlite

from service.adapters.store.database import Database
from service.adapters.store.job_tables import gc_schedule as table
from service.domain.audit import Change
from service.domain.errors import ScheduleUnknown
from service.domain.schedule import Schedule, Timetable

_GET = select(table).where(table.c.registry == bindparam("name"))
_DUE = select(table).where(table.c.next_run_at <= bindparam("now")).order_by(table.c.registry)


class SqlSchedules:
    """The port ``ScheduleRecords`` over SQL."""

    def __init__(self, database: Database) -> None:
        """Keep the schedules in ``database``."""
        self._database = database

    def get(self, registry: str) -> Schedule:
        """See the port."""
        rows = self._database.rows(_GET, name=registry)
        if not rows:
            raise _unknown(registry)
        return _schedule(rows[0])

    def put(self, change: Change, schedule: Schedule) -> None:
        """See the port."""
        change.require_open()
        values = {
            **asdict(schedule.timetable),
            "next_run_at": schedule.next_run_at,
            "change_id": change.id,
        }
        insert = sqlite.insert if self._database.is_sqlite else postgresql.insert
        statement = insert(table).values(registry=schedule.registry, **values)
        with self._database.writing() as connection:
            connection.execute(
                statement.on_conflict_do_update(index_elements=["registry"], set_=values)
            )

    def delete(self, change: Change, registry: str) -> None:
        """See the port."""
        change.require_open()
        with self._database.writing() as connection:
            gone = connection.execute(table.delete().where(table.c.registry == registry)).rowcount
        if not gone:
            raise _unknown(registry)

    def due(self, now: datetime) -> Sequence[Schedule]:
        """See the port."""
        return [_schedule(row) for row in self._database.rows(_DUE, now=now)]

    def advance(self, schedule: Schedule, next_run_at: datetime, last_run: str | None) -> None:
        """See the port."""
        values: dict[str, object] = {"next_run_at": next_run_at}
        if last_run is not None:
            values["last_run"] = last_run
        same = (
            table.c.registry == schedule.registry,
            table.c.next_run_at == schedule.next_run_at,
            table.c.cron == schedule.timetable.cron,
            table.c.time_zone == schedule.timetable.time_zone,
        )
        with self._database.writing() as connection:
            connection.execute(table.update().where(*same).values(values))


def _schedule(row: Row[Any]) -> Schedule:
    timetable = Timetable(row.cron, row.time_zone, row.mode, row.delete_untagged, row.enabled)
    return Schedule(row.registry, timetable, row.next_run_at, row.last_run)


def _unknown(registry: str) -> ScheduleUnknown:
    return ScheduleUnknown(f"No schedule is set for the registry '{registry}'.")
