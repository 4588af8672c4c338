"""How a registry keeps its files, read from its configuration and its container's environment.

Rules of distribution 2.8 and 3.x: every option can be overridden by an environment variable
named after its path, ``storage.filesystem.rootdirectory`` by
``REGISTRY_STORAGE_FILESYSTEM_ROOTDIRECTORY``. Its value is YAML, so that one variable may hold a
whole table, and the variables count in the order of their names.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from textwrap import indent
from typing import Any

from service.domain.reference import Digest

DEFAULT_ROOT = "/var/lib/registry"
FILESYSTEM = "filesystem"
_NOT_A_DRIVER = frozenset({"cache", "delete", "maintenance", "redirect", "tag"})
_STORAGE = ["REGISTRY", "STORAGE"]

ParseConfiguration = Callable[[bytes], Mapping[str, Any]]
"""Reads a registry's configuration file; raises ValueError."""


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


def registry_files(
    document: Mapping[str, Any], environment: Mapping[str, str], parse: ParseConfiguration
) -> RegistryFiles:
    """Read the configuration, with the environment's overrides."""
    storage = _overridden(document.get("storage"), environment, parse)
    driver = _driver(storage)
    return RegistryFiles(
        driver=driver,
        root=_root(_table(storage.get(driver))) if driver == FILESYSTEM else None,
        shared_cache=_cache(_table(storage.get("cache"))) == "redis",
    )


def _overridden(
    storage: object, environment: Mapping[str, str], parse: ParseConfiguration
) -> Mapping[str, Any]:
    for variable in sorted(environment):
        words = variable.split("_")
        if words[:2] == _STORAGE:
            storage = _replaced(storage, words[2:], _value(environment[variable], parse))
    return _table(storage)


def _replaced(whole: object, path: Sequence[str], value: object) -> object:
    if not path:
        return value
    table = dict(_table(whole))
    name = next((name for name in table if name.upper() == path[0]), path[0].lower())
    table[name] = _replaced(table.get(name), path[1:], value)
    return table


def _value(text: str, parse: ParseConfiguration) -> object:
    try:
        return parse(f"value:\n{indent(text, '  ')}".encode())["value"]
    except ValueError:
        return text


def _table(value: object) -> Mapping[str, Any]:
    """A table of options; a name alone is one without options."""
    if isinstance(value, str):
        return {value: {}}
    return {str(name): one for name, one in value.items()} if isinstance(value, Mapping) else {}


def _driver(storage: Mapping[str, Any]) -> str:
    named = [name for name in storage if name not in _NOT_A_DRIVER]
    others = [name for name in named if name != FILESYSTEM]
    return (others or named or [FILESYSTEM])[0]


def _root(options: Mapping[str, Any]) -> str:
    return str(options.get("rootdirectory") or DEFAULT_ROOT).rstrip("/")


def _cache(options: Mapping[str, Any]) -> str:
    # ``layerinfo`` is the option's name before 2.1, still accepted.
    return str(options.get("blobdescriptor", options.get("layerinfo")))
