"""What a job looks like, and how whatever starts one answers."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from flask import request
from marshmallow import fields as ma_fields

from service.api import auth, context, requests, waiting
from service.api.base import Answer
from service.api.errors import MalformedHeader
from service.api.fields import ID, ID_EXAMPLE, about, moment, number, text, truth, whole
from service.domain import errors
from service.domain.audit import Change
from service.domain.job import Job, JobRequest, JobState

PATH = "/v1/jobs"
STATES: tuple[JobState, ...] = ("queued", "running", "succeeded", "failed", "cancelled")
WAIT_LIMIT = 60
"""Seconds that an answer may be held."""

_KEY = re.compile(r"[\x21-\x7e]{1,255}")
_WAIT = re.compile(r'wait[ \t]*=[ \t]*"?([0-9]{1,99})"?', re.IGNORECASE)

Answered = tuple[dict[str, Any], int, dict[str, str]]

STARTS: Mapping[str, Any] = {
    "status": 202,
    "says": (
        "The job, accepted. With a header `Idempotency-Key`, of at most 255 visible ASCII "
        "characters, the same request sent again is answered by the same job."
    ),
    "also": {200: "The job, ended while the answer was held: see `Prefer`."},
    "headers": ("Location", "Preference-Applied"),
    # The key is told in words: no schema can say that it must be new with each other request.
    "parameters": ("Prefer",),
}
"""What the document says of each operation that starts a job."""

START_PROBLEMS: tuple[type[errors.RegistryAdminError], ...] = (errors.IdempotencyKeyReused,)
"""What each of them can answer, besides its own."""


class ProgressSchema(Answer):
    """How far a job is."""

    phase = text("Its step.", "collect")
    done = number("How much of the step is done; null when it is not counted.", 3, nullable=True)
    total = number("Out of so much; null when that is not known.", 10, nullable=True)


class JobSchema(Answer):
    """A job."""

    id = text("Its id.", ID_EXAMPLE, pattern=whole(ID))
    kind = text("What it does.", "gc")
    state = text("Where it stands.", "running", enum=list(STATES))
    registry = text("The registry it works on.", "default", nullable=True)
    container = text("The container it works on.", None, nullable=True)
    params = ma_fields.Dict(metadata=about("What was asked for.", example={"dry_run": True}))
    requested_by = text("Who asked for it.", "release-cleanup")
    request_id = text("The request's id.", ID_EXAMPLE, nullable=True)
    created_at = moment("When it was accepted.")
    started_at = moment("When it began; null before.", nullable=True)
    finished_at = moment("When it ended; null before.", nullable=True)
    progress = ma_fields.Nested(
        ProgressSchema,
        allow_none=True,
        metadata=about(
            "How far it is; null before it began.",
            example={"phase": "collect", "done": 3, "total": 10},
        ),
    )
    cancel_requested = truth("Whether somebody asked it to stop.", example=False)
    result = ma_fields.Dict(
        allow_none=True,
        metadata=about(
            "What came of it, null before it ended. In a list, one of more than 64 KiB is null.",
            example=None,
        ),
    )
    error = ma_fields.Dict(
        allow_none=True, metadata=about("The problem it failed by, else null.", example=None)
    )


def start_job(
    change: Change,
    kind: str,
    params: Mapping[str, Any],
    require: Callable[[], object] = lambda: None,
    **about_it: str | None,
) -> Job:
    """Accept a job for the caller: ``registry``, ``container`` and ``exclusive`` say what about.

    ``require`` raises what is in its way, and is not asked for a request that was accepted before:
    that gives its job, however things are now. Raise what the port ``Jobs`` does, or
    MalformedHeader.
    """
    asked = JobRequest(
        kind=kind,
        params=params,
        requested_by=auth.caller().name,
        request_id=requests.request_id(),
        idempotency_key=_idempotency_key(),
        registry=about_it.get("registry"),
        container=about_it.get("container"),
        exclusive=about_it.get("exclusive"),
    )
    jobs = context.services().jobs
    known = jobs.known(asked)
    if known is not None:
        change.details["job"] = known.id
        return known
    require()
    return jobs.submit(change, asked)


def answer_job(job: Job) -> Answered:
    """Answer 202 with a job; or 200 once it has ended, where the caller prefers to wait."""
    headers = {"Location": location(job)}
    seconds = _preferred_wait()
    if seconds is not None:
        with waiting.place() as mine:
            if mine:
                job = _waited(job, seconds)
                headers["Preference-Applied"] = f"wait={seconds}"
    return dump_job(job), 200 if job.ended and seconds is not None else 202, headers


def location(job: Job) -> str:
    """Give the path of a job, with the prefix the service is mounted under."""
    return f"{request.root_path}{PATH}/{job.id}"


def dump_job(job: Job) -> dict[str, Any]:
    """Lay a job out as JobSchema has it."""
    return {name: getattr(job, name) for name in JobSchema().fields}


def _waited(job: Job, seconds: int) -> Job:
    jobs = context.services().jobs
    pauses = waiting.Pauses(seconds)
    while not job.ended and not pauses.over():
        job = jobs.get(job.id)
    return job


def _preferred_wait() -> int | None:
    """Seconds of ``Prefer: wait`` (RFC 7240); whatever else is preferred is ignored."""
    for preference in ",".join(request.headers.getlist("Prefer")).split(","):
        match = _WAIT.fullmatch(preference.split(";")[0].strip(" \t"))
        if match:
            return min(int(match[1]), WAIT_LIMIT)
    return None


def _idempotency_key() -> str | None:
    sent = request.headers.get("Idempotency-Key")
    if sent is not None and not _KEY.fullmatch(sent):
        raise MalformedHeader(
            "Idempotency-Key",
            "Idempotency-Key must be 1 to 255 visible ASCII characters. Nothing was changed.",
        )
    return sent
