"""Containers over HTTP: which there are, how they are, restarts and restart policies."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from service.domain.audit import Attempt
from service.domain.containers import Containers, Rules
from service.domain.engine import LayerChange
from service.domain.errors import EngineUnreachable
from service.domain.job import JobRequest, Work
from service.jobs.collecting import collection
from service.jobs.restarting import restarting
from tests.fakes_engine import FakeEngine, Ran
from tests.unit.api.conftest import Bed, Reply
from tests.unit.domain.collecting import parse

CONTAINERS = "/v1/containers"
WEB = f"{CONTAINERS}/web-1"
POLICY = f"{WEB}/restart-policy"
PROJECT = {"com.docker.compose.project": "shop"}


class DockBed(Bed):
    """An engine with a registry, two allowed containers and one that is nobody's business."""

    def __init__(self) -> None:
        self.far = FakeEngine("far")
        super().__init__()
        for engine in (self.engine, self.far):
            engine.add_image("app:1")
        self.registries.containers["default"] = "registry"
        self.engine.run("web-1", "app:1", Labels=PROJECT)
        self.engine.run("registry", "app:1")
        self.engine.run("secret", "app:1")
        self.engine.run("labelled", "app:1", Labels={"registry-admin.enable": "true"})

    def more_rules(self) -> Sequence[Rules]:
        return [Rules(self.far, ["web-*", "far-*"])]

    def wire(self) -> Sequence[Work]:
        return (
            restarting(self.containers, self.trail),
            collection(self.registries, self.store.deletions, self.trail, parse),
        )

    def names(self, path: str = CONTAINERS, **options: Any) -> list[str]:  # noqa: ANN401 - of ask
        return [one["name"] for one in self.ask(path, **options).json["items"]]

    def ended(self, path: str, **body: object) -> Any:  # noqa: ANN401 - JSON
        answer = self.ask(path, "POST", body=body)
        assert answer.status == 202, answer.text
        self.jobs.run_all()
        return self.ask(answer.headers["Location"]).json

    def collect(self, *, dry_run: bool = False) -> str:
        """Have a collection of the registry under way; give its job's id."""
        params = {"mode": "stopped", "dry_run": dry_run, "delete_untagged": False}
        with self.trail.attempt(Attempt("gc.start", "root")) as change:
            request = JobRequest("gc", params, "root", "default", exclusive="registry/default")
            return self.jobs.submit(change, request).id

    def policy(self, **body: object) -> Reply:
        return self.ask(POLICY, "PUT", body=body)


@pytest.fixture
def bed(monkeypatch: pytest.MonkeyPatch) -> DockBed:
    monkeypatch.setattr("service.domain.restarting.PROOF_SECONDS", 0.05)
    monkeypatch.setattr("service.domain.restarting.LOOK_SECONDS", 0.01)
    return DockBed()


# Which there are.


def test_the_allowed_ones_are_listed_by_name(bed: DockBed) -> None:
    assert bed.names() == ["labelled", "registry", "web-1"]


def test_pages_give_each_once(bed: DockBed) -> None:
    first = bed.ask(f"{CONTAINERS}?n=2").json
    assert [one["name"] for one in first["items"]] == ["labelled", "registry"]
    assert bed.names(first["next"]) == ["web-1"]


def test_pages_are_in_the_order_of_their_bytes_and_lose_none(bed: DockBed) -> None:
    for name in ("web-1-a", "web-1.a", "web-1_a", "web-10", "web-B", "web-b"):
        bed.engine.run(name, "app:1")
    bed.far.run("web-1", "app:1")
    every = bed.names()
    assert every == sorted(every, key=str.encode)
    paged, path = [], f"{CONTAINERS}?n=1"
    while path:
        page = bed.ask(path).json
        paged += [one["name"] for one in page["items"]]
        path = page["next"]
    assert paged == every
    assert len(paged) == 10


@pytest.mark.parametrize("what", ["", "/restart", "/restart-policy", "/changes", "/core-dumps"])
def test_what_is_forbidden_and_what_is_absent_are_answered_alike(bed: DockBed, what: str) -> None:
    method = {"/restart": "POST", "/restart-policy": "PUT"}.get(what, "GET")
    body = {"name": "always"} if method == "PUT" else {} if method == "POST" else None

    def said(name: str) -> str:
        answer = bed.ask(f"{CONTAINERS}/{name}{what}", method, body=body)
        assert answer.problem == (404, "container-unknown")
        return str(answer.json["detail"]).replace(name, "NAME")

    assert said("secret") == said("absent")
    assert bed.engine.writes == []


