"""The port ``Engine`` over the Docker Engine API."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from service.adapters.engine import archive
from service.adapters.engine.controller import DockerController
from service.adapters.engine.places import Places
from service.adapters.engine.processes import Processes
from service.adapters.engine.procfs import Procfs
from service.adapters.engine.transport import Call, Transport, container_path, image_path
from service.adapters.engine.versions import RegistryVersions
from service.domain.audit import Change
from service.domain.engine import Entry, Inspected, LayerChange
from service.domain.errors import EngineRefused, EngineUnreachable, ImageUnknown, RegistryAdminError
from service.domain.health import PartStatus
from service.settings import EngineSettings

STATUS_SECONDS = 5.0
NO_IMAGE = "no such image"
SIZE_SECONDS = 10.0
"""How long an engine may add up a writable layer: one that takes longer is not waited for."""

log = logging.getLogger(__name__)


class DockerEngine:
    """An engine by its URL. Safe between threads: each has a client of its own."""

    def __init__(self, settings: EngineSettings, proc: Path = Path("/proc")) -> None:
        """Connect when first asked to; ``proc`` is our own /proc."""
        self._transport = Transport(settings)
        self._procfs = Procfs(self._transport, proc, same_kernel=settings.url.startswith("unix://"))
        self._places = Places(self._transport, self._procfs)
        self._versions = RegistryVersions(self._transport)

    @property
    def name(self) -> str:
        """See the port."""
        return self._transport.name

    @property
    def api_version(self) -> tuple[int, int]:
        """See the port."""
        return self._transport.api_version

    def container(self, reference: str) -> Inspected:
        """See the port."""
        return self._transport.inspect(reference)

    def containers(self, label: str | None = None) -> Sequence[Inspected]:
        """See the port."""
        query = {"all": 1} | ({"filters": json.dumps({"label": [label]})} if label else {})
        found: list[dict[str, Any]] = self._transport.ask(Call("GET", "/containers/json", query))
        return found

    def image(self, reference: str) -> Inspected:
        """See the port."""
        try:
            found: Inspected = self._transport.ask(Call("GET", image_path(reference, "/json")))
        except EngineRefused as error:
            if NO_IMAGE not in error.detail.lower():
                raise
            # What looks like the beginning of an id, or more than one, is no 404 to some engines.
            raise ImageUnknown(error.detail) from error
        return found

    def history(self, reference: str) -> Sequence[Inspected]:
        """See the port."""
        found: list[Inspected] = self._transport.ask(Call("GET", image_path(reference, "/history")))
        return found

    def file_size(self, container_id: str, path: str) -> int | None:
        """See the port."""
        found = archive.stat(self._transport, container_id, path)
        return found.size if found else None

    def read_file(self, container_id: str, path: str, limit: int) -> bytes | None:
        """See the port."""
        return archive.read(self._transport, container_id, path, limit)

    def writable_size(self, container_id: str) -> int | None:
        """See the port."""
        call = Call("GET", container_path(container_id, "/json"), {"size": 1}, seconds=SIZE_SECONDS)
        try:
            size = self._transport.ask(call).get("SizeRw")
        except EngineUnreachable as error:
            log.debug("the size of %s is not told in time: %s", container_id, error)
            return None
        return None if size is None else int(size)

    def layer_changes(self, container_id: str) -> Sequence[LayerChange]:
        """See the port."""
        return self._places.changes(container_id)

    def last_lines(self, container_id: str, count: int) -> Sequence[str]:
        """See the port."""
        try:
            lines = Processes(self._transport).last_lines(container_id, count)
        except EngineRefused as error:  # not every log driver keeps what it is given
            log.debug("the log of %s is not to be read: %s", container_id, error)
            return []
        return [line.decode(errors="replace") for line in lines]

    def process_limits(self, container_id: str) -> bytes | None:
        """See the port."""
        return self.read_proc(container_id, "1/limits")

    def read_proc(self, container_id: str, path: str) -> bytes | None:
        """See the port."""
        container = self.container(container_id)
        return self._procfs.read(container, path) if container["State"]["Running"] else None

    def working_directory(self, container_id: str) -> str | None:
        """See the port."""
        return self._procfs.working_directory(self.container(container_id))

    def look(self, container_id: str, path: str) -> Entry | None:
        """See the port."""
        return self._places.look(self.container(container_id), path)

    def files_in(
        self, container_id: str, path: str, matches: Callable[[str], bool]
    ) -> Sequence[Entry] | None:
        """See the port."""
        return self._places.files(self.container(container_id), path, matches)

    def controller(self, change: Change) -> DockerController:
        """See the port."""
        return DockerController(self._transport, change)

    def status(self) -> PartStatus:
        """Tell whether the engine answers."""
        try:
            self._transport.open(Call("GET", "/_ping", seconds=STATUS_SECONDS)).close()
        except RegistryAdminError as error:
            log.debug("the engine does not answer: %s", error)
            return "down"
        return "up"

    def registry_version(self, container: str) -> str | None:
        """The version of the registry in a running container, such as ``2.8.2``, or None."""
        return self._versions.version(container)
