"""Alembic runs this to apply revisions on the connection it is given."""

from __future__ import annotations

from alembic import context

from service.adapters.store.tables import metadata

connection = context.config.attributes["connection"]
context.configure(connection=connection, target_metadata=metadata, transactional_ddl=True)
with context.begin_transaction():
    context.run_migrations()
