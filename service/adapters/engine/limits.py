"""The limits of a container's first process: from our own ``/proc``, else from within."""

from __future__ import annotations

import logging
from contextlib import suppress
from pathlib import Path

from service.adapters.engine.processes import Processes
from service.adapters.engine.transport import Transport
from service.domain.engine import Inspected

RUN_SECONDS = 5.0
LIMIT = 16 * 1024

log = logging.getLogger(__name__)


def process_limits(transport: Transport, container_id: str, proc: Path) -> bytes | None:
    """The text of ``/proc/PID/limits``; None where it is not to be had."""
    container = transport.inspect(container_id)
    pid = container["State"].get("Pid") or 0
    return _from_here(proc / str(pid), container["Id"]) or _from_within(transport, container)


def _from_here(process: Path, container_id: str) -> bytes | None:
    """Read it, where that process is in our sight: its number may be another's on our machine."""
    with suppress(OSError):
        text = (process / "limits").read_bytes()
        if container_id in (process / "cgroup").read_text():
            return text
    return None


def _from_within(transport: Transport, container: Inspected) -> bytes | None:
    """Have ``cat`` read it in the container, where there is one."""
    # With processes of others in sight, the first one is theirs; an exec gets the same limits.
    process = "self" if container["HostConfig"].get("PidMode") else "1"
    said = bytearray()
    try:
        code = Processes(transport).execute(
            container["Id"],
            ["cat", f"/proc/{process}/limits"],
            lambda _, line: said.extend(line + b"\n"),
            lambda: len(said) >= LIMIT,
            RUN_SECONDS,
        )
    except Exception as error:  # noqa: BLE001 - not knowing hinders nobody
        log.debug("the limits in %s are not to be had: %s", container["Id"], error)
        return None
    return bytes(said) if code == 0 else None
