"""Bytes by digest in one SQLite file, shared by processes.

Not a file each: ext4 does not give a freed inode out again for minutes and searches past them,
so after many files were removed a new one costs up to 0.6 ms, against 0.02 ms for a row.
Nothing is synced: what a power cut damages is found out by its digest and fetched again.
"""

from __future__ import annotations

import contextlib
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

PAGE = 4096
LOCK_SECONDS = 0.5
"""How long to wait for another process that writes; then go without the cache."""

PAUSE_SECONDS = 30.0
"""How long to go without a file that could not be opened."""

TOUCH_SECONDS = 600.0
"""What is read again within this time counts as used then: a write for each read costs more."""

EVICTED_SHARE = 10
EVICTIONS = 20
"""A tenth goes at a time, and no more often than this for one body."""

_DAMAGED = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})
_PASSING = frozenset({sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED})
_SCHEMA = """
CREATE TABLE IF NOT EXISTS content (digest BLOB PRIMARY KEY, body BLOB NOT NULL, used REAL);
CREATE INDEX IF NOT EXISTS content_used ON content (used);
"""
_EVICT = """
DELETE FROM content WHERE rowid IN (
    SELECT rowid FROM content ORDER BY used LIMIT (SELECT count(*) / ? + 1 FROM content))
"""


Row = tuple[bytes, bytes, float]


class Shelf:
    """A bounded table of bytes. Safe to share between threads, its file between processes.

    Every method may raise sqlite3.Error or OSError.
    """

    def __init__(
        self, file: Path, limit_bytes: int, clock: Callable[[], float] = time.time
    ) -> None:
        """Keep at most ``limit_bytes`` in ``file``; its log takes some 2 MiB beside it."""
        self._file = file
        self._limit = limit_bytes
        self._clock = clock
        self._mutex = threading.Lock()
        self._connection: sqlite3.Connection | None = None
        self._closed_until = 0.0

    def read(self, digest: bytes) -> bytes | None:
        """Return what is kept under ``digest``, unchecked, or None."""
        with self._open() as connection:
            found = connection.execute("SELECT body, used FROM content WHERE digest = ?", (digest,))
            row = found.fetchone()
            if row is None:
                return None
            if self._clock() - row[1] > TOUCH_SECONDS:
                self._touch(connection, digest)
            return bytes(row[0])

    def has(self, digest: bytes) -> bool:
        """Tell whether something is kept under ``digest``."""
        with self._open() as connection:
            found = connection.execute("SELECT 1 FROM content WHERE digest = ?", (digest,))
            return found.fetchone() is not None

    def write(self, bodies: Sequence[tuple[bytes, bytes]]) -> None:
        """Keep bodies by their digests; what was used least recently goes when there is no room.

        Many in one transaction cost a tenth of what they cost one by one.
        """
        now = self._clock()
        rows = [(digest, body, now) for digest, body in bodies]
        with self._open() as connection:
            if _written(connection, rows):
                return
            for row in rows:
                self._make_room(connection, row)

    def _make_room(self, connection: sqlite3.Connection, row: Row) -> None:
        for _ in range(EVICTIONS):
            if _written(connection, [row]):
                return
            connection.execute(_EVICT, (EVICTED_SHARE,))

    def remove(self, digest: bytes) -> None:
        """Forget what is kept under ``digest``."""
        with self._open() as connection:
            connection.execute("DELETE FROM content WHERE digest = ?", (digest,))

    def close(self) -> None:
        """Close the file; the next call opens it again."""
        with self._mutex:
            self._disconnect()

    def _touch(self, connection: sqlite3.Connection, digest: bytes) -> None:
        # A reader's answer does not depend on it, nor on whoever holds the lock.
        with contextlib.suppress(sqlite3.OperationalError):
            connection.execute(
                "UPDATE content SET used = ? WHERE digest = ?", (self._clock(), digest)
            )

    @contextlib.contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        with self._mutex:
            try:
                yield self._connection or self._connect()
            except sqlite3.DatabaseError as error:
                self._recover(_code(error))
                raise

    def _recover(self, code: int) -> None:
        if code in _DAMAGED:
            self._start_over()
        if code in _DAMAGED | _PASSING:
            self._closed_until = 0.0

    def _connect(self) -> sqlite3.Connection:
        if self._clock() < self._closed_until:
            raise sqlite3.OperationalError("the cache could not be opened a moment ago")
        self._closed_until = self._clock() + PAUSE_SECONDS
        self._file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if self._file.exists() and self._file.stat().st_size > self._limit:
            self._start_over()
        connection = sqlite3.connect(
            self._file, timeout=LOCK_SECONDS, isolation_level=None, check_same_thread=False
        )
        with contextlib.ExitStack() as undo:
            undo.callback(connection.close)
            self._prepare(connection)
            undo.pop_all()
        self._closed_until = 0.0
        self._connection = connection
        return connection

    def _prepare(self, connection: sqlite3.Connection) -> None:
        for pragma in (
            f"page_size = {PAGE}",
            "journal_mode = WAL",
            "synchronous = OFF",
            "wal_autocheckpoint = 256",
            f"journal_size_limit = {256 * PAGE}",
            f"max_page_count = {self._limit // PAGE}",
        ):
            connection.execute(f"PRAGMA {pragma}")
        connection.executescript(_SCHEMA)

    def _disconnect(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _start_over(self) -> None:
        """Drop the file, which other processes go on using until they find the damage too."""
        self._disconnect()
        for suffix in ("", "-wal", "-shm"):
            Path(f"{self._file}{suffix}").unlink(missing_ok=True)


def _written(connection: sqlite3.Connection, rows: Sequence[Row]) -> bool:
    """Insert all rows; tell whether there was room, else none is there."""
    try:
        with _transaction(connection):
            connection.executemany("INSERT OR IGNORE INTO content VALUES (?, ?, ?)", rows)
    except sqlite3.OperationalError as error:
        if _code(error) == sqlite3.SQLITE_FULL:
            return False
        raise
    return True


@contextlib.contextmanager
def _transaction(connection: sqlite3.Connection) -> Iterator[None]:
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:  # some errors end it by themselves
            connection.execute("ROLLBACK")
        raise


def _code(error: sqlite3.Error) -> int:
    # Errors of the module itself carry none; the low byte of an extended code is the plain one.
    return getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF
