"""The service's own state, in memory: the store without a database."""

from __future__ import annotations

import threading
from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime

from service.domain.access import Token
from service.domain.audit import Attempt, AuditEvent, Change, Completion
from service.domain.content import INDEX_TYPES, RawManifest
from service.domain.deletion_record import Deletion, State
from service.domain.errors import DeletionUnknown, RepositoryBusy, TokenUnknown
from service.domain.ports import AuditQuery, Clock
from service.domain.reference import Digest, Repository


class WallClock:
    def now(self) -> datetime:
        return datetime.now(UTC)


class FakeTokens:
    def __init__(self) -> None:
        self._tokens: dict[str, Token] = {}
        self._hashes: dict[str, str] = {}

    def create(self, change: Change, token: Token, secret_hash: str) -> None:
        change.require_open()
        self._tokens[token.id] = token
        self._hashes[secret_hash] = token.id

    def find(self, secret_hash: str) -> Token | None:
        return self._tokens.get(self._hashes.get(secret_hash, ""))

    def get(self, token_id: str) -> Token:
        if token_id not in self._tokens:
            raise TokenUnknown(f"There is no token with the id '{token_id}'.")
        return self._tokens[token_id]

    def revoke(self, change: Change, token_id: str) -> None:
        change.require_open()
        self.get(token_id)
        del self._tokens[token_id]

    def page(self, n: int, last: str | None) -> Sequence[Token]:
        return [self._tokens[key] for key in sorted(self._tokens) if last is None or key > last][:n]


class FakeAudit:
    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._events: dict[str, AuditEvent] = {}

    def record_attempt(self, event_id: str, attempt: Attempt) -> None:
        if event_id in self._events:
            raise RuntimeError(f"the event {event_id} was begun already")
        self._events[event_id] = AuditEvent(event_id, self._clock.now(), attempt, None)

    def record_completion(self, event_id: str, completion: Completion) -> None:
        event = self._events.get(event_id)
        if event is None or event.completion is not None:
            raise RuntimeError(f"the event {event_id} was never begun, or has ended already")
        self._events[event_id] = replace(event, completion=completion)

    def page(self, query: AuditQuery, n: int, last: str | None) -> Sequence[AuditEvent]:
        newest_first = (self._events[key] for key in sorted(self._events, reverse=True))
        found = (event for event in newest_first if last is None or event.id < last)
        return [event for event in found if _matches(query, event)][:n]

    def refusals(self) -> Mapping[str, int]:
        ended = (event.completion for event in self._events.values() if event.completion)
        return Counter(one.code or "none" for one in ended if one.outcome == "refused")


def _matches(query: AuditQuery, event: AuditEvent) -> bool:
    completion = event.completion
    wanted = (
        (query.actor, event.attempt.actor),
        (query.action, event.attempt.action),
        (query.registry, event.attempt.registry),
        (query.container, event.attempt.container),
        (query.outcome, completion.outcome if completion else None),
    )
    begun = query.since is None or event.time >= query.since
    ended = query.until is None or event.time < query.until
    return begun and ended and all(want is None or want == is_ for want, is_ in wanted)


