"""Putting a deletion back: all of it, or, where garbage collection has taken a blob, nothing."""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator
from dataclasses import dataclass, replace
from graphlib import TopologicalSorter

from service.domain.audit import Change
from service.domain.concurrency import spread
from service.domain.content import RawManifest, parse_manifest
from service.domain.deletion_record import Deletion
from service.domain.errors import (
    BlobsCollected,
    Conflict,
    ManifestRefused,
    ManifestUnknown,
    NotRestorable,
    RepositoryUnknown,
    TagExists,
)
from service.domain.ports import Deletions, Registry, RegistryWriter, Store
from service.domain.reference import Digest, Tag
from service.domain.removal import LOCK_WAIT_SECONDS, lock_name
from service.domain.survey import absent_children
from service.domain.untagging import require_writable

RECORDS = 100
"""How many are read at a time, with their manifests: some kilobytes each."""
"""Records looked at in one go."""


@dataclass(frozen=True, slots=True)
class Restoration:
    """What was put back, or would be: manifests in order, children first, then tags."""

    deletion: Deletion
    manifests: tuple[RawManifest, ...]
    tags: tuple[Tag, ...]
    dry_run: bool = False


class Restorer:
    """Restores deletions of one registry."""

    def __init__(self, registry: Registry, store: Store) -> None:
        """Work on ``registry``, with records and locks in ``store``."""
        self._registry = registry
        self._store = store

    def restore(
        self, change: Change, deletion_id: str, *, force: bool, dry_run: bool
    ) -> Restoration:
        """Put manifests and tags back as they were; done twice it does nothing more.

        Raise DeletionUnknown, NotRestorable, TagExists (unless ``force``), BlobsCollected,
        RegistryReadOnly or RepositoryBusy; then nothing was changed. ManifestRefused: a child
        that others deleted has to be pushed first, or the registry has to be restarted after a
        collection; then no tag was put back.
        """
        repository = self._store.deletions.get(self._registry.name, deletion_id).repository
        with self._store.locks.hold(lock_name(self._registry.name, repository), LOCK_WAIT_SECONDS):
            deletion = self._store.deletions.get(self._registry.name, deletion_id)
            _require_restorable(deletion)
            found = self._prepare(change, deletion, force=force, dry_run=dry_run)
            if not dry_run:
                self._carry_out_or_stop(change, found)
            return found

    def finish(self, change: Change, deletion: Deletion) -> None:
        """Finish, under the repository's lock, a restore whose process died.

        Tags in use with another digest are left there. When a blob has been collected
        meanwhile, nothing more is put back.
        """
        try:
            missing = self._missing(deletion)
            self._require_blobs(change, deletion, missing)
        except BlobsCollected:
            self._store.deletions.set_state(change, deletion.id, "removed")
            return
        free = tuple(tag for tag, _, current in self._targets(deletion) if current is None)
        self._carry_out_or_stop(change, Restoration(deletion, tuple(missing), free))

    # Deciding

    def _prepare(
        self, change: Change, deletion: Deletion, *, force: bool, dry_run: bool
    ) -> Restoration:
        require_writable(self._registry, deletion.repository)
        targets = list(self._targets(deletion))
        if not force:
            _require_free(targets)
        missing = self._missing(deletion)
        self._require_blobs(change, deletion, missing)
        if dry_run:
            self._require_children(deletion, missing)
        tags = tuple(tag for tag, digest, current in targets if current != digest)
        return Restoration(deletion, tuple(missing), tags, dry_run)

    def _require_children(self, deletion: Deletion, manifests: list[RawManifest]) -> None:
        absent = absent_children(self._registry, deletion.repository, manifests)
        if absent:
            raise ManifestRefused(
                f"An index of the deletion {deletion.id} has the child {absent[0]}, which "
                f"something else removed: the registry '{deletion.registry}' would not take it "
                "back. Nothing was changed. Push that one again first."
            )

    def _targets(self, deletion: Deletion) -> Iterator[tuple[Tag, Digest, Digest | None]]:
        """Yield each tag, the digest it goes back to, and the one it is on now."""
        for removed in deletion.tags:
            if removed.digest is not None:
                yield removed.tag, removed.digest, self._current(deletion, removed.tag)

    def _current(self, deletion: Deletion, tag: Tag) -> Digest | None:
        try:
            return self._registry.resolve(deletion.repository, tag)
        except (ManifestUnknown, RepositoryUnknown):
            return None

    def _missing(self, deletion: Deletion) -> list[RawManifest]:
        """Return what has to be put back, children first.

        What was removed is put back in any case. What stayed then is looked for, since another
        deletion may have taken it, and then has the bytes: registries refuse an index without
        its children.
        """
        removed = {raw.digest for raw in deletion.manifests}
        bodies = {raw.digest: raw for raw in (*deletion.manifests, *deletion.supports)}
        children: dict[Digest, list[Digest]] = {}
        waiting = [*removed, *(one.digest for one in deletion.tags if one.digest)]
        while waiting:
            digest = waiting.pop()
            if digest in children or (digest not in removed and self._served(deletion, digest)):
                continue
            raw = bodies.get(digest) or self._recorded(deletion, digest)
            if raw is not None:
                bodies[digest] = raw
                children[digest] = [one.digest for one in parse_manifest(raw).children]
                waiting += children[digest]
        order = TopologicalSorter(children).static_order()
        return [bodies[digest] for digest in order if digest in children]

    def _recorded(self, deletion: Deletion, digest: Digest) -> RawManifest | None:
        records = self._store.deletions
        found = records.manifests(self._registry.name, deletion.repository, [digest])
        return next(iter(found), None)

    def _served(self, deletion: Deletion, digest: Digest) -> bool:
        try:
            self._registry.manifest(deletion.repository, digest)
        except (ManifestUnknown, RepositoryUnknown):
            return False
        return True

    def _require_blobs(
        self, change: Change, deletion: Deletion, manifests: Iterable[RawManifest]
    ) -> None:
        blobs = sorted({digest for raw in manifests for digest in _own_blobs(raw)})
        readable = spread(
            lambda digest: self._registry.blob_readable(deletion.repository, digest), blobs
        )
        lost = [digest for digest, there in zip(blobs, readable, strict=True) if not there]
        if lost:
            self._store.deletions.mark_collected(change, deletion.id)
            raise BlobsCollected(
                f"Garbage collection has taken {len(lost)} of the {len(blobs)} blobs that the "
                f"deletion {deletion.id} needs. Nothing was put back. Push the image again.",
                {"blobs": lost},
            )

    # Doing

    def _carry_out_or_stop(self, change: Change, found: Restoration) -> None:
        begun = replace(found.deletion, state="restoring", change_id=change.id)
        self._store.deletions.replace(change, begun)
        try:
            self._carry_out(change, found)
        except Conflict:  # a refusal would be repeated for ever; what failed otherwise is finished
            self._store.deletions.set_state(change, found.deletion.id, "removed")
            raise

    def _carry_out(self, change: Change, found: Restoration) -> None:
        deletion, writer = found.deletion, self._registry.writer(change)
        for raw in found.manifests:
            self._put(writer, deletion, raw)
        self._require_served(deletion, found.manifests)
        bodies = {raw.digest: raw for raw in (*deletion.manifests, *deletion.supports)}
        for removed in deletion.tags:
            if removed.tag in found.tags and removed.digest is not None:
                writer.put_manifest(deletion.repository, removed.tag, bodies[removed.digest])
        self._store.deletions.set_state(change, deletion.id, "removed")

    def _put(self, writer: RegistryWriter, deletion: Deletion, raw: RawManifest) -> None:
        try:
            writer.put_manifest(deletion.repository, raw.digest, raw)
        except ManifestRefused as error:
            raise ManifestRefused(
                f"The registry '{deletion.registry}' does not take {raw.digest} back. No tag was "
                "put back; manifests that it took before are there again without a tag. Where a "
                "child is missing that something else removed, push that one again first. "
                f"{error.detail.partition('.')[0]}."
            ) from error

    def _require_served(self, deletion: Deletion, manifests: Iterable[RawManifest]) -> None:
        # Distribution remembers manifests that a collection has swept: until it is restarted it
        # takes one for known, answers 201 and keeps nothing. A tag on it would dangle.
        lost = [raw.digest for raw in manifests if not self._served(deletion, raw.digest)]
        if lost:
            raise ManifestRefused(
                f"The registry '{deletion.registry}' says that it has taken {lost[0]}, and does "
                "not serve it: it remembers what garbage collection has swept. No tag was put "
                "back. Restart the registry, then restore again."
            )


