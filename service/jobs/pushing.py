"""Pushes of images as jobs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from service.domain.audit import Attempt, AuditTrail
from service.domain.job import Job, JobContext, JobKind, Tell, Work
from service.domain.ports import Registries
from service.domain.pushing import COMPENSATION, Push, Pusher, put_back
from service.domain.recovery import ACTOR
from service.domain.reference import Repository, Tag
from service.jobs.attempts import attempt_of

IMAGE_PUSH = JobKind("image-push", scope="image:push")


def pushing(registries: Registries, trail: AuditTrail) -> Work:
    """Push an image from the engine of a registry to the registry."""

    def run(context: JobContext) -> Mapping[str, Any]:
        job, name = context.job, context.job.registry or ""
        registry, engine = registries.get(name), registries.engine(name)
        params = job.params
        wanted = Push(params["source"], Repository(params["repository"]), Tag(params["tag"]))
        with trail.attempt(_attempt(job, "image.push", job.requested_by)) as change:
            return Pusher(registry, engine, engine.controller(change), context).push(wanted)

    def compensate(job: Job, data: Mapping[str, Any], tell: Tell) -> None:
        engine = registries.engine(job.registry or "")
        with trail.attempt(_attempt(job, "image.put-names-back", ACTOR)) as change:
            put_back(engine, engine.controller(change), data)
        tell("info", "The engine's images have the names they had before.")

    return Work(IMAGE_PUSH, run, {COMPENSATION: compensate})


def _attempt(job: Job, action: str, actor: str) -> Attempt:
    target = f"{job.params['repository']}:{job.params['tag']}"
    return replace(attempt_of(job, action, actor), target=target)
