"""A container engine in memory, behind the Engine port; counts changes and can die at one of them.

Its containers are created as Docker Engine 20.10 does it: from the image's settings and those of
the call, with a new volume for each place that wants one, and inspected in the engine's shapes.
"""

from __future__ import annotations

import copy
import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from itertools import count
from pathlib import PurePosixPath
from typing import Any, Literal

from service.domain.audit import Change
from service.domain.engine import (
    Creation,
    Entry,
    Inspected,
    LayerChange,
    Output,
    PushName,
    RegistryLogin,
    RestartPolicy,
)
from service.domain.errors import (
    ContainerNameTaken,
    ContainerNotRunning,
    ContainerStartFailed,
    ContainerUnknown,
    EngineRefused,
    ImageUnknown,
    PushFailed,
)
from service.domain.ulimits import IN_PROC
from tests.fakes import Mortal

Kind = Literal[
    "create",
    "start",
    "stop",
    "restart",
    "rename",
    "remove",
    "set_restart_policy",
    "execute",
    "tag",
    "untag",
    "push",
]
Hear = Callable[[Mapping[str, Any]], None]
Stop = Callable[[], bool]
Status = Literal["created", "running", "paused", "restarting", "exited", "dead"]
LOOK_SECONDS = 0.002
KILLED = 137
DEFAULT_NETWORKS = frozenset({"bridge", "host", "none"})
SHORT_ID = 12
ENGINE_LIMITS: Mapping[str, tuple[int, int]] = {"core": (0, -1), "nofile": (1024, 524288)}
"""Limits of processes that were not told others."""

DEFAULT_CONFIG: Mapping[str, Any] = {
    **dict.fromkeys(("Domainname", "User", "WorkingDir"), ""),
    **dict.fromkeys(("AttachStdin", "AttachStdout", "AttachStderr"), False),
    **dict.fromkeys(("Tty", "OpenStdin", "StdinOnce"), False),
    **dict.fromkeys(("Env", "Cmd", "Entrypoint", "Volumes", "OnBuild"), None),
}
DEFAULT_HOST_CONFIG: Mapping[str, Any] = {
    **dict.fromkeys(("ContainerIDFile", "VolumeDriver", "UTSMode", "PidMode"), ""),
    **dict.fromkeys(("Binds", "VolumesFrom", "Links", "CapAdd", "CapDrop", "SecurityOpt"), None),
    **dict.fromkeys(("AutoRemove", "Privileged", "PublishAllPorts", "ReadonlyRootfs"), False),
    **dict.fromkeys(("Memory", "MemorySwap", "CpuShares", "NanoCpus"), 0),
    "IpcMode": "private",
    "LogConfig": {"Type": "json-file", "Config": {}},
    "PortBindings": {},
    "RestartPolicy": {"Name": "no", "MaximumRetryCount": 0},
    "NetworkMode": "default",
    "Runtime": "runc",
    "ShmSize": 67108864,
    "Ulimits": [],
}
PROC: Mapping[str, bytes] = {
    "sys/kernel/core_pattern": b"core\n",
    "sys/kernel/core_uses_pid": b"0\n",
    "1/status": b"Uid:\t0\t0\t0\t0\nGid:\t0\t0\t0\t0\nGroups:\t\nCapEff:\t00000000a80425fb\n",
}
"""What the kernel tells in every container: its processes are root, with the usual capabilities."""


@dataclass(frozen=True, slots=True)
class Write:
    """One change that the engine made: what, and the name of its container."""

    kind: Kind
    container: str


@dataclass(frozen=True, slots=True)
class Ran:
    """What a program says and how it ends; ``endless`` ones run until they are stopped."""

    lines: Sequence[tuple[Literal["stdout", "stderr"], bytes]] = ()
    exit_code: int = 0
    endless: bool = False


