"""Folders of a container, and the files in them: by our own /proc, else by the engine's archives.

An archive cannot look into a tmpfs, where ``stat`` in the container is asked. It holds the files'
content besides their names, so what lies in the writable layer is found by the engine's list of its
changes, and of a volume as much is read as READ_LIMIT allows.
"""

from __future__ import annotations

import os
import stat
import tarfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing, suppress
from datetime import UTC, datetime
from pathlib import PurePosixPath
from typing import IO, Literal, cast

from service.adapters.engine import archive
from service.adapters.engine.procfs import Procfs, entries, entry_of
from service.adapters.engine.transport import Call, Transport, container_path
from service.domain.engine import Entry, Inspected, LayerChange
from service.domain.errors import EngineUnreachable
from service.domain.mounts import is_hidden, mount_of

READ_LIMIT = 64 * 1024 * 1024
FILES_LIMIT = 1000
CHANGES_SECONDS = 120.0
"""How long an engine may look through a writable layer."""

KINDS: Sequence[Literal["modified", "added", "deleted"]] = ("modified", "added", "deleted")
"""What the engine's numbers for changes of a layer mean."""

NOT_FOUND = 404
DIRECTLY = 2
"""Parts of the name that an archive gives what lies directly in its folder."""

Matches = Callable[[str], bool]


class Places:
    """Folders of one engine's containers."""

    def __init__(self, transport: Transport, procfs: Procfs) -> None:
        """Look by these."""
        self._transport = transport
        self._procfs = procfs

    def look(self, container: Inspected, path: str) -> Entry | None:
        """A folder or file, links followed; None when it is not there, or not to be seen."""
        found = archive.resolve(self._transport, container["Id"], path)
        path = found or path
        above, _, name = path.rpartition("/")
        with suppress(OSError), self._procfs.folder(container, above or "/") as folder:
            told = os.stat(name or ".", dir_fd=folder, follow_symlinks=False)
            if not stat.S_ISLNK(told.st_mode):  # one in a tmpfs: the container itself follows it
                return entry_of(path, told)
        if is_hidden(container, path):
            return self._procfs.told(container, path)
        return None if found is None else self._first(container, path)

    def files(self, container: Inspected, path: str, matches: Matches) -> list[Entry] | None:
        """Regular files directly in a folder whose names match; None where it cannot be seen."""
        path = archive.resolve(self._transport, container["Id"], path) or path
        with suppress(OSError), self._procfs.folder(container, path) as folder:
            return _sorted(one for one in entries(folder) if one.regular and matches(one.name))
        if is_hidden(container, path):
            return None
        if mount_of(container, path) is None:
            return self._changed(container, path, matches)
        return self._archived(container, path, matches)

    def changes(self, container_id: str) -> list[LayerChange]:
        """What the writable layer has otherwise than the image, by path."""
        call = Call("GET", container_path(container_id, "/changes"), seconds=CHANGES_SECONDS)
        found = self._transport.ask(call) or ()
        changes = (LayerChange(one["Path"], KINDS[one["Kind"]]) for one in found)
        return sorted(changes, key=lambda change: change.path)

    def _first(self, container: Inspected, path: str) -> Entry | None:
        """What an archive says of the path itself, with which it begins."""
        for member in self._members(container, path):
            return _entry(path, member)
        return None

    def _archived(self, container: Inspected, path: str, matches: Matches) -> list[Entry] | None:
        found: list[Entry] = []
        try:
            for member in self._members(container, path):
                parts = PurePosixPath(member.name).parts  # the folder's own name is the first
                if member.isreg() and len(parts) == DIRECTLY and matches(parts[1]):
                    found.append(_entry(parts[1], member))
        except EngineUnreachable:
            return None  # more than is read, or slower
        return _sorted(found)

    def _members(self, container: Inspected, path: str) -> Iterator[tarfile.TarInfo]:
        call = Call("GET", container_path(container["Id"], "/archive"), {"path": path})
        with closing(self._transport.open(call, accept=NOT_FOUND)) as response:
            if response.status_code == NOT_FOUND:
                return
            source = cast("IO[bytes]", archive.Bounded(response, READ_LIMIT))
            try:
                with tarfile.open(fileobj=source, mode="r|") as stream:
                    yield from stream
            except Exception as error:  # tarfile and the connection each have their own errors
                raise self._transport.lost(error) from error

    def _changed(self, container: Inspected, path: str, matches: Matches) -> list[Entry]:
        changes = self.changes(container["Id"])
        paths = [PurePosixPath(one.path) for one in changes if one.kind != "deleted"]
        mine = [one for one in paths if str(one.parent) == path and matches(one.name)]
        found = (
            archive.details(self._transport, container["Id"], str(one))
            for one in mine[:FILES_LIMIT]
        )
        return _sorted(one for one in found if one is not None)


def _sorted(found: Iterable[Entry]) -> list[Entry]:
    return sorted(found, key=lambda one: one.name)[:FILES_LIMIT]


def _entry(name: str, member: tarfile.TarInfo) -> Entry:
    return Entry(
        name,
        directory=member.isdir(),
        regular=member.isreg(),
        mode=member.mode,
        uid=member.uid,
        gid=member.gid,
        size=member.size,
        modified_at=datetime.fromtimestamp(member.mtime, UTC),
    )
