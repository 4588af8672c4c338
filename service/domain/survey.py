"""Taking the snapshot of a repository that the deletion rule decides on."""

from __future__ import annotations

from collections.abc import Callable, Collection, Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from service.domain.concurrency import spread
from service.domain.content import Manifest, RawManifest, parse_manifest
from service.domain.deletion import Node, Snapshot, referrer_tags
from service.domain.errors import ManifestUnknown, RegistryAnswerInvalid, RepositoryBusy
from service.domain.ports import Registry
from service.domain.reference import Digest, Repository, Tag

NAMED = 5
"""Most damaged tags that a sentence names; the member ``tags`` has all."""

LOOKS = 5
"""How often tags are listed again because new ones came up meanwhile."""


Served = RawManifest | RegistryAnswerInvalid | None


@dataclass(frozen=True, slots=True)
class Survey:
    """A snapshot, the bytes of all that might go, and what the referrers API lists of them.

    What is ``damaged`` in the registry is in no snapshot: it cannot be kept, so it has to stay.
    """

    snapshot: Snapshot
    bodies: Mapping[Digest, RawManifest]
    listed: Mapping[Digest, frozenset[Digest]]
    damaged: Mapping[Digest, RegistryAnswerInvalid]
    remembered: frozenset[Digest]
    """Indexes that perhaps no tag leads to: the records of earlier deletions tell of them."""

    def require_whole(self, focus: Digest | None) -> None:
        """Raise RegistryAnswerInvalid where it is the manifest asked for that is damaged."""
        if focus and focus in self.damaged:
            raise self.damaged[focus]

    def around(self, focus: Digest | None) -> Snapshot:
        """Return what a survey around ``focus`` alone would have found."""
        nodes, tags = self.snapshot.nodes, self.snapshot.tags

        def below(digest: Digest) -> Iterable[Digest]:
            return nodes[digest].children

        def with_referrers(digest: Digest) -> Iterable[Digest]:
            named = (tags.get(tag) for tag in referrer_tags(digest))
            return {*below(digest), *self.listed.get(digest, ()), *filter(None, named)}

        known = self._reached([*filter(None, tags.values()), *self.remembered], below)
        known |= self._reached([focus] if focus else [], with_referrers)
        return Snapshot(tags, {digest: nodes[digest] for digest in known})

    def without(self, tags: Iterable[Tag], manifests: Iterable[Digest]) -> Survey:
        """Return the survey as it is when these have gone."""
        return replace(self, snapshot=self.snapshot.without(tags, manifests))

    def remembering(self, recorded: Iterable[RawManifest]) -> Survey:
        """Return the survey as it is when these are in a record, and may have lost their tags."""
        indexes = _served_indexes(recorded, self.snapshot.nodes)
        return replace(self, remembered=self.remembered | indexes)

    def _reached(
        self, roots: Iterable[Digest], edges: Callable[[Digest], Iterable[Digest]]
    ) -> dict[Digest, None]:
        found: dict[Digest, None] = {}
        waiting = list(roots)
        while waiting:
            digest = waiting.pop()
            if digest in self.snapshot.nodes and digest not in found:
                found[digest] = None
                waiting += edges(digest)
        return found


def resolve_all(registry: Registry, repository: Repository) -> dict[Tag, Digest | None]:
    """Ask where every tag points, None for dangling ones; raise RepositoryUnknown.

    Raise RegistryAnswerInvalid, with the member ``tags``, where the registry cannot tell of some.
    """
    return _resolve(registry, repository, set(registry.tags(repository)))


def resolve_each(
    registry: Registry, repository: Repository, names: Iterable[Tag]
) -> tuple[dict[Tag, Digest | None], dict[Tag, RegistryAnswerInvalid]]:
    """Ask where tags point, None for dangling ones, and apart what is answered of damaged ones.

    Distribution answers 500 for a tag whose link or manifest is damaged in its storage.
    """
    wanted = sorted(names)
    try:
        return dict(registry.resolve_many(repository, wanted)), {}
    except RegistryAnswerInvalid:  # of one of them, or of more: each for itself tells
        answers = spread(lambda tag: _resolved(registry, repository, tag), wanted)
    found, damaged = {}, {}
    for tag, answer in zip(wanted, answers, strict=True):
        if isinstance(answer, RegistryAnswerInvalid):
            damaged[tag] = answer
        else:
            found[tag] = answer
    return found, damaged


