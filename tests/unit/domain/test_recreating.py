"""Recreating containers on an engine in memory: whatever dies, one container of the name runs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict
from functools import partial
from types import SimpleNamespace
from typing import Any, Literal

import pytest

from service.domain.audit import Attempt, AuditTrail
from service.domain.containers import Containers, Rules
from service.domain.engine import LayerChange
from service.domain.errors import EngineUnreachable, JobNotCancellable
from service.domain.job import Job, JobRequest
from service.domain.recreating import REMOVE, STEPS
from service.domain.ulimits import Ulimit
from service.jobs.recreating import ULIMITS, Recreator, recreating
from tests.fakes import Died
from tests.fakes_engine import Box, FakeEngine, Ran
from tests.fakes_jobs import FakeJobs
from tests.fakes_store import FakeStore

OLD = {"Name": "nofile", "Soft": 10, "Hard": 20}
NEW = Ulimit("nofile", 64, 128)
ASKED = {"Name": "nofile", "Soft": 64, "Hard": 128}
POLICY = {"Name": "on-failure", "MaximumRetryCount": 7}
When = Literal["before", "after"]
WHENS: tuple[When, ...] = ("before", "after")


class Yard:
    """A container with a volume, and the service's jobs."""

    def __init__(self) -> None:
        self.docker = FakeEngine()
        self.store = FakeStore()
        self.trail = AuditTrail(self.store.audit)
        self.containers = Containers([Rules(self.docker, ["web"])])
        self.jobs = FakeJobs([recreating(self.containers, self.trail)])
        self.docker.add_image("app:1", Volumes={"/data": {}})
        host_config = {"Ulimits": [OLD], "RestartPolicy": POLICY}
        self.old = self.docker.run("web", "app:1", HostConfig=host_config, Env=["A=1"])
        self.docker.write_file("web", "/data/precious", b"kept")
        self.docker.writes.clear()

    def submit(self, *limits: Ulimit, **params: object) -> Job:
        asked = {
            "container": "local:web",
            "ulimits": [asdict(one) for one in limits or (NEW,)],
            "on_writable_layer": "refuse",
            "dry_run": False,
            **params,
        }
        request = JobRequest(
            ULIMITS.name, asked, "ann", container="web", exclusive="container/local/web"
        )
        with self.trail.attempt(Attempt("container.ulimits", "ann")) as change:
            return self.jobs.submit(change, request)

    def run(self, *limits: Ulimit, **params: object) -> Job:
        job = self.submit(*limits, **params)
        self.jobs.run_all()
        return self.jobs.get(job.id)

    def cancel(self, job_id: str) -> Job:
        with self.trail.attempt(Attempt("job.cancel", "ann")) as change:
            return self.jobs.cancel(change, job_id)

    def require_one(self) -> Box:
        """One container is there: of that name, running, with its policy and its data."""
        (box,) = self.docker.boxes.values()
        assert (box.name, box.status) == ("web", "running")
        assert box.host_config["RestartPolicy"] == POLICY
        (mount,) = box.mounts
        assert self.docker.volumes[mount["Name"]]["/precious"] == b"kept"
        assert not self.jobs.records.compensations()
        return box

    def require_old(self) -> None:
        assert self.require_one() is self.old

    def require_new(self) -> Box:
        box = self.require_one()
        assert box is not self.old
        assert box.host_config["Ulimits"] == [ASKED]
        assert box.config["Env"] == ["A=1"]
        return box

    def require_consistent(self, job: Job) -> None:
        """The new one where the job says so, else the old one."""
        if job.state == "succeeded":
            self.require_new()
        else:
            self.require_old()


@pytest.fixture
def yard(monkeypatch: pytest.MonkeyPatch) -> Yard:
    monkeypatch.setattr("service.domain.restarting.PROOF_SECONDS", 0.02)
    monkeypatch.setattr("service.domain.restarting.LOOK_SECONDS", 0.005)
    return Yard()


def writes() -> int:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("service.domain.restarting.PROOF_SECONDS", 0.0)
        yard = Yard()
        yard.run()
        return len(yard.docker.writes)


WRITES = range(1, writes() + 1)


def error(job: Job) -> Mapping[str, Any]:
    assert job.state == "failed"
    assert job.error is not None
    return job.error


# What it does.


def test_the_new_one_has_the_limits_and_everything_else(yard: Yard) -> None:
    job = yard.run()
    box = yard.require_new()
    assert job.state == "succeeded"
    assert job.result is not None
    assert {key: job.result[key] for key in ("dry_run", "old_id", "new_id")} == {
        "dry_run": False,
        "old_id": yard.old.id,
        "new_id": box.id,
    }
    assert job.result["ulimits"] == [asdict(NEW)]
    assert job.result["previous_ulimits"] == [{"name": "nofile", "soft": 10, "hard": 20}]
    assert job.result["down_seconds"] >= 0
    assert any("/data" in warning for warning in job.result["warnings"])


