"""Images are pushed from a real engine to real registries, and taken apart."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import pytest

from tests.e2e.bed.api import get, problem
from tests.e2e.bed.clients import DockerCommand
from tests.e2e.bed.engine import Engine, pack
from tests.e2e.bed.registry import MakeRegistry, RunningRegistry
from tests.e2e.bed.service import MakeService, Service

LAYER = 3 * 1024 * 1024
PUSH = "/v1/images/push"
USER = ("pusher", "s3cret-of-the-registry")


@pytest.fixture(scope="module")
def source(engine: Engine) -> Iterator[str]:
    """An image of two layers."""
    name = f"images-{engine.workspace.owner}:1"
    base = engine.busybox_image()
    made = engine.client.containers.create(base, ["true"], labels=engine.labels)
    made.put_archive("/", pack({"noise": os.urandom(LAYER)}, {}))
    made.commit(*name.split(":"), changes='CMD ["noise"]')
    made.remove()
    yield name
    engine.client.images.remove(name)


def pushed(service: Service, source: str, **changed: Any) -> dict[str, Any]:  # noqa: ANN401
    """Push, and give the job once it has ended."""
    body = {"source": source, "registry": "default", "repository": "team/app", "tag": "1"}
    answer = service.ask(PUSH, "POST", body=body | changed, headers={"Prefer": "wait=60"})
    assert answer.status == 200, answer
    found: dict[str, Any] = answer.json()
    return found


def names(engine: Engine, registry: RunningRegistry) -> dict[str, str]:
    """The engine's names at a registry, with the ids of their images."""
    found = engine.client.images.list()
    return {tag: str(one.id) for one in found for tag in one.tags
            if tag.startswith((registry.host, "registry-admin/"))}  # fmt: skip


def log(service: Service, job: dict[str, Any]) -> str:
    found = service.ask(f"/v1/jobs/{job['id']}/log", headers={"Accept": "text/plain"})
    return found.body.decode()


@pytest.mark.parametrize(
    "shape", [{}, {"htpasswd": USER}, {"tls": True}], ids=["plain", "password", "tls"]
)
def test_an_image_is_pushed_and_leaves_no_name(
    shape: dict[str, Any],
    registry: MakeRegistry,
    service: MakeService,
    engine: Engine,
    source: str,
) -> None:
    made = registry(**shape)
    serving = service(made)
    job = pushed(serving, source)
    assert job["state"] == "succeeded", job
    result = job["result"]
    assert result == {
        "digest": made.tags("team/app")["1"],
        "size": get(serving, "/v1/registries/default/repositories/team/app/-/tags/1")["size"],
        "layers_pushed": 2,
        "layers_existing": 0,
    }
    assert job["progress"]["phase"] == "verify"
    assert names(engine, made) == {}
    assert "layer " in log(serving, job)
    assert USER[1] not in log(serving, job) + serving.log.read_text()
    again = pushed(serving, source, tag="2")["result"]
    assert again == {**result, "layers_pushed": 0, "layers_existing": 2}
    assert source in engine.client.images.get(source).tags


def test_a_pushed_image_can_be_pulled(
    registry: MakeRegistry,
    service: MakeService,
    engine: Engine,
    docker_command: DockerCommand,
    source: str,
) -> None:
    made = registry()
    assert pushed(service(made), source)["state"] == "succeeded"
    name = f"{made.host}/team/app:1"
    try:
        assert docker_command.pull(made, "team/app:1") == engine.client.images.get(source).id
    finally:
        docker_command("rmi", name)


def test_a_name_that_was_there_stays(
    registry: MakeRegistry, service: MakeService, engine: Engine, source: str
) -> None:
    made = registry()
    serving = service(made)
    name = f"{made.host}/team/app"
    image = engine.client.images.get(source)
    other = engine.client.images.get(engine.busybox_image())
    for before in (image, other):
        before.tag(name, "1")
        job = pushed(serving, source)
        assert job["state"] == "succeeded", job
        assert names(engine, made) == {f"{name}:1": before.id}
        engine.client.images.remove(f"{name}:1")


def refused(service: Service, status: int, code: str, **changed: str) -> Any:  # noqa: ANN401
    body = {"source": "x:1", "registry": "default", "repository": "team/app", "tag": "1"}
    return problem(service.ask(PUSH, "POST", body=body | changed), status, code)


def test_what_cannot_be_pushed_is_refused_at_once(
    registry: MakeRegistry, service: MakeService, engine: Engine, source: str
) -> None:
    serving = service(registry())
    refused(serving, 404, "image-unknown", source="nowhere:1")
    for name in ("", "UPPER:1", "a b", "../images", "app:1:2", "app@sha256:12"):
        refused(serving, 422, "validation-failed", source=name)
    image_id = str(engine.client.images.get(source).id)
    refused(serving, 422, "validation-failed", source=image_id)
    told = refused(serving, 422, "validation-failed", source=image_id.removeprefix("sha256:")[:12])
    assert told["errors"][0]["pointer"] == "/source"
    refused(serving, 404, "registry-unknown", source=source, registry="nowhere")
    refused(serving, 400, "invalid-repository-name", source=source, repository="UPPER")
    refused(serving, 400, "invalid-tag", source=source, tag="-")


def failed(job: dict[str, Any]) -> tuple[str, str]:
    assert job["state"] == "failed", job
    return job["error"]["code"], job["error"]["detail"]


def test_a_registry_that_takes_no_pushes_is_told(
    registry: MakeRegistry, service: MakeService, engine: Engine, source: str
) -> None:
    made = registry(read_only=True)
    serving = service(made)
    assert failed(pushed(serving, source))[0] == "registry-read-only"
    made.stop()
    assert failed(pushed(serving, source))[0] == "registry-unreachable"
    assert names(engine, made) == {}


def test_wrong_credentials_are_told(
    registry: MakeRegistry, service: MakeService, engine: Engine, source: str
) -> None:
    made = registry(htpasswd=USER)
    wrong = {"username": USER[0], "password": "wrong", "password_file": None}
    table = {key: value for key, value in wrong.items() if value is not None}
    made.credentials = None
    serving = service(made, table=table)
    assert failed(pushed(serving, source))[0] == "registry-unauthorized"
    assert names(engine, made) == {}
