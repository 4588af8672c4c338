"""The port ``Engine`` over the Docker Engine API."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from service.adapters.engine import archive
from service.adapters.engine.controller import DockerController
from service.adapters.engine.limits import process_limits
from service.adapters.engine.transport import Call, Transport, container_path, image_path
from service.adapters.engine.versions import RegistryVersions
from service.domain.audit import Change
from service.domain.engine import Inspected, LayerChange
from service.domain.errors import RegistryAdminError
from service.domain.health import PartStatus
from service.settings import EngineSettings

STATUS_SECONDS = 5.0
SIZE_SECONDS = 120.0
"""How long an engine may take to look through a writable layer."""

KINDS: Sequence[Literal["modified", "added", "deleted"]] = ("modified", "added", "deleted")
"""What the engine's numbers for changes of a layer mean."""

log = logging.getLogger(__name__)


class DockerEngine:
    """An engine by its URL. Safe between threads: each has a client of its own."""

    def __init__(self, settings: EngineSettings) -> None:
        """Connect when first asked to."""
        self._transport = Transport(settings)
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
        found: Inspected = self._transport.ask(Call("GET", image_path(reference, "/json")))
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
        size = self._transport.ask(call).get("SizeRw")
        return None if size is None else int(size)

    def layer_changes(self, container_id: str) -> Sequence[LayerChange]:
        """See the port."""
        path = container_path(container_id, "/changes")
        found = self._transport.ask(Call("GET", path, seconds=SIZE_SECONDS)) or ()
        changes = (LayerChange(one["Path"], KINDS[one["Kind"]]) for one in found)
        return sorted(changes, key=lambda change: change.path)

    def process_limits(self, container_id: str) -> bytes | None:
        """See the port."""
        return process_limits(self._transport, container_id, Path("/proc"))

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
