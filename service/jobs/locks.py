"""What excludes jobs from one another, beside the queue: a lock that its holder cannot outlive.

The queue alone would not do: it takes a worker that is cut off from the database for dead, and
starts its jobs elsewhere while they still run there.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from service.domain.errors import RepositoryBusy, StoreUnavailable
from service.domain.ports import Locks
from service.jobs.patience import patiently

log = logging.getLogger(__name__)


def lock_name(job_id: str, exclusive: str | None) -> str:
    """Name the lock of a job: that of what it works on, or its own."""
    return f"job/{exclusive or job_id}"


@contextmanager
def held(
    locks: Locks, name: str, wait_seconds: float = 0, patience_seconds: float = 0
) -> Iterator[bool]:
    """Hold a lock within the block, if it can be had in ``wait_seconds``; tell whether.

    Raise StoreUnavailable after ``patience_seconds``.
    """
    with ExitStack() as stack:
        try:
            patiently(lambda: stack.enter_context(locks.hold(name, wait_seconds)), patience_seconds)
        except RepositoryBusy:
            yield False
            return
        yield True
        _release(stack)


def _release(stack: ExitStack) -> None:
    try:
        stack.close()
    except StoreUnavailable:
        log.warning("a lock was lost before it was given back")
