"""Finding out whether a registry's container can be collected, before anything is touched."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from service.domain.engine import Engine, Inspected, RestartPolicy
from service.domain.errors import CacheShared, ContainerUnknown, NotCollectable
from service.domain.ports import BlobCache
from service.domain.registry_command import (
    CONFIG_VARIABLE,
    RegistryCommand,
    environment_of,
    registry_command,
)
from service.domain.registry_files import ParseConfiguration, RegistryFiles, registry_files

Mode = Literal["read-only", "stopped", "live"]
MODES: tuple[Mode, ...] = ("read-only", "stopped", "live")

CONFIG_LIMIT = 1024 * 1024
STORAGE_VARIABLE = "REGISTRY_STORAGE"
_UNTAGGED_IS_SAFE = (3, 0)


@dataclass(frozen=True, slots=True)
class Collectable:
    """A registry's container, with what is needed to collect in it and to put it back."""

    container_id: str
    name: str
    image_id: str
    program: str
    config_path: str
    files: RegistryFiles
    policy: RestartPolicy

    def command(self, *, dry_run: bool, delete_untagged: bool) -> list[str]:
        """The collector's command line."""
        flags = ["--dry-run"] * dry_run + ["--delete-untagged"] * delete_untagged
        return [self.program, "garbage-collect", *flags, self.config_path]


def examine(
    engine: Engine,
    reference: str,
    parse: ParseConfiguration,
    cache: BlobCache | None = None,
    *,
    stops: bool,
) -> Collectable:
    """Look at a registry's container; ``stops`` when the run will stop it.

    ``cache`` is the one outside of the registry that is configured. Raise ContainerUnknown,
    NotCollectable, CacheShared, CacheUnreachable or EngineUnreachable.
    """
    container = _configured(engine, reference)
    name = str(container["Name"]).lstrip("/")
    _require_running(container, name)
    command = registry_command(container)
    config_path = _config_path(command, name)
    files = _files(engine, container, config_path, parse)
    if files.shared_cache:
        require_cache(cache, name).check()
    if stops or files.shared_cache:
        # Without its own cache it is stopped in mode live, too, while that one is emptied.
        _require_stoppable(engine, container, name, live=not files.shared_cache)
    if stops:
        _require_mounted(files, container, name)
    return Collectable(
        container_id=container["Id"],
        name=name,
        image_id=container["Image"],
        program=command.program,
        config_path=config_path,
        files=files,
        policy=restart_policy(container),
    )


def restart_policy(container: Inspected) -> RestartPolicy:
    """The restart policy of an inspected container."""
    policy = container["HostConfig"].get("RestartPolicy") or {}
    return RestartPolicy(policy.get("Name") or "no", policy.get("MaximumRetryCount") or 0)


def parse_version(text: str | None) -> tuple[int, ...] | None:
    """Read ``2.8.2``, ``v3.0.0-rc.1`` or ``v2.8.3+unknown``; None when it tells nothing."""
    match = re.search(r"(\d+)\.(\d+)(?:\.(\d+))?", text or "")
    return tuple(int(part) for part in match.groups("0")) if match else None


def _configured(engine: Engine, reference: str) -> Inspected:
    try:
        return engine.container(reference)
    except ContainerUnknown as error:
        raise ContainerUnknown(
            f"The engine '{engine.name}' has no container '{reference}', which the settings name "
            "as the registry's. Nothing was changed. Set the registry's container "
            "(REGISTRY_ADMIN_REGISTRY_CONTAINER) to the name of its container."
        ) from error


def untagged_is_safe(version: str | None) -> bool:
    """Tell whether ``--delete-untagged`` spares the children of tagged indexes.

    Before 3.0 it removes them, and in 3.0.0-alpha.1. A version that is not known is taken for an
    old one.
    """
    parsed = parse_version(version)
    return parsed is not None and parsed >= _UNTAGGED_IS_SAFE and "-alpha" not in str(version)


