"""Waiting for the store to be back: a database that restarts must not fail an hour of work."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

from service.domain.errors import StoreUnavailable

Answer = TypeVar("Answer")

USUAL_SECONDS = 120.0
OUTCOME_SECONDS = 1800.0
"""How long the outcome of a job is tried to be written: it would have to be done again."""

FIRST_PAUSE_SECONDS = 0.2
LONGEST_PAUSE_SECONDS = 2.0


def patiently(ask: Callable[[], Answer], seconds: float = USUAL_SECONDS) -> Answer:
    """Ask until the store answers; raise its last StoreUnavailable after ``seconds``."""
    deadline = time.monotonic() + seconds
    pause = FIRST_PAUSE_SECONDS
    while True:
        try:
            return ask()
        except StoreUnavailable:
            if time.monotonic() + pause > deadline:
                raise
        time.sleep(pause)
        pause = min(2 * pause, LONGEST_PAUSE_SECONDS)
