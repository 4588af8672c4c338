"""Traces of a real service, as an OpenTelemetry collector receives them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from demo.processes import wait_until
from tests.e2e.bed.service import Service
from tests.e2e.bed.workspace import Workspace
from tests.standin import StandIn, replies

PATIENCE = 60
TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"


class Traced(Service):
    """A service that sends its traces to `collector`."""

    collector = ""

    def environment(self) -> dict[str, str]:
        return super().environment() | {"OTEL_EXPORTER_OTLP_ENDPOINT": self.collector}


@pytest.fixture
def collector() -> Iterator[StandIn]:
    with StandIn(replies(200)) as server:
        yield server


@pytest.fixture
def registry() -> Iterator[StandIn]:
    with StandIn(replies(200, body=b'{"repositories": []}')) as server:
        yield server


@pytest.fixture
def running(workspace: Workspace, registry: StandIn, collector: StandIn) -> Iterator[Traced]:
    table = {"default": {"url": registry.url}}
    made = Traced(workspace, {"workers": 2, "registries": table})
    made.collector = collector.url
    made.start()
    yield made
    made.close()


def spans(collector: StandIn) -> list[Span]:
    """All that came, from whichever process."""
    found = []
    for seen in list(collector.seen):
        assert seen.target == "/v1/traces"
        for resource in ExportTraceServiceRequest.FromString(seen.body).resource_spans:
            names = {one.key: one.value.string_value for one in resource.resource.attributes}
            assert names["service.name"] == "registry-admin"
            found += [span for scope in resource.scope_spans for span in scope.spans]
    return found


def test_a_trace_goes_from_the_caller_to_the_registry(running: Traced, collector: StandIn) -> None:
    wait_until(lambda: running.ask("/readyz").json()["worker"] == "up", PATIENCE, "the worker")
    headers = {"traceparent": f"00-{TRACE}-00f067aa0ba902b7-01"}
    assert running.ask("/v1/registries/default/repositories", headers=headers).status == 200
    path = "/v1/registries/default/verifications"
    running.ask(path, "POST", body={}, headers={"Prefer": "wait=60"})
    assert running.stop() == 0  # what has not been sent is sent before the end
    found = spans(collector)
    mine = [span for span in found if span.trace_id.hex() == TRACE]
    (request,) = [span for span in mine if span.kind == Span.SPAN_KIND_SERVER]
    assert request.name == "GET /v1/registries/{registry}/repositories"
    calls = [span for span in mine if span.kind == Span.SPAN_KIND_CLIENT]
    assert calls
    assert {(span.name, span.parent_span_id) for span in calls} == {
        ("GET default", request.span_id)
    }
    (job,) = [span for span in found if span.name == "job verification"]
    assert [span for span in found if span.parent_span_id == job.span_id]
