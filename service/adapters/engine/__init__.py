"""One Docker engine, asked for little so far: whether it answers, and a registry's version."""

from __future__ import annotations

import logging
import os
import re
import threading
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

from service.domain.health import PartStatus
from service.settings import EngineSettings

if TYPE_CHECKING:
    from docker import APIClient

TIMEOUT_SECONDS = 5
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


class DockerEngine:
    """An engine by its URL. Safe between threads: each has a client of its own."""

    def __init__(self, settings: EngineSettings) -> None:
        """Connect when first asked to."""
        self._url = settings.url
        self._clients = threading.local()
        self._versions: dict[str, _Known] = {}

    def status(self) -> PartStatus:
        """Tell whether the engine answers."""
        try:
            self._client().ping()
        except Exception as error:  # noqa: BLE001 - whatever is wrong with it, it is down
            log.debug("the engine does not answer: %s", error)
            return "down"
        return "up"

    def registry_version(self, container: str) -> str | None:
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
        found = self._client().inspect_container(container)
        running = (found["Id"], found["State"]["StartedAt"])
        if known and known.container == running and time.monotonic() < known.until:
            return known
        match = _VERSION.search(self._run(found["Id"], ["registry", "--version"]))
        version = match[1] if match else None
        return _Known(running, version, time.monotonic() + KNOWN_SECONDS)

    def _run(self, container: str, command: list[str]) -> str:
        """Output of a command in a container, at most OUTPUT_LIMIT bytes, in TIMEOUT_SECONDS.

        Asked for without an upgrade to a raw stream, the answer is one that ends by closing, and
        the client's time-out holds for it; with a terminal it is the bare output.
        """
        client = self._client()
        made = client.exec_create(container, command, tty=True)
        # docker-py's own exec_start takes every time-out off the connection.
        with client.post(
            f"{client.base_url}/v{client.api_version}/exec/{made['Id']}/start",
            json={"Detach": False, "Tty": True},
            stream=True,
            timeout=TIMEOUT_SECONDS,
        ) as response:
            response.raise_for_status()
            return _bounded(response.iter_content(1024)).decode(errors="replace")

    def _client(self) -> APIClient:
        client: APIClient | None = getattr(self._clients, "client", None)
        if client is None:
            client = self._clients.client = self._connect()
        return client

    def _connect(self) -> APIClient:
        from docker import APIClient  # noqa: PLC0415 - big, and most processes never need it
        from docker.utils import kwargs_from_env  # noqa: PLC0415

        options: dict[str, Any] = {"base_url": self._url}
        if self._url == os.environ.get("DOCKER_HOST"):
            options = {**kwargs_from_env()}  # with its TLS files, DOCKER_CERT_PATH
        return APIClient(version="auto", timeout=TIMEOUT_SECONDS, **options)


def _bounded(chunks: Iterator[bytes]) -> bytes:
    output = b""
    deadline = time.monotonic() + TIMEOUT_SECONDS
    for chunk in chunks:
        output += chunk
        if len(output) >= OUTPUT_LIMIT or time.monotonic() > deadline:
            break
    return output[:OUTPUT_LIMIT]
