"""Ulimits over HTTP: what is asked for, and what is refused before anything is touched."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from service.domain.containers import Containers, Rules
from service.domain.errors import ContainerStartFailed
from service.domain.job import Work
from service.domain.trial import NO_PROGRAM
from service.jobs.recreating import recreating
from tests.fakes_engine import Box, Ran
from tests.unit.api.conftest import Bed, Reply

WEB = "/v1/containers/web-1"
NOFILE = {"name": "nofile", "soft": 64, "hard": 128}


class WorkBed(Bed):
    """An engine with an allowed container."""

    def __init__(self) -> None:
        super().__init__()
        self.engine.add_image("app:1")
        self.engine.run("web-1", "app:1")
        self.engine.run("secret", "app:1")
        self.engine.programs[(NO_PROGRAM,)] = self.no_program
        self.engine.writes.clear()

    def wire(self) -> Sequence[Work]:
        return (recreating(self.containers, self.trail),)

    def no_program(self, box: Box) -> Ran:
        (limit,) = box.host_config["Ulimits"] or ({"Hard": 0},)
        if limit["Hard"] > 1_000_000:
            raise ContainerStartFailed("error setting rlimit type 7: operation not permitted")
        raise ContainerStartFailed(f"exec: {NO_PROGRAM}: no such file or directory")

    def put(self, *limits: object, container: str = "web-1", **options: object) -> Reply:
        body = {"ulimits": list(limits), **options}
        return self.ask(f"/v1/containers/{container}/ulimits", "PUT", body=body)

    def ended(self, *limits: object, **options: Any) -> Any:  # noqa: ANN401 - JSON
        answer = self.put(*limits, **options)
        assert answer.status == 202, answer.text
        self.jobs.run_all()
        return self.ask(answer.headers["Location"]).json

    def require_untouched(self) -> None:
        assert sorted(box.name for box in self.engine.boxes.values()) == ["secret", "web-1"]
        assert self.engine.box("web-1").running
        assert {write.container for write in self.engine.writes} <= {
            write.container for write in self.engine.writes if "-trial-" in write.container
        }


@pytest.fixture
def bed(monkeypatch: pytest.MonkeyPatch) -> WorkBed:
    monkeypatch.setattr("service.domain.restarting.PROOF_SECONDS", 0.02)
    monkeypatch.setattr("service.domain.restarting.LOOK_SECONDS", 0.005)
    return WorkBed()


def test_a_change_is_a_job_and_applies(bed: WorkBed) -> None:
    before = bed.engine.box("web-1").id
    job = bed.ended(NOFILE)
    assert (job["kind"], job["state"], job["container"]) == (
        "container-ulimits",
        "succeeded",
        "web-1",
    )
    found = bed.ask(WEB).json
    assert found["ulimits"] == [NOFILE]
    assert NOFILE in found["effective_ulimits"]
    assert job["result"]["new_id"] == found["id"] != before
    bed.engine.box("web-1")
    assert sorted(box.name for box in bed.engine.boxes.values()) == ["secret", "web-1"]


def test_a_dry_run_tells_and_changes_nothing(bed: WorkBed) -> None:
    job = bed.ended(NOFILE, dry_run=True)
    assert (job["state"], job["result"]["dry_run"]) == ("succeeded", True)
    bed.require_untouched()


@pytest.mark.parametrize(
    ("limits", "pointer"),
    [
        (["nofile=1"], "/ulimits/0"),
        ([{"name": "nofile", "soft": 1}], "/ulimits/0/hard"),
        ([{**NOFILE, "name": "nofiles"}], "/ulimits/0/name"),
        ([{**NOFILE, "name": "NOFILE"}], "/ulimits/0/name"),
        ([{**NOFILE, "soft": 129}], "/ulimits/0/soft"),
        ([{**NOFILE, "soft": -1}], "/ulimits/0/soft"),
        ([{**NOFILE, "soft": -2}], "/ulimits/0/soft"),
        ([{**NOFILE, "hard": "128"}], "/ulimits/0/hard"),
        ([{**NOFILE, "hard": 2**63}], "/ulimits/0/hard"),
        ([{**NOFILE, "unit": "files"}], "/ulimits/0/unit"),
        ([NOFILE, {**NOFILE, "soft": 1}], "/ulimits/1/name"),
        ([{**NOFILE, "hard": 2_000_000}], "/ulimits"),
    ],
    ids=str,
)
def test_limits_that_cannot_be_are_refused(
    bed: WorkBed, limits: list[object], pointer: str
) -> None:
    answer = bed.put(*limits)
    assert answer.problem == (422, "validation-failed")
    assert [error["pointer"] for error in answer.json["errors"]] == [pointer]
    bed.require_untouched()


def test_what_the_kernel_refuses_is_told_in_the_engines_words(bed: WorkBed) -> None:
    answer = bed.put({**NOFILE, "hard": 2_000_000})
    assert "operation not permitted" in answer.json["errors"][0]["detail"]


def test_a_trial_that_died_is_swept_by_the_next(bed: WorkBed) -> None:
    old = bed.engine.make("left", {"Image": "app:1", "Labels": {"registry-admin.job": "trial"}}, {})
    young = bed.engine.make(
        "now", {"Image": "app:1", "Labels": {"registry-admin.job": "trial"}}, {}
    )
    old.created, young.created = 0.0, 2e12
    bed.put(NOFILE, dry_run=True)
    assert old.id not in bed.engine.boxes
    assert young.id in bed.engine.boxes


@pytest.mark.parametrize("container", ["secret", "absent"])
def test_others_do_not_exist(bed: WorkBed, container: str) -> None:
    assert bed.put(NOFILE, container=container).problem == (404, "container-unknown")
    bed.require_untouched()


def test_the_services_own_container_is_refused(bed: WorkBed) -> None:
    own = bed.engine.box("web-1").id
    bed.containers = Containers([Rules(bed.engine, ["web-*"])], own)
    bed.app = bed.create()
    assert bed.put(NOFILE).problem == (409, "container-is-self")


@pytest.mark.parametrize(
    ("arrange", "code"),
    [
        ({"status": "paused"}, "container-not-running"),
        ({"host_config": {"AutoRemove": True}}, "container-auto-remove"),
        ({"config": {"Labels": {"com.docker.swarm.task.id": "1"}}}, "swarm-managed"),
        ({"files": {"/note": b"1"}}, "writable-layer-changed"),
    ],
    ids=str,
)
def test_refusals_come_at_once(bed: WorkBed, arrange: dict[str, Any], code: str) -> None:
    box = bed.engine.box("web-1")
    for name, value in arrange.items():
        setattr(box, name, {**getattr(box, name), **value} if isinstance(value, dict) else value)
    assert bed.put(NOFILE).problem == (409, code)
    assert bed.ask("/v1/jobs").json["items"] == []


def test_the_same_key_gives_the_same_job_though_the_container_is_another_by_now(
    bed: WorkBed,
) -> None:
    body = {"ulimits": [NOFILE]}
    key = {"Idempotency-Key": "k"}
    first = bed.ask(f"{WEB}/ulimits", "PUT", body=body, headers=key)
    bed.jobs.run_all()
    bed.engine.end("web-1")
    again = bed.ask(f"{WEB}/ulimits", "PUT", body=body, headers=key)
    assert (again.status, again.json["id"]) == (202, first.json["id"])
