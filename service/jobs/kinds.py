"""Every kind of job there is, and what does it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from service.domain.audit import AuditTrail
from service.domain.containers import Containers
from service.domain.job import JobKind, Work
from service.domain.ports import Clock, Registries, Store
from service.domain.registry_files import ParseConfiguration
from service.jobs.collecting import GC, collection
from service.jobs.deleting import BULK_DELETION, bulk_deletion
from service.jobs.pushing import IMAGE_PUSH, pushing
from service.jobs.recreating import ULIMITS, recreating
from service.jobs.restarting import RESTART, restarting
from service.jobs.verifying import VERIFICATION, verification

KINDS: tuple[JobKind, ...] = (GC, VERIFICATION, BULK_DELETION, RESTART, ULIMITS, IMAGE_PUSH)
"""What the API accepts; each has its work in :func:`works`."""


class Tools(NamedTuple):
    """What jobs work with."""

    registries: Registries
    containers: Containers
    store: Store
    trail: AuditTrail
    clock: Clock
    parse: ParseConfiguration


def works(tools: Tools) -> Sequence[Work]:
    """What does the jobs of each kind."""
    registries, containers, store, trail, clock, parse = tools
    return (
        collection(registries, store.deletions, trail, parse),
        verification(registries),
        bulk_deletion(registries, store, trail, clock),
        restarting(containers, trail),
        recreating(containers, trail),
        pushing(registries, trail),
    )


def by_name(all_works: Sequence[Work]) -> Mapping[str, Work]:
    """Works by the names of their kinds; raise ValueError for a name that is there twice."""
    named = {work.kind.name: work for work in all_works}
    compensators = [name for work in all_works for name in work.compensators]
    if len(named) != len(all_works) or len(set(compensators)) != len(compensators):
        raise ValueError("a kind of job, or a compensator, is there twice")
    return named
