"""What Prometheus scrapes: what the processes count, what the store knows, how the parts are."""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime

from prometheus_client import Metric
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest

import service
from service.domain.health import Health
from service.domain.job import ENDED, Figures
from service.metrics import collectors

CONTENT_TYPE = CONTENT_TYPE_PLAIN_0_0_4
UP = {"up", "read-only"}
EXAMPLE = """\
# HELP registry_admin_registry_up 1 while the registry answers.
# TYPE registry_admin_registry_up gauge
registry_admin_registry_up{registry="default"} 1.0
"""

Counts = Mapping[tuple[str, ...], float]


@dataclass(frozen=True, slots=True)
class Known:
    """What is known when a scrape asks. ``refusals`` by code."""

    now: datetime
    health: Health
    figures: Figures
    refusals: Mapping[str, int]


def exposition(known: Known, sees: Callable[[str], bool]) -> bytes:
    """Write everything in Prometheus' text format, of registries those that the caller ``sees``."""
    visible = {name for name in known.health.registries if sees(name)}
    return generate_latest(_Visible(known, visible))


class _Visible:
    """All metrics, without the samples of registries that are not ``visible``."""

    def __init__(self, known: Known, visible: set[str]) -> None:
        self._known = known
        self._visible = visible

    def collect(self) -> Iterator[Metric]:
        for family in (*collectors().collect(), *_of_parts(self._known), *_of_store(self._known)):
            samples = family.samples
            family.samples = [one for one in samples if self._shows(one.labels.get("registry"))]
            yield family

    def _shows(self, registry: str | None) -> bool:
        return registry is None or registry in self._visible


def _of_parts(known: Known) -> Iterator[Metric]:
    health = known.health
    yield _gauge(
        "registry_admin_build_info",
        "Always 1; its labels tell the version.",
        ("version", "python"),
        {(service.__version__, platform.python_version()): 1},
    )
    yield _gauge(
        "registry_admin_registry_up",
        "1 while the registry answers.",
        ("registry",),
        {(name,): status in UP for name, status in health.registries.items()},
    )
    yield _gauge(
        "registry_admin_engine_up",
        "1 while the Docker engine answers.",
        ("engine",),
        {(name,): status == "up" for name, status in health.engines.items()},
    )
    yield _gauge(
        "registry_admin_worker_up",
        "1 while any worker lives.",
        (),
        {(): health.worker == "up"},
    )


def _of_store(known: Known) -> Iterator[Metric]:
    yield from _of_jobs(known.figures, known.now)
    freed = dict.fromkeys(known.health.registries, 0) | dict(known.figures.bytes_freed)
    yield _counter(
        "registry_admin_gc_bytes_freed",
        "Bytes that garbage collections have freed.",
        ("registry",),
        {(name,): amount for name, amount in freed.items()},
    )
    yield _counter(
        "registry_admin_audit_refusals",
        "Attempts to change something that were refused, by the problem's code.",
        ("code",),
        {(code,): count for code, count in known.refusals.items()},
    )


def _of_jobs(figures: Figures, now: datetime) -> Iterator[Metric]:
    counts, oldest = figures.counts, figures.oldest_queued
    yield _gauge(
        "registry_admin_jobs",
        "Jobs that are queued or running.",
        ("kind", "state"),
        {key: count for key, count in counts.items() if key[1] not in ENDED},
    )
    yield _counter(
        "registry_admin_jobs_ended",
        "Jobs that have ended.",
        ("kind", "state"),
        {key: count for key, count in counts.items() if key[1] in ENDED},
    )
    yield _gauge(
        "registry_admin_oldest_queued_job_seconds",
        "How long the job has waited that has waited longest; 0 while none waits.",
        (),
        {(): (now - oldest).total_seconds() if oldest else 0.0},
    )


def _gauge(name: str, says: str, labels: Iterable[str], counts: Counts) -> Metric:
    family = GaugeMetricFamily(name, says, labels=list(labels))
    for key, value in sorted(counts.items()):
        family.add_metric(key, float(value))
    return family


def _counter(name: str, says: str, labels: Iterable[str], counts: Counts) -> Metric:
    family = CounterMetricFamily(name, says, labels=list(labels))
    for key, value in sorted(counts.items()):
        family.add_metric(key, float(value))
    return family
