"""How a registry keeps its files, read from its configuration and its container's environment.

Rules of distribution 2.8 and 3.x: every option can be overridden by an environment variable
named after its path, ``storage.filesystem.rootdirectory`` by
``REGISTRY_STORAGE_FILESYSTEM_ROOTDIRECTORY``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from service.domain.reference import Digest

DEFAULT_ROOT = "/var/lib/registry"
_NOT_A_DRIVER = frozenset({"cache", "delete", "maintenance", "redirect", "tag"})


@dataclass(frozen=True, slots=True)
class RegistryFiles:
    """What collection must know of a registry's configuration."""

    driver: str
    root: str | None
    """The directory of the storage in the container; None where it is no file system."""
    shared_cache: bool
    """True where blob descriptors are cached in Redis, which outlives a restart."""

    def blob_path(self, digest: Digest) -> str | None:
        """Where a blob's bytes are in the container, or None where they cannot be seen."""
        if self.root is None:
            return None
        return f"{self.root}/docker/registry/v2/blobs/sha256/{digest.hex[:2]}/{digest.hex}/data"


def registry_files(document: Mapping[str, Any], environment: Mapping[str, str]) -> RegistryFiles:
    """Read the configuration, with the environment's overrides."""
    storage = _mapping(document.get("storage"))
    driver = environment.get("REGISTRY_STORAGE") or _driver(storage, environment)
    return RegistryFiles(
        driver=driver,
        root=_root(storage, environment) if driver == "filesystem" else None,
        shared_cache=_cache(storage, environment) == "redis",
    )


def _driver(storage: Mapping[str, Any], environment: Mapping[str, str]) -> str:
    named = [str(name) for name in storage if name not in _NOT_A_DRIVER]
    prefix = "REGISTRY_STORAGE_"
    for variable in environment:
        name = variable.removeprefix(prefix).partition("_")[0].lower()
        if variable.startswith(prefix) and name not in _NOT_A_DRIVER:
            named.append(name)
    others = [name for name in named if name != "filesystem"]
    return (others or named or ["filesystem"])[0]


def _root(storage: Mapping[str, Any], environment: Mapping[str, str]) -> str:
    configured = _mapping(storage.get("filesystem")).get("rootdirectory")
    override = environment.get("REGISTRY_STORAGE_FILESYSTEM_ROOTDIRECTORY")
    return str(override or configured or DEFAULT_ROOT).rstrip("/")


def _cache(storage: Mapping[str, Any], environment: Mapping[str, str]) -> str:
    cache = _mapping(storage.get("cache"))
    # ``layerinfo`` is the option's name before 2.1, still accepted.
    configured = cache.get("blobdescriptor") or cache.get("layerinfo")
    override = environment.get("REGISTRY_STORAGE_CACHE_BLOBDESCRIPTOR")
    return str(override or configured or "")


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
