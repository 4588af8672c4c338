"""The rule of deletion and its carrying out, for random repositories and requests."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, assume, event, given, settings
from hypothesis import strategies as st

from service.domain.audit import Attempt
from service.domain.content import OCI_MANIFEST, RawManifest, parse_manifest
from service.domain.deletion import (
    Node,
    RemoveManifest,
    RemoveTag,
    Request,
    Snapshot,
    plan,
    referrer_tags,
    still_free,
)
from service.domain.deletion_record import Deletion, RemovedTag, Requested
from service.domain.errors import (
    BlobsCollected,
    DeletionDisabled,
    DigestMismatch,
    ManifestInIndex,
    ManifestRefused,
    ManifestTagged,
    NotRestorable,
    RegistryReadOnly,
    RegistryUnreachable,
    TagExists,
    TagUnknown,
)
from service.domain.ports import AuditQuery
from service.domain.reference import Digest, Repository, Tag
from service.domain.removal import Remover
from tests.fakes import V2, Behaviour, Died, FakeRegistry, image, index
from tests.fakes_store import WallClock
from tests.unit.domain.worlds import REPOSITORY, World, requests_for, worlds, worlds_with_request

thorough = settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def _children(world: World) -> dict[Digest, set[Digest]]:
    manifests = world.registry.contents[REPOSITORY].manifests
    return {d: {c.digest for c in parse_manifest(raw).children} for d, raw in manifests.items()}


def _asked(request: Request, tags: dict[Tag, Digest | None]) -> set[Tag]:
    if isinstance(request, RemoveTag):
        return {request.tag}
    return {tag for tag, digest in tags.items() if digest == request.digest}


def _names_of_referrers(deletion: Deletion) -> set[Tag]:
    return {tag for raw in deletion.manifests for tag in referrer_tags(raw.digest)}


@thorough
@given(worlds_with_request())
def test_every_tag_not_asked_for_still_resolves_to_its_digest(
    case: tuple[World, Request],
) -> None:
    world, request = case
    before = world.tags
    deletion = world.remove(request)
    removed = {one.tag for one in deletion.tags}
    assert world.tags == {tag: digest for tag, digest in before.items() if tag not in removed}
    assert removed <= _asked(request, before) | _names_of_referrers(deletion)
    event(f"manifests removed: {len(deletion.manifests)}")


@thorough
@given(worlds_with_request())
def test_no_child_of_a_tagged_index_that_stays_goes(case: tuple[World, Request]) -> None:
    world, request = case
    assume(isinstance(request, RemoveTag))
    children = _children(world)
    world.remove(request)
    for digest in set(filter(None, world.tags.values())):
        assert children[digest] <= world.manifests


@thorough
@given(worlds_with_request())
def test_manifests_removed_are_exactly_those_named(case: tuple[World, Request]) -> None:
    world, request = case
    before = world.manifests
    deletion = world.remove(request)
    assert before - world.manifests == {raw.digest for raw in deletion.manifests}


@thorough
@given(worlds_with_request())
def test_what_stays_has_a_reason_that_is_true(case: tuple[World, Request]) -> None:
    world, request = case
    children = _children(world)
    deletion = world.remove(request)
    for kept in deletion.kept:
        tagged = kept.digest in world.tags.values()
        held = any(kept.digest in children[one] for one in world.manifests)
        asked = not request.cascade or getattr(request, "keep_manifest", False)
        assert {"tagged": tagged, "child-of-index": held}.get(kept.reason, asked)


@thorough
@given(worlds_with_request())
def test_an_index_goes_before_its_children_and_a_subject_before_its_referrers(
    case: tuple[World, Request],
) -> None:
    world, request = case
    deletion = world.remove(request)
    order = [raw.digest for raw in deletion.manifests]
    for raw in deletion.manifests:
        manifest = parse_manifest(raw)
        later = [child.digest for child in manifest.children if child.digest in order]
        assert all(order.index(raw.digest) < order.index(child) for child in later)
        if manifest.subject and manifest.subject.digest in order:
            assert order.index(manifest.subject.digest) < order.index(raw.digest)


@thorough
@given(worlds_with_request())
def test_a_dry_run_answers_what_the_real_run_does_and_changes_nothing(
    case: tuple[World, Request],
) -> None:
    world, request = case
    before = world.tags, world.manifests
    dry = world.remove(request, dry_run=True)
    assert (world.tags, world.manifests) == before
    assert world.registry.writes == []
    assert not world.store.deletions.page("default", 10, None)
    real = world.remove(request)
    as_real = replace(
        dry,
        id=real.id,
        created_at=real.created_at,
        change_id=real.change_id,
        dry_run=False,
        state="removed",
    )
    assert as_real == real


@thorough
@given(worlds_with_request())
def test_a_deletion_is_restored_to_what_was(case: tuple[World, Request]) -> None:
    world, request = case
    before = world.tags, world.manifests
    deletion = world.remove(request)
    assume(deletion.holds_something)
    world.restore(deletion)
    assert world.manifests == before[1]
    assert world.tags == {tag: d for tag, d in before[0].items() if d or tag in world.tags}


@thorough
@given(worlds(), st.data())
def test_any_number_of_deletions_can_be_restored_in_any_order(
    world: World, data: st.DataObject
) -> None:
    before = {tag: digest for tag, digest in world.tags.items() if digest}
    manifests = world.manifests
    done: list[Deletion] = []
    while world.tags and world.manifests and len(done) < 6:
        done.append(world.remove(data.draw(requests_for(world))))
    waiting = [one for one in data.draw(st.permutations(done)) if one.restorable]
    while waiting:
        deletion = waiting.pop(0)
        try:
            world.restore(deletion)
        except ManifestRefused:  # its child was deleted by force, and is restored later
            waiting.append(deletion)
    assert {tag: digest for tag, digest in world.tags.items() if digest} == before
    assert world.manifests == manifests


@thorough
@given(worlds_with_request(), st.integers(1, 8), st.sampled_from(("before", "after")))
def test_a_deletion_killed_at_any_write_is_finished_by_the_next_start(
    case: tuple[World, Request], nth: int, when: str
) -> None:
    world, request = case
    twin = World(world.registry.copy())
    twin.remove(request)
    world.registry.die(nth, "before" if when == "before" else "after")
    try:
        world.remove(request)
    except Died:
        event("killed")
    world.registry.revive()
    world.recover()
    assert world.tags == twin.tags
    assert world.manifests == twin.manifests
    assert not world.store.deletions.unfinished()


@thorough
@given(worlds_with_request(), st.integers(1, 8), st.sampled_from(("before", "after")))
def test_a_restore_killed_at_any_write_is_finished_by_the_next_start(
    case: tuple[World, Request], nth: int, when: str
) -> None:
    world, request = case
    before = world.manifests
    deletion = world.remove(request)
    assume(deletion.holds_something)
    tags = {one.tag: one.digest for one in deletion.tags if one.digest}
    world.registry.die(nth, "before" if when == "before" else "after")
    try:
        world.restore(deletion)
    except Died:
        event("killed")
    world.registry.revive()
    world.recover()
    assert world.manifests == before
    assert {tag: world.tags[tag] for tag in tags} == tags
    assert not world.store.deletions.unfinished()


@thorough
@given(worlds_with_request(), st.integers(1, 8))
def test_a_registry_that_fails_midway_loses_nothing_and_the_rest_is_done_later(
    case: tuple[World, Request], nth: int
) -> None:
    world, request = case
    before = world.tags
    twin = World(world.registry.copy())
    expected = {one.tag for one in twin.remove(request).tags}
    world.registry.die(nth, "before", RegistryUnreachable("gone"), for_good=False)
    with suppress(RegistryUnreachable):
        world.remove(request)
    world.registry.revive()
    for tag, digest in world.tags.items():
        assert digest == before[tag] or tag in expected
    world.recover()
    assert world.tags == twin.tags


def test_what_came_in_the_middle_names_the_deletion_that_will_be_finished() -> None:
    world = world_of(one="x", two="x")
    world.registry.die(2, "before", RegistryUnreachable("It does not answer."), for_good=False)
    with pytest.raises(RegistryUnreachable) as caught:
        world.remove(remove_tag("one"))
    (unfinished,) = world.store.deletions.unfinished()
    assert caught.value.members["deletion"] == unfinished.id
    assert unfinished.id in str(caught.value)
    assert world.tags == {Tag("one"): image("x").digest, Tag("two"): image("x").digest}


# The rule by example.

A, B, C, D = (Digest("sha256:" + letter * 64) for letter in "abcd")


def snapshot(tags: dict[str, Digest | None], **children: tuple[Digest, ...]) -> Snapshot:
    digests = {digest for digest in tags.values() if digest}
    edges = {Digest("sha256:" + name * 64): frozenset(kids) for name, kids in children.items()}
    known = digests | edges.keys() | {kid for kids in edges.values() for kid in kids}
    nodes = {digest: Node(digest, edges.get(digest, frozenset())) for digest in known}
    return Snapshot({Tag(tag): digest for tag, digest in tags.items()}, nodes)


def remove_tag(tag: str, *, keep_manifest: bool = False, cascade: bool = True) -> RemoveTag:
    return RemoveTag(REPOSITORY, Tag(tag), keep_manifest, cascade)


def test_a_tag_whose_manifest_has_another_tag_goes_alone() -> None:
    decided = plan(snapshot({"one": A, "two": A}), remove_tag("one"))
    assert decided.tags == (RemovedTag(Tag("one"), A),)
    assert decided.manifests == ()
    assert [(kept.digest, kept.reason) for kept in decided.kept] == [(A, "tagged")]


def test_the_last_tag_takes_the_manifest_and_the_children_only_it_had() -> None:
    decided = plan(snapshot({"one": A, "two": B}, a=(C, D), b=(D,)), remove_tag("one"))
    assert decided.manifests == (A, C)
    assert [(kept.digest, kept.reason) for kept in decided.kept] == [(D, "child-of-index")]


def test_a_tagged_child_stays() -> None:
    decided = plan(snapshot({"one": A, "child": C}, a=(C,)), remove_tag("one"))
    assert decided.manifests == (A,)
    assert [(kept.digest, kept.reason) for kept in decided.kept] == [(C, "tagged")]


def test_the_last_tag_of_a_child_leaves_the_manifest_to_its_index() -> None:
    decided = plan(snapshot({"one": A, "child": C}, a=(C,)), remove_tag("child"))
    assert decided.manifests == ()
    assert [(kept.digest, kept.reason) for kept in decided.kept] == [(C, "child-of-index")]


def test_keep_manifest_keeps_it() -> None:
    decided = plan(snapshot({"one": A}), remove_tag("one", keep_manifest=True))
    assert decided.manifests == ()
    assert [(kept.digest, kept.reason) for kept in decided.kept] == [(A, "keep-manifest")]


def test_without_cascade_children_and_signatures_stay() -> None:
    signature = referrer_tags(A)[1]
    decided = plan(snapshot({"one": A, signature: D}, a=(C,)), remove_tag("one", cascade=False))
    assert decided.manifests == (A,)
    assert [removed.tag for removed in decided.tags] == ["one"]
    assert {kept.reason for kept in decided.kept} == {"tagged", "cascade-off"}


def test_signatures_go_with_what_they_sign() -> None:
    signature = referrer_tags(A)[1]
    decided = plan(snapshot({"one": A, signature: D}), remove_tag("one"))
    assert decided.manifests == (A, D)
    assert {removed.tag for removed in decided.tags} == {"one", signature}


def test_a_signature_with_a_name_of_its_own_stays_under_it() -> None:
    signature = referrer_tags(A)[1]
    decided = plan(snapshot({"one": A, signature: D, "mine": D}), remove_tag("one"))
    assert decided.manifests == (A,)
    assert {removed.tag for removed in decided.tags} == {"one", signature}


def test_signatures_of_children_go_with_the_index() -> None:
    signature = referrer_tags(C)[1]
    decided = plan(snapshot({"one": A, signature: D}, a=(C,)), remove_tag("one"))
    assert decided.manifests == (A, C, D)


def test_only_an_index_under_the_fallback_tag_is_its_referrers() -> None:
    fallback = referrer_tags(A)[0]
    taken = snapshot({"one": A, fallback: D})
    assert plan(taken, remove_tag("one")).manifests == (A,)
    assert [removed.tag for removed in plan(taken, remove_tag("one")).tags] == ["one"]
    nodes = {**taken.nodes, D: Node(D, is_index=True)}
    decided = plan(Snapshot(taken.tags, nodes), remove_tag("one"))
    assert decided.manifests == (A, D)
    assert {removed.tag for removed in decided.tags} == {"one", fallback}


def test_an_unknown_tag_is_told() -> None:
    with pytest.raises(TagUnknown):
        plan(snapshot({"one": A}), remove_tag("two"))


def test_a_dangling_tag_goes_alone() -> None:
    decided = plan(snapshot({"one": None, "two": A}), remove_tag("one"))
    assert decided.tags == (RemovedTag(Tag("one"), None),)
    assert decided.manifests == ()


@pytest.mark.parametrize("named", [None, set(), {"one"}, {"one", "two", "three"}])
def test_a_tagged_manifest_goes_only_when_exactly_its_tags_are_named(
    named: set[str] | None,
) -> None:
    tags = None if named is None else frozenset(map(Tag, named))
    with pytest.raises(ManifestTagged) as caught:
        plan(snapshot({"one": A, "two": A}), RemoveManifest(REPOSITORY, A, tags))
    assert caught.value.members["tags"] == ["one", "two"]


@pytest.mark.parametrize(
    "options", [{"tags": frozenset({Tag("one"), Tag("two")})}, {"force": True}]
)
def test_a_tagged_manifest_goes_with_its_tags(options: dict[str, object]) -> None:
    request = replace(RemoveManifest(REPOSITORY, A), **options)  # type: ignore[arg-type]
    decided = plan(snapshot({"one": A, "two": A, "three": B}), request)
    assert {removed.tag for removed in decided.tags} == {"one", "two"}
    assert decided.manifests == (A,)


def test_naming_tags_of_an_untagged_manifest_is_a_mistake() -> None:
    request = RemoveManifest(REPOSITORY, C, frozenset({Tag("one")}))
    with pytest.raises(ManifestTagged):
        plan(snapshot({"one": A}, c=()), request)


def test_a_child_of_a_tagged_index_goes_only_by_force() -> None:
    world = snapshot({"one": A}, a=(B,), b=(C,))
    with pytest.raises(ManifestInIndex) as caught:
        plan(world, RemoveManifest(REPOSITORY, C))
    assert caught.value.members["parents"] == [B]
    assert plan(world, RemoveManifest(REPOSITORY, C, force=True)).manifests == (C,)


def test_a_child_of_an_index_that_nobody_tags_goes() -> None:
    world = snapshot({"other": D}, a=(C,))
    assert plan(world, RemoveManifest(REPOSITORY, C)).manifests == (C,)


def test_what_something_points_at_again_stays_with_its_children() -> None:
    later = snapshot({"new": A}, a=(C,), b=(D,))
    removing = deletion_of(A, B, C, D)
    assert still_free(later, removing) == (B, D)
    forced = replace(removing, requested=Requested(digest=A, forced=True))
    assert still_free(later, forced) == (A, B, C, D)


def deletion_of(*digests: Digest) -> Deletion:
    return Deletion(
        id="1",
        registry="default",
        repository=REPOSITORY,
        requested=Requested(tag=Tag("old")),
        digest=digests[0],
        tags=(RemovedTag(Tag("old"), digests[0]),),
        manifests=tuple(RawManifest(digest, OCI_MANIFEST, b"") for digest in digests),
        kept=(),
        requested_by="tester",
        created_at=WallClock().now(),
    )


def test_deeply_nested_indexes_are_no_trouble() -> None:
    letters = [Digest(f"sha256:{number:064x}") for number in range(3000)]
    nodes = {
        one: Node(one, frozenset(letters[place + 1 : place + 2]))
        for place, one in enumerate(letters)
    }
    deep = Snapshot({Tag("top"): letters[0]}, nodes)
    with pytest.raises(ManifestInIndex):
        plan(deep, RemoveManifest(REPOSITORY, letters[-1]))


# What a registry refuses, and what happens meanwhile.


def world_of(behaviour: Behaviour = V2, **tags: str) -> World:
    world = World(FakeRegistry(behaviour=behaviour))
    for tag, seed in tags.items():
        world.registry.push(REPOSITORY, image(seed), tag)
    return world


@pytest.mark.parametrize("dry_run", [False, True])
@pytest.mark.parametrize(
    ("behaviour", "error"),
    [
        (Behaviour(delete_enabled=False), DeletionDisabled),
        (
            Behaviour(delete_enabled=False, delete_by_tag=True, delete_tag_when_disabled=True),
            DeletionDisabled,
        ),
        (Behaviour(read_only=True), RegistryReadOnly),
    ],
)
def test_a_registry_that_deletes_nothing_is_left_alone(
    behaviour: Behaviour, error: type[Exception], *, dry_run: bool
) -> None:
    world = world_of(behaviour, one="x", two="x")
    with pytest.raises(error):
        world.remove(remove_tag("one"), dry_run=dry_run)
    assert world.registry.writes == []


def test_no_placeholder_is_pushed_where_it_is_unknown_whether_it_could_be_deleted() -> None:
    world = world_of(Behaviour(tells_delete=False), one="x", two="x")
    with pytest.raises(DeletionDisabled):
        world.remove(remove_tag("one"))
    assert world.registry.writes == []
    assert not world.store.deletions.unfinished()


def test_if_match_guards_against_a_tag_that_moved() -> None:
    world = world_of(one="x")
    request = replace(remove_tag("one"), if_match=A)
    with pytest.raises(DigestMismatch) as caught:
        world.remove(request)
    assert caught.value.members["current"] == image("x").digest
    assert world.registry.writes == []
    world.remove(replace(request, if_match=image("x").digest))
    assert world.tags == {}


def test_a_tag_pushed_while_the_repository_is_looked_at_is_not_lost() -> None:
    world = world_of(one="x")
    registry = PushesMeanwhile(behaviour=V2)
    registry.contents = world.registry.contents
    world.registry = registry
    deletion = world.remove(remove_tag("one"))
    assert world.tags == {Tag("late"): image("x").digest}
    assert deletion.manifests == ()


class PushesMeanwhile(FakeRegistry):
    """Somebody tags the same manifest anew right after the tags were listed the first time."""

    listed = 0

    def tags(self, repository: Repository) -> list[Tag]:
        found = list(super().tags(repository))
        self.listed += 1
        if self.listed == 1:
            self.push(REPOSITORY, image("x"), "late")
        return found


def test_a_restore_moves_a_tag_in_use_only_by_force() -> None:
    world = world_of(one="x")
    deletion = world.remove(remove_tag("one"))
    world.registry.push(REPOSITORY, image("y"), "one")
    with pytest.raises(TagExists) as caught:
        world.restore(deletion)
    assert caught.value.members["tags"] == [
        {"tag": "one", "digest": image("x").digest, "current": image("y").digest}
    ]
    assert world.tags == {Tag("one"): image("y").digest}
    world.restore(deletion, force=True)
    assert world.tags == {Tag("one"): image("x").digest}


@pytest.mark.parametrize("stale_cache", [False, True])
def test_nothing_is_put_back_when_a_blob_was_collected(*, stale_cache: bool) -> None:
    world = world_of(one="x", two="y")
    deletion = world.remove(remove_tag("one"))
    world.registry.collect(stale_cache=stale_cache)
    world.registry.writes.clear()
    with pytest.raises(BlobsCollected) as caught:
        world.restore(deletion)
    assert set(caught.value.members["blobs"]) == {Digest.of(b) for b in image("x").blobs}  # type: ignore[call-overload]
    assert world.registry.writes == []
    assert not world.store.deletions.get("default", deletion.id).restorable


def test_the_removal_of_a_dangling_tag_leaves_nothing_to_restore() -> None:
    world = world_of(one="x", two="y")
    world.registry.dangle(REPOSITORY, "one")
    deletion = world.remove(remove_tag("one"))
    assert world.tags == {Tag("two"): image("y").digest}
    assert not deletion.restorable
    with pytest.raises(NotRestorable):
        world.restore(deletion)


def test_tags_moved_since_a_crash_stay_where_they_were_moved_to() -> None:
    world = World(FakeRegistry())
    child = image("child")
    world.registry.push(REPOSITORY, child)
    world.registry.push(REPOSITORY, index(child), "one")
    world.registry.die(1, "before")
    with pytest.raises(Died):
        world.remove(remove_tag("one"))
    world.registry.revive()
    world.registry.push(REPOSITORY, index(child), "again")
    world.registry.push(REPOSITORY, image("new"), "one")
    assert world.recover() == 1
    assert world.tags == {Tag("again"): index(child).digest, Tag("one"): image("new").digest}
    assert child.digest in world.manifests


def test_a_tag_that_could_not_be_pointed_back_is_not_forgotten_on_its_placeholder() -> None:
    world = world_of(one="x", two="y")
    world.registry.dangle(REPOSITORY, "one")
    world.registry.die(2, "before", DeletionDisabled("It is off now."), for_good=False)
    with pytest.raises(DeletionDisabled):
        world.remove(remove_tag("one"))
    assert len(world.store.deletions.unfinished()) == 1
    world.registry.behaviour = Behaviour(delete_enabled=False)
    assert world.recover() == 0  # nothing is tried, and nothing recorded, while it cannot be done
    assert "deletion.recover" not in outcomes(world)
    world.registry.behaviour = V2
    assert world.recover() == 1
    assert world.tags == {Tag("two"): image("y").digest}


def test_a_refusal_that_left_the_tag_where_it_was_leaves_no_record() -> None:
    world = world_of(one="x", two="x")
    before = world.tags
    world.registry.die(2, "before", DeletionDisabled("It is off now."), for_good=False)
    with pytest.raises(DeletionDisabled):
        world.remove(remove_tag("one"))
    assert world.tags == before
    assert not world.store.deletions.unfinished()


def test_the_audit_event_of_a_killed_deletion_gets_its_outcome_from_whoever_finishes_it() -> None:
    world = world_of(one="x", two="x")
    world.registry.die(1, "after")
    change = world.trail.begin(Attempt("tag.delete", "tester"))
    with pytest.raises(Died):
        Remover(world.registry, world.store, WallClock()).remove(
            change, "tester", remove_tag("one"), dry_run=False
        )
    world.registry.revive()
    assert outcomes(world)["tag.delete"] is None
    world.recover()
    assert outcomes(world) == {"tag.delete": "succeeded", "deletion.recover": "succeeded"}


def outcomes(world: World) -> dict[str, str | None]:
    events = world.store.audit.page(AuditQuery(), 100, None)
    found = {event.attempt.action: event.completion for event in events}
    return {action: done.outcome if done else None for action, done in found.items()}


def test_an_interrupted_deletion_ends_when_its_repository_has_gone() -> None:
    world = world_of(one="x", two="x")
    world.registry.dangle(REPOSITORY, "one")
    world.registry.die(1, "before")
    with pytest.raises(Died):
        world.remove(remove_tag("one"))
    world.registry.revive()
    del world.registry.contents[REPOSITORY]
    assert world.recover() == 1
    assert REPOSITORY not in world.registry.contents
    assert not world.store.deletions.unfinished()


def test_the_work_of_a_living_process_is_not_taken_over() -> None:
    world = world_of(one="x", two="x")
    world.registry.die(1, "after")
    with pytest.raises(Died):
        world.remove(remove_tag("one"))
    world.registry.revive()
    with world.store.locks.hold(f"repository/default/{REPOSITORY}", 0):
        assert world.recover() == 0
    assert world.recover() == 1
