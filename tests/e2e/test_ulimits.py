"""Ulimits through the API on a real engine: they apply, and no container is ever lost."""

from __future__ import annotations

import itertools
import os
import random
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from docker.errors import APIError, NotFound
from docker.models.containers import Container

from demo.processes import wait_until
from service.domain.recreating import REMOVE, STEPS
from tests.e2e.bed.api import at_once, get, problem
from tests.e2e.bed.collecting import await_step
from tests.e2e.bed.engine import Engine, pack
from tests.e2e.bed.service import MakeService, Service, engine_table

PROGRAM = ["sh", "-c", "trap 'exit 0' TERM; sleep 600 & wait"]
POLICY = {"Name": "always", "MaximumRetryCount": 0}
NUMBERS = itertools.count(1)
BACK_SECONDS = 30.0
WAIT = {"Prefer": "wait=60"}


@dataclass
class Quay:
    """A service that may change some containers, and those."""

    engine: Engine
    service: Service
    prefix: str
    made: list[str] = field(default_factory=list)

    def run(self, *command: str, image: str | None = None, **options: Any) -> str:  # noqa: ANN401
        """Start a container with a volume that holds something; give its name."""
        name = f"{self.prefix}{next(NUMBERS)}"
        self.made.append(name)
        self.engine.client.containers.run(
            image or self.engine.busybox_image(),
            list(command) or PROGRAM,
            name=name,
            detach=True,
            labels=self.engine.labels,
            **{
                "network_mode": "none",
                "restart_policy": {"Name": "always"},
                "volumes": ["/data"],
                **options,
            },
        )
        self.container(name).put_archive("/data", pack({"file": b"precious\n"}, {}))
        return name

    def run_many(self, count: int) -> list[str]:
        return at_once([self.run] * count)

    def container(self, name: str) -> Container:
        return self.engine.client.containers.get(name)

    def alike(self, name: str) -> list[str]:
        """Names of all containers that are there for one of that name."""
        found = self.engine.client.containers.list(all=True, filters={"name": name})
        names = [str(one.name) for one in found]
        # Not by the beginning alone: that of number 1 is that of number 10, too.
        return sorted(one for one in names if one == name or one.startswith(f"{name}-"))

    def put(self, name: str, soft: int, hard: int, **options: Any) -> Any:  # noqa: ANN401
        limits = [{"name": "nofile", "soft": soft, "hard": hard}]
        return self.ask(name, {"ulimits": limits, **options})

    def ask(self, name: str, body: object, headers: dict[str, str] | None = None) -> Any:  # noqa: ANN401
        path = f"/v1/containers/{name}/ulimits"
        return self.service.ask(path, "PUT", body=body, headers=headers, timeout=90)

    def ended(self, name: str, soft: int, hard: int, **options: Any) -> Any:  # noqa: ANN401 - JSON
        limits = [{"name": "nofile", "soft": soft, "hard": hard}]
        answer = self.ask(name, {"ulimits": limits, **options}, WAIT)
        assert answer.status == 200, self.service.log.read_text()[-3000:]
        return answer.json()

    def limits(self, name: str) -> str:
        """What the kernel says of open files of its first process."""
        pid = self.container(name).attrs["State"]["Pid"]
        lines = Path(f"/proc/{pid}/limits").read_text().splitlines()
        (line,) = (line for line in lines if line.startswith("Max open files"))
        return ":".join(line.split()[3:5])

    def require_one(self, name: str) -> Container:
        """One container is there, of that name, running as before, with what its volume held."""
        assert self.alike(name) == [name]
        found = self.container(name)
        assert found.attrs["State"]["Running"] is True
        assert found.attrs["HostConfig"]["RestartPolicy"] == POLICY
        assert self.engine.content(found, "/data/file") == b"precious\n"
        return found


def is_one(quay: Quay, name: str) -> bool:
    try:
        return quay.alike(name) == [name] and bool(
            quay.container(name).attrs["State"]["Running"]
            and quay.container(name).attrs["HostConfig"]["RestartPolicy"] == POLICY
        )
    except (APIError, NotFound, OSError):
        return False


@pytest.fixture(scope="module")
def prefix(engine: Engine) -> str:
    return f"ulimit-{engine.workspace.owner}-"


@pytest.fixture(scope="module")
def bed(engine: Engine, module_service: MakeService, prefix: str) -> Service:
    return module_service(settings={"engines": {"local": engine_table(engine, f"{prefix}*")}})


@pytest.fixture
def quay(engine: Engine, bed: Service, prefix: str) -> Iterator[Quay]:
    made = Quay(engine, bed, prefix)
    yield made
    for name in made.made:
        for left in made.alike(name):
            made.container(left).remove(force=True, v=True)