@dataclass(slots=True)
class Box:
    """A container. ``files`` are those of its writable layer."""

    id: str
    name: str
    image_id: str
    config: dict[str, Any]
    host_config: dict[str, Any]
    networks: dict[str, dict[str, Any]]
    mounts: list[dict[str, Any]]
    status: Status = "created"
    exit_code: int = 0
    started_at: str = "0001-01-01T00:00:00Z"
    restart_count: int = 0
    stopped_in: int | None = None
    """The time-out that the last stop or restart was called with."""
    health: str | None = None
    created: float = 1.7e9
    """When, in seconds since 1970."""
    files: dict[str, bytes] = field(default_factory=dict)
    proc: dict[str, bytes] = field(default_factory=dict)
    """Files below its /proc, besides those of PROC."""
    working_directory: str | None = None
    folders: dict[str, Entry] = field(default_factory=dict)
    hidden: set[str] = field(default_factory=set)
    """Folders that nobody can see into."""
    changes: list[LayerChange] = field(default_factory=list)
    """What the writable layer has otherwise, besides files added."""
    log: list[tuple[Literal["stdout", "stderr"], bytes]] = field(default_factory=list)

    @property
    def running(self) -> bool:
        return self.status in {"running", "paused", "restarting"}

    @property
    def command(self) -> tuple[str, ...]:
        return (*(self.config["Entrypoint"] or ()), *(self.config["Cmd"] or ()))


