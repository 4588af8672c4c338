"""Ids of stored things: unique, and sorted by the time they were made."""

from __future__ import annotations

import secrets
import threading
import time

RANDOM_BITS = 80

_lock = threading.Lock()
_last = 0


def new_id() -> str:
    """Return 32 hexadecimal digits: 48 bits of milliseconds, then 80 random bits.

    Those of one process increase strictly, within a millisecond too.
    """
    global _last  # noqa: PLW0603 - the process's last id
    drawn = (time.time_ns() // 1_000_000 << RANDOM_BITS) | secrets.randbits(RANDOM_BITS)
    with _lock:
        _last = max(drawn, _last + 1)
        return f"{_last:032x}"
