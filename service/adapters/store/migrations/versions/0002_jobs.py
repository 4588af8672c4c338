"""Jobs, their logs, and what must be put back if one dies."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from service.adapters.store.tables import SafeText, UtcTime

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Apply; there is no way back but a backup."""
    create_job()
    index_job()
    op.create_table(
        "job_log",
        sa.Column("job_id", sa.String, primary_key=True),
        sa.Column("seq", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("time", UtcTime, nullable=False),
        sa.Column("level", sa.String, nullable=False),
        sa.Column("message", SafeText, nullable=False),
        sa.ForeignKeyConstraint(
            ["job_id"], ["job.id"], name="job_log_job_id_fk", ondelete="CASCADE"
        ),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "compensation",
        sa.Column("job_id", sa.String, primary_key=True),
        sa.Column("kind", sa.String, primary_key=True),
        sa.Column("data", sa.JSON, nullable=False),
        sa.Column("created_at", UtcTime, nullable=False),
        sa.ForeignKeyConstraint(["job_id"], ["job.id"], name="compensation_job_id_fk"),
    )


def create_job() -> None:
    """The jobs."""
    op.create_table(
        "job",
        sa.Column("id", sa.String, primary_key=True),
        sa.Column("kind", sa.String, nullable=False),
        sa.Column("state", sa.String, nullable=False),
        sa.Column("registry", SafeText),
        sa.Column("container", SafeText),
        sa.Column("params", sa.JSON, nullable=False),
        sa.Column("requested_by", SafeText, nullable=False),
        sa.Column("request_id", SafeText),
        sa.Column("change_id", sa.String, nullable=False),
        sa.Column("exclusive", SafeText),
        sa.Column("single", SafeText),
        sa.Column("key", sa.String),
        sa.Column("fingerprint", sa.String, nullable=False),
        sa.Column("created_at", UtcTime, nullable=False),
        sa.Column("started_at", UtcTime),
        sa.Column("finished_at", UtcTime),
        sa.Column("phase", SafeText),
        sa.Column("done", sa.BigInteger),
        sa.Column("total", sa.BigInteger),
        sa.Column("result", sa.JSON),
        sa.Column("result_size", sa.Integer, nullable=False),
        sa.Column("error", sa.JSON),
        sa.Column("cancel_requested", sa.Boolean, nullable=False),
        sa.Column("beyond_return", sa.Boolean, nullable=False),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("run", sa.String),
    )


def index_job() -> None:
    """What is asked for, and what is there once."""
    for column in ("kind", "state", "registry", "container"):
        op.create_index(f"job_{column}_id_index", "job", [column, "id"])
    op.create_index("job_key_key", "job", ["key"], unique=True)
    unended = sa.text("state IN ('queued', 'running')")
    for name, column, unique in (
        ("job_single_key", "single", True),
        ("job_unended_index", "id", False),
    ):
        op.create_index(
            name, "job", [column], unique=unique, sqlite_where=unended, postgresql_where=unended
        )
    ended = sa.text("finished_at IS NOT NULL")
    op.create_index(
        "job_finished_at_index", "job", ["finished_at"], sqlite_where=ended, postgresql_where=ended
    )
