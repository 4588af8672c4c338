"""Restarting a container, and proof that it runs again."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from service.domain.containers import health
from service.domain.engine import Engine, EngineController, Inspected
from service.domain.errors import ContainerStartFailed, RestartFailed
from service.domain.job import JobContext

COMPENSATION = "start-container"
PROOF_SECONDS = 2.0
"""A program that ends at once has done so by then."""

LOOK_SECONDS = 0.1
LINES = 20
"""How many of its last lines are told of a container that fails."""

TOLD = "What was said last is in the job's log."
SLACK_SECONDS = 30.0
NANOSECONDS = 1e9
DEFAULT_CHECK_SECONDS = 30.0
DEFAULT_RETRIES = 3

Stop = Callable[[], bool]


def restart(
    engine: Engine,
    controller: EngineController,
    context: JobContext,
    container_id: str,
    timeout_seconds: int | None,
) -> dict[str, Any]:
    """Stop it within its own time-out, or ours, and start it; raise RestartFailed.

    Whoever dies in between leaves behind that it is to be started.
    """
    context.beyond_return()
    context.compensate(COMPENSATION, {"container": container_id})
    context.step("restart")
    try:
        controller.restart(container_id, timeout_seconds)
    except ContainerStartFailed as error:
        context.settled(COMPENSATION)  # it would fail again and again
        raise RestartFailed(
            f"The container was stopped, and the engine cannot start it again: {error.detail} "
            "Nothing else was changed. Once the cause is gone, start it with: docker start "
            f"{_name(engine.container(container_id))}"
        ) from error
    context.settled(COMPENSATION)
    context.step("prove")
    try:
        proven = prove(engine, container_id)
    except RestartFailed as error:
        tell_last_lines(engine, container_id, context)
        name = _name(engine.container(container_id))
        raise RestartFailed(f"{error.detail} More: docker logs {name}") from error
    return {"started_at": proven["State"]["StartedAt"], "health": health(proven)}


def tell_last_lines(engine: Engine, container_id: str, context: JobContext) -> None:
    """Have the job's log hold what the container and its health check said last.

    An error's detail never does: its reader may not be theirs.
    """
    container = engine.container(container_id)
    for line in [*engine.last_lines(container_id, LINES), *_said_by_check(container)]:
        context.log("error", line)


def _said_by_check(container: Inspected) -> list[str]:
    checks = (container["State"].get("Health") or {}).get("Log") or ()
    lines = str(checks[-1]["Output"]).splitlines() if checks else ()
    return [f"Health check: {line}" for line in lines[-LINES:]]


def prove(engine: Engine, container_id: str) -> Inspected:
    """Wait until it has run for PROOF_SECONDS, and is healthy if it has a check.

    Raise RestartFailed.
    """
    begun, first = time.monotonic(), engine.container(container_id)
    patience = health_seconds(first)
    while True:
        container = engine.container(container_id)
        _require_running(container, first)
        seconds = time.monotonic() - begun
        if health(container) == "unhealthy":
            raise RestartFailed(
                f"The container '{_name(container)}' runs, and its health check fails. {TOLD}"
            )
        if seconds >= PROOF_SECONDS and health(container) in {None, "healthy"}:
            return container
        if seconds > patience:
            raise RestartFailed(
                f"The container '{_name(container)}' runs, and its health check has told nothing "
                f"for {patience:.0f} s. {TOLD}"
            )
        time.sleep(LOOK_SECONDS)


def health_seconds(container: Inspected) -> float:
    """How long its health check may take to decide, by its own settings."""
    check = container["Config"].get("Healthcheck") or {}
    interval = (check.get("Interval") or 0) / NANOSECONDS or DEFAULT_CHECK_SECONDS
    timeout = (check.get("Timeout") or 0) / NANOSECONDS or DEFAULT_CHECK_SECONDS
    rounds = 1 + (check.get("Retries") or DEFAULT_RETRIES)
    begin: float = (check.get("StartPeriod") or 0) / NANOSECONDS
    return begin + rounds * (interval + timeout) + SLACK_SECONDS


def _require_running(container: Inspected, first: Inspected) -> None:
    state, name = container["State"], _name(container)
    again = container.get("RestartCount") != first.get("RestartCount")
    if again or state["StartedAt"] != first["State"]["StartedAt"] or state.get("Restarting"):
        raise RestartFailed(
            f"The container '{name}' ended right after its start, and the engine starts it again "
            f"and again. {TOLD}"
        )
    if not state.get("Running"):
        raise RestartFailed(
            f"The container '{name}' ended right after its start, with exit code "
            f"{state.get('ExitCode')}. {TOLD}"
        )


def _name(container: Inspected) -> str:
    return str(container["Name"]).lstrip("/")
