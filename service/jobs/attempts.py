"""What jobs try, as the audit trail has it."""

from __future__ import annotations

from service.domain.audit import Attempt
from service.domain.job import Job


def attempt_of(job: Job, action: str, actor: str) -> Attempt:
    """Lay out an attempt of ``actor`` in a job, on the registry and container of that job."""
    return Attempt(
        action,
        actor,
        registry=job.registry,
        container=job.container,
        request_id=job.request_id,
        job=job.id,
    )
