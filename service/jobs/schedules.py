"""Schedules: when their time has come, one job begins, whoever of the workers is first.

The time a schedule is due at stands in the store, so it is not lost when a worker dies in that
very moment. The job's idempotency key holds that time, so it begins once.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from service.domain.audit import Attempt, AuditTrail, Change
from service.domain.errors import JobAlreadyActive, ValidationFailed
from service.domain.job import JobRequest, Jobs
from service.domain.ports import Clock, Registries
from service.domain.schedule import CRON, CRON_LIMIT, Schedule, ScheduleRecords, Timetable
from service.jobs.collecting import GC, exclusive
from service.jobs.locks import held
from service.jobs.running import Ground

ACTOR = "schedule"
LOCK = "schedules"
LATE = timedelta(minutes=10)
"""A run that could not begin for so long is left out: the next one will do."""

RULE = (
    "Must be five fields as of cron: minute (0-59), hour (0-23), day of month (1-31), "
    "month (1-12), day of week (0-7 or SUN-SAT)."
)

Make = Callable[[Schedule], JobRequest]

log = logging.getLogger(__name__)


def next_run(timetable: Timetable, after: datetime) -> datetime:
    """Give the first time of a timetable after another, in UTC; raise ValidationFailed.

    An hour that a clock change skips is made up for, one that comes twice counts once, unless the
    timetable is for several hours.
    """
    times = _times(timetable.cron, after.astimezone(_zone(timetable.time_zone)))
    hourly = bool(set(timetable.cron.split()[1]) & {"*", "/"})
    try:
        found: datetime = times.get_next(datetime)
        while found.fold and not hourly:
            found = times.get_next(datetime)
    except ValueError as error:
        raise _invalid("/cron", "There is no such date.") from error
    return found.astimezone(UTC)


def _times(cron: str, after: datetime) -> Any:  # noqa: ANN401 - croniter has no types
    from croniter import croniter  # type: ignore[import-untyped] # noqa: PLC0415 - seldom needed

    if len(cron) > CRON_LIMIT or not re.fullmatch(CRON, cron):
        raise _invalid("/cron", RULE)
    try:
        return croniter(cron, after)
    except ValueError as error:
        raise _invalid("/cron", RULE) from error


def _zone(name: str) -> ZoneInfo:
    try:
        return ZoneInfo(name)
    except (OSError, ValueError, KeyError) as error:  # whatever a strange name leads to
        detail = "Must be a time zone's IANA name, such as Europe/Berlin or UTC."
        raise _invalid("/time_zone", detail) from error


def _invalid(pointer: str, detail: str) -> ValidationFailed:
    return ValidationFailed([{"pointer": pointer, "detail": detail}])


class CronSchedules:
    """The port ``Schedules``."""

    def __init__(self, records: ScheduleRecords, clock: Clock) -> None:
        """Keep them in ``records``."""
        self._records = records
        self._clock = clock

    def get(self, registry: str) -> Schedule:
        """See the port."""
        return self._records.get(registry)

    def put(self, change: Change, registry: str, timetable: Timetable) -> Schedule:
        """See the port."""
        first = next_run(timetable, self._clock.now())  # a bad one is refused though it is off
        due = first if timetable.enabled else None
        self._records.put(change, Schedule(registry, timetable, due))
        return self._records.get(registry)

    def delete(self, change: Change, registry: str) -> None:
        """See the port."""
        self._records.delete(change, registry)


class Ticker:
    """Begins what is due."""

    def __init__(
        self, records: ScheduleRecords, jobs: Jobs, trail: AuditTrail, ground: Ground, make: Make
    ) -> None:
        """Submit what ``make`` makes of a schedule."""
        self._records = records
        self._jobs = jobs
        self._trail = trail
        self._ground = ground
        self._make = make

    def tick(self) -> None:
        """Look for schedules whose time has come; nothing happens while another worker does."""
        now = self._ground.clock.now()
        due = self._records.due(now)
        if not due:
            return
        with held(self._ground.locks, LOCK) as mine:
            # Asked again: another worker may have done it between the question and the lock.
            for schedule in self._records.due(now) if mine else ():
                self._run(schedule, now)

    def _run(self, schedule: Schedule, now: datetime) -> None:
        late = schedule.next_run_at is not None and now - schedule.next_run_at > LATE
        if late:
            log.warning("the scheduled run of %s was missed", schedule.registry)
        job_id = None if late else self._begin(schedule)
        # After the job: if this fails, the next tick finds the job that is there already.
        self._records.advance(schedule, next_run(schedule.timetable, now), job_id)

    def _begin(self, schedule: Schedule) -> str | None:
        key = f"{schedule.registry} {schedule.next_run_at}"
        request = replace(self._make(schedule), requested_by=ACTOR, idempotency_key=key)
        attempt = Attempt("gc.start", ACTOR, registry=schedule.registry)
        try:
            with self._trail.attempt(attempt) as change:
                return self._jobs.submit(change, request).id
        except JobAlreadyActive:
            log.warning("the scheduled run of %s is left out: one is active", schedule.registry)
            return None


def collection_of(registries: Registries) -> Make:
    """Make a collection of a schedule."""

    def make(schedule: Schedule) -> JobRequest:
        timetable = schedule.timetable
        return JobRequest(
            kind=GC.name,
            params={
                "mode": timetable.mode,
                "dry_run": False,
                "delete_untagged": timetable.delete_untagged,
            },
            requested_by=ACTOR,
            registry=schedule.registry,
            container=registries.container(schedule.registry),
            exclusive=exclusive(schedule.registry),
        )

    return make
