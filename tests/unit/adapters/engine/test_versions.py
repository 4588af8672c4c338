"""The version of a registry in a container: asked for by a command, remembered while it runs."""

from __future__ import annotations

from typing import Any

import pytest

from service.adapters.engine import DockerEngine, versions
from tests.unit.adapters.engine.conftest import StandIn, frame

VERSION = b"registry github.com/docker/distribution 2.8.2\r\n"
INSPECT = "GET /containers/registry/json"
START = "POST /exec/e1/start"
CONTAINER = {"Id": "c1", "State": {"StartedAt": "2026-01-01T00:00:00Z"}}


@pytest.fixture
def registry(stand_in: StandIn) -> StandIn:
    stand_in.on(INSPECT, CONTAINER)
    for container in ("c1", "c2"):
        stand_in.on(f"POST /containers/{container}/exec", {"Id": "e1"}, status=201)
    stand_in.on("GET /exec/e1/json", {"Running": False, "ExitCode": 0})
    stand_in.on(START, stream=[frame(1, VERSION)])
    return stand_in


@pytest.mark.parametrize(
    ("output", "version"),
    [
        (VERSION, "2.8.2"),
        (b"registry github.com/distribution/distribution/v3 3.1.1\n", "3.1.1"),
        (b"registry github.com/distribution/distribution/v3 v3.0.0-rc.1+unknown\n", "3.0.0-rc.1"),
        (b"registry github.com/docker/distribution v2.8.2+ds1\r\n", "2.8.2"),
        (b"OCI runtime exec failed: exec failed: no such file: unknown\r\n", None),
        (b"registry github.com/docker/distribution (unknown)\r\n", None),
        (b"", None),
        (b"\xff\xfe", None),
    ],
)
def test_the_version_is_what_the_container_says(
    engine: DockerEngine, registry: StandIn, output: bytes, version: str | None
) -> None:
    whole = frame(1, output)
    registry.on(START, stream=[whole[:5], whole[5:12], whole[12:]])
    assert engine.registry_version("registry") == version


def test_a_version_is_asked_for_once_while_the_container_runs(
    engine: DockerEngine, registry: StandIn
) -> None:
    for _ in range(3):
        assert engine.registry_version("registry") == "2.8.2"
    assert registry.count(START) == 1


@pytest.mark.parametrize(
    "change",
    [{"Id": "c2"}, {"State": {"StartedAt": "2026-01-02T00:00:00Z"}}],
    ids=["recreated", "restarted"],
)
def test_a_container_that_changed_is_asked_again(
    engine: DockerEngine, registry: StandIn, change: dict[str, Any]
) -> None:
    assert engine.registry_version("registry") == "2.8.2"
    registry.on(START, stream=[frame(1, b"registry x 3.1.1\n")])
    registry.on(INSPECT, CONTAINER | change)
    assert engine.registry_version("registry") == "3.1.1"


def test_a_version_is_asked_for_again_after_some_minutes(
    engine: DockerEngine, registry: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(versions, "KNOWN_SECONDS", 0)
    engine.registry_version("registry")
    engine.registry_version("registry")
    assert registry.count(START) == 2


def test_a_container_that_is_not_there_has_no_version_and_is_not_asked_for_each_time(
    engine: DockerEngine, stand_in: StandIn
) -> None:
    for _ in range(3):
        assert engine.registry_version("registry") is None
    assert stand_in.count(INSPECT) == 1


def test_a_command_that_hangs_ends_in_time(
    engine: DockerEngine, registry: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(versions, "RUN_SECONDS", 0.1)
    registry.on(START, stream=[frame(1, b"registry x 2.")], hangs=True)
    assert engine.registry_version("registry") is None


def test_a_command_that_talks_on_for_ever_is_cut_off(
    engine: DockerEngine, registry: StandIn
) -> None:
    registry.on(START, stream=[frame(1, b"x\n" * 30_000)] * 10_000)
    assert engine.registry_version("registry") is None
    assert not registry.count("GET /exec/e1/json")
