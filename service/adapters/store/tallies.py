"""Numbers that only grow, counted in the very transaction that makes them true.

Rows would not do: jobs are forgotten after a time, and the audit trail is too long to be counted.
"""

from __future__ import annotations

from collections.abc import Mapping

from sqlalchemy import Connection, select
from sqlalchemy.dialects import postgresql, sqlite

from service.adapters.store.database import Database
from service.adapters.store.tables import tally

REFUSALS = "refusals"
JOBS_ENDED = "jobs-ended"
BYTES_FREED = "bytes-freed"


def add(connection: Connection, name: str, of: str, amount: int = 1) -> None:
    """Add to what ``name`` counts of ``of``, within a transaction."""
    on_postgres = connection.dialect.name == "postgresql"
    insert = (postgresql if on_postgres else sqlite).insert(tally)
    values = {"name": name, "of": of, "amount": amount}
    more = {"amount": tally.c.amount + insert.excluded.amount}
    connection.execute(
        insert.values(values).on_conflict_do_update(index_elements=["name", "of"], set_=more)
    )


def read(database: Database, name: str) -> Mapping[str, int]:
    """What was counted, by what it is of; raise StoreUnavailable."""
    query = select(tally.c.of, tally.c.amount).where(tally.c.name == name)
    return {row.of: row.amount for row in database.rows(query)}