def _require_running(container: Inspected, name: str) -> None:
    state = container["State"]
    if not state.get("Running") or state.get("Restarting") or state.get("Paused"):
        raise NotCollectable(
            f"The container '{name}' is {state.get('Status', 'not running')}. A collection needs "
            f"the registry running. Nothing was changed. Look at: docker logs {name}"
        )


def _require_stoppable(engine: Engine, container: Inspected, name: str, *, live: bool) -> None:
    otherwise = ", or use mode live at its risk" if live else ""
    if container["HostConfig"].get("AutoRemove"):
        raise NotCollectable(
            f"The container '{name}' was started with --rm and would vanish when it is stopped. "
            f"Nothing was changed. Recreate it without --rm{otherwise}."
        )
    if (container["Config"].get("Labels") or {}).get("com.docker.swarm.task.id"):
        raise NotCollectable(
            f"The container '{name}' belongs to a swarm service, which would replace it when it is "
            f"stopped. Nothing was changed. Run it outside of the swarm{otherwise}."
        )
    sharing = _sharing_network(engine, container)
    if sharing:
        raise NotCollectable(
            f"The containers {', '.join(sharing)} use the network of '{name}' and would lose it. "
            f"Nothing was changed. Stop them first{otherwise}."
        )


def require_cache(cache: BlobCache | None, name: str) -> BlobCache:
    """Give the cache of the registry in the container ``name``; raise CacheShared."""
    if cache is None:
        raise CacheShared(
            f"The registry in '{name}' caches in Redis what it knows of blobs, which outlives its "
            "restart: after a collection it would go on to vouch for layers that are gone. Nothing "
            "was changed. Set redis_url of the registry to that Redis, or have the registry cache "
            "in memory (storage.cache.blobdescriptor: inmemory)."
        )
    return cache


def _require_mounted(files: RegistryFiles, container: Inspected, name: str) -> None:
    """Refuse a storage that a container of ours would not see."""
    if files.root is None:
        return
    places = [
        str(mount["Destination"]).rstrip("/")
        for mount in container.get("Mounts") or []
        if mount["Type"] in {"volume", "bind"}
    ]
    if not any(f"{files.root}/".startswith(f"{place}/") for place in places):
        raise NotCollectable(
            f"The storage of '{name}', {files.root}, is in no volume, so that nothing could serve "
            "or collect in its place. Nothing was changed. Move it to a volume, or use mode live "
            "at its risk."
        )


def _sharing_network(engine: Engine, container: Inspected) -> list[str]:
    mode = f"container:{container['Id']}"
    found = [one for one in engine.containers() if one["HostConfig"]["NetworkMode"] == mode]
    return sorted(str(one["Names"][0]).lstrip("/") for one in found)


def _config_path(command: RegistryCommand, name: str) -> str:
    if command.config_path is None:
        raise NotCollectable(
            f"The container '{name}' does not look like a registry: no configuration file is in "
            f"its command, nor {CONFIG_VARIABLE} in its environment. Nothing was changed. Check "
            "the registry's 'container' setting."
        )
    return command.config_path


def _files(
    engine: Engine, container: Inspected, config_path: str, parse: ParseConfiguration
) -> RegistryFiles:
    body = engine.read_file(container["Id"], config_path, CONFIG_LIMIT)
    try:
        document = parse(body) if body is not None else None
    except ValueError:
        document = None
    if document is None or not _is_registry(document, environment_of(container)):
        raise NotCollectable(
            f"The file {config_path} in the container is missing or no registry configuration. "
            "Nothing was changed. Check the registry's 'container' setting."
        )
    return registry_files(document, environment_of(container), parse)


def _is_registry(document: Mapping[str, Any], environment: Mapping[str, str]) -> bool:
    """Tell a registry's configuration, whose storage the environment may hold, from another's."""
    stores = "storage" in document or any(name.startswith(STORAGE_VARIABLE) for name in environment)
    return "version" in document and stores
