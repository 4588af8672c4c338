"""Containers of ours in the place of another one, or beside it, on a real engine."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pytest

from demo.images import sample
from service.domain.engine import Inspected
from service.domain.errors import ContainerStartFailed
from service.domain.recreation import Aside, differences, helper, stand_in
from tests.e2e.bed.registry import MakeRegistry
from tests.e2e.bed.shapes import Shape, Workshop

ORIGINAL = Shape(
    "original",
    "-v /data -v {named}:/n -v {folder}:/b:ro --mount type=volume,dst=/m --network {front} "
    "--ip {front_ip} --network-alias a -p 127.0.0.1:{port}:80 --restart always -e A=1 "
    "--label com.docker.compose.service=web --label registry-admin.enable=true --label l=1",
    "full",
    "",
    connect=("--ip {back_ip} --alias c {back}",),
)


@dataclass
class Pair:
    """A stopped original and the one that runs in its place."""

    original: Inspected
    found: Inspected
    written: Mapping[str, bytes]

    @property
    def config(self) -> dict[str, Any]:
        config: dict[str, Any] = self.found["Config"]
        return config


@pytest.fixture
def pair(shop: Workshop) -> Pair:
    name = shop.create(ORIGINAL)
    assert shop.start(name) is None
    written = shop.fill(name)
    original = shop.port.container(name)
    aside = Aside(shop.name(), "job-1", {"A": "2", "MORE": "x=y"})
    made = shop.controller().create(stand_in(original, shop.port.image(original["Image"]), aside))
    with pytest.raises(ContainerStartFailed):  # its ports and addresses are taken
        shop.controller().start(made)
    shop.controller().stop(original["Id"], 0)
    shop.controller().start(made)
    return Pair(original, shop.port.container(made), written)


def test_a_stand_in_runs_where_its_original_did(pair: Pair) -> None:
    assert pair.found["State"]["Running"] is True
    assert pair.found["Image"] == pair.original["Image"]
    bindings = [one["HostConfig"]["PortBindings"] for one in (pair.found, pair.original)]
    assert bindings[0] == bindings[1] != {}


def test_a_stand_in_has_the_volumes(shop: Workshop, pair: Pair) -> None:
    points = [
        {m["Destination"]: (m["Source"], m["RW"]) for m in one["Mounts"]}
        for one in (pair.original, pair.found)
    ]
    assert points[0] == points[1]
    assert len(pair.written) == 4
    for path, content in pair.written.items():
        assert shop.port.read_file(pair.found["Id"], path, 1000) == content


@pytest.mark.parametrize(("network", "alias"), [("front", "a"), ("back", "c")])
def test_a_stand_in_has_the_networks(shop: Workshop, pair: Pair, network: str, alias: str) -> None:
    endpoint = pair.found["NetworkSettings"]["Networks"][shop.words[network]]
    assert endpoint["IPAddress"] == shop.words[f"{network}_ip"]
    assert {alias, pair.original["Name"].lstrip("/")} <= set(endpoint["Aliases"])
    assert pair.original["Id"][:12] not in endpoint["Aliases"]


def test_a_stand_in_does_nothing_by_itself(pair: Pair) -> None:
    assert pair.found["HostConfig"]["RestartPolicy"]["Name"] == "no"
    assert pair.config["Healthcheck"]["Test"] == ["NONE"]
    assert "Health" not in pair.found["State"]


def test_a_stand_in_has_more_environment(pair: Pair) -> None:
    assert {"A=2", "B=2", "MORE=x=y"} <= set(pair.config["Env"])
    assert "A=1" not in pair.config["Env"]


def test_a_stand_in_is_ours_and_nobody_else_s(shop: Workshop, pair: Pair) -> None:
    labels = pair.config["Labels"]
    assert labels["registry-admin.job"] == "job-1"
    assert labels["registry-admin.original"] == pair.original["Id"]
    assert (labels["l"], labels["kind"]) == ("1", "full")
    assert not any(v for k, v in labels.items() if k.startswith("com.docker.compose."))
    assert not labels.get("registry-admin.enable")
    (ours,) = shop.port.containers("registry-admin.job=job-1")
    assert ours["Id"] == pair.found["Id"]


def require_unchanged(before: Inspected, after: Inspected) -> None:
    for part in ("Config", "HostConfig", "Image", "Path", "Args", "Name"):
        assert after[part] == before[part]
    assert differences(before, after) == []


def test_the_original_is_as_it_was_after_a_stand_in(shop: Workshop) -> None:
    name = shop.running("-v /data --network {front} --ip {front_ip} --restart always", "full", "")
    before = shop.port.container(name)
    image = shop.port.image(before["Image"])
    made = shop.controller().create(stand_in(before, image, Aside(shop.name(), "job-2")))
    shop.controller().stop(before["Id"], 0)
    shop.controller().start(made)
    shop.controller().stop(made, 0)
    shop.controller().remove(made)
    shop.controller().start(before["Id"])
    after = shop.port.container(name)
    assert after["Id"] == before["Id"]
    require_unchanged(before, after)


def test_a_helper_runs_a_command_on_the_volumes_and_tells_all(shop: Workshop) -> None:
    options = (
        "-t -v /data --network {front} --ip {front_ip} -p 127.0.0.1:{port}:80 --log-driver none"
    )
    name = shop.running(f"{options} --restart always", "full", "")
    shop.write(name, "/data/file", "kept")
    original = shop.port.container(name)
    image = shop.port.image(original["Image"])
    script = 'cat /data/file; echo; seq 1 3000; echo "$A$B" >&2; exit 4'
    aside = Aside(shop.name(), "job-3", {"A": "x"})
    made = helper(original, image, aside, ["/bin/sh", "-c", script])
    shop.controller().stop(original["Id"], 0)
    created = shop.controller().create(made)
    shop.controller().start(created)
    lines: list[tuple[str, bytes]] = []
    code = shop.controller().wait(created, lambda *line: lines.append(line), lambda: False, 60)
    out = [line for stream, line in lines if stream == "stdout"]
    assert code == 4
    assert out == [b"kept", *(str(number).encode() for number in range(1, 3001))]
    assert [line for stream, line in lines if stream == "stderr"] == [b"x2"]
    found = shop.port.container(created)
    assert not found["HostConfig"]["PortBindings"]
    assert found["RestartCount"] == 0


def test_a_registry_serves_from_its_stand_in(shop: Workshop, registry: MakeRegistry) -> None:
    made = registry()
    with made.pusher() as pusher:
        pusher.push("app", sample("one"), "1")
    held = made.snapshot()
    original = shop.port.container(made.name)
    read_only = {"REGISTRY_STORAGE_MAINTENANCE_READONLY": '{"enabled":true}'}
    creation = stand_in(
        original, shop.port.image(original["Image"]), Aside(shop.name(), "job-4", read_only)
    )
    created = shop.controller().create(creation)
    shop.controller().stop(original["Id"])
    shop.controller().start(created)
    made.wait()
    assert made.snapshot() == held
    assert made.ask("/v2/app/blobs/uploads/", "POST").status == 405
    shop.controller().stop(created)
    shop.controller().remove(created)
    shop.controller().start(original["Id"])
    made.wait()
    assert made.ask("/v2/app/blobs/uploads/", "POST").status == 202
    require_unchanged(original, shop.port.container(made.name))
