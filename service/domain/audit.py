"""The audit trail: no change without a record, by construction.

Whatever changes something takes a :class:`Change`, and only :meth:`AuditTrail.attempt`
makes one, after the attempt is stored. A change that has ended opens nothing any more.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal, Protocol

from service.domain.errors import RegistryAdminError
from service.domain.identity import new_id

Outcome = Literal["succeeded", "failed", "refused"]


@dataclass(frozen=True, slots=True)
class Attempt:
    """What somebody is about to try. ``target`` is a path such as ``team/app:1.2``."""

    action: str
    actor: str | None
    source_ip: str | None = None
    registry: str | None = None
    container: str | None = None
    target: str | None = None
    request_id: str | None = None
    job: str | None = None


@dataclass(frozen=True, slots=True)
class Completion:
    """How it ended. ``status`` is the HTTP status, None outside HTTP; ``code`` the problem's."""

    outcome: Outcome
    status: int | None = None
    code: str | None = None
    details: dict[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class AuditEvent:
    """An attempt and, once it has ended, its completion (None meanwhile)."""

    id: str
    time: datetime
    attempt: Attempt
    completion: Completion | None


class AuditLog(Protocol):
    """The store of the trail; append-only."""

    def record_attempt(self, event_id: str, attempt: Attempt) -> None:
        """Store the attempt before it is tried."""

    def record_completion(self, event_id: str, completion: Completion) -> None:
        """Store how it ended, once; raise RuntimeError when it never began or has ended."""


class Change:
    """The right to change something: proof that the attempt stands in the audit trail."""

    def __init__(self, event_id: str, attempt: Attempt, log: AuditLog) -> None:
        """Write the attempt; without that no Change exists."""
        log.record_attempt(event_id, attempt)
        self.id = event_id
        self.attempt = attempt
        self.details: dict[str, object] = {}
        self._log = log
        self._open = True

    def require_open(self) -> None:
        """Raise when the change has ended: its right ended with it."""
        if not self._open:
            raise RuntimeError(f"the change {self.id} has ended, it cannot change anything more")

    def complete(self, completion: Completion) -> None:
        """Write how it ended; the right to change anything ends first."""
        self.require_open()
        self._open = False
        self._log.record_completion(self.id, completion)


class AuditTrail:
    """Makes changes; the only maker of them."""

    def __init__(self, log: AuditLog) -> None:
        """Write to ``log``."""
        self._log = log

    def begin(self, attempt: Attempt) -> Change:
        """Record an attempt; whoever begins completes it, as the HTTP layer does."""
        return Change(new_id(), attempt, self._log)

    def complete_abandoned(self, event_id: str, completion: Completion) -> None:
        """Write the outcome of a change whose process died; nothing happens when it has one."""
        with suppress(RuntimeError):
            self._log.record_completion(event_id, completion)

    @contextmanager
    def attempt(self, attempt: Attempt) -> Iterator[Change]:
        """Record an attempt outside HTTP: ``succeeded``, or ``failed`` when the block raises."""
        change = self.begin(attempt)
        try:
            yield change
        except BaseException as error:
            code = error.code if isinstance(error, RegistryAdminError) else None
            change.complete(Completion("failed", code=code, details=change.details))
            raise
        change.complete(Completion("succeeded", details=change.details))
