"""Schedules over HTTP."""

from __future__ import annotations

from typing import Any

import pytest

from service.domain.audit import Attempt
from service.domain.job import JobRequest, Work
from service.domain.schedule import Schedule, Timetable
from service.jobs.kinds import KINDS
from tests.unit.api.conftest import Bed

PATH = "/v1/registries/default/gc-schedule"
SUNDAYS = {"cron": "0 3 * * SUN", "time_zone": "Europe/Berlin"}
WHOLE = {**SUNDAYS, "mode": "stopped", "delete_untagged": True, "enabled": False}


def test_none_is_set(bed: Bed) -> None:
    assert bed.ask(PATH).problem == (404, "schedule-unknown")
    assert bed.ask(PATH, "DELETE").problem == (404, "schedule-unknown")


def test_one_is_set_and_replaced(bed: Bed) -> None:
    answer = bed.ask(PATH, "PUT", body=SUNDAYS)
    assert (answer.status, answer.json) == (
        200,
        {
            **SUNDAYS,
            "mode": "read-only",
            "delete_untagged": False,
            "enabled": True,
            "next_run_at": "2026-02-01T02:00:00Z",
            "last_run": None,
        },
    )
    assert bed.ask(PATH).json == answer.json
    replaced = bed.ask(PATH, "PUT", body=WHOLE)
    assert replaced.json == {**WHOLE, "next_run_at": None, "last_run": None}
    (first, _) = bed.events()
    assert (first.attempt.action, first.attempt.registry) == ("gc-schedule.put", "default")
    assert first.completion is not None
    assert first.completion.details["cron"] == "0 3 * * SUN"


def test_one_is_removed(bed: Bed) -> None:
    bed.ask(PATH, "PUT", body=SUNDAYS)
    answer = bed.ask(PATH, "DELETE")
    assert (answer.status, answer.data) == (204, b"")
    assert bed.ask(PATH).problem == (404, "schedule-unknown")


@pytest.mark.parametrize(
    ("wrong", "pointer"),
    [
        ({"cron": "nonsense"}, "/cron"),
        ({"cron": "0 3 30 2 *"}, "/cron"),
        ({"cron": 3}, "/cron"),
        ({"time_zone": "Mars/Base"}, "/time_zone"),
        ({"mode": "live"}, "/mode"),
        ({"enabled": "yes"}, "/enabled"),
        ({"delete_untagged": 1}, "/delete_untagged"),
        ({"dry_run": True}, "/dry_run"),
    ],
)
def test_what_makes_no_sense_is_refused(bed: Bed, wrong: dict[str, Any], pointer: str) -> None:
    answer = bed.ask(PATH, "PUT", body={**SUNDAYS, **wrong})
    assert answer.problem == (422, "validation-failed")
    assert [error["pointer"] for error in answer.json["errors"]] == [pointer]
    assert bed.ask(PATH).problem == (404, "schedule-unknown")


def test_without_a_time_there_is_no_schedule(bed: Bed) -> None:
    assert bed.ask(PATH, "PUT", body={}).problem == (422, "validation-failed")


def test_who_may_see_one_may_not_set_it(bed: Bed) -> None:
    reader = bed.token("registry:read")
    assert bed.ask(PATH, "PUT", token=reader, body=SUNDAYS).problem == (403, "insufficient-scope")
    some = bed.token("gc:run", repositories=("team/*",))
    for method, body in (("PUT", SUNDAYS), ("DELETE", None)):
        answer = bed.ask(PATH, method, token=some, body=body)
        assert answer.problem == (403, "insufficient-scope")


def test_the_last_run_is_its_job_as_long_as_there_is_one() -> None:
    class GcBed(Bed):
        works = [Work(kind, lambda _: {}) for kind in KINDS]  # noqa: RUF012 - never changed

    bed = GcBed()
    bed.ask(PATH, "PUT", body=SUNDAYS)
    with bed.trail.attempt(Attempt("arrange", "tests")) as change:
        request = JobRequest("gc", {}, "schedule", "default", exclusive="registry/default")
        job = bed.jobs.submit(change, request)
    timetable = Timetable("0 3 * * SUN", "Europe/Berlin")
    due = bed.schedule_records.get("default").next_run_at
    assert due is not None
    bed.schedule_records.advance(Schedule("default", timetable, due), due, job.id)
    assert bed.ask(PATH).json["last_run"]["id"] == job.id
    bed.jobs.records.forget([job.id])
    assert bed.ask(PATH).json["last_run"] is None
