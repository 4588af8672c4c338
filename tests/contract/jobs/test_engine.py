"""What the engine on DBOS promises beyond the port: pitfalls of DBOS, each answered."""

from __future__ import annotations

import base64
import json
import logging
import pickle
import threading
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from service.domain.audit import AuditTrail
from service.domain.errors import JobUnknown
from service.domain.job import Job, JobKind
from service.jobs import queue as queue_module
from service.jobs.engine import Engine
from service.jobs.lanes import lane_of
from service.jobs.queue import AT_ONCE, QUEUE, VERSION, Queue
from service.jobs.worker import STRAY_LOOKS, AnotherWorker, Worker
from service.log import JsonFormatter
from tests.contract.jobs.conftest import Bench, Place, wait_for, working
from tests.contract.jobs.works import World

DEAD = "worker-7"
HERE = {"container": "registry"}


@dataclass
class Floor:
    """A database with jobs accepted and no worker yet."""

    place: Place
    bench: Bench
    queue: Queue

    @property
    def world(self) -> World:
        return self.bench.world

    def row(self, job: Job) -> Mapping[str, Any]:
        """What DBOS has of a job."""
        query = f"SELECT * FROM {self.prefix}workflow_status WHERE workflow_uuid = '{job.id}'"  # noqa: S608
        rows = self.place.store.database.rows(text(query))
        return dict(rows[0]._mapping) if rows else {}  # noqa: SLF001

    def sql(self, statement: str, **values: object) -> None:
        with self.place.store.database.writing() as connection:
            connection.execute(text(statement.replace("dbos.", self.prefix)), values)

    def hand_to(self, executor: str, job: Job) -> None:
        """As when a worker has taken a job and died."""
        self.sql(
            "UPDATE dbos.workflow_status SET status = 'PENDING', executor_id = :executor, "
            "recovery_attempts = 1, application_version = '1' WHERE workflow_uuid = :id",
            executor=executor,
            id=job.id,
        )

    @property
    def prefix(self) -> str:
        return "" if self.place.store.database.is_sqlite else "dbos."


