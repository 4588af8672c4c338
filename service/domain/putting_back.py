"""Undoing a collection at any point: whatever it had stopped or started, nothing of it is left."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from service.domain.collectable import Collectable, Mode
from service.domain.engine import Engine, EngineController, RestartPolicy
from service.domain.errors import CacheShared
from service.domain.ports import BlobCache
from service.domain.recreation import JOB_LABEL

COMPENSATION = "put-registry-back"
STAYS_DOWN = RestartPolicy("no")
"""The policy of the registry's container meanwhile. One that has it anyway is not updated, since
the engine would spell it otherwise afterwards than a container that was created without any."""

OURS_STOP_SECONDS = 2
HURRY_SECONDS = 3
"""How long the registry may take to end where it should have been back already.

A process that has just begun does not hear that it is to end (the kernel drops what the first one
of a container does not handle yet), and would be waited for to no avail.
"""


def compensation(job_id: str, target: Collectable, mode: Mode) -> dict[str, Any]:
    """What another process must know to put the registry back."""
    return {
        "job": job_id,
        "container": target.container_id,
        "policy": target.policy.name,
        "retries": target.policy.maximum_retry_count,
        "restart": mode == "live",
        "forget": False,  # true once blobs may be gone that a cache outside of it vouches for
    }


def put_back(
    engine: Engine,
    controller: EngineController,
    cache: BlobCache | None,
    data: Mapping[str, Any],
    stop_seconds: int | None = None,
) -> None:
    """Remove what is ours, and have the registry's own container run as it was.

    May be called at any point of a collection, and again. Its data is of :func:`compensation`;
    ``stop_seconds`` is how long a registry that is to be restarted may take to end, unless as long
    as its container says.
    """
    stale = _cache_to_empty(cache, data)
    if stale is not None:
        stale.check()  # before pulls are down as well
    ours = [one["Id"] for one in engine.containers(f"{JOB_LABEL}={data['job']}")]
    for container_id in ours:  # first, since they may hold the registry's port and addresses
        controller.stop(container_id, OURS_STOP_SECONDS)
    _run_again(controller, stale, data, stop_seconds)
    for container_id in ours:
        controller.remove(container_id)


def _run_again(
    controller: EngineController,
    stale: BlobCache | None,
    data: Mapping[str, Any],
    stop_seconds: int | None,
) -> None:
    container_id = data["container"]
    if data["restart"] and stale is None:
        controller.restart(container_id, stop_seconds)
        return
    if data["restart"]:
        controller.stop(container_id, stop_seconds)
    if stale is not None:
        stale.forget()  # while nothing serves, and could fill it again
    controller.start(container_id)
    policy = RestartPolicy(data["policy"], data["retries"])
    if not data["restart"] and policy != STAYS_DOWN:
        controller.set_restart_policy(container_id, policy)


def _cache_to_empty(cache: BlobCache | None, data: Mapping[str, Any]) -> BlobCache | None:
    """Give the cache that vouches for blobs that may be gone; raise CacheShared."""
    if not data.get("forget"):
        return None
    if cache is None:
        raise CacheShared(
            "The registry caches in Redis what it knows of blobs, some of which were collected, "
            "and redis_url is not set any more. It is left as it is, since it would vouch for what "
            "is gone. Set redis_url of the registry to that Redis again."
        )
    return cache
