"""What every request goes through and every answer carries: id, headers, log line, measure."""

from __future__ import annotations

import logging
import time
from http import HTTPStatus

from flask import Flask, Response, g, request

from service import metrics, tracing
from service.api import auth, context, openapi, requests
from service.log import milliseconds

log = logging.getLogger("service.access")

API_POLICY = "default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
EXPOSED = (
    "Docker-Content-Digest, ETag, Link, Location, Preference-Applied, Retry-After, "
    "WWW-Authenticate, X-Request-Id"
)
ACCEPTED = (
    "Authorization, Content-Type, Idempotency-Key, If-Match, If-None-Match, Last-Event-ID, "
    "Prefer, X-Request-Id"
)
PREFLIGHT_SECONDS = "600"
UNKNOWN_ROUTE = "none"


def register(app: Flask) -> None:
    """Treat every request of an application so."""
    app.before_request(_begin)
    app.after_request(_complete)
    app.teardown_request(_end_trace)


def _begin() -> None:
    g.started = time.perf_counter()
    g.trace = tracing.request(request.method, dict(request.headers))
    requests.request_id()


def _complete(response: Response) -> Response:
    headers = response.headers
    headers["X-Request-Id"] = requests.request_id()
    headers["X-Content-Type-Options"] = "nosniff"
    headers["Referrer-Policy"] = "no-referrer"
    headers.setdefault("Content-Security-Policy", API_POLICY)
    headers.setdefault("Cache-Control", "no-store")
    _allow_origin(response)
    _record(response.status_code)
    return response


def _allow_origin(response: Response) -> None:
    origins = context.services().settings.cors_origins
    if not origins:
        return
    response.vary.add("Origin")
    if request.origin not in origins:
        return
    response.headers["Access-Control-Allow-Origin"] = request.origin
    response.headers["Access-Control-Expose-Headers"] = EXPOSED
    if request.method == "OPTIONS":
        response.headers["Access-Control-Allow-Methods"] = response.headers.get("Allow", "")
        response.headers["Access-Control-Allow-Headers"] = ACCEPTED
        response.headers["Access-Control-Max-Age"] = PREFLIGHT_SECONDS


def _record(status: int) -> None:
    seconds = time.perf_counter() - g.started
    g.status = status
    route = _route()
    metrics.observe_request(request.method, route, status, seconds)
    log.info(
        "%s %s %d",
        request.method,
        requests.path(),
        status,
        extra={
            "actor": auth.actor(),
            "method": request.method,
            "route": route,
            "status": status,
            "duration_ms": milliseconds(seconds),
            "source_ip": requests.source_ip(),
        },
    )


def _route() -> str:
    return openapi.template(request.url_rule.rule) if request.url_rule else UNKNOWN_ROUTE


def _end_trace(_error: BaseException | None) -> None:
    # Here and not with the answer: whatever went wrong, no thread may keep a span of its past.
    trace = g.pop("trace", None)
    if trace is not None:
        status = g.get("status", HTTPStatus.INTERNAL_SERVER_ERROR)
        facts = {
            "http.request.method": request.method,
            "http.route": _route(),
            "http.response.status_code": int(status),
            "request_id": requests.request_id(),
        }
        failed = status >= HTTPStatus.INTERNAL_SERVER_ERROR
        trace.end(f"{request.method} {_route()}", facts, failed=failed)
