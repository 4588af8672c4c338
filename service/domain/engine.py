"""The container engine, as the rules need it.

Shapes of ``inspect`` and ``create`` are those of the Docker Engine API 1.41 and later, passed as
plain mappings.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal, Protocol

from service.domain.audit import Change

Inspected = Mapping[str, Any]
Output = Callable[[Literal["stdout", "stderr"], bytes], None]
"""Given each line of a process as it comes, without its line feed."""


@dataclass(frozen=True, slots=True)
class RestartPolicy:
    """A container's restart policy; the count means something for ``on-failure`` alone."""

    name: Literal["no", "always", "unless-stopped", "on-failure"]
    maximum_retry_count: int = 0


@dataclass(frozen=True, slots=True)
class LayerChange:
    """A path that a writable layer holds otherwise than the image below."""

    path: str
    kind: Literal["added", "modified", "deleted"]


@dataclass(frozen=True, slots=True)
class Entry:
    """A file or folder in a container; ``mode`` is that of chmod(1), of the owner it is by number.

    ``uid`` and ``gid`` are None where they are not told.
    """

    name: str
    directory: bool
    regular: bool
    mode: int
    size: int
    modified_at: datetime
    uid: int | None = None
    gid: int | None = None


@dataclass(frozen=True, slots=True)
class NetworkAttachment:
    """A network to connect after creation, with the part of the endpoint settings that is ours."""

    network: str
    endpoint: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Creation:
    """All that is needed to create a container: the body of the create call, then connections."""

    name: str
    body: Mapping[str, Any]
    networks: tuple[NetworkAttachment, ...] = ()
    platform: str | None = None
    """``os/architecture[/variant]`` where the image is one for several platforms."""


@dataclass(frozen=True, slots=True)
class PushName:
    """An image's name on an engine: ``host:port/repository``, and the tag."""

    repository: str
    tag: str

    def __str__(self) -> str:
        """Write both as an engine does."""
        return f"{self.repository}:{self.tag}"


@dataclass(frozen=True, slots=True)
class RegistryLogin:
    """Who an engine is to a registry; an identity token may be in the password's place."""

    username: str
    secret: str = field(repr=False)
    identity_token: bool = False


class Engine(Protocol):
    """One container engine, to look at. Every method may raise EngineUnreachable."""

    @property
    def name(self) -> str:
        """The name it is configured under."""

    @property
    def api_version(self) -> tuple[int, int]:
        """The version of its API in use, such as (1, 41)."""

    def container(self, reference: str) -> Inspected:
        """Inspect a container by name or id; raise ContainerUnknown."""

    def containers(self, label: str | None = None) -> Sequence[Inspected]:
        """Summaries of all containers, stopped ones too, or of those with a label."""

    def image(self, reference: str) -> Inspected:
        """Inspect an image by name or id; raise ImageUnknown."""

    def history(self, reference: str) -> Sequence[Inspected]:
        """The steps that an image was made by, the last one first; raise ImageUnknown."""

    def file_size(self, container_id: str, path: str) -> int | None:
        """Bytes of a file seen from the container, volumes included; None when it is not there."""

    def read_file(self, container_id: str, path: str, limit: int) -> bytes | None:
        """A file's bytes, at most ``limit`` of them; None when it is not there or larger."""

    def writable_size(self, container_id: str) -> int | None:
        """Bytes of a container's writable layer; None where the engine does not tell."""

    def layer_changes(self, container_id: str) -> Sequence[LayerChange]:
        """What a container's writable layer has otherwise than its image, by path."""

    def read_proc(self, container_id: str, path: str) -> bytes | None:
        """A file below a running container's /proc, such as ``1/status``, at most 64 KiB.

        ``1`` is its first process. None where it cannot be seen.
        """

    def working_directory(self, container_id: str) -> str | None:
        """Where its first process is, such as ``/srv``; None where that cannot be seen."""

    def look(self, container_id: str, path: str) -> Entry | None:
        """A folder or file as a running container sees it, links followed.

        None when it is not there, or where it cannot be seen: in a tmpfs, at times.
        """

    def files_in(
        self, container_id: str, path: str, matches: Callable[[str], bool]
    ) -> Sequence[Entry] | None:
        """Regular files directly in a folder whose names match, sorted by name, 1000 at most.

        None where the folder cannot be seen into. No content is kept of them.
        """

    def last_lines(self, container_id: str, count: int) -> Sequence[str]:
        """The last lines of a container's log, oldest first; none where its log cannot be read."""

    def process_limits(self, container_id: str) -> bytes | None:
        """The ``/proc/PID/limits`` of a container's first process; None where it is not seen."""

    def controller(self, change: Change) -> EngineController:
        """Open the engine for an audited change."""


class EngineController(Protocol):
    """Changes containers and images' names under an open Change. Nothing is tried twice."""

    def create(self, creation: Creation) -> str:
        """Create a container and connect its networks; return its id; raise ContainerNameTaken."""

    def start(self, container_id: str) -> None:
        """Start it; nothing happens when it runs. Raise ContainerStartFailed with the reason."""

    def stop(self, container_id: str, timeout_seconds: int | None = None) -> None:
        """Stop it within its own stop time-out, or ours; nothing happens when it is stopped."""

    def restart(self, container_id: str, timeout_seconds: int | None = None) -> None:
        """Stop and start it."""

    def rename(self, container_id: str, name: str) -> None:
        """Give it another name; raise ContainerNameTaken."""

    def remove(self, container_id: str) -> None:
        """Remove a stopped container, never its volumes; nothing happens when it is gone."""

    def discard(self, container_id: str) -> None:
        """Remove one that never ran, and the volumes without a name that were made with it."""

    def set_restart_policy(self, container_id: str, policy: RestartPolicy) -> None:
        """Change its restart policy, at once."""

    def execute(
        self,
        container_id: str,
        command: Sequence[str],
        output: Output,
        stop: Callable[[], bool],
        timeout_seconds: float,
    ) -> int | None:
        """Run a command in a running container, giving its lines to ``output``.

        Return its exit code, or None when ``stop`` said to leave it or time was over: the
        process may then still run.
        """

    def wait(
        self, container_id: str, output: Output, stop: Callable[[], bool], timeout_seconds: float
    ) -> int | None:
        """Follow a container's output to its end; return its exit code, or None as above."""

    def tag(self, image_id: str, name: PushName) -> None:
        """Give an image a name, which any other image loses; raise ImageUnknown."""

    def untag(self, name: PushName) -> None:
        """Take a name away, and the image if it was the last; nothing happens when it is gone."""

    def push(
        self,
        name: PushName,
        login: RegistryLogin | None,
        hear: Callable[[Mapping[str, Any]], None],
        stop: Callable[[], bool],
    ) -> bool:
        """Push what has a name to the registry in it, giving each message of the engine.

        False when ``stop`` said to leave it. Raise ImageUnknown; what the registry refuses or does
        not answer the engine as RegistryUnauthorized, RegistryTlsUntrusted, RegistryReadOnly or
        RegistryUnreachable; else PushFailed.
        """
