"""How soon a job begins that nothing is in the way of, and what the service costs when idle."""

import time
from pathlib import Path

from bench.memory import tree
from bench.report import Table, Times
from bench.site import seconds
from tests.e2e.bed.api import REGISTRY
from tests.e2e.bed.collecting import ended
from tests.e2e.bed.service import Service

JOBS = 40
TICKS_A_SECOND = 100  # of /proc, on every Linux

BEGUN = "accepted to begun, a round's median"
IDLE = "idle, all processes"


def measure(service: Service, rounds: int, idle_seconds: float, table: Table) -> None:
    """Measure round by round, and add what was found."""
    begun, idle = Times("ms"), Times("% of a core")
    for _ in range(rounds):
        waits = sorted(_wait(service) for _ in range(JOBS))
        begun.note(BEGUN, 1000 * waits[JOBS // 2])
        idle.note(IDLE, 100 * _share(service, idle_seconds))
    table.at_most(150, f"job {BEGUN}, ms", begun.spread(BEGUN))
    table.at_most(5, f"{IDLE}, % of a core", idle.spread(IDLE))


def _wait(service: Service) -> float:
    return seconds(ended(service, f"{REGISTRY}/verifications"), "created_at", "started_at")


def _share(service: Service, idle_seconds: float) -> float:
    before = _used_seconds(service)
    time.sleep(idle_seconds)
    return (_used_seconds(service) - before) / idle_seconds


def _used_seconds(service: Service) -> float:
    """Return what all processes of the service have taken of a processor."""
    running = tree(service.child.pid) if service.child else []
    return sum(map(_ticks, running)) / TICKS_A_SECOND


def _ticks(pid: int) -> int:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])
