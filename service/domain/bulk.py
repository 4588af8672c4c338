"""Deleting many things as one job: one survey a repository, one record an item.

Items are decided one after the other, each on the snapshot as the ones before left it, so the
result is that of deleting them one by one. A record's id is made of the job and the item's place:
whoever takes the job over after a crash finds what was done, finishes what was begun, and goes on
with the rest.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from service.domain.audit import Change
from service.domain.deletion import RemoveManifest, RemoveTag, Request, plan
from service.domain.deletion_record import Deletion
from service.domain.errors import DeletionUnknown, RegistryAdminError
from service.domain.job import Job
from service.domain.ports import Registry, Store
from service.domain.reference import Digest, Repository
from service.domain.removal import LOCK_WAIT_SECONDS, Remover, lock_name
from service.domain.survey import Survey
from service.domain.untagging import require_deletable

FRESH_SECONDS = 3.0
FRESH_FACTOR = 3
"""A survey is made anew after some seconds, or a multiple of what it took: tags move meanwhile."""

Outcome = Deletion | RegistryAdminError
Report = Callable[[int, Outcome], None]
"""Told the place of each item with its deletion, or with what kept it from going. It may raise:
then nothing further is begun."""


@dataclass(frozen=True, slots=True)
class Bulk:
    """What to delete, and for which job."""

    job: Job
    requests: Sequence[Request]
    dry_run: bool = False

    def deletion_id(self, place: int) -> str:
        """The id of an item's record: sorted by time like all, and the same in each run."""
        milliseconds = int(self.job.created_at.timestamp() * 1000)
        job = hashlib.sha256(self.job.id.encode()).hexdigest()[:12]
        return f"{milliseconds:012x}{job}{place:08x}"


class BulkRemover:
    """Deletes many tags and manifests of one registry."""

    def __init__(self, registry: Registry, store: Store, remover: Remover) -> None:
        """Delete by ``remover``, which works on the same registry and store."""
        self._registry = registry
        self._store = store
        self._remover = remover

    def remove(self, change: Change, bulk: Bulk, report: Report) -> None:
        """Delete every item; one that cannot go does not keep the others from going."""
        places: dict[Repository, list[int]] = {}
        for place, request in enumerate(bulk.requests):
            places.setdefault(request.repository, []).append(place)
        for repository, of_repository in places.items():
            waiting = _Waiting(of_repository, report)
            try:
                with self._store.locks.hold(
                    lock_name(self._registry.name, repository), LOCK_WAIT_SECONDS
                ):
                    self._remove(change, bulk, repository, waiting)
            except RegistryAdminError as error:  # of the repository as a whole
                for place in waiting.left():
                    waiting.done(place, error)

    def _remove(
        self, change: Change, bulk: Bulk, repository: Repository, waiting: _Waiting
    ) -> None:
        for place in waiting.left():
            earlier = self._earlier(change, bulk.deletion_id(place))
            if earlier is not None:
                waiting.done(place, earlier)
        if waiting.left():
            require_deletable(self._registry, repository)
        found: Survey | None = None
        fresh_until = 0.0
        for place in waiting.left():
            requests = [bulk.requests[one] for one in waiting.left()]
            begun = time.monotonic()
            if found is None or not (
                bulk.dry_run or self._is_fresh(repository, found, fresh_until)
            ):
                found = self._look(repository, requests)
                taken = time.monotonic()
                fresh_until = taken + max(FRESH_SECONDS, FRESH_FACTOR * (taken - begun))
            outcome, found = self._remove_one(change, bulk, place, found)
            waiting.done(place, outcome)

    def _earlier(self, change: Change, deletion_id: str) -> Deletion | None:
        """Return what an earlier run of the job did of an item, finished if need be."""
        try:
            deletion = self._store.deletions.get(self._registry.name, deletion_id)
        except DeletionUnknown:
            return None
        unfinished = deletion.state == "removing"
        return self._remover.finish(change, deletion) if unfinished else deletion

    def _is_fresh(self, repository: Repository, found: Survey, until: float) -> bool:
        """Tell whether no tag can have come or moved, as far as one request shows it.

        It might be on a manifest whose last known tag is about to go.
        """
        if time.monotonic() > until:
            return False
        return not set(self._registry.tags(repository)) - found.snapshot.tags.keys()

    def _look(self, repository: Repository, requests: Sequence[Request]) -> Survey:
        return self._remover.survey(
            repository,
            [one.digest for one in requests if isinstance(one, RemoveManifest)],
            [one.tag for one in requests if isinstance(one, RemoveTag)],
        )

    def _remove_one(
        self, change: Change, bulk: Bulk, place: int, found: Survey
    ) -> tuple[Outcome, Survey | None]:
        request = bulk.requests[place]
        try:
            focus = _focus(request, found)
            found.require_whole(focus)
            decided = plan(found.around(focus), request)
        except RegistryAdminError as error:
            return error, found
        planned = self._remover.record(bulk.job.requested_by, request, decided, found.bodies)
        deletion = replace(planned, id=bulk.deletion_id(place), dry_run=bulk.dry_run)
        try:
            done = deletion if bulk.dry_run else self._remover.carry_out(change, deletion)
        except RegistryAdminError as error:
            return error, None  # who knows what the repository is like now
        gone = [raw.digest for raw in done.manifests]
        left = found.without([one.tag for one in done.tags], gone)
        return done, left.remembering(done.supports)


def _focus(request: Request, found: Survey) -> Digest | None:
    return (
        found.snapshot.tags.get(request.tag) if isinstance(request, RemoveTag) else request.digest
    )


class _Waiting:
    """The items of a repository that are not done yet."""

    def __init__(self, places: Sequence[int], report: Report) -> None:
        self._places = dict.fromkeys(places)
        self._report = report

    def left(self) -> list[int]:
        return list(self._places)

    def done(self, place: int, outcome: Outcome) -> None:
        del self._places[place]
        self._report(place, outcome)
