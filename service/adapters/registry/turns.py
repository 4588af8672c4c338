"""How many requests one registry gets at a time."""

from __future__ import annotations

import threading

from service.adapters.registry.origin import Origin
from service.domain.errors import RegistryTimeout

TURN_SECONDS = 60.0
"""How long a request waits for others to the same registry to end."""


class Turns:
    """A bound that all threads share; whoever takes a turn gives it back."""

    def __init__(self, origin: Origin, most: int) -> None:
        """Have ``most`` turns."""
        self._origin = origin
        self._free = threading.BoundedSemaphore(most)

    def take(self) -> None:
        """Wait for a turn; raise RegistryTimeout."""
        if not self._free.acquire(timeout=TURN_SECONDS):
            raise RegistryTimeout(
                f"Too many requests to {self._origin} are under way already. Nothing was changed. "
                "Try again, or raise the registry's setting concurrency."
            )

    def take_free(self) -> bool:
        """Take a turn if one is free."""
        return self._free.acquire(blocking=False)

    def give_back(self) -> None:
        """Let the next one have the turn."""
        self._free.release()
