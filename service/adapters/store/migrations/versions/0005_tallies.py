"""Numbers that only grow, and what they are by now."""

from __future__ import annotations

from collections import Counter

import sqlalchemy as sa
from alembic import op

from service.adapters.store.tables import SafeText

revision = "0005"
down_revision = "0004"

REFUSALS = """
    INSERT INTO tally SELECT 'refusals', coalesce(code, 'none'), count(*) FROM audit_completion
    WHERE outcome = 'refused' GROUP BY coalesce(code, 'none')
"""
JOBS_ENDED = """
    INSERT INTO tally SELECT 'jobs-ended', kind || ' ' || state, count(*) FROM job
    WHERE state NOT IN ('queued', 'running') GROUP BY kind, state
"""


def upgrade() -> None:
    """Apply; there is no way back but a backup."""
    tally = op.create_table(
        "tally",
        sa.Column("name", sa.String, primary_key=True),
        sa.Column("of", SafeText, primary_key=True),
        sa.Column("amount", sa.BigInteger, nullable=False),
    )
    op.execute(REFUSALS)
    op.execute(JOBS_ENDED)
    freed = bytes_freed()
    rows = [{"name": "bytes-freed", "of": name, "amount": freed[name]} for name in freed]
    op.bulk_insert(tally, rows)


def bytes_freed() -> Counter[str]:
    """What the collections that are still known have freed, by registry."""
    job = sa.table("job", sa.column("registry"), sa.column("kind"), sa.column("result", sa.JSON))
    query = sa.select(job.c.registry, job.c.result).where(job.c.kind == "gc")
    freed: Counter[str] = Counter()
    for registry, result in op.get_bind().execute(query):
        if result and not result["dry_run"]:
            freed[registry] += result["bytes_freed"] or 0
    return freed
