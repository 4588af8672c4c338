"""Garbage collection jobs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from service.domain.audit import AuditTrail
from service.domain.collectable import examine
from service.domain.collection import INTERRUPTED, Collection, Options, Parts
from service.domain.errors import CollectionFailed
from service.domain.job import Compensator, Job, JobContext, JobKind, Tell, Work
from service.domain.ports import Deletions, Registries
from service.domain.putting_back import COMPENSATION, HURRY_SECONDS, put_back
from service.domain.recovery import ACTOR
from service.domain.registry_files import ParseConfiguration
from service.domain.restoration import note_collected
from service.domain.untagged import require_untagged_safe
from service.jobs.attempts import attempt_of

GC = JobKind("gc", scope="gc:run", single=True)


def exclusive(registry: str) -> str:
    """Name what a collection and every other job that changes a registry's content exclude."""
    return f"registry/{registry}"


def collection(
    registries: Registries, deletions: Deletions, trail: AuditTrail, parse: ParseConfiguration
) -> Work:
    """Collect a registry's garbage, and put its container back whatever happens."""

    def run(context: JobContext) -> Mapping[str, Any]:
        job, name = context.job, context.job.registry or ""
        options = Options(**job.params)
        if context.rerun and not options.dry_run:
            # The compensation of the run that died puts all back.
            raise CollectionFailed(INTERRUPTED)
        engine, registry = registries.engine(name), registries.get(name)
        cache, container = registries.blob_cache(name), registries.container(name) or ""
        target = examine(engine, container, parse, cache, stops=options.stops)
        version = registries.version(name)
        if options.delete_untagged:
            require_untagged_safe(registry, version)
        with trail.attempt(attempt_of(job, "gc.collect", job.requested_by)) as change:
            parts = Parts(registry, engine, engine.controller(change), target, version, cache)
            running = Collection(parts, options, context)
            result = running.run()
            noted = note_collected(deletions, change, name, running.gone)
        if noted:
            context.log("info", f"{noted} earlier deletions cannot be restored any more")
        return result

    return Work(GC, run, {COMPENSATION: _putting_back(registries, trail)})


def _putting_back(registries: Registries, trail: AuditTrail) -> Compensator:
    def compensate(job: Job, data: Mapping[str, Any], tell: Tell) -> None:
        name = job.registry or ""
        engine, cache = registries.engine(name), registries.blob_cache(name)
        with trail.attempt(attempt_of(job, "gc.put-back", ACTOR)) as change:
            put_back(engine, engine.controller(change), cache, data, HURRY_SECONDS)
        tell("info", "The registry's own container runs again, as before.")

    return compensate
