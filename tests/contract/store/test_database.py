"""What the database itself promises, whoever writes to it."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import create_engine, event, text
from sqlalchemy.exc import DBAPIError

from service.adapters.store import SqlStore
from service.adapters.store.database import dedicated
from service.adapters.store.migrate import HEAD, SCRIPTS, DatabaseTooNew
from service.adapters.store.tables import metadata
from service.domain.access import Caller, Token
from service.domain.audit import Attempt, AuditTrail, Change, Completion
from service.domain.errors import StoreUnavailable
from service.domain.ports import AuditQuery
from tests.contract.store.conftest import START, HandClock, Place
from tests.e2e.bed.postgres import Postgres

MIGRATE = """
import sys
from pathlib import Path
from service.adapters.store import SqlStore
from tests.fakes_store import WallClock
sys.stdin.readline()
SqlStore(sys.argv[1], Path(sys.argv[2]), WallClock()).migrate()
"""


def execute(place: Place, statement: str) -> None:
    with dedicated(place.url).begin() as connection:
        connection.execute(text(statement))


@pytest.fixture
def change(sql_store: SqlStore) -> Change:
    return AuditTrail(sql_store.audit).begin(Attempt("test", "tester"))


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE audit_attempt SET actor = 'somebody else'",
        "DELETE FROM audit_attempt",
        "UPDATE audit_completion SET outcome = 'succeeded'",
        "DELETE FROM audit_completion",
    ],
)
def test_the_trail_only_grows(place: Place, sql_store: SqlStore, statement: str) -> None:
    event = AuditTrail(sql_store.audit).begin(Attempt("test", "tester"))
    event.complete(Completion("failed"))
    before = sql_store.audit.page(AuditQuery(), 10, None)
    with pytest.raises(DBAPIError, match="append-only"):
        execute(place, statement)
    assert sql_store.audit.page(AuditQuery(), 10, None) == before


def test_sqlite_s_insert_or_replace_does_not_get_around_it(
    place: Place, sql_store: SqlStore
) -> None:
    event = AuditTrail(sql_store.audit).begin(Attempt("test", "tester"))
    event.complete(Completion("failed"))
    attempt = f"audit_attempt (id, time, action) VALUES ('{event.id}', '{START}', 'x')"
    completion = (
        f"audit_completion (event_id, outcome, details) VALUES ('{event.id}', 'succeeded', '{{}}')"
    )
    for row in (attempt, completion):
        if place.url.startswith("sqlite"):
            with pytest.raises(DBAPIError, match="append-only"):
                execute(place, f"INSERT OR REPLACE INTO {row}")
        else:
            with pytest.raises(DBAPIError, match="append-only"):
                execute(place, f"TRUNCATE {row.split()[0]} CASCADE")


def test_migrating_twice_changes_nothing(sql_store: SqlStore, change: Change) -> None:
    sql_store.tokens.create(change, Token("1", Caller("n", frozenset()), START, "me"), "hash")
    sql_store.migrate()
    assert sql_store.tokens.find("hash") is not None


def test_the_newest_revision_is_the_one_that_is_known() -> None:
    config = Config()
    config.set_main_option("script_location", str(SCRIPTS))
    assert ScriptDirectory.from_config(config).get_heads() == [HEAD]


def test_migrations_lead_to_the_tables_that_the_code_uses(
    place: Place, sql_store: SqlStore
) -> None:
    sql_store.check()
    with dedicated(place.url).connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, metadata) == []


def test_processes_that_start_at_once_migrate_once(place: Place, clock: HandClock) -> None:
    command = [sys.executable, "-c", MIGRATE, place.url, str(place.data_dir)]
    started = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(3)
    ]
    for process in started:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    assert [process.communicate()[1] for process in started] == ["", "", ""]
    assert [process.returncode for process in started] == [0, 0, 0]
    store = SqlStore(place.url, place.data_dir, clock)
    store.check()
    store.close()


def test_a_newer_database_is_refused(place: Place, sql_store: SqlStore) -> None:
    execute(place, "UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(DatabaseTooNew, match="9999"):
        sql_store.migrate()


def test_a_transaction_is_whole_or_nothing(sql_store: SqlStore, change: Change) -> None:
    one = Token("1", Caller("n", frozenset()), START, "me")
    sql_store.tokens.create(change, one, "hash")
    with pytest.raises(DBAPIError):
        sql_store.tokens.create(change, one, "another hash")
    assert sql_store.tokens.find("another hash") is None


def test_errors_show_no_values(sql_store: SqlStore, change: Change) -> None:
    one = Token("1", Caller("n", frozenset()), START, "me")
    sql_store.tokens.create(change, one, "the-hash")
    with pytest.raises(DBAPIError) as caught:
        sql_store.tokens.create(change, one, "the-hash")
    assert "parameters hidden" in str(caught.value)


def test_writers_wait_for_each_other(sql_store: SqlStore) -> None:
    trail = AuditTrail(sql_store.audit)
    errors: list[Exception] = []

    def work() -> None:
        try:
            for _ in range(10):
                with trail.attempt(Attempt("test", "tester")):
                    pass
        except Exception as error:  # noqa: BLE001 - whichever it is, it must not come
            errors.append(error)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert len(sql_store.audit.page(AuditQuery(outcome="succeeded"), 1000, None)) == 80


def test_a_token_s_use_is_noted_at_most_once_a_minute(
    sql_store: SqlStore, change: Change, clock: HandClock
) -> None:
    sql_store.tokens.create(change, Token("1", Caller("n", frozenset()), START, "me"), "hash")
    assert sql_store.tokens.get("1").last_used_at is None
    for seconds in (0, 59, 1):
        clock.move(seconds=seconds)
        sql_store.tokens.find("hash")
    assert sql_store.tokens.get("1").last_used_at == clock.now()
    used = clock.now()
    clock.move(seconds=59)
    sql_store.tokens.find("hash")
    assert sql_store.tokens.get("1").last_used_at == used


def test_finding_a_token_is_one_statement(sql_store: SqlStore, change: Change) -> None:
    sql_store.tokens.create(change, Token("1", Caller("n", frozenset()), START, "me"), "hash")
    sql_store.tokens.find("hash")
    said: list[str] = []
    engine = sql_store.database.engine
    event.listen(engine, "before_cursor_execute", lambda *args: said.append(args[2]))
    sql_store.tokens.find("hash")
    assert len(said) == 1


@pytest.mark.parametrize(
    "ask",
    [
        SqlStore.check,
        SqlStore.migrate,
        lambda store: store.tokens.find("hash"),
        lambda store: store.locks.hold("name", 0).__enter__(),
        lambda store: store.audit.record_attempt("1", Attempt("test", "tester")),
    ],
    ids=["check", "migrate", "find", "lock", "write"],
)
def test_a_database_that_is_not_there(
    tmp_path: Path, clock: HandClock, ask: Callable[[SqlStore], object]
) -> None:
    store = SqlStore("postgresql://nobody@127.0.0.1:1/nothing", tmp_path, clock)
    with pytest.raises(StoreUnavailable) as caught:
        ask(store)
    assert "nobody" not in caught.value.detail


def test_connections_that_a_restart_cut_are_replaced(postgres: Postgres, clock: HandClock) -> None:
    url = postgres.create()
    store = SqlStore(url, START, clock)  # type: ignore[arg-type]
    store.migrate()
    store.check()
    cut = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = "
    postgres.sql(f"{cut} '{url.rpartition('/')[2]}'")
    assert store.tokens.find("hash") is None
    store.close()
    postgres.drop(url)


def test_sqlite_survives_on_disk_what_it_has_acknowledged(
    place: Place, sql_store: SqlStore
) -> None:
    if place.url.startswith("sqlite"):
        with create_engine(place.url).connect() as connection:
            assert connection.execute(text("PRAGMA journal_mode")).scalar() == "wal"
        with sql_store.database.engine.connect() as connection:
            assert connection.execute(text("PRAGMA synchronous")).scalar() == 2
            assert connection.execute(text("PRAGMA foreign_keys")).scalar() == 1


TO_BE_COUNTED = (
    "INSERT INTO audit_attempt (id, time, action) SELECT id, created_at, 'x' FROM job",
    """
    INSERT INTO audit_completion (event_id, outcome, code, details)
    SELECT id, 'refused', CASE registry WHEN 'b' THEN 'gc-already-active' END, '{}' FROM job
    """,
)
JOB = """
    INSERT INTO job (
        id, kind, state, registry, result, finished_at, created_at, params, requested_by,
        change_id, fingerprint, result_size, cancel_requested, beyond_return, attempts
    ) VALUES (
        '{id}', 'gc', '{state}', '{registry}', {result}, {ended}, '{time}', '{{}}', 'ann',
        'c', 'f', 0, false, false, 1
    )