def _resolved(
    registry: Registry, repository: Repository, tag: Tag
) -> Digest | RegistryAnswerInvalid | None:
    try:
        return registry.resolve(repository, tag)
    except ManifestUnknown:
        return None
    except RegistryAnswerInvalid as error:
        return error


def survey(
    registry: Registry,
    repository: Repository,
    recorded: Sequence[RawManifest],
    focus: Iterable[Digest],
    focus_tags: Iterable[Tag] = (),
) -> Survey:
    """Look at a repository around ``focus``, the manifests that may go, and those of some tags.

    Every tag is resolved and every index followed. A manifest counts as known when the registry
    serves it now, so what an index lists but was never pushed is not planned for. ``recorded``
    are the indexes in the records of earlier deletions: those that stayed, or were restored, may
    need what is to go, although no tag leads to them.
    Raise RepositoryUnknown, or RepositoryBusy when tags come faster than one can look.
    """
    tags, digests, names = resolve_all(registry, repository), set(focus), tuple(focus_tags)
    for _ in range(LOOKS):
        wanted = {*digests, *filter(None, map(tags.get, names))}
        found = _look(registry, repository, recorded, wanted, tags)
        # Tags pushed meanwhile count too: one may be on the manifest that goes.
        fresh = set(registry.tags(repository)) - tags.keys()
        if not fresh:
            return found
        tags |= _resolve(registry, repository, fresh)
    raise RepositoryBusy(
        f"Tags are being pushed to '{repository}' faster than they can be looked at. "
        "Nothing was changed. Try again when the pushes have ended."
    )


def absent_children(
    registry: Registry, repository: Repository, manifests: Collection[RawManifest]
) -> list[Digest]:
    """Return the children that the registry lacks, and that are not among ``manifests``.

    Registries refuse an index without its children, unless they are told to take it.
    """
    there = {raw.digest for raw in manifests}
    listed = {child.digest for raw in manifests for child in parse_manifest(raw).children}
    wanted = sorted(listed - there)
    served = spread(lambda digest: _served(registry, repository, digest), wanted)
    return [digest for digest, raw in zip(wanted, served, strict=True) if raw is None]


def _resolve(
    registry: Registry, repository: Repository, names: Iterable[Tag]
) -> dict[Tag, Digest | None]:
    found, damaged = resolve_each(registry, repository, names)
    if damaged:
        raise unreadable(repository, damaged)
    return found


def unreadable(
    repository: Repository, damaged: Mapping[Tag, RegistryAnswerInvalid]
) -> RegistryAnswerInvalid:
    """Say which tags keep everything in their repository from being deleted, and what to do.

    What one points at may be an index, and need what is to go. Distribution 2.8 besides fails
    in the middle of any deletion in a repository that has a tag with a damaged link.
    """
    first = min(damaged)
    return RegistryAnswerInvalid(
        f"The registry cannot tell what {', '.join(sorted(damaged)[:NAMED])} of '{repository}' "
        f"points at, so nothing can safely be deleted there. {damaged[first].detail} Push the tag "
        f"again, or point it at another manifest (PUT .../-/tags/{first}); then it can be deleted.",
        {"tags": sorted(damaged)},
    )


def _look(
    registry: Registry,
    repository: Repository,
    recorded: Sequence[RawManifest],
    focus: Iterable[Digest],
    tags: Mapping[Tag, Digest | None],
) -> Survey:
    served, listed = _closure(registry, repository, focus, tags)
    bodies = {digest: raw for digest, raw in served.items() if isinstance(raw, RawManifest)}
    damaged = {
        digest: error
        for digest, error in served.items()
        if isinstance(error, RegistryAnswerInvalid)
    }
    nodes = {digest: _node(parse_manifest(raw)) for digest, raw in bodies.items()}
    # What was just found to be gone is no tag's target, whatever the cache still has of it.
    _add_tagged(registry, repository, set(filter(None, tags.values())), nodes, served.keys())
    targets = {tag: target if target in nodes else None for tag, target in tags.items()}
    holders = _holders(registry, repository, recorded, nodes, bodies.keys())
    nodes |= {node.digest: node for node in holders}
    remembered = _served_indexes(recorded, nodes)
    return Survey(Snapshot(targets, nodes), bodies, listed, damaged, remembered)