def test_they_really_apply_and_nothing_else_changes(quay: Quay) -> None:
    name = quay.run()
    before = quay.container(name)
    job = quay.ended(name, 256, 512)
    assert job["state"] == "succeeded", job["error"]
    after = quay.require_one(name)
    assert after.id == job["result"]["new_id"] != before.id == job["result"]["old_id"]
    assert quay.limits(name) == "256:512"
    assert after.attrs["HostConfig"]["Ulimits"] == [{"Name": "nofile", "Soft": 256, "Hard": 512}]
    shown = get(quay.service, f"/v1/containers/{name}")
    assert {"name": "nofile", "soft": 256, "hard": 512} in shown["effective_ulimits"]
    (mount,) = before.attrs["Mounts"]
    assert [one["Name"] for one in after.attrs["Mounts"]] == [mount["Name"]]
    assert 0 < job["result"]["down_seconds"] < 10


def test_the_volumes_of_an_image_are_not_made_anew(quay: Quay, words: dict[str, str]) -> None:
    name = quay.run("600", image=words["full"], volumes=None)
    before = volumes(quay)
    for dry_run in (True, False):
        job = quay.ended(name, 256, 512, dry_run=dry_run)
        assert job["state"] == "succeeded", job["error"]
    assert volumes(quay) == before


def volumes(quay: Quay) -> set[str]:
    return {str(one.name) for one in quay.engine.client.volumes.list()}


def test_a_dry_run_touches_nothing(quay: Quay) -> None:
    name = quay.run()
    before = quay.container(name).attrs
    job = quay.ended(name, 256, 512, dry_run=True)
    assert job["result"]["dry_run"] is True
    assert any("/data" in warning for warning in job["result"]["warnings"])
    after = quay.container(name).attrs
    assert {**after, "ExecIDs": None} == {**before, "ExecIDs": None}
    assert quay.alike(name) == [name]


def test_unlimited_and_none_at_all(quay: Quay) -> None:
    name = quay.run()
    limits = [{"name": "core", "soft": -1, "hard": -1}]
    assert quay.ask(name, {"ulimits": limits}, WAIT).json()["state"] == "succeeded"
    assert quay.container(name).attrs["HostConfig"]["Ulimits"] == [
        {"Name": "core", "Soft": -1, "Hard": -1}
    ]
    assert quay.ask(name, {"ulimits": []}, WAIT).json()["state"] == "succeeded"
    assert not quay.require_one(name).attrs["HostConfig"]["Ulimits"]


def test_a_hard_limit_that_the_kernel_refuses_is_refused_at_once(quay: Quay) -> None:
    name = quay.run()
    before = quay.container(name).id
    answer = quay.put(name, 1, 2**31)
    problem(answer, 422, "validation-failed")
    assert "rlimit" in answer.json()["errors"][0]["detail"]
    assert quay.require_one(name).id == before
    assert not quay.engine.client.containers.list(all=True, filters={"label": "registry-admin.job"})


def test_what_it_wrote_outside_of_its_volumes(quay: Quay) -> None:
    name = quay.run()
    quay.container(name).exec_run(["sh", "-c", "echo x > /note"])
    answer = quay.put(name, 256, 512)
    problem(answer, 409, "writable-layer-changed")
    assert answer.json()["paths"] == ["/note"]
    job = quay.ended(name, 256, 512, on_writable_layer="discard")
    assert job["state"] == "succeeded", job["error"]
    quay.require_one(name)


def test_dependents_and_states_are_refused(quay: Quay) -> None:
    name = quay.run()
    other = quay.run(network_mode=f"container:{name}")
    answer = quay.put(name, 256, 512)
    problem(answer, 409, "container-has-dependents")
    assert answer.json()["dependents"] == [other]
    quay.container(other).remove(force=True, v=True)
    quay.container(name).pause()
    problem(quay.put(name, 256, 512), 409, "container-not-running")
    quay.container(name).unpause()
    quay.container(name).stop()
    problem(quay.put(name, 256, 512), 409, "container-not-running")


def test_a_program_that_cannot_live_with_them_is_brought_back(quay: Quay) -> None:
    name = quay.run("sh", "-c", "[ $(ulimit -n) -gt 100 ] || exit 3; exec sleep 600", init=True)
    before = quay.container(name).id
    job = quay.ended(name, 50, 50)
    assert job["error"]["code"] == "recreation-failed"
    assert quay.require_one(name).id == before


def test_an_image_that_lost_its_name_is_used_by_its_id(quay: Quay) -> None:
    quay.container(quay.run()).commit("ulimit-image", "gone")
    name = quay.run(image="ulimit-image:gone")
    image_id = quay.container(name).attrs["Image"]
    quay.engine.client.images.remove("ulimit-image:gone", force=True)
    job = quay.ended(name, 256, 512)
    assert job["state"] == "succeeded", job["error"]
    found = quay.require_one(name).attrs
    assert (found["Image"], found["Config"]["Image"]) == (image_id, image_id)


