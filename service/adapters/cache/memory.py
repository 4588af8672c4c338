"""The bytes a process used last, so that the disk is asked once."""

from __future__ import annotations

import threading
from collections import OrderedDict


class RecentBytes:
    """A bounded map that forgets what was used least recently. Safe to share between threads."""

    def __init__(self, limit_bytes: int) -> None:
        """Hold at most ``limit_bytes``, keys not counted."""
        self._limit = limit_bytes
        self._size = 0
        self._entries: OrderedDict[str, bytes] = OrderedDict()
        self._mutex = threading.Lock()

    def get(self, key: str) -> bytes | None:
        """Return the bytes, which are recent again."""
        with self._mutex:
            body = self._entries.get(key)
            if body is not None:
                self._entries.move_to_end(key)
            return body

    def put(self, key: str, body: bytes) -> None:
        """Keep the bytes unless they alone would push out most others."""
        if len(body) > self._limit // 4:
            return
        with self._mutex:
            self._size += len(body) - len(self._entries.pop(key, b""))
            self._entries[key] = body
            while self._size > self._limit:
                _, oldest = self._entries.popitem(last=False)
                self._size -= len(oldest)

    def __contains__(self, key: str) -> bool:
        with self._mutex:
            return key in self._entries
