"""When a registry's garbage is collected by itself."""

from __future__ import annotations

from importlib.resources import files
from typing import Any

from flask import Response
from marshmallow import fields as ma_fields
from marshmallow.validate import OneOf

from service.api import context, exclusion
from service.api.base import Answer, Blueprint, Schema
from service.api.fields import Switch, Text, about, moment, text, truth
from service.api.job_answers import JobSchema, dump_job
from service.api.openapi import Operation
from service.domain import errors, schedule
from service.domain.audit import Change
from service.domain.ports import Registry
from service.domain.schedule import Schedule, Timetable
from service.jobs.collecting import GC

READ = "registry:read"
SCHEDULE = "/v1/registries/<registry>/gc-schedule"
MODES = ("read-only", "stopped")
CRON = "0 3 * * SUN"
ZONE = "Europe/Berlin"

blueprint = Blueprint("gc-schedules", "Collecting garbage at set times.")


def time_zones() -> list[str]:
    """Return the names of the IANA database, of the release that is locked with the service."""
    return files("tzdata").joinpath("zones").read_text(encoding="ascii").split()


class TimetableOptions(Schema):
    """When to collect, and how."""

    cron = Text(
        schedule.CRON,
        "five fields as of cron: minute, hour, day of month, month, day of week",
        required=True,
        metadata=about(
            "Minute, hour, day of month, month and day of week.",
            example=CRON,
            maxLength=schedule.CRON_LIMIT,
        ),
    )
    time_zone = ma_fields.String(
        load_default="UTC",
        validate=OneOf(
            time_zones(), error="Must be a time zone's IANA name, such as Europe/Berlin or UTC."
        ),
        metadata=about("The zone these are meant in.", example=ZONE),
    )
    mode = ma_fields.String(
        load_default=MODES[0],
        validate=OneOf(MODES),
        metadata=about("As for a run; never `live`.", example=MODES[0]),
    )
    delete_untagged = Switch(load_default=False, metadata=about("As for a run.", example=False))
    enabled = Switch(load_default=True, metadata=about("Whether it is in force.", example=True))


class GcScheduleSchema(Answer):
    """A schedule."""

    cron = text("Minute, hour, day of month, month and day of week.", CRON)
    time_zone = text("The zone these are meant in.", ZONE)
    mode = text("How is collected.", MODES[0], enum=list(MODES))
    delete_untagged = truth("Whether manifests without a tag are removed.", example=False)
    enabled = truth("Whether it is in force.", example=True)
    next_run_at = moment("When the next run begins; null when it is not enabled.", nullable=True)
    last_run = ma_fields.Nested(
        JobSchema,
        allow_none=True,
        metadata=about(
            "The job of the last run; null when there was none, or it is forgotten.", example=None
        ),
    )


def dump_schedule(schedule: Schedule) -> dict[str, Any]:
    """Lay a schedule out as GcScheduleSchema has it."""
    timetable = schedule.timetable
    return {
        "cron": timetable.cron,
        "time_zone": timetable.time_zone,
        "mode": timetable.mode,
        "delete_untagged": timetable.delete_untagged,
        "enabled": timetable.enabled,
        "next_run_at": schedule.next_run_at,
        "last_run": _last_run(schedule.last_run),
    }


def _last_run(job_id: str | None) -> dict[str, Any] | None:
    if job_id is None:
        return None
    try:
        return dump_job(context.services().jobs.get(job_id))
    except errors.JobUnknown:
        return None


@blueprint.read(
    SCHEDULE,
    Operation(
        "getGcSchedule",
        READ,
        GcScheduleSchema,
        says="The schedule.",
        problems=(errors.ScheduleUnknown,),
    ),
)
def get_gc_schedule(registry: Registry) -> dict[str, Any]:
    """Get the schedule of a registry."""
    return dump_schedule(context.services().schedules.get(registry.name))


@blueprint.change(
    SCHEDULE,
    Operation(
        "putGcSchedule",
        GC.scope,
        GcScheduleSchema,
        method="PUT",
        says="The schedule, in force from now on.",
    ),
    action="gc-schedule.put",
    options=TimetableOptions,
)
def put_gc_schedule(change: Change, options: dict[str, Any], registry: Registry) -> dict[str, Any]:
    """Set or replace the schedule of a registry.

    Runs that were missed for more than ten minutes are left out, as are those that would begin
    while another collection is under way.
    """
    exclusion.require_whole(registry, GC.scope)
    change.details.update(options)
    timetable = Timetable(**options)
    return dump_schedule(context.services().schedules.put(change, registry.name, timetable))


@blueprint.change(
    SCHEDULE,
    Operation(
        "deleteGcSchedule",
        GC.scope,
        None,
        method="DELETE",
        status=204,
        says="No run begins by itself any more.",
        problems=(errors.ScheduleUnknown,),
    ),
    action="gc-schedule.delete",
)
def delete_gc_schedule(change: Change, registry: Registry) -> Response:
    """Remove the schedule of a registry. A run that has begun goes on."""
    exclusion.require_whole(registry, GC.scope)
    context.services().schedules.delete(change, registry.name)
    return Response(status=204)