@pytest.fixture(autouse=True)
def haste(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.jobs.worker.SWEEP_SECONDS", 0.2)
    monkeypatch.setattr("service.jobs.worker.TAKEOVER_SECONDS", 0.2)
    monkeypatch.setattr("service.jobs.worker.BEAT_SECONDS", 0.1)
    monkeypatch.setattr("service.jobs.membership.SILENT_SECONDS", 1.0)


@pytest.fixture
def floor(place: Place) -> Iterator[Floor]:
    world = World()
    with ExitStack() as stack:
        jobs = place.jobs(world, stack)
        queue = Queue(place.url)
        stack.callback(queue.close)
        bench = Bench(jobs, place.store.jobs, AuditTrail(place.store.audit), world)
        yield Floor(place, bench, queue)


def test_a_job_is_stored_and_queued_or_neither(
    floor: Floor, monkeypatch: pytest.MonkeyPatch
) -> None:
    enqueue = Queue.enqueue

    def fail(queue: Queue, *arguments: Any) -> None:  # noqa: ANN401
        enqueue(queue, *arguments)
        raise ConnectionError("in the last moment")

    monkeypatch.setattr(Queue, "enqueue", fail)
    with pytest.raises(ConnectionError):
        floor.bench.submit()
    for table in ("job", f"{floor.prefix}workflow_status", f"{floor.prefix}workflow_input"):
        assert floor.place.store.database.rows(text(f"SELECT 1 FROM {table}")) == []  # noqa: S608


def test_a_job_waits_in_its_lane_as_plain_json(floor: Floor) -> None:
    job = floor.bench.submit(exclusive="registry/a")
    row = floor.row(job)
    assert (row["status"], row["queue_name"]) == ("ENQUEUED", QUEUE)
    assert row["queue_partition_key"] == "exclusive/registry/a"
    assert (row["application_version"], row["serialization"]) == (VERSION, "portable_json")
    stored = floor.place.store.database.rows(
        text(f"SELECT inputs FROM {floor.prefix}workflow_input")  # noqa: S608
    )
    assert json.loads(stored[0].inputs)["positionalArgs"] == [job.id, "registry/a"]


def test_lanes() -> None:
    plain, bulk = JobKind("a", "s"), JobKind("b", "s", bulk=True)
    assert lane_of("1", plain, "registry/x") == lane_of("2", bulk, "registry/x")
    assert lane_of("1", plain, None) != lane_of("2", plain, None)
    assert {lane_of(str(number), bulk, None) for number in range(100)} == {
        f"bulk/{number}" for number in range(4)
    }


class Bomb:
    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (Path(self.place),)

    def __init__(self, place: Path) -> None:
        self.place = str(place)


def test_nothing_is_unpickled_that_somebody_wrote_into_the_database(
    floor: Floor, tmp_path: Path
) -> None:
    job = floor.bench.submit()
    bomb = base64.b64encode(pickle.dumps(Bomb(tmp_path / "executed"))).decode()
    floor.sql("UPDATE dbos.workflow_input SET inputs = :bomb", bomb=bomb)
    floor.sql("UPDATE dbos.workflow_status SET serialization = 'py_pickle'")
    floor.sql("UPDATE job SET created_at = '2020-01-01 00:00:00'")
    with working(floor.place, floor.world):
        assert floor.bench.ended(job).state == "failed"
    assert not (tmp_path / "executed").exists()


def test_what_a_worker_of_the_same_name_left_is_begun_anew(floor: Floor) -> None:
    job = floor.bench.submit(name="mine")
    floor.hand_to("worker-1", job)
    with working(floor.place, floor.world):
        assert floor.bench.ended(job).state == "succeeded"


def test_what_a_worker_left_that_is_gone_is_taken_over(floor: Floor) -> None:
    if floor.place.store.database.is_sqlite:
        return  # there is one worker alone
    job = floor.bench.submit(exclusive="registry/a")
    floor.hand_to(DEAD, job)
    with working(floor.place, floor.world):
        assert floor.bench.ended(job).state == "succeeded"
    row = floor.row(job)
    assert (row["queue_name"], row["queue_partition_key"]) == (QUEUE, "exclusive/registry/a")


def test_a_silent_worker_is_declared_dead_and_its_jobs_taken_over(floor: Floor) -> None:
    if floor.place.store.database.is_sqlite:
        return  # as above
    workers = floor.place.store.workers
    workers.join(DEAD)
    job = floor.bench.submit()
    floor.hand_to(DEAD, job)
    with working(floor.place, floor.world):
        assert floor.bench.ended(job).state == "succeeded"
    assert not workers.beat(DEAD)


def test_a_worker_that_beats_keeps_its_jobs(floor: Floor) -> None:
    if floor.place.store.database.is_sqlite:
        return  # as above
    workers = floor.place.store.workers
    workers.join(DEAD)
    job, other = floor.bench.submit(), floor.bench.submit()
    floor.hand_to(DEAD, job)
    stopped = threading.Event()

    def beat() -> None:
        while not stopped.wait(0.1):
            assert workers.beat(DEAD)

    beating = threading.Thread(target=beat)
    beating.start()
    with working(floor.place, floor.world):
        floor.bench.ended(other)
        threading.Event().wait(3)  # several times as long as a silent one has
        assert floor.bench.jobs.get(job.id).state == "queued"
        stopped.set()
        beating.join()
        assert floor.bench.ended(job).state == "succeeded"


def test_a_job_that_was_handed_out_and_never_begun_is_put_back(
    floor: Floor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.jobs.worker.STRAY_LOOKS", 2)
    with working(floor.place, floor.world):
        lost = floor.bench.submit(exclusive="registry/lost")
        floor.bench.ended(lost)
        # Ours ends first; what DBOS writes after it must not undo what is written here.
        wait_for(lambda: floor.row(lost)["status"] == "SUCCESS", "the end of the workflow")
        floor.sql("UPDATE job SET state = 'queued', finished_at = NULL WHERE id = :id", id=lost.id)
        floor.hand_to("worker-1", lost)
        assert floor.bench.ended(lost).state == "succeeded"


def test_several_looks_are_taken_before_a_job_is_put_back(floor: Floor) -> None:
    engine, put_back = Engine(floor.place.url, "worker-1", lambda *_: None), []
    engine.put_back = lambda *given: put_back.append(given)  # type: ignore[method-assign]
    worker = Worker(floor.place.plan(floor.world))
    worker._membership.name = "worker-1"  # noqa: SLF001
    job = floor.bench.submit()
    floor.hand_to("worker-1", job)
    for number in range(2 * STRAY_LOOKS + 1):
        assert put_back == [(job.id, "worker-1")] * (number // STRAY_LOOKS)
        worker._find_strays(engine)  # noqa: SLF001
    worker._queue.close()  # noqa: SLF001


@pytest.mark.parametrize("status", ["ERROR", "CANCELLED", "MAX_RECOVERY_ATTEMPTS_EXCEEDED", None])
def test_a_job_that_is_dead_for_good_ends_and_what_it_left_is_put_back(
    floor: Floor, status: str | None
) -> None:
    job = floor.bench.submit(exclusive="registry/a")
    records = floor.place.store.jobs
    assert records.start(job.id, "the dead run")
    records.compensate(job.id, "the dead run", "start-again", HERE)
    if status:
        floor.sql("UPDATE dbos.workflow_status SET status = :status", status=status)
    else:
        floor.queue.forget([job.id])
    with working(floor.place, floor.world):
        ended = floor.bench.ended(job)
    assert ended.state == "failed"
    assert ended.error is not None
    assert ended.error["code"] == "job-died"
    assert "as it was before" in ended.error["detail"]
    assert floor.world.put_back == [(job.id, HERE)]
    assert floor.bench.messages(job)[-2:] == ["started registry again", "start-again done"]


def test_a_dead_job_that_was_cancelled_ends_cancelled(floor: Floor) -> None:
    job = floor.bench.submit()
    records = floor.place.store.jobs
    records.start(job.id, "the dead run")
    records.compensate(job.id, "the dead run", "start-again", HERE)
    floor.bench.cancel(job)
    floor.queue.forget([job.id])
    with working(floor.place, floor.world):
        assert floor.bench.ended(job).state == "cancelled"
    assert floor.world.put_back == [(job.id, HERE)]


def test_what_cannot_be_put_back_yet_is_tried_again(floor: Floor) -> None:
    job = floor.bench.submit()
    records = floor.place.store.jobs
    records.start(job.id, "the dead run")
    records.compensate(job.id, "the dead run", "start-again", HERE)
    floor.queue.forget([job.id])
    floor.world.engine_is_down.set()
    with working(floor.place, floor.world):
        ended = floor.bench.ended(job)
        assert ended.error is not None
        assert "could not be put back yet" in ended.error["detail"]
        floor.world.engine_is_down.clear()
        wait_for(lambda: floor.world.put_back == [(job.id, HERE)])
        wait_for(lambda: records.compensations() == [])
    assert floor.bench.messages(job)[-1] == "start-again done"


def test_what_dead_jobs_left_is_put_back_before_waiting_ones_begin(floor: Floor) -> None:
    dead = floor.bench.submit(exclusive="registry/a")
    records = floor.place.store.jobs
    records.start(dead.id, "the dead run")
    records.compensate(dead.id, "the dead run", "start-again", HERE)
    floor.queue.forget([dead.id])
    waiting = floor.bench.submit(exclusive="registry/a", name="next")
    with working(floor.place, floor.world):
        after = floor.bench.ended(waiting)
    put_back = floor.bench.jobs.log(dead.id, 0, 100)[-1]
    assert after.started_at is not None
    assert put_back.time < after.started_at


def test_the_next_job_buries_a_dead_one_that_left_something(floor: Floor) -> None:
    """As when the one dies for good while the other waits for its turn: no sweep comes between."""
    with working(floor.place, floor.world):
        blocking = floor.bench.submit(exclusive="registry/a", gate="go")
        floor.bench.begun(blocking.id)
        dead = floor.bench.submit(exclusive="registry/a")
        waiting = floor.bench.submit(exclusive="registry/a", name="next")
        floor.queue.forget([dead.id])
        records = floor.place.store.jobs
        records.start(dead.id, "the dead run")
        records.compensate(dead.id, "the dead run", "start-again", HERE)
        floor.world.gates["go"].set()
        floor.bench.ended(blocking, waiting)
        assert floor.bench.ended(dead).state == "failed"
        assert floor.world.put_back == [(dead.id, HERE)]


def test_a_job_that_kills_its_worker_each_time_ends(floor: Floor) -> None:
    job = floor.bench.submit(name="deadly")
    records = floor.place.store.jobs
    for _ in range(10):
        records.start(job.id, "killed")
    records.compensate(job.id, "killed", "start-again", HERE)
    with working(floor.place, floor.world):
        ended = floor.bench.ended(job)
    assert ended.error is not None
    assert ended.error["code"] == "job-died"
    assert "begin deadly" not in floor.world.events
    assert floor.world.put_back == [(job.id, HERE)]


def test_a_rerun_is_told_so_and_its_log_goes_on(floor: Floor) -> None:
    job = floor.bench.submit()
    records = floor.place.store.jobs
    started = records.start(job.id, "killed")
    assert started is not None
    assert started.attempts == 1
    records.note(job.id, "info", "from the first run")
    with working(floor.place, floor.world):
        floor.bench.ended(job)
    log = floor.bench.jobs.log(job.id, 0, 100)
    assert [line.seq for line in log] == list(range(1, len(log) + 1))
    assert log[0].message == "from the first run"
    assert "begins anew" in log[1].message


def test_a_running_job_that_is_cancelled_keeps_its_lane(floor: Floor) -> None:
    with working(floor.place, floor.world):
        job = floor.bench.submit(exclusive="registry/a", gate="slow", name="slow", thing="a")
        floor.bench.begun("slow")
        after = floor.bench.submit(exclusive="registry/a", name="after", thing="a")
        floor.bench.cancel(job)
        assert floor.row(job)["status"] == "PENDING"
        threading.Event().wait(0.5)  # several polls
        assert "begin after" not in floor.world.events
        floor.world.gates["slow"].set()
        floor.bench.ended(job, after)
    assert floor.world.overlaps == []


def test_a_lock_keeps_jobs_apart_where_the_queue_does_not(floor: Floor) -> None:
    """As when a worker is taken for dead that still runs a job."""
    with working(floor.place, floor.world):
        job = floor.bench.submit(exclusive="registry/a", gate="long", name="long", thing="a")
        floor.bench.begun("long")
        floor.sql("UPDATE dbos.workflow_status SET status = 'ERROR'")
        after = floor.bench.submit(exclusive="registry/a", name="after", thing="a")
        wait_for(lambda: floor.row(after)["status"] == "PENDING")
        threading.Event().wait(0.5)
        assert floor.bench.jobs.get(after.id).state == "queued"
        floor.world.gates["long"].set()
        assert floor.bench.ended(job, after).state == "succeeded"
    assert floor.world.overlaps == []
    assert floor.bench.jobs.get(job.id).state == "succeeded"


def test_many_wait_while_some_run(floor: Floor) -> None:
    with working(floor.place, floor.world):
        made = [floor.bench.submit(gate="all") for _ in range(AT_ONCE + 4)]
        wait_for(lambda: len(floor.world.events) >= AT_ONCE)
        threading.Event().wait(0.5)
        assert len(floor.world.events) == AT_ONCE
        floor.world.gates["all"].set()
        floor.bench.ended(*made)


def test_old_jobs_go_with_what_dbos_has_of_them(
    floor: Floor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.jobs.worker.FORGOTTEN_AT_ONCE", 2)
    with working(floor.place, floor.world):
        old = [floor.bench.submit(lines=1) for _ in range(5)]
        new = floor.bench.ended(*old, floor.bench.submit())
    for job in old:
        floor.sql("UPDATE job SET finished_at = '2020-01-01 00:00:00' WHERE id = :id", id=job.id)
    with working(floor.place, floor.world, retention=timedelta(days=365)):
        wait_for(lambda: not floor.row(old[-1]))
        wait_for(lambda: not any(map(floor.row, old)))

        def is_gone(job: Job) -> bool:
            try:
                floor.bench.jobs.get(job.id)
            except JobUnknown:
                return True
            return False

        wait_for(lambda: all(map(is_gone, old)))
    assert floor.bench.jobs.get(new.id).state == "succeeded"
    assert floor.row(new)["status"] == "SUCCESS"


def test_a_worker_says_little(floor: Floor, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO), working(floor.place, floor.world):
        floor.bench.ended(floor.bench.submit())
    assert [record.getMessage() for record in caplog.records] == [
        "worker started",
        "job begins",
        "job ended",
        "worker stopped",
    ]


def test_the_lines_of_a_job_tell_whose_it_is_and_how_it_ended(
    floor: Floor, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO), working(floor.place, floor.world):
        asked = {"registry": "r", "container": "c", "requested_by": "ann"}
        job = floor.bench.ended(floor.bench.submit(fail="known", **asked))
    lines = [JsonFormatter().fields(record) for record in caplog.records if "job" in vars(record)]
    who = {"job": job.id, "kind": "plain", "attempt": 1, "actor": "ann"}
    where = {"registry": "r", "container": "c"}
    for line in lines:
        assert (who | where).items() <= line.items()
    assert [line.get("state") for line in lines] == [None, "failed"]
    assert lines[1]["duration_ms"] >= 0


def test_a_worker_that_stops_lets_jobs_end(floor: Floor) -> None:
    with working(floor.place, floor.world):
        job = floor.bench.submit(sleep=1.5, name="short")
        floor.bench.begun("short")
    assert floor.bench.jobs.get(job.id).state == "succeeded"
    assert floor.place.store.workers.beats() == {}


def test_where_there_may_be_one_worker_a_second_one_refuses(floor: Floor) -> None:
    if not floor.place.store.database.is_sqlite:
        return
    with working(floor.place, floor.world):
        floor.bench.ended(floor.bench.submit())
        with pytest.raises(AnotherWorker, match="PostgreSQL"):
            Worker(floor.place.plan(floor.world, wait_seconds=0)).run()


def test_workers_on_postgresql_have_names_of_their_own(floor: Floor) -> None:
    if floor.place.store.database.is_sqlite:
        return
    floor.place.store.workers.join("worker-1")
    with working(floor.place, floor.world):
        wait_for(lambda: "worker-2" in floor.place.store.workers.beats())


def test_the_database_may_go_away_for_a_while(floor: Floor, request: pytest.FixtureRequest) -> None:
    if floor.place.store.database.is_sqlite:
        return
    server = request.getfixturevalue("postgres")
    name = floor.place.url.rpartition("/")[2]
    cut = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = "
    with working(floor.place, floor.world):
        job = floor.bench.submit(gate="cut", lines=3, name="cut")
        floor.bench.begun("cut")
        server.sql(f"{cut} '{name}'")
        floor.world.gates["cut"].set()
        assert floor.bench.ended(job).state == "succeeded"
        assert floor.bench.ended(floor.bench.submit()).state == "succeeded"


def test_limits_of_the_connections_are_added_to_a_url() -> None:
    assert queue_module.bounded("sqlite:////a/b.db") == "sqlite:////a/b.db"
    limited = queue_module.bounded("postgresql://u:p%40@h/d?tcp_user_timeout=1&sslmode=require")
    assert limited.startswith("postgresql://u:p%40@h/d?")
    for part in ("tcp_user_timeout=1", "sslmode=require", "connect_timeout=5"):
        assert part in limited
