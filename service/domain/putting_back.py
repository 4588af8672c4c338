"""Undoing a collection at any point: whatever it had stopped or started, nothing of it is left."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from service.domain.collectable import Collectable, Mode
from service.domain.engine import Engine, EngineController, RestartPolicy
from service.domain.recreation import JOB_LABEL

COMPENSATION = "put-registry-back"
OURS_STOP_SECONDS = 2


def compensation(job_id: str, target: Collectable, mode: Mode) -> dict[str, Any]:
    """What another process must know to put the registry back."""
    return {
        "job": job_id,
        "container": target.container_id,
        "policy": target.policy.name,
        "retries": target.policy.maximum_retry_count,
        "restart": mode == "live",
    }


def put_back(engine: Engine, controller: EngineController, data: Mapping[str, Any]) -> None:
    """Remove what is ours, and have the registry's own container run as it was.

    May be called at any point of a collection, and again. Its data is of :func:`compensation`.
    """
    ours = [one["Id"] for one in engine.containers(f"{JOB_LABEL}={data['job']}")]
    for container_id in ours:  # first, since they may hold the registry's port and addresses
        controller.stop(container_id, OURS_STOP_SECONDS)
    if data["restart"]:
        controller.restart(data["container"])
    else:
        controller.start(data["container"])
        policy = RestartPolicy(data["policy"], data["retries"])
        controller.set_restart_policy(data["container"], policy)
    for container_id in ours:
        controller.remove(container_id)
