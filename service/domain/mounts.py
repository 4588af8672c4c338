"""What is mounted where in a container."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from service.domain.engine import Inspected

TMPFS = "tmpfs"
KERNEL = "kernel"
HIDDEN = frozenset({TMPFS, KERNEL})
"""Where the engine's archives do not look into."""

KERNEL_PLACES = ("/proc", "/sys", "/dev")


@dataclass(frozen=True, slots=True)
class Mount:
    """A mount. ``kind`` is the engine's word, or ``kernel`` for what every container has."""

    place: str
    kind: str
    writable: bool


def mount_of(container: Inspected, path: str) -> Mount | None:
    """The mount that a path is in; None where it is in the container's own file system."""
    over = [one for one in _mounts(container) if is_below(path, one.place)]
    return max(over, key=lambda one: len(one.place), default=None)


def is_hidden(container: Inspected, path: str) -> bool:
    """Tell whether a path is where the engine's archives do not look into."""
    mount = mount_of(container, path)
    return mount is not None and mount.kind in HIDDEN


def is_below(path: str, place: str) -> bool:
    """Tell whether a path is a folder, or in it."""
    return f"{path.rstrip('/')}/".startswith(f"{place.rstrip('/')}/")


def _mounts(container: Inspected) -> Iterator[Mount]:
    for place in KERNEL_PLACES:
        yield Mount(place, KERNEL, writable=place == "/dev")
    for place, options in (container["HostConfig"].get("Tmpfs") or {}).items():
        writable = "ro" not in str(options).split(",")
        yield Mount(place.rstrip("/") or "/", TMPFS, writable)
    for point in container.get("Mounts") or ():
        place = str(point["Destination"]).rstrip("/") or "/"
        yield Mount(place, str(point["Type"]), bool(point.get("RW", True)))
