"""Collections that begin by themselves, at times given as cron has it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, Protocol

from service.domain.audit import Change

_MONTHS = "JAN FEB MAR APR MAY JUN JUL AUG SEP OCT NOV DEC"
_WEEKDAYS = "SUN MON TUE WED THU FRI SAT"


def _in_any_case(words: str) -> str:
    return "|".join("".join(f"[{x}{x.lower()}]" for x in word) for word in words.split())


def _field(value: str, step: str, other: str = "") -> str:
    item = rf"(?:\*(?:/(?:{step}))?|(?:{value})(?:-(?:{value})(?:/(?:{step}))?)?{other})"
    return rf"{item}(?:,{item})*"


CRON = " ".join(
    (
        _field("[0-5]?[0-9]", "[1-9]|[1-5][0-9]"),
        _field("[01]?[0-9]|2[0-3]", "[1-9]|1[0-9]|2[0-3]"),
        _field("0?[1-9]|[12][0-9]|3[01]", "[1-9]|[12][0-9]|30", "|[Ll]"),
        _field("0?[1-9]|1[0-2]|" + _in_any_case(_MONTHS), "[1-9]|1[01]"),
        _field("[0-7]|" + _in_any_case(_WEEKDAYS), "[1-6]"),
    )
)
"""The grammar of a timetable, for a full match: minute, hour, day of month, month, day of week.

``L`` is the last day of the month.
"""

CRON_LIMIT = 200
"""Most characters of it."""

ScheduledMode = Literal["read-only", "stopped"]


@dataclass(frozen=True, slots=True)
class Timetable:
    """When and how a registry's garbage is collected. ``time_zone`` is an IANA name."""

    cron: str
    time_zone: str = "UTC"
    mode: ScheduledMode = "read-only"
    delete_untagged: bool = False
    enabled: bool = True


@dataclass(frozen=True, slots=True)
class Schedule:
    """A timetable as stored; ``last_run`` is a job's id, ``next_run_at`` None while not enabled."""

    registry: str
    timetable: Timetable
    next_run_at: datetime | None
    last_run: str | None = None


class Schedules(Protocol):
    """The schedules, one a registry at most."""

    def get(self, registry: str) -> Schedule:
        """A registry's schedule; raise ScheduleUnknown."""

    def put(self, change: Change, registry: str, timetable: Timetable) -> Schedule:
        """Set or replace it, in force at once; raise ValidationFailed."""

    def delete(self, change: Change, registry: str) -> None:
        """Remove it; raise ScheduleUnknown. What it has begun goes on."""


class ScheduleRecords(Protocol):
    """Schedules in the store."""

    def get(self, registry: str) -> Schedule:
        """A registry's schedule; raise ScheduleUnknown."""

    def put(self, change: Change, schedule: Schedule) -> None:
        """Set or replace it, but for ``last_run``."""

    def delete(self, change: Change, registry: str) -> None:
        """Remove it; raise ScheduleUnknown."""

    def due(self, now: datetime) -> Sequence[Schedule]:
        """Those whose time has come."""

    def advance(self, schedule: Schedule, next_run_at: datetime, last_run: str | None) -> None:
        """Set the next time, and where there is one the job; nothing when it was changed since."""
