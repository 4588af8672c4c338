"""Killed at any step of a collection, by whatever dies, the registry is back within seconds."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

import pytest
from docker.errors import DockerException

from demo.processes import wait_until
from service.domain.collectable import MODES, Mode
from service.domain.collection import AFTERWARDS
from tests.e2e.bed.api import get
from tests.e2e.bed.collecting import (
    RESTARTS,
    RUNS,
    Site,
    await_step,
    inspected,
    is_writable,
    leftovers,
    steps,
)
from tests.e2e.bed.registry import MakeRegistry
from tests.e2e.bed.service import MakeService

BACK_SECONDS = 15.0
"""How long all may take, from when what was killed is started again."""

PUT_BACK = "The registry's own container runs again"
ENDED = {"succeeded", "failed", "cancelled"}


@pytest.fixture
def site(registry: MakeRegistry, service: MakeService) -> Site:
    made = registry(run=RESTARTS)
    return Site(made, service(made))


def kill_worker(site: Site) -> float:
    """Kill the worker alone, which is started again by its supervisor; give the time."""
    (worker,) = site.service.processes("worker")
    os.kill(worker, signal.SIGKILL)
    return time.monotonic()


def kill_service(site: Site) -> float:
    """Kill all of it, and start it; give the time of the start."""
    site.service.kill()
    started = time.monotonic()
    site.service.start()
    return started


def kill_engine(site: Site) -> float:
    """Kill the engine, and start it; give the time when it answered again."""
    site.registry.engine.restart()
    return time.monotonic()


Kill = Callable[[Site], float]


KILLS = [kill_worker, kill_service]
FOREMOST = (kill_worker, "read-only")
"""What is killed at each step in every run of the tests; the others are as a soak."""

EACH_STEP = [
    pytest.param(kill, mode, marks=[] if (kill, mode) == FOREMOST else [pytest.mark.soak])
    for kill in KILLS
    for mode in MODES
]


@pytest.mark.timeout(300)
@pytest.mark.parametrize(("kill", "mode"), EACH_STEP)
def test_the_service_is_killed_at_each_step(site: Site, mode: Mode, kill: Kill) -> None:
    for step in steps(mode):
        require_back(site, mode, step, kill)


OTHERS = [(kill, mode) for kill in KILLS for mode in MODES if (kill, mode) != FOREMOST]


@pytest.mark.parametrize(("kill", "mode"), OTHERS)
def test_the_service_is_killed_while_it_collects(site: Site, mode: Mode, kill: Kill) -> None:
    require_back(site, mode, "collect", kill)


@pytest.mark.parametrize("mode", MODES)
def test_the_engine_is_killed_while_it_collects(site: Site, mode: Mode) -> None:
    require_back(site, mode, "collect", kill_engine)


@pytest.mark.soak
@pytest.mark.timeout(400)
@pytest.mark.parametrize("mode", MODES)
def test_the_engine_is_killed_at_each_step(site: Site, mode: Mode) -> None:
    for step in steps(mode):
        require_back(site, mode, step, kill_engine)


@pytest.mark.parametrize("kill", [pytest.param(kill_worker, marks=pytest.mark.soak), kill_service])
def test_the_service_is_killed_with_postgresql(
    registry: MakeRegistry, service: MakeService, database_url: str, kill: Kill
) -> None:
    made = registry(run=RESTARTS)
    site = Site(made, service(made, settings={"database_url": database_url}))
    require_back(site, "read-only", "collect", kill)


def require_back(site: Site, mode: Mode, step: str, kill: Kill) -> None:
    """Kill at a step; hold that all is back in time, and that the job says what happened."""
    site.fill()
    before = inspected(site.registry)
    job = site.start(mode)
    await_step(site.service, step)
    started = kill(site)
    left = started + BACK_SECONDS - time.monotonic()
    wait_until(lambda: is_back(site, before, job), left, f"{mode} killed at {step}: back")
    site.require_as_before(before)
    require_told(site, job, step)


def is_back(site: Site, before: Mapping[str, Any], job: str) -> bool:
    """Tell whether all is as before, and the job has ended."""
    with suppress(DockerException, OSError, AssertionError):
        return (
            inspected(site.registry) == before
            and leftovers(site.registry) == []
            and is_writable(site.registry)
            and site.state(job) in ENDED
            and is_settled(site, job)
        )
    return False


def is_settled(site: Site, job: str) -> bool:
    """Tell whether nothing is left to be done: the engine may have been away at the job's end."""
    error = get(site.service, f"{RUNS}/{job}")["error"]
    lines = get(site.service, f"/v1/jobs/{job}/log")["items"]
    put_back = any(PUT_BACK in line["message"] for line in lines)
    return put_back or "tried again" not in str(error)


def require_told(site: Site, job_id: str, step: str) -> None:
    """Hold that the job says what happened; the last steps may have been over by then."""
    job = get(site.service, f"{RUNS}/{job_id}")
    assert job["state"] == "failed" or step in AFTERWARDS, (step, job)
    if job["error"]:
        assert job["error"]["code"] == "collection-failed", job["error"]
