"""Bearer tokens in the database."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Row, bindparam, or_, select
from sqlalchemy.exc import SQLAlchemyError

from service.adapters.store.database import Database
from service.adapters.store.tables import token as table
from service.domain.access import Caller, Token
from service.domain.audit import Change
from service.domain.errors import TokenUnknown
from service.domain.ports import Clock

USE_NOTED_EVERY = timedelta(minutes=1)

_FIND = select(table).where(table.c.secret_hash == bindparam("secret_hash"))
_GET = select(table).where(table.c.id == bindparam("token_id"))


class SqlTokens:
    """The port ``Tokens`` over SQL."""

    def __init__(self, database: Database, clock: Clock) -> None:
        """Keep the tokens in ``database``."""
        self._database = database
        self._clock = clock

    def create(self, change: Change, token: Token, secret_hash: str) -> None:
        """See the port."""
        change.require_open()
        with self._database.writing() as connection:
            connection.execute(table.insert(), _values(token, secret_hash))

    def find(self, secret_hash: str) -> Token | None:
        """See the port; notes the use, at most once a minute."""
        rows = self._database.rows(_FIND, secret_hash=secret_hash)
        if not rows:
            return None
        self._note_use(rows[0])
        return _token(rows[0])

    def get(self, token_id: str) -> Token:
        """See the port."""
        rows = self._database.rows(_GET, token_id=token_id)
        if not rows:
            raise _unknown(token_id)
        return _token(rows[0])

    def revoke(self, change: Change, token_id: str) -> None:
        """See the port."""
        change.require_open()
        with self._database.writing() as connection:
            gone = connection.execute(table.delete().where(table.c.id == token_id)).rowcount
        if not gone:
            raise _unknown(token_id)

    def page(self, n: int, last: str | None) -> Sequence[Token]:
        """See the port."""
        query = select(table).order_by(table.c.id).limit(n)
        if last is not None:
            query = query.where(table.c.id > last)
        return [_token(row) for row in self._database.rows(query)]

    def _note_use(self, row: Row[Any]) -> None:
        now = self._clock.now()
        if row.last_used_at is not None and now - row.last_used_at < USE_NOTED_EVERY:
            return
        try:
            self._write_use(row.id, now)
        except SQLAlchemyError:
            return  # a note is not worth refusing the caller for

    def _write_use(self, token_id: str, now: datetime) -> None:
        used = table.c.last_used_at
        stale = or_(used.is_(None), used <= now - USE_NOTED_EVERY)
        with self._database.writing() as connection:
            connection.execute(
                table.update().where(table.c.id == token_id, stale).values(last_used_at=now)
            )


def _values(token: Token, secret_hash: str) -> dict[str, object]:
    caller = token.caller
    return {
        "id": token.id,
        "secret_hash": secret_hash,
        "name": caller.name,
        "scopes": sorted(caller.scopes),
        "registries": list(caller.registries),
        "repositories": list(caller.repositories),
        "expires_at": caller.expires_at,
        "created_at": token.created_at,
        "created_by": token.created_by,
        "last_used_at": token.last_used_at,
    }


def _token(row: Row[Any]) -> Token:
    caller = Caller(
        name=row.name,
        scopes=frozenset(row.scopes),
        registries=tuple(row.registries),
        repositories=tuple(row.repositories),
        expires_at=row.expires_at,
    )
    return Token(row.id, caller, row.created_at, row.created_by, row.last_used_at)


def _unknown(token_id: str) -> TokenUnknown:
    return TokenUnknown(f"There is no token with the id '{token_id}'.")
