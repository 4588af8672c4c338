"""Locks over all processes of the service, which the system frees when a process dies."""

from __future__ import annotations

import fcntl
import hashlib
import os
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, bindparam, event, func, select

from service.adapters.store.database import AUTOCOMMIT, answering, dedicated
from service.domain.errors import RepositoryBusy

FIRST_PAUSE_SECONDS = 0.02
LONGEST_PAUSE_SECONDS = 0.25
SERVER_KEEPALIVES = (
    "SET tcp_keepalives_idle = 10; SET tcp_keepalives_interval = 5; SET tcp_keepalives_count = 4"
)

_TRY = select(func.pg_try_advisory_lock(bindparam("key")))


class FileLocks:
    """For SQLite, whose processes share a machine: flock on one file a name."""

    def __init__(self, folder: Path) -> None:
        """Keep the files in ``folder``; they stay, since removing one would race with its users."""
        self._folder = folder

    @contextmanager
    def hold(self, name: str, wait_seconds: float) -> Iterator[None]:
        """See the port. Each holder opens the file anew, so threads exclude one another too."""
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        path = self._folder / f"{_hash(name).hex()[:32]}.lock"
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            _wait(lambda: _flock(descriptor), name, wait_seconds)
            yield
        finally:
            os.close(descriptor)


class PostgresLocks:
    """For PostgreSQL: a session's advisory lock, on a connection of its own."""

    def __init__(self, url: str) -> None:
        """Lock in the database at ``url``; every service that uses it takes part."""
        engine = dedicated(url)
        event.listen(engine, "connect", _notice_silence)
        self._engine = engine.execution_options(**AUTOCOMMIT)

    @contextmanager
    def hold(self, name: str, wait_seconds: float) -> Iterator[None]:
        """See the port."""
        key = int.from_bytes(_hash(f"registry-admin:{name}")[:8], signed=True)
        with ExitStack() as stack:
            with answering():
                connection = stack.enter_context(self._engine.connect())
                _wait(lambda: _advisory_lock(connection, key), name, wait_seconds)
            yield


def _notice_silence(connection: Any, _record: object) -> None:  # noqa: ANN401 - of the driver
    # Else the server would keep the lock of a host that vanished for two hours.
    connection.autocommit = True
    connection.execute(SERVER_KEEPALIVES)
    connection.autocommit = False


def _flock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _advisory_lock(connection: Connection, key: int) -> bool:
    return bool(connection.execute(_TRY, {"key": key}).scalar_one())


def _hash(name: str) -> bytes:
    return hashlib.sha256(name.encode()).digest()


def _wait(acquire: Callable[[], bool], name: str, wait_seconds: float) -> None:
    deadline = time.monotonic() + wait_seconds
    pause = FIRST_PAUSE_SECONDS
    while not acquire():
        left = deadline - time.monotonic()
        if left <= 0:
            raise RepositoryBusy(
                f"Another change of '{name}' is under way, and was waited for {wait_seconds:g} s. "
                "Nothing was changed. Try again when it has ended."
            )
        time.sleep(min(pause, left))
        pause = min(2 * pause, LONGEST_PAUSE_SECONDS)
