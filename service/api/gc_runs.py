"""Collecting a registry's garbage."""

from __future__ import annotations

from typing import Any, ClassVar

from flask import Response
from marshmallow import ValidationError, validates_schema
from marshmallow import fields as ma_fields
from marshmallow.validate import OneOf

from service.api import context, exclusion
from service.api.base import Blueprint, Schema
from service.api.fields import Switch, about
from service.api.job_answers import (
    START_PROBLEMS,
    STARTS,
    JobSchema,
    answer_job,
    dump_job,
    start_job,
)
from service.api.jobs import READ, answer_one, find
from service.api.openapi import UPSTREAM, Operation
from service.api.paging import Found, IdPageOptions, Options, page, page_of
from service.domain import errors
from service.domain.audit import Change
from service.domain.collectable import MODES, examine
from service.domain.job import JobQuery
from service.domain.ports import Registry
from service.domain.untagged import require_untagged_safe
from service.jobs.collecting import GC, exclusive

RUNS = "/v1/registries/<registry>/gc-runs"
ONE = RUNS + "/<job_id>"
LIVE = "live"

Answered = tuple[dict[str, Any], int, dict[str, str]]

blueprint = Blueprint("gc-runs", "Collecting garbage: what no manifest needs any more.")


class GcOptions(Schema):
    """How to collect."""

    json_schema: ClassVar = {
        "if": {"required": ["mode"], "properties": {"mode": {"const": LIVE}}},
        "then": {"required": ["accept_risk"], "properties": {"accept_risk": {"const": True}}},
    }

    mode = ma_fields.String(
        load_default="read-only",
        validate=OneOf(MODES),
        metadata=about(
            "`read-only`: pulls go on, pushes are refused meanwhile. `stopped`: neither. `live`: "
            "both, and what is pushed meanwhile can be corrupted.",
            example="read-only",
        ),
    )
    dry_run = Switch(
        load_default=False,
        metadata=about("Only tell what would go; nothing is stopped.", example=True),
    )
    delete_untagged = Switch(
        load_default=False,
        metadata=about("Remove manifests without a tag, too (registry 3.0 on).", example=False),
    )
    accept_risk = Switch(
        load_default=False, metadata=about("What the mode `live` needs.", example=False)
    )

    @validates_schema(skip_on_field_errors=True)
    def require_risk_accepted(self, data: dict[str, Any], **_: object) -> None:
        """Refuse to risk what is pushed unless the caller accepts it."""
        if data["mode"] == LIVE and not data["accept_risk"]:
            raise ValidationError(
                "Must be true for mode live, in which pushes can be corrupted.", "accept_risk"
            )


@blueprint.change(
    RUNS,
    Operation(
        "createGcRun",
        GC.scope,
        JobSchema,
        method="POST",
        problems=(
            *START_PROBLEMS,
            *UPSTREAM,
            errors.CatalogUnsupported,
            errors.ContainerUnknown,
            errors.NotCollectable,
            errors.CacheShared,
            errors.CacheUnreachable,
            errors.DeleteUntaggedUnsafe,
            errors.GcAlreadyActive,
            errors.EngineUnreachable,
            errors.EngineRefused,
        ),
        **STARTS,
    ),
    action="gc.start",
    options=GcOptions,
)
def start_gc_run(change: Change, options: Options, registry: Registry) -> Answered:
    """Collect a registry's garbage.

    The registry's own container is only stopped and started, and runs afterwards as before,
    whatever happens. What kept a collection from running is told at once.
    """
    exclusion.require_whole(registry, GC.scope)
    change.details["mode"] = options["mode"]
    name = registry.name
    params = {key: options[key] for key in ("mode", "dry_run", "delete_untagged")}
    about_it = {
        "registry": name,
        "container": context.services().registries.container(name),
        "exclusive": exclusive(name),
    }
    try:
        job = start_job(
            change, GC.name, params, lambda: _require_collectable(registry, options), **about_it
        )
    except errors.JobAlreadyActive as error:
        raise exclusion.already_active(name, error.members["job"]) from error
    return answer_job(job)


def _require_collectable(registry: Registry, options: Options) -> None:
    if exclusion.active_collection(registry) is not None:
        return  # of which the caller is told, rather than of what that one does to the container
    services = context.services()
    registries = services.registries
    container = registries.container(registry.name)
    if container is None:
        raise errors.NotCollectable(
            f"No container is configured for the registry '{registry.name}'. Nothing was changed. "
            f'Set container = "..." in [registries.{registry.name}] to the name of its container.'
        )
    stops = not options["dry_run"] and options["mode"] != LIVE
    engine, cache = registries.engine(registry.name), registries.blob_cache(registry.name)
    examine(engine, container, services.parse, cache, stops=stops)
    if options["delete_untagged"]:
        require_untagged_safe(registry, registries.version(registry.name))


@blueprint.read(
    RUNS,
    Operation(
        "listGcRuns",
        READ,
        page_of(JobSchema, "GcRunPage"),
        says="Collections, newest first.",
        headers=("Link",),
    ),
    IdPageOptions,
)
def list_gc_runs(options: Options, registry: Registry) -> Found:
    """List the collections of a registry."""
    jobs, query = context.services().jobs, JobQuery(kind=GC.name, registry=registry.name)
    found, headers = page(
        lambda n, last: jobs.page(query, n, last), options, key=lambda job: job.id
    )
    return {**found, "items": [dump_job(job) for job in found["items"]]}, headers


@blueprint.read(
    ONE,
    Operation(
        "getGcRun",
        READ,
        JobSchema,
        says="The collection's job.",
        problems=(errors.JobUnknown,),
        headers=("ETag",),
        parameters=("If-None-Match",),
    ),
)
def get_gc_run(registry: Registry, job_id: str) -> Response | Answered:
    """Get a collection: its job."""
    job = find(job_id)
    if (job.kind, job.registry) != (GC.name, registry.name):
        raise errors.JobUnknown(
            f"The registry '{registry.name}' has no collection with the id '{job_id}'."
        )
    return answer_one(job)
