"""Traces by OpenTelemetry: of requests, jobs, and calls to registries made for them.

Only where the extra ``otel`` is installed and OTEL_EXPORTER_OTLP_ENDPOINT says where to send them;
the other variables of OpenTelemetry count as well. Else nothing of it is imported.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple

import service

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.trace import SpanKind, Tracer

ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT"
NAME = "registry-admin"

Facts = Mapping[str, str | int | None]

log = logging.getLogger(__name__)


class Tracing(NamedTuple):
    """What traces in this process."""

    provider: TracerProvider
    tracer: Tracer
    kinds: type[SpanKind]


_current: list[Tracing] = []


def begin() -> None:
    """Trace from now on, where that is asked for; after a fork, which no thread survives."""
    if not os.environ.get(ENDPOINT) or _current:
        return
    try:
        _current.append(_tracing())
    except ImportError as error:
        log.warning("%s is set, but the extra otel is not installed: %s", ENDPOINT, error)


def end() -> None:
    """Send what has not been sent, and trace no more."""
    while _current:
        _current.pop().provider.shutdown()


class Request:
    """A request under way: what is called for it is part of its span."""

    def __init__(self, method: str, headers: Mapping[str, str]) -> None:
        """Go on with the trace that ``headers`` name, if any."""
        from opentelemetry import context, propagate, trace  # noqa: PLC0415 - seldom wanted

        _, tracer, kinds = _current[0]
        parent = propagate.extract({name.lower(): value for name, value in headers.items()})
        self._span = tracer.start_span(method, parent, kinds.SERVER)
        self._token = context.attach(trace.set_span_in_context(self._span, parent))

    def end(self, name: str, facts: Facts, *, failed: bool) -> None:
        """Name the span, once the route is known, and end it."""
        from opentelemetry import context  # noqa: PLC0415 - as above
        from opentelemetry.trace import StatusCode  # noqa: PLC0415

        self._span.update_name(name)
        self._span.set_attributes(_told(facts))
        if failed:
            self._span.set_status(StatusCode.ERROR)
        self._span.end()
        context.detach(self._token)


def request(method: str, headers: Mapping[str, str]) -> Request | None:
    """Begin the span of a request; None where nothing is traced."""
    return Request(method, headers) if _current else None


@contextmanager
def job(kind: str, facts: Facts) -> Iterator[None]:
    """Trace a job within the block."""
    if not _current:
        yield
        return
    with _current[0].tracer.start_as_current_span(f"job {kind}", attributes=_told(facts)):
        yield


def called(registry: str, method: str, outcome: str, seconds: float) -> None:
    """Add a call that has just ended to the request or job it was made for."""
    if not _current:
        return
    now = time.time_ns()
    facts = {"registry": registry, "http.request.method": method, "outcome": outcome}
    span = _current[0].tracer.start_span(
        f"{method} {registry}",
        kind=_current[0].kinds.CLIENT,
        attributes=_told(facts),
        start_time=now - int(seconds * 1e9),
    )
    span.end(now)


def _tracing() -> Tracing:
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import (  # noqa: PLC0415
        OTLPSpanExporter,
    )
    from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415
    from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415
    from opentelemetry.trace import SpanKind  # noqa: PLC0415

    os.environ.setdefault("OTEL_SERVICE_NAME", NAME)
    provider = TracerProvider()
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    return Tracing(provider, provider.get_tracer(NAME, service.__version__), SpanKind)


def _told(facts: Facts) -> dict[str, str | int]:
    return {name: value for name, value in facts.items() if value is not None}