def test_what_serves_a_job_is_not_shown(bed: DockBed) -> None:
    bed.engine.run("web-stand-in", "app:1", Labels={"registry-admin.job": "1"})
    assert "web-stand-in" not in bed.names()


@pytest.mark.parametrize("label", ["false", "", "True"])
def test_a_label_that_says_no_allows_nothing(bed: DockBed, label: str) -> None:
    bed.engine.run("other", "app:1", Labels={"registry-admin.enable": label})
    assert "other" not in bed.names()


def test_a_name_on_two_engines_must_say_which(bed: DockBed) -> None:
    bed.far.run("web-1", "app:1")
    bed.far.run("far-1", "app:1")
    answer = bed.ask(WEB)
    assert answer.problem == (409, "container-ambiguous")
    assert answer.json["names"] == ["local:web-1", "far:web-1"]
    assert bed.ask(f"{CONTAINERS}/far:web-1").json["engine"] == "far"
    assert bed.ask(f"{CONTAINERS}/far-1").json["engine"] == "far"
    assert bed.names() == ["far-1", "labelled", "registry", "web-1", "web-1"]


def test_an_engine_that_is_away_could_have_one_of_that_name(
    bed: DockBed, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(_label: str | None = None) -> None:
        raise EngineUnreachable("The engine 'far' does not answer.")

    monkeypatch.setattr(bed.far, "containers", away)
    assert bed.ask(CONTAINERS).problem == (502, "engine-unreachable")
    assert bed.ask(WEB).problem == (502, "engine-unreachable")
    assert bed.ask(f"{CONTAINERS}/local:web-1").status == 200


def test_a_token_limited_to_registries_reaches_their_own_containers(bed: DockBed) -> None:
    mine = bed.token("container:read", "container:write", registries=("default",))
    other = bed.token("container:read", registries=("elsewhere",))
    some = bed.token("container:read", registries=("default",), repositories=("team/*",))
    assert bed.names(token=mine) == ["registry"]
    assert bed.ask(f"{CONTAINERS}/registry", token=mine).status == 200
    assert bed.ask(WEB, token=mine).problem == (403, "insufficient-scope")
    refused = bed.ask(f"{WEB}/restart", "POST", token=mine, body={})
    assert refused.problem == (403, "insufficient-scope")
    assert bed.names(token=other) == bed.names(token=some) == []
    assert bed.engine.writes == []


@pytest.mark.parametrize("name", ["web-1", "secret", "absent", "far:absent", "far:registry"])
def test_beyond_its_limits_a_token_learns_nothing_of_what_there_is(bed: DockBed, name: str) -> None:
    bed.far.run("web-1", "app:1")
    mine = bed.token("container:read", registries=("default",))
    answer = bed.ask(f"{CONTAINERS}/{name}", token=mine)
    assert answer.problem == (403, "insufficient-scope")
    said = answer.json["detail"].replace(name, "NAME")
    other = bed.ask(f"{CONTAINERS}/nothing", token=mine).json["detail"]
    assert said == other.replace("nothing", "NAME")


def test_another_engine_s_container_does_not_hide_a_registry_s_own(bed: DockBed) -> None:
    bed.far.run("registry", "app:1", Labels={"registry-admin.enable": "true"})
    mine = bed.token("container:read", registries=("default",))
    assert bed.ask(f"{CONTAINERS}/registry").problem == (409, "container-ambiguous")
    assert bed.ask(f"{CONTAINERS}/registry", token=mine).json["engine"] == "local"


# How they are.


def test_a_container_is_told_as_it_is(bed: DockBed) -> None:
    box = bed.engine.box("web-1")
    box.host_config["Ulimits"] = [{"Name": "nofile", "Soft": 64, "Hard": 128}]
    box.files["/note"] = b"12345"
    found = bed.ask(WEB).json
    assert found == {
        "name": "web-1",
        "engine": "local",
        "id": box.id,
        "image": "app:1",
        "image_id": box.image_id,
        "state": "running",
        "health": None,
        "restart_policy": {"name": "no", "maximum_retry_count": 0},
        "ulimits": [{"name": "nofile", "soft": 64, "hard": 128}],
        "effective_ulimits": [
            {"name": "core", "soft": 0, "hard": -1},
            {"name": "nofile", "soft": 64, "hard": 128},
        ],
        "restart_count": 0,
        "started_at": box.started_at,
        "compose_project": "shop",
        "writable_layer_size": 5,
    }


def test_one_that_never_ran_has_no_limits_in_effect(bed: DockBed) -> None:
    bed.engine.make("web-2", {"Image": "app:1"}, {})
    found = bed.ask(f"{CONTAINERS}/web-2").json
    assert (found["state"], found["started_at"]) == ("created", None)
    assert found["effective_ulimits"] is None


def test_changes_of_the_layer_are_paged(bed: DockBed) -> None:
    box = bed.engine.box("web-1")
    box.changes = [LayerChange("/etc/ümlaut", "modified"), LayerChange("/x" * 900, "deleted")]
    box.files["/a b"] = b"12"
    first = bed.ask(f"{WEB}/changes?n=2").json
    rest = bed.ask(first["next"]).json
    assert [(one["path"], one["kind"]) for one in first["items"] + rest["items"]] == [
        ("/a b", "added"),
        ("/etc/ümlaut", "modified"),
        ("/x" * 900, "deleted"),
    ]
    assert (first["size"], rest["next"]) == (2, None)


# Restarts.


def test_a_restart_is_a_job(bed: DockBed) -> None:
    before = bed.engine.box("web-1").started_at
    job = bed.ended(f"{WEB}/restart", timeout=7)
    assert (job["kind"], job["state"], job["container"]) == (
        "container-restart",
        "succeeded",
        "web-1",
    )
    box = bed.engine.box("web-1")
    assert job["result"] == {"started_at": box.started_at, "health": None}
    assert (box.started_at > before, box.stopped_in) == (True, 7)


def test_without_a_time_out_the_containers_own_is_honoured(bed: DockBed) -> None:
    bed.ended(f"{WEB}/restart")
    assert bed.engine.box("web-1").stopped_in is None


def test_a_stopped_one_is_started(bed: DockBed) -> None:
    bed.engine.end("web-1")
    assert bed.ended(f"{WEB}/restart")["state"] == "succeeded"
    assert bed.engine.box("web-1").running


def test_one_that_ends_at_once_fails_with_its_exit_code(bed: DockBed) -> None:
    bed.engine.programs[("boom",)] = Ran(exit_code=3)
    bed.engine.run("web-2", "app:1", Cmd=["boom"])
    job = bed.ended(f"{CONTAINERS}/web-2/restart")
    assert (job["state"], job["error"]["code"]) == ("failed", "restart-failed")
    assert "exit code 3" in job["error"]["detail"]
    assert "docker logs web-2" in job["error"]["detail"]


def test_one_that_cannot_be_started_again_is_not_tried_for_ever(bed: DockBed) -> None:
    bed.engine.start_failures["web-1"] = "port 80 is already allocated"
    job = bed.ended(f"{WEB}/restart")
    assert job["error"]["code"] == "restart-failed"
    assert "port 80 is already allocated" in job["error"]["detail"]
    assert "docker start web-1" in job["error"]["detail"]
    assert bed.jobs.records.compensations() == []


@pytest.mark.parametrize(("health", "state"), [("healthy", "succeeded"), ("unhealthy", "failed")])
def test_a_health_check_decides(bed: DockBed, health: str, state: str) -> None:
    bed.engine.box("web-1").health = health
    job = bed.ended(f"{WEB}/restart")
    assert job["state"] == state
    if state == "succeeded":
        assert job["result"]["health"] == "healthy"


def test_a_health_check_that_never_tells_fails(
    bed: DockBed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.domain.restarting.health_seconds", lambda _: 0.1)
    bed.engine.box("web-1").health = "starting"
    assert "has told nothing" in bed.ended(f"{WEB}/restart")["error"]["detail"]


@pytest.mark.parametrize("status", ["paused", "dead"])
def test_one_that_an_engine_cannot_restart_is_refused(bed: DockBed, status: Any) -> None:  # noqa: ANN401
    bed.engine.box("web-1").status = status
    answer = bed.ask(f"{WEB}/restart", "POST", body={})
    assert answer.problem == (409, "container-not-running")
    assert bed.ask("/v1/jobs").json["items"] == []


def test_the_services_own_container_is_refused(bed: DockBed) -> None:
    own = bed.engine.box("web-1").id
    bed.containers = Containers([Rules(bed.engine, ["web-*"])], own)
    bed.app = bed.create()
    answer = bed.ask(f"{WEB}/restart", "POST", body={})
    assert answer.problem == (409, "container-is-self")


def test_a_registry_that_is_collected_is_not_restarted_meanwhile(bed: DockBed) -> None:
    collected = bed.collect()
    answer = bed.ask(f"{CONTAINERS}/registry/restart", "POST", body={})
    assert answer.problem == (409, "gc-already-active")
    assert answer.json["job"] == collected
    assert answer.headers["Retry-After"]
    assert bed.ask(f"{WEB}/restart", "POST", body={}).status == 202
    assert bed.engine.writes == []


def test_a_dry_run_of_a_collection_is_waited_for(bed: DockBed) -> None:
    bed.collect(dry_run=True)
    answer = bed.ask(f"{CONTAINERS}/registry/restart", "POST", body={})
    assert answer.status == 202
    assert answer.json["registry"] == "default"


def test_one_that_fails_leaves_its_last_lines_in_the_job_s_log(bed: DockBed) -> None:
    lines = [("stdout", b"%d" % number) for number in range(30)]
    bed.engine.programs[("boom",)] = Ran([*lines, ("stderr", b"no such host")], exit_code=3)  # type: ignore[list-item]
    bed.engine.run("web-2", "app:1", Cmd=["boom"])
    job = bed.ended(f"{CONTAINERS}/web-2/restart")
    assert "no such host" not in job["error"]["detail"]
    assert "log" in job["error"]["detail"]
    logged = bed.ask(f"/v1/jobs/{job['id']}/log").json["items"]
    *said, told = [one["message"] for one in logged if one["level"] == "error"]
    assert told == job["error"]["detail"]
    assert said[-1] == "no such host"
    assert said[-2] == "29"
    assert len(said) == 20  # of 31, or of 62: it ran twice


@pytest.mark.parametrize("timeout", [-1, 3601, 1.5, "3", True])
def test_a_time_out_is_a_number_of_seconds(bed: DockBed, timeout: object) -> None:
    answer = bed.ask(f"{WEB}/restart", "POST", body={"timeout": timeout})
    assert answer.problem == (422, "validation-failed")
    assert answer.json["errors"][0]["pointer"] == "/timeout"
    assert bed.engine.writes == []


# Restart policies.


def test_a_policy_is_set_at_once_without_a_restart(bed: DockBed) -> None:
    box = bed.engine.box("web-1")
    box.host_config["RestartPolicy"] = {"Name": "always", "MaximumRetryCount": 0}
    before = box.started_at
    answer = bed.policy(name="no")
    assert answer.status == 200
    assert answer.json["restart_policy"] == {"name": "no", "maximum_retry_count": 0}
    assert (answer.json["state"], box.started_at) == ("running", before)
    assert [write.kind for write in bed.engine.writes] == ["set_restart_policy"]
    event = bed.events()[-1]
    assert (event.attempt.action, event.attempt.container) == ("container.restart-policy", "web-1")


def test_a_policy_may_have_a_count(bed: DockBed) -> None:
    found = bed.policy(name="on-failure", maximum_retry_count=3).json["restart_policy"]
    assert found == {"name": "on-failure", "maximum_retry_count": 3}


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({}, "/name"),
        ({"name": "sometimes"}, "/name"),
        ({"name": "always", "maximum_retry_count": 3}, "/maximum_retry_count"),
        ({"name": "on-failure", "maximum_retry_count": -1}, "/maximum_retry_count"),
        ({"name": "on-failure", "maximum_retry_count": "3"}, "/maximum_retry_count"),
        ({"name": "no", "retries": 1}, "/retries"),
    ],
)
def test_a_policy_that_means_nothing_is_refused(
    bed: DockBed, body: dict[str, object], pointer: str
) -> None:
    answer = bed.policy(**body)
    assert answer.problem == (422, "validation-failed")
    assert [error["pointer"] for error in answer.json["errors"]] == [pointer]
    assert bed.engine.writes == []


def test_one_that_is_removed_when_it_ends_takes_no_policy(bed: DockBed) -> None:
    bed.engine.box("web-1").host_config["AutoRemove"] = True
    assert bed.policy(name="always").problem == (409, "container-auto-remove")


def test_while_a_job_works_on_it_the_policy_is_left_alone(
    bed: DockBed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.api.containers.BUSY_SECONDS", 0.01)
    with bed.store.locks.hold("job/container/local/web-1", 0):
        answer = bed.policy(name="always")
    assert answer.problem == (409, "container-busy")
    assert answer.headers["Retry-After"]
    assert bed.engine.writes == []


def test_a_collection_gives_back_the_policy_it_found_so_none_is_taken_meanwhile(
    bed: DockBed,
) -> None:
    bed.collect()
    answer = bed.ask(f"{CONTAINERS}/registry/restart-policy", "PUT", body={"name": "always"})
    assert answer.problem == (409, "gc-already-active")
    assert bed.engine.writes == []
