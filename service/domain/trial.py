"""Whether the kernel grants ulimits, found out before the container that is to have them stops.

An engine takes any limits at create, and the kernel's refusal comes with the start. So a container
is started that has no program: limits are set first, and it never runs.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

from service.domain.engine import Creation, Engine, EngineController
from service.domain.errors import ContainerStartFailed
from service.domain.identity import new_id
from service.domain.recreation import JOB_LABEL
from service.domain.ulimits import Ulimit

TRIAL = "trial"
"""Stands for a job in the label of such a container."""

NO_PROGRAM = "/registry-admin-trial-has-no-program"
STALE_SECONDS = 60.0


def refusal(
    engine: Engine, controller: EngineController, image_id: str, limits: Sequence[Ulimit]
) -> str | None:
    """What the engine says when the kernel refuses the limits; None when it grants them."""
    _sweep(engine, controller)
    entries = [{"Name": one.name, "Soft": one.soft, "Hard": one.hard} for one in limits]
    body = {
        "Image": image_id,
        "Entrypoint": [NO_PROGRAM],
        "Labels": {JOB_LABEL: TRIAL},
        "HostConfig": {"NetworkMode": "none", "Ulimits": entries},
    }
    made = controller.create(Creation(f"registry-admin-trial-{new_id()}", body))
    try:
        controller.start(made)
    except ContainerStartFailed as error:
        return error.detail if "rlimit" in error.detail.lower() else None
    finally:
        controller.discard(made)  # the image's volumes were made anew for it
    return None


def _sweep(engine: Engine, controller: EngineController) -> None:
    """Remove those of processes that died in the middle of it."""
    for one in engine.containers(f"{JOB_LABEL}={TRIAL}"):
        if one["Created"] < time.time() - STALE_SECONDS:
            controller.discard(one["Id"])
