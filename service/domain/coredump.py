"""Whether a process that crashes in a container leaves a core, and why not: core(5) as checks.

``|program`` runs on the host, whatever the limits are; an absolute pattern names a folder as the
container sees it; a relative one begins at the directory that the process is in. The pattern is the
host's. It is read, never written: the fix is for whoever may change the host.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from service.domain.core_pattern import CorePattern
from service.domain.engine import Entry
from service.domain.mounts import HIDDEN, Mount
from service.domain.ulimits import UNLIMITED, Ulimit

CORE = "core"
LEAST = 4096
"""Below a page the kernel writes none."""

USABLE = "/tmp/core.%e.%p"  # noqa: S108 - in a container, as an example
ROOT = 0
DAC_OVERRIDE = 1
"""The number of the capability to write to any folder."""

WRITE_AND_SEARCH = 0o3
SEARCH = 0o1


@dataclass(frozen=True, slots=True)
class Process:
    """Who crashes: the container's first process, and whatever runs as the same user."""

    uid: int
    groups: frozenset[int] = frozenset()
    overrides: bool = False
    """Whether it may write to any folder."""

    def may(self, entry: Entry, bits: int) -> bool | None:
        """Tell whether a folder gives it these bits of its mode; None where that is unknown."""
        if entry.uid is None:
            return True if entry.mode & bits == bits else None
        return self._class(entry) & bits == bits

    def _class(self, entry: Entry) -> int:
        if entry.uid == self.uid:
            return entry.mode >> 6
        return entry.mode >> 3 if entry.gid in self.groups else entry.mode


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known of a container that runs; None where something cannot be seen."""

    name: str
    pattern: CorePattern | None
    core: Ulimit | None
    configured: Sequence[Ulimit]
    process: Process | None
    directory: str | None = None
    """Where cores go; None, too, where there is no one such place."""
    path: Sequence[Entry | None] = ()
    """The folders on the way to it, and it as the last: each None where it is not to be seen."""
    mount: Mount | None = None
    read_only: bool = False
    """Whether the container's own file system is."""


@dataclass(frozen=True, slots=True)
class Check:
    """``passed`` is None where it could not be told, or does not matter any more."""

    name: str
    passed: bool | None
    detail: str
    fix: str | None = None


def diagnose(facts: Facts) -> list[Check]:
    """All checks, in the order in which an operator would look."""
    checks = [_limit(facts), _pattern(facts)]
    if checks[1].passed:
        return [*checks, _exists(facts), _writable(facts)]
    why = "Not looked at: no core would be written there."
    return [*checks, _untold("directory-exists", why), _untold("directory-writable", why)]


def is_ready(checks: Sequence[Check]) -> bool:
    """Tell whether a crash leaves a core: whatever is not known is no promise."""
    return all(check.passed for check in checks)


def _limit(facts: Facts) -> Check:
    if facts.core is None:
        return _untold(
            "core-limit",
            "The limits of the process cannot be seen: neither in the service's own /proc nor by "
            "cat in the container.",
            f"Look at it: docker exec {facts.name} cat /proc/1/limits",
        )
    soft = facts.core.soft
    if soft == UNLIMITED:
        return _passed("core-limit", "The soft limit of the size of cores is unlimited.")
    if soft >= LEAST:
        told = f"The soft limit of the size of cores is {soft} bytes: larger ones are cut off."
        return _passed("core-limit", told)
    why = "so none is written" if soft == 0 else "less than a page, so none is written"
    return _failed(
        "core-limit", f"The soft limit of the size of cores is {soft}: {why}.", _raise(facts)
    )


def _raise(facts: Facts) -> str:
    """The call that raises the limit, with the limits that stay: the set replaces the old one."""
    kept = [one for one in facts.configured if one.name != CORE]
    limits = [
        {"name": one.name, "soft": one.soft, "hard": one.hard}
        for one in [*kept, Ulimit(CORE, UNLIMITED, UNLIMITED)]
    ]
    return f"PUT /v1/containers/{facts.name}/ulimits {json.dumps({'ulimits': limits})}"


