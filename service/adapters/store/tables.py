"""The tables, as the newest migration leaves them."""

from __future__ import annotations

import re
from datetime import UTC, datetime

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    DateTime,
    Dialect,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    TypeDecorator,
    text,
)

_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")
"""PostgreSQL takes no NUL, and neither database half a surrogate pair."""


class SafeText(TypeDecorator[str]):
    """Any text at all: attempts with hostile names must be recorded as well."""

    impl = String
    cache_ok = True

    def process_bind_param(self, value: str | None, _dialect: Dialect) -> str | None:
        """Replace what no database stores."""
        return None if value is None else _UNSTORABLE.sub("\ufffd", value)


class UtcTime(TypeDecorator[datetime]):
    """An aware time, given back in UTC; SQLite keeps it as text that sorts."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Refuse naive times, whose zone would be a guess."""
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError(f"{value} has no time zone")
        utc = value.astimezone(UTC)
        return utc.replace(tzinfo=None) if dialect.name == "sqlite" else utc

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Say that it is UTC."""
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if dialect.name == "sqlite" else value.astimezone(UTC)


metadata = MetaData(
    naming_convention={
        "pk": "%(table_name)s_pk",
        "fk": "%(table_name)s_%(column_0_name)s_fk",
        "uq": "%(table_name)s_%(column_0_name)s_key",
        "ix": "%(table_name)s_%(column_0_N_name)s_index",
    }
)

token = Table(
    "token",
    metadata,
    Column("id", String, primary_key=True),
    Column("secret_hash", String, nullable=False, unique=True),
    Column("name", SafeText, nullable=False),
    Column("scopes", JSON, nullable=False),
    Column("registries", JSON, nullable=False),
    Column("repositories", JSON, nullable=False),
    Column("expires_at", UtcTime),
    Column("created_at", UtcTime, nullable=False),
    Column("created_by", SafeText, nullable=False),
    Column("last_used_at", UtcTime),
)

# Both are append-only: triggers of the migration refuse everything but inserting. Without rowids
# SQLite's INSERT OR REPLACE has one key less to get around them by.
audit_attempt = Table(
    "audit_attempt",
    metadata,
    Column("id", String, primary_key=True),
    Column("time", UtcTime, nullable=False, index=True),
    Column("action", SafeText, nullable=False),
    Column("actor", SafeText),
    Column("source_ip", SafeText),
    Column("registry", SafeText),
    Column("container", SafeText),
    Column("target", SafeText),
    Column("request_id", SafeText),
    Column("job", SafeText),
    Index(None, "actor", "id"),
    Index(None, "action", "id"),
    Index(None, "registry", "id"),
    Index(None, "container", "id"),
    sqlite_with_rowid=False,
)

audit_completion = Table(
    "audit_completion",
    metadata,
    Column("event_id", ForeignKey("audit_attempt.id"), primary_key=True),
    Column("outcome", String, nullable=False),
    Column("status", Integer),
    Column("code", SafeText),
    Column("details", JSON, nullable=False),
    Index(None, "outcome", "event_id"),
    sqlite_with_rowid=False,
)

# Counted in the transaction that makes it true: see tallies.
tally = Table(
    "tally",
    metadata,
    Column("name", String, primary_key=True),
    Column("of", SafeText, primary_key=True),
    Column("amount", BigInteger, nullable=False),
)

_UNFINISHED = text("state <> 'removed'")

deletion = Table(
    "deletion",
    metadata,
    Column("id", String, primary_key=True),
    Column("registry", String, nullable=False),
    Column("repository", String, nullable=False),
    Column("requested_tag", String),
    Column("requested_digest", String),
    Column("requested_forced", Boolean, nullable=False),
    Column("digest", String),
    Column("tags", JSON, nullable=False),
    Column("kept", JSON, nullable=False),
    Column("requested_by", SafeText, nullable=False),
    Column("change_id", String),
    Column("created_at", UtcTime, nullable=False),
    Column("state", String, nullable=False),
    Column("collected", Boolean, nullable=False),
    Index(None, "registry", "id"),
    Index(None, "registry", "repository"),
    # Asked for every few seconds, and nearly always empty.
    Index(
        "deletion_unfinished_index",
        "id",
        sqlite_where=_UNFINISHED,
        postgresql_where=_UNFINISHED,
    ),
)

# Bytes once by digest, for all deletions that hold them; nothing is ever taken out.
manifest_body = Table(
    "manifest_body",
    metadata,
    Column("digest", String, primary_key=True),
    Column("body", LargeBinary, nullable=False),
)

deletion_manifest = Table(
    "deletion_manifest",
    metadata,
    Column("deletion_id", ForeignKey("deletion.id"), primary_key=True),
    Column("position", Integer, primary_key=True, autoincrement=False),
    Column("removed", Boolean, nullable=False),
    Column("digest", ForeignKey("manifest_body.digest"), nullable=False),
    Column("media_type", SafeText, nullable=False),
    Column("size", Integer, nullable=False),
)

worker = Table(
    "worker",
    metadata,
    Column("id", String, primary_key=True),
    Column("beat_at", UtcTime, nullable=False),
)