def test_the_old_one_is_stopped_within_its_own_time_out(yard: Yard) -> None:
    yard.run()
    assert yard.old.stopped_in is None


def test_a_dry_run_gives_the_plan_and_touches_nothing(yard: Yard) -> None:
    job = yard.run(dry_run=True)
    assert job.result is not None
    assert (job.result["dry_run"], job.result["new_id"]) == (True, None)
    assert job.result["plan"] == [*STEPS, REMOVE]
    assert yard.docker.writes == []
    yard.require_old()


def test_no_limits_at_all_leave_those_of_the_engine(yard: Yard) -> None:
    job = yard.submit()
    job.params["ulimits"].clear()
    yard.jobs.run_all()
    assert yard.require_one().host_config["Ulimits"] == []


# What fails on the way.


def test_one_that_ends_at_once_is_undone(yard: Yard) -> None:
    yard.docker.programs[("serve",)] = lambda box: Ran(
        exit_code=9, endless=box.host_config["Ulimits"] == [OLD]
    )
    yard.old.config["Cmd"] = ["serve"]
    found = error(yard.run())
    assert found["code"] == "recreation-failed"
    assert "exit code 9" in found["detail"]
    assert "runs again as before" in found["detail"]
    yard.require_old()


def test_one_that_sets_its_own_limits_is_undone(
    yard: Yard, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = b"Max open files            64                   100                  files\n"
    monkeypatch.setattr(yard.docker, "process_limits", lambda _: table)
    found = error(yard.run())
    assert "nofile was to be 64:128, and the process has 64:100" in found["detail"]
    yard.require_old()


@pytest.mark.parametrize("soft", [64, 128])
def test_a_program_may_raise_its_soft_limit(
    yard: Yard, monkeypatch: pytest.MonkeyPatch, soft: int
) -> None:
    table = f"Max open files            {soft:<21}128                  files\n".encode()
    monkeypatch.setattr(yard.docker, "process_limits", lambda _: table)
    assert yard.run().state == "succeeded"


def test_an_unhealthy_one_is_undone(yard: Yard) -> None:
    made = yard.docker.make

    def ill(name: str, *given: Any) -> Box:  # noqa: ANN401 - of make
        box = made(name, *given)
        box.health = "unhealthy"
        return box

    yard.docker.make = ill  # type: ignore[assignment,method-assign]
    assert "health check fails" in error(yard.run())["detail"]
    yard.require_old()


def test_one_that_differs_is_never_started(yard: Yard) -> None:
    yard.old.host_config["Memory"] = 5
    made = yard.docker.make

    def otherwise(name: str, *given: Any) -> Box:  # noqa: ANN401 - of make
        box = made(name, *given)
        box.host_config["Memory"] = 6
        return box

    yard.docker.make = otherwise  # type: ignore[assignment,method-assign]
    assert "HostConfig.Memory" in error(yard.run())["detail"]
    assert {write.kind for write in yard.docker.writes} <= {
        "create",
        "remove",
        "set_restart_policy",
    }
    yard.require_old()


def test_what_a_new_one_said_that_is_not_proven_is_in_the_log(yard: Yard) -> None:
    yard.docker.programs[yard.old.command] = Ran([("stderr", b"too few files")], exit_code=3)
    job = yard.run()
    told = error(job)["detail"]
    assert "exit code 3" in told
    assert "What was said last is in the job's log." in told
    assert "docker logs" not in told  # by that name it is the old one
    assert ("error", "too few files") in said(yard, job)


def test_what_its_health_check_said_is_in_the_log(
    yard: Yard, monkeypatch: pytest.MonkeyPatch
) -> None:
    def ill(inspected: Callable[[str], Any], reference: str) -> Any:  # noqa: ANN401 - of an engine
        found = inspected(reference)
        checks = [{"Output": "before"}, {"Output": "no such host\nport 5432\n"}]
        if found["Id"] != yard.old.id:
            found["State"]["Health"] = {"Status": "unhealthy", "Log": checks}
        return found

    monkeypatch.setattr(yard.docker, "container", partial(ill, yard.docker.container))
    job = yard.run()
    assert "its health check fails" in error(job)["detail"]
    lines = [message for level, message in said(yard, job) if level == "error"]
    assert lines[:2] == ["Health check: no such host", "Health check: port 5432"]
    yard.require_old()


def said(yard: Yard, job: Job) -> list[tuple[str, str]]:
    return [(line.level, line.message) for line in yard.jobs.log(job.id, 0, 1000)]


def test_a_name_taken_meanwhile_leaves_the_old_one_running(yard: Yard) -> None:
    def take(_job: Job, step: str) -> None:
        if step == "rename-new":
            yard.docker.make("web", {"Image": "app:1"}, {})

    yard.jobs.watch = take
    found = error(yard.run())
    assert "already in use" in found["detail"]
    assert yard.old.status == "running"
    assert yard.old.host_config["RestartPolicy"] == POLICY
    (thief,) = (box for box in yard.docker.boxes.values() if box.name == "web")
    del yard.docker.boxes[thief.id]
    yard.jobs.aftermath.sweep()
    yard.require_old()


def test_an_old_one_that_cannot_be_started_any_more_is_told(yard: Yard) -> None:
    def break_starts(_job: Job, step: str) -> None:
        if step == "start":
            yard.docker.start_failures["web"] = "no space left on device"
            yard.docker.start_failures[yard.old.name] = "no space left on device"

    yard.jobs.watch = break_starts
    found = error(yard.run())
    assert "cannot start it any more" in found["detail"]
    assert "docker start web" in found["detail"]
    (box,) = yard.docker.boxes.values()
    assert (box is yard.old, box.name) == (True, "web")
    assert box.host_config["RestartPolicy"] == POLICY


@pytest.mark.parametrize("victim", ["old", "new", "both"])
def test_containers_that_somebody_removes_meanwhile(yard: Yard, victim: str) -> None:
    def remove(_job: Job, step: str) -> None:
        if step == "start":
            for box in list(yard.docker.boxes.values()):
                if victim in {"both", "old" if box is yard.old else "new"}:
                    del yard.docker.boxes[box.id]

    yard.jobs.watch = remove
    job = yard.run()
    if victim == "new":
        yard.require_old()
    elif victim == "old":
        assert job.state == "succeeded"
        yard.require_new()
    else:
        assert "removed by somebody" in error(job)["detail"]


# Whatever dies.


@pytest.mark.parametrize("take_over", [True, False])
@pytest.mark.parametrize("step", [*STEPS, REMOVE])
def test_the_worker_dies_at_a_step(yard: Yard, step: str, *, take_over: bool) -> None:
    job = yard.submit()
    yard.jobs.die_at = step
    yard.jobs.run_all()
    if take_over:
        yard.jobs.run_all()
        ended = yard.jobs.get(job.id)
        assert ended.state == ("succeeded" if step == REMOVE else "failed")
        yard.require_consistent(ended)
    else:
        yard.jobs.give_up(job.id)
        (yard.require_new if step == REMOVE else yard.require_old)()


def test_the_worker_dies_when_all_is_done_but_told(yard: Yard) -> None:
    job = yard.run()
    new = yard.require_new()
    yard.docker.writes.clear()
    context: Any = SimpleNamespace(job=job, rerun=True, left=lambda _kind: None)
    told = Recreator(yard.containers, yard.trail).run(context)
    assert (told["dry_run"], told["new_id"], told["old_id"]) == (False, new.id, None)
    assert told["ulimits"] == [asdict(NEW)]
    assert yard.docker.writes == []


@pytest.mark.parametrize("when", WHENS)
@pytest.mark.parametrize("number", WRITES)
def test_the_worker_dies_at_a_change(yard: Yard, number: int, when: When) -> None:
    job = yard.submit()
    yard.docker.die(number, when)
    with pytest.raises(Died):
        yard.jobs.run_all()
    yard.docker.revive()
    yard.jobs.run_all()
    yard.require_consistent(yard.jobs.get(job.id))


@pytest.mark.parametrize("again", WRITES)
def test_the_worker_dies_again_while_it_undoes(yard: Yard, again: int) -> None:
    job = yard.submit()
    yard.docker.die(len(WRITES) - 1, "after")
    for number in (again, 1):
        with suppress(Died):
            yard.jobs.run_all()
        yard.docker.revive()
        yard.docker.die(number, "before")
    yard.docker.revive()
    yard.jobs.run_all()
    yard.jobs.aftermath.sweep()
    yard.require_consistent(yard.jobs.get(job.id))


@pytest.mark.parametrize("when", WHENS)
@pytest.mark.parametrize("number", WRITES)
def test_the_engine_dies_at_a_change(yard: Yard, number: int, when: When) -> None:
    job = yard.submit()
    yard.docker.die(number, when, EngineUnreachable("The engine does not answer."))
    yard.jobs.run_all()
    assert yard.jobs.get(job.id).state == "failed"
    yard.docker.reboot()
    yard.jobs.aftermath.sweep()
    box = yard.require_one()
    assert (box is yard.old) == (number < len(WRITES))


@pytest.mark.parametrize("when", WHENS)
@pytest.mark.parametrize("number", WRITES)
def test_the_connection_breaks_once(yard: Yard, number: int, when: When) -> None:
    job = yard.submit()
    broken = EngineUnreachable("It does not answer.")
    yard.docker.die(number, when, broken, for_good=False)
    yard.jobs.run_all()
    assert yard.jobs.get(job.id).state == "failed"
    yard.jobs.aftermath.sweep()
    assert (yard.require_one() is yard.old) == (number < len(WRITES))


@pytest.mark.parametrize("step", [*STEPS, REMOVE])
def test_cancelling_at_a_step(yard: Yard, step: str) -> None:
    promised: list[Job] = []

    def cancel(job: Job, begun: str) -> None:
        if begun == step:
            with suppress(JobNotCancellable):
                promised.append(yard.cancel(job.id))

    yard.jobs.watch = cancel
    job = yard.run()
    assert job.state == ("cancelled" if promised else "succeeded")
    assert bool(promised) == (step in {"create", "compare", "hold"})
    yard.require_consistent(job)


# Refusals: nothing is touched.


@pytest.mark.parametrize("status", ["paused", "dead", "restarting", "exited", "created"])
def test_one_that_does_not_run_is_refused(yard: Yard, status: Any) -> None:  # noqa: ANN401
    yard.old.status = status
    assert error(yard.run())["code"] == "container-not-running"
    assert yard.docker.writes == []


def test_one_that_goes_when_it_ends_is_refused(yard: Yard) -> None:
    yard.old.host_config["AutoRemove"] = True
    assert error(yard.run())["code"] == "container-auto-remove"
    assert yard.docker.writes == []


def test_a_task_of_a_swarm_is_refused(yard: Yard) -> None:
    yard.old.config["Labels"] = {"com.docker.swarm.task.id": "x"}
    assert error(yard.run())["code"] == "swarm-managed"
    assert yard.docker.writes == []


@pytest.mark.parametrize(
    "host_config",
    [
        {"NetworkMode": "container:ID"},
        {"PidMode": "container:ID"},
        {"IpcMode": "container:web"},
        {"VolumesFrom": ["web:ro"]},
        {"VolumesFrom": ["ID"]},
        {"Links": ["web:db"]},
    ],
    ids=str,
)
def test_one_that_others_depend_on_is_refused(yard: Yard, host_config: dict[str, Any]) -> None:
    told = eval(repr(host_config).replace("ID", yard.old.id))  # noqa: S307 - a literal of ours
    yard.docker.run("other", "app:1", HostConfig=told)
    yard.docker.writes.clear()
    found = error(yard.run())
    assert (found["code"], found["dependents"]) == ("container-has-dependents", ["other"])
    assert yard.docker.writes == []


def test_one_whose_image_is_gone_is_refused(yard: Yard) -> None:
    yard.docker.images.clear()
    assert error(yard.run())["code"] == "container-image-gone"
    assert yard.docker.writes == []


def test_what_it_wrote_into_its_layer_is_not_lost_unasked(yard: Yard) -> None:
    yard.old.files["/srv/state"] = b"1"
    found = error(yard.run())
    assert (found["code"], found["paths"]) == ("writable-layer-changed", ["/srv/state"])
    assert yard.docker.writes == []
    job = yard.run(on_writable_layer="discard")
    assert job.result is not None
    assert any("/srv/state" in warning for warning in job.result["warnings"])
    yard.require_new()


def test_what_the_engine_made_is_no_change_of_the_layer(yard: Yard) -> None:
    yard.old.config["WorkingDir"] = "/srv/app"
    paths = [("/etc", "modified"), ("/etc/hosts", "added"), ("/data", "added")]
    paths += [("/srv", "added"), ("/srv/app", "added"), ("/sbin/docker-init", "added")]
    yard.old.changes = [LayerChange(path, kind) for path, kind in paths]  # type: ignore[arg-type]
    assert yard.run().state == "succeeded"


def test_compose_is_told_where_to_write_it(yard: Yard) -> None:
    yard.old.config["Labels"] = {
        "com.docker.compose.service": "shop",
        "com.docker.compose.project.config_files": "/srv/compose.yaml",
    }
    job = yard.run(dry_run=True)
    assert job.result is not None
    (warning,) = (one for one in job.result["warnings"] if "Compose" in one)
    for part in ("/srv/compose.yaml", "services: shop", "nofile: {soft: 64, hard: 128}"):
        assert part in warning
