"""Bulk deletion: as if done one by one, whatever dies or fails on the way."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from service.domain.audit import Attempt
from service.domain.bulk import Bulk, BulkRemover, Outcome
from service.domain.deletion import RemoveManifest, RemoveTag, Request
from service.domain.deletion_record import Deletion, KeptManifest
from service.domain.errors import RegistryAdminError, RegistryUnreachable, TagUnknown
from service.domain.job import Job
from service.domain.reference import Digest, Repository, Tag
from service.domain.removal import Remover
from tests.fakes import Died, FakeRegistry, image, index
from tests.fakes_store import WallClock
from tests.unit.domain.worlds import REPOSITORY, World, requests_for, worlds

JOB = Job(
    id="a" * 32,
    kind="bulk-deletion",
    state="running",
    registry="default",
    container=None,
    params={},
    requested_by="tester",
    request_id=None,
    created_at=datetime(2026, 1, 1, tzinfo=UTC),
)
some = settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def remove_all(
    world: World, requests: list[Request], *, dry_run: bool = False
) -> dict[int, Outcome]:
    outcomes: dict[int, Outcome] = {}
    remover = Remover(world.registry, world.store, WallClock())
    with world.trail.attempt(Attempt("test", "tester")) as change:
        BulkRemover(world.registry, world.store, remover).remove(
            change, Bulk(JOB, requests, dry_run), outcomes.__setitem__
        )
    return outcomes


def remove_each(world: World, requests: list[Request]) -> list[Outcome]:
    outcomes: list[Outcome] = []
    for request in requests:
        try:
            outcomes.append(world.remove(request))
        except RegistryAdminError as error:
            outcomes.append(error)
    return outcomes


def essence(outcome: Outcome) -> object:
    if isinstance(outcome, Deletion):
        # A bulk deletion may know the bytes of more that a restore could need.
        bare = replace(outcome, id="", created_at=JOB.created_at, change_id=None, supports=())
        return replace(bare, dry_run=False, state="removed")
    return type(outcome), outcome.members


@st.composite
def worlds_with_requests(draw: st.DrawFn) -> tuple[World, list[Request]]:
    """A world and requests as a bulk deletion has them: nothing kept, nothing forced."""
    world, cascade = draw(worlds()), draw(st.booleans())
    drawn = draw(st.lists(requests_for(world), min_size=1, max_size=6))
    return world, [_as_item(request, cascade=cascade) for request in drawn]


def _as_item(request: Request, *, cascade: bool) -> Request:
    if isinstance(request, RemoveTag):
        return replace(request, keep_manifest=False, cascade=cascade)
    return replace(request, force=False, cascade=cascade)


@some
@given(worlds_with_requests())
def test_the_result_is_that_of_deleting_one_by_one(case: tuple[World, list[Request]]) -> None:
    world, requests = case
    twin = World(world.registry.copy())
    expected = remove_each(twin, requests)
    outcomes = remove_all(world, requests)
    assert sorted(outcomes) == list(range(len(requests)))
    assert [essence(outcomes[place]) for place in sorted(outcomes)] == list(map(essence, expected))
    assert (world.tags, world.manifests) == (twin.tags, twin.manifests)


@some
@given(worlds_with_requests())
def test_a_dry_run_tells_the_same_and_changes_nothing(case: tuple[World, list[Request]]) -> None:
    world, requests = case
    twin = World(world.registry.copy())
    dry = remove_all(world, requests, dry_run=True)
    assert world.registry.writes == []
    real = remove_all(twin, requests)
    assert {place: essence(one) for place, one in dry.items()} == {
        place: essence(one) for place, one in real.items()
    }


@some
@given(worlds_with_requests(), st.integers(1, 12), st.sampled_from(("before", "after")))
def test_killed_at_any_write_the_next_run_forgets_nothing_and_repeats_nothing(
    case: tuple[World, list[Request]], nth: int, when: str
) -> None:
    world, requests = case
    once, over_and_over = World(world.registry.copy()), World(world.registry.copy())
    remove_all(once, requests)
    # What was in the way of one may have been removed by another when it is looked at again.
    for _ in requests:
        remove_all(over_and_over, requests)
    world.registry.die(nth, "before" if when == "before" else "after")
    with suppress(Died):
        remove_all(world, requests)
    world.registry.revive()
    remove_all(world, requests)
    assert over_and_over.tags.items() <= world.tags.items() <= once.tags.items()
    assert over_and_over.manifests <= world.manifests <= once.manifests
    assert not world.store.deletions.unfinished()


def world_of(*tags: str) -> World:
    world = World(FakeRegistry())
    for tag in tags:
        world.registry.push(REPOSITORY, image(tag), tag)
    return world


def tag(name: str, repository: Repository = REPOSITORY) -> RemoveTag:
    return RemoveTag(repository, Tag(name))


SHARED = image("shared")
INNER = index(SHARED, seed="inner")
OUTER = index(INNER, seed="outer")


def nested() -> World:
    """An index in an index, of whose children one has a tag."""
    world = world_of()
    for one, names in ((SHARED, ["shared"]), (INNER, []), (OUTER, ["outer"])):
        world.registry.push(REPOSITORY, one, *names)
    return world


def alone(digest: Digest) -> RemoveManifest:
    return RemoveManifest(REPOSITORY, digest, cascade=False)


def test_an_index_that_an_item_leaves_keeps_its_children_from_the_next() -> None:
    world = nested()
    items: list[Request] = [replace(tag("outer"), cascade=False), tag("shared")]
    assert all(isinstance(one, Deletion) for one in remove_all(world, items).values())
    assert world.manifests == {INNER.digest, SHARED.digest}


def test_an_index_without_a_tag_keeps_its_children_until_its_own_turn() -> None:
    world = nested()
    world.remove(replace(tag("outer"), cascade=False))
    outcomes = remove_all(world, [tag("shared"), alone(INNER.digest)])
    assert [one.digest for one in kept(outcomes[0])] == [SHARED.digest]
    assert world.manifests == {SHARED.digest}


def kept(outcome: Outcome) -> tuple[KeptManifest, ...]:
    assert isinstance(outcome, Deletion)
    return outcome.kept


def test_one_failure_does_not_stop_the_rest() -> None:
    world = world_of("one", "two")
    outcomes = remove_all(world, [tag("one"), tag("gone"), tag("x", Repository("no")), tag("two")])
    assert isinstance(outcomes[1], TagUnknown)
    assert isinstance(outcomes[2], RegistryAdminError)
    assert world.tags == {}


def test_an_interrupted_item_fails_and_the_rest_goes_on() -> None:
    world = world_of("one", "two")
    world.registry.die(1, "before", RegistryUnreachable("It is gone."), for_good=False)
    outcomes = remove_all(world, [tag("one"), tag("two")])
    assert isinstance(outcomes[0], RegistryUnreachable)
    assert isinstance(outcomes[1], Deletion)
    world.recover()
    assert world.tags == {}


def test_a_repository_is_surveyed_once() -> None:
    world = world_of(*(f"t{number}" for number in range(20)))
    world.registry.reads.clear()
    remove_all(world, [tag(f"t{number}") for number in range(20)])
    asked = [what for what, *_ in world.registry.reads if what == "resolve"]
    assert len(asked) == 20


def test_a_tag_moved_meanwhile_is_seen_once_the_survey_is_old(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("service.domain.bulk.FRESH_SECONDS", 0.0)
    monkeypatch.setattr("service.domain.bulk.FRESH_FACTOR", 0)
    world = world_of("one", "two", "moving")

    def move(place: int, _outcome: Outcome) -> None:
        if place == 0:
            world.registry.push(REPOSITORY, image("two"), "moving")

    remover = Remover(world.registry, world.store, WallClock())
    with world.trail.attempt(Attempt("test", "tester")) as change:
        BulkRemover(world.registry, world.store, remover).remove(
            change, Bulk(JOB, [tag("one"), tag("two")]), move
        )
    assert world.tags == {Tag("moving"): image("two").digest}


def test_a_stop_between_two_items_leaves_the_rest_untouched() -> None:
    world = world_of("one", "two")

    def stop(_place: int, _outcome: Outcome) -> None:
        raise InterruptedError

    remover = Remover(world.registry, world.store, WallClock())
    with (
        pytest.raises(InterruptedError),
        world.trail.attempt(Attempt("test", "tester")) as change,
    ):
        BulkRemover(world.registry, world.store, remover).remove(
            change, Bulk(JOB, [tag("one"), tag("two")]), stop
        )
    assert set(world.tags) == {"two"}
