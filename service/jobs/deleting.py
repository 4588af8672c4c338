"""Bulk deletion jobs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from service.domain import problem
from service.domain.audit import AuditTrail, Completion
from service.domain.audit import Outcome as Ended
from service.domain.bulk import Bulk, BulkRemover, Outcome
from service.domain.deletion import RemoveManifest, RemoveTag, Request
from service.domain.deletion_record import Deletion, laid_out
from service.domain.job import Cancelled, Job, JobContext, JobKind, Work
from service.domain.ports import Clock, Registries, Store
from service.domain.reference import Digest, Repository, Tag
from service.domain.removal import Remover
from service.jobs.attempts import attempt_of

SERVER_ERROR = 500
BULK = "deletion.bulk"

BULK_DELETION = JobKind("bulk-deletion", scope="registry:delete")


def bulk_deletion(registries: Registries, store: Store, trail: AuditTrail, clock: Clock) -> Work:
    """Delete many tags and manifests; the result has one deletion or problem an item."""

    def run(context: JobContext) -> Mapping[str, Any]:
        job = context.job
        registry = registries.get(job.registry or "")
        remover = Remover(registry, store, clock)
        requests = [_request(item, job) for item in job.params["items"]]
        bulk = Bulk(job, requests, job.params["dry_run"])
        results: dict[int, Mapping[str, Any]] = {}

        def report(place: int, outcome: Outcome) -> None:
            results[place] = _result(outcome, job)
            if not bulk.dry_run:
                _record(trail, job, requests[place], outcome)
            context.progress(len(results), len(requests))
            if context.cancel_requested():
                raise Cancelled(_answer(results))

        context.step("delete")
        with trail.attempt(attempt_of(job, BULK, job.requested_by)) as change:
            BulkRemover(registry, store, remover).remove(change, bulk, report)
        return _answer(results)

    return Work(BULK_DELETION, run)


def _record(trail: AuditTrail, job: Job, request: Request, outcome: Outcome) -> None:
    """Tell in the trail what became of an item; that it would be tried is there since before."""
    asked = request.requested
    name = (
        f"{request.repository}:{asked.tag}" if asked.tag else f"{request.repository}@{asked.digest}"
    )
    action = "tag.delete" if asked.tag else "manifest.delete"
    attempt = attempt_of(job, action, job.requested_by)
    change = trail.begin(replace(attempt, target=name))
    if isinstance(outcome, Deletion):
        change.complete(Completion("succeeded", details={"deletion": outcome.id}))
    else:
        status = problem.row_of(type(outcome)).status
        kind: Ended = "failed" if status >= SERVER_ERROR else "refused"
        change.complete(Completion(kind, status, outcome.code))


def _request(item: Mapping[str, str], job: Job) -> Request:
    repository, cascade = Repository(item["repository"]), bool(job.params["cascade"])
    if "tag" in item:
        return RemoveTag(repository, Tag(item["tag"]), cascade=cascade)
    return RemoveManifest(repository, Digest(item["digest"]), cascade=cascade)


def _result(outcome: Outcome, job: Job) -> Mapping[str, Any]:
    if isinstance(outcome, Deletion):
        return {"deletion": laid_out(outcome)}
    row = problem.row_of(type(outcome))
    return {"problem": problem.document(outcome, row, f"/v1/jobs/{job.id}", job.request_id)}


def _answer(results: Mapping[int, Mapping[str, Any]]) -> dict[str, Any]:
    done = sum("deletion" in one for one in results.values())
    items = [{"item": place, **results[place]} for place in sorted(results)]
    return {"deleted": done, "failed": len(items) - done, "items": items}
