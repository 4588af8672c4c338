"""Finding out what a diagnosis of core dumps needs to know of a container that runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import PurePosixPath

from service.domain.containers import Allowed
from service.domain.core_pattern import CorePattern
from service.domain.coredump import (
    CORE,
    DAC_OVERRIDE,
    ROOT,
    Check,
    Facts,
    Process,
    diagnose,
    folders,
    is_ready,
)
from service.domain.engine import Engine, Inspected
from service.domain.errors import ContainerNotRunning
from service.domain.mounts import mount_of
from service.domain.ulimits import Ulimit, configured, read_limits

PATTERN = "sys/kernel/core_pattern"
USES_PID = "sys/kernel/core_uses_pid"
STATUS = "1/status"
USERS_LIMIT = 1024 * 1024
FILE_SYSTEM_ID = 3
"""Which of the four numbers behind ``Uid:`` decides about files: that of the file system."""


@dataclass(frozen=True, slots=True)
class CoreFile:
    """A core that is there; bytes."""

    path: str
    size: int
    modified_at: datetime


@dataclass(frozen=True, slots=True)
class CoreDumps:
    """The diagnosis, as the contract has it."""

    ready: bool
    core_pattern: str | None
    soft_limit: int | None
    hard_limit: int | None
    checks: Sequence[Check]
    files: Sequence[CoreFile] | None


def core_dumps(one: Allowed) -> CoreDumps:
    """Diagnose a container; raise ContainerNotRunning."""
    container = one.engine.container(one.container_id)
    _require_running(container, one.name)
    facts = gather(one, container)
    checks = diagnose(facts)
    return CoreDumps(
        ready=is_ready(checks),
        core_pattern=facts.pattern.text if facts.pattern else None,
        soft_limit=facts.core.soft if facts.core else None,
        hard_limit=facts.core.hard if facts.core else None,
        checks=checks,
        files=_files(one.engine, container, facts),
    )


def _require_running(container: Inspected, name: str) -> None:
    status = container["State"]["Status"]
    if status != "running":
        raise ContainerNotRunning(
            f"The container '{name}' is {status}: limits and directories are those of a process "
            f"that runs. Start it, and ask again: docker start {name}"
        )


def gather(one: Allowed, container: Inspected) -> Facts:
    """All facts."""
    engine = one.engine
    pattern, process = _pattern(engine, container["Id"]), _process(engine, container)
    directory = _directory(engine, container, pattern, process)
    return Facts(
        name=one.name,
        pattern=pattern,
        core=_core(engine, container["Id"]),
        configured=configured(container),
        process=process,
        directory=directory,
        path=[engine.look(container["Id"], one) for one in _looked_through(pattern, directory)],
        mount=mount_of(container, directory) if directory else None,
        read_only=bool(container["HostConfig"].get("ReadonlyRootfs")),
    )


def _looked_through(pattern: CorePattern | None, directory: str | None) -> list[str]:
    """The folders that the kernel goes through: from where it is, a relative one leads there."""
    if pattern is None or directory is None:
        return []
    return [directory] if pattern.kind == "relative" else folders(directory)


def _core(engine: Engine, container_id: str) -> Ulimit | None:
    text = engine.process_limits(container_id)
    limits = read_limits(text) if text else ()
    return next((one for one in limits if one.name == CORE), None)


def _pattern(engine: Engine, container_id: str) -> CorePattern | None:
    text = engine.read_proc(container_id, PATTERN)
    if text is None:
        return None
    uses_pid = engine.read_proc(container_id, USES_PID) or b"0"
    return CorePattern(text.decode(errors="replace").rstrip("\n"), uses_pid.strip() != b"0")


def _directory(
    engine: Engine, container: Inspected, pattern: CorePattern | None, process: Process | None
) -> str | None:
    if pattern is None or pattern.kind in {"none", "pipe"}:
        return None
    config = container["Config"]
    working = engine.working_directory(container["Id"]) if pattern.kind == "relative" else None
    known = {"h": str(config.get("Hostname") or "")}
    if process is not None:
        known["u"] = str(process.uid)
    return pattern.directory(working or config.get("WorkingDir") or "/", known)


def _files(engine: Engine, container: Inspected, facts: Facts) -> list[CoreFile] | None:
    """Cores that are there, also those of a time when the checks told otherwise."""
    if facts.directory is None or facts.pattern is None:
        return None
    found = engine.files_in(container["Id"], facts.directory, facts.pattern.matches)
    if found is None:
        return None
    directory = PurePosixPath(facts.directory)
    return [CoreFile(str(directory / one.name), one.size, one.modified_at) for one in found]


# Who runs there.


def _process(engine: Engine, container: Inspected) -> Process | None:
    text = engine.read_proc(container["Id"], STATUS)
    found = read_status(text.decode(errors="replace")) if text else None
    return found or _configured_process(engine, container)


def read_status(text: str) -> Process | None:
    """Read ``/proc/PID/status``."""
    rows = dict(line.split(":", 1) for line in text.splitlines() if ":" in line)
    try:
        uid, gid = (int(rows[name].split()[FILE_SYSTEM_ID]) for name in ("Uid", "Gid"))
        groups = {int(one) for one in rows["Groups"].split()}
        capabilities = int(rows["CapEff"], 16)
    except (KeyError, ValueError, IndexError):
        return None
    return Process(uid, frozenset({gid, *groups}), bool(capabilities >> DAC_OVERRIDE & 1))


def _configured_process(engine: Engine, container: Inspected) -> Process | None:
    """As whom it was to run, where nothing shows as whom it does."""
    user, _, group = str(container["Config"].get("User") or ROOT).partition(":")
    users, groups = (
        _table(engine.read_file(container["Id"], path, USERS_LIMIT))
        for path in ("/etc/passwd", "/etc/group")
    )
    row = users.get(user)
    uid = int(user) if user.isdecimal() else _number(row, 2)
    if uid is None:
        return None
    named = _number(groups.get(group), 2) if group else _number(row, 3)
    gid = int(group) if group.isdecimal() else named
    added = {int(one) for one in container["HostConfig"].get("GroupAdd") or () if one.isdecimal()}
    member = {
        number
        for one in groups.values()
        if user in one[-1].split(",") and (number := _number(one, 2)) is not None
    }
    own = {gid} if gid is not None else {ROOT}
    return Process(uid, frozenset(own | added | member), _overrides(container, uid))


def _table(body: bytes | None) -> Mapping[str, Sequence[str]]:
    lines = (body or b"").decode(errors="replace").splitlines()
    return {line.split(":")[0]: line.split(":") for line in lines if ":" in line}


def _number(row: Sequence[str] | None, place: int) -> int | None:
    if row is None or len(row) <= place or not row[place].isdecimal():
        return None
    return int(row[place])


def _overrides(container: Inspected, uid: int) -> bool:
    host = container["HostConfig"]
    dropped = {one.upper().removeprefix("CAP_") for one in host.get("CapDrop") or ()}
    added = {one.upper().removeprefix("CAP_") for one in host.get("CapAdd") or ()}
    kept = not dropped & {"ALL", "DAC_OVERRIDE"} or bool(added & {"ALL", "DAC_OVERRIDE"})
    return uid == ROOT and (bool(host.get("Privileged")) or kept)
