"""Pointing a tag: at what was named, under the conditions given, and otherwise not at all."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from service.domain.audit import Attempt, AuditTrail, Change
from service.domain.content import Descriptor
from service.domain.errors import (
    DigestMismatch,
    ManifestRefused,
    ManifestUnknown,
    RegistryAdminError,
    RegistryReadOnly,
    RegistryTimeout,
    RepositoryBusy,
    RepositoryUnknown,
    TagUnknown,
)
from service.domain.reading import Reader
from service.domain.reference import Digest, Repository, Tag
from service.domain.removal import lock_name
from service.domain.tagging import Pointed, PointTag, point
from tests.fakes import Behaviour, Built, FakeRegistry, Write, image, index
from tests.fakes_store import FakeStore
from tests.unit.domain.documents import schema1

APP = Repository("team/app")
NEW, OLD = image("new"), image("old")
ABSENT = Digest("sha256:" + "0" * 64)


@pytest.fixture
def registry() -> FakeRegistry:
    made = FakeRegistry()
    made.push(APP, OLD, "old", "moving")
    made.push(APP, NEW, "new")
    made.push(APP, image("gone"), "gone")
    made.dangle(APP, "gone")
    return made


@pytest.fixture
def store() -> FakeStore:
    return FakeStore()


@pytest.fixture
def change(store: FakeStore) -> Iterator[Change]:
    with AuditTrail(store.audit).attempt(Attempt("test", "tester")) as opened:
        yield opened


@pytest.fixture
def pointing(registry: FakeRegistry, store: FakeStore, change: Change) -> Pointing:
    return Pointing(registry, store, change)


class Pointing:
    """Points tags of one repository, without the words each test would repeat."""

    def __init__(self, registry: FakeRegistry, store: FakeStore, change: Change) -> None:
        self.registry, self.store, self.change = registry, store, change

    def __call__(
        self,
        tag: str,
        source: Tag | Digest,
        if_match: str | None = None,
        *,
        dry_run: bool = False,
    ) -> Pointed:
        request = PointTag(APP, Tag(tag), source, if_match)
        return point(self.registry, self.store.locks, self.change, request, dry_run=dry_run)


@pytest.mark.parametrize("source", [NEW.digest, Tag("new")])
def test_a_new_tag_is_put_where_it_was_asked_for(
    registry: FakeRegistry, pointing: Pointing, source: Tag | Digest
) -> None:
    pointed = pointing("fresh", source)
    assert pointed.detail == Reader(registry).tag(APP, Tag("fresh"))
    assert pointed.detail.digest == NEW.digest
    assert (pointed.created, pointed.previous_digest, pointed.dry_run) == (True, None, False)
    assert registry.writes == [Write("put_manifest", APP, Tag("fresh"))]


def test_a_tag_that_is_there_moves_and_tells_where_it_was(
    registry: FakeRegistry, pointing: Pointing
) -> None:
    pointed = pointing("moving", NEW.digest)
    assert (pointed.created, pointed.previous_digest) == (False, OLD.digest)
    assert registry.resolved(APP)[Tag("moving")] == NEW.digest
    assert registry.resolved(APP)[Tag("old")] == OLD.digest


def test_a_tag_may_be_pointed_where_it_is(registry: FakeRegistry, pointing: Pointing) -> None:
    pointed = pointing("old", Tag("old"))
    assert (pointed.created, pointed.previous_digest) == (False, OLD.digest)
    assert registry.resolved(APP)[Tag("old")] == OLD.digest


def test_a_dangling_tag_is_pointed_at_something_again(
    registry: FakeRegistry, pointing: Pointing
) -> None:
    assert pointing("gone", Tag("new")).created
    assert registry.resolved(APP)[Tag("gone")] == NEW.digest


def test_an_index_can_be_pointed_at(registry: FakeRegistry, pointing: Pointing) -> None:
    top = index(OLD, NEW)
    registry.push(APP, top)
    assert pointing("multi", top.digest).detail.kind == "index"
    assert registry.resolved(APP)[Tag("multi")] == top.digest


@pytest.mark.parametrize("dry_run", [False, True])
def test_an_index_without_its_children_is_refused_as_the_registry_would(
    registry: FakeRegistry, pointing: Pointing, *, dry_run: bool
) -> None:
    top, child = index(image("child"), NEW), image("child")
    registry.push(APP, child)
    registry.push(APP, top)
    del registry.contents[APP].manifests[child.digest]
    with pytest.raises(ManifestRefused, match=str(child.digest)):
        pointing("multi", top.digest, dry_run=dry_run)
    assert registry.writes == []


@pytest.mark.parametrize("dry_run", [False, True])
@pytest.mark.parametrize(
    ("source", "error"),
    [
        (Tag("never"), TagUnknown),
        (Tag("gone"), ManifestUnknown),
        (ABSENT, ManifestUnknown),
    ],
)
def test_what_is_not_there_cannot_be_pointed_at(
    registry: FakeRegistry,
    pointing: Pointing,
    source: Tag | Digest,
    error: type[RegistryAdminError],
    *,
    dry_run: bool,
) -> None:
    with pytest.raises(error):
        pointing("moving", source, dry_run=dry_run)
    assert registry.writes == []


def test_an_unknown_repository_is_told(store: FakeStore, change: Change) -> None:
    with pytest.raises(RepositoryUnknown):
        Pointing(FakeRegistry(), store, change)("fresh", Tag("new"))


@pytest.mark.parametrize("if_match", [OLD.digest, "*"])
def test_a_condition_that_holds_lets_the_tag_move(
    registry: FakeRegistry, pointing: Pointing, if_match: str
) -> None:
    pointing("moving", NEW.digest, if_match)
    assert registry.resolved(APP)[Tag("moving")] == NEW.digest


@pytest.mark.parametrize("dry_run", [False, True])
@pytest.mark.parametrize(
    ("tag", "if_match", "current"),
    [
        ("moving", NEW.digest, OLD.digest),
        ("moving", "", OLD.digest),
        ("fresh", OLD.digest, None),
        ("fresh", "*", None),
        ("gone", "*", None),
        ("gone", image("gone").digest, None),
    ],
)
def test_a_condition_that_does_not_hold_leaves_everything_as_it_is(
    registry: FakeRegistry,
    pointing: Pointing,
    tag: str,
    if_match: str,
    current: str | None,
    *,
    dry_run: bool,
) -> None:
    before = registry.resolved(APP)
    with pytest.raises(DigestMismatch) as caught:
        pointing(tag, NEW.digest, if_match, dry_run=dry_run)
    assert caught.value.members == {"current": current}
    assert registry.writes == []
    assert registry.resolved(APP) == before


@pytest.mark.parametrize("tag", ["fresh", "moving", "gone"])
def test_a_dry_run_answers_the_same_and_changes_nothing(
    registry: FakeRegistry, pointing: Pointing, tag: str
) -> None:
    before = registry.resolved(APP)
    dry = pointing(tag, NEW.digest, dry_run=True)
    assert registry.writes == []
    assert registry.resolved(APP) == before
    real = pointing(tag, NEW.digest)
    assert dry.dry_run
    assert (dry.detail, dry.previous_digest) == (real.detail, real.previous_digest)


@pytest.mark.parametrize("dry_run", [False, True])
def test_a_read_only_registry_is_told_and_left_alone(
    registry: FakeRegistry, pointing: Pointing, *, dry_run: bool
) -> None:
    registry.behaviour = Behaviour(read_only=True)
    with pytest.raises(RegistryReadOnly):
        pointing("moving", NEW.digest, dry_run=dry_run)
    assert registry.writes == []


def test_what_the_registry_refuses_is_refused(registry: FakeRegistry, pointing: Pointing) -> None:
    old = Built(schema1([{}]))
    registry.push(APP, old)
    with pytest.raises(ManifestRefused):
        pointing("moving", old.digest)
    assert registry.resolved(APP)[Tag("moving")] == OLD.digest


def test_a_repository_that_is_being_changed_is_waited_for(
    pointing: Pointing, store: FakeStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.domain.tagging.LOCK_WAIT_SECONDS", 0.01)
    with store.locks.hold(lock_name("default", APP), 0), pytest.raises(RepositoryBusy):
        pointing("moving", NEW.digest)
    assert pointing.registry.writes == []
    pointing("moving", NEW.digest)


def test_what_was_done_is_never_reported_as_failed(
    registry: FakeRegistry, store: FakeStore, change: Change
) -> None:
    class LosesConfigs(FakeRegistry):
        def config(self, _repository: Repository, _descriptor: Descriptor) -> bytes:
            raise RegistryTimeout("It does not answer.")

    losing = LosesConfigs()
    losing.contents = registry.contents
    with pytest.raises(RegistryTimeout):
        Pointing(losing, store, change)("moving", NEW.digest)
    assert losing.writes == []


def test_a_change_that_has_ended_points_nothing(registry: FakeRegistry, store: FakeStore) -> None:
    with AuditTrail(store.audit).attempt(Attempt("test", "tester")) as ended:
        pass
    with pytest.raises(RuntimeError):
        Pointing(registry, store, ended)("moving", NEW.digest)
    assert registry.writes == []
