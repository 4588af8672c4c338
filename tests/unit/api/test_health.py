import logging

import pytest

import service
from service import metrics
from service.domain.errors import EngineUnreachable, StoreUnavailable
from tests.fakes import FakeRegistry
from tests.fakes_store import FakeAudit
from tests.unit.api.conftest import ADMIN, Bed


def test_the_process_is_alive_whatever_is_down(bed: Bed) -> None:
    bed.store.broken = True
    assert bed.ask("/healthz", token=None).json == {"status": "alive"}


def test_it_is_ready(bed: Bed) -> None:
    bed.store.workers.join("one")
    assert bed.ask("/readyz", token=None).json == {
        "status": "ready",
        "checked_at": "2026-01-31T12:00:00Z",
        "database": "up",
        "worker": "up",
        "registries": {"default": "up"},
        "engines": {"local": "up"},
    }


def test_without_its_database_it_is_not(bed: Bed) -> None:
    bed.store.broken = True
    answer = bed.ask("/readyz", token=None)
    assert answer.problem == (503, "not-ready")
    assert answer.json["health"]["database"] == "down"
    assert answer.json["health"]["registries"] == {"default": "up"}
    assert answer.headers["Retry-After"] == "5"


def test_a_registry_that_is_down_leaves_it_ready(
    bed: Bed, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def failing(_: FakeRegistry) -> None:
        raise EngineUnreachable("password=hunter2")

    monkeypatch.setattr(FakeRegistry, "state", failing)
    with caplog.at_level(logging.DEBUG):
        answer = bed.ask("/readyz", token=None)
    assert (answer.status, answer.json["registries"]) == (200, {"default": "down"})
    assert "hunter2" not in answer.text


def sample(bed: Bed, start: str, token: str = ADMIN) -> list[str]:
    answer = bed.ask("/metrics", token=token)
    assert answer.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
    return [line for line in answer.text.splitlines() if line.startswith(start)]


def test_requests_are_counted_by_route_and_not_by_path(bed: Bed) -> None:
    route = "/v1/registries/{registry}/repositories/{repository}"
    start = f'registry_admin_http_requests_total{{method="GET",route="{route}",status="404"}}'
    before = sample(bed, start)
    for number in range(3):
        bed.ask(f"/v1/registries/default/repositories/app{number}")
    (after,) = sample(bed, start)
    counted = float(before[0].split()[-1]) if before else 0
    assert float(after.split()[-1]) == counted + 3
    assert "app1" not in bed.ask("/metrics").text


def test_what_has_no_route_is_counted_as_one(bed: Bed) -> None:
    bed.ask("/nope/1")
    bed.ask("/nope/2", "BREW")
    text = bed.ask("/metrics").text
    assert 'method="other",route="none",status="404"' in text
    assert "nope" not in text
    assert "BREW" not in text


def test_durations_have_buckets(bed: Bed) -> None:
    bed.ask("/healthz")
    assert sample(bed, "registry_admin_http_request_duration_seconds_bucket")


def test_registries_are_up_or_not(bed: Bed) -> None:
    start = "registry_admin_registry_up"
    assert sample(bed, start) == ['registry_admin_registry_up{registry="default"} 1.0']
    limited = bed.token("metrics:read", registries=("other",))
    assert sample(bed, start, limited) == []


def test_parts_and_the_version_are_told(bed: Bed) -> None:
    bed.store.workers.join("one")
    assert sample(bed, "registry_admin_engine_up") == [
        'registry_admin_engine_up{engine="local"} 1.0'
    ]
    assert sample(bed, "registry_admin_worker_up") == ["registry_admin_worker_up 1.0"]
    (build,) = sample(bed, "registry_admin_build_info")
    assert f'version="{service.__version__}"' in build


def test_without_a_worker_none_is_up(bed: Bed) -> None:
    assert sample(bed, "registry_admin_worker_up") == ["registry_admin_worker_up 0.0"]


def test_refusals_are_counted_by_code(bed: Bed) -> None:
    reader = bed.token("registry:read")
    for _ in range(2):
        bed.ask("/v1/registries/default/repositories/app/-/tags/1", "DELETE", token=reader)
    bed.ask("/v1/registries/default/repositories/app/-/tags/1", "DELETE", token=None)
    start = "registry_admin_audit_refusals_total"
    assert sample(bed, start) == [
        f'{start}{{code="insufficient-scope"}} 2.0',
        f'{start}{{code="unauthenticated"}} 1.0',
    ]


def test_only_registries_that_are_configured_and_seen_are_labels(bed: Bed) -> None:
    metrics.observe_call("default", "2xx", 0.1)
    metrics.observe_call("default", "registry-timeout", 10)
    metrics.observe_call("gone", "2xx", 0.1)
    text = bed.ask("/metrics").text
    assert 'registry_admin_upstream_calls_total{outcome="2xx",registry="default"}' in text
    assert 'upstream_calls_total{outcome="registry-timeout",registry="default"}' in text
    assert 'upstream_call_duration_seconds_count{registry="default"}' in text
    assert 'registry_admin_gc_bytes_freed_total{registry="default"} 0.0' in text
    assert "gone" not in text
    limited = bed.token("metrics:read", registries=("other",))
    assert 'registry="' not in bed.ask("/metrics", token=limited).text


def test_without_the_database_nothing_is_told(bed: Bed, monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(_: FakeAudit) -> None:
        raise StoreUnavailable("The database does not answer.")

    monkeypatch.setattr(FakeAudit, "refusals", failing)
    assert bed.ask("/metrics").problem == (503, "store-unavailable")
