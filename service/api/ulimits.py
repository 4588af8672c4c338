"""Ulimits of containers, which apply since the container is recreated with them."""

from __future__ import annotations

from dataclasses import asdict
from functools import partial
from typing import get_args

from marshmallow import fields as ma_fields
from marshmallow.validate import Length, OneOf

from service.api import context
from service.api.base import Blueprint, Schema
from service.api.containers import NAMED, ONE, WRITE, find, start_on
from service.api.fields import Switch, Whole, about
from service.api.job_answers import START_PROBLEMS, STARTS, Answered, JobSchema
from service.api.openapi import Operation
from service.api.paging import Options
from service.domain import errors, trial
from service.domain.audit import Change
from service.domain.containers import Allowed
from service.domain.job import ENDED, JobQuery, JobState
from service.domain.recreatable import OnWritableLayer, examine
from service.domain.ulimits import IN_PROC, UNLIMITED, Ulimit, faults
from service.jobs.recreating import ULIMITS
from service.jobs.restarting import RESTART, reference

HIGHEST = 2**63 - 1
JOBS_LOOKED_AT = 20

blueprint = Blueprint("ulimits", "Ulimits that really apply.")


def _limit(what: str) -> Whole:
    return Whole(UNLIMITED, HIGHEST, required=True, metadata=about(what, example=4096))


class UlimitOptions(Schema):
    """A limit, in the units of `setrlimit`; -1 is unlimited."""

    name = ma_fields.String(
        required=True,
        validate=OneOf(list(IN_PROC)),
        metadata=about("The engine's name of it.", example="nofile"),
    )
    soft = _limit("What a process has.")
    hard = _limit("What it may raise it to.")


class UlimitsOptions(Schema):
    """All limits of a container; the engine's own apply besides."""

    ulimits = ma_fields.List(
        ma_fields.Nested(UlimitOptions),
        required=True,
        validate=Length(max=len(IN_PROC)),
        metadata=about("They replace those it had.", maxItems=len(IN_PROC)),
    )
    on_writable_layer = ma_fields.String(
        load_default="refuse",
        validate=OneOf(["refuse", "discard"]),
        metadata=about("What to do when it wrote outside of its volumes.", example="refuse"),
    )
    dry_run = Switch(
        load_default=False, metadata=about("Only give the plan and the warnings.", example=True)
    )


@blueprint.change(
    ONE + "/ulimits",
    Operation(
        "putUlimits",
        WRITE,
        JobSchema,
        method="PUT",
        problems=(
            *START_PROBLEMS,
            *NAMED,
            errors.ContainerNotRunning,
            errors.ContainerIsSelf,
            errors.ContainerAutoRemove,
            errors.ContainerHasDependents,
            errors.ContainerImageGone,
            errors.SwarmManaged,
            errors.WritableLayerChanged,
        ),
        **STARTS,
    ),
    action="container.ulimits",
    options=UlimitsOptions,
)
def put_ulimits(change: Change, options: Options, container: str) -> Answered:
    """Set a container's ulimits: an engine's update ignores them, so that it is recreated.

    All else stays as it was, and the old container is kept until the new one is proven to run.
    """
    one = find(container, WRITE)
    limits = [Ulimit(**entry) for entry in options["ulimits"]]
    _require_faultless(limits)
    params = {**options, "ulimits": [asdict(limit) for limit in limits]}
    require = partial(_require_recreatable, change, one, limits, options["on_writable_layer"])
    return start_on(change, one, ULIMITS, params, require)


def _require_faultless(limits: list[Ulimit]) -> None:
    found = [{"pointer": f"/ulimits{place}", "detail": rule} for place, rule in faults(limits)]
    if found:
        raise errors.ValidationFailed(found)


def _require_recreatable(
    change: Change, one: Allowed, limits: list[Ulimit], on_writable_layer: OnWritableLayer
) -> None:
    context.services().containers.require_not_self(one)
    if not _is_being_changed(one):
        examine(one, limits, on_writable_layer)
    # The engine itself would notice only when the old container is stopped already.
    image_id = one.engine.container(one.container_id)["Image"]
    refusal = trial.refusal(one.engine, one.engine.controller(change), image_id, limits)
    if refusal:
        detail = f"The kernel refuses these limits: {refusal}"
        raise errors.ValidationFailed([{"pointer": "/ulimits", "detail": detail}])


def _is_being_changed(one: Allowed) -> bool:
    """Tell whether a job works on it: how it is now is not how the next one will find it."""
    jobs, states = context.services().jobs, get_args(JobState)
    active = [state for state in states if state not in ENDED]
    kinds = (ULIMITS.name, RESTART.name)
    queries = [JobQuery(kind, state, container=one.name) for kind in kinds for state in active]
    found = (job for query in queries for job in jobs.page(query, JOBS_LOOKED_AT, None))
    return any(job.params["container"] == reference(one) for job in found)
