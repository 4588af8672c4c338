"""The look around before a deletion: all tags, all edges, and only what is really there."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import pytest

from service.domain.content import Descriptor
from service.domain.deletion import RemoveTag, referrer_tags
from service.domain.errors import RepositoryBusy, RepositoryUnknown
from service.domain.reference import Digest, Repository, Tag
from service.domain.survey import LOOKS, Survey, survey
from tests.fakes import Behaviour, Built, FakeRegistry, image, index
from tests.unit.domain.documents import child, index_of
from tests.unit.domain.meanwhile import LivingRegistry
from tests.unit.domain.worlds import REPOSITORY, World

SBOM = "application/spdx+json"


@pytest.fixture
def registry() -> LivingRegistry:
    return LivingRegistry()


def look(registry: FakeRegistry, *focus: Built) -> Survey:
    return survey(registry, REPOSITORY, [], [one.digest for one in focus])


def test_every_tag_is_resolved_and_every_tagged_manifest_known(registry: LivingRegistry) -> None:
    registry.push(REPOSITORY, image("x"), "a", "b")
    registry.push(REPOSITORY, image("y"), "c")
    registry.push(REPOSITORY, image("untagged"))
    registry.push(REPOSITORY, image("gone"), "gone")
    registry.dangle(REPOSITORY, "gone")
    found = look(registry)
    x, y = image("x").digest, image("y").digest
    assert found.snapshot.tags == {"a": x, "b": x, "c": y, "gone": None}
    assert found.snapshot.nodes.keys() == {x, y}
    assert found.bodies == {}


def test_what_may_go_is_fetched_with_all_below_and_all_that_refers_to_it(
    registry: LivingRegistry,
) -> None:
    leaf, other = image("leaf"), image("other")
    inner = index(leaf)
    top = index(inner, other)
    sbom = image("sbom", subject=leaf, artifact_type=SBOM)
    fallback, signature = index(sbom, seed="fallback"), image("signature")
    registry.push(REPOSITORY, sbom)
    for one in (leaf, other, inner):
        registry.push(REPOSITORY, one)
    registry.push(REPOSITORY, top, "top")
    registry.push(REPOSITORY, fallback, referrer_tags(leaf.digest)[0])
    registry.push(REPOSITORY, signature, referrer_tags(fallback.digest)[1])
    registry.push(REPOSITORY, image("unrelated"), "unrelated")
    found = look(registry, top)
    everything = (top, inner, leaf, other, fallback, sbom, signature)
    assert found.bodies == {one.digest: one.raw for one in everything}
    assert found.snapshot.nodes[top.digest].children == {inner.digest, other.digest}
    assert found.snapshot.nodes[sbom.digest].subject == leaf.digest
    assert image("unrelated").digest in found.snapshot.nodes


def test_referrers_of_the_api_are_fetched() -> None:
    registry = FakeRegistry(behaviour=Behaviour(referrers_api=True))
    one = image("one")
    sbom = image("sbom", subject=one, artifact_type=SBOM)
    about_it = image("about the sbom", subject=sbom, artifact_type=SBOM)
    registry.push(REPOSITORY, one, "1")
    registry.push(REPOSITORY, sbom)
    registry.push(REPOSITORY, about_it)
    assert look(registry, one).bodies.keys() == {one.digest, sbom.digest, about_it.digest}


def test_indexes_in_tagged_indexes_are_followed_whatever_they_are_called(
    registry: LivingRegistry,
) -> None:
    leaf, other = image("leaf"), image("other")
    named, nameless = index(leaf, seed="named"), index(other, seed="nameless")
    entry = child(nameless)
    del entry["mediaType"]
    for one in (leaf, other, named, nameless):
        registry.push(REPOSITORY, one)
    registry.push(REPOSITORY, index_of(child(named), entry), "top")
    found = look(registry).snapshot
    assert found.parents(leaf.digest) == {named.digest}
    assert found.parents(other.digest) == {nameless.digest}


def test_children_that_were_never_pushed_are_not_known(registry: LivingRegistry) -> None:
    there, absent = image("there"), image("absent")
    nowhere = index(absent, seed="nowhere")
    top = index(there, absent, nowhere)
    registry.push(REPOSITORY, there)
    registry.push(REPOSITORY, top, "1")
    found = look(registry, top)
    assert found.snapshot.nodes.keys() == {top.digest, there.digest}
    assert found.bodies.keys() == {top.digest, there.digest}
    assert look(registry).snapshot.nodes.keys() == {top.digest}


@pytest.mark.parametrize("moment", ["tags", "resolve", "manifest", "content"])
def test_a_tag_pushed_at_any_moment_of_it_is_seen(registry: LivingRegistry, moment: str) -> None:
    one, other = image("one"), image("other")
    registry.push(REPOSITORY, one, "1")
    registry.push(REPOSITORY, other, "2")
    push = partial(registry.push, REPOSITORY, one, "late")
    {
        "tags": partial(registry.after, "tags"),
        "resolve": partial(registry.after, "resolve"),
        "manifest": partial(registry.after, "manifest"),
        "content": partial(registry.after, "content"),
    }[moment](push)
    assert look(registry, one).snapshot.tags_on(one.digest) == {"1", "late"}


def test_tags_that_never_stop_coming_make_the_repository_busy(registry: LivingRegistry) -> None:
    registry.push(REPOSITORY, image("x"), "1")
    pushes = [partial(registry.push, REPOSITORY, image("x"), f"late{n}") for n in range(LOOKS)]
    registry.after("tags", *pushes[1:])
    assert len(look(registry).snapshot.tags) == LOOKS
    registry.contents[REPOSITORY].tags.clear()
    registry.after("tags", *pushes)
    with pytest.raises(RepositoryBusy):
        look(registry)


def test_an_unknown_repository_is_told(registry: LivingRegistry) -> None:
    with pytest.raises(RepositoryUnknown):
        look(registry)


def test_an_emptied_repository_can_be_looked_at(registry: LivingRegistry) -> None:
    registry.push(REPOSITORY, image("untagged"))
    found = look(registry, image("untagged"))
    assert found.snapshot.tags == {}
    assert found.bodies.keys() == {image("untagged").digest}


# Answers that contradict each other.


def test_a_manifest_removed_while_one_looks_does_not_count_as_there(
    registry: LivingRegistry,
) -> None:
    one, signature = image("one"), image("signature")
    registry.push(REPOSITORY, one, "1")
    registry.push(REPOSITORY, signature, tag := referrer_tags(one.digest)[1])
    look(registry)  # from now on all is in the cache
    registry.after("manifest", partial(registry.dangle, REPOSITORY, tag))
    world = World(registry)
    deletion = world.remove(RemoveTag(REPOSITORY, Tag("1")))
    assert {removed.tag: removed.digest for removed in deletion.tags} == {
        "1": one.digest,
        tag: None,
    }
    assert [raw.digest for raw in deletion.manifests] == [one.digest]
    assert world.tags == {}


class Lying(FakeRegistry):
    """Lists as referrers what refers to nothing."""

    def referrers(self, repository: Repository, _digest: Digest) -> Sequence[Descriptor]:
        raws = self.contents[repository].manifests.values()
        return [Descriptor(raw.digest, raw.media_type, raw.size) for raw in raws]


def test_nothing_goes_because_the_registry_calls_it_a_referrer() -> None:
    world = World(Lying())
    world.registry.push(REPOSITORY, image("one"), "1")
    world.registry.push(REPOSITORY, image("untagged"))
    deletion = world.remove(RemoveTag(REPOSITORY, Tag("1")))
    assert [raw.digest for raw in deletion.manifests] == [image("one").digest]
    assert world.manifests == {image("untagged").digest}
