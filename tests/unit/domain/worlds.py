"""Random repositories, as hypothesis draws them: images, indexes, signatures, shared digests."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from hypothesis import strategies as st

from service.domain.audit import Attempt, AuditTrail
from service.domain.content import Descriptor
from service.domain.deletion import RemoveManifest, RemoveTag, Request, referrer_tags
from service.domain.deletion_record import Deletion
from service.domain.engine import Engine
from service.domain.ports import BlobCache
from service.domain.recovery import recover
from service.domain.reference import Digest, Repository, Tag
from service.domain.removal import Remover
from service.domain.restoration import Restoration, Restorer
from tests.fakes import V2, V3, Behaviour, Built, FakeRegistry, image, index
from tests.fakes_store import FakeStore, WallClock

REPOSITORY = Repository("team/app")
NAMES = tuple(f"t{number}" for number in range(8))
BEHAVIOURS = (V2, V3, Behaviour(referrers_api=True), Behaviour(untags=False, delete_by_tag=True))


@dataclass
class World:
    """A registry with one repository, and the service's state beside it."""

    registry: FakeRegistry
    store: FakeStore = field(default_factory=FakeStore)

    @property
    def trail(self) -> AuditTrail:
        return AuditTrail(self.store.audit)

    @property
    def tags(self) -> dict[Tag, Digest | None]:
        return self.registry.resolved(REPOSITORY)

    @property
    def manifests(self) -> set[Digest]:
        return set(self.registry.contents[REPOSITORY].manifests)

    def remove(self, request: Request, *, dry_run: bool = False) -> Deletion:
        remover = Remover(self.registry, self.store, WallClock())
        with self.trail.attempt(Attempt("test", "tester")) as change:
            return remover.remove(change, "tester", request, dry_run=dry_run)

    def restore(self, deletion: Deletion, *, force: bool = False) -> Restoration:
        restorer = Restorer(self.registry, self.store)
        with self.trail.attempt(Attempt("test", "tester")) as change:
            return restorer.restore(change, deletion.id, force=force, dry_run=False)

    def recover(self) -> int:
        return recover(OneRegistry(self.registry), self.store, self.trail, WallClock())


@dataclass
class OneRegistry:
    """A configuration with a single registry."""

    registry: FakeRegistry

    def names(self) -> list[str]:
        return [self.registry.name]

    def get(self, name: str) -> FakeRegistry:
        assert name == self.registry.name
        return self.registry

    def container(self, name: str) -> str | None:
        assert name == self.registry.name
        return None

    def blob_cache(self, name: str) -> BlobCache | None:
        raise NotImplementedError(name)

    def engine(self, name: str) -> Engine:
        raise NotImplementedError(name)

    def version(self, name: str) -> str | None:
        assert name == self.registry.name
        return None


@st.composite
def worlds(draw: st.DrawFn) -> World:
    """A repository of at most some 20 manifests, on one of the kinds of registry."""
    world = World(FakeRegistry(behaviour=draw(st.sampled_from(BEHAVIOURS))))
    built = _manifests(draw, world)
    for name in draw(st.lists(st.sampled_from(NAMES), min_size=1, unique=True)):
        world.registry.push(REPOSITORY, draw(st.sampled_from(built)), name)
    _referrers(draw, world, built)
    for name in draw(st.lists(st.sampled_from(("gone1", "gone2")), unique=True)):
        world.registry.push(REPOSITORY, image(f"dangling {name}"), name)
        world.registry.dangle(REPOSITORY, name)
    return world


def _manifests(draw: st.DrawFn, world: World) -> list[Built]:
    shared = b"a layer that several images have"
    built = [image(f"image {n}", layers=[shared, b"%d" % n]) for n in range(draw(counts(1, 5)))]
    for number in range(draw(counts(0, 4))):
        children = draw(st.lists(st.sampled_from(built), max_size=3, unique_by=_digest))
        built.append(index(*children, seed=str(number)))
    for one in built:  # children come before what holds them
        world.registry.push(REPOSITORY, one)
    return built


def _referrers(draw: st.DrawFn, world: World, built: list[Built]) -> None:
    for number, subject in enumerate(draw(st.lists(st.sampled_from(built), max_size=3))):
        fallback, *cosign = referrer_tags(subject.digest)
        kind = draw(st.sampled_from(("cosign", "fallback", "untagged")))
        referrer = image(
            f"referrer {number}",
            artifact_type="application/spdx+json",
            subject=None if kind == "cosign" else subject,
        )
        tags = draw(st.lists(st.sampled_from(NAMES), max_size=1))
        world.registry.push(REPOSITORY, referrer, *tags)
        if kind == "cosign":
            world.registry.push(REPOSITORY, referrer, draw(st.sampled_from(cosign)))
        elif kind == "fallback":
            world.registry.push(REPOSITORY, index(referrer, seed="fallback"), fallback)


def counts(low: int, high: int) -> st.SearchStrategy[int]:
    return st.integers(low, high)


def _digest(built: Built) -> str:
    return built.digest


@st.composite
def worlds_with_request(draw: st.DrawFn) -> tuple[World, Request]:
    """A world and something to remove from it."""
    world = draw(worlds())
    return world, draw(requests_for(world))


def requests_for(world: World) -> st.SearchStrategy[Request]:
    """Removals of anything that the repository has."""
    by_tag: Callable[..., Request] = RemoveTag
    by_digest: Callable[..., Request] = RemoveManifest
    return st.one_of(
        st.builds(
            by_tag,
            repository=st.just(REPOSITORY),
            tag=st.sampled_from(sorted(world.tags)),
            keep_manifest=st.booleans(),
            cascade=st.booleans(),
        ),
        st.builds(
            by_digest,
            repository=st.just(REPOSITORY),
            digest=st.sampled_from(sorted(world.manifests)),
            force=st.just(value=True),
            cascade=st.booleans(),
        ),
    )


def described(world: World, digest: Digest) -> Descriptor:
    raw = world.registry.contents[REPOSITORY].manifests[digest]
    return Descriptor(digest, raw.media_type, len(raw.body))
