"""Whether the service can work, and with what: the facts behind ``/readyz``."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal, Protocol, TypeVar

from service.domain.ports import Clock, Registries, RegistryStatus, Store

Answer = TypeVar("Answer")
PartStatus = Literal["up", "down"]
WorkerStatus = Literal["up", "down", "none"]

PATIENCE_SECONDS = 5.0
"""How long registries and engines may take to tell how they are; whoever takes longer is down."""

FRESH_SECONDS = 5.0
"""How long an answer is good for: asking is open to everybody, and must not become a burden."""

BEAT_SECONDS = 5.0
"""How often a worker says that it lives."""

WORKER_LIMIT = timedelta(seconds=4 * BEAT_SECONDS)
"""A worker that has not said so for this long is down."""


class Workers(Protocol):
    """The heartbeats of the workers, in the store."""

    def join(self, worker_id: str) -> bool:
        """Say that a worker begins to live; False when another one has that id."""

    def beat(self, worker_id: str) -> bool:
        """Say that the worker lives now; False when it was buried: others do its work."""

    def beats(self) -> Mapping[str, datetime]:
        """When each worker was last heard of."""

    def bury(self, worker_id: str, last_beat: datetime) -> bool:
        """Declare a worker dead, unless it was heard of since ``last_beat``; tell whether it is."""

    def leave(self, worker_id: str) -> None:
        """Forget a worker that ends as it should."""

    def last_beat(self) -> datetime | None:
        """When any worker was last heard of; None when there is none."""


@dataclass(frozen=True, slots=True)
class Health:
    """How each part is. ``worker`` is ``none`` where none has been started."""

    checked_at: datetime
    database: PartStatus
    worker: WorkerStatus
    registries: Mapping[str, RegistryStatus]
    engines: Mapping[str, PartStatus]

    @property
    def ready(self) -> bool:
        """Tell whether the service itself works; registries and engines may be down meanwhile."""
        return self.database == "up"


class Readiness:
    """Finds out how the parts are, all at once and not too often. Safe between threads."""

    def __init__(
        self,
        store: Store,
        workers: Workers,
        registries: Registries,
        engines: Mapping[str, Callable[[], PartStatus]],
        clock: Clock,
    ) -> None:
        """Ask each of ``engines`` by calling it."""
        self._store = store
        self._workers = workers
        self._registries = registries
        self._engines = engines
        self._clock = clock
        self._asking = threading.Lock()
        self._last: tuple[float, Health] | None = None

    def health(self) -> Health:
        """How the parts are, or were up to FRESH_SECONDS ago; never raises."""
        last = self._last
        # While another thread asks, what was found last is good enough.
        if last and (time.monotonic() - last[0] < FRESH_SECONDS or self._asking.locked()):
            return last[1]
        with self._asking:
            if self._last is None or self._last is last:
                self._last = (time.monotonic(), self._ask())
            return self._last[1]

    def _ask(self) -> Health:
        states = {name: self._status_of(name) for name in self._registries.names()}
        registries = _all(states)
        engines = _all(self._engines)
        database = self._database()
        worker = self._worker() if database == "up" else "down"
        return Health(self._clock.now(), database, worker, registries, engines)

    def _status_of(self, name: str) -> Callable[[], RegistryStatus]:
        return lambda: self._registries.get(name).state().status

    def _database(self) -> PartStatus:
        try:
            self._store.check()
        except Exception:  # noqa: BLE001 - whatever is wrong with it, it is down
            return "down"
        return "up"

    def _worker(self) -> WorkerStatus:
        beat = self._workers.last_beat()
        if beat is None:
            return "none"
        return "up" if self._clock.now() - beat < WORKER_LIMIT else "down"


def _all(
    questions: Mapping[str, Callable[[], Answer]],
) -> dict[str, Answer | Literal["down"]]:
    """Answers by name; ``down`` for whoever raises, or is not done in PATIENCE_SECONDS."""
    answers: dict[str, Answer] = {}

    def ask(name: str) -> None:
        with suppress(Exception):
            answers[name] = questions[name]()

    # Daemon threads: one that hangs must not keep the process from ending.
    threads = [threading.Thread(target=ask, args=(name,), daemon=True) for name in questions]
    deadline = time.monotonic() + PATIENCE_SECONDS
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(max(0.0, deadline - time.monotonic()))
    return {name: answers.get(name, "down") for name in questions}
