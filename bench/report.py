"""Measurements, and a table of them beside what must be reached."""

import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeVar

Result = TypeVar("Result")


@dataclass(frozen=True)
class Spread:
    """One value a round."""

    values: Sequence[float]

    @property
    def median(self) -> float:
        """The value that counts."""
        return statistics.median(self.values)

    def __str__(self) -> str:
        """Return least, median and most."""
        return f"{min(self.values):9.2f} {self.median:9.2f} {max(self.values):9.2f}"


class Times:
    """Measurements by name, one a round; seconds unless something else is said."""

    def __init__(self, unit: str = "s") -> None:
        """Start empty."""
        self._unit = unit
        self._values: defaultdict[str, list[float]] = defaultdict(list)

    def take(self, name: str, task: Callable[[], Result], factor: float = 1) -> Result:
        """Run a task and note how long it took, times ``factor``."""
        started = time.perf_counter()
        result = task()
        self.note(name, (time.perf_counter() - started) * factor)
        return result

    def note(self, name: str, value: float) -> None:
        """Add a measurement."""
        self._values[name].append(value)
        print(f"  {name}: {value:.2f} {self._unit}", flush=True)

    def spread(self, name: str) -> Spread:
        """Return all measurements of a name."""
        return Spread(self._values[name])

    def spreads(self) -> Iterator[tuple[str, Spread]]:
        """Yield every name with its measurements."""
        for name in self._values:
            yield f"{name}, {self._unit}", self.spread(name)

    def differences(self, name: str, base: str) -> Spread:
        """Tell by how much one name exceeds another, round by round."""
        pairs = zip(self._values[name], self._values[base], strict=True)
        return Spread([value - other for value, other in pairs])

    def ratios(self, name: str, base: str) -> Spread:
        """Compare two names, round by round."""
        pairs = zip(self._values[name], self._values[base], strict=True)
        return Spread([value / other for value, other in pairs])


@dataclass(frozen=True)
class Line:
    """A row of the table; ``at`` says on which side of ``target`` the median should lie."""

    what: str
    spread: Spread
    at: Literal["most", "least"] | None = None
    target: float = 0

    def __str__(self) -> str:
        """Return the row."""
        return f"{self.what:58} {self.spread}  {self._judged()}".rstrip()

    def _judged(self) -> str:
        if self.at is None:
            return ""
        median = self.spread.median
        reached = median <= self.target if self.at == "most" else median >= self.target
        return f"at {self.at} {self.target:g}: {'ok' if reached else 'MISSED'}"


@dataclass
class Table:
    """What a run has found."""

    lines: list[Line] = field(default_factory=list)

    def at_most(self, target: float, what: str, spread: Spread) -> None:
        """Add a row that should not lie above ``target``."""
        self.lines.append(Line(what, spread, "most", target))

    def at_least(self, target: float, what: str, spread: Spread) -> None:
        """Add a row that should not lie below ``target``."""
        self.lines.append(Line(what, spread, "least", target))

    def info(self, what: str, spread: Spread) -> None:
        """Add a row without a target."""
        self.lines.append(Line(what, spread))

    def __str__(self) -> str:
        """Return the whole table."""
        head = f"{'':58} {'min':>9} {'median':>9} {'max':>9}  target"
        return "\n".join([head, *map(str, self.lines)])
