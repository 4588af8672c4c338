"""What earlier deletions of a repository recorded is looked at before the next one."""

from __future__ import annotations

from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Apply; there is no way back but a backup."""
    op.create_index("deletion_registry_repository_index", "deletion", ["registry", "repository"])
