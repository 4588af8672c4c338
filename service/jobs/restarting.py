"""Restarts of containers as jobs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from service.domain.audit import AuditTrail
from service.domain.containers import Allowed, Containers
from service.domain.errors import ContainerUnknown
from service.domain.job import Job, JobContext, JobKind, Tell, Work
from service.domain.recovery import ACTOR
from service.domain.restarting import COMPENSATION, restart
from service.jobs import collecting
from service.jobs.attempts import attempt_of

RESTART = JobKind("container-restart", scope="container:write")


def exclusive(one: Allowed) -> str:
    """Name what jobs on a container exclude: of a registry's own, its collections, too.

    It is known by its name, since a recreation changes the id.
    """
    if one.registry is not None:
        return collecting.exclusive(one.registry)
    return f"container/{one.engine.name}/{one.name}"


def reference(one: Allowed) -> str:
    """What finds a container again, by whatever id it then has."""
    return f"{one.engine.name}:{one.name}"


def restarting(containers: Containers, trail: AuditTrail) -> Work:
    """Restart a container."""

    def run(context: JobContext) -> Mapping[str, Any]:
        job = context.job
        one = containers.find(job.params["container"])
        with trail.attempt(attempt_of(job, "container.restart", job.requested_by)) as change:
            controller = one.engine.controller(change)
            timeout = job.params["timeout"]
            return restart(one.engine, controller, context, one.container_id, timeout)

    def compensate(job: Job, data: Mapping[str, Any], tell: Tell) -> None:
        engine = containers.engine_of(job.params["container"])
        try:
            with trail.attempt(attempt_of(job, "container.start", ACTOR)) as change:
                engine.controller(change).start(data["container"])
        except ContainerUnknown:
            tell("warning", "The container has been removed meanwhile; there is none to start.")
        else:
            tell("info", "The container runs again.")

    return Work(RESTART, run, {COMPENSATION: compensate})
