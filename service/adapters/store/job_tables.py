"""The tables of jobs, as the newest migration leaves them.

The job engine keeps its own tables beside these (in the schema ``dbos`` on PostgreSQL, on SQLite
among them, named ``workflow_*``, ``queues`` and so on), and makes and migrates them itself.
"""

from __future__ import annotations

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    ForeignKey,
    Index,
    Integer,
    String,
    Table,
    text,
)

from service.adapters.store.tables import SafeText, UtcTime, metadata

_UNENDED = text("state IN ('queued', 'running')")
_ENDED = text("finished_at IS NOT NULL")

# ``key`` is the hash of an idempotency key and its owner. ``single`` names what no two jobs that
# have not ended may share. ``run`` is the token of the execution that may write to the row.
job = Table(
    "job",
    metadata,
    Column("id", String, primary_key=True),
    Column("kind", String, nullable=False),
    Column("state", String, nullable=False),
    Column("registry", SafeText),
    Column("container", SafeText),
    Column("params", JSON, nullable=False),
    Column("requested_by", SafeText, nullable=False),
    Column("request_id", SafeText),
    Column("change_id", String, nullable=False),
    Column("exclusive", SafeText),
    Column("single", SafeText),
    Column("key", String),
    Column("fingerprint", String, nullable=False),
    Column("created_at", UtcTime, nullable=False),
    Column("started_at", UtcTime),
    Column("finished_at", UtcTime),
    Column("phase", SafeText),
    Column("done", BigInteger),
    Column("total", BigInteger),
    Column("result", JSON(none_as_null=True)),
    Column("result_size", Integer, nullable=False),
    Column("error", JSON(none_as_null=True)),
    Column("cancel_requested", Boolean, nullable=False),
    Column("beyond_return", Boolean, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("run", String),
    Index(None, "kind", "id"),
    Index(None, "state", "id"),
    Index(None, "registry", "id"),
    Index(None, "container", "id"),
    Index("job_key_key", "key", unique=True),
    Index(
        "job_single_key", "single", unique=True, sqlite_where=_UNENDED, postgresql_where=_UNENDED
    ),
    # Asked for every few seconds, and nearly always empty.
    Index("job_unended_index", "id", sqlite_where=_UNENDED, postgresql_where=_UNENDED),
    Index("job_finished_at_index", "finished_at", sqlite_where=_ENDED, postgresql_where=_ENDED),
)

job_log = Table(
    "job_log",
    metadata,
    Column("job_id", ForeignKey("job.id", ondelete="CASCADE"), primary_key=True),
    Column("seq", Integer, primary_key=True, autoincrement=False),
    Column("time", UtcTime, nullable=False),
    Column("level", String, nullable=False),
    Column("message", SafeText, nullable=False),
    sqlite_with_rowid=False,
)

gc_schedule = Table(
    "gc_schedule",
    metadata,
    Column("registry", String, primary_key=True),
    Column("cron", String, nullable=False),
    Column("time_zone", String, nullable=False),
    Column("mode", String, nullable=False),
    Column("delete_untagged", Boolean, nullable=False),
    Column("enabled", Boolean, nullable=False),
    Column("next_run_at", UtcTime),
    Column("last_run", String),
    Column("change_id", String, nullable=False),
)

compensation = Table(
    "compensation",
    metadata,
    Column("job_id", ForeignKey("job.id"), primary_key=True),
    Column("kind", String, primary_key=True),
    Column("data", JSON, nullable=False),
    Column("created_at", UtcTime, nullable=False),
)
