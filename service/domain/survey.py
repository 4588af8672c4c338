"""Taking the snapshot of a repository that the deletion rule decides on."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from service.domain.concurrency import spread
from service.domain.content import Manifest, RawManifest, parse_manifest
from service.domain.deletion import Node, Snapshot, referrer_tags
from service.domain.errors import ManifestUnknown, RepositoryBusy
from service.domain.ports import Registry
from service.domain.reference import Digest, Repository, Tag

LOOKS = 5
"""How often tags are listed again because new ones came up meanwhile."""


@dataclass(frozen=True, slots=True)
class Survey:
    """A snapshot, and the bytes of all that might go: the focus and its dependents."""

    snapshot: Snapshot
    bodies: Mapping[Digest, RawManifest]


def resolve_all(registry: Registry, repository: Repository) -> dict[Tag, Digest | None]:
    """Ask where every tag points, None for dangling ones; raise RepositoryUnknown."""
    return _resolve(registry, repository, set(registry.tags(repository)))


def survey(registry: Registry, repository: Repository, focus: Iterable[Digest]) -> Survey:
    """Look at a repository around ``focus``, the manifests that may go.

    Every tag is resolved and every index followed. A manifest counts as known when the registry
    serves it now, so what an index lists but was never pushed is not planned for.
    Raise RepositoryUnknown, or RepositoryBusy when tags come faster than one can look.
    """
    tags = _settled_tags(registry, repository)
    bodies = _closure(registry, repository, focus, tags)
    nodes = {digest: _node(parse_manifest(raw)) for digest, raw in bodies.items()}
    _add_tagged(registry, repository, tags, nodes)
    targets = {tag: target if target in nodes else None for tag, target in tags.items()}
    return Survey(Snapshot(targets, nodes), bodies)


def _settled_tags(registry: Registry, repository: Repository) -> dict[Tag, Digest | None]:
    """Resolve all tags, and those pushed meanwhile, since one may be on the manifest that goes."""
    tags = resolve_all(registry, repository)
    for _ in range(LOOKS):
        fresh = set(registry.tags(repository)) - tags.keys()
        if not fresh:
            return tags
        tags |= _resolve(registry, repository, fresh)
    raise RepositoryBusy(
        f"Tags are being pushed to '{repository}' faster than they can be looked at. "
        "Nothing was changed. Try again when the pushes have ended."
    )


def _resolve(
    registry: Registry, repository: Repository, names: Iterable[Tag]
) -> dict[Tag, Digest | None]:
    ordered = sorted(names)

    def target(tag: Tag) -> Digest | None:
        try:
            return registry.resolve(repository, tag)
        except ManifestUnknown:
            return None

    return dict(zip(ordered, spread(target, ordered), strict=True))


def _closure(
    registry: Registry,
    repository: Repository,
    focus: Iterable[Digest],
    tags: Mapping[Tag, Digest | None],
) -> dict[Digest, RawManifest]:
    """Fetch the focus and, generation by generation, children and referrers."""
    bodies: dict[Digest, RawManifest] = {}
    waiting = set(focus)
    while waiting:
        ordered = sorted(waiting)
        found = spread(lambda digest: _served(registry, repository, digest), ordered)
        generation = [raw for raw in found if raw is not None]
        bodies |= {raw.digest: raw for raw in generation}
        edges = spread(lambda raw: _dependents(registry, repository, raw, tags), generation)
        waiting = set().union(*edges) - bodies.keys() - waiting
    return bodies


def _served(registry: Registry, repository: Repository, digest: Digest) -> RawManifest | None:
    try:
        return registry.manifest(repository, digest)
    except ManifestUnknown:
        return None


def _dependents(
    registry: Registry, repository: Repository, raw: RawManifest, tags: Mapping[Tag, Digest | None]
) -> set[Digest]:
    children = {child.digest for child in parse_manifest(raw).children}
    listed = registry.referrers(repository, raw.digest) or ()
    named = (tags.get(tag) for tag in referrer_tags(raw.digest))
    return children | {one.digest for one in listed} | {one for one in named if one}


def _add_tagged(
    registry: Registry,
    repository: Repository,
    tags: Mapping[Tag, Digest | None],
    nodes: dict[Digest, Node],
) -> None:
    """Add what is tagged, and the indexes in tagged indexes, for the edges they have."""
    waiting = {digest for digest in tags.values() if digest} - nodes.keys()
    while waiting:
        found = spread(lambda digest: _known(registry, repository, digest), sorted(waiting))
        manifests = [manifest for manifest in found if manifest is not None]
        nodes |= {manifest.digest: _node(manifest) for manifest in manifests}
        nested = {c.digest for one in manifests for c in one.children if c.is_index}
        waiting = nested - nodes.keys() - waiting


def _known(registry: Registry, repository: Repository, digest: Digest) -> Manifest | None:
    try:
        return parse_manifest(registry.content(repository, digest))
    except ManifestUnknown:
        return None


def _node(manifest: Manifest) -> Node:
    return Node(
        manifest.digest,
        frozenset(child.digest for child in manifest.children),
        manifest.subject.digest if manifest.subject else None,
    )
