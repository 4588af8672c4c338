"""What a running job may do, and when what it says is written."""

from __future__ import annotations

import threading
from collections.abc import Sequence

import pytest

from service.domain.audit import Attempt, AuditTrail
from service.domain.errors import StoreUnavailable
from service.domain.job import Cancelled, JobRequest, LogLine, Progress
from service.domain.job_records import NewJob
from service.jobs import patience, running
from service.jobs.patience import patiently
from service.jobs.running import Ground, Pulse, Running, Superseded
from tests.fakes_jobs import FakeJobRecords
from tests.fakes_store import FakeLocks, FakeStore, WallClock


class Records(FakeJobRecords):
    """Counts what is written, and breaks when told to."""

    def __init__(self) -> None:
        super().__init__(WallClock())
        self.writes: list[tuple[Progress | None, list[str]]] = []
        self.broken = 0

    def write(
        self, job_id: str, run: str, progress: Progress | None, lines: Sequence[LogLine]
    ) -> bool:
        if self.broken:
            self.broken -= 1
            raise StoreUnavailable("gone")
        self.writes.append((progress, [line.message for line in lines]))
        return super().write(job_id, run, progress, lines)


@pytest.fixture
def records() -> Records:
    made = Records()
    new = NewJob("1", JobRequest("test", {}, "ann"), WallClock().now(), "f")
    with AuditTrail(FakeStore().audit).attempt(Attempt("test", "ann")) as change:
        made.add(change, new, lambda _: None)
    return made


def begin(records: Records, run: str = "run") -> Running:
    started = records.start("1", run)
    assert started is not None
    return Running(Ground(records, FakeLocks(), WallClock()), started, run)


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patience, "FIRST_PAUSE_SECONDS", 0.0)
    monkeypatch.setattr(patience, "LONGEST_PAUSE_SECONDS", 0.0)


def test_a_step_is_written_before_it_begins(records: Records) -> None:
    job = begin(records)
    job.step("stop")
    assert records.writes == [(Progress("stop"), ["stop"])]
    assert records.get("1").progress == Progress("stop")


def test_steps_are_told_once_they_are_written(records: Records) -> None:
    told: list[tuple[str, object]] = []
    started = records.start("1", "run")
    assert started is not None
    ground = Ground(records, FakeLocks(), WallClock())
    job = Running(ground, started, "run", lambda _, step: told.append((step, records.writes[-1])))
    job.step("stop")
    assert told == [("stop", (Progress("stop"), ["stop"]))]


def test_many_lines_and_much_progress_are_one_write(records: Records) -> None:
    job = begin(records)
    job.step("collect")
    for number in range(1000):
        job.progress(number, 1000)
        job.log("debug", f"line {number}")
    assert len(records.writes) == 1
    job.flush()
    job.flush()
    assert len(records.writes) == 2
    progress, lines = records.writes[-1]
    assert progress == Progress("collect", 999, 1000)
    assert len(lines) == 1000


def test_what_was_not_written_is_kept_and_has_no_gap(records: Records) -> None:
    job = begin(records)
    job.log("info", "a")
    records.broken = 1
    with pytest.raises(StoreUnavailable):
        job.flush()
    job.log("info", "b")
    job.flush()
    assert [(line.seq, line.message) for line in records.log("1", 0, 10)] == [(1, "a"), (2, "b")]


def test_a_step_waits_for_the_store_to_be_back(records: Records) -> None:
    job = begin(records)
    records.broken = 5
    job.step("stop")
    assert records.get("1").progress == Progress("stop")


def test_a_line_is_cut_and_holds_no_secret(records: Records) -> None:
    job = begin(records)
    job.log("info", "Authorization: Bearer abcdefghijklmnop")
    job.log("info", "x" * 10_000)
    job.flush()
    first, second = (line.message for line in records.log("1", 0, 10))
    assert first == "Authorization: Bearer ***"
    assert len(second) == 4000


def test_a_log_has_an_end(records: Records, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(running, "LINES_LIMIT", 3)
    job = begin(records)
    for number in range(5):
        job.log("info", str(number))
    job.flush()
    lines = records.log("1", 0, 10)
    assert [line.message for line in lines][:2] == ["0", "1"]
    assert len(lines) == 3
    assert "full" in lines[2].message


def test_a_superseded_job_may_do_nothing_any_more(records: Records) -> None:
    job = begin(records)
    begin(records, "another")
    with pytest.raises(Superseded):
        job.step("stop")
    for act in (
        lambda: job.step("x"),
        lambda: job.progress(1, 2),
        lambda: job.log("info", "x"),
        job.cancel_requested,
        lambda: job.compensate("x", {}),
        job.settled,
    ):
        with pytest.raises(Superseded):
            act()
    assert records.log("1", 0, 10) == []


def test_a_superseded_job_settles_nothing(records: Records) -> None:
    job = begin(records)
    job.compensate("start-again", {"container": "a"})
    begin(records, "another")
    with pytest.raises(Superseded):
        job.settled("start-again")
    assert [left.kind for left in records.compensations_of("1")] == ["start-again"]


def test_beyond_return_is_refused_to_a_cancelled_and_to_a_superseded_job(records: Records) -> None:
    job = begin(records)
    with AuditTrail(FakeStore().audit).attempt(Attempt("test", "ann")) as change:
        assert records.cancel(change, "1") == "requested"
    with pytest.raises(Cancelled):
        job.beyond_return()
    begin(records, "another")
    with pytest.raises(Superseded):
        job.beyond_return()


def test_the_pulse_writes_and_listens_while_jobs_run_and_rests_else(records: Records) -> None:
    pulse = Pulse(records)
    pulse.start()
    job = begin(records)
    with pulse.watching(job):
        job.log("info", "a")
        with AuditTrail(FakeStore().audit).attempt(Attempt("test", "ann")) as change:
            records.cancel(change, "1")
        while not job.cancel_requested() or not records.writes:
            threading.Event().wait(0.001)
    pulse.stop()
    assert records.writes == [(None, ["a"])]


def test_a_pulse_that_fails_goes_on(records: Records) -> None:
    pulse = Pulse(records)
    pulse.start()
    job = begin(records)
    records.broken = 1
    with pulse.watching(job):
        job.log("info", "a")
        while not records.writes:
            threading.Event().wait(0.001)
    pulse.stop()


def test_patience_ends() -> None:
    asked = []

    def ask() -> None:
        asked.append(1)
        raise StoreUnavailable("gone")

    with pytest.raises(StoreUnavailable):
        patiently(ask, 0.01)
    assert len(asked) > 1


def test_other_errors_need_no_patience() -> None:
    def ask() -> None:
        raise ValueError

    with pytest.raises(ValueError):  # noqa: PT011 - whatever it is
        patiently(ask)
