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
