"""Jobs: how they are, what they log, cancelling them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from typing import Any

from flask import Response
from marshmallow import fields as ma_fields
from marshmallow.validate import OneOf

from service.api import auth, context, job_log
from service.api.base import Blueprint
from service.api.fields import Text, about
from service.api.job_answers import PATH, STATES, JobSchema, dump_job, location
from service.api.openapi import Media, Operation
from service.api.paging import Found, IdPageOptions, Options, page_of, visible_page
from service.api.preconditions import etag, unchanged
from service.domain import errors
from service.domain.access import ADMIN, Caller
from service.domain.audit import Change
from service.domain.job import Job, JobQuery
from service.jobs.recreating import ULIMITS
from service.jobs.restarting import RESTART

READ = "job:read"
ONE = PATH + "/<job_id>"
FILTERS = ("kind", "state", "registry", "container")

Answered = Response | tuple[dict[str, Any], int, dict[str, str]]

blueprint = Blueprint("jobs", "Long work: jobs, their progress and their logs.")


class JobsOptions(IdPageOptions):
    """Which jobs."""

    kind = Text(metadata=about("What they do.", example="gc"))
    state = ma_fields.String(
        validate=OneOf(STATES), metadata=about("Where they stand.", example="running")
    )
    registry = Text(metadata=about("The registry they work on.", example="default"))
    container = Text(metadata=about("The container they work on.", example="registry"))


ON_CONTAINERS = frozenset({RESTART.name, ULIMITS.name})
"""Kinds of jobs that are about a container, which serves all repositories if it serves any."""


def _visible(caller: Caller, job: Job) -> bool:
    """Tell whether the limits of a caller let a job be seen: by its registry and repositories."""
    if caller.registries and not (job.registry and caller.sees_registry(job.registry)):
        return False
    if caller.repositories and job.kind in ON_CONTAINERS:
        return False
    return all(caller.sees_repository(repository) for repository in _repositories(job))


def _repositories(job: Job) -> Iterator[str]:
    for asked in (job.params, *job.params.get("items", ())):
        if isinstance(asked, dict) and isinstance(asked.get("repository"), str):
            yield asked["repository"]


def find(job_id: str, scope: str = READ) -> Job:
    """Get a job; raise JobUnknown, or InsufficientScope by the token's limits."""
    job = context.services().jobs.get(job_id)
    if not _visible(auth.caller(), job):
        raise errors.InsufficientScope(
            f"The token '{auth.caller().name}' is limited, which leaves out this job. "
            "Nothing was changed. Use a token without that limit.",
            {"required_scope": scope},
        )
    return job


@blueprint.read(
    PATH,
    Operation(
        "listJobs",
        READ,
        page_of(JobSchema, "JobPage"),
        says="Jobs, newest first.",
        headers=("Link",),
    ),
    JobsOptions,
)
def list_jobs(options: Options) -> Found:
    """List jobs.

    A token that is limited to registries or repositories sees the jobs that work there; one that is
    limited to repositories none on containers.
    """
    caller, jobs = auth.caller(), context.services().jobs
    query = JobQuery(**{name: options.get(name) for name in FILTERS}, registries=caller.registries)
    found, headers = visible_page(
        lambda n, last: jobs.page(query, n, last),
        options,
        key=lambda job: job.id,
        visible=lambda job: _visible(caller, job),
    )
    return {**found, "items": [dump_job(job) for job in found["items"]]}, headers


@blueprint.read(
    ONE,
    Operation(
        "getJob",
        READ,
        JobSchema,
        says="The job.",
        problems=(errors.JobUnknown,),
        headers=("ETag",),
        parameters=("If-None-Match",),
    ),
)
def get_job(job_id: str) -> Answered:
    """Get a job.

    Its `ETag` changes with it, so that asking again and again costs little.
    """
    return answer_one(find(job_id))


def answer_one(job: Job) -> Answered:
    """Answer with a job, or 304."""
    shown = dump_job(job)
    tag = _digest(shown)
    return unchanged(tag, etag(tag)) or (shown, 200, etag(tag))


def _digest(shown: dict[str, Any]) -> str:
    return f"sha256:{hashlib.sha256(json.dumps(shown, default=str).encode()).hexdigest()}"


@blueprint.read(
    ONE + "/log",
    Operation(
        "getJobLog",
        READ,
        Media(job_log.TYPES),
        says="The log, in the form that `Accept` names.",
        problems=(errors.JobUnknown,),
        parameters=("Last-Event-ID",),
    ),
    job_log.LogOptions,
)
def get_job_log(options: Options, job_id: str) -> Response:
    """Read the log of a job.

    With `Accept: text/event-stream` it is followed live: an event a line, and `end` with the
    job's state when it has ended. A stream that is closed before that is to be opened again with
    `Last-Event-ID`. With `Accept: text/plain` it is lines of text.
    """
    return job_log.answer(find(job_id).id, options["after"], options["n"])


@blueprint.change(
    ONE + "/cancel",
    Operation(
        "cancelJob",
        None,
        JobSchema,
        method="POST",
        status=202,
        says="The job, which ends `cancelled`.",
        problems=(errors.JobUnknown, errors.JobNotCancellable, errors.InsufficientScope),
        headers=("Location",),
    ),
    action="job.cancel",
)
def cancel_job(change: Change, options: Options, job_id: str) -> Answered:
    """Cancel a job.

    It ends `cancelled`, with what it had stopped running again. Needs the scope that starting a
    job of its kind needs.
    """
    del options
    jobs = context.services().jobs
    job = jobs.get(job_id)
    scope = _scope(job)
    auth.caller().require(scope)
    find(job_id, scope)
    change.details.update(kind=job.kind, registry=job.registry, container=job.container)
    job = jobs.cancel(change, job_id)
    return dump_job(job), 202, {"Location": location(job)}


def _scope(job: Job) -> str:
    try:
        return context.services().jobs.kind(job.kind).scope
    except ValueError:  # of another version of the service
        return ADMIN
