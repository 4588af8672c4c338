"""The engines of jobs that the suite runs over: in memory, and DBOS on each database."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from service.adapters.store import SqlStore
from service.domain.audit import Attempt, AuditTrail, Change
from service.domain.job import Job, JobRequest, Jobs
from service.domain.job_records import JobRecords
from service.jobs.client import DurableJobs
from service.jobs.engine import migrate
from service.jobs.queue import Queue
from service.jobs.running import Ground
from service.jobs.worker import Plan, Worker
from tests.contract.jobs.works import World
from tests.e2e.bed.postgres import USER, Postgres
from tests.fakes_jobs import FakeJobs
from tests.fakes_store import FakeStore, WallClock

PATIENCE = 60.0
COPIES = count(1)


def wait_for(condition: Callable[[], bool], what: str = "it") -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, f"{what} did not come"
        time.sleep(0.01)


@dataclass
class Bench:
    """Jobs, and what runs them."""

    jobs: Jobs
    records: JobRecords
    trail: AuditTrail
    world: World
    run: Callable[[], None] = lambda: None
    """Lets what waits be run, where that does not come by itself."""

    threads: list[threading.Thread] = field(default_factory=list)

    @contextmanager
    def change(self) -> Iterator[Change]:
        with self.trail.attempt(Attempt("test", "tester")) as change:
            yield change

    def submit(self, kind: str = "plain", **about: Any) -> Job:  # noqa: ANN401 - a request's
        fields = {"registry", "container", "idempotency_key", "exclusive", "requested_by"}
        named = {name: about.pop(name) for name in fields & set(about)}
        with self.change() as change:
            request = JobRequest(kind, about, **{"requested_by": "tester", **named})
            return self.jobs.submit(change, request)

    def cancel(self, job: Job) -> Job:
        with self.change() as change:
            return self.jobs.cancel(change, job.id)

    def ended(self, *jobs: Job) -> Job:
        """Wait until jobs have ended; give the last one."""
        self.go()
        for job in jobs:
            wait_for(lambda job=job: self.jobs.get(job.id).ended, f"the end of {job}")  # type: ignore[misc]
        return self.jobs.get(jobs[-1].id)

    def go(self) -> None:
        """Let jobs be run, while the test goes on."""
        thread = threading.Thread(target=self.run)
        self.threads.append(thread)
        thread.start()

    def begun(self, name: str) -> None:
        self.go()
        wait_for(lambda: f"begin {name}" in self.world.events, f"the beginning of {name}")

    def messages(self, job: Job) -> list[str]:
        return [line.message for line in self.jobs.log(job.id, 0, 1000)]


@pytest.fixture(scope="session")
def template(postgres: Postgres, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The name of a database with all tables: copying it is quicker than making them."""
    url = postgres.create()
    with ready(url, tmp_path_factory.mktemp("template")):
        return url.rpartition("/")[2]


@dataclass
class Place:
    """A database that is ready for jobs."""

    url: str
    data_dir: Path
    store: SqlStore

    @property
    def ground(self) -> Ground:
        return Ground(self.store.jobs, self.store.locks, WallClock())

    def plan(self, world: World, **changed: Any) -> Plan:  # noqa: ANN401 - of a Plan
        plain: dict[str, Any] = {
            "ground": self.ground,
            "workers": self.store.workers,
            "url": self.url,
            "works": world.works(),
            "recover": lambda: 0,
            "tick": lambda: None,
            "retention": timedelta(days=1),
            "alone": self.store.database.is_sqlite,
        }
        return Plan(**{**plain, **changed})

    def jobs(self, world: World, stack: ExitStack) -> DurableJobs:
        queue = Queue(self.url)
        stack.callback(queue.close)
        kinds = [work.kind for work in world.works()]
        return DurableJobs(self.store.jobs, lambda: queue, kinds, WallClock())


@contextmanager
def ready(url: str, data_dir: Path) -> Iterator[Place]:
    store = SqlStore(url, data_dir, WallClock())
    store.migrate()
    migrate(url)
    try:
        yield Place(url, data_dir, store)
    finally:
        store.close()


@contextmanager
def placed(request: pytest.FixtureRequest, data_dir: Path) -> Iterator[Place]:
    if request.param == "sqlite":
        with ready(f"sqlite:///{data_dir}/admin.db", data_dir) as place:
            yield place
        return
    server: Postgres = request.getfixturevalue("postgres")
    template = request.getfixturevalue("template")
    name = f"copy_{next(COPIES)}"
    server.sql(f"CREATE DATABASE {name} TEMPLATE {template}")
    url = f"postgresql://{USER}@127.0.0.1:{server.port}/{name}"
    with ready(url, data_dir) as place:
        # It goes with the server: what DBOS has not ended yet would go on asking for it.
        yield place


@contextmanager
def working(place: Place, world: World, **changed: Any) -> Iterator[Worker]:  # noqa: ANN401
    """A worker of a changed plan, in a thread of this process: there can be one at a time."""
    before = set(threading.enumerate())
    worker = Worker(place.plan(world, **changed))
    thread = threading.Thread(target=worker.run)
    thread.start()
    try:
        yield worker
    finally:
        worker.stop()
        thread.join(PATIENCE)
        # A worker's process ends here. In this one DBOS may outlast it, in the way of the next.
        for left in set(threading.enumerate()) - before:
            if left.name != "pulse":
                left.join(PATIENCE)


@pytest.fixture(params=["sqlite", "postgresql"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    """A database without a worker."""
    with placed(request, tmp_path) as made:
        yield made


@pytest.fixture(scope="module", params=["memory", "sqlite", "postgresql"])
def engine(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Bench]:
    world = World()
    if request.param == "memory":
        jobs = FakeJobs(world.works())
        yield Bench(jobs, jobs.records, AuditTrail(FakeStore().audit), world, jobs.run_all)
        return
    with ExitStack() as stack:
        place = stack.enter_context(placed(request, tmp_path_factory.mktemp("jobs")))
        stack.enter_context(working(place, world))
        durable = place.jobs(world, stack)
        yield Bench(durable, place.store.jobs, AuditTrail(place.store.audit), world)


@pytest.fixture
def bench(engine: Bench) -> Iterator[Bench]:
    """Each engine in turn; its jobs of earlier tests have ended."""
    engine.world.events.clear()
    engine.world.put_back.clear()
    yield engine
    for gate in list(engine.world.gates.values()):
        gate.set()
    engine.run()
    for thread in engine.threads:
        thread.join(PATIENCE)
    engine.threads.clear()
    engine.world.gates.clear()
    engine.world.engine_is_down.clear()
