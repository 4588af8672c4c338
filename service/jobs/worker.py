"""The worker: runs the jobs, and does what nobody asks for."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

from service import readiness
from service.domain import health
from service.domain.health import Workers
from service.domain.job import Work
from service.jobs.aftermath import Aftermath
from service.jobs.engine import Engine
from service.jobs.execution import Execution
from service.jobs.kinds import by_name
from service.jobs.locks import held
from service.jobs.membership import Membership
from service.jobs.queue import Queue
from service.jobs.running import Ground, OnStep, Superseded, nothing
from service.jobs.tasks import Tasks, within

BEAT_SECONDS = 1.0
"""How often a worker says that it lives, where others wait for its death."""

TAKEOVER_SECONDS = 1.0
RECOVERY_SECONDS = 5.0
"""How long an interrupted deletion may wait for its registry to be back, and then for us."""

SWEEP_SECONDS = 5.0
STRAY_LOOKS = 4
"""How often a job that was handed to us has to be seen idle before it counts as lost."""

FIRST_SWEEP_SECONDS = 20.0
"""How long what dead jobs left may keep a worker from taking new ones; each of those looks after
what it is about itself."""

TICK_SECONDS = 1.0
"""How late a scheduled run may begin."""

RETENTION_SECONDS = 3600.0
FORGOTTEN_AT_ONCE = 500

GRACE_SECONDS = 10.0
"""How long running jobs may go on after the worker was asked to stop; then they begin anew."""

HURRY_SECONDS = 2.0
"""The same when the supervisor has died: its successor's worker waits for us to be gone."""

TASK_SECONDS = 2.0
BURIED = 70
"""The exit code of a worker whose work others do."""

LOCK = "worker"
ONLY_ONE = (
    "Another worker runs already, and with SQLite there can be one alone: `registry-admin serve` "
    "has it. For more, set database_url to a PostgreSQL database, or start the API with "
    "`serve --no-worker`."
)

log = logging.getLogger(__name__)


class AnotherWorker(RuntimeError):
    """There can be one worker alone, and it is not this one."""


@dataclass(frozen=True)
class Plan:
    """What a worker does. ``alone`` where no second one is allowed.

    ``recover`` and ``tick`` are called every few seconds. ``retention`` is how long ended jobs
    are kept. ``wait_seconds`` is how long it waits for another one to end, where it must be alone.
    """

    ground: Ground
    workers: Workers
    url: str
    works: Sequence[Work]
    recover: Callable[[], int]
    tick: Callable[[], None]
    retention: timedelta
    alone: bool
    wait_seconds: float = 1.0
    on_step: OnStep = nothing


class Worker:
    """One worker; a process has one at most."""

    def __init__(self, plan: Plan) -> None:
        """Do what ``plan`` says."""
        works = by_name(plan.works)
        compensators = {name: do for work in plan.works for name, do in work.compensators.items()}
        self._plan = plan
        self._queue = Queue(plan.url)
        self._aftermath = Aftermath(plan.ground, self._queue, compensators)
        self._execution = Execution(plan.ground, self._aftermath, works, plan.on_step)
        self._membership = Membership(plan.workers)
        self._strays: dict[str, int] = {}
        self._grace = GRACE_SECONDS
        self._reader, self._writer = os.pipe()

    def stop(self) -> None:
        """Let :meth:`run` return, in GRACE_SECONDS at most; safe in a signal handler."""
        os.write(self._writer, b".")

    def hurry(self) -> None:
        """The same, and sooner."""
        self._grace = HURRY_SECONDS
        self.stop()

    def run(self) -> None:
        """Work until stopped; raise AnotherWorker.

        Jobs may still run when this returns: the process must end then, with os._exit.
        """
        with self._only_one():
            name = self._membership.join(alone=self._plan.alone)
            engine = Engine(self._plan.url, name, self._do)
            self._queue.register()
            within(self._aftermath.sweep, FIRST_SWEEP_SECONDS, "what dead jobs left")
            self._execution.pulse.start()
            engine.launch()
            log.info("worker started", extra={"worker": name})
            tasks = self._begin(engine)
            readiness.tell(readiness.READY)
            os.read(self._reader, 1)
            readiness.tell(readiness.STOPPING)
            self._end(engine, tasks)
            log.info("worker stopped", extra={"worker": name})

    @contextmanager
    def _only_one(self) -> Iterator[None]:
        if not self._plan.alone:
            yield
            return
        with held(self._plan.ground.locks, LOCK, self._plan.wait_seconds) as mine:
            if not mine:
                raise AnotherWorker(ONLY_ONE)
            yield

    def _begin(self, engine: Engine) -> Tasks:
        tasks = Tasks()
        if self._plan.alone:
            tasks.every(health.BEAT_SECONDS, self._beat)
        else:
            tasks.every(BEAT_SECONDS, self._beat)
            tasks.every(TAKEOVER_SECONDS, lambda: self._take_over(engine))
        tasks.every(SWEEP_SECONDS, lambda: self._find_strays(engine))
        tasks.every(SWEEP_SECONDS, self._aftermath.sweep)
        tasks.every(RECOVERY_SECONDS, self._plan.recover)
        tasks.every(TICK_SECONDS, self._plan.tick)
        tasks.every(RETENTION_SECONDS, self._forget)
        return tasks

    def _do(self, job_id: str, exclusive: str | None) -> None:
        try:
            self._execution.run(job_id, exclusive)
        except Superseded:
            self._die(f"the job {job_id} was taken over")

    def _beat(self) -> None:
        if not self._membership.beat():
            self._die("this worker was taken for dead")

    def _die(self, why: str) -> None:
        """End in the middle: others do our work, and two that do the same could do harm."""
        log.error("%s; it ends now, and is to be started again", why)
        os._exit(BURIED)

    def _take_over(self, engine: Engine) -> None:
        executors = self._queue.pending()
        for dead in self._membership.left_behind(executors):
            log.warning("taking over the jobs of %s", dead)
            engine.adopt(dead)

    def _find_strays(self, engine: Engine) -> None:
        """Give back jobs that were handed to us and got lost on the way: seen idle several times.

        On a slow database a job may be idle for seconds, as it begins and as its end is recorded.
        """
        mine = {job for job, owner in self._queue.pending().items() if owner == self._name}
        idle = mine - self._execution.active
        self._strays = {job_id: self._strays.get(job_id, 0) + 1 for job_id in idle}
        for job_id in [one for one, seen in self._strays.items() if seen >= STRAY_LOOKS]:
            log.warning("the job %s was never begun, and is put back into the queue", job_id)
            engine.put_back(job_id, self._name)
            del self._strays[job_id]

    @property
    def _name(self) -> str:
        return self._membership.name

    def _forget(self) -> None:
        records = self._plan.ground.records
        before = self._plan.ground.clock.now() - self._plan.retention
        while expired := records.expired(before, FORGOTTEN_AT_ONCE):
            self._queue.forget(expired)
            records.forget(expired)

    def _end(self, engine: Engine, tasks: Tasks) -> None:
        deadline = time.monotonic() + self._grace
        # DBOS waits whole seconds, once it waits. What it hands out in this moment begins anew.
        seconds = int(self._grace) if self._execution.active else 0
        stopping = threading.Thread(target=engine.stop, args=(seconds,), daemon=True)
        stopping.start()
        while self._execution.active and time.monotonic() < deadline:
            time.sleep(0.05)
        stopping.join(max(0.0, deadline - time.monotonic()))
        tasks.stop(TASK_SECONDS)
        self._membership.leave()
        self._queue.close()
