"""No change without a record: written before it is tried, completed once, worthless afterwards."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

import pytest

from service.domain.access import Caller, Token
from service.domain.audit import Attempt, AuditTrail, Change, Completion
from service.domain.errors import DeletionDisabled, StoreUnavailable
from service.domain.ports import AuditQuery
from service.domain.reference import Repository, Tag
from tests.fakes import FakeRegistry, image
from tests.fakes_store import FakeAudit, FakeStore, WallClock

APP = Repository("team/app")
ATTEMPT = Attempt("tag.delete", "somebody", registry="default", target="team/app:1")


@pytest.fixture
def store() -> FakeStore:
    return FakeStore()


@pytest.fixture
def trail(store: FakeStore) -> AuditTrail:
    return AuditTrail(store.audit)


class FullDisk(FakeAudit):
    """Fails to write, from the beginning or from the first completion on."""

    def __init__(self, *, at_first: bool) -> None:
        super().__init__(WallClock())
        self.at_first = at_first

    def record_attempt(self, event_id: str, attempt: Attempt) -> None:
        if self.at_first:
            raise StoreUnavailable("The database does not answer.")
        super().record_attempt(event_id, attempt)

    def record_completion(self, _event_id: str, _completion: Completion) -> None:
        raise StoreUnavailable("The database does not answer.")


def outcome(store: FakeStore) -> Completion | None:
    (event,) = store.audit.page(AuditQuery(), 10, None)
    assert event.attempt == ATTEMPT
    return event.completion


def test_the_attempt_stands_before_anything_is_tried(store: FakeStore, trail: AuditTrail) -> None:
    with trail.attempt(ATTEMPT) as change:
        (event,) = store.audit.page(AuditQuery(), 10, None)
        assert (event.id, event.attempt, event.completion) == (change.id, ATTEMPT, None)


def test_an_attempt_that_cannot_be_written_is_not_made() -> None:
    trail = AuditTrail(FullDisk(at_first=True))
    tried: list[Change] = []
    with pytest.raises(StoreUnavailable):
        tried.append(trail.begin(ATTEMPT))
    with pytest.raises(StoreUnavailable), trail.attempt(ATTEMPT) as change:
        tried.append(change)
    assert tried == []


def test_what_went_well_has_succeeded(store: FakeStore, trail: AuditTrail) -> None:
    with trail.attempt(ATTEMPT) as change:
        change.details["deletion"] = "1"
    assert outcome(store) == Completion("succeeded", details={"deletion": "1"})


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (DeletionDisabled("It is off."), "deletion-disabled"),
        (ValueError("wrong"), None),
        (KeyboardInterrupt(), None),
        (SystemExit(3), None),  # whose code is another thing
    ],
)
def test_what_raised_has_failed_with_the_code_of_its_problem(
    store: FakeStore, trail: AuditTrail, error: BaseException, code: str | None
) -> None:
    def try_it() -> None:
        with trail.attempt(ATTEMPT) as change:
            change.details["half"] = "done"
            raise error

    with pytest.raises(type(error)):
        try_it()
    assert outcome(store) == Completion("failed", code=code, details={"half": "done"})


def test_an_outcome_that_cannot_be_written_is_told() -> None:
    with (
        pytest.raises(StoreUnavailable),
        AuditTrail(FullDisk(at_first=False)).attempt(ATTEMPT) as change,
    ):
        change.require_open()
    with pytest.raises(RuntimeError):
        change.require_open()


def test_a_change_ends_once(store: FakeStore, trail: AuditTrail) -> None:
    change = trail.begin(ATTEMPT)
    change.complete(Completion("refused", 403, "insufficient-scope"))
    with pytest.raises(RuntimeError):
        change.complete(Completion("succeeded"))
    assert outcome(store) == Completion("refused", 403, "insufficient-scope")


def test_each_attempt_is_an_event_of_its_own(store: FakeStore, trail: AuditTrail) -> None:
    changes = [trail.begin(ATTEMPT) for _ in range(20)]
    events = store.audit.page(AuditQuery(), 100, None)
    assert [event.id for event in events] == [change.id for change in reversed(changes)]


# What has ended changes nothing any more.


def _put(registry: FakeRegistry, _store: FakeStore, change: Change) -> None:
    registry.writer(change).put_manifest(APP, Tag("2"), image("x").raw)


def _delete(registry: FakeRegistry, _store: FakeStore, change: Change) -> None:
    registry.writer(change).delete_manifest(APP, image("x").digest)


def _delete_tag(registry: FakeRegistry, _store: FakeStore, change: Change) -> None:
    registry.writer(change).delete_tag(APP, Tag("1"))


def _create_token(_registry: FakeRegistry, store: FakeStore, change: Change) -> None:
    caller = Caller("new", frozenset({"admin"}))
    store.tokens.create(change, Token("1", caller, datetime.now(UTC), "me"), "hash")


@pytest.mark.parametrize("try_it", [_put, _delete, _delete_tag, _create_token])
@pytest.mark.parametrize("fails", [False, True])
def test_a_change_that_has_ended_changes_nothing(
    store: FakeStore,
    trail: AuditTrail,
    try_it: Callable[[FakeRegistry, FakeStore, Change], None],
    *,
    fails: bool,
) -> None:
    registry = FakeRegistry()
    registry.push(APP, image("x"), "1")
    change = trail.begin(ATTEMPT)
    change.complete(Completion("failed" if fails else "succeeded"))
    with pytest.raises(RuntimeError):
        try_it(registry, store, change)
    assert registry.writes == []
    assert registry.resolved(APP) == {"1": image("x").digest}
    assert store.tokens.find("hash") is None


# What a dead process left.


def test_an_abandoned_change_is_completed_once_by_whoever_finds_it(
    store: FakeStore, trail: AuditTrail
) -> None:
    change = trail.begin(ATTEMPT)
    trail.complete_abandoned(change.id, Completion("failed"))
    assert outcome(store) == Completion("failed")
    trail.complete_abandoned(change.id, Completion("succeeded"))
    trail.complete_abandoned("never begun", Completion("succeeded"))
    assert outcome(store) == Completion("failed")