class FakeEngine(Mortal):
    """An engine in memory; what a test arranges is no change, and never dies."""

    def __init__(self, name: str = "local", api_version: tuple[int, int] = (1, 41)) -> None:
        self.name = name
        self.api_version = api_version
        self.images: dict[str, dict[str, Any]] = {}
        self.boxes: dict[str, Box] = {}
        self.volumes: dict[str, dict[str, bytes]] = {}
        self.networks = set(DEFAULT_NETWORKS)
        self.programs: dict[tuple[str, ...], Ran | Callable[[Box], Ran]] = {}
        """What commands do: a container's own, which else runs for ever, or one of ``execute``.

        One that cannot be started raises ContainerStartFailed.
        """
        self.start_failures: dict[str, str] = {}
        """Reasons for which containers, by their names, cannot be started."""
        self.uploads: Callable[[PushName, RegistryLogin | None, Hear, Stop], bool] = _nowhere
        """What a push does."""
        self.writes: list[Write] = []
        self._mutex = threading.RLock()
        self._numbers = count(1)
        self._now = datetime(2026, 1, 1, tzinfo=UTC)

    # What a test arranges.

    def add_image(self, *tags: str, **config: object) -> str:
        """Have an image, under tags that leave their former image; give its id."""
        image_id = f"sha256:{self._new_id()}"
        for image in self.images.values():
            image["RepoTags"] = [tag for tag in image["RepoTags"] if tag not in tags]
        settings = {"Entrypoint": None, "Cmd": None, "Env": None, "Labels": None, **config}
        self.images[image_id] = {
            "Id": image_id,
            "RepoTags": list(tags),
            "RepoDigests": [],
            "Os": "linux",
            "Architecture": "amd64",
            "Config": settings,
        }
        return image_id

    def run(self, name: str, image: str, *networks: str, **body: object) -> Box:
        """Have a container that runs; ``body`` as for a create."""
        box = self.make(name, {"Image": image, **body}, {network: {} for network in networks})
        self.launch(box)
        return box

    def box(self, reference: str) -> Box:
        """The container of that name, id or beginning of an id; raise ContainerUnknown."""
        wanted = reference.removeprefix("/")
        named = [box for box in self.boxes.values() if wanted in {box.name, box.id}]
        begun = [box for box in self.boxes.values() if wanted and box.id.startswith(wanted)]
        for box in named or begun:
            return box
        raise ContainerUnknown(f"The engine '{self.name}' has no container '{reference}'.")

    def write_file(self, reference: str, path: str, content: bytes) -> None:
        """Put a file where the container sees it: into a volume, if one is mounted there."""
        files, inner = self._files(self.box(reference), path)
        files[inner] = content

    def end(self, reference: str, exit_code: int = 0) -> None:
        """Let a container's process end by itself."""
        box = self.box(reference)
        box.status, box.exit_code = "exited", exit_code

    def reboot(self) -> None:
        """End with all containers and start anew, as an engine does with their policies."""
        self.revive()
        ran = [box for box in self.boxes.values() if box.running]
        for box in self.boxes.values():
            box.status = "exited" if box.running else box.status
        for box in self.boxes.values():
            policy = box.host_config["RestartPolicy"]["Name"]
            wanted = policy == "always" or (policy == "unless-stopped" and box in ran)
            if wanted and box.status == "exited":
                self.launch(box)

    # The port.

    def container(self, reference: str) -> Inspected:
        with self._reading():
            return self._inspected(self.box(reference))

    def containers(self, label: str | None = None) -> Sequence[Inspected]:
        with self._reading():
            found = [box for box in self.boxes.values() if label is None or _has(box, label)]
            return [self._summary(box) for box in reversed(found)]

    def image(self, reference: str) -> Inspected:
        with self._reading():
            return copy.deepcopy(self._image(reference))

    def history(self, reference: str) -> Sequence[Inspected]:
        with self._reading():
            return copy.deepcopy(self._image(reference).get("History", []))

    def file_size(self, container_id: str, path: str) -> int | None:
        content = self._content(container_id, path)
        return None if content is None else len(content)

    def read_file(self, container_id: str, path: str, limit: int) -> bytes | None:
        content = self._content(container_id, path)
        return None if content is None or len(content) > limit else content

    def writable_size(self, container_id: str) -> int | None:
        with self._reading():
            return sum(map(len, self.box(container_id).files.values()))

    def layer_changes(self, container_id: str) -> Sequence[LayerChange]:
        with self._reading():
            box = self.box(container_id)
            added = [LayerChange(path, "added") for path in box.files]
            return sorted([*added, *box.changes], key=lambda change: change.path)

    def process_limits(self, container_id: str) -> bytes | None:
        with self._reading():
            box = self.box(container_id)
            asked = {e["Name"]: (e["Soft"], e["Hard"]) for e in box.host_config["Ulimits"] or ()}
            rows = {**ENGINE_LIMITS, **asked}.items() if box.running else ()
            lines = (
                f"{IN_PROC[name]:26}{_shown(s):21}{_shown(h):21}units" for name, (s, h) in rows
            )
            return "\n".join(lines).encode() if box.running else None

    def last_lines(self, container_id: str, count: int) -> Sequence[str]:
        with self._reading():
            return [line.decode() for _, line in self.box(container_id).log[-count:]]

    def read_proc(self, container_id: str, path: str) -> bytes | None:
        if path == "1/limits":
            return self.process_limits(container_id)
        with self._reading():
            box = self.box(container_id)
            return {**PROC, **box.proc}.get(path) if box.running else None

    def working_directory(self, container_id: str) -> str | None:
        with self._reading():
            return self.box(container_id).working_directory

    def look(self, container_id: str, path: str) -> Entry | None:
        with self._reading():
            return self.box(container_id).folders.get(path)

    def files_in(
        self, container_id: str, path: str, matches: Callable[[str], bool]
    ) -> Sequence[Entry] | None:
        with self._reading():
            box = self.box(container_id)
            if path in box.hidden:
                return None
            places = [PurePosixPath(one) for one in sorted(box.files)]
            mine = [one for one in places if str(one.parent) == path and matches(one.name)]
            return [file_entry(one.name, len(box.files[str(one)])) for one in mine]

    def controller(self, change: Change) -> FakeController:
        return FakeController(self, change)

    # For the controller.

    @contextmanager
    def write(self, kind: Kind, name: str) -> Iterator[None]:
        """Make a change, dying around it as ordered; a refusal is no change."""
        with self._mutex:
            self.strike("before")
            yield
            self.writes.append(Write(kind, name))
            self.strike("after")

    @contextmanager
    def _reading(self) -> Iterator[None]:
        with self._mutex:
            self.pulse()
            yield

    # How containers come to be.

    def make(
        self, name: str, body: Mapping[str, Any], networks: Mapping[str, Mapping[str, Any]]
    ) -> Box:
        """Create a container."""
        self.require_free(name)
        image = self._image(body["Image"])
        box_id = self._new_id()
        host_config = {**copy.deepcopy(dict(DEFAULT_HOST_CONFIG)), **body.get("HostConfig", {})}
        config = {k: v for k, v in body.items() if k not in {"HostConfig", "NetworkingConfig"}}
        box = Box(
            id=box_id,
            name=name,
            image_id=image["Id"],
            config=_merged(config, image["Config"], box_id[:SHORT_ID]),
            host_config=host_config,
            networks={},
            mounts=[],
        )
        box.mounts = self._mounted(box)
        for network, endpoint in networks.items() or self._default_networks(host_config):
            self._connect(box, network, endpoint)
        self.boxes[box_id] = box
        return box

    def _default_networks(self, host_config: Mapping[str, Any]) -> Sequence[tuple[str, Any]]:
        mode = host_config["NetworkMode"]
        if mode.startswith("container:"):
            return []
        return [("bridge" if mode == "default" else mode, {})]

    def _connect(self, box: Box, network: str, endpoint: Mapping[str, Any]) -> None:
        if network not in self.networks:
            raise EngineRefused(f"The engine '{self.name}' refuses: network {network} not found.")
        if network in DEFAULT_NETWORKS and endpoint.get("Aliases"):
            raise EngineRefused(f"The engine '{self.name}' refuses: an alias in {network}.")
        empty = dict.fromkeys(("IPAMConfig", "Links", "Aliases", "DriverOpts"))
        box.networks[network] = {**empty, **copy.deepcopy(dict(endpoint))}

    def _mounted(self, box: Box) -> list[dict[str, Any]]:
        host_config = box.host_config
        points: dict[str, dict[str, Any]] = {}
        for entry in host_config["VolumesFrom"] or ():
            reference, _, mode = entry.partition(":")
            for mount in self.box(reference).mounts:
                points[mount["Destination"]] = {**mount, "RW": mount["RW"] and mode != "ro"}
        for bind in host_config["Binds"] or ():
            source, place, mode = (*bind.split(":"), "")[:3]
            points[place] = self._point(source, place, mode)
        for entry in host_config.get("Mounts") or ():
            points[entry["Target"]] = self._entry_point(entry)
        for place in box.config["Volumes"] or ():
            if place not in points:
                points[place] = {**self._point(self._new_id(), place, ""), "Mode": ""}
        return list(points.values())

    def _entry_point(self, entry: Mapping[str, Any]) -> dict[str, Any]:
        place, mode = entry["Target"], "ro" if entry.get("ReadOnly") else ""
        if entry["Type"] == "tmpfs":
            return {"Type": "tmpfs", "Source": "", "Destination": place, "Mode": "", "RW": True}
        return self._point(entry.get("Source") or self._new_id(), place, mode)

    def _point(self, source: str, place: str, mode: str) -> dict[str, Any]:
        common = {"Destination": place, "Mode": mode or "z", "RW": mode != "ro"}
        if source.startswith("/"):
            return {"Type": "bind", "Source": source, **common, "Propagation": "rprivate"}
        self.volumes.setdefault(source, {})
        path = f"/volumes/{source}/_data"
        volume = {"Type": "volume", "Name": source, "Source": path, "Driver": "local"}
        return {**volume, **common, "Propagation": ""}

    def launch(self, box: Box) -> None:
        """Start a container, and let its program run."""
        reason = self.start_failures.get(box.name) or self._clash(box)
        if reason:
            raise ContainerStartFailed(f"The engine '{self.name}' refuses: {reason}.")
        ran = self.ran(box, box.command)
        self._now += timedelta(seconds=1)
        box.started_at = self._now.isoformat().replace("+00:00", "Z")
        box.status, box.exit_code = "running", 0
        if ran is not None:
            box.log.extend(ran.lines)
            if not ran.endless:
                box.status, box.exit_code = "exited", ran.exit_code

    def ran(self, box: Box, command: tuple[str, ...]) -> Ran | None:
        """What a command does there, None when it is not known; raise ContainerStartFailed."""
        program = self.programs.get(command)
        return program(box) if callable(program) else program

    def _clash(self, box: Box) -> str | None:
        """What another running container has that can be had once."""
        for other in self.boxes.values():
            if other is not box and other.running:
                ports = _ports(box) & _ports(other)
                if ports:
                    return f"driver failed: port {min(ports)} is already allocated"
                if _addresses(box) & _addresses(other):
                    return "Address already in use"
        return None

    def require_free(self, name: str) -> None:
        """Raise ContainerNameTaken when a container has that name."""
        for box in self.boxes.values():
            if box.name == name:
                raise ContainerNameTaken(
                    f"The engine '{self.name}' refuses: Conflict. The container name \"/{name}\" "
                    f'is already in use by container "{box.id}".'
                )

    def _image(self, reference: str) -> dict[str, Any]:
        tag = reference if ":" in reference else f"{reference}:latest"
        for image_id, image in self.images.items():
            hexadecimal = image_id.removeprefix("sha256:")
            wanted = reference.removeprefix("sha256:")
            if tag in image["RepoTags"] or (wanted and hexadecimal.startswith(wanted)):
                return image
        raise ImageUnknown(f"The engine '{self.name}' has no image '{reference}'.")

    def _new_id(self) -> str:
        return sha256(str(next(self._numbers)).encode()).hexdigest()

    # How they look.

    def _inspected(self, box: Box) -> Inspected:
        path, *arguments = box.command or ("sh",)
        found = {
            "Id": box.id,
            "Name": f"/{box.name}",
            "Image": box.image_id,
            "Created": "2026-01-01T00:00:00Z",
            "Path": path,
            "Args": arguments,
            "State": self._state(box),
            "RestartCount": box.restart_count,
            "ExecIDs": None,
            "Driver": "overlay2",
            "Platform": "linux",
            "Config": box.config,
            "HostConfig": self._host_config(box),
            "Mounts": box.mounts,
            "NetworkSettings": {"Ports": {}, "Networks": self._networks(box)},
        }
        return copy.deepcopy(found)

    def _state(self, box: Box) -> dict[str, Any]:
        state = {
            "Status": box.status,
            "Running": box.running,
            "Paused": box.status == "paused",
            "Restarting": box.status == "restarting",
            "Dead": box.status == "dead",
            "OOMKilled": False,
            "Error": "",
            "Pid": 4711 if box.running else 0,
            "ExitCode": box.exit_code,
            "StartedAt": box.started_at,
            "FinishedAt": "0001-01-01T00:00:00Z",
        }
        return state | ({"Health": {"Status": box.health}} if box.health else {})

    def _host_config(self, box: Box) -> dict[str, Any]:
        pairs = (link.split(":") for link in box.host_config["Links"] or ())
        links = [f"/{source}:/{box.name}/{alias}" for source, alias in pairs]
        return {**box.host_config, "Links": links or None}

    def _networks(self, box: Box) -> dict[str, Any]:
        networks = copy.deepcopy(box.networks)
        for name, endpoint in networks.items():
            endpoint["NetworkID"] = sha256(name.encode()).hexdigest()
            if box.running and name not in DEFAULT_NETWORKS:
                endpoint["Aliases"] = [*(endpoint["Aliases"] or ()), box.id[:SHORT_ID]]
        return networks

    def _summary(self, box: Box) -> Inspected:
        return {
            "Id": box.id,
            "Names": [f"/{box.name}"],
            "Created": box.created,
            "Image": box.config["Image"],
            "ImageID": box.image_id,
            "Command": " ".join(box.command),
            "State": box.status,
            "Labels": dict(box.config["Labels"] or {}),
            "Mounts": copy.deepcopy(box.mounts),
            "HostConfig": {"NetworkMode": box.host_config["NetworkMode"]},
            "NetworkSettings": {"Networks": self._networks(box)},
        }

    def _content(self, container_id: str, path: str) -> bytes | None:
        with self._reading():
            files, inner = self._files(self.box(container_id), path)
            return files.get(inner)

    def _files(self, box: Box, path: str) -> tuple[dict[str, bytes], str]:
        places = [m for m in box.mounts if path.startswith(f"{m['Destination'].rstrip('/')}/")]
        if not places:
            return box.files, path
        mount = max(places, key=lambda m: len(m["Destination"]))
        key = mount.get("Name") or mount["Source"]
        return self.volumes.setdefault(key, {}), path.removeprefix(mount["Destination"])


