"""Jobs in real processes that are killed, stopped and started again at any time."""

from __future__ import annotations

import itertools
import json
import os
import random
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest

from demo.processes import free_port, wait_until
from tests.e2e.bed.http import ask
from tests.e2e.bed.service import Service
from tests.e2e.bed.workspace import Child, Workspace

PATIENCE = 120.0
BURIED = 70
PROCESSES = [sys.executable, "-m", "tests.e2e.bed.job_processes"]


class Plant:
    """Workers and APIs on one database, with jobs that note what they do."""

    def __init__(self, workspace: Workspace, database_url: str | None) -> None:
        self.workspace = workspace
        settings = {"database_url": database_url} if database_url else {}
        self.service = Service(workspace, settings | {"log_level": "info"})
        self.folder = workspace.folder("jobs")
        self.events = self.folder / "events"
        self.events.touch()
        self.token = self.service.token("admin")
        self.count = itertools.count(1)
        self.children: dict[str, Child] = {}
        self.ports: dict[str, int] = {}

    def worker(self, name: str = "worker") -> Child:
        command = [*PROCESSES, "worker", str(self.service.config)]
        return self._start(name, command)

    def api(self, name: str = "api") -> str:
        """Start an API; gives its URL once it answers."""
        port = self.ports.setdefault(name, free_port())
        self._start(name, [*PROCESSES, "api", str(self.service.config), str(port)])
        return f"http://127.0.0.1:{port}"

    def restart(self, name: str) -> None:
        self.children[name].kill()
        if name.startswith("api"):
            self.api(name)
        else:
            self.worker(name)

    def ask(self, url: str, path: str, method: str = "GET", **sent: Any) -> Any:  # noqa: ANN401
        headers = {"Authorization": f"Bearer {self.token}", "Content-Type": "application/json"}
        headers |= sent.pop("headers", {})
        body = json.dumps(sent["body"]).encode() if "body" in sent else None
        return ask(f"{url}{path}", method, headers=headers, body=body, timeout=20)

    def submit(self, url: str, **params: Any) -> str:  # noqa: ANN401 - what the job takes
        """Have a job accepted, however often the API dies in the meantime; gives its id."""
        key = f"key-{next(self.count)}"
        body = {"folder": str(self.folder), **params}
        while True:
            with suppress(OSError):
                answer = self.ask(
                    url, "/test-jobs", "POST", body=body, headers={"Idempotency-Key": key}
                )
                if answer.status == 202:
                    return str(answer.json()["id"])
                assert answer.status >= 500, answer.body
            time.sleep(0.05)

    def get(self, url: str, job_id: str) -> dict[str, Any]:
        while True:
            with suppress(OSError):
                answer = self.ask(url, f"/v1/jobs/{job_id}")
                if answer.status == 200:
                    found: dict[str, Any] = answer.json()
                    return found
                assert answer.status >= 500, answer.body
            time.sleep(0.05)

    def ended(self, url: str, job_id: str) -> dict[str, Any]:
        found = [self.get(url, job_id)]

        def over() -> bool:
            found[0] = self.get(url, job_id)
            return found[0]["finished_at"] is not None

        wait_until(over, PATIENCE, f"the end of {job_id}: {found[0]}\n{self.tails()}")
        return found[0]

    def open(self, gate: str) -> None:
        """Let the jobs go on that wait for it."""
        (self.folder / gate).touch()

    def noted(self, word: str) -> list[str]:
        return [line for line in self.events.read_text().splitlines() if line.startswith(word)]

    def saw(self, word: str) -> None:
        wait_until(lambda: bool(self.noted(word)), PATIENCE, f"{word}\n{self.tails()}")

    def tails(self) -> str:
        return "\n".join(f"--- {name}\n{child.tail(8)}" for name, child in self.children.items())

    def close(self) -> None:
        for child in self.children.values():
            child.kill()

    def _start(self, name: str, command: list[str]) -> Child:
        log = self.service.folder / f"{name}.log"
        child = Child(self.workspace, command, log, self.service.environment())
        self.children[name] = child
        return child


@pytest.fixture(params=["sqlite", "postgresql"])
def plant(request: pytest.FixtureRequest, workspace: Workspace) -> Iterator[Plant]:
    url = request.getfixturevalue("database_url") if request.param == "postgresql" else None
    made = Plant(workspace, url)
    yield made
    made.close()


