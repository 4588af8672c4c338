"""Pointing a tag at a manifest that is already in the repository."""

from __future__ import annotations

from dataclasses import dataclass

from service.domain.audit import Change
from service.domain.content import RawManifest
from service.domain.errors import (
    DigestMismatch,
    ManifestRefused,
    ManifestUnknown,
    RegistryAnswerInvalid,
)
from service.domain.ports import Locks, Registry
from service.domain.reading import Reader, TagDetail
from service.domain.reference import Digest, Repository, Tag
from service.domain.removal import LOCK_WAIT_SECONDS, lock_name
from service.domain.survey import absent_children
from service.domain.untagging import require_writable


@dataclass(frozen=True, slots=True)
class PointTag:
    """Point ``tag`` at what ``source`` names, if it is on ``if_match``: a digest, or ``*``."""

    repository: Repository
    tag: Tag
    source: Tag | Digest
    if_match: str | None = None


@dataclass(frozen=True, slots=True)
class Pointed:
    """The tag as it is now, or with ``dry_run`` would be, and where it pointed before."""

    detail: TagDetail
    previous_digest: Digest | None
    dry_run: bool

    @property
    def created(self) -> bool:
        """Tell a new tag from a moved one."""
        return self.previous_digest is None


def point(
    registry: Registry, locks: Locks, change: Change, request: PointTag, *, dry_run: bool
) -> Pointed:
    """Point a tag at a manifest of its repository, or tell how that would be.

    Raise TagUnknown or ManifestUnknown (of the source), RepositoryUnknown, DigestMismatch,
    RegistryReadOnly, ManifestRefused or RepositoryBusy; then nothing was changed.
    """
    repository, tag = request.repository, request.tag
    with locks.hold(lock_name(registry.name, repository), LOCK_WAIT_SECONDS):
        reader = Reader(registry)
        raw = reader.raw(repository, request.source)
        previous = _current(registry, repository, tag)
        _require_match(tag, previous, request.if_match)
        require_writable(registry, repository)
        # Described before it is done: once the tag has moved, nothing may fail any more.
        pointed = Pointed(reader.described_as(repository, tag, raw), previous, dry_run)
        if dry_run:
            _require_children(registry, repository, raw)
        else:
            registry.writer(change).put_manifest(repository, tag, raw)
        return pointed


def _require_children(registry: Registry, repository: Repository, raw: RawManifest) -> None:
    absent = absent_children(registry, repository, [raw])
    if absent:
        raise ManifestRefused(
            f"{raw.digest} is an index whose child {absent[0]} is not in '{repository}': the "
            "registry would not take it. Nothing was changed. Push that child first.",
        )


def _current(registry: Registry, repository: Repository, tag: Tag) -> Digest | None:
    # A tag that is damaged in the registry's storage is mended by pointing it somewhere.
    try:
        return registry.resolve(repository, tag)
    except (ManifestUnknown, RegistryAnswerInvalid):
        return None


def _require_match(tag: Tag, current: Digest | None, if_match: str | None) -> None:
    if if_match is None or (current is not None and if_match in {"*", current}):
        return
    raise DigestMismatch(
        f"The tag '{tag}' is {'on ' + current if current else 'not there'}, not on {if_match}. "
        "Nothing was changed. Look at it again and repeat the request.",
        {"current": current},
    )
