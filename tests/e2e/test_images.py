"""Images are pushed from a real engine to real registries, and taken apart."""

from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
import tarfile
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from docker.models.images import Image

from demo.processes import wait_until
from tests.e2e.bed.api import get, problem
from tests.e2e.bed.clients import DockerCommand
from tests.e2e.bed.engine import Engine, pack
from tests.e2e.bed.proxy import Exchange, Proxy, Reply
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


class Stuck:
    """A registry behind a proxy that takes no layer until told to."""

    def __init__(self, registry: RunningRegistry, front: Proxy) -> None:
        self.registry = registry
        self.front = front
        self.asked, self.opened = threading.Event(), threading.Event()
        front.rule(self._hold, method="PATCH")

    def _hold(self, exchange: Exchange) -> Reply | None:
        self.asked.set()
        self.opened.wait(60)
        return exchange.forward()


@pytest.fixture
def stuck(registry: MakeRegistry, proxy: Callable[[RunningRegistry], Proxy]) -> Iterator[Stuck]:
    made = registry()
    held = Stuck(made, proxy(made))
    yield held
    held.opened.set()


def begun(service: Service, stuck: Stuck, source: str) -> str:
    """Begin a push; gives the job's path once a layer is under way."""
    body = {"source": source, "registry": "default", "repository": "team/app", "tag": "1"}
    answer = service.ask(PUSH, "POST", body=body)
    assert answer.status == 202, answer
    assert stuck.asked.wait(60)
    return answer.headers["location"]


def over(service: Service, path: str) -> dict[str, Any]:
    wait_until(lambda: bool(service.ask(path).json()["finished_at"]), 60, f"the end of {path}")
    found: dict[str, Any] = service.ask(path).json()
    return found


def host_names(engine: Engine, host: str) -> list[str]:
    return [tag for one in engine.client.images.list() for tag in one.tags if tag.startswith(host)]


def test_a_cancelled_push_stops_and_leaves_no_name(
    stuck: Stuck, service: MakeService, engine: Engine, source: str
) -> None:
    serving = service(stuck.registry, url=stuck.front.url)
    path = begun(serving, stuck, source)
    assert host_names(engine, urlsplit(stuck.front.url).netloc)
    assert serving.ask(f"{path}/cancel", "POST").status == 202
    assert over(serving, path)["state"] == "cancelled"
    assert host_names(engine, urlsplit(stuck.front.url).netloc) == []
    stuck.opened.set()
    assert stuck.registry.snapshot() in ({}, {"team/app": {}})


def test_a_push_whose_service_was_killed_is_done_and_leaves_no_name(
    stuck: Stuck, service: MakeService, engine: Engine, source: str
) -> None:
    serving = service(stuck.registry, url=stuck.front.url)
    path = begun(serving, stuck, source)
    serving.kill()
    stuck.opened.set()
    serving.start()
    job = over(serving, path)
    assert job["state"] == "succeeded", job
    assert job["result"]["digest"] == stuck.registry.tags("team/app")["1"]
    assert host_names(engine, urlsplit(stuck.front.url).netloc) == []


def test_an_image_is_taken_apart(
    registry: MakeRegistry, service: MakeService, engine: Engine, source: str
) -> None:
    serving = service(registry())
    image = engine.client.images.get(source)
    name = f"anatomy-{engine.workspace.owner}"
    box = engine.client.containers.run(
        source, ["sh", "-c", "echo 12345 > /own; exec sleep 600"], name=name, detach=True,
        network_mode="none", stop_signal="SIGKILL",
        labels={**engine.labels, "registry-admin.enable": "true"},
    )  # fmt: skip
    try:
        wait_until(lambda: bool(box.diff()), 20, "something written")
        found = get(serving, f"/v1/images/{source}/anatomy")
        assert found == get(serving, f"/v1/images/{image.id}/anatomy")
    finally:
        box.remove(force=True)
    assert found["size"] == image.attrs["Size"]
    filled = [layer for layer in found["layers"] if not layer["empty"]]
    assert [layer["digest"] for layer in filled] == image.attrs["RootFS"]["Layers"]
    assert sum(layer["size"] for layer in filled) == image.attrs["Size"]
    assert filled[-1]["size"] >= LAYER
    (mine,) = found["containers"]
    assert (mine["name"], mine["id"]) == (name, box.id)
    assert mine["writable_layer_size"] == 6


