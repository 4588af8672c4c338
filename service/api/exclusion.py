"""What keeps a registry's content still while garbage is collected, and who may touch all of it."""

from __future__ import annotations

from service.api import auth, context
from service.domain.containers import Allowed
from service.domain.errors import GcAlreadyActive, InsufficientScope
from service.domain.job import Job
from service.domain.ports import Registry
from service.jobs.collecting import GC


def active_collection(registry: Registry) -> Job | None:
    """Give the collection of a registry that is queued or runs."""
    return context.services().jobs.active(GC.name, registry.name)


def require_no_collection(registry: Registry) -> None:
    """Raise GcAlreadyActive while a collection of the registry that is no dry run is under way."""
    job = active_collection(registry)
    if job is not None and not job.params["dry_run"]:
        raise already_active(registry.name, job.id)


def require_no_collection_in(container: Allowed) -> None:
    """Raise GcAlreadyActive likewise, where the container is a registry's own."""
    if container.registry is not None:
        require_no_collection(context.services().registries.get(container.registry))


def already_active(registry: str, job_id: object) -> GcAlreadyActive:
    """Say that a collection is in the way."""
    return GcAlreadyActive(
        f"Garbage of the registry '{registry}' is being collected by the job {job_id}. "
        "Nothing was changed. Try again when it has ended.",
        {"job": job_id},
    )


def require_whole(registry: Registry, scope: str) -> None:
    """Raise InsufficientScope for a token that is limited to some repositories of the registry."""
    limits = auth.caller().repositories
    if limits:
        raise InsufficientScope(
            f"This is about every repository of the registry '{registry.name}'; the token "
            f"'{auth.caller().name}' is limited to {', '.join(limits)}. Nothing was changed. "
            "Use a token without that limit.",
            {"required_scope": scope},
        )
