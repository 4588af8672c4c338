"""Connections to SQLite or PostgreSQL, and the two ways to use one: reading and writing."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from sqlalchemy import (
    URL,
    Connection,
    Engine,
    Executable,
    NullPool,
    Row,
    create_engine,
    event,
    make_url,
)
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from service.domain.errors import StoreUnavailable

SQLITE_WAIT_SECONDS = 10
"""How long a statement waits for another writer: many times what the longest of ours takes."""

POSTGRES_LIMITS = {
    "connect_timeout": "5",  # seconds
    "keepalives_idle": "30",  # seconds
    "tcp_user_timeout": "15000",  # milliseconds, after which a silent server is given up
    "application_name": "registry-admin",
    "client_encoding": "utf8",  # else text of a database without an encoding comes as bytes
}
STATEMENT_LIMIT = "SET statement_timeout = '30s'"
POOL = {"pool_size": 16, "max_overflow": 16, "pool_timeout": 10}
"""As many as a process has threads by default; those beyond are closed after use."""

AUTOCOMMIT = {"isolation_level": "AUTOCOMMIT"}


class Database:
    """A database and this process's connections to it: safe between threads, not over a fork."""

    def __init__(self, url: str) -> None:
        """Connect when first asked to; ``url`` as in the settings."""
        self._writer = _engine(make_url(url), **POOL)
        if not self.is_sqlite:
            event.listen(self._writer, "connect", _limit_statements)
        # Without BEGIN and ROLLBACK a reading costs one round trip.
        self._reader = self._writer.execution_options(**AUTOCOMMIT)

    @property
    def engine(self) -> Engine:
        """The pool itself."""
        return self._writer

    @property
    def is_sqlite(self) -> bool:
        """Tell SQLite from PostgreSQL."""
        return self._writer.dialect.name == "sqlite"

    def rows(self, statement: Executable, **values: object) -> Sequence[Row[Any]]:
        """All rows of one reading statement; raise StoreUnavailable.

        Asked once more when the connection turns out to be stale, which freshens them all.
        """
        with answering():
            try:
                return self._rows(statement, values)
            except DBAPIError as error:
                if not error.connection_invalidated:
                    raise
                return self._rows(statement, values)

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """One transaction: all of the block, or nothing when it raises; raise StoreUnavailable."""
        with answering(), self._writer.begin() as connection:
            yield connection

    def close(self) -> None:
        """Close the pooled connections."""
        self._writer.dispose()

    def _rows(self, statement: Executable, values: dict[str, object]) -> Sequence[Row[Any]]:
        with self._reader.connect() as connection:
            return connection.execute(statement, values).all()


@contextmanager
def answering() -> Iterator[None]:
    """Raise StoreUnavailable when the database does not do what it was asked in the block."""
    try:
        yield
    except (OperationalError, InterfaceError, PoolTimeout) as error:
        raise StoreUnavailable(
            "The service's own database does not answer, or not in time. Nothing was changed "
            "by this step. Look at the service's log and at database_url."
        ) from error


def dedicated(url: str) -> Engine:
    """Connections that are opened for one use, which may last, and closed after it."""
    return _engine(make_url(url), poolclass=NullPool)


def _engine(url: URL, **pool: Any) -> Engine:  # noqa: ANN401 - options of create_engine
    if url.get_backend_name() == "sqlite":
        return _sqlite(url, pool)
    return _postgres(url, pool)


def _sqlite(url: URL, pool: dict[str, Any]) -> Engine:
    engine = create_engine(
        url,
        connect_args={"timeout": SQLITE_WAIT_SECONDS, "check_same_thread": False},
        **_common(pool),
    )
    event.listen(engine, "connect", _prepare_sqlite)
    event.listen(engine, "begin", _begin_sqlite)
    return engine


def _postgres(url: URL, pool: dict[str, Any]) -> Engine:
    # What the URL itself says about a limit stands.
    url = url.set(drivername="postgresql+psycopg").update_query_dict(
        {name: value for name, value in POSTGRES_LIMITS.items() if name not in url.query}
    )
    return create_engine(url, **_common(pool))


def _common(pool: dict[str, Any]) -> dict[str, Any]:
    # Errors of the driver would otherwise show the values: hashes, and whole manifests.
    return {"hide_parameters": True, "json_serializer": _dump, **pool}


def _dump(value: object) -> str:
    return json.dumps(value, default=str)


def _prepare_sqlite(connection: Any, _record: object) -> None:  # noqa: ANN401 - of the driver
    connection.isolation_level = None  # the driver begins nothing by itself
    connection.execute("PRAGMA foreign_keys = ON")
    connection.execute("PRAGMA synchronous = FULL")  # an attempt is on disk before it is tried


def _begin_sqlite(connection: Connection) -> None:
    # A transaction that starts by reading and then writes could fail where it cannot wait.
    if connection.get_execution_options().get("isolation_level") != "AUTOCOMMIT":
        connection.exec_driver_sql("BEGIN IMMEDIATE")


def _limit_statements(connection: Any, _record: object) -> None:  # noqa: ANN401 - of the driver
    connection.autocommit = True
    connection.execute(STATEMENT_LIMIT)
    connection.autocommit = False
