"""Single files of a container, stopped ones too, without a shell in it."""

from __future__ import annotations

import base64
import json
import tarfile
import time
from contextlib import closing
from datetime import UTC, datetime
from pathlib import PurePosixPath
from typing import IO, Any, NamedTuple, cast

from service.adapters.engine.transport import READ_SECONDS, Answer, Call, Transport, container_path
from service.domain.engine import Entry

NOT_FOUND = 404
STAT_HEADER = "X-Docker-Container-Path-Stat"
LINK = 1 << 27
NOT_REGULAR = (1 << 31) | (1 << 26) | (1 << 25) | (1 << 24) | (1 << 21) | (1 << 19)
"""Go's bits of a file mode: folder, device, pipe, socket, character device, irregular."""

TAR_OVERHEAD = 64 * 1024
"""Bytes that a tar of one file may have beyond the file: headers, long names, padding."""


class Stat(NamedTuple):
    """A regular file: its path with links followed, and its size in bytes."""

    path: str
    size: int


def stat(transport: Transport, container_id: str, path: str) -> Stat | None:
    """Look at a file, following a link; None when it is no file or not there."""
    found = _head(transport, container_id, path)
    if found is not None and found["mode"] & LINK:
        # The engine has resolved the target within the container already.
        path = str(found["linkTarget"])
        found = _head(transport, container_id, path)
    if found is None or found["mode"] & (LINK | NOT_REGULAR):
        return None
    return Stat(path, int(found["size"]))


def read(transport: Transport, container_id: str, path: str, limit: int) -> bytes | None:
    """A file's bytes; None when there are more than ``limit``, or it is no file or not there."""
    found = stat(transport, container_id, path)
    if found is None or found.size > limit:
        return None
    call = Call("GET", container_path(container_id, "/archive"), {"path": found.path})
    with closing(transport.open(call, accept=NOT_FOUND)) as response:
        if response.status_code == NOT_FOUND:
            return None
        try:
            return _only_file(response, limit)
        except Exception as error:  # tarfile and the connection each have their own errors
            raise transport.lost(error) from error


def resolve(transport: Transport, container_id: str, path: str) -> str | None:
    """A path with all links followed; None when it is not there, or out of the engine's sight."""
    found = PurePosixPath("/")
    for part in PurePosixPath(path).parts[1:]:
        told = _head(transport, container_id, str(found / part))
        if told is None:
            return None
        # The engine has resolved the target within the container already.
        found = PurePosixPath(told["linkTarget"]) if told["mode"] & LINK else found / part
    return str(found)


def details(transport: Transport, container_id: str, path: str) -> Entry | None:
    """A regular file, without its owner, whom the engine tells in archives alone."""
    told = _head(transport, container_id, path)
    if told is None or told["mode"] & (LINK | NOT_REGULAR):
        return None
    return Entry(
        PurePosixPath(path).name,
        directory=False,
        regular=True,
        mode=told["mode"] & 0o777,
        size=int(told["size"]),
        modified_at=datetime.fromisoformat(told["mtime"]).astimezone(UTC),
    )


def _head(transport: Transport, container_id: str, path: str) -> dict[str, Any] | None:
    """What the engine knows of a path; None when it is not there. Raise ContainerUnknown."""
    call = Call("HEAD", container_path(container_id, "/archive"), {"path": path})
    response = transport.open(call, accept=NOT_FOUND)
    transport.read(response, 0, READ_SECONDS)  # its connection is good for the next
    if response.status_code == NOT_FOUND:
        transport.inspect(container_id)  # no container is 404, too
        return None
    found: dict[str, Any] = json.loads(base64.b64decode(response.headers[STAT_HEADER]))
    return found


def _only_file(response: Answer, limit: int) -> bytes | None:
    source = cast("IO[bytes]", Bounded(response, limit + TAR_OVERHEAD))
    with tarfile.open(fileobj=source, mode="r|") as archive:
        member = archive.next()
        # It may have grown since it was looked at.
        if member is None or not member.isreg() or member.size > limit:
            return None
        content = archive.extractfile(member)
        return content.read() if content else None


class Bounded:
    """A body to read from, with an end to its size and to the time it may take."""

    def __init__(self, response: Answer, limit: int) -> None:
        self._response = response
        self._left = limit
        self._deadline = time.monotonic() + READ_SECONDS

    def read(self, size: int) -> bytes:
        """Read as a file does; raise TimeoutError at either end."""
        if self._left < 0 or time.monotonic() > self._deadline:
            raise TimeoutError("the file did not come whole in time")
        data = self._response.raw.read(size)
        self._left -= len(data)
        return bytes(data)