class FakeController:
    """Changes the containers of a FakeEngine with the checks an engine makes."""

    def __init__(self, engine: FakeEngine, change: Change) -> None:
        self._engine = engine
        self._change = change

    def create(self, creation: Creation) -> str:
        self._change.require_open()
        engine = self._engine
        engine.pulse()
        json.dumps(creation.body)
        networks = {one.network: one.endpoint for one in creation.networks}
        with engine.write("create", creation.name):
            return engine.make(creation.name, creation.body, networks).id

    def start(self, container_id: str) -> None:
        box = self._box(container_id)
        if box.status == "paused":
            raise ContainerStartFailed("cannot start a paused container, try unpause instead")
        if not box.running:
            with self._engine.write("start", box.name):
                self._engine.launch(box)

    def stop(self, container_id: str, timeout_seconds: int | None = None) -> None:
        box = self._box(container_id)
        if box.running:
            with self._engine.write("stop", box.name):
                self._stop(box, timeout_seconds)

    def restart(self, container_id: str, timeout_seconds: int | None = None) -> None:
        box = self._box(container_id)
        with self._engine.write("restart", box.name):
            self._stop(box, timeout_seconds, restarting=True)
            self._engine.launch(box)

    def rename(self, container_id: str, name: str) -> None:
        box = self._box(container_id)
        if box.name == name:
            raise EngineRefused("Renaming a container with the same name as its current name")
        self._engine.require_free(name)
        with self._engine.write("rename", box.name):
            box.name = name

    def remove(self, container_id: str) -> None:
        try:
            box = self._box(container_id)
        except ContainerUnknown:
            return
        if box.running:
            raise EngineRefused(f"You cannot remove a running container {box.id}.")
        with self._engine.write("remove", box.name):
            del self._engine.boxes[box.id]

    def discard(self, container_id: str) -> None:
        self.remove(container_id)

    def set_restart_policy(self, container_id: str, policy: RestartPolicy) -> None:
        box = self._box(container_id)
        if box.host_config["AutoRemove"]:
            raise EngineRefused("Restart policy cannot be updated because AutoRemove is enabled.")
        with self._engine.write("set_restart_policy", box.name):
            told = {"Name": policy.name, "MaximumRetryCount": policy.maximum_retry_count}
            box.host_config["RestartPolicy"] = told

    def tag(self, image_id: str, name: PushName) -> None:
        self._change.require_open()
        image = self._engine.image(image_id)
        with self._engine.write("tag", str(name)):
            for each in self._engine.images.values():
                each["RepoTags"] = [tag for tag in each["RepoTags"] if tag != str(name)]
            self._engine.images[image["Id"]]["RepoTags"].append(str(name))

    def untag(self, name: PushName) -> None:
        self._change.require_open()
        engine = self._engine
        with suppress(ImageUnknown), engine.write("untag", str(name)):
            image = engine.images[engine.image(str(name))["Id"]]
            image["RepoTags"].remove(str(name))
            if not image["RepoTags"]:
                del engine.images[image["Id"]]

    def push(self, name: PushName, login: RegistryLogin | None, hear: Hear, stop: Stop) -> bool:
        self._change.require_open()
        self._engine.image(str(name))
        with self._engine.write("push", str(name)):
            return self._engine.uploads(name, login, hear, stop)

    def execute(
        self,
        container_id: str,
        command: Sequence[str],
        output: Output,
        stop: Callable[[], bool],
        timeout_seconds: float,
    ) -> int | None:
        box = self._box(container_id)
        if box.status != "running":
            raise ContainerNotRunning(f"Container {box.id} is not running")
        with self._engine.write("execute", box.name):
            ran = self._ran(box, tuple(command))
            for name, line in ran.lines:
                output(name, line)
        return self._awaited(lambda: not ran.endless, lambda: ran.exit_code, stop, timeout_seconds)

    def wait(
        self, container_id: str, output: Output, stop: Callable[[], bool], timeout_seconds: float
    ) -> int | None:
        box = self._box(container_id)
        for name, line in list(box.log):
            output(name, line)
        ended = lambda: box.status in {"exited", "dead"}  # noqa: E731
        return self._awaited(ended, lambda: box.exit_code, stop, timeout_seconds)

    def _box(self, container_id: str) -> Box:
        self._change.require_open()
        self._engine.pulse()
        return self._engine.box(container_id)

    def _stop(self, box: Box, timeout_seconds: int | None, *, restarting: bool = False) -> None:
        box.status, box.exit_code, box.stopped_in = "exited", KILLED, timeout_seconds
        if box.host_config["AutoRemove"] and not restarting:
            self._engine.boxes.pop(box.id, None)

    def _ran(self, box: Box, command: tuple[str, ...]) -> Ran:
        said = f"OCI runtime exec failed: {command[0]}: executable file not found in $PATH"
        with suppress(ContainerStartFailed):
            ran = self._engine.ran(box, command)
            if ran is not None:
                return ran
        return Ran([("stdout", said.encode())], 126)

    def _awaited(
        self,
        ended: Callable[[], bool],
        exit_code: Callable[[], int],
        stop: Callable[[], bool],
        timeout_seconds: float,
    ) -> int | None:
        deadline = time.monotonic() + timeout_seconds
        while not ended():
            if stop() or time.monotonic() > deadline:
                return None
            self._engine.pulse()
            time.sleep(LOOK_SECONDS)
        return exit_code()


