"""Limits of a container's processes, by the names and in the units of the engine.

A value is what ``setrlimit(2)`` takes; -1 is unlimited.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from service.domain.engine import Inspected

UNLIMITED = -1

IN_PROC: Mapping[str, str] = {
    "core": "Max core file size",
    "cpu": "Max cpu time",
    "data": "Max data size",
    "fsize": "Max file size",
    "locks": "Max file locks",
    "memlock": "Max locked memory",
    "msgqueue": "Max msgqueue size",
    "nice": "Max nice priority",
    "nofile": "Max open files",
    "nproc": "Max processes",
    "rss": "Max resident set",
    "rtprio": "Max realtime priority",
    "rttime": "Max realtime timeout",
    "sigpending": "Max pending signals",
    "stack": "Max stack size",
}
"""Every name that the engine takes, and what ``/proc/PID/limits`` calls it (proc(5))."""


@dataclass(frozen=True, slots=True)
class Ulimit:
    """A limit, as the process may raise it itself (``soft``), and at most (``hard``)."""

    name: str
    soft: int
    hard: int


def configured(container: Inspected) -> list[Ulimit]:
    """What an inspected container was created with, by name; the others are the engine's."""
    entries = container["HostConfig"].get("Ulimits") or ()
    found = (Ulimit(entry["Name"], entry["Soft"], entry["Hard"]) for entry in entries)
    return sorted(found, key=lambda limit: limit.name)


def read_limits(text: bytes) -> list[Ulimit]:
    """Read ``/proc/PID/limits``, sorted by name; lines that the engine has no name for are left."""
    names = {title: name for name, title in IN_PROC.items()}
    found = []
    for line in text.decode("ascii", "replace").splitlines():
        row = re.fullmatch(r"(Max [a-z ]+?) {2,}(\S+) +(\S+)(?: +\S+)? *", line)
        if row and row[1] in names:
            found.append(Ulimit(names[row[1]], _value(row[2]), _value(row[3])))
    return sorted(found, key=lambda limit: limit.name)


def _value(text: str) -> int:
    return UNLIMITED if text == "unlimited" else int(text)


def faults(limits: Sequence[Ulimit]) -> list[tuple[str, str]]:
    """What is wrong with a set of limits: the place in it (``/0/soft``), and the rule."""
    found = []
    for place, limit in enumerate(limits):
        if limit.name not in IN_PROC:
            found.append((f"/{place}/name", f"Must be one of {', '.join(IN_PROC)}."))
        if limit.name in {other.name for other in limits[:place]}:
            found.append((f"/{place}/name", f"{limit.name} is there twice."))
        if _exceeds(limit.soft, limit.hard):
            found.append((f"/{place}/soft", "Must not exceed hard; -1 is unlimited."))
    return found


def _exceeds(soft: int, hard: int) -> bool:
    return hard != UNLIMITED and (soft == UNLIMITED or soft > hard)
