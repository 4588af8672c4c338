"""The log of a job: as JSON, as lines, or as a stream that follows it live."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Any
from urllib.parse import urlencode

from flask import Response, request, stream_with_context

from service.api import auth, context, requests, waiting
from service.api.base import Schema
from service.api.errors import MalformedHeader
from service.api.fields import TIME_EXAMPLE, Count, about, rfc3339
from service.domain.errors import RegistryAdminError
from service.domain.job import LogLine

JSON = "application/json"
LINES = "text/plain"
EVENTS = "text/event-stream"
PAGE = 1000
SEQ_LIMIT = 999_999_999
FOLLOW_SECONDS = 3600.0
"""How long one connection may follow; a client goes on with the header Last-Event-ID."""

HEARTBEAT_SECONDS = 10.0
RETRY_MILLISECONDS = 2000

_LINE: dict[str, Any] = {
    "type": "object",
    "required": ["seq", "time", "level", "message"],
    "properties": {
        "seq": {"description": "Counts from 1.", "type": "integer", "minimum": 1},
        "time": {"description": "When.", "type": "string", "format": "date-time"},
        "level": {
            "description": "How grave it is.",
            "type": "string",
            "enum": ["debug", "info", "warning", "error"],
        },
        "message": {"description": "What happened.", "type": "string"},
    },
}
_EXAMPLE = {"seq": 1, "time": TIME_EXAMPLE, "level": "info", "message": "collect"}
_PAGE = {
    "type": "object",
    "required": ["items", "next"],
    "properties": {
        "items": {"description": "In order.", "type": "array", "items": _LINE},
        "next": {
            "description": "Path and query of what follows; null when there is no more yet.",
            "type": ["string", "null"],
        },
    },
}
TYPES: dict[str, Any] = {
    JSON: {"schema": _PAGE, "example": {"items": [_EXAMPLE], "next": None}},
    LINES: {"schema": {"type": "string"}, "example": f"{TIME_EXAMPLE} info collect\n"},
    EVENTS: {
        "schema": {"type": "string"},
        "example": f"id: 1\ndata: {json.dumps(_EXAMPLE)}\n\n"
        'event: end\ndata: {"state": "succeeded"}\n\n',
    },
}


class LogOptions(Schema):
    """Which part of the log."""

    after = Count(
        0, SEQ_LIMIT, load_default=0, metadata=about("Only lines beyond this `seq`.", example=0)
    )
    n = Count(1, PAGE, load_default=PAGE, metadata=about("Most lines of JSON.", example=PAGE))


def answer(job_id: str, after: int, n: int) -> Response:
    """Answer with the log in the form the caller likes best."""
    best = request.accept_mimetypes.best_match([JSON, LINES, EVENTS], JSON)
    if best == EVENTS:
        return _events(job_id, max(after, _last_event()))
    if best == LINES:
        text = stream_with_context(_text(job_id, after))
        return Response(text, content_type=f"{LINES}; charset=utf-8")
    return _json(job_id, after, n)


def _json(job_id: str, after: int, n: int) -> Response:
    found = context.services().jobs.log(job_id, after, n)
    following = None
    if len(found) == n:
        following = f"{requests.path()}?{urlencode({'after': found[-1].seq, 'n': n})}"
    body = {"items": [_item(line) for line in found], "next": following}
    return Response(json.dumps(body), content_type=JSON)


def _item(line: LogLine) -> dict[str, object]:
    return {
        "seq": line.seq,
        "time": rfc3339(line.time),
        "level": line.level,
        "message": line.message,
    }


def _text(job_id: str, after: int) -> Iterator[str]:
    """Write lines, a page of the store at a time."""
    jobs = context.services().jobs
    while found := jobs.log(job_id, after, PAGE):
        for line in found:
            message = " ".join(line.message.splitlines())
            yield f"{rfc3339(line.time)} {line.level} {message}\n"
        after = found[-1].seq


def _last_event() -> int:
    sent = request.headers.get("Last-Event-ID", "0")
    if not re.fullmatch("[0-9]{1,9}", sent):
        raise MalformedHeader("Last-Event-ID", "Last-Event-ID must be the id of an earlier event.")
    return int(sent)


def _events(job_id: str, after: int) -> Response:
    # Proxies must not keep back what comes in small pieces.
    headers = {"X-Accel-Buffering": "no"}
    stream = stream_with_context(_follow(job_id, after))
    return Response(stream, headers=headers, content_type=EVENTS)


def _follow(job_id: str, after: int) -> Iterator[str]:
    """Write events until the job has ended, or the caller had better come again."""
    yield f"retry: {RETRY_MILLISECONDS}\n\n"
    with waiting.place() as mine, suppress(RegistryAdminError):
        pauses = waiting.Pauses(FOLLOW_SECONDS if mine else 0)
        quiet = time.monotonic()
        while True:
            ended, lines = _news(job_id, after)
            yield from map(_event, lines)
            if ended and len(lines) < PAGE:
                yield f"event: end\ndata: {json.dumps({'state': ended})}\n\n"
                return
            if lines:
                after, quiet = lines[-1].seq, time.monotonic()
                pauses.restart()
            elif time.monotonic() - quiet > HEARTBEAT_SECONDS:
                auth.identify()  # a token may be revoked meanwhile
                quiet = time.monotonic()
                yield ": the job goes on\n\n"
            if pauses.over():
                return


def _news(job_id: str, after: int) -> tuple[str | None, Sequence[LogLine]]:
    """Give the state of a job that has ended, and lines. What it wrote last is among them."""
    jobs = context.services().jobs
    job = jobs.get(job_id)
    return job.state if job.ended else None, jobs.log(job_id, after, PAGE)


def _event(line: LogLine) -> str:
    return f"id: {line.seq}\ndata: {json.dumps(_item(line))}\n\n"
