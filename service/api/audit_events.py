"""The audit trail."""

from __future__ import annotations

import re

from marshmallow import fields as ma_fields
from marshmallow.validate import OneOf

from service.api import auth, context
from service.api.base import Answer, Blueprint
from service.api.fields import (
    ID,
    ID_EXAMPLE,
    TIME_EXAMPLE,
    Text,
    Time,
    about,
    moment,
    text,
    whole,
)
from service.api.openapi import Operation
from service.api.paging import Found, IdPageOptions, Options, page_of, visible_page
from service.domain.access import Caller
from service.domain.audit import AuditEvent, Completion
from service.domain.ports import AuditQuery

OUTCOMES = ("succeeded", "failed", "refused")
FILTERS = ("actor", "action", "registry", "container", "outcome", "since", "until")

RESTORE = "deletion.restore"
"""Whose target is a deletion's id."""

blueprint = Blueprint("audit", "Every attempt to change something, refused ones too.")


class AuditEventSchema(Answer):
    """An attempt to change something, and how it ended."""

    id = text("Its id.", ID_EXAMPLE, pattern=whole(ID))
    time = moment("When it was begun.")
    actor = text("Who tried; null for nobody known.", "release-cleanup", nullable=True)
    source_ip = text("Where from.", "192.0.2.7", nullable=True)
    action = text("What was tried.", "tag.delete")
    registry = text("The registry.", "default", nullable=True)
    container = text("The container.", None, nullable=True)
    target = text("What it was about.", "library/alpine:3.20", nullable=True)
    outcome = text(
        "How it ended; null while it is under way, or when its process died.",
        "succeeded",
        nullable=True,
        enum=[*OUTCOMES, None],
    )
    status = ma_fields.Integer(
        allow_none=True, metadata=about("The HTTP status it was answered with.", example=200)
    )
    code = text("The code of the problem it was answered with.", None, nullable=True)
    request_id = text("The request's id.", ID_EXAMPLE, nullable=True)
    job = text("The job that did it.", None, nullable=True)
    details = ma_fields.Dict(metadata=about("More about it.", example={"dry_run": False}))


class AuditOptions(IdPageOptions):
    """Which events."""

    actor = Text(metadata=about("Who tried.", example="release-cleanup"))
    action = Text(metadata=about("What was tried.", example="tag.delete"))
    registry = Text(metadata=about("The registry.", example="default"))
    container = Text(metadata=about("The container.", example="registry"))
    outcome = ma_fields.String(
        validate=OneOf(OUTCOMES), metadata=about("How it ended.", example="refused")
    )
    since = Time(metadata=about("Not begun before.", example=TIME_EXAMPLE))
    until = Time(metadata=about("Begun before.", example=TIME_EXAMPLE))


def dump_event(event: AuditEvent) -> dict[str, object]:
    """Lay an event out as AuditEventSchema has it."""
    attempt, ended = event.attempt, event.completion or Completion("failed")
    return {
        "id": event.id,
        "time": event.time,
        "actor": attempt.actor,
        "source_ip": attempt.source_ip,
        "action": attempt.action,
        "registry": attempt.registry,
        "container": attempt.container,
        "target": attempt.target,
        "outcome": ended.outcome if event.completion else None,
        "status": ended.status,
        "code": ended.code,
        "request_id": attempt.request_id,
        "job": attempt.job,
        "details": ended.details,
    }


@blueprint.read(
    "/v1/audit-events",
    Operation(
        "listAuditEvents",
        "audit:read",
        page_of(AuditEventSchema, "AuditEventPage"),
        says="Events, newest first.",
        headers=("Link",),
    ),
    AuditOptions,
)
def list_audit_events(options: Options) -> Found:
    """List attempts to change something, refused ones too.

    A token that is limited to registries or repositories sees what was tried there.
    """
    query = AuditQuery(**{name: options.get(name) for name in FILTERS})
    audit = context.services().store.audit
    found, headers = visible_page(
        lambda n, last: audit.page(query, n, last),
        options,
        key=lambda event: event.id,
        visible=lambda event: _visible(auth.caller(), event),
    )
    return {**found, "items": [dump_event(event) for event in found["items"]]}, headers


def _repository(event: AuditEvent) -> str:
    """Name what it was about; of a restore, whose target is an id, as was found out then."""
    if event.attempt.action == RESTORE:
        details = event.completion.details if event.completion else {}
        return str(details.get("repository", ""))
    return re.split("[:@]", event.attempt.target or "")[0]


def _visible(caller: Caller, event: AuditEvent) -> bool:
    if not caller.registries and not caller.repositories:
        return True
    registry, repository = event.attempt.registry, _repository(event)
    return bool(registry and caller.sees_registry(registry) and caller.sees_repository(repository))
