"""Damage in the storage of a registry hides nothing else, and nothing is deleted beside it."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from service.domain.audit import Attempt
from service.domain.bulk import Bulk, BulkRemover, Outcome
from service.domain.deletion import RemoveManifest, RemoveTag, Request
from service.domain.deletion_record import Deletion
from service.domain.errors import DigestMismatch, RegistryAnswerInvalid
from service.domain.reading import Reader
from service.domain.reference import Digest, Tag
from service.domain.removal import Remover
from service.domain.tagging import Pointed, PointTag, point
from service.domain.verification import verify
from tests.fakes import FakeRegistry, image, index
from tests.fakes_store import WallClock
from tests.unit.domain.test_bulk import JOB
from tests.unit.domain.worlds import REPOSITORY, World

ONE, TWO, LEAF = image("one"), image("two"), image("leaf")
TOP = index(LEAF, TWO)


def world(*damaged: str) -> World:
    registry = FakeRegistry()
    for built, tags in ((ONE, ("1", "one")), (TWO, ()), (LEAF, ()), (TOP, ("top",))):
        registry.push(REPOSITORY, built, *tags)
    registry.push(REPOSITORY, image("ill"), "ill")
    registry.contents[REPOSITORY].damaged |= set(damaged)
    return World(registry)


def reads(registry: FakeRegistry, names: Iterable[str]) -> dict[str, tuple[Digest | None, bool]]:
    details = Reader(registry).tag_details(REPOSITORY, len(list(names)), None)
    return {one.name: (one.digest, one.problem is not None) for one in details}


@pytest.mark.parametrize("damaged", ["ill", image("ill").digest])
def test_a_damaged_tag_is_marked_and_hides_no_other(damaged: str) -> None:
    found = reads(world(damaged).registry, ("1", "ill", "one", "top"))
    assert found == {
        "1": (ONE.digest, False),
        "ill": (None, True),
        "one": (ONE.digest, False),
        "top": (TOP.digest, False),
    }


def test_an_index_with_a_damaged_child_is_marked() -> None:
    assert reads(world(LEAF.digest).registry, ("1", "ill", "one", "top"))["top"] == (None, True)


def test_pages_go_on_beyond_a_damaged_tag() -> None:
    reader = Reader(world("1").registry)
    (first,) = reader.tag_details(REPOSITORY, 1, None)
    (second,) = reader.tag_details(REPOSITORY, 1, first.name)
    assert (first.problem is not None, second.name) == (True, "ill")


def test_a_registry_that_makes_sense_of_no_tag_is_no_list_of_damaged_ones() -> None:
    with pytest.raises(RegistryAnswerInvalid):
        Reader(world("1", "ill", "one", "top").registry).tag_details(REPOSITORY, 9, None)


REQUESTS = (
    RemoveTag(REPOSITORY, Tag("1")),
    RemoveTag(REPOSITORY, Tag("top")),
    RemoveTag(REPOSITORY, Tag("ill")),
    RemoveManifest(REPOSITORY, TOP.digest, force=True),
)


@pytest.mark.parametrize("dry_run", [True, False])
@pytest.mark.parametrize("request_", REQUESTS)
def test_nothing_is_deleted_beside_a_damaged_tag(request_: Request, *, dry_run: bool) -> None:
    made = world("ill")
    with pytest.raises(RegistryAnswerInvalid) as caught:
        made.remove(request_, dry_run=dry_run)
    assert caught.value.members == {"tags": ["ill"]}
    assert "PUT .../-/tags/ill" in caught.value.detail
    assert made.registry.writes == []


def test_a_damaged_child_stays_where_it_is() -> None:
    made = world(LEAF.digest)
    done = made.remove(RemoveTag(REPOSITORY, Tag("top")))
    assert {raw.digest for raw in done.manifests} == {TOP.digest, TWO.digest}
    assert LEAF.digest in made.manifests


def test_a_damaged_manifest_itself_is_not_deleted_since_it_cannot_be_kept() -> None:
    made = world(TWO.digest)
    with pytest.raises(RegistryAnswerInvalid):
        made.remove(RemoveManifest(REPOSITORY, TWO.digest, force=True))
    assert made.registry.writes == []


def bulk(made: World, *requests: Request) -> dict[int, Outcome]:
    outcomes: dict[int, Outcome] = {}
    remover = Remover(made.registry, made.store, WallClock())
    with made.trail.attempt(Attempt("test", "tester")) as change:
        BulkRemover(made.registry, made.store, remover).remove(
            change, Bulk(JOB, requests), outcomes.__setitem__
        )
    return outcomes


def test_a_damaged_item_keeps_no_other_item_from_going() -> None:
    outcomes = bulk(
        world(LEAF.digest),
        RemoveManifest(REPOSITORY, LEAF.digest),
        RemoveTag(REPOSITORY, Tag("1")),
    )
    assert isinstance(outcomes[0], RegistryAnswerInvalid)
    assert isinstance(outcomes[1], Deletion)


def pointed(made: World, if_match: str | None = None) -> Pointed:
    wanted = PointTag(REPOSITORY, Tag("ill"), Tag("one"), if_match)
    with made.trail.attempt(Attempt("test", "tester")) as change:
        return point(made.registry, made.store.locks, change, wanted, dry_run=False)


def test_a_damaged_tag_is_mended_by_pointing_it_somewhere_and_then_deleted() -> None:
    made = world("ill")
    assert pointed(made).previous_digest is None
    assert made.remove(RemoveTag(REPOSITORY, Tag("ill"))).tags[0].digest == ONE.digest
    assert made.tags == {"1": ONE.digest, "one": ONE.digest, "top": TOP.digest}


def test_no_condition_on_a_damaged_tag_is_met() -> None:
    made = world("ill")
    with pytest.raises(DigestMismatch):
        pointed(made, if_match="*")
    assert made.registry.writes == []


def test_a_verification_tells_of_damaged_tags_and_goes_on() -> None:
    found = verify(world("ill").registry, lambda _done, _total: None).result()
    assert found["unreadable_tags"] == [{"repository": REPOSITORY, "tag": "ill"}]
    assert (found["tags"], found["dangling_tags"], found["missing_blobs"]) == (4, [], [])


def test_a_verification_tells_of_damaged_manifests_by_digest() -> None:
    found = verify(world(LEAF.digest).registry, lambda _done, _total: None).result()
    ill = {"digest": LEAF.digest, "tags": [{"repository": REPOSITORY, "tag": "top"}]}
    assert (found["corrupt_blobs"], found["unreadable_tags"]) == ([ill], [])
