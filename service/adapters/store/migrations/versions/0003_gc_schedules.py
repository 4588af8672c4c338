"""Collections that begin by themselves."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from service.adapters.store.tables import UtcTime

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Apply; there is no way back but a backup."""
    op.create_table(
        "gc_schedule",
        sa.Column("registry", sa.String, primary_key=True),
        sa.Column("cron", sa.String, nullable=False),
        sa.Column("time_zone", sa.String, nullable=False),
        sa.Column("mode", sa.String, nullable=False),
        sa.Column("delete_untagged", sa.Boolean, nullable=False),
        sa.Column("enabled", sa.Boolean, nullable=False),
        sa.Column("next_run_at", UtcTime),
        sa.Column("last_run", sa.String),
        sa.Column("change_id", sa.String, nullable=False),
    )