class FakeDeletions:
    def __init__(self) -> None:
        self._deletions: dict[str, Deletion] = {}

    def add(self, change: Change, deletion: Deletion) -> None:
        change.require_open()
        self._deletions[deletion.id] = deletion

    def set_state(self, change: Change, deletion_id: str, state: State) -> None:
        self._replace(change, replace(self._known(deletion_id), state=state))

    def replace(self, change: Change, deletion: Deletion) -> None:
        self._known(deletion.id)
        self._replace(change, deletion)

    def discard(self, change: Change, deletion_id: str) -> None:
        change.require_open()
        self._known(deletion_id)
        del self._deletions[deletion_id]

    def mark_collected(self, change: Change, deletion_id: str) -> None:
        self._replace(change, replace(self._known(deletion_id), collected=True))

    def get(self, registry: str, deletion_id: str) -> Deletion:
        deletion = self._known(deletion_id)
        if deletion.registry != registry:
            raise _unknown(deletion_id)
        return deletion

    def page(
        self, registry: str, n: int, last: str | None, *, whole: bool = False
    ) -> Sequence[Deletion]:
        newest_first = (self._deletions[key] for key in sorted(self._deletions, reverse=True))
        return [
            deletion if whole else _without_bodies(deletion)
            for deletion in newest_first
            if deletion.registry == registry and (last is None or deletion.id < last)
        ][:n]

    def indexes(self, registry: str, repository: Repository) -> Sequence[RawManifest]:
        recorded = self._manifests(registry, repository)
        return [raw for raw in recorded if raw.media_type in INDEX_TYPES]

    def manifests(
        self, registry: str, repository: Repository, digests: Collection[Digest]
    ) -> Sequence[RawManifest]:
        return [raw for raw in self._manifests(registry, repository) if raw.digest in digests]

    def _manifests(self, registry: str, repository: Repository) -> Sequence[RawManifest]:
        theirs = [
            deletion
            for deletion in self._deletions.values()
            if (deletion.registry, deletion.repository) == (registry, repository)
        ]
        raws = [raw for deletion in theirs for raw in (*deletion.manifests, *deletion.supports)]
        return list({raw.digest: raw for raw in raws}.values())

    def unfinished(self) -> Sequence[Deletion]:
        oldest_first = (self._deletions[key] for key in sorted(self._deletions))
        return [deletion for deletion in oldest_first if deletion.state != "removed"]

    def _known(self, deletion_id: str) -> Deletion:
        if deletion_id not in self._deletions:
            raise _unknown(deletion_id)
        return self._deletions[deletion_id]

    def _replace(self, change: Change, deletion: Deletion) -> None:
        change.require_open()
        self._deletions[deletion.id] = deletion


def _unknown(deletion_id: str) -> DeletionUnknown:
    return DeletionUnknown(f"There is no deletion with the id '{deletion_id}'.")


def _without_bodies(deletion: Deletion) -> Deletion:
    return replace(deletion, manifests=_bare(deletion.manifests), supports=_bare(deletion.supports))


def _bare(manifests: Sequence[RawManifest]) -> tuple[RawManifest, ...]:
    return tuple(replace(manifest, body=b"", length=manifest.size) for manifest in manifests)


class FakeLocks:
    """Excludes threads, and the same thread a second time: a holder is always somebody else."""

    def __init__(self) -> None:
        self._locks: defaultdict[str, threading.Lock] = defaultdict(threading.Lock)

    @contextmanager
    def hold(self, name: str, wait_seconds: float) -> Iterator[None]:
        lock = self._locks[name]
        if not lock.acquire(timeout=wait_seconds):
            raise RepositoryBusy(f"'{name}' is being changed by somebody else.")
        try:
            yield
        finally:
            lock.release()


class FakeWorkers:
    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._beats: dict[str, datetime] = {}

    def join(self, worker_id: str) -> bool:
        if worker_id in self._beats:
            return False
        self._beats[worker_id] = self._clock.now()
        return True

    def beat(self, worker_id: str) -> bool:
        if worker_id in self._beats:
            self._beats[worker_id] = self._clock.now()
        return worker_id in self._beats

    def beats(self) -> Mapping[str, datetime]:
        return dict(self._beats)

    def bury(self, worker_id: str, last_beat: datetime) -> bool:
        dead = self._beats.get(worker_id) == last_beat
        if dead:
            del self._beats[worker_id]
        return dead

    def leave(self, worker_id: str) -> None:
        self._beats.pop(worker_id, None)

    def last_beat(self) -> datetime | None:
        return max(self._beats.values(), default=None)


class FakeStore:
    """Set ``broken`` and the database does not answer any more."""

    def __init__(self, clock: Clock | None = None) -> None:
        self.tokens = FakeTokens()
        clock = clock or WallClock()
        self.audit = FakeAudit(clock)
        self.deletions = FakeDeletions()
        self.locks = FakeLocks()
        self.workers = FakeWorkers(clock)
        self.broken = False

    def check(self) -> None:
        if self.broken:
            raise ConnectionError("the database does not answer")
