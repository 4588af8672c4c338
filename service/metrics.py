"""What each process counts for Prometheus, added up over all processes that share a folder.

Numbers of the store (jobs, refusals, bytes freed) are not counted here but asked for when scraped.
"""

from __future__ import annotations

import fcntl
import os
from itertools import count
from pathlib import Path

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Histogram,
    disable_created_metrics,
    values,
)
from prometheus_client.multiprocess import MultiProcessCollector

FOLDER = "PROMETHEUS_MULTIPROC_DIR"
"""Names the folder the processes share; to be set before this module is imported."""

METHODS = frozenset({"GET", "HEAD", "OPTIONS", "POST", "PUT", "DELETE"})


class _Slot:
    """Names the files of this process: by the lowest number that no living one has.

    So a process goes on from what a dead one had counted. Named by process ids, as they would be,
    files of all that ever lived would pile up where processes die often, to be read by each scrape.
    """

    def __init__(self) -> None:
        self._pid = 0
        self._number = ""

    def __call__(self) -> str:
        if self._pid != os.getpid():  # also after a fork, where the number is the parent's
            self._pid = os.getpid()
            self._number = next(str(number) for number in count() if self._claim(number))
        return self._number

    def _claim(self, number: int) -> bool:
        path = Path(os.environ[FOLDER], f"{number}.lock")
        lock = os.open(path, os.O_WRONLY | os.O_CREAT, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)
            return False
        return True  # and it stays open for as long as the process lives


if FOLDER in os.environ:
    values.ValueClass = values.MultiProcessValue(_Slot())  # type: ignore[no-untyped-call]

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
