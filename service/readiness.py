"""What systemd is told of a process that it has started (sd_notify(3)); silent elsewhere."""

from __future__ import annotations

import os
import socket
from contextlib import suppress

PLACE = "NOTIFY_SOCKET"
"""The variable that names systemd's socket, where it wants to be told."""

READY = "READY=1"
STOPPING = "STOPPING=1"


def tell(state: str) -> None:
    """Tell it ``state``; whoever does not listen is not waited for."""
    place = os.environ.get(PLACE)
    if not place:
        return
    with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as teller:
        teller.settimeout(0)
        teller.sendto(state.encode(), place.replace("@", "\0", 1) if place[0] == "@" else place)
