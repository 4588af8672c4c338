"""The cache of content: a few recent bytes in memory, the rest on disk, bounded both."""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from service.adapters.cache.memory import RecentBytes
from service.adapters.cache.shelf import Shelf
from service.domain.reference import Digest

MEMORY_BYTES = 8 * 1024 * 1024
LARGEST_SHARE = 8
"""A body over an eighth of the limit is not kept: it would push out too many others."""

BATCH = 100
LARGE = 256 * 1024
"""So many bodies, or one so large, are written at once: they are held in memory until then."""

log = logging.getLogger(__name__)


class ContentCache:
    """Bytes by their sha256. Safe to share between threads, the directory between processes.

    Never fails: a full disk, a directory that cannot be written or a damaged file only mean
    that something is not cached.
    """

    def __init__(self, directory: Path, limit_bytes: int) -> None:
        """Keep at most ``limit_bytes`` of disk in ``directory``, made when first needed."""
        self._limit = limit_bytes
        self._recent = RecentBytes(min(MEMORY_BYTES, limit_bytes))
        self._shelf = Shelf(directory / "content.db", limit_bytes)

    def get(self, digest: Digest) -> bytes | None:
        """Return the bytes of ``digest``, checked, or None; what is damaged is removed."""
        recent = self._recent.get(digest)
        if recent is not None or not _cacheable(digest):
            return recent
        try:
            return self._from_disk(digest)
        except (OSError, sqlite3.Error) as error:
            log.debug("the cache cannot be read: %s", error)
            return None

    def put(self, digest: Digest, body: bytes) -> None:
        """Keep ``body``, which the caller has checked against ``digest``; sha256 alone is kept."""
        with self.filling() as put:
            put(digest, body)

    @contextmanager
    def filling(self) -> Iterator[Callable[[Digest, bytes], None]]:
        """Give a :meth:`put` for many bodies, which reach the disk several at a time."""
        batch: list[tuple[bytes, bytes]] = []

        def put(digest: Digest, body: bytes) -> None:
            if self._fits(digest, body):
                self._recent.put(digest, body)
                batch.append((bytes.fromhex(digest.hex), body))
            if len(batch) >= BATCH or len(body) >= LARGE:
                self._write(batch)

        try:
            yield put
        finally:
            self._write(batch)

    def has(self, digest: Digest) -> bool:
        """Tell whether ``digest`` is most likely here, without reading it."""
        if digest in self._recent:
            return True
        try:
            return _cacheable(digest) and self._shelf.has(bytes.fromhex(digest.hex))
        except (OSError, sqlite3.Error):
            return False

    def close(self) -> None:
        """Close the file; a later call opens it again."""
        self._shelf.close()

    def _fits(self, digest: Digest, body: bytes) -> bool:
        return _cacheable(digest) and len(body) * LARGEST_SHARE <= self._limit

    def _write(self, batch: list[tuple[bytes, bytes]]) -> None:
        """Write and forget a batch."""
        try:
            if batch:
                self._shelf.write(batch)
        except (OSError, sqlite3.Error) as error:
            log.debug("the cache cannot be written: %s", error)
        finally:
            batch.clear()

    def _from_disk(self, digest: Digest) -> bytes | None:
        name = bytes.fromhex(digest.hex)
        body = self._shelf.read(name)
        if body is None:
            return None
        if not digest.matches(body):
            log.warning("removed %s from the cache: its bytes were damaged", digest)
            self._shelf.remove(name)
            return None
        self._recent.put(digest, body)
        return body


def _cacheable(digest: Digest) -> bool:
    return digest.startswith("sha256:")
