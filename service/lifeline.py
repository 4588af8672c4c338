"""How a child learns that its supervisor is gone, however that came."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable

LAST_SECONDS = 12.0
"""How long a process may take to end by itself; then it is ended in the middle."""


def watch(descriptor: int, end: Callable[[], object]) -> None:
    """Call ``end`` once when the pipe ``descriptor`` closes, and see to it that it works."""

    def wait() -> None:
        os.read(descriptor, 1)  # nobody writes: it returns when the last writer is gone
        killer = threading.Timer(LAST_SECONDS, os._exit, (1,))
        killer.daemon = True
        killer.start()
        end()

    threading.Thread(target=wait, name="lifeline", daemon=True).start()
