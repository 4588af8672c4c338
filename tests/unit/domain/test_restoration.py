"""What a restore looks at, beyond what random repositories show in test_deletion."""

from __future__ import annotations

import pytest

from service.domain.audit import Attempt, AuditTrail, Change
from service.domain.deletion import RemoveManifest, RemoveTag
from service.domain.deletion_record import Deletion
from service.domain.errors import ManifestRefused
from service.domain.reference import Digest, Repository, Tag
from service.domain.removal import Remover
from service.domain.restoration import Restorer, note_collected
from tests.fakes import FakeRegistry, image, index
from tests.fakes_store import FakeStore, WallClock
from tests.unit.domain.worlds import REPOSITORY, World

APP, V1 = Repository("team/app"), Tag("1")
ONE = image("one")


@pytest.fixture
def store() -> FakeStore:
    return FakeStore()


@pytest.fixture
def change(store: FakeStore) -> Change:
    return AuditTrail(store.audit).begin(Attempt("test", "tester"))


def test_a_manifest_that_is_taken_and_not_kept_gets_no_tag(
    store: FakeStore, change: Change
) -> None:
    registry = FakeRegistry()
    registry.push(APP, ONE, V1)
    removed = remove(registry, store, change)
    vouched = registry.contents[APP].vouched
    vouched.add(ONE.digest)
    restorer = Restorer(registry, store)
    with pytest.raises(ManifestRefused, match="Restart the registry"):
        restorer.restore(change, removed.id, force=False, dry_run=False)
    assert registry.tags(APP) == []
    assert store.deletions.get(registry.name, removed.id).state == "removed"
    vouched.clear()
    restorer.restore(change, removed.id, force=False, dry_run=False)
    assert registry.resolve(APP, V1) == ONE.digest


def remove(registry: FakeRegistry, store: FakeStore, change: Change) -> Deletion:
    remover = Remover(registry, store, WallClock())
    return remover.remove(change, "tester", RemoveTag(APP, V1), dry_run=False)


def test_a_child_that_another_deletion_took_comes_back_with_its_index() -> None:
    leaf, other = image("leaf"), image("other")
    world = World(FakeRegistry())
    for one in (leaf, other):
        world.registry.push(REPOSITORY, one)
    world.registry.push(REPOSITORY, index(leaf, other), "1")
    before = world.tags, world.manifests
    world.remove(RemoveManifest(REPOSITORY, leaf.digest, force=True))
    whole = world.remove(RemoveTag(REPOSITORY, Tag("1")))
    done = world.restore(whole)
    assert [raw.digest for raw in done.manifests][-1] == index(leaf, other).digest
    assert (world.tags, world.manifests) == before


def test_what_a_collection_took_is_noted_without_asking_for_each_record(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world = World(FakeRegistry())
    images = [image(name) for name in ("a", "b", "c")]
    for number, one in enumerate(images):
        world.registry.push(REPOSITORY, one, f"{number}")
    removed = [world.remove(RemoveTag(REPOSITORY, Tag(f"{number}"))) for number in range(3)]
    gone = {Digest.of(images[1].blobs[0])}
    deletions, trail = world.store.deletions, AuditTrail(world.store.audit)

    def get(*_: object) -> Deletion:
        raise AssertionError("asked for a single record")

    with monkeypatch.context() as patch, trail.attempt(Attempt("test", "tester")) as change:
        patch.setattr(deletions, "get", get)
        assert note_collected(deletions, change, world.registry.name, gone) == 1
    collected = [deletions.get(world.registry.name, one.id).collected for one in removed]
    assert collected == [False, True, False]