@pytest.fixture
def distributed(workspace: Workspace, database_url: str) -> Iterator[Plant]:
    made = Plant(workspace, database_url)
    yield made
    made.close()


@pytest.fixture
def embedded(workspace: Workspace) -> Iterator[Plant]:
    made = Plant(workspace, None)
    yield made
    made.close()


def test_a_job_goes_on_in_the_next_worker_after_a_power_cut(plant: Plant) -> None:
    url = plant.api()
    plant.worker()
    job = plant.submit(url, gate="open")
    plant.saw(f"begin {job}")
    plant.restart("worker")
    plant.open("open")
    assert plant.ended(url, job)["state"] == "succeeded"
    begun = plant.noted(f"begin {job}")
    assert len(begun) == 2
    assert begun[1].endswith("again")
    log = plant.ask(url, f"/v1/jobs/{job}/log").json()["items"]
    assert [line["seq"] for line in log] == list(range(1, len(log) + 1))


def test_a_living_worker_takes_over_the_jobs_of_a_dead_one(distributed: Plant) -> None:
    url = distributed.api()
    distributed.worker("worker-a")
    job = distributed.submit(url, gate="open")
    distributed.saw(f"begin {job}")
    other = distributed.worker("worker-b")
    wait_until(lambda: "worker started" in other.tail(), PATIENCE, "another worker")
    distributed.children["worker-a"].kill()
    distributed.open("open")
    ended = distributed.ended(url, job)
    assert (ended["state"], ended["result"]) == ("succeeded", {"by": other.pid})


def test_a_worker_that_was_taken_for_dead_ends_and_no_job_is_done_twice_at_once(
    distributed: Plant,
) -> None:
    """It is stopped in the middle of a job for longer than others have patience."""
    url = distributed.api()
    stalled = distributed.worker("worker-a")
    job = distributed.submit(url, gate="open", thing="a", exclusive="registry/a")
    distributed.saw(f"begin {job}")
    other = distributed.worker("worker-b")
    wait_until(lambda: "worker started" in other.tail(), PATIENCE, "another worker")
    os.kill(stalled.pid, signal.SIGSTOP)
    wait_until(lambda: "is dead" in other.tail(), PATIENCE, "the stalled one taken for dead")
    after = distributed.submit(url, thing="a", exclusive="registry/a")
    time.sleep(1)  # enough for the other to begin, if nothing kept it from that
    assert len(distributed.noted("begin")) == 1
    os.kill(stalled.pid, signal.SIGCONT)
    wait_until(lambda: not stalled.is_running(), PATIENCE, "the end of the stalled one")
    assert stalled.process.returncode == BURIED
    distributed.open("open")
    assert distributed.ended(url, job)["result"] == {"by": other.pid}
    assert distributed.ended(url, after)["state"] == "succeeded"
    assert distributed.noted("overlap") == []


def test_a_worker_that_is_asked_to_stop_lets_jobs_end(plant: Plant) -> None:
    url = plant.api()
    worker = plant.worker()
    job = plant.submit(url, seconds=2)
    plant.saw(f"begin {job}")
    assert worker.stop() == 0
    assert plant.get(url, job)["state"] == "succeeded"
    waiting = plant.submit(url)
    assert plant.get(url, waiting)["state"] == "queued"
    plant.worker()
    assert plant.ended(url, waiting)["state"] == "succeeded"


def test_a_job_that_outlasts_the_grace_begins_anew(embedded: Plant) -> None:
    url = embedded.api()
    worker = embedded.worker()
    job = embedded.submit(url, gate="open")
    embedded.saw(f"begin {job}")
    assert worker.stop() == 0
    assert embedded.get(url, job)["state"] == "running"
    embedded.worker()
    wait_until(lambda: len(embedded.noted(f"begin {job}")) == 2, PATIENCE, "a second beginning")
    embedded.open("open")
    assert embedded.ended(url, job)["state"] == "succeeded"


def test_what_a_job_left_is_put_back_when_it_dies_each_time(embedded: Plant) -> None:
    url = embedded.api()
    embedded.worker()
    job = embedded.submit(url, gate="never", compensate={"what": "the registry"})
    for number in range(1, 11):
        wait_until(
            lambda number=number: len(embedded.noted(f"begin {job}")) == number,  # type: ignore[misc]
            PATIENCE,
            f"beginning {number}\n{embedded.tails()}",
        )
        embedded.restart("worker")
    ended = embedded.ended(url, job)
    assert (ended["state"], ended["error"]["code"]) == ("failed", "job-died")
    assert embedded.noted("put-back") == [f"put-back {job} the registry"]


