"""Bringing the database's tables to the newest revision, once, whoever starts first."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import Connection, Engine, inspect, text

from service.adapters.store.database import AUTOCOMMIT, answering, dedicated
from service.domain.ports import Locks

HEAD = "0005"
"""The newest revision; known here so that an up-to-date database needs no migration tool."""

LOCK = "migrations"
WAIT_SECONDS = 60
SCRIPTS = Path(__file__).parent / "migrations"


class DatabaseTooNew(RuntimeError):
    """The database was made by a newer version of this program."""


def migrate(url: str, locks: Locks) -> None:
    """Create or upgrade the tables; raise DatabaseTooNew, RepositoryBusy or StoreUnavailable."""
    engine = dedicated(url)
    if engine.dialect.name == "sqlite":
        Path(str(engine.url.database)).parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with answering():
        if not _is_newest(engine):
            with locks.hold(LOCK, WAIT_SECONDS):
                _upgrade(engine)


def _is_newest(engine: Engine) -> bool:
    with engine.connect().execution_options(**AUTOCOMMIT) as connection:
        return _revision(connection) == HEAD


def _prepare_file(engine: Engine) -> None:
    """Let SQLite's readers and its writer not wait for each other; the file remembers it."""
    if engine.dialect.name == "sqlite":
        with engine.connect().execution_options(**AUTOCOMMIT) as connection:
            connection.exec_driver_sql("PRAGMA journal_mode = WAL")


def _revision(connection: Connection) -> str | None:
    if not inspect(connection).has_table("alembic_version"):
        return None
    return connection.execute(text("SELECT version_num FROM alembic_version")).scalar()


def _upgrade(engine: Engine) -> None:
    if _is_newest(engine):
        return  # whoever had the lock before has done it
    _prepare_file(engine)
    with engine.begin() as connection:
        _apply(connection)


def _apply(connection: Connection) -> None:
    from alembic import command  # noqa: PLC0415 - of no use to who finds the database up to date
    from alembic.config import Config  # noqa: PLC0415
    from alembic.util import CommandError  # noqa: PLC0415

    config = Config()
    config.set_main_option("script_location", str(SCRIPTS).replace("%", "%%"))
    config.attributes["connection"] = connection
    try:
        command.upgrade(config, "head")
    except CommandError as error:
        raise DatabaseTooNew(
            f"The database is not of this version of registry-admin ({HEAD} is its newest "
            f"revision): {error}. Nothing was changed. Start the version that made it, or a newer."
        ) from error