def _pattern(facts: Facts) -> Check:
    name, pattern = "core-pattern", facts.pattern
    fix = f"On the host: sysctl -w kernel.core_pattern={USABLE}"
    if pattern is None:
        return _untold(name, "The kernel's core_pattern cannot be seen.", fix)
    if pattern.kind == "none":
        return _failed(name, "The kernel's core_pattern is empty: no core is written.", fix)
    if pattern.kind == "pipe":
        return _failed(
            name,
            f"The kernel's core_pattern is '{pattern.text}': cores go to that program on the host, "
            "outside of the container and whatever its limits are. It may keep them there.",
            fix,
        )
    if facts.directory is None:
        return _failed(
            name,
            f"The kernel's core_pattern is '{pattern.text}': the folder depends on the process "
            "that crashes, so that it cannot be there for each.",
            fix,
        )
    how = "in the container" if pattern.kind == "absolute" else "where the process runs"
    told = f"The kernel's core_pattern is '{pattern.text}': cores are written {how}, to "
    return _passed(name, f"{told}{facts.directory}.")


def _exists(facts: Facts) -> Check:
    name, place = "directory-exists", facts.directory
    found = facts.path[-1] if facts.path else None
    if found is not None and found.directory:
        return _passed(name, f"{place} is there.")
    if found is not None:
        return _failed(name, f"{place} is no folder.", _make(facts))
    if facts.mount is not None and facts.mount.place == place:
        return _passed(name, f"{place} is there: a {facts.mount.kind} is mounted there.")
    if facts.mount is not None and facts.mount.kind in HIDDEN:
        told = f"Whether {place} is there cannot be seen: it is in the mount {facts.mount.place}."
        return _untold(name, told, f"Look at it: docker exec {facts.name} ls -ld {place}")
    return _failed(name, f"{place} is not there in the container.", _make(facts))


def _make(facts: Facts) -> str:
    make = f"docker exec -u 0 {facts.name} mkdir -p -m 1777 {facts.directory}"
    return (
        f"{make}, or mount a volume there, or on the host: sysctl -w kernel.core_pattern={USABLE}"
    )


def _writable(facts: Facts) -> Check:
    name, place = "directory-writable", facts.directory
    if facts.mount is not None and not facts.mount.writable:
        told = f"{place} is in {facts.mount.place}, which is mounted read-only."
        return _failed(name, told, f"Mount {facts.mount.place} writable.")
    if facts.mount is None and facts.read_only:
        told = f"{place} is in the container's own file system, which is read-only."
        return _failed(name, told, f"Mount a volume or a tmpfs at {place}.")
    allowed = _may_write(facts)
    who = f"the user {facts.process.uid}" if facts.process else "the process"
    if allowed is None:
        told = f"Whether {who} may write to {place} cannot be told."
        return _untold(name, told, f"Look at it: docker exec {facts.name} ls -ld {place}")
    if allowed:
        return _passed(name, f"{who.capitalize()} may write to {place}.")
    fix = f"docker exec -u 0 {facts.name} chmod 1777 {place}"
    return _failed(name, f"{who.capitalize()} may not write to {place}.", fix)


def _may_write(facts: Facts) -> bool | None:
    process = facts.process
    if process is None:
        return None
    if process.overrides:
        return True
    path = [entry for entry in facts.path if entry is not None]
    if not path or len(path) < len(facts.path):
        return None
    *above, last = path
    told = [process.may(entry, SEARCH) for entry in above]
    told.append(process.may(last, WRITE_AND_SEARCH))
    if False in told:
        return False
    return None if None in told else True


def folders(path: str) -> list[str]:
    """All folders from the root down to ``path``, both included."""
    place = PurePosixPath(path)
    return [str(one) for one in [*reversed(place.parents), place]]


def _passed(name: str, detail: str) -> Check:
    return Check(name, passed=True, detail=detail)


def _failed(name: str, detail: str, fix: str) -> Check:
    return Check(name, passed=False, detail=detail, fix=fix)


def _untold(name: str, detail: str, fix: str | None = None) -> Check:
    return Check(name, passed=None, detail=detail, fix=fix)