def test_a_second_worker_on_sqlite_refuses(embedded: Plant) -> None:
    first = embedded.worker()
    wait_until(lambda: "worker started" in first.tail(), PATIENCE, "the first one")
    log = embedded.service.folder / "second.log"
    command = [sys.executable, "-m", "service.cli", "worker"]
    second = Child(embedded.workspace, command, log, embedded.service.environment())
    wait_until(lambda: not second.is_running(), PATIENCE, "the end of the second one")
    assert second.process.returncode == 1
    (line,) = log.read_text().splitlines()
    assert "with SQLite there can be one alone" in line
    assert "PostgreSQL" in line
    assert first.is_running()


def test_the_service_starts_again_with_its_jobs_after_a_power_cut(embedded: Plant) -> None:
    """The real service: what it does not know is told, what it does is kept."""
    url = embedded.api()
    job = embedded.submit(url)
    embedded.children["api"].kill()
    service = embedded.service
    service.start()
    service.kill()
    service.start()
    wait_until(
        lambda: service.ask(f"/v1/jobs/{job}").json()["finished_at"] is not None,
        PATIENCE,
        "the end",
    )
    ended = service.ask(f"/v1/jobs/{job}").json()
    assert ended["state"] == "failed"
    assert "knows no jobs of kind test" in ended["error"]["detail"]
    assert service.stop() == 0


class Storm:
    """Jobs are accepted and done while processes are killed at random."""

    def __init__(self, plant: Plant, count: int, pause: tuple[float, float]) -> None:
        several = 2 if "postgresql" in plant.service.config.read_text() else 1
        self.plant = plant
        self.count = count
        self.pause = pause
        self.urls = [plant.api(f"api-{number}") for number in range(several)]
        for number in range(several):
            plant.worker(f"worker-{number}")
        self.chance = random.Random(count)  # noqa: S311 - a storm needs no cryptography
        self.accepted: list[str] = []
        self.done = threading.Event()

    def run(self) -> list[dict[str, Any]]:
        """Give the jobs, ended."""
        accepting = threading.Thread(target=self.accept)
        accepting.start()
        # Started in this thread: the kernel ends a child with the thread that started it.
        while not self.done.wait(self.chance.uniform(*self.pause)):
            self.kill()
        accepting.join()
        for _ in self.plant.children:
            self.kill()
            time.sleep(self.chance.uniform(*self.pause))
        return [self.plant.ended(self.urls[0], job) for job in self.accepted]

    def accept(self) -> None:
        for number in range(self.count):
            thing = f"registry-{number % 4}"
            about = {"exclusive": f"registry/{thing}", "thing": thing} if number % 2 else {}
            seconds = self.chance.choice([0, 0.02, 0.1, 0.3])
            url = self.urls[number % len(self.urls)]
            self.accepted.append(self.plant.submit(url, seconds=seconds, **about))
        self.done.set()

    def kill(self) -> None:
        self.plant.restart(self.chance.choice(sorted(self.plant.children)))


def weather(plant: Plant, count: int, pause: tuple[float, float]) -> None:
    jobs = Storm(plant, count, pause).run()
    ids = {job["id"] for job in jobs}
    assert len(ids) == count
    assert [job for job in jobs if job["state"] != "succeeded"] == []
    assert ids <= {line.split()[1] for line in plant.noted("end")}
    assert plant.noted("overlap") == []
    url = f"http://127.0.0.1:{plant.ports['api-0']}"
    for job_id in sorted(ids)[::10]:
        log = plant.ask(url, f"/v1/jobs/{job_id}/log").json()["items"]
        assert [line["seq"] for line in log] == list(range(1, len(log) + 1))


def test_nothing_is_lost_and_nothing_overlaps_in_a_storm_of_kills(plant: Plant) -> None:
    weather(plant, 40, (0.8, 2.0))


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_a_thousand_jobs_in_a_storm_of_kills(plant: Plant) -> None:
    weather(plant, 1000, (0.8, 3.0))
