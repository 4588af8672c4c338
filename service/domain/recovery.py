"""Finishing what a dead process left: a tag never stays on a placeholder."""

from __future__ import annotations

import logging

from service.domain.audit import Attempt, AuditTrail, Completion
from service.domain.deletion_record import Deletion
from service.domain.errors import RegistryAdminError, RepositoryBusy
from service.domain.ports import Clock, Registries, Registry, Store
from service.domain.removal import Remover, lock_name
from service.domain.restoration import Restorer

ACTOR = "registry-admin"

log = logging.getLogger(__name__)


def recover(registries: Registries, store: Store, trail: AuditTrail, clock: Clock) -> int:
    """Finish deletions and restores whose process died; return how many.

    May run at any time in any process: whoever still works on one holds its repository's lock.
    One that cannot be finished now is logged and left for the next time.
    """
    return sum(
        _recovered(registries, store, trail, clock, one) for one in store.deletions.unfinished()
    )


def _recovered(
    registries: Registries, store: Store, trail: AuditTrail, clock: Clock, deletion: Deletion
) -> bool:
    try:
        registry = registries.get(deletion.registry)
        if not _can_change(registry):  # no audit event each time it still cannot
            return False
        with store.locks.hold(lock_name(deletion.registry, deletion.repository), 0):
            return _finished(registry, store, trail, clock, deletion.id)
    except RepositoryBusy:
        return False
    except RegistryAdminError as error:
        log.warning("deletion %s cannot be finished yet: %s", deletion.id, error)
        return False
    except Exception:  # a mistake of ours with one must not keep the others from being finished
        log.exception("deletion %s cannot be finished", deletion.id)
        return False


def _can_change(registry: Registry) -> bool:
    state = registry.state()
    can = state.writability
    return state.status == "up" and (can is None or can.delete_enabled is not False)


def _finished(
    registry: Registry, store: Store, trail: AuditTrail, clock: Clock, deletion_id: str
) -> bool:
    deletion = store.deletions.get(registry.name, deletion_id)
    if deletion.state == "removed":  # finished by another process since it was listed
        return False
    target = f"{deletion.repository}@{deletion.digest}"
    attempt = Attempt("deletion.recover", ACTOR, registry=registry.name, target=target)
    with trail.attempt(attempt) as change:
        change.details["deletion"] = deletion.id
        if deletion.state == "removing":
            Remover(registry, store, clock).finish(change, deletion)
        else:
            Restorer(registry, store).finish(change, deletion)
    _complete_original(trail, deletion)
    log.info("finished the interrupted deletion %s of %s", deletion.id, target)
    return True


def _complete_original(trail: AuditTrail, deletion: Deletion) -> None:
    """Write the outcome that the dead process could not write of its change."""
    if deletion.change_id is not None:
        details: dict[str, object] = {"deletion": deletion.id, "finished_by": ACTOR}
        trail.complete_abandoned(deletion.change_id, Completion("succeeded", details=details))