STEPS = b"""\
FROM %s
RUN true
RUN touch /empty
ENV A=1
WORKDIR /new
WORKDIR /new
RUN echo hi > /hi
RUN true
COPY nothing /nothing
LABEL a=b
CMD ["sh"]
"""
"""Steps with and without a layer, which their bytes do not tell apart."""


def test_steps_without_bytes_are_told_as_their_builder_made_them(
    service: MakeService, engine: Engine
) -> None:
    name = f"steps-{engine.workspace.owner}:1"
    context = pack({"Dockerfile": STEPS % engine.busybox_image().encode(), "nothing": b""}, {})
    said = engine.client.api.build(
        fileobj=io.BytesIO(context), custom_context=True, tag=name, rm=True, network_mode="none"
    )
    assert b"Successfully tagged" in b"".join(said)
    try:
        found = get(service(), f"/v1/images/{name}/anatomy")["layers"]
        image = engine.client.images.get(name)
        truth = saved_config(image)
    finally:
        engine.client.images.remove(name)
    assert [one["empty"] for one in found] == [
        bool(step.get("empty_layer")) for step in truth["history"]
    ]
    assert [one["digest"] for one in found if not one["empty"]] == truth["rootfs"]["diff_ids"]
    assert [one["created_by"] for one in found] == [
        step.get("created_by") for step in truth["history"]
    ]


def saved_config(image: Image) -> Any:  # noqa: ANN401 - JSON
    """The image's config, which the engine gives with all the rest alone."""
    archive = io.BytesIO(b"".join(image.save()))
    with tarfile.open(fileobj=archive) as tar:
        (name,) = (one for one in tar.getnames() if one == f"{str(image.id)[7:]}.json")
        member = tar.extractfile(name)
        assert member is not None
        return json.load(member)


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
    refused(serving, 404, "image-unknown", source=image_id)
    told = refused(serving, 404, "image-unknown", source=image_id.removeprefix("sha256:")[:12])
    assert "docker tag" in told["detail"]
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


@pytest.fixture
def own_address() -> Iterator[str]:
    """An address of the loopback that engines do not hold to be safe, as they do 127.0.0.0/8."""
    address = f"198.19.255.{os.getpid() % 250 + 1}"
    subprocess.run(["ip", "address", "add", f"{address}/32", "dev", "lo"], check=True)
    yield address
    subprocess.run(["ip", "address", "del", f"{address}/32", "dev", "lo"], check=True)


def test_a_registry_that_the_engine_does_not_trust_is_told(
    own_address: str, registry: MakeRegistry, service: MakeService, engine: Engine, source: str
) -> None:
    """And what the answer says helps at once: the service itself trusts it all the time."""
    made = registry(tls=True, address=own_address)
    assert made.authority is not None
    serving = service(made)
    code, detail = failed(pushed(serving, source))
    assert code == "registry-tls-untrusted"
    (place,) = (Path(word) for word in detail.split() if word.endswith("/ca.crt."))
    place = place.with_name("ca.crt")
    assert place == Path(f"/etc/docker/certs.d/{made.host}/ca.crt")
    assert names(engine, made) == {}
    place.parent.mkdir(parents=True)
    try:
        place.write_bytes(made.authority.ca_file.read_bytes())
        job = pushed(serving, source)
        assert job["state"] == "succeeded", job
    finally:
        shutil.rmtree(place.parent)
        for folder in (place.parents[1], place.parents[2]):
            with suppress(OSError):  # others' are left
                folder.rmdir()


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
