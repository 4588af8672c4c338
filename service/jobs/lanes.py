"""Which jobs exclude one another: one job of a lane runs at a time."""

from __future__ import annotations

import hashlib

from service.domain.job import JobKind

BULK_LANES = 4


def lane_of(job_id: str, kind: JobKind, exclusive: str | None) -> str:
    """Name the lane of a job: what it works on, one of a few for ``bulk`` ones, or its own."""
    if exclusive is not None:
        return f"exclusive/{exclusive}"
    if kind.bulk:
        return f"bulk/{int(hashlib.sha256(job_id.encode()).hexdigest(), 16) % BULK_LANES}"
    return f"job/{job_id}"
