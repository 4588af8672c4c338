"""How long pulls fail while garbage is collected, as somebody sees who pulls without pause."""

import http.client
import itertools
from urllib.parse import urlsplit

from bench.report import Table, Times
from bench.site import seconds
from demo.images import digest_of, sample
from tests.e2e.bed.collecting import Probe, ended, probing
from tests.e2e.bed.registry import ACCEPT, RunningRegistry
from tests.e2e.bed.service import Service

MODES = ("read-only", "stopped")
KEPT = 100
DOOMED = 30
NAMES = itertools.count()


def measure(registry: RunningRegistry, service: Service, rounds: int, table: Table) -> None:
    """Collect in each mode round by round, and add what was found."""
    times = Times()
    with registry.pusher() as pusher:
        for number in range(KEPT):
            pusher.push("bench/kept", sample(f"kept {number}"), f"t{number}")
    for _ in range(rounds):
        for mode in MODES:
            _collect(registry, service, mode, times)
    table.at_most(1, f"{_failed('read-only')}, s", times.spread(_failed("read-only")))
    table.info(f"{_failed('stopped')}, s", times.spread(_failed("stopped")))
    for mode in MODES:
        table.info(f"{_failed(mode)} / its time", times.ratios(_failed(mode), _took(mode)))


def _failed(mode: str) -> str:
    return f"pulls failed in a {mode} run"


def _took(mode: str) -> str:
    return f"a {mode} run took"


def _collect(registry: RunningRegistry, service: Service, mode: str, times: Times) -> None:
    _litter(registry)
    probe = Probe(lambda: _pull(registry), good=lambda status: status == http.client.OK)
    with probing(probe):
        job = ended(service, mode=mode)
    if job["state"] != "succeeded":
        raise RuntimeError(f"the collection failed: {job['error']}")
    times.note(_failed(mode), probe.down_seconds)
    times.note(_took(mode), seconds(job, "started_at", "finished_at"))


def _litter(registry: RunningRegistry) -> None:
    with registry.pusher() as pusher:
        for _ in range(DOOMED):
            doomed = sample(f"doomed {next(NAMES)}")
            pusher.push("bench/doomed", doomed, "latest")
            pusher.delete("bench/doomed", doomed.digest)


def _pull(registry: RunningRegistry) -> int:
    """Pull a manifest and a layer over a new connection; return the worse status."""
    image = sample("kept 0")
    connection = http.client.HTTPConnection(urlsplit(registry.url).netloc, timeout=10)
    paths = ("manifests/t0", f"blobs/{digest_of(image.blobs[0])}")
    try:
        for path in paths:
            connection.request("GET", f"/v2/bench/kept/{path}", headers={"Accept": ACCEPT})
            answer = connection.getresponse()
            answer.read()
            if answer.status != http.client.OK:
                return answer.status
        return http.client.OK
    finally:
        connection.close()
