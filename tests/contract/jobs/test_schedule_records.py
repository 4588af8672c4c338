"""What every store of schedules promises."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from service.domain.audit import Attempt, AuditTrail, Change
from service.domain.errors import ScheduleUnknown
from service.domain.schedule import Schedule, ScheduleRecords, Timetable
from tests.contract.jobs.conftest import placed
from tests.fakes_jobs import FakeScheduleRecords
from tests.fakes_store import FakeStore

NOON = datetime(2026, 1, 1, 12, 0, 0, 5, tzinfo=UTC)
LATER = NOON + timedelta(hours=1)
NIGHTLY = Timetable("0 3 * * *", "Europe/Berlin", "stopped", delete_untagged=True)


@pytest.fixture(params=["memory", "sqlite", "postgresql"])
def records(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[ScheduleRecords]:
    if request.param == "memory":
        yield FakeScheduleRecords()
        return
    with placed(request, tmp_path) as place:
        yield place.store.schedules


@pytest.fixture
def change() -> Change:
    return AuditTrail(FakeStore().audit).begin(Attempt("test", "ann"))


def test_what_is_put_is_there(records: ScheduleRecords, change: Change) -> None:
    with pytest.raises(ScheduleUnknown):
        records.get("a")
    records.put(change, Schedule("a", NIGHTLY, NOON))
    assert records.get("a") == Schedule("a", NIGHTLY, NOON)
    records.put(change, Schedule("a", Timetable("1 1 1 1 1"), None))
    assert records.get("a") == Schedule("a", Timetable("1 1 1 1 1"), None)


def test_what_is_deleted_is_gone(records: ScheduleRecords, change: Change) -> None:
    records.put(change, Schedule("a", NIGHTLY, NOON))
    records.delete(change, "a")
    for ask in (lambda: records.get("a"), lambda: records.delete(change, "a")):
        with pytest.raises(ScheduleUnknown):
            ask()


def test_what_is_due(records: ScheduleRecords, change: Change) -> None:
    for name, time in (("b", NOON), ("a", NOON), ("later", LATER), ("off", None)):
        records.put(change, Schedule(name, NIGHTLY, time))
    assert [one.registry for one in records.due(NOON)] == ["a", "b"]
    assert records.due(NOON - timedelta(microseconds=1)) == []


def test_a_run_is_noted(records: ScheduleRecords, change: Change) -> None:
    first = Schedule("a", NIGHTLY, NOON)
    records.put(change, first)
    records.advance(first, LATER, "job")
    assert records.get("a") == Schedule("a", NIGHTLY, LATER, "job")
    records.advance(records.get("a"), LATER + timedelta(hours=1), None)
    assert records.get("a").last_run == "job"
    records.put(change, first)
    assert records.get("a").last_run == "job"


def test_a_run_of_what_was_changed_since_is_not_noted(
    records: ScheduleRecords, change: Change
) -> None:
    first = Schedule("a", NIGHTLY, NOON)
    records.advance(first, LATER, "job")
    for changed in (
        Schedule("a", Timetable("1 1 1 1 1"), NOON),
        Schedule("a", NIGHTLY, LATER),
        Schedule("a", NIGHTLY, None),
    ):
        records.put(change, changed)
        records.advance(first, LATER, "job")
        assert records.get("a") == changed


def test_a_change_that_has_ended_changes_nothing(records: ScheduleRecords) -> None:
    with AuditTrail(FakeStore().audit).attempt(Attempt("test", "ann")) as ended:
        records.put(ended, Schedule("a", NIGHTLY, NOON))
    with pytest.raises(RuntimeError):
        records.put(ended, Schedule("a", NIGHTLY, LATER))
    with pytest.raises(RuntimeError):
        records.delete(ended, "a")
    assert records.get("a").next_run_at == NOON
