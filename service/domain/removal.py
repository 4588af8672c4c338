"""Deleting, so that nothing else is lost, whatever fails on the way.

The rule is in :mod:`service.domain.deletion`, the steps in :mod:`service.domain.untagging`.
Here is their order:

1. Under the repository's lock: find out that deletion is possible, survey, plan.
2. Store the record with all bytes. From here on it is finished, by whoever lives.
3. Take tags off manifests that stay, then remove manifests, indexes before their children.
4. Look again for tags left over, and mark the record as removed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from service.domain.audit import Change
from service.domain.content import RawManifest, parse_manifest
from service.domain.deletion import (
    IN_USE_AGAIN,
    Plan,
    RemoveManifest,
    RemoveTag,
    Request,
    Snapshot,
    plan,
    still_free,
)
from service.domain.deletion_record import Deletion, KeptManifest, RemovedTag
from service.domain.errors import (
    Conflict,
    DigestMismatch,
    ManifestUnknown,
    RegistryAdminError,
    RegistryAnswerInvalid,
    RepositoryUnknown,
    TagUnknown,
    UpstreamFailed,
)
from service.domain.identity import new_id
from service.domain.ports import Clock, Registry, Store
from service.domain.reading import Reader
from service.domain.reference import Digest, Repository, Tag
from service.domain.survey import Survey, survey, unreadable
from service.domain.untagging import Steps, require_deletable

LOCK_WAIT_SECONDS = 30.0


def lock_name(registry: str, repository: Repository) -> str:
    """Name the lock under which a repository's content is changed."""
    return f"repository/{registry}/{repository}"


class Remover:
    """Deletes tags and manifests of one registry."""

    def __init__(self, registry: Registry, store: Store, clock: Clock) -> None:
        """Work on ``registry``, with records and locks in ``store``."""
        self._registry = registry
        self._store = store
        self._clock = clock

    def remove(
        self, change: Change, requested_by: str, request: Request, *, dry_run: bool
    ) -> Deletion:
        """Delete what ``request`` names, or tell what would go.

        Raise TagUnknown, ManifestUnknown, RepositoryUnknown, DigestMismatch, ManifestTagged,
        ManifestInIndex, DeletionDisabled, RegistryReadOnly or RepositoryBusy; then nothing was
        changed. An UpstreamFailed with the member ``deletion`` came in the middle: the deletion
        of that id is finished later.
        """
        name = lock_name(self._registry.name, request.repository)
        with self._store.locks.hold(name, LOCK_WAIT_SECONDS):
            deletion = self._prepare(requested_by, request)
            if dry_run:
                return replace(deletion, dry_run=True)
            return self.carry_out(change, deletion)

    def finish(self, change: Change, deletion: Deletion) -> Deletion:
        """Finish, under the repository's lock, what a process began that died.

        The world has gone on: a tag that moved stays where it is, and a manifest that something
        points at again stays, with its children.
        """
        snapshot = self._snapshot(deletion)
        free = still_free(snapshot, deletion)
        steps = Steps(self._registry, change, deletion)
        steps.changed = True
        steps.remove_placeholders(snapshot.tags)
        _run(steps, deletion, free)
        done = _as_done(deletion, free, steps.moved)
        self._store.deletions.replace(change, done)
        return done

    # Deciding

    def _prepare(self, requested_by: str, request: Request) -> Deletion:
        focus = self._focus(request)
        require_deletable(self._registry, request.repository)
        found = self.survey(request.repository, [focus] if focus else [])
        found.require_whole(focus)
        decided = plan(found.snapshot, request)
        _require_unmoved(request, focus, decided.digest)
        return self.record(requested_by, request, decided, found.bodies)

    def survey(
        self, repository: Repository, focus: Iterable[Digest], focus_tags: Iterable[Tag] = ()
    ) -> Survey:
        """Look at a repository, knowing what earlier deletions have left in it."""
        recorded = self._store.deletions.indexes(self._registry.name, repository)
        return survey(self._registry, repository, recorded, focus, focus_tags)

    def _focus(self, request: Request) -> Digest | None:
        """Find the manifest in question: one cheap request that answers most mistakes."""
        if isinstance(request, RemoveManifest):
            return Reader(self._registry).raw(request.repository, request.digest).digest
        try:
            return self._registry.resolve(request.repository, request.tag)
        except ManifestUnknown:
            if request.tag in self._registry.tags(request.repository):
                return None  # dangling
        except RegistryAnswerInvalid as error:
            raise unreadable(request.repository, {request.tag: error}) from error
        raise TagUnknown(
            f"The repository '{request.repository}' has no tag '{request.tag}'. "
            "Nothing was changed."
        )

    def record(
        self,
        requested_by: str,
        request: Request,
        decided: Plan,
        bodies: Mapping[Digest, RawManifest],
    ) -> Deletion:
        """Make the record of what was decided, with all bytes that a restore may need."""
        targets = [removed.digest for removed in decided.tags if removed.digest]
        needed = _with_children(bodies, [*decided.manifests, *targets])
        return Deletion(
            id=new_id(),
            registry=self._registry.name,
            repository=request.repository,
            requested=request.requested,
            digest=decided.digest,
            tags=_asked_first(decided.tags, request),
            manifests=tuple(bodies[digest] for digest in decided.manifests),
            kept=decided.kept,
            requested_by=requested_by,
            created_at=self._clock.now(),
            supports=tuple(bodies[one] for one in needed if one not in decided.manifests),
        )

    # Doing

    def carry_out(self, change: Change, deletion: Deletion) -> Deletion:
        """Store a planned deletion and do it, under the repository's lock."""
        deletion = replace(deletion, change_id=change.id)
        self._store.deletions.add(change, deletion)
        steps = Steps(self._registry, change, deletion)
        manifests = [raw.digest for raw in deletion.manifests]
        try:
            _run(steps, deletion, manifests)
        except Conflict as error:
            if steps.changed:
                raise _interrupted(error, deletion) from error
            self._store.deletions.discard(change, deletion.id)
            raise
        except UpstreamFailed as error:
            raise _interrupted(error, deletion) from error
        done = _as_done(deletion, manifests, steps.moved)
        self._store.deletions.replace(change, done)
        return done

    def _snapshot(self, deletion: Deletion) -> Snapshot:
        try:
            planned = [raw.digest for raw in deletion.manifests]
            return self.survey(deletion.repository, planned).snapshot
        except RepositoryUnknown:
            return Snapshot({}, {})


