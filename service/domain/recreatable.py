"""Finding out whether a container can be recreated, before anything is touched."""

from __future__ import annotations

import posixpath
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from service.domain.collectable import restart_policy
from service.domain.concurrency import spread
from service.domain.containers import Allowed
from service.domain.engine import Creation, Engine, Inspected, LayerChange, RestartPolicy
from service.domain.errors import (
    ContainerAutoRemove,
    ContainerHasDependents,
    ContainerImageGone,
    ContainerNotRunning,
    ContainerUnknown,
    ImageUnknown,
    SwarmManaged,
    WritableLayerChanged,
)
from service.domain.recreation import Changes, creation_of, volume_sources
from service.domain.ulimits import Ulimit, configured

OnWritableLayer = Literal["refuse", "discard"]
SWARM_LABEL = "com.docker.swarm.task.id"
COMPOSE_SERVICE = "com.docker.compose.service"
COMPOSE_FILES = "com.docker.compose.project.config_files"
PATHS_LISTED = 100

ENGINES_OWN = frozenset(
    {
        *("/.dockerenv", "/.dockerinit", "/dev", "/dev/console", "/dev/pts", "/dev/shm"),  # noqa: S108
        *("/dev/mqueue", "/proc", "/sys", "/etc/hostname", "/etc/hosts", "/etc/mtab"),
        *("/etc/resolv.conf", "/run/secrets", "/sbin/docker-init", "/dev/init"),
    }
)
"""What engines put into the layers of all their containers, or mount something on."""


@dataclass(frozen=True, slots=True)
class Recreatable:
    """A container that may be recreated, and what will be created. ``name`` has no slash."""

    container: Inspected
    creation: Creation
    policy: RestartPolicy
    warnings: Sequence[str]

    @property
    def container_id(self) -> str:
        """Its id, which goes."""
        return str(self.container["Id"])

    @property
    def name(self) -> str:
        """Its name, which stays."""
        return self.creation.name


def examine(
    one: Allowed, limits: Sequence[Ulimit], on_writable_layer: OnWritableLayer
) -> Recreatable:
    """Look at a container whose ulimits are to be others; raise a Conflict, or as Engine does."""
    engine, container = one.engine, one.engine.container(one.container_id)
    _require_running(container, one.name)
    _require_ours(container, one.name)
    _require_nobody_depends(engine, container, one.name)
    written = own_changes(container, engine.layer_changes(one.container_id))
    if written and on_writable_layer == "refuse":
        raise _layer_changed(one.name, written)
    creation = _creation(engine, container, one.name, limits)
    warnings = [*_warnings(container, creation), *_lost(written)]
    return Recreatable(container, creation, restart_policy(container), warnings)


def own_changes(container: Inspected, changes: Sequence[LayerChange]) -> list[LayerChange]:
    """Leave out what the engine itself made: mount points, the working directory, its init."""
    made = set(_made_by_engine(container))
    above = {parent for place in made for parent in _above(place)}
    theirs = [
        one
        for one in changes
        if one.path not in made and not (one.kind != "deleted" and one.path in above)
    ]
    # A folder is listed with what changed in it.
    folders = {parent for one in theirs for parent in _above(one.path)}
    return [one for one in theirs if one.kind != "modified" or one.path not in folders]


def _made_by_engine(container: Inspected) -> Iterator[str]:
    yield from ENGINES_OWN
    host_config, config = container["HostConfig"], container["Config"]
    places = [mount["Destination"] for mount in container.get("Mounts") or ()]
    places += [*(host_config.get("Tmpfs") or ()), config.get("WorkingDir") or "/"]
    yield from (posixpath.normpath(place) for place in places)


def _above(path: str) -> Iterator[str]:
    while (parent := posixpath.dirname(path)) != path:
        yield parent
        path = parent


def _require_running(container: Inspected, name: str) -> None:
    state = container["State"]
    if state["Status"] != "running" or state.get("Paused") or state.get("Restarting"):
        raise ContainerNotRunning(
            f"The container '{name}' is {state['Status']}, so that a new one could not be proven "
            f"to run as the old one did. Nothing was changed. Look at: docker inspect {name}"
        )


def _require_ours(container: Inspected, name: str) -> None:
    if container["HostConfig"].get("AutoRemove"):
        raise ContainerAutoRemove(
            f"The container '{name}' was started with --rm: it would vanish when it stops, and "
            "nothing could bring it back. Nothing was changed. Recreate it without --rm."
        )
    if (container["Config"].get("Labels") or {}).get(SWARM_LABEL):
        raise SwarmManaged(
            f"The container '{name}' belongs to a swarm service, which would replace it. Nothing "
            "was changed. Use: docker service update --ulimit-add NAME=SOFT:HARD SERVICE"
        )


