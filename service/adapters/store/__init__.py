"""The service's own state in SQLite or PostgreSQL."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import select, true

from service.adapters.store.audit import SqlAudit
from service.adapters.store.database import Database
from service.adapters.store.deletions import SqlDeletions
from service.adapters.store.jobs import SqlJobRecords
from service.adapters.store.locks import FileLocks, PostgresLocks
from service.adapters.store.migrate import migrate
from service.adapters.store.schedules import SqlSchedules
from service.adapters.store.tokens import SqlTokens
from service.adapters.store.workers import SqlWorkers
from service.domain.ports import Clock, Locks


class SqlStore:
    """The port ``Store``, jobs, and the workers' heartbeats. One a process, made after any fork."""

    def __init__(self, url: str, data_dir: Path, clock: Clock) -> None:
        """Use the database at ``url``; with SQLite, locks are files in ``data_dir``/locks."""
        self._url = url
        self.database = Database(url)
        self.tokens = SqlTokens(self.database, clock)
        self.audit = SqlAudit(self.database, clock)
        self.deletions = SqlDeletions(self.database)
        self.jobs = SqlJobRecords(self.database, clock)
        self.schedules = SqlSchedules(self.database)
        self.workers = SqlWorkers(self.database, clock)
        self.locks: Locks = (
            FileLocks(data_dir / "locks") if self.database.is_sqlite else PostgresLocks(url)
        )

    def migrate(self) -> None:
        """Create or upgrade the tables, under a lock; see :func:`migrate`."""
        migrate(self._url, self.locks)

    def check(self) -> None:
        """See the port."""
        self.database.rows(select(true()))

    def close(self) -> None:
        """Close the connections."""
        self.database.close()
