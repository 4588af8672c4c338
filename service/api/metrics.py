"""What Prometheus scrapes: counts and durations of requests, over all processes of the service."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping

from prometheus_client import CollectorRegistry, Counter, Histogram, disable_created_metrics
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector

CONTENT_TYPE = CONTENT_TYPE_PLAIN_0_0_4
MULTIPROCESS = "PROMETHEUS_MULTIPROC_DIR"
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


def observe(method: str, route: str, status: int, seconds: float) -> None:
    """Count a request. ``route`` is a template: no more of them than the service has."""
    known = method if method in METHODS else "other"
    _requests.labels(known, route, str(status)).inc()
    _duration.labels(known, route).observe(seconds)


class _Now:
    """Whether each registry is up, and how long jobs wait, as gauges."""

    def __init__(self, registries: Mapping[str, bool], waiting: float) -> None:
        self._registries = registries
        self._waiting = waiting

    def collect(self) -> Iterator[GaugeMetricFamily]:
        yield GaugeMetricFamily(
            "registry_admin_oldest_queued_job_seconds",
            "How long the job has waited that has waited longest; 0 while none waits.",
            self._waiting,
        )
        family = GaugeMetricFamily(
            "registry_admin_registry_up", "1 while the registry answers.", labels=["registry"]
        )
        for name, is_up in self._registries.items():
            family.add_metric([name], float(is_up))
        yield family


def exposition(registries: Mapping[str, bool], waiting: float) -> bytes:
    """Write everything in Prometheus' text format.

    ``registries`` tells which are up, ``waiting`` for how many seconds the oldest job has waited.
    """
    scraped = CollectorRegistry()
    if MULTIPROCESS in os.environ:
        MultiProcessCollector(scraped)  # type: ignore[no-untyped-call]
    else:
        scraped.register(_own)
    scraped.register(_Now(registries, waiting))
    return generate_latest(scraped)