"""


def test_what_was_there_before_it_was_counted_is_counted(place: Place, sql_store: SqlStore) -> None:
    """As if the database had been made by a version without tallies."""
    execute(place, "DROP TABLE tally")
    execute(place, "UPDATE alembic_version SET version_num = '0004'")
    freed = """{"dry_run": false, "bytes_freed": 4294967296}"""
    for number, (state, registry, result) in enumerate(
        [
            ("succeeded", "a", f"'{freed}'"),
            ("succeeded", "a", f"'{freed}'"),
            ("succeeded", "b", f"'{freed.replace('false', 'true')}'"),
            ("failed", "b", "NULL"),
            ("running", "b", "NULL"),
        ]
    ):
        told = {"state": state, "registry": registry, "result": result, "time": START}
        ended = "NULL" if state == "running" else f"'{START}'"
        execute(place, JOB.format(id=number, ended=ended, **told))
    for statement in TO_BE_COUNTED:
        execute(place, statement)
    sql_store.migrate()
    figures = sql_store.jobs.figures()
    expected = {("gc", "succeeded"): 3, ("gc", "failed"): 1, ("gc", "running"): 1}
    assert figures.counts == expected
    assert figures.bytes_freed == {"a": 2**33}
    assert sql_store.audit.refusals() == {"gc-already-active": 3, "none": 2}


def test_a_database_without_an_encoding_will_do(
    postgres: Postgres, clock: HandClock, tmp_path: Path
) -> None:
    url = postgres.create("SQL_ASCII")
    store = SqlStore(url, tmp_path, clock)
    store.migrate()
    token = Token("1" * 32, Caller("änn", frozenset({"admin"})), START, "tester")
    with AuditTrail(store.audit).attempt(Attempt("test", "tester")) as change:
        store.tokens.create(change, token, "0" * 64)
    assert [one.caller.name for one in store.tokens.page(9, None)] == ["änn"]
    store.close()
    postgres.drop(url)
