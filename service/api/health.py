"""The service itself: alive, ready, measured, described."""

from __future__ import annotations

from flask import Response, current_app
from marshmallow import fields as ma_fields

from service.api import auth, context, metrics
from service.api.base import Answer, Blueprint
from service.api.errors import NotReady
from service.api.fields import about, moment, text
from service.api.guard import PUBLIC
from service.api.openapi import DOCUMENT, Media, Operation
from service.domain.health import Health

blueprint = Blueprint("service", "The service itself.")


class AliveSchema(Answer):
    """The process answers."""

    status = text("Always this.", "alive", enum=["alive"])


class HealthSchema(Answer):
    """How each part of the service is."""

    status = text("Always this; an answer of 503 says otherwise.", "ready", enum=["ready"])
    checked_at = moment("When the parts were asked.")
    database = text("The database.", "up", enum=["up", "down"])
    worker = text("The worker; none where none was started.", "up", enum=["up", "down", "none"])
    registries = ma_fields.Dict(
        keys=ma_fields.String(),
        values=ma_fields.String(),
        metadata=about("Each registry.", example={"default": "up"}),
    )
    engines = ma_fields.Dict(
        keys=ma_fields.String(),
        values=ma_fields.String(),
        metadata=about("Each engine.", example={"local": "up"}),
    )


@blueprint.read(
    "/healthz", Operation("getLiveness", PUBLIC, AliveSchema, says="The process answers.")
)
def get_liveness() -> dict[str, object]:
    """Tell whether the process is alive."""
    return {"status": "alive"}


@blueprint.read(
    "/readyz",
    Operation("getReadiness", PUBLIC, HealthSchema, says="It can work.", problems=(NotReady,)),
)
def get_readiness() -> dict[str, object]:
    """Tell whether the service can work, and with what.

    Registries and engines may be down: the service still works with the others.
    """
    health = context.services().readiness.health()
    if not health.ready:
        raise NotReady(
            "The database does not answer, so the service cannot work.",
            {"health": HealthSchema().dump(_dump(health))},
        )
    return _dump(health)


def _dump(health: Health) -> dict[str, object]:
    return {
        "status": "ready" if health.ready else "unavailable",
        "checked_at": health.checked_at,
        "database": health.database,
        "worker": health.worker,
        "registries": health.registries,
        "engines": health.engines,
    }


@blueprint.read(
    "/metrics",
    Operation(
        "getMetrics",
        "metrics:read",
        Media({"text/plain": {"schema": {"type": "string"}, "example": metrics.EXAMPLE}}),
        says="Prometheus' text format.",
    ),
)
def get_metrics() -> Response:
    """Get what Prometheus scrapes: requests, calls to registries, jobs, refusals, what is up.

    Over all processes of this service; jobs, bytes freed and refusals over all that share the
    database, so several services tell the same.
    """
    services = context.services()
    known = metrics.Known(
        now=services.clock.now(),
        health=services.readiness.health(),
        figures=services.jobs.figures(),
        refusals=services.store.audit.refusals(),
    )
    text = metrics.exposition(known, auth.caller().sees_registry)
    return Response(text, content_type=metrics.CONTENT_TYPE)


@blueprint.read(
    "/openapi.json",
    Operation(
        "getOpenapi",
        PUBLIC,
        Media({"application/json": {"schema": {"type": "object"}}}),
        says="This document.",
    ),
)
def get_openapi() -> Response:
    """Get the OpenAPI document of this service."""
    return Response(current_app.extensions[DOCUMENT], content_type="application/json")
