"""Recreating a container with other ulimits, without ever losing the old one.

The new one is created beside the old one and compared with it. Then the old one is stopped and
put aside, the new one takes its name, and is proven to run; only then is the old one removed,
without its volumes. Until it is proven, :func:`put_back` undoes everything at any point, as often
as one likes; from then on it finishes. A process that dies leaves a compensation behind, by which
another one calls it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from typing import Any

from service.domain.containers import aside, effective
from service.domain.engine import Engine, EngineController, Inspected, RestartPolicy
from service.domain.errors import (
    ContainerStartFailed,
    ContainerUnknown,
    RecreationFailed,
    RegistryAdminError,
    RestartFailed,
)
from service.domain.job import Cancelled, JobContext
from service.domain.recreatable import Recreatable
from service.domain.recreation import differences
from service.domain.restarting import prove, tell_last_lines
from service.domain.ulimits import Ulimit, configured

COMPENSATION = "put-container-back"
STEPS = ("create", "compare", "hold", "stop", "rename-old", "rename-new", "start", "prove")
"""What is done before the old container is removed, in order."""

REMOVE = "remove-old"
INTERRUPTED = (
    "The service was interrupted in the middle of this change. The container is as it was before, "
    "running under its name. Send the change again."
)
OURS_STOP_SECONDS = 10


class Recreation:
    """One container, made once more with other limits."""

    def __init__(
        self,
        engine: Engine,
        controller: EngineController,
        context: JobContext,
        target: Recreatable,
        limits: Sequence[Ulimit],
    ) -> None:
        """Nothing is touched yet."""
        self._engine = engine
        self._controller = controller
        self._context = context
        self._target = target
        self._limits = sorted(limits, key=lambda limit: limit.name)
        self._data = compensation(context.job.id, target)
        self._down_seconds = 0.0

    def run(self) -> dict[str, Any]:
        """Do it; return the result. Raise RecreationFailed or Cancelled.

        Whatever is raised, the old container runs as before, or the error says otherwise.
        """
        self._store()
        try:
            for name in STEPS:
                self._step(name)
        except (Cancelled, RegistryAdminError) as error:
            self._undo(error)
            raise
        self._context.step(REMOVE)
        self._remove_old()
        proven: dict[str, Any] = self._data["proven"]
        return proven

    # The steps, each under the name it has in STEPS.

    def _step(self, name: str) -> None:
        if name in STEPS[: STEPS.index("hold")] and self._context.cancel_requested():
            raise Cancelled
        self._context.step(name)
        steps: Mapping[str, Callable[[], None]] = {
            "create": self._create,
            "compare": self._compare,
            "hold": self._hold,
            "stop": self._stop,
            "rename-old": self._rename_old,
            "rename-new": self._rename_new,
            "start": self._start,
            "prove": self._prove,
        }
        steps[name]()

    def _create(self) -> None:
        creation = self._target.creation
        named = type(creation)(
            self._data["new_name"], creation.body, creation.networks, creation.platform
        )
        self._data["new"] = self._controller.create(named)
        self._store()

    def _compare(self) -> None:
        new = self._engine.container(self._data["new"])
        found = differences(self._target.container, new, allowed=("HostConfig.Ulimits",))
        if found:
            raise RecreationFailed(
                f"A new container would differ from '{self._target.name}' in {', '.join(found)}."
            )

    def _hold(self) -> None:
        # Else both would come up when the engine restarts.
        self._context.beyond_return()
        self._controller.set_restart_policy(self._data["old"], RestartPolicy("no"))

    def _stop(self) -> None:
        self._down_seconds -= time.monotonic()
        self._controller.stop(self._data["old"])

    def _rename_old(self) -> None:
        self._controller.rename(self._data["old"], self._data["old_name"])

    def _rename_new(self) -> None:
        self._controller.rename(self._data["new"], self._data["name"])

    def _start(self) -> None:
        self._controller.start(self._data["new"])
        self._down_seconds += time.monotonic()

    def _prove(self) -> None:
        try:
            self._require_well()
        except (RestartFailed, RecreationFailed):
            # What it said goes with it.
            tell_last_lines(self._engine, self._data["new"], self._context)
            raise
        self._data["proven"] = result(
            self._target, self._limits, self._data["new"], self._down_seconds
        )
        self._store()

    def _require_well(self) -> None:
        found = effective(self._engine, prove(self._engine, self._data["new"]))
        if found is None:
            self._context.log("warning", "The limits of the process cannot be seen from here.")
        else:
            self._require_in_effect({limit.name: limit for limit in found})

    def _require_in_effect(self, found: Mapping[str, Ulimit]) -> None:
        for asked in self._limits:
            now = found.get(asked.name, asked)
            # A program may raise what it has to what it may have, as those in Go do.
            if now.hard != asked.hard or now.soft not in {asked.soft, asked.hard}:
                raise RecreationFailed(
                    f"{asked.name} was to be {asked.soft}:{asked.hard}, and the process has "
                    f"{now.soft}:{now.hard}: its program, or a script before it, sets its own."
                )

    def _remove_old(self) -> None:
        try:
            put_back(self._engine, self._controller, self._data)
        except RegistryAdminError as error:
            raise RecreationFailed(
                f"The new container '{self._data['name']}' runs with the new limits. The old one, "
                f"'{self._data['old_name']}', could not be removed yet: {error} This is tried "
                "again every few seconds until it is done."
            ) from error
        self._context.settled(COMPENSATION)

    # Undoing.

    def _store(self) -> None:
        self._context.compensate(COMPENSATION, self._data)

    def _undo(self, error: Exception) -> None:
        """Put the old one back; raise RecreationFailed, or return when the job was cancelled."""
        try:
            put_back(self._engine, self._controller, self._data)
        except ContainerStartFailed as second:
            self._context.settled(COMPENSATION)  # it would fail again and again
            raise RecreationFailed(
                f"{error} The old container is back under its name '{self._data['name']}', but the "
                f"engine cannot start it any more: {second.detail} Once the cause is gone: docker "
                f"start {self._data['name']}"
            ) from error
        except RegistryAdminError as second:
            raise RecreationFailed(
                f"{error} The old container '{self._data['name']}' could not be put back yet "
                f"either: {second} This is tried again every few seconds until it is done."
            ) from error
        self._context.settled(COMPENSATION)
        if not isinstance(error, Cancelled):
            raise RecreationFailed(
                f"{error} The old container '{self._data['name']}' runs again as before."
            ) from error


def compensation(job_id: str, target: Recreatable) -> dict[str, Any]:
    """What another process must know to undo it, or from when ``proven`` has the result, finish."""
    return {
        "name": target.name,
        "old": target.container_id,
        "old_name": aside(target.name, "old", job_id),
        "new": None,
        "new_name": aside(target.name, "new", job_id),
        "policy": target.policy.name,
        "retries": target.policy.maximum_retry_count,
        "proven": None,
    }


def result(
    target: Recreatable,
    limits: Sequence[Ulimit],
    new_id: str | None = None,
    down_seconds: float | None = None,
) -> dict[str, Any]:
    """What the job tells; without a new id it is the plan."""
    return {
        "dry_run": new_id is None,
        "old_id": target.container_id,
        "new_id": new_id,
        "ulimits": [asdict(one) for one in limits],
        "previous_ulimits": [asdict(one) for one in configured(target.container)],
        "plan": [*STEPS, REMOVE],
        "warnings": list(target.warnings),
        "down_seconds": None if down_seconds is None else round(down_seconds, 3),
    }


def result_after_death(target: Recreatable, limits: Sequence[Ulimit]) -> dict[str, Any]:
    """What the job tells that had done it all, and died before it could say so.

    The container is the new one; how the old one was is not known any more: null.
    """
    told = result(target, limits, target.container_id)
    return {**told, "old_id": None, "previous_ulimits": None, "warnings": []}


def put_back(engine: Engine, controller: EngineController, data: Mapping[str, Any]) -> None:
    """Have one container of the name, running: the new one once it was proven, else the old one.

    May be called at any point, and again. Its data is of :func:`compensation`.
    """
    old, new = _found(engine, data["old"]), _new(engine, data)
    if new is not None and (data["proven"] or old is None):
        _take_place(controller, new, data["name"])
        controller.start(new["Id"])
        controller.remove(data["old"])
        return
    if old is None:
        raise RecreationFailed(
            f"The container '{data['name']}' and the one made for it have been removed by somebody "
            "meanwhile. Its volumes are still there."
        )
    _restore(controller, old, new, data)


def _restore(
    controller: EngineController, old: Inspected, new: Inspected | None, data: Mapping[str, Any]
) -> None:
    if new is not None:
        controller.stop(new["Id"], OURS_STOP_SECONDS)
        _take_place(controller, new, data["new_name"])
    policy = RestartPolicy(data["policy"], data["retries"])
    with ExitStack() as whatever_happens:  # backwards
        if new is not None:
            whatever_happens.callback(controller.remove, new["Id"])
        whatever_happens.callback(controller.set_restart_policy, old["Id"], policy)
        whatever_happens.callback(controller.start, old["Id"])
        # Before it runs: engines do not rename all that do, such as one without a network.
        _take_place(controller, old, data["name"])


def _take_place(controller: EngineController, container: Inspected, name: str) -> None:
    if str(container["Name"]).lstrip("/") != name:
        controller.rename(container["Id"], name)


def _new(engine: Engine, data: Mapping[str, Any]) -> Inspected | None:
    """The new container: its id was not stored yet when somebody died right after its creation."""
    return _found(engine, data["new"] or data["new_name"])


def _found(engine: Engine, reference: str) -> Inspected | None:
    try:
        return engine.container(reference)
    except ContainerUnknown:
        return None
