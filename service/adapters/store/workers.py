"""The heartbeats of the workers."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import cast

from sqlalchemy import func, select
from sqlalchemy.dialects import postgresql, sqlite

from service.adapters.store.database import Database
from service.adapters.store.tables import worker as table
from service.domain.ports import Clock

FORGOTTEN_AFTER = timedelta(hours=1)
"""Until then a dead worker shows as down, afterwards as one that was never there."""

_LAST = select(func.max(table.c.beat_at).label("beat_at"))


class SqlWorkers:
    """The port ``Workers`` over SQL."""

    def __init__(self, database: Database, clock: Clock) -> None:
        """Keep the heartbeats in ``database``."""
        self._database = database
        self._clock = clock

    def join(self, worker_id: str) -> bool:
        """See the port."""
        now = self._clock.now()
        insert = postgresql.insert if not self._database.is_sqlite else sqlite.insert
        mine = insert(table).values(id=worker_id, beat_at=now)
        with self._database.writing() as connection:
            connection.execute(table.delete().where(table.c.beat_at < now - FORGOTTEN_AFTER))
            taken = connection.execute(mine.on_conflict_do_nothing().returning(table.c.id))
            return taken.one_or_none() is not None

    def beat(self, worker_id: str) -> bool:
        """See the port."""
        update = table.update().where(table.c.id == worker_id).values(beat_at=self._clock.now())
        with self._database.writing() as connection:
            return connection.execute(update).rowcount > 0

    def beats(self) -> Mapping[str, datetime]:
        """See the port."""
        return {row.id: row.beat_at for row in self._database.rows(select(table))}

    def bury(self, worker_id: str, last_beat: datetime) -> bool:
        """See the port."""
        unheard = (table.c.id == worker_id, table.c.beat_at == last_beat)
        with self._database.writing() as connection:
            return connection.execute(table.delete().where(*unheard)).rowcount > 0

    def leave(self, worker_id: str) -> None:
        """See the port."""
        with self._database.writing() as connection:
            connection.execute(table.delete().where(table.c.id == worker_id))

    def last_beat(self) -> datetime | None:
        """See the port."""
        return cast("datetime | None", self._database.rows(_LAST)[0].beat_at)