def _require_nobody_depends(engine: Engine, container: Inspected, name: str) -> None:
    ids = [one["Id"] for one in engine.containers() if one["Id"] != container["Id"]]
    others = (other for other in spread(lambda each: _inspected(engine, each), ids) if other)
    found = sorted(_name(other) for other in others if _depends(other, container))
    if found:
        raise ContainerHasDependents(
            f"The containers {', '.join(found)} use the network, processes, volumes or links of "
            f"'{name}', and would hold on to the old one. Nothing was changed. Remove them first, "
            "and create them again afterwards.",
            {"dependents": found},
        )


def _inspected(engine: Engine, container_id: str) -> Inspected | None:
    try:
        return engine.container(container_id)
    except ContainerUnknown:  # removed since the list was made
        return None


def _depends(other: Inspected, container: Inspected) -> bool:
    host_config = other["HostConfig"]
    modes = [str(host_config.get(key) or "") for key in ("NetworkMode", "PidMode", "IpcMode")]
    joined = [mode.removeprefix("container:") for mode in modes if mode.startswith("container:")]
    linked = [link.partition(":")[0].lstrip("/") for link in host_config.get("Links") or ()]
    return any(_is(one, container) for one in (*joined, *volume_sources(other), *linked))


def _is(reference: str, container: Inspected) -> bool:
    is_id = len(reference) >= 12 and str(container["Id"]).startswith(reference)  # noqa: PLR2004
    return is_id or reference == _name(container)


def _name(container: Inspected) -> str:
    return str(container["Name"]).lstrip("/")


def _layer_changed(name: str, written: Sequence[LayerChange]) -> WritableLayerChanged:
    return WritableLayerChanged(
        f"The container '{name}' has written {len(written)} paths outside of its volumes, which a "
        'new one would not have. Nothing was changed. With "on_writable_layer": "discard" they '
        f"are lost; see GET /v1/containers/{name}/changes, and docker cp to keep them.",
        {"paths": [one.path for one in written][:PATHS_LISTED]},
    )


def _creation(
    engine: Engine, container: Inspected, name: str, limits: Sequence[Ulimit]
) -> Creation:
    try:
        image = engine.image(container["Image"])
    except ImageUnknown as error:
        raise ContainerImageGone(
            f"The image of the container '{name}' is no longer on the engine, so that no other one "
            f"could be made of it. Nothing was changed. Get it back: {container['Config']['Image']}"
        ) from error
    sources = [
        found
        for found in (_inspected(engine, one) for one in volume_sources(container))
        if found is not None
    ]
    entries = [{"Name": one.name, "Soft": one.soft, "Hard": one.hard} for one in limits]
    changes = Changes(host_config={"Ulimits": entries})
    return creation_of(container, image, name=name, sources=sources, changes=changes)


def _warnings(container: Inspected, creation: Creation) -> Iterator[str]:
    config = container["Config"]
    labels = config.get("Labels") or {}
    if service := labels.get(COMPOSE_SERVICE):
        limits = configured({"HostConfig": creation.body["HostConfig"]})
        values = ", ".join(f"{one.name}: {{soft: {one.soft}, hard: {one.hard}}}" for one in limits)
        yield (
            "Compose sets the limits back when it recreates the container. Write them into "
            f"{labels.get(COMPOSE_FILES) or 'its file'}, at services: {service}: "
            f"ulimits: {{{values}}}"
        )
    if creation.body["Image"] != config["Image"]:
        yield f"The name {config['Image']} is another image by now: the old one's id is used."
    for mount in _named_now(container, creation.body["HostConfig"].get("Mounts") or ()):
        yield (
            f"The anonymous volume at {mount} appears by its name from now on: it stays where the "
            "container is removed with `docker rm --volumes`."
        )


def _named_now(container: Inspected, mounts: Collection[Inspected]) -> list[str]:
    told = {entry["Target"] for entry in container["HostConfig"].get("Mounts") or ()}
    volumes = (mount for mount in mounts if mount["Type"] == "volume")
    return sorted(mount["Target"] for mount in volumes if mount["Target"] not in told)


def _lost(written: Sequence[LayerChange]) -> Iterator[str]:
    if written:
        shown = ", ".join(one.path for one in written[:5])
        yield f"{len(written)} paths of the writable layer are lost, among them {shown}."
