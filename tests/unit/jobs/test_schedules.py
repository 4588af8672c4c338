"""When scheduled collections begin."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from service.domain.audit import Attempt, AuditTrail
from service.domain.errors import ScheduleUnknown, StoreUnavailable, ValidationFailed
from service.domain.job import Job, JobKind, JobQuery, JobRequest
from service.domain.schedule import Schedule, Timetable
from service.jobs.running import Ground
from service.jobs.schedules import CronSchedules, Ticker, collection_of, next_run
from tests.fakes_jobs import FakeJobs, FakeScheduleRecords
from tests.fakes_store import FakeLocks, FakeStore

START = datetime(2026, 1, 1, 12, 30, tzinfo=UTC)
NIGHTLY = Timetable("0 3 * * *")


class HandClock:
    def __init__(self) -> None:
        self.time = START

    def now(self) -> datetime:
        return self.time


class NoRegistries:
    def container(self, name: str) -> str | None:
        return f"container-of-{name}"


class World:
    def __init__(self) -> None:
        self.clock = HandClock()
        self.records = FakeScheduleRecords()
        self.schedules = CronSchedules(self.records, self.clock)
        self.jobs = FakeJobs.of(JobKind("gc", "gc:run", single=True), clock=self.clock)
        self.store = FakeStore(self.clock)
        self.locks = FakeLocks()
        self.trail = AuditTrail(self.store.audit)

    def put(self, timetable: Timetable = NIGHTLY, registry: str = "default") -> Schedule:
        with self.trail.attempt(Attempt("test", "ann")) as change:
            return self.schedules.put(change, registry, timetable)

    def ticker(self) -> Ticker:
        ground = Ground(self.jobs.records, self.locks, self.clock)
        make = collection_of(NoRegistries())  # type: ignore[arg-type]
        return Ticker(self.records, self.jobs, self.trail, ground, make)

    def tick(self, hours: float = 0) -> list[Job]:
        """All jobs there are some hours later."""
        self.clock.time += timedelta(hours=hours)
        self.ticker().tick()
        return list(self.jobs.page(JobQuery(), 100, None))


@pytest.fixture
def world() -> World:
    return World()


def at(text: str) -> datetime:
    return datetime.fromisoformat(text)


@pytest.mark.parametrize(
    ("cron", "zone", "after", "expected"),
    [
        ("0 3 * * *", "UTC", "2026-01-01T12:00Z", "2026-01-02T03:00Z"),
        ("0 3 * * *", "UTC", "2026-01-02T03:00Z", "2026-01-03T03:00Z"),
        ("0 3 * * *", "Europe/Berlin", "2026-01-01T12:00Z", "2026-01-02T02:00Z"),
        ("0 3 * * *", "Europe/Berlin", "2026-07-01T12:00Z", "2026-07-02T01:00Z"),
        ("0 3 * * *", "Asia/Kolkata", "2026-01-01T12:00Z", "2026-01-01T21:30Z"),
        ("*/15 * * * *", "UTC", "2026-01-01T12:01Z", "2026-01-01T12:15Z"),
        ("0 4 * * MON-fri", "UTC", "2026-01-02T12:00Z", "2026-01-05T04:00Z"),
        ("0 4 1 jan *", "UTC", "2026-01-02T12:00Z", "2027-01-01T04:00Z"),
        ("0 4 L * *", "UTC", "2026-02-02T12:00Z", "2026-02-28T04:00Z"),
        ("0 4 29 2 *", "UTC", "2026-02-02T12:00Z", "2028-02-29T04:00Z"),
        # The hour from 2 to 3 is skipped on 2026-03-29, and comes twice on 2026-10-25.
        ("30 2 * * *", "Europe/Berlin", "2026-03-28T12:00Z", "2026-03-29T01:00Z"),
        ("30 2 * * *", "Europe/Berlin", "2026-10-24T12:00Z", "2026-10-25T00:30Z"),
        ("30 2 * * *", "Europe/Berlin", "2026-10-25T00:30Z", "2026-10-26T01:30Z"),
        ("30 2,4 * * *", "Europe/Berlin", "2026-10-25T00:30Z", "2026-10-25T03:30Z"),
        ("30 * * * *", "Europe/Berlin", "2026-10-25T00:30Z", "2026-10-25T01:30Z"),
    ],
)
def test_the_next_time(cron: str, zone: str, after: str, expected: str) -> None:
    assert next_run(Timetable(cron, zone), at(after)) == at(expected)


@pytest.mark.parametrize(
    "cron",
    [
        "",
        "nonsense",
        "0 3 * *",
        "0 3 * * * *",
        "* * * * * * *",
        "60 3 * * *",
        "0 24 * * *",
        "0 3 0 * *",
        "0 3 * 13 *",
        "0 3 * * 8",
        "*/0 * * * *",
        "-1 3 * * *",
        "0 3 30 2 *",
        "@daily",
        "H 3 * * *",
        "R 3 * * *",
        "0 3 * * MONDAYS",
        "0 3 * * *" + " " * 300,
        "0,1 " * 200,
        "0 3 * * *; rm",
        "\x00 3 * * *",
    ],
)
def test_a_bad_cron(world: World, cron: str) -> None:
    with pytest.raises(ValidationFailed) as caught:
        world.put(Timetable(cron, enabled=False))
    assert caught.value.members["errors"][0]["pointer"] == "/cron"  # type: ignore[index]
    with pytest.raises(ScheduleUnknown):
        world.schedules.get("default")


@pytest.mark.parametrize(
    "zone", ["", "Mars/Base", "../etc/passwd", "/etc/localtime", "Europe", "\x00", "x" * 1000]
)
def test_a_bad_zone(world: World, zone: str) -> None:
    with pytest.raises(ValidationFailed) as caught:
        world.put(Timetable("0 3 * * *", zone))
    assert caught.value.members["errors"][0]["pointer"] == "/time_zone"  # type: ignore[index]


def test_a_schedule_tells_when_it_is_due(world: World) -> None:
    made = world.put()
    assert made == Schedule("default", NIGHTLY, at("2026-01-02T03:00Z"), None)
    assert world.schedules.get("default") == made
    off = world.put(Timetable("0 3 * * *", enabled=False))
    assert off.next_run_at is None


def test_a_schedule_is_removed(world: World) -> None:
    world.put()
    with world.trail.attempt(Attempt("test", "ann")) as change:
        world.schedules.delete(change, "default")
        with pytest.raises(ScheduleUnknown):
            world.schedules.delete(change, "default")
    assert world.tick(24) == []


def test_a_job_begins_when_its_time_has_come(world: World) -> None:
    world.put(Timetable("0 3 * * *", mode="stopped", delete_untagged=True))
    assert world.tick(14.4) == []
    (job,) = world.tick(0.1)
    assert (job.kind, job.registry, job.container) == ("gc", "default", "container-of-default")
    assert job.params == {"mode": "stopped", "dry_run": False, "delete_untagged": True}
    assert job.requested_by == "schedule"
    assert world.schedules.get("default").last_run == job.id
    assert world.schedules.get("default").next_run_at == at("2026-01-03T03:00Z")
    assert world.tick(0) == [job]


def test_one_that_is_off_begins_nothing(world: World) -> None:
    world.put(Timetable("* * * * *", enabled=False))
    assert world.tick(24) == []


def test_missed_runs_are_not_piled_up(world: World) -> None:
    world.put(Timetable("*/5 * * * *"))
    assert world.tick(24) == []
    assert world.schedules.get("default").next_run_at == at("2026-01-02T12:35Z")
    assert len(world.tick(0.1)) == 1


def test_a_run_is_left_out_while_another_is_active(world: World) -> None:
    world.put(Timetable("0 * * * *"))
    (first,) = world.tick(0.5)
    assert world.tick(1) == [first]
    assert world.schedules.get("default").last_run == first.id
    world.jobs.run_all()
    assert len(world.tick(1)) == 2


def test_a_worker_that_dies_before_it_has_noted_the_run_begins_it_once(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.put(Timetable("0 * * * *"))
    advance = world.records.advance

    def die(*_: object) -> None:
        raise StoreUnavailable("gone")

    monkeypatch.setattr(world.records, "advance", die)
    with pytest.raises(StoreUnavailable):
        world.tick(0.5)
    monkeypatch.setattr(world.records, "advance", advance)
    world.jobs.run_all()
    (job,) = world.tick(0.01)
    assert world.schedules.get("default").last_run == job.id


def test_a_worker_that_dies_before_the_job_was_accepted_loses_nothing(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.put(Timetable("0 * * * *"))
    submit = world.jobs.submit

    def die(*_: object) -> Job:
        raise StoreUnavailable("gone")

    monkeypatch.setattr(world.jobs, "submit", die)
    with pytest.raises(StoreUnavailable):
        world.tick(0.5)
    monkeypatch.setattr(world.jobs, "submit", submit)
    assert len(world.tick(0.01)) == 1


def test_one_worker_at_a_time(world: World) -> None:
    world.put(Timetable("0 * * * *"))
    with world.locks.hold("schedules", 0):
        assert world.tick(0.5) == []
    assert len(world.tick(0)) == 1


def test_a_change_in_the_last_moment_counts(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.put(Timetable("0 * * * *"))
    submit = world.jobs.submit

    def replaced(change: object, request: JobRequest) -> Job:
        world.put(Timetable("0 5 * * *"))
        return submit(change, request)  # type: ignore[arg-type]

    monkeypatch.setattr(world.jobs, "submit", replaced)
    world.tick(0.5)
    assert world.schedules.get("default").next_run_at == at("2026-01-02T05:00Z")