def note_collected(
    deletions: Deletions, change: Change, registry: str, gone: Container[Digest]
) -> int:
    """Mark the deletions that need a blob which garbage collection took; return how many.

    A restore looks for itself: what was pushed again since can be restored all the same.
    """
    noted, last = 0, None
    while page := deletions.page(registry, RECORDS, last, whole=True):
        last = page[-1].id
        for one in page:
            if one.restorable and _needs(one, gone):
                deletions.mark_collected(change, one.id)
                noted += 1
    return noted


def _needs(deletion: Deletion, gone: Container[Digest]) -> bool:
    return any(blob in gone for raw in deletion.manifests for blob in _own_blobs(raw))


def _own_blobs(raw: RawManifest) -> Iterator[Digest]:
    """Yield the blobs a manifest needs in this registry; foreign layers live elsewhere."""
    for blob in parse_manifest(raw).blobs:
        if not blob.is_foreign:
            yield blob.digest


def _require_restorable(deletion: Deletion) -> None:
    if deletion.state != "removed":
        raise NotRestorable(
            f"The deletion {deletion.id} has not ended yet: it is being finished. Nothing was "
            "changed. Try again in some seconds."
        )
    if not deletion.holds_something:
        raise NotRestorable(
            f"The deletion {deletion.id} removed a tag that pointed nowhere: there is nothing to "
            "put back. Nothing was changed."
        )


def _require_free(targets: Iterable[tuple[Tag, Digest, Digest | None]]) -> None:
    taken = [
        {"tag": tag, "digest": digest, "current": current}
        for tag, digest, current in targets
        if current not in {None, digest}
    ]
    if taken:
        raise TagExists(
            f"In use with another digest: {', '.join(str(one['tag']) for one in taken)}. Nothing "
            "was changed. Restore with force=true to move what is in use.",
            {"tags": taken},
        )
