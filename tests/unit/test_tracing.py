from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from service import tracing
from tests.unit.api.conftest import Bed

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
PARENT = "00f067aa0ba902b7"


@pytest.fixture
def spans() -> Iterator[InMemorySpanExporter]:
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    traced = tracing.Tracing(provider, provider.get_tracer("test"), trace.SpanKind)
    tracing._current.append(traced)  # noqa: SLF001 - as begin() does, but for where they go
    yield exporter
    tracing.end()


def facts(span: ReadableSpan) -> dict[str, object]:
    return dict(span.attributes or {})


def test_a_request_is_a_span_that_goes_on_with_the_caller_s_trace(
    spans: InMemorySpanExporter,
) -> None:
    bed = Bed()
    headers = {"traceparent": f"00-{TRACE}-{PARENT}-01", "X-Request-Id": "mine"}
    bed.ask("/v1/registries/default/repositories/team/secret", headers=headers)
    (span,) = spans.get_finished_spans()
    route = "/v1/registries/{registry}/repositories/{repository}"
    assert span.name == f"GET {route}"
    assert facts(span) == {
        "http.request.method": "GET",
        "http.route": route,
        "http.response.status_code": 404,
        "request_id": "mine",
    }
    assert span.parent is not None
    assert (f"{span.context.trace_id:032x}", f"{span.parent.span_id:016x}") == (TRACE, PARENT)
    assert not trace.get_current_span().get_span_context().is_valid


def test_what_fails_is_an_error_and_leaves_no_span_behind(spans: InMemorySpanExporter) -> None:
    bed = Bed()
    bed.store.broken = True
    assert bed.ask("/readyz", token=None).status == 503
    (span,) = spans.get_finished_spans()
    assert span.status.status_code is trace.StatusCode.ERROR
    assert not trace.get_current_span().get_span_context().is_valid


def test_calls_belong_to_what_they_were_made_for(spans: InMemorySpanExporter) -> None:
    with tracing.job("gc", {"registry": "default", "container": None}):
        tracing.called("default", "HEAD", "2xx", 1.5)
    call, job = spans.get_finished_spans()
    assert (job.name, facts(job)) == ("job gc", {"registry": "default"})
    assert call.parent == job.context
    expected = {"registry": "default", "http.request.method": "HEAD", "outcome": "2xx"}
    assert (call.name, facts(call)) == ("HEAD default", expected)
    assert (call.end_time or 0) - (call.start_time or 0) == 1_500_000_000


def test_nothing_is_traced_unless_asked_for() -> None:
    assert tracing.request("GET", {}) is None
    with tracing.job("gc", {}):
        tracing.called("default", "GET", "2xx", 0.1)
    code = (
        "import os, sys; os.environ.pop('OTEL_EXPORTER_OTLP_ENDPOINT', None); "
        "from service import tracing; tracing.begin(); import service.web, service.app; "
        "sys.exit('opentelemetry' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_without_the_extra_it_is_told_and_the_service_goes_on(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv(tracing.ENDPOINT, "http://127.0.0.1:1")
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.trace", None)
    tracing.begin()
    assert "the extra otel is not installed" in caplog.text
    assert tracing.request("GET", {}) is None
