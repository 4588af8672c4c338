"""What the tests of the registry adapter share besides fixtures."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from service.adapters.registry import HttpRegistry
from tests.standin import StandIn


@dataclass
class Time:
    """A clock that moves when somebody sleeps, or is told to."""

    now: float = 1000.0
    slept: list[float] = field(default_factory=list)

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds

    def monotonic(self) -> float:
        return self.now


Play = Callable[..., StandIn]
Serve = Callable[..., StandIn]
Connect = Callable[..., HttpRegistry]
