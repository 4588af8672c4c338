"""What the kernel tells of a container's first process: by our own /proc, else from within.

Our own needs nothing to run in the container, and shows what no archive does, such as a tmpfs. But
it shows only what the service has in its sight: a number alone proves nothing, as the service may
be in a container itself, or the engine on another machine.
"""

from __future__ import annotations

import logging
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath

from service.adapters.engine.processes import Processes
from service.adapters.engine.transport import Transport
from service.domain.engine import Entry, Inspected

FIRST = "1/"
"""How the path of a file begins that is about the first process."""

RUN_SECONDS = 5.0
LIMIT = 64 * 1024
ENTRIES_LIMIT = 100_000
FOLDER = os.O_RDONLY | os.O_DIRECTORY

log = logging.getLogger(__name__)


class Procfs:
    """One engine's containers, as a /proc shows them."""

    def __init__(self, transport: Transport, root: Path, *, same_kernel: bool) -> None:
        """``root`` is our own /proc; ``same_kernel`` where the engine must be on this machine."""
        self._transport = transport
        self._root = root
        self._same_kernel = same_kernel

    def read(self, container: Inspected, path: str) -> bytes | None:
        """A file below /proc, at most LIMIT bytes; None where it is not to be had."""
        with suppress(OSError), self._process(container) as folder:
            if path.startswith(FIRST):
                return _content(path.removeprefix(FIRST), folder)
            return _content(str(self._root / path))
        said = self._said(container, ["cat", f"/proc/{_within(container, path)}"])
        if said is None and self._same_kernel and not path.startswith(FIRST):
            with suppress(OSError):
                return _content(str(self._root / path))
        return said

    def working_directory(self, container: Inspected) -> str | None:
        """Where the first process is; None where that is not to be had."""
        with suppress(OSError), self._process(container) as folder:
            return os.readlink("cwd", dir_fd=folder)
        link = f"/proc/{_within(container, '1/cwd')}"
        said = self._said(container, ["readlink", link])
        return said.decode(errors="surrogateescape").rstrip("\n") if said else None

    def told(self, container: Inspected, path: str) -> Entry | None:
        """What ``stat`` in the container tells of a path; None where there is neither."""
        said = self._said(container, ["stat", "-L", "-c", "%f %u %g %s %Y", path])
        with suppress(ValueError):
            mode, *numbers = (said or b"").decode(errors="replace").split()
            uid, gid, size, modified = map(int, numbers)
            row = (int(mode, 16), 0, 0, 0, uid, gid, size, modified, modified, modified)
            return entry_of(path, os.stat_result(row))
        return None

    @contextmanager
    def folder(self, container: Inspected, path: str) -> Iterator[int]:
        """Open a folder as the first process sees it; raise OSError, of links on the way, too.

        A link is not followed: it would lead through our files, not the container's.
        """
        with self._process(container) as process:
            opened = os.open("root", FOLDER, dir_fd=process)
            try:
                for part in PurePosixPath(path).parts[1:]:
                    deeper = os.open(part, FOLDER | os.O_NOFOLLOW, dir_fd=opened)
                    os.close(opened)
                    opened = deeper
                yield opened
            finally:
                os.close(opened)

    @contextmanager
    def _process(self, container: Inspected) -> Iterator[int]:
        """Open its folder in our /proc; raise OSError unless it is that of this container.

        The folder stays that of the process: once that is gone, nothing can be read by it.
        """
        pid = container["State"].get("Pid") or 0
        opened = os.open(self._root / str(pid), FOLDER)
        try:
            if container["Id"].encode() not in _content("cgroup", opened):
                raise ProcessLookupError(pid)
            yield opened
        finally:
            os.close(opened)

    def _said(self, container: Inspected, command: list[str]) -> bytes | None:
        said = bytearray()
        try:
            code = Processes(self._transport).execute(
                container["Id"],
                command,
                lambda _, line: said.extend(line + b"\n"),
                lambda: len(said) >= LIMIT,
                RUN_SECONDS,
            )
        except Exception as error:  # noqa: BLE001 - not knowing hinders nobody
            log.debug("%s in %s tells nothing: %s", command, container["Id"], error)
            return None
        return bytes(said) if code == 0 else None


def entry_of(name: str, found: os.stat_result) -> Entry:
    """What ``stat`` tells of a file."""
    return Entry(
        name,
        directory=stat.S_ISDIR(found.st_mode),
        regular=stat.S_ISREG(found.st_mode),
        mode=stat.S_IMODE(found.st_mode),
        uid=found.st_uid,
        gid=found.st_gid,
        size=found.st_size,
        modified_at=datetime.fromtimestamp(found.st_mtime, UTC),
    )


def entries(folder: int) -> list[Entry]:
    """What is directly in an open folder, ENTRIES_LIMIT at most; links are not followed."""
    found = []
    with os.scandir(folder) as scanned:
        for number, one in enumerate(scanned):
            if number >= ENTRIES_LIMIT:
                break
            with suppress(OSError):  # gone meanwhile
                found.append(entry_of(one.name, one.stat(follow_symlinks=False)))
    return found


def _content(path: str, folder: int | None = None) -> bytes:
    opened = os.open(path, os.O_RDONLY, dir_fd=folder)
    with os.fdopen(opened, "rb") as file:
        return file.read(LIMIT)


def _within(container: Inspected, path: str) -> str:
    """The path as processes in the container see it."""
    if not path.startswith(FIRST):
        return path
    mode = str(container["HostConfig"].get("PidMode") or "")
    if mode == "host":
        return f"{container['State']['Pid']}/{path.removeprefix(FIRST)}"
    # Among another container's processes; what is executed there has the same limits and user.
    return f"self/{path.removeprefix(FIRST)}" if mode else path
