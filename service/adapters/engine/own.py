"""The container that this process runs in."""

from __future__ import annotations

import re
from contextlib import suppress
from pathlib import Path

_MOUNTED = re.compile(r"/containers/([0-9a-f]{64})/(?:hostname|hosts|resolv\.conf) ")


def own_container_id(mounts: Path = Path("/proc/self/mountinfo")) -> str | None:
    """Its id, by the files that an engine mounts into each of its containers; None outside."""
    with suppress(OSError):
        if found := _MOUNTED.search(mounts.read_text()):
            return found[1]
    return None
