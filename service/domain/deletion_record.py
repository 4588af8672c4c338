"""The record of a deletion: what was asked, what went, what stayed, and how to put it back."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from service.domain.content import RawManifest
from service.domain.reference import Digest, Repository, Tag

State = Literal["removing", "removed", "restoring"]
"""``removing`` and ``restoring`` are on the way: whoever finds one without its repository's
lock held finishes it, because its process has died."""


@dataclass(frozen=True, slots=True)
class Requested:
    """What the caller named: a tag or a digest, the latter maybe by force."""

    tag: Tag | None = None
    digest: Digest | None = None
    forced: bool = False


@dataclass(frozen=True, slots=True)
class RemovedTag:
    """A tag that goes and where it pointed; None when it was dangling."""

    tag: Tag
    digest: Digest | None


@dataclass(frozen=True, slots=True)
class KeptManifest:
    """A manifest one might expect to go, and why it stays."""

    digest: Digest
    reason: str


@dataclass(frozen=True, slots=True)
class Deletion:
    """A deletion, planned or done.

    ``manifests`` are the removed ones, in the order of removal. ``supports`` stayed, but a
    restore needs them, and a later deletion may take them: what the tags pointed at, and the
    children of all these.
    """

    id: str
    registry: str
    repository: Repository
    requested: Requested
    digest: Digest | None
    tags: tuple[RemovedTag, ...]
    manifests: tuple[RawManifest, ...]
    kept: tuple[KeptManifest, ...]
    requested_by: str
    created_at: datetime
    supports: tuple[RawManifest, ...] = ()
    change_id: str | None = None
    """The audit event of the change that it was made under, or is being restored under."""
    dry_run: bool = False
    state: State = "removing"
    collected: bool = False
    """True once a restore has found that garbage collection took a blob."""

    @property
    def holds_something(self) -> bool:
        """Tell whether anything but dangling tags went."""
        return bool(self.manifests) or any(removed.digest for removed in self.tags)

    @property
    def restorable(self) -> bool:
        """Tell whether there is anything to put back, as far as is known."""
        return self.holds_something and not self.collected


def laid_out(deletion: Deletion) -> dict[str, object]:
    """Lay a record out as the contract has it, ready for JSON."""
    asked = deletion.requested
    return {
        "id": None if deletion.dry_run else deletion.id,
        "registry": deletion.registry,
        "repository": deletion.repository,
        "requested": {"tag": asked.tag} if asked.tag else {"digest": asked.digest},
        "digest": deletion.digest,
        "tags_removed": [removed.tag for removed in deletion.tags],
        "manifests_removed": [described(raw) for raw in deletion.manifests],
        "manifests_kept": [{"digest": one.digest, "reason": one.reason} for one in deletion.kept],
        "requested_by": deletion.requested_by,
        "created_at": deletion.created_at.isoformat().replace("+00:00", "Z"),
        "dry_run": deletion.dry_run,
        "restorable": deletion.restorable,
    }


def described(raw: RawManifest) -> dict[str, object]:
    """Describe a manifest by what a record tells of it; ``size`` is that of its own bytes."""
    return {"digest": raw.digest, "media_type": raw.media_type, "size": raw.size}