def _holders(
    registry: Registry,
    repository: Repository,
    recorded: Iterable[RawManifest],
    known: Container[Digest],
    wanted: Collection[Digest],
) -> list[Node]:
    """Return the recorded indexes, not known yet, that are still there and hold what may go."""
    nodes = [_node(parse_manifest(raw)) for raw in recorded if raw.digest not in known]
    holding = [node for node in nodes if not node.children.isdisjoint(wanted)]
    served = spread(lambda node: _served(registry, repository, node.digest), holding)
    return [node for node, raw in zip(holding, served, strict=True) if raw is not None]


def _served_indexes(
    recorded: Iterable[RawManifest], nodes: Mapping[Digest, Node]
) -> frozenset[Digest]:
    known = (raw.digest for raw in recorded if raw.digest in nodes)
    return frozenset(digest for digest in known if nodes[digest].is_index)


def _closure(
    registry: Registry,
    repository: Repository,
    focus: Iterable[Digest],
    tags: Mapping[Tag, Digest | None],
) -> tuple[dict[Digest, Served], dict[Digest, frozenset[Digest]]]:
    """Fetch the focus and, generation by generation, children and referrers.

    In place of a manifest stands None where the registry does not serve it, and the error where
    it is damaged. The second part is what the registry's API lists.
    """
    served: dict[Digest, Served] = {}
    listed: dict[Digest, frozenset[Digest]] = {}
    waiting = sorted(set(focus))
    while waiting:
        found = spread(lambda digest: _served(registry, repository, digest), waiting)
        served |= zip(waiting, found, strict=True)
        generation = [raw for raw in found if isinstance(raw, RawManifest)]
        referrers = spread(lambda raw: _listed(registry, repository, raw.digest), generation)
        listed |= zip((raw.digest for raw in generation), referrers, strict=True)
        edges = (_dependents(raw, tags) | listed[raw.digest] for raw in generation)
        waiting = sorted(set().union(*edges) - served.keys())
    return served, listed


def _served(registry: Registry, repository: Repository, digest: Digest) -> Served:
    try:
        return registry.manifest(repository, digest)
    except ManifestUnknown:
        return None
    except RegistryAnswerInvalid as error:
        return error


def _listed(registry: Registry, repository: Repository, digest: Digest) -> frozenset[Digest]:
    return frozenset(one.digest for one in registry.referrers(repository, digest) or ())


def _dependents(raw: RawManifest, tags: Mapping[Tag, Digest | None]) -> set[Digest]:
    children = {child.digest for child in parse_manifest(raw).children}
    named = (tags.get(tag) for tag in referrer_tags(raw.digest))
    return children | {one for one in named if one}


def _add_tagged(
    registry: Registry,
    repository: Repository,
    tagged: set[Digest],
    nodes: dict[Digest, Node],
    looked_at: Iterable[Digest],
) -> None:
    """Add what is tagged, and the indexes in tagged indexes, for the edges they have."""
    asked = set(looked_at)
    waiting = tagged - asked
    while waiting:
        asked |= waiting
        found = spread(lambda digest: _edges(registry, repository, digest), sorted(waiting))
        known = [one for one in found if one is not None]
        nodes |= {node.digest: node for node, _ in known}
        waiting = set().union(*(nested for _, nested in known)) - asked


def _edges(
    registry: Registry, repository: Repository, digest: Digest
) -> tuple[Node, set[Digest]] | None:
    """Return a manifest's node and the indexes it lists; the rest of it need not be kept."""
    try:
        manifest = parse_manifest(registry.content(repository, digest))
    except ManifestUnknown:
        return None
    return _node(manifest), {child.digest for child in manifest.children if child.may_have_children}


def _node(manifest: Manifest) -> Node:
    return Node(
        manifest.digest,
        frozenset(child.digest for child in manifest.children),
        manifest.subject.digest if manifest.subject else None,
        manifest.is_index,
    )
