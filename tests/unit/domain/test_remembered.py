"""Indexes that no tag leads to, but a record of an earlier deletion, keep their children."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from service.domain.deletion import IN_INDEX, RemoveManifest, RemoveTag
from service.domain.reference import Tag
from tests.fakes import FakeRegistry, image, index
from tests.unit.domain.worlds import REPOSITORY, World

SHARED, OWN = image("shared"), image("own")
KEPT, OTHER = index(SHARED, seed="kept"), index(SHARED, OWN, seed="other")
OUTER = index(KEPT, seed="outer")


@pytest.fixture
def world() -> World:
    made = World(FakeRegistry())
    for one in (SHARED, OWN):
        made.registry.push(REPOSITORY, one)
    for one, tag in ((KEPT, "kept"), (OUTER, "outer"), (OTHER, "other")):
        made.registry.push(REPOSITORY, one, tag)
    return made


def keep(world: World) -> None:
    """Take the tags off, and leave the manifests."""
    for tag in ("kept", "outer"):
        world.remove(RemoveTag(REPOSITORY, Tag(tag), keep_manifest=True))


def cut_loose(world: World) -> None:
    """Delete the outer index, and what depends on it not."""
    world.remove(RemoveTag(REPOSITORY, Tag("kept"), keep_manifest=True))
    world.remove(RemoveTag(REPOSITORY, Tag("outer"), cascade=False))


def bring_back(world: World) -> None:
    """Delete an index that has no tag, and restore it."""
    keep(world)
    for one in (OUTER, KEPT):
        world.restore(world.remove(RemoveManifest(REPOSITORY, one.digest, force=True)))


@pytest.mark.parametrize("leave", [keep, cut_loose, bring_back])
@pytest.mark.parametrize("dry_run", [True, False])
def test_its_children_stay(world: World, leave: Callable[[World], None], *, dry_run: bool) -> None:
    leave(world)
    done = world.remove(RemoveTag(REPOSITORY, Tag("other")), dry_run=dry_run)
    assert {raw.digest for raw in done.manifests} == {OTHER.digest, OWN.digest}
    assert {one.digest: one.reason for one in done.kept} == {SHARED.digest: IN_INDEX}
    assert SHARED.digest in world.manifests


def test_once_it_is_gone_they_may_go(world: World) -> None:
    keep(world)
    for one in (OUTER, KEPT):
        world.registry.contents[REPOSITORY].manifests.pop(one.digest)
    done = world.remove(RemoveTag(REPOSITORY, Tag("other")))
    assert {raw.digest for raw in done.manifests} == {OTHER.digest, OWN.digest, SHARED.digest}
