"""The heartbeats of the workers."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import cast

from sqlalchemy import func, select

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

    def beat(self, worker_id: str) -> None:
        """See the port."""
        now = self._clock.now()
        mine = table.c.id == worker_id
        with self._database.writing() as connection:
            connection.execute(table.delete().where(table.c.beat_at < now - FORGOTTEN_AFTER))
            if not connection.execute(table.update().where(mine).values(beat_at=now)).rowcount:
                connection.execute(table.insert().values(id=worker_id, beat_at=now))

    def leave(self, worker_id: str) -> None:
        """See the port."""
        with self._database.writing() as connection:
            connection.execute(table.delete().where(table.c.id == worker_id))

    def last_beat(self) -> datetime | None:
        """See the port."""
        return cast("datetime | None", self._database.rows(_LAST)[0].beat_at)
