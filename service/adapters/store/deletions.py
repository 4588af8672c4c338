"""Deletion records in the database, with the bytes of what was removed."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from sqlalchemy import ColumnElement, Connection, Executable, Row, bindparam, select
from sqlalchemy.dialects import postgresql, sqlite

from service.adapters.store.database import Database
from service.adapters.store.tables import deletion as table
from service.adapters.store.tables import deletion_manifest, manifest_body
from service.domain.audit import Change
from service.domain.content import INDEX_TYPES, RawManifest
from service.domain.deletion_record import Deletion, KeptManifest, RemovedTag, Requested, State
from service.domain.errors import DeletionUnknown
from service.domain.reference import Digest, Repository, Tag

Manifests = tuple[tuple[RawManifest, ...], tuple[RawManifest, ...]]
"""The removed ones and the supports of one deletion."""

_UNFINISHED = select(table).where(table.c.state != "removed").order_by(table.c.id)
_BARE = (
    select(deletion_manifest)
    .where(deletion_manifest.c.deletion_id.in_(bindparam("ids", expanding=True)))
    .order_by(deletion_manifest.c.position)
)
_OF_REPOSITORY = (
    select(
        deletion_manifest.c.digest,
        deletion_manifest.c.media_type,
        deletion_manifest.c.size,
        manifest_body.c.body,
    )
    .distinct()
    .join_from(deletion_manifest, table)
    .join_from(deletion_manifest, manifest_body)
    .where(table.c.registry == bindparam("registry"), table.c.repository == bindparam("repository"))
)
_WHOLE = _BARE.add_columns(manifest_body.c.body).join(manifest_body)


class SqlDeletions:
    """The port ``Deletions`` over SQL."""

    def __init__(self, database: Database) -> None:
        """Keep the records in ``database``."""
        self._database = database

    def add(self, change: Change, deletion: Deletion) -> None:
        """See the port."""
        change.require_open()
        with self._database.writing() as connection:
            connection.execute(table.insert(), _values(deletion))
            _insert_manifests(connection, deletion)

    def set_state(self, change: Change, deletion_id: str, state: State) -> None:
        """See the port; raise DeletionUnknown."""
        self._update(change, deletion_id, {"state": state})

    def mark_collected(self, change: Change, deletion_id: str) -> None:
        """See the port; raise DeletionUnknown."""
        self._update(change, deletion_id, {"collected": True})

    def replace(self, change: Change, deletion: Deletion) -> None:
        """See the port; raise DeletionUnknown."""
        change.require_open()
        with self._database.writing() as connection:
            _update(connection, deletion.id, _values(deletion))
            _delete_manifests(connection, deletion.id)
            _insert_manifests(connection, deletion)

    def discard(self, change: Change, deletion_id: str) -> None:
        """See the port; raise DeletionUnknown."""
        change.require_open()
        with self._database.writing() as connection:
            _delete_manifests(connection, deletion_id)
            if not connection.execute(table.delete().where(table.c.id == deletion_id)).rowcount:
                raise _unknown(deletion_id)

    def get(self, registry: str, deletion_id: str) -> Deletion:
        """See the port."""
        query = select(table).where(table.c.id == deletion_id, table.c.registry == registry)
        found = self._deletions(query, _WHOLE)
        if not found:
            raise _unknown(deletion_id)
        return found[0]

    def page(
        self, registry: str, n: int, last: str | None, *, whole: bool = False
    ) -> Sequence[Deletion]:
        """See the port."""
        query = select(table).where(table.c.registry == registry)
        query = query.order_by(table.c.id.desc()).limit(n)
        if last is not None:
            query = query.where(table.c.id < last)
        return self._deletions(query, _WHOLE if whole else _BARE)

    def indexes(self, registry: str, repository: Repository) -> Sequence[RawManifest]:
        """See the port."""
        types = deletion_manifest.c.media_type.in_(sorted(INDEX_TYPES))
        return self._manifests(registry, repository, types)

    def manifests(
        self, registry: str, repository: Repository, digests: Collection[Digest]
    ) -> Sequence[RawManifest]:
        """See the port."""
        wanted = deletion_manifest.c.digest.in_(sorted(digests))
        return self._manifests(registry, repository, wanted)

    def _manifests(
        self, registry: str, repository: Repository, which: ColumnElement[bool]
    ) -> Sequence[RawManifest]:
        query = _OF_REPOSITORY.where(which)
        rows = self._database.rows(query, registry=registry, repository=repository)
        return [_manifest(row) for row in rows]

    def unfinished(self) -> Sequence[Deletion]:
        """See the port."""
        return self._deletions(_UNFINISHED, _WHOLE)

    def _update(self, change: Change, deletion_id: str, values: Mapping[str, object]) -> None:
        change.require_open()
        with self._database.writing() as connection:
            _update(connection, deletion_id, values)

    def _deletions(self, deletions: Executable, manifests: Executable) -> list[Deletion]:
        rows = self._database.rows(deletions)
        if not rows:
            return []
        found = defaultdict(list)
        for manifest in self._database.rows(manifests, ids=[row.id for row in rows]):
            found[manifest.deletion_id].append(manifest)
        return [_deletion(row, _manifests(found[row.id])) for row in rows]


def _update(connection: Connection, deletion_id: str, values: Mapping[str, object]) -> None:
    if not connection.execute(table.update().where(table.c.id == deletion_id), values).rowcount:
        raise _unknown(deletion_id)


def _delete_manifests(connection: Connection, deletion_id: str) -> None:
    theirs = deletion_manifest.c.deletion_id == deletion_id
    connection.execute(deletion_manifest.delete().where(theirs))


def _insert_manifests(connection: Connection, deletion: Deletion) -> None:
    manifests = [*deletion.manifests, *deletion.supports]
    if manifests:
        _insert_bodies(connection, manifests)
        connection.execute(deletion_manifest.insert(), list(_manifest_rows(deletion)))


def _insert_bodies(connection: Connection, manifests: Sequence[RawManifest]) -> None:
    insert = postgresql.insert if connection.dialect.name == "postgresql" else sqlite.insert
    # In one order everywhere: two deletions at once with the same manifests must not deadlock.
    bodies = sorted({manifest.digest: manifest.body for manifest in manifests}.items())
    connection.execute(
        insert(manifest_body).on_conflict_do_nothing(),
        [{"digest": digest, "body": body} for digest, body in bodies],
    )


def _manifest_rows(deletion: Deletion) -> Iterator[dict[str, object]]:
    for position, manifest in enumerate([*deletion.manifests, *deletion.supports]):
        yield {
            "deletion_id": deletion.id,
            "position": position,
            "removed": position < len(deletion.manifests),
            "digest": manifest.digest,
            "media_type": manifest.media_type,
            "size": manifest.size,
        }


def _manifests(rows: Sequence[Row[Any]]) -> Manifests:
    removed = tuple(_manifest(row) for row in rows if row.removed)
    return removed, tuple(_manifest(row) for row in rows if not row.removed)


def _manifest(row: Row[Any]) -> RawManifest:
    body = getattr(row, "body", None)
    if body is None:
        return RawManifest(Digest(row.digest), row.media_type, b"", row.size)
    return RawManifest(Digest(row.digest), row.media_type, bytes(body))


def _values(deletion: Deletion) -> dict[str, object]:
    return {
        "id": deletion.id,
        "registry": deletion.registry,
        "repository": deletion.repository,
        "requested_tag": deletion.requested.tag,
        "requested_digest": deletion.requested.digest,
        "requested_forced": deletion.requested.forced,
        "digest": deletion.digest,
        "requested_by": deletion.requested_by,
        "change_id": deletion.change_id,
        "created_at": deletion.created_at,
        "state": deletion.state,
        "collected": deletion.collected,
        "tags": [[removed.tag, removed.digest] for removed in deletion.tags],
        "kept": [[kept.digest, kept.reason] for kept in deletion.kept],
    }


def _deletion(row: Row[Any], manifests: Manifests) -> Deletion:
    return Deletion(
        id=row.id,
        registry=row.registry,
        repository=Repository(row.repository),
        requested=Requested(
            Tag(row.requested_tag) if row.requested_tag else None,
            _digest(row.requested_digest),
            row.requested_forced,
        ),
        digest=_digest(row.digest),
        tags=tuple(RemovedTag(Tag(tag), _digest(digest)) for tag, digest in row.tags),
        manifests=manifests[0],
        supports=manifests[1],
        kept=tuple(KeptManifest(Digest(digest), reason) for digest, reason in row.kept),
        requested_by=row.requested_by,
        change_id=row.change_id,
        created_at=row.created_at,
        state=row.state,
        collected=row.collected,
    )


def _digest(text: str | None) -> Digest | None:
    return Digest(text) if text else None


def _unknown(deletion_id: str) -> DeletionUnknown:
    return DeletionUnknown(f"There is no deletion with the id '{deletion_id}'.")