def wait_ended(quay: Quay, job: str) -> Any:  # noqa: ANN401 - JSON
    path = f"/v1/jobs/{job}"
    wait_until(lambda: get(quay.service, path)["finished_at"] is not None, 60, "the job's end")
    return get(quay.service, path)


# Whatever dies.


def kill_service(quay: Quay) -> None:
    quay.service.kill()
    quay.service.start()


def kill_worker(quay: Quay) -> None:
    """Kill what does the work; the service starts another one."""
    for pid in quay.service.processes("worker"):
        os.kill(pid, signal.SIGKILL)


def kill_engine(quay: Quay) -> None:
    quay.engine.restart()


@dataclass(frozen=True)
class Struck:
    """A change of a container, in which something was killed."""

    step: str
    name: str
    old: str
    job: str


def strike(quay: Quay, step: str, name: str, kill: Callable[[Quay], None]) -> Struck:
    """Kill at a step of a change."""
    old = str(quay.container(name).id)
    job = quay.put(name, 256, 512).json()["id"]
    await_step(quay.service, step)
    kill(quay)
    return Struck(step, name, old, job)


def require_survived(quay: Quay, struck: Struck) -> None:
    """One container of the name runs afterwards, and the job tells which."""
    name, step = struck.name, struck.step
    wait_until(lambda: is_one(quay, name), BACK_SECONDS, f"{step}: one container")
    ended = wait_ended(quay, struck.job)
    wait_until(lambda: is_one(quay, name), BACK_SECONDS, f"{step}: one container still")
    found = quay.require_one(name)
    if ended["state"] == "succeeded":
        assert found.id == ended["result"]["new_id"]
        assert quay.limits(name) == "256:512"
    elif step != REMOVE:
        assert found.id == struck.old


@pytest.mark.timeout(300)
def test_the_worker_is_killed_at_each_step(quay: Quay) -> None:
    """And the whole service once: each time while what was left before is still put back."""
    require_survived_at_each_step(quay, kill_worker, {"start": kill_service})


@pytest.mark.soak
@pytest.mark.timeout(900)
def test_the_service_is_killed_at_each_step(quay: Quay) -> None:
    require_survived_at_each_step(quay, kill_service, {})


def require_survived_at_each_step(
    quay: Quay, kill: Callable[[Quay], None], others: Mapping[str, Callable[[Quay], None]]
) -> None:
    steps = [*STEPS, REMOVE]
    pairs = list(zip(steps, quay.run_many(len(steps)), strict=True))
    struck = [strike(quay, step, name, others.get(step, kill)) for step, name in pairs]
    for one in struck:
        require_survived(quay, one)


def test_the_engine_is_killed_between_the_old_and_the_new(quay: Quay) -> None:
    require_survived(quay, strike(quay, "start", quay.run(), kill_engine))


@pytest.mark.soak
@pytest.mark.timeout(900)
def test_the_engine_is_killed_at_each_step(quay: Quay) -> None:
    for step in (*STEPS, REMOVE):
        require_survived(quay, strike(quay, step, quay.run(), kill_engine))


# Many at once.


def change_many(quay: Quay, count: int, clients: int, each: int) -> None:
    """Let clients change containers at random; each ends with the last value accepted."""
    names = quay.run_many(count)

    def client(number: int) -> list[Any]:
        choice = random.Random(number)  # noqa: S311 - to be repeated, not to be secret
        accepted = []
        for _ in range(each):
            answer = quay.put(choice.choice(names), choice.randrange(100, 200), 300)
            assert answer.status == 202, answer.body
            accepted.append(answer.json())
        return accepted

    parts = at_once([lambda number=number: client(number) for number in range(clients)])  # type: ignore[misc]
    jobs = [wait_ended(quay, one["id"]) for part in parts for one in part]
    assert [job["error"] for job in jobs if job["state"] != "succeeded"] == []
    for name in names:
        mine = sorted((job for job in jobs if job["container"] == name), key=lambda job: job["id"])
        found = quay.require_one(name)
        if mine:
            (limit,) = mine[-1]["result"]["ulimits"]
            assert quay.limits(name) == f"{limit['soft']}:{limit['hard']}"
            assert found.id == mine[-1]["result"]["new_id"]
        require_apart(mine)


def require_apart(jobs: list[Any]) -> None:
    """No two jobs on one container ran at once."""
    spans = sorted((job["started_at"], job["finished_at"]) for job in jobs)
    assert all(one[1] <= other[0] for one, other in itertools.pairwise(spans))


@pytest.mark.timeout(300)
def test_a_few_containers_are_changed_at_once_by_eight_clients(quay: Quay) -> None:
    change_many(quay, count=3, clients=8, each=1)


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_fifty_containers_are_changed_at_once_by_eight_clients(quay: Quay) -> None:
    begun = time.monotonic()
    change_many(quay, count=50, clients=8, each=20)
    print(f"\n160 changes of 50 containers took {time.monotonic() - begun:.0f} s")  # noqa: T201
