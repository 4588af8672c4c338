"""The version of the registry that a container runs, remembered while it runs on."""

from __future__ import annotations

import logging
import re
import time
from typing import NamedTuple

from service.adapters.engine.processes import Processes
from service.adapters.engine.transport import Transport

RUN_SECONDS = 5.0
OUTPUT_LIMIT = 64 * 1024
"""Most bytes that are read of a command's output."""

KNOWN_SECONDS = 300.0
UNKNOWN_SECONDS = 30.0
"""How long a version, or that there is none to be had, is good for."""

_VERSION = re.compile(r"\bv?(\d+\.\d+\.\d+(?:-[0-9A-Za-z.-]+)?)(?:\+\S*)?\s*$")

log = logging.getLogger(__name__)


class _Known(NamedTuple):
    container: tuple[str, str] | None
    version: str | None
    until: float


class RegistryVersions:
    """Asks containers for their registry's version, and not too often."""

    def __init__(self, transport: Transport) -> None:
        """Ask by ``transport``."""
        self._transport = transport
        self._versions: dict[str, _Known] = {}

    def version(self, container: str) -> str | None:
        """The version that ``registry --version`` tells in a running container, or None.

        Its output ends, since version 2.0, with a word such as ``2.8.2`` or ``v3.1.1``.
        """
        known = self._versions.get(container)
        if known and known.container is None and time.monotonic() < known.until:
            return None
        try:
            known = self._look(container, known)
        except Exception as error:  # noqa: BLE001 - not knowing a version hinders nobody
            log.debug("the registry's version is not to be had from %s: %s", container, error)
            known = _Known(None, None, time.monotonic() + UNKNOWN_SECONDS)
        self._versions[container] = known
        return known.version

    def _look(self, container: str, known: _Known | None) -> _Known:
        found = self._transport.inspect(container)
        running = (found["Id"], found["State"]["StartedAt"])
        if known and known.container == running and time.monotonic() < known.until:
            return known
        match = _VERSION.search(self._output(found["Id"], ["registry", "--version"]))
        version = match[1] if match else None
        return _Known(running, version, time.monotonic() + KNOWN_SECONDS)

    def _output(self, container_id: str, command: list[str]) -> str:
        """What a command says, cut off at OUTPUT_LIMIT bytes or after RUN_SECONDS."""
        said = bytearray()
        Processes(self._transport).execute(
            container_id,
            command,
            lambda _, line: said.extend(line + b"\n"),
            lambda: len(said) >= OUTPUT_LIMIT,
            RUN_SECONDS,
        )
        return bytes(said[:OUTPUT_LIMIT]).decode(errors="replace")