def _run(steps: Steps, deletion: Deletion, manifests: Iterable[Digest]) -> None:
    going = list(manifests)
    steps.untag(removed for removed in deletion.tags if removed.digest not in going)
    steps.remove(going)
    steps.untag_leftovers(removed for removed in deletion.tags if removed.digest in going)


def _require_unmoved(request: Request, focus: Digest | None, current: Digest | None) -> None:
    expected = request.if_match if isinstance(request, RemoveTag) else None
    if current != focus or (expected and expected not in {"*", current}):
        raise DigestMismatch(
            f"The tag is on {current}, not on {focus if current != focus else expected}. "
            "Nothing was changed. Look at it again and repeat the request.",
            {"current": current},
        )


def _asked_first(tags: Iterable[RemovedTag], request: Request) -> tuple[RemovedTag, ...]:
    asked = request.tag if isinstance(request, RemoveTag) else None
    return tuple(sorted(tags, key=lambda removed: (removed.tag != asked, removed.tag)))


def _with_children(
    bodies: Mapping[Digest, RawManifest], roots: Iterable[Digest]
) -> dict[Digest, None]:
    """Return the roots and all below them, as far as the registry has them."""
    found: dict[Digest, None] = {}
    waiting = list(roots)
    while waiting:
        digest = waiting.pop()
        if digest in bodies and digest not in found:
            found[digest] = None
            waiting += [child.digest for child in parse_manifest(bodies[digest]).children]
    return found


def _as_done(deletion: Deletion, removed: Iterable[Digest], moved: set[Tag]) -> Deletion:
    """Return the record of what really went."""
    gone = set(removed)
    stayed = [raw for raw in deletion.manifests if raw.digest not in gone]
    return replace(
        deletion,
        state="removed",
        tags=tuple(one for one in deletion.tags if one.tag not in moved),
        manifests=tuple(raw for raw in deletion.manifests if raw.digest in gone),
        kept=deletion.kept + tuple(KeptManifest(raw.digest, IN_USE_AGAIN) for raw in stayed),
        supports=deletion.supports + tuple(stayed),
    )


def _interrupted(error: RegistryAdminError, deletion: Deletion) -> RegistryAdminError:
    """Say, in the error's own class, that the deletion stands half done and goes on by itself."""
    return type(error)(
        f"{error.detail} This came in the middle of the deletion {deletion.id}: it is kept with "
        "all it needs, and finished as soon as the registry answers. No other tag is affected.",
        {**error.members, "deletion": deletion.id},
    )
