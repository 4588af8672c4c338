"""Ulimits of containers as jobs: each is recreated with them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from service.domain.audit import AuditTrail
from service.domain.containers import Containers
from service.domain.errors import RecreationFailed
from service.domain.job import Job, JobContext, JobKind, Tell, Work
from service.domain.recovery import ACTOR
from service.domain.recreatable import Recreatable, examine
from service.domain.recreating import (
    COMPENSATION,
    INTERRUPTED,
    Recreation,
    put_back,
    result,
    result_after_death,
)
from service.domain.ulimits import Ulimit, configured
from service.jobs.attempts import attempt_of

ULIMITS = JobKind("container-ulimits", scope="container:write")


def recreating(containers: Containers, trail: AuditTrail) -> Work:
    """Give a container other ulimits."""
    recreator = Recreator(containers, trail)
    return Work(ULIMITS, recreator.run, {COMPENSATION: recreator.compensate})


class Recreator:
    """Does such jobs."""

    def __init__(self, containers: Containers, trail: AuditTrail) -> None:
        """Record what is done in ``trail``."""
        self._containers = containers
        self._trail = trail

    def run(self, context: JobContext) -> Mapping[str, Any]:
        """Recreate the container; a run that died before is finished or undone instead."""
        job = context.job
        if context.rerun and (left := context.left(COMPENSATION)):
            return self._finish(context, left)
        one = self._containers.find(job.params["container"])
        limits = [Ulimit(**entry) for entry in job.params["ulimits"]]
        target = examine(one, limits, job.params["on_writable_layer"])
        if job.params["dry_run"]:
            return result(target, limits)
        if context.rerun and _has(target, limits):
            return result_after_death(target, limits)
        with self._trail.attempt(attempt_of(job, "container.recreate", job.requested_by)) as change:
            controller = one.engine.controller(change)
            return Recreation(one.engine, controller, context, target, limits).run()

    def _finish(self, context: JobContext, left: Mapping[str, Any]) -> Mapping[str, Any]:
        self.compensate(context.job, left, context.log)
        context.settled(COMPENSATION)
        if not left["proven"]:
            raise RecreationFailed(INTERRUPTED)
        proven: Mapping[str, Any] = left["proven"]
        return proven

    def compensate(self, job: Job, data: Mapping[str, Any], tell: Tell) -> None:
        """Have the old container run as before, or the new one where it was proven."""
        engine = self._containers.engine_of(job.params["container"])
        with self._trail.attempt(attempt_of(job, "container.put-back", ACTOR)) as change:
            put_back(engine, engine.controller(change), data)
        which = "new" if data["proven"] else "old"
        tell("info", f"The {which} container '{data['name']}' runs.")


def _has(target: Recreatable, limits: list[Ulimit]) -> bool:
    """Tell whether an earlier run was done, and died before it could say so."""
    return configured(target.container) == sorted(limits, key=lambda limit: limit.name)
