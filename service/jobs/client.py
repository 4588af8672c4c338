"""The port ``Jobs``: accepting jobs, telling how they are, cancelling them."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import partial
from typing import Protocol

from service.domain.audit import Change
from service.domain.errors import JobNotCancellable, ValidationFailed
from service.domain.identity import new_id
from service.domain.job import STATES, Figures, Job, JobKind, JobQuery, JobRequest, LogLine
from service.domain.job_records import JobRecords, NewJob
from service.domain.ports import Clock
from service.jobs.lanes import lane_of

PARAMS_LIMIT = 4 * 1024 * 1024
"""Bytes of a job's params as JSON."""

log = logging.getLogger(__name__)


class Entrance(Protocol):
    """The queue, as whoever accepts jobs sees it."""

    def enqueue(self, transaction: object, job_id: str, exclusive: str | None, lane: str) -> None:
        """Put a job into its lane, within a transaction of the store's own connection."""

    def drop(self, job_id: str) -> None:
        """Take a job that was never begun out of the queue."""


class DurableJobs:
    """The port ``Jobs`` over the store and the queue, which share a database."""

    def __init__(
        self,
        records: JobRecords,
        open_queue: Callable[[], Entrance],
        kinds: Iterable[JobKind],
        clock: Clock,
    ) -> None:
        """Accept jobs of ``kinds`` alone.

        ``open_queue`` is called when the queue is needed: a process that accepts no jobs does
        without DBOS, which saves 15 MB.
        """
        self._records = records
        self._queue = open_queue
        self._kinds = {kind.name: kind for kind in kinds}
        self._clock = clock

    def submit(self, change: Change, request: JobRequest) -> Job:
        """See the port; raise ValueError for a kind that nobody would ever run."""
        kind = self._kind(request.kind)
        new = self._new(kind, request)
        enqueue = partial(self._enqueue, new, kind)
        job = self._records.add(change, new, enqueue)
        change.details["job"] = job.id
        return job

    def known(self, request: JobRequest) -> Job | None:
        """See the port."""
        return self._records.known(self._new(self._kind(request.kind), request))

    def kind(self, name: str) -> JobKind:
        """See the port; raise ValueError for one that is not known."""
        return self._kind(name)

    def get(self, job_id: str) -> Job:
        """See the port."""
        return self._records.get(job_id)

    def page(self, query: JobQuery, n: int, last: str | None) -> Sequence[Job]:
        """See the port."""
        return self._records.page(query, n, last)

    def log(self, job_id: str, after: int, n: int) -> Sequence[LogLine]:
        """See the port."""
        return self._records.log(job_id, after, n)

    def active(self, kind: str, registry: str) -> Job | None:
        """See the port."""
        return self._records.active(kind, registry)

    def figures(self) -> Figures:
        """See the port."""
        found = self._records.figures()
        nothing = {(kind, state): 0 for kind in self._kinds for state in STATES}
        return replace(found, counts={**nothing, **found.counts})

    def cancel(self, change: Change, job_id: str) -> Job:
        """See the port."""
        job = self._records.get(job_id)
        change.details["job"] = job.id
        done = self._records.cancel(change, job_id)
        if done == "refused":
            raise _not_cancellable(self._records.get(job_id))
        if done == "cancelled":
            self._drop(job_id)
        return self._records.get(job_id)

    def _enqueue(self, new: NewJob, kind: JobKind, transaction: object) -> None:
        exclusive = new.request.exclusive
        lane = lane_of(new.id, kind, exclusive)
        self._queue().enqueue(transaction, new.id, exclusive, lane)

    def _drop(self, job_id: str) -> None:
        try:
            self._queue().drop(job_id)
        except Exception:
            # It is cancelled all the same: in its turn it ends at once.
            log.exception("the cancelled job %s keeps its place in the queue", job_id)

    def _kind(self, name: str) -> JobKind:
        if name not in self._kinds:
            raise ValueError(f"there are no jobs of kind {name!r}")
        return self._kinds[name]

    def _new(self, kind: JobKind, request: JobRequest) -> NewJob:
        params = json.loads(_bounded(json.dumps(dict(request.params))))
        request = replace(request, params=params)
        if kind.single and request.exclusive is None:
            raise ValueError(f"a job of kind {kind.name} must say what it excludes")
        return NewJob(
            id=new_id(),
            request=request,
            created_at=self._clock.now(),
            fingerprint=_fingerprint(request),
            key=_hash(request.requested_by, request.idempotency_key),
            single=f"{kind.name} {request.exclusive}" if kind.single else None,
        )


def _bounded(params: str) -> str:
    if len(params) > PARAMS_LIMIT:
        limit = PARAMS_LIMIT // 1024 // 1024
        raise ValidationFailed([{"pointer": "", "detail": f"Must be at most {limit} MiB."}])
    return params


def _fingerprint(request: JobRequest) -> str:
    # A registry's container is what the settings say now, not what the caller said.
    container = None if request.registry else request.container
    said = [request.kind, request.registry, container, request.exclusive, request.params]
    return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()


def _hash(owner: str, key: str | None) -> str | None:
    """Hash an idempotency key with its owner: callers do not know of each other's keys."""
    if key is None:
        return None
    return hashlib.sha256(json.dumps([owner, key]).encode()).hexdigest()


def _not_cancellable(job: Job) -> JobNotCancellable:
    if job.ended:
        return JobNotCancellable(
            f"The job has ended: it {_ENDED[job.state]}.", {"state": job.state}
        )
    return JobNotCancellable(
        "The job is past its point of no return: it brings things to their end now.",
        {"state": job.state},
    )


_ENDED = {"succeeded": "succeeded", "failed": "failed", "cancelled": "was cancelled"}
