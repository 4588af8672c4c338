"""The rules of the socket proxy are what the adapter asks for: none is missing or needless."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from service.adapters.engine import DockerEngine
from service.adapters.engine.controller import DockerController
from service.domain.engine import Creation, NetworkAttachment, PushName, RestartPolicy
from service.domain.errors import RegistryAdminError
from service.domain.reference import Tag
from tests.unit.adapters.engine.conftest import StandIn, frame

FOLDER = Path(__file__).parents[4] / "deploy" / "socket-proxy"
RULES = {
    name: [line for line in (FOLDER / f"{name}.rules").read_text().splitlines() if line[:1] == "^"]
    for name in ("with-recreation", "without-recreation")
}
BOX = {"Id": "a1", "State": {"Running": True, "Pid": 0, "ExitCode": 0}, "Config": {},
       "HostConfig": {}, "Mounts": []}  # fmt: skip
BOTH = (NetworkAttachment("one", {}), NetworkAttachment("two", {}))
NAME = PushName("127.0.0.1:5000/team/app", Tag("1"))

READS: Mapping[str, Callable[[DockerEngine], object]] = {
    "container": lambda one: one.container("web"),
    "containers": lambda one: one.containers("a=b"),
    "image": lambda one: [one.image(name) for name in ("team/app:1", f"sha256:{64 * 'a'}")],
    "history": lambda one: one.history("127.0.0.1:5000/app@sha256:ab"),
    "file_size": lambda one: one.file_size("web", "/x"),
    "read_file": lambda one: one.read_file("web", "/x", 10),
    "writable_size": lambda one: one.writable_size("web"),
    "layer_changes": lambda one: one.layer_changes("web"),
    "last_lines": lambda one: one.last_lines("web", 1),
    "process_limits": lambda one: one.process_limits("web"),
    "read_proc": lambda one: one.read_proc("web", "1/status"),
    "working_directory": lambda one: one.working_directory("web"),
    "look": lambda one: one.look("web", "/x"),
    "files_in": lambda one: one.files_in("web", "/x", lambda _: True),
    "status": lambda one: one.status(),
    "registry_version": lambda one: one.registry_version("web"),
    "controller": lambda one: one,
}
CHANGES: Mapping[str, Callable[[DockerController], object]] = {
    "start": lambda one: one.start("web"),
    "restart": lambda one: one.restart("web", 1),
    "set_restart_policy": lambda one: one.set_restart_policy("web", RestartPolicy("no")),
    "execute": lambda one: one.execute("web", ["x"], lambda *_: None, lambda: False, 1),
    "tag": lambda one: one.tag(f"sha256:{64 * 'a'}", NAME),
    "untag": lambda one: one.untag(NAME),
    "push": lambda one: one.push(NAME, None, lambda _: None, lambda: False),
}
RECREATIONS: Mapping[str, Callable[[DockerController], object]] = {
    "create": lambda one: one.create(Creation("new", {"Image": "x"}, BOTH)),
    "stop": lambda one: one.stop("web", 1),
    "rename": lambda one: one.rename("web", "other"),
    "remove": lambda one: one.remove("web"),
    "discard": lambda one: one.discard("web"),
    "wait": lambda one: one.wait("web", lambda *_: None, lambda: False, 1),
}


def public(adapter: type) -> set[str]:
    return {name for name, one in vars(adapter).items() if name[0] != "_" and callable(one)}


def asked(
    stand_in: StandIn, engine: DockerEngine, controller: DockerController, profile: str
) -> set[str]:
    """All calls that whatever may be used of the adapter makes in a profile."""
    stand_in.on("GET /containers/web/json", BOX)
    stand_in.on("POST /containers/web/exec", {"Id": "ab"})
    stand_in.on("POST /exec/ab/start", stream=[frame(1, b"said\n")])
    stand_in.on("GET /exec/ab/json", {"Running": False, "ExitCode": 0})
    stand_in.on("POST /containers/create", {"Id": "a1"})
    stat = "eyJuYW1lIjoieCIsInNpemUiOjEsIm1vZGUiOjQyMCwibXRpbWUiOiIyMDI2LTAxLTAxVDAwOjAwOjAwWiJ9"
    found = {"X-Docker-Container-Path-Stat": stat}
    stand_in.on("HEAD /containers/web/archive", headers=found)
    stand_in.on("GET /containers/web/archive", b"", headers=found)
    changes = {**CHANGES, **(RECREATIONS if profile == "with-recreation" else {})}
    run((use, engine) for use in READS.values())
    run((use, controller) for use in changes.values())
    return {one.what for one in stand_in.asked}


def run(uses: Iterable[tuple[Callable[[Any], object], object]]) -> None:
    for use, adapter in uses:
        with suppress(RegistryAdminError):  # what it was asked is what matters
            use(adapter)


def test_each_method_of_the_adapter_is_looked_at() -> None:
    assert READS.keys() == public(DockerEngine) - {"name", "api_version"}
    assert {*CHANGES, *RECREATIONS} == public(DockerController)


@pytest.mark.parametrize("profile", RULES)
def test_what_is_asked_is_let_through(
    stand_in: StandIn, engine: DockerEngine, controller: DockerController, profile: str
) -> None:
    for call in asked(stand_in, engine, controller, profile):
        assert any(re.search(rule, call) for rule in RULES[profile]), call


@pytest.mark.parametrize("profile", RULES)
def test_nothing_is_let_through_that_is_not_asked(
    stand_in: StandIn, engine: DockerEngine, controller: DockerController, profile: str
) -> None:
    calls = asked(stand_in, engine, controller, profile)
    for rule in RULES[profile]:
        assert any(re.search(rule, call) for call in calls), rule
