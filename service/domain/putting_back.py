"""Undoing a collection at any point: whatever it had stopped or started, nothing of it is left."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from service.domain.collectable import Collectable, Mode
from service.domain.engine import Engine, EngineController, RestartPolicy
from service.domain.recreation import JOB_LABEL

COMPENSATION = "put-registry-back"
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
    }


def put_back(
    engine: Engine,
    controller: EngineController,
    data: Mapping[str, Any],
    stop_seconds: int | None = None,
) -> None:
    """Remove what is ours, and have the registry's own container run as it was.

    May be called at any point of a collection, and again. Its data is of :func:`compensation`;
    ``stop_seconds`` is how long a registry that is to be restarted may take to end, unless as long
    as its container says.
    """
    ours = [one["Id"] for one in engine.containers(f"{JOB_LABEL}={data['job']}")]
    for container_id in ours:  # first, since they may hold the registry's port and addresses
        controller.stop(container_id, OURS_STOP_SECONDS)
    if data["restart"]:
        controller.restart(data["container"], stop_seconds)
    else:
        controller.start(data["container"])
        policy = RestartPolicy(data["policy"], data["retries"])
        controller.set_restart_policy(data["container"], policy)
    for container_id in ours:
        controller.remove(container_id)