def file_entry(name: str, size: int) -> Entry:
    """A file of root."""
    return Entry(name, False, True, 0o644, size, datetime(2026, 1, 1, tzinfo=UTC), 0, 0)  # noqa: FBT003


def folder_entry(path: str, mode: int = 0o755, uid: int | None = 0, gid: int | None = 0) -> Entry:
    """A folder."""
    return Entry(path, True, False, mode, 0, datetime(2026, 1, 1, tzinfo=UTC), uid, gid)  # noqa: FBT003


def _nowhere(*_: object) -> bool:
    raise PushFailed("There is no registry.")


def _shown(limit: int) -> str:
    return "unlimited" if limit == -1 else str(limit)


def _merged(config: Mapping[str, Any], image: Mapping[str, Any], short_id: str) -> dict[str, Any]:
    """Settings of a container: the call's, and the image's where the call has none."""
    merged = {**DEFAULT_CONFIG, "Hostname": short_id, **config}
    merged["Hostname"] = merged["Hostname"] or short_id
    if not config.get("Entrypoint"):
        merged["Cmd"] = config.get("Cmd") or image["Cmd"]
        merged["Entrypoint"] = image["Entrypoint"]
    if config.get("Entrypoint") == [""]:
        merged["Entrypoint"] = None
    for name in ("User", "WorkingDir", "Healthcheck", "StopSignal"):
        if name in image:
            merged[name] = config.get(name) or image[name]
    for name in ("Labels", "ExposedPorts", "Volumes"):
        merged[name] = {**(image.get(name) or {}), **(config.get(name) or {})} or None
    own = config.get("Env") or []
    names = {entry.partition("=")[0] for entry in own}
    inherited = [e for e in image["Env"] or () if e.partition("=")[0] not in names]
    merged["Env"] = [*own, *inherited] or None
    return copy.deepcopy(merged)


def _has(box: Box, label: str) -> bool:
    name, equals, value = label.partition("=")
    labels = box.config["Labels"] or {}
    return name in labels and (not equals or labels[name] == value)


def _ports(box: Box) -> set[str]:
    bindings = (box.host_config["PortBindings"] or {}).values()
    return {one["HostPort"] for row in bindings for one in row or () if one.get("HostPort")}


def _addresses(box: Box) -> set[tuple[str, str]]:
    asked = ((n, (e.get("IPAMConfig") or {}).get("IPv4Address")) for n, e in box.networks.items())
    return {(name, address) for name, address in asked if address}
