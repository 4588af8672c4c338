"""Verification jobs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from service.domain.job import Cancelled, JobContext, JobKind, Work
from service.domain.ports import Registries
from service.domain.verification import verify

VERIFICATION = JobKind("verification", scope="registry:read", bulk=True)


def verification(registries: Registries) -> Work:
    """Check that everything a registry's tags reach is there."""

    def run(context: JobContext) -> Mapping[str, Any]:
        registry = registries.get(context.job.registry or "")

        def report(done: int, total: int | None) -> None:
            if context.cancel_requested():
                raise Cancelled
            context.progress(done, total)

        context.step("verify")
        return verify(registry, report, deep=context.job.params["deep"]).result()

    return Work(VERIFICATION, run)
