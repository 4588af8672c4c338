"""What each process counts for Prometheus, added up over all processes that share a folder.

Numbers of the store (jobs, refusals, bytes freed) are not counted here but asked for when scraped.
"""

from __future__ import annotations

import os

from prometheus_client import CollectorRegistry, Counter, Histogram, disable_created_metrics
from prometheus_client.multiprocess import MultiProcessCollector

FOLDER = "PROMETHEUS_MULTIPROC_DIR"
"""Names the folder the processes share; to be set before this module is imported."""

METHODS = frozenset({"GET", "HEAD", "OPTIONS", "POST", "PUT", "DELETE"})

disable_created_metrics()  # type: ignore[no-untyped-call] # they would double what is scraped, and tell nothing over processes
_own = CollectorRegistry()
_requests = Counter(
    "registry_admin_http_requests",
    "Requests answered.",
    ("method", "route", "status"),
    registry=_own,
)
_duration = Histogram(
    "registry_admin_http_request_duration_seconds",
    "How long requests took.",
    ("method", "route"),
    registry=_own,
)
_calls = Counter(
    "registry_admin_upstream_calls",
    "Requests to registries: by the class of the answer's status, or the problem's code.",
    ("registry", "outcome"),
    registry=_own,
)
_call_duration = Histogram(
    "registry_admin_upstream_call_duration_seconds",
    "How long registries took to answer, or not to.",
    ("registry",),
    registry=_own,
)


def observe_request(method: str, route: str, status: int, seconds: float) -> None:
    """Count a request. ``route`` is a template: no more of them than the service has."""
    known = method if method in METHODS else "other"
    _requests.labels(known, route, str(status)).inc()
    _duration.labels(known, route).observe(seconds)


def observe_call(registry: str, outcome: str, seconds: float) -> None:
    """Count a request to a configured registry, or to a server that it points at."""
    _calls.labels(registry, outcome).inc()
    _call_duration.labels(registry).observe(seconds)


def collectors() -> CollectorRegistry:
    """All that was counted: by the processes that share the folder, else by this one."""
    if FOLDER not in os.environ:
        return _own
    shared = CollectorRegistry()
    MultiProcessCollector(shared)  # type: ignore[no-untyped-call]
    return shared
