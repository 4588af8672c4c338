"""What the fake does beyond its port: counting writes and dying at one of them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from service.domain.audit import Attempt, AuditTrail, Change
from service.domain.errors import ManifestRefused, RegistryUnreachable
from service.domain.reference import Repository, Tag
from tests.fakes import V3, Died, FakeRegistry, Write, image
from tests.fakes_store import FakeStore

APP = Repository("team/app")
ONE = image("one")
TWO = image("two")


@pytest.fixture
def change() -> Iterator[Change]:
    with AuditTrail(FakeStore().audit).attempt(Attempt("test", "tester")) as opened:
        yield opened


@pytest.fixture
def registry() -> FakeRegistry:
    made = FakeRegistry(behaviour=V3)
    made.push(APP, ONE, "1", "latest")
    made.push(APP, TWO)
    return made


def test_writes_are_listed_in_order(registry: FakeRegistry, change: Change) -> None:
    writer = registry.writer(change)
    writer.put_manifest(APP, Tag("2"), TWO.raw)
    writer.delete_tag(APP, Tag("latest"))
    writer.delete_manifest(APP, ONE.digest)
    assert registry.writes == [
        Write("put_manifest", APP, Tag("2")),
        Write("delete_tag", APP, Tag("latest")),
        Write("delete_manifest", APP, ONE.digest),
    ]
    assert registry.resolved(APP) == {"2": TWO.digest}


def test_death_before_a_write_leaves_it_undone(registry: FakeRegistry, change: Change) -> None:
    registry.die(2, "before")
    registry.writer(change).put_manifest(APP, Tag("2"), TWO.raw)
    with pytest.raises(Died):
        registry.writer(change).delete_manifest(APP, ONE.digest)
    with pytest.raises(Died):
        registry.tags(APP)
    registry.revive()
    assert registry.resolved(APP) == {"1": ONE.digest, "latest": ONE.digest, "2": TWO.digest}


def test_death_after_a_write_leaves_it_done(registry: FakeRegistry, change: Change) -> None:
    registry.die(1, "after")
    with pytest.raises(Died):
        registry.writer(change).delete_manifest(APP, ONE.digest)
    registry.revive()
    assert registry.resolved(APP) == {}


def test_an_error_can_strike_once(registry: FakeRegistry, change: Change) -> None:
    registry.die(1, "before", RegistryUnreachable("gone"), for_good=False)
    with pytest.raises(RegistryUnreachable):
        registry.writer(change).delete_tag(APP, Tag("1"))
    assert registry.writer(change).delete_tag(APP, Tag("1")) is True


def test_a_refused_write_is_no_write(registry: FakeRegistry, change: Change) -> None:
    with pytest.raises(ManifestRefused):
        registry.writer(change).put_manifest(APP, Tag("3"), image("unknown").raw)
    assert registry.writes == []


def test_copies_change_on_their_own(registry: FakeRegistry, change: Change) -> None:
    twin = registry.copy()
    twin.writer(change).delete_manifest(APP, ONE.digest)
    assert "1" in registry.resolved(APP)
    assert twin.resolved(APP) == {}


def test_a_dangling_tag_is_listed_and_resolves_to_nothing(registry: FakeRegistry) -> None:
    registry.dangle(APP, "1")
    assert registry.resolved(APP) == {"1": None, "latest": None}
    assert sorted(registry.tags(APP)) == ["1", "latest"]
