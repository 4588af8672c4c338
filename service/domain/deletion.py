"""The rule of deletion: from a snapshot of a repository and a request to a plan. Pure.

Removing a tag and removing a manifest are two things. A registry's DELETE by digest takes
every tag of the manifest with it, and leaves an index whose child it was broken; so what
goes and what stays is decided here, once, before anything is asked of the registry:

1. The tag asked for goes. Its manifest goes too when no other tag is on it and no index
   that stays holds it as a child.
2. With a manifest go its *dependents*, each by the same test: the children of an index,
   and its referrers (OCI subject, fallback tag, cosign-style tags).
3. The tags that merely name a gone manifest's referrers (``sha256-<hex>`` on an index,
   ``sha256-<hex>.sig``, ``.att``, ``.sbom``) go with it. Every other tag stays where it is.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from service.domain.deletion_record import Deletion, KeptManifest, RemovedTag, Requested
from service.domain.errors import ManifestInIndex, ManifestTagged, ManifestUnknown, TagUnknown
from service.domain.reference import Digest, Repository, Tag

_REFERRER_TAG = re.compile(r"sha256-([a-f0-9]{64})(\.(?:sig|att|sbom))?")
COSIGN_SUFFIXES = (".sig", ".att", ".sbom")

TAGGED = "tagged"
IN_INDEX = "child-of-index"
ASKED = "keep-manifest"
NO_CASCADE = "cascade-off"
IN_USE_AGAIN = "in-use-again"


def referrer_tags(digest: Digest) -> tuple[Tag, ...]:
    """Name the tags under which referrers of ``digest`` are kept, the fallback tag first.

    Sources: OCI Distribution Specification 1.1, "Referrers tag schema"; cosign's tag scheme.
    """
    return tuple(Tag(f"sha256-{digest.hex}{suffix}") for suffix in ("", *COSIGN_SUFFIXES))


def referred_digest(tag: Tag) -> Digest | None:
    """Return the manifest whose referrers ``tag`` names, or None for an ordinary tag."""
    match = _REFERRER_TAG.fullmatch(tag)
    return Digest("sha256:" + match[1]) if match else None


@dataclass(frozen=True, slots=True)
class Node:
    """A manifest with its edges: an index's children, and the subject of a referrer."""

    digest: Digest
    children: frozenset[Digest] = frozenset()
    subject: Digest | None = None
    is_index: bool = False


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A repository at one moment: where each tag points (None: dangling), and known manifests."""

    tags: Mapping[Tag, Digest | None]
    nodes: Mapping[Digest, Node]

    def tags_on(self, digest: Digest) -> frozenset[Tag]:
        """Return all tags that point at ``digest``."""
        return frozenset(tag for tag, target in self.tags.items() if target == digest)

    def subject_of(self, tag: Tag) -> Digest | None:
        """Return the manifest whose referrers ``tag`` names; None for an ordinary tag.

        The fallback tag is an index of them: another manifest of that name is anybody's.
        """
        subject, target = referred_digest(tag), self.tags.get(tag)
        if subject is None or target is None or tag.endswith(COSIGN_SUFFIXES):
            return subject
        node = self.nodes.get(target)
        return subject if node is None or node.is_index else None

    def without(self, tags: Iterable[Tag], manifests: Iterable[Digest]) -> Snapshot:
        """Return the snapshot as it is when these have gone."""
        gone_tags, gone = frozenset(tags), frozenset(manifests)
        return Snapshot(
            {tag: target for tag, target in self.tags.items() if tag not in gone_tags},
            {digest: node for digest, node in self.nodes.items() if digest not in gone},
        )

    def parents(self, digest: Digest) -> frozenset[Digest]:
        """Return all known indexes that hold ``digest`` as a child."""
        return frozenset(node.digest for node in self.nodes.values() if digest in node.children)


@dataclass(frozen=True, slots=True)
class RemoveTag:
    """Remove a tag; ``if_match`` is the digest it must be on, or ``*``, or None."""

    repository: Repository
    tag: Tag
    keep_manifest: bool = False
    cascade: bool = True
    if_match: str | None = None

    @property
    def requested(self) -> Requested:
        """What the record says was asked for."""
        return Requested(tag=self.tag)


@dataclass(frozen=True, slots=True)
class RemoveManifest:
    """Remove a manifest with its tags: none, or exactly ``tags``, or any with ``force``."""

    repository: Repository
    digest: Digest
    tags: frozenset[Tag] | None = None
    force: bool = False
    cascade: bool = True

    @property
    def requested(self) -> Requested:
        """What the record says was asked for."""
        return Requested(digest=self.digest, forced=self.force)


Request = RemoveTag | RemoveManifest


@dataclass(frozen=True, slots=True)
class Plan:
    """What goes and what stays.

    ``manifests`` are in order: never a child before its index, never a referrer before its
    subject, so that an interruption breaks nothing that stays.
    """

    digest: Digest | None
    tags: tuple[RemovedTag, ...]
    manifests: tuple[Digest, ...]
    kept: tuple[KeptManifest, ...]


def plan(snapshot: Snapshot, request: Request) -> Plan:
    """Decide; raise TagUnknown, ManifestUnknown, ManifestTagged or ManifestInIndex."""
    if isinstance(request, RemoveTag):
        return _plan_tag(snapshot, request)
    return _plan_manifest(snapshot, request)


def _plan_tag(snapshot: Snapshot, request: RemoveTag) -> Plan:
    if request.tag not in snapshot.tags:
        raise TagUnknown(
            f"The repository '{request.repository}' has no tag '{request.tag}'. "
            "Nothing was changed."
        )
    digest = snapshot.tags[request.tag]
    sweep = _Sweep(snapshot, {request.tag})
    if digest is not None:
        reason = ASKED if request.keep_manifest else sweep.reason_to_stay(digest)
        sweep.run(digest, reason, cascade=request.cascade)
    return sweep.plan(digest)


def _plan_manifest(snapshot: Snapshot, request: RemoveManifest) -> Plan:
    digest = request.digest
    if digest not in snapshot.nodes:
        raise ManifestUnknown(f"The repository '{request.repository}' has no manifest {digest}.")
    if not request.force:
        _require_tags_named(snapshot, request)
        _require_no_tagged_parent(snapshot, digest)
    sweep = _Sweep(snapshot, set(snapshot.tags_on(digest)))
    sweep.run(digest, None, cascade=request.cascade)
    return sweep.plan(digest)


def _require_tags_named(snapshot: Snapshot, request: RemoveManifest) -> None:
    current = snapshot.tags_on(request.digest)
    if current != (request.tags or frozenset()):
        raise ManifestTagged(
            f"{request.digest} has the tags {', '.join(sorted(current)) or '(none)'}, which would "
            "go with it. Nothing was changed. Name exactly these with tags=, use force=true, or "
            "delete a tag instead.",
            {"tags": sorted(current)},
        )


def _require_no_tagged_parent(snapshot: Snapshot, digest: Digest) -> None:
    parents = sorted(snapshot.parents(digest) & _reached_by_tags(snapshot))
    if parents:
        raise ManifestInIndex(
            f"{digest} is part of {', '.join(parents)}, which would be broken without it. "
            "Nothing was changed. Delete the index, or use force=true.",
            {"parents": parents},
        )


def _reached_by_tags(snapshot: Snapshot) -> set[Digest]:
    """Return what is tagged, and all that is part of something tagged."""
    found: set[Digest] = set()
    waiting = [digest for digest in snapshot.tags.values() if digest]
    while waiting:
        digest = waiting.pop()
        if digest in snapshot.nodes and digest not in found:
            found.add(digest)
            waiting += snapshot.nodes[digest].children
    return found


def still_free(snapshot: Snapshot, deletion: Deletion) -> tuple[Digest, ...]:
    """Return those manifests of a deletion that may go in a snapshot later than its plan's.

    A tag of the plan that has moved since counts like any other. What is gone already may go.
    """
    planned = {(removed.tag, removed.digest) for removed in deletion.tags}
    others = {target for tag, target in snapshot.tags.items() if (tag, target) not in planned}
    forced = {deletion.digest} if deletion.requested.forced else set()
    going = {raw.digest: None for raw in deletion.manifests if raw.digest not in others - forced}

    def held(digest: Digest) -> bool:
        there = digest in snapshot.nodes and digest not in forced
        return there and bool(snapshot.parents(digest) - going.keys())

    while stay := {digest for digest in going if held(digest)}:
        going = dict.fromkeys(digest for digest in going if digest not in stay)
    return tuple(going)


class _Sweep:
    """What goes, grown from one manifest until nothing more may go."""

    def __init__(self, snapshot: Snapshot, tags: set[Tag]) -> None:
        self._snapshot = snapshot
        self._tags = tags
        self._gone: dict[Digest, None] = {}  # a dict for its order
        self._kept: dict[Digest, str] = {}
        self._tags_on = _tags_by_digest(snapshot.tags)
        self._parents_of = _parents_by_child(snapshot.nodes.values())
        self._referrers_of = _referrers_by_subject(snapshot)

    def run(self, digest: Digest, reason: str | None, *, cascade: bool) -> None:
        """Let ``digest`` go, unless there is a reason to stay, and then its dependents."""
        if reason:
            self._kept[digest] = reason
            return
        self._gone[digest] = None
        while cascade and (free := self._free_dependents()):
            self._gone |= dict.fromkeys(free)
        for dependent in self._dependents():
            self._kept[dependent] = self.reason_to_stay(dependent) or NO_CASCADE

    def plan(self, digest: Digest | None) -> Plan:
        """Return what was decided, in order."""
        tags = tuple(RemovedTag(tag, self._snapshot.tags[tag]) for tag in sorted(self._tags))
        kept = tuple(KeptManifest(one, self._kept[one]) for one in sorted(self._kept))
        return Plan(digest, tags, tuple(self._gone), kept)

    def reason_to_stay(self, digest: Digest) -> str | None:
        """Name what still needs a manifest, given what goes so far."""
        if self._tags_on.get(digest, frozenset()) - self._tags:
            return TAGGED
        if self._parents_of.get(digest, frozenset()) - self._gone.keys():
            return IN_INDEX
        return None

    def _free_dependents(self) -> list[Digest]:
        # The names of a gone manifest's referrers keep nothing alive.
        named = (tag for digest in self._gone for tag in referrer_tags(digest))
        known = (tag for tag in named if tag in self._snapshot.tags)
        self._tags.update(tag for tag in known if self._snapshot.subject_of(tag))
        return [one for one in self._dependents() if self.reason_to_stay(one) is None]

    def _dependents(self) -> list[Digest]:
        """Return the children and referrers of what goes that have not gone themselves."""
        found: set[Digest] = set()
        for digest in self._gone:
            found |= self._snapshot.nodes[digest].children
            found |= self._referrers_of.get(digest, set())
        return sorted(one for one in found if one in self._snapshot.nodes and one not in self._gone)


def _tags_by_digest(tags: Mapping[Tag, Digest | None]) -> dict[Digest, frozenset[Tag]]:
    found: dict[Digest, set[Tag]] = {}
    for tag, digest in tags.items():
        if digest is not None:
            found.setdefault(digest, set()).add(tag)
    return {digest: frozenset(names) for digest, names in found.items()}


def _parents_by_child(nodes: Iterable[Node]) -> dict[Digest, frozenset[Digest]]:
    found: dict[Digest, set[Digest]] = {}
    for node in nodes:
        for child in node.children:
            found.setdefault(child, set()).add(node.digest)
    return {child: frozenset(parents) for child, parents in found.items()}


def _referrers_by_subject(snapshot: Snapshot) -> dict[Digest, set[Digest]]:
    found: dict[Digest, set[Digest]] = {}
    for node in snapshot.nodes.values():
        if node.subject is not None:
            found.setdefault(node.subject, set()).add(node.digest)
    for tag, target in snapshot.tags.items():
        subject = snapshot.subject_of(tag)
        if subject is not None and target is not None:
            found.setdefault(subject, set()).add(target)
    return found
