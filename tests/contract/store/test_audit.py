from __future__ import annotations

from datetime import timedelta

import pytest

from service.domain.audit import Attempt, AuditEvent, AuditTrail, Completion
from service.domain.identity import new_id
from service.domain.ports import AuditQuery
from tests.contract.store.conftest import START, HandClock, WholeStore

ALL = AuditQuery()
FULL = Attempt(
    action="tag.delete",
    actor="ann",
    source_ip="192.0.2.1",
    registry="default",
    container="web-1",
    target="team/app:1.2",
    request_id="r-1",
    job="j-1",
)


def record(store: WholeStore, attempt: Attempt, completion: Completion | None = None) -> str:
    event_id = new_id()
    store.audit.record_attempt(event_id, attempt)
    if completion:
        store.audit.record_completion(event_id, completion)
    return event_id


def found(store: WholeStore, query: AuditQuery) -> set[str]:
    return {event.id for event in store.audit.page(query, 100, None)}


def test_an_attempt_stands_before_it_is_completed(store: WholeStore) -> None:
    event_id = record(store, FULL)
    assert store.audit.page(ALL, 10, None) == [AuditEvent(event_id, START, FULL, None)]
    completion = Completion("refused", 409, "manifest-tagged", {"tags": ["a", "b"], "n": 1})
    store.audit.record_completion(event_id, completion)
    assert store.audit.page(ALL, 10, None) == [AuditEvent(event_id, START, FULL, completion)]


def test_an_attempt_may_know_next_to_nothing(store: WholeStore) -> None:
    event_id = record(store, Attempt("token.create", None), Completion("failed"))
    event = AuditEvent(event_id, START, Attempt("token.create", None), Completion("failed"))
    assert store.audit.page(ALL, 10, None) == [event]


def test_an_event_is_completed_once(store: WholeStore) -> None:
    event_id = record(store, FULL, Completion("succeeded"))
    with pytest.raises(RuntimeError):
        store.audit.record_completion(event_id, Completion("failed"))
    assert store.audit.page(ALL, 10, None)[0].completion == Completion("succeeded")


def test_an_event_is_begun_once(store: WholeStore) -> None:
    event_id = record(store, FULL)
    with pytest.raises(RuntimeError):
        store.audit.record_attempt(event_id, Attempt("other", "bob"))
    assert store.audit.page(ALL, 10, None)[0].attempt == FULL


def test_what_was_never_begun_does_not_end(store: WholeStore) -> None:
    with pytest.raises(RuntimeError):
        store.audit.record_completion(new_id(), Completion("succeeded"))


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        (AuditQuery(actor="ann"), {"full"}),
        (AuditQuery(action="tag.delete"), {"full", "open"}),
        (AuditQuery(registry="default"), {"full"}),
        (AuditQuery(container="web-1"), {"full"}),
        (AuditQuery(outcome="refused"), {"full"}),
        (AuditQuery(outcome="succeeded"), {"other"}),
        (AuditQuery(outcome="failed"), set()),
        (AuditQuery(action="tag.delete", actor="bob"), {"open"}),
        (AuditQuery(actor="nobody"), set()),
        (AuditQuery(actor="ann\x00"), set()),
        (ALL, {"full", "open", "other"}),
    ],
    ids=lambda value: str(value) if isinstance(value, AuditQuery) else "-".join(sorted(value)),
)
def test_filters_all_apply(store: WholeStore, query: AuditQuery, expected: set[str]) -> None:
    ids = {
        "full": record(store, FULL, Completion("refused")),
        "open": record(store, Attempt("tag.delete", "bob")),
        "other": record(store, Attempt("token.create", "eve"), Completion("succeeded")),
    }
    assert found(store, query) == {ids[name] for name in expected}


def test_since_is_inclusive_and_until_is_not(store: WholeStore, clock: HandClock) -> None:
    first = record(store, FULL)
    clock.move(microseconds=1)
    second = record(store, FULL)
    moment = START + timedelta(microseconds=1)
    assert found(store, AuditQuery(since=moment)) == {second}
    assert found(store, AuditQuery(until=moment)) == {first}
    assert found(store, AuditQuery(since=START, until=moment)) == {first}


def test_pages_are_newest_first_complete_and_undisturbed_by_new_events(
    store: WholeStore,
) -> None:
    for number in (2, 1, 3, 5, 4):
        store.audit.record_attempt(f"{number:032x}", FULL)
    pages = [[event.id for event in store.audit.page(ALL, 2, None)]]
    for number in (6, 7, 8):
        store.audit.record_attempt(f"{number:032x}", FULL)
        pages.append([event.id for event in store.audit.page(ALL, 2, pages[-1][-1])])
        if not pages[-1]:
            break
    found = [event_id for page in pages for event_id in page]
    assert found == [f"{number:032x}" for number in (5, 4, 3, 2, 1)]


@pytest.mark.parametrize(
    "hostile", ["a\x00b", "\ud800", "'; DROP TABLE token; --", "\U0001f40b" * 300]
)
def test_hostile_text_is_recorded(store: WholeStore, hostile: str) -> None:
    attempt = Attempt(hostile, hostile, hostile, hostile, hostile, hostile, hostile, hostile)
    record(store, attempt, Completion("refused", 400, hostile, {hostile: hostile, "more": [None]}))
    (event,) = store.audit.page(ALL, 10, None)
    assert event.completion is not None
    assert event.completion.outcome == "refused"
    assert set(event.completion.details) == {hostile, "more"}


def test_details_of_any_kind_are_recorded(store: WholeStore) -> None:
    trail = AuditTrail(store.audit)
    with trail.attempt(Attempt("test", "ann")) as change:
        change.details["at"] = START
    (event,) = store.audit.page(ALL, 10, None)
    assert event.completion is not None
    assert str(event.completion.details["at"]) == str(START)


def test_refusals_are_counted_by_code(store: WholeStore) -> None:
    assert store.audit.refusals() == {}
    record(store, FULL)
    for completion in (
        Completion("refused", 409, "manifest-tagged"),
        Completion("refused", 409, "manifest-tagged"),
        Completion("refused", 405),
        Completion("failed", 502, "registry-unreachable"),
        Completion("succeeded", 200),
    ):
        record(store, FULL, completion)
    with pytest.raises(RuntimeError):
        store.audit.record_completion(new_id(), Completion("refused", 409, "manifest-tagged"))
    assert store.audit.refusals() == {"manifest-tagged": 2, "none": 1}
