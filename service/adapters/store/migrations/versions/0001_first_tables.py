"""First tables: tokens, the audit trail, deletions, workers."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from service.adapters.store.tables import SafeText, UtcTime

revision = "0001"
down_revision = None

REFUSAL = "the audit trail is append-only"
TRAIL = {"audit_attempt": "id", "audit_completion": "event_id"}


def upgrade() -> None:
    """Apply; there is no way back but a backup."""
    create_token()
    create_audit()
    create_deletion()
    create_manifests()
    op.create_table(
        "worker",
        sa.Column("id", sa.String, primary_key=True),
        sa.Column("beat_at", UtcTime, nullable=False),
    )
    if op.get_bind().dialect.name == "sqlite":
        close_trail_sqlite()
    else:
        close_trail_postgres()


def create_token() -> None:
    """Bearer tokens."""
    op.create_table(
        "token",
        sa.Column("id", sa.String, primary_key=True),
        sa.Column("secret_hash", sa.String, nullable=False),
        sa.Column("name", SafeText, nullable=False),
        sa.Column("scopes", sa.JSON, nullable=False),
        sa.Column("registries", sa.JSON, nullable=False),
        sa.Column("repositories", sa.JSON, nullable=False),
        sa.Column("expires_at", UtcTime),
        sa.Column("created_at", UtcTime, nullable=False),
        sa.Column("created_by", SafeText, nullable=False),
        sa.Column("last_used_at", UtcTime),
        sa.UniqueConstraint("secret_hash", name="token_secret_hash_key"),
    )


def create_audit() -> None:
    """The audit trail."""
    op.create_table(
        "audit_attempt",
        sa.Column("id", sa.String, primary_key=True),
        sa.Column("time", UtcTime, nullable=False),
        sa.Column("action", SafeText, nullable=False),
        sa.Column("actor", SafeText),
        sa.Column("source_ip", SafeText),
        sa.Column("registry", SafeText),
        sa.Column("container", SafeText),
        sa.Column("target", SafeText),
        sa.Column("request_id", SafeText),
        sa.Column("job", SafeText),
        sqlite_with_rowid=False,
    )
    op.create_index("audit_attempt_time_index", "audit_attempt", ["time"])
    for column in ("actor", "action", "registry", "container"):
        op.create_index(f"audit_attempt_{column}_id_index", "audit_attempt", [column, "id"])
    op.create_table(
        "audit_completion",
        sa.Column("event_id", sa.String, primary_key=True),
        sa.Column("outcome", sa.String, nullable=False),
        sa.Column("status", sa.Integer),
        sa.Column("code", SafeText),
        sa.Column("details", sa.JSON, nullable=False),
        sa.ForeignKeyConstraint(
            ["event_id"], ["audit_attempt.id"], name="audit_completion_event_id_fk"
        ),
        sqlite_with_rowid=False,
    )
    op.create_index(
        "audit_completion_outcome_event_id_index", "audit_completion", ["outcome", "event_id"]
    )


def create_deletion() -> None:
    """Deletions."""
    unfinished = sa.text("state <> 'removed'")
    op.create_table(
        "deletion",
        sa.Column("id", sa.String, primary_key=True),
        sa.Column("registry", sa.String, nullable=False),
        sa.Column("repository", sa.String, nullable=False),
        sa.Column("requested_tag", sa.String),
        sa.Column("requested_digest", sa.String),
        sa.Column("requested_forced", sa.Boolean, nullable=False),
        sa.Column("digest", sa.String),
        sa.Column("tags", sa.JSON, nullable=False),
        sa.Column("kept", sa.JSON, nullable=False),
        sa.Column("requested_by", SafeText, nullable=False),
        sa.Column("change_id", sa.String),
        sa.Column("created_at", UtcTime, nullable=False),
        sa.Column("state", sa.String, nullable=False),
        sa.Column("collected", sa.Boolean, nullable=False),
    )
    op.create_index("deletion_registry_id_index", "deletion", ["registry", "id"])
    op.create_index(
        "deletion_unfinished_index",
        "deletion",
        ["id"],
        sqlite_where=unfinished,
        postgresql_where=unfinished,
    )


def create_manifests() -> None:
    """The bytes to undo deletions with."""
    op.create_table(
        "manifest_body",
        sa.Column("digest", sa.String, primary_key=True),
        sa.Column("body", sa.LargeBinary, nullable=False),
    )
    op.create_table(
        "deletion_manifest",
        sa.Column("deletion_id", sa.String, primary_key=True),
        sa.Column("position", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("removed", sa.Boolean, nullable=False),
        sa.Column("digest", sa.String, nullable=False),
        sa.Column("media_type", SafeText, nullable=False),
        sa.Column("size", sa.Integer, nullable=False),
        sa.ForeignKeyConstraint(
            ["deletion_id"], ["deletion.id"], name="deletion_manifest_deletion_id_fk"
        ),
        sa.ForeignKeyConstraint(
            ["digest"], ["manifest_body.digest"], name="deletion_manifest_digest_fk"
        ),
    )


def close_trail_sqlite() -> None:
    """Refuse all but new rows; INSERT OR REPLACE deletes without asking the triggers for that."""
    for table, key in TRAIL.items():
        refuse = f"BEGIN SELECT RAISE(ABORT, '{REFUSAL}'); END"
        op.execute(f"CREATE TRIGGER {table}_update BEFORE UPDATE ON {table} {refuse}")
        op.execute(f"CREATE TRIGGER {table}_delete BEFORE DELETE ON {table} {refuse}")
        op.execute(
            f"CREATE TRIGGER {table}_replace BEFORE INSERT ON {table} "  # noqa: S608 - our names
            f"WHEN EXISTS (SELECT 1 FROM {table} WHERE {key} = NEW.{key}) {refuse}"
        )


def close_trail_postgres() -> None:
    """Refuse all but new rows."""
    op.execute(
        "CREATE FUNCTION refuse_audit_change() RETURNS trigger LANGUAGE plpgsql AS "
        f"$$ BEGIN RAISE EXCEPTION '{REFUSAL}'; END $$"
    )
    for table in TRAIL:
        for trigger, events, scope in (
            ("change", "UPDATE OR DELETE", "ROW"),
            ("truncate", "TRUNCATE", "STATEMENT"),
        ):
            op.execute(
                f"CREATE TRIGGER {table}_{trigger} BEFORE {events} ON {table} "
                f"FOR EACH {scope} EXECUTE FUNCTION refuse_audit_change()"
            )
