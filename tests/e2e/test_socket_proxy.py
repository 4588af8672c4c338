"""Through a socket proxy that lets through what is listed, all works that the list is for."""

from __future__ import annotations

from typing import Any

import pytest

from service.adapters.engine import DockerEngine
from service.adapters.engine.transport import Call
from service.domain.errors import EngineRefused, EngineUnreachable
from service.settings import EngineSettings
from tests.e2e.bed.api import REGISTRY
from tests.e2e.bed.engine import Engine, start_private
from tests.e2e.bed.gate import DEPLOY
from tests.e2e.bed.registry import MakeRegistry
from tests.e2e.bed.service import MakeService, Service
from tests.e2e.bed.workspace import Workspace

RULES = {name: (DEPLOY / f"{name}.rules").read_text().splitlines()
         for name in ("with-recreation", "without-recreation")}  # fmt: skip


@pytest.fixture
def small(registry: MakeRegistry, service: MakeService, engine: Engine) -> tuple[Service, str]:
    """A service behind the smaller list, and the name of its registry's container."""
    made = registry()
    engines = {"local": {"url": engine.gate("without-recreation")}}
    return service(made, settings={"engines": engines}), made.name


def job(service: Service, path: str, method: str = "POST", **body: Any) -> dict[str, Any]:  # noqa: ANN401
    answer = service.ask(path, method, body=body, headers={"Prefer": "wait=60"})
    assert answer.status == 200, answer
    found: dict[str, Any] = answer.json()
    return found


def test_without_recreation_the_rest_works(small: tuple[Service, str], engine: Engine) -> None:
    service, name = small
    container = f"/v1/containers/{name}"
    assert service.ask(container).json()["effective_ulimits"]
    assert service.ask(f"{container}/changes").status == 200
    assert service.ask(f"{container}/core-dumps").status == 200
    gated = DockerEngine(EngineSettings("local", engine.gate("without-recreation")))
    assert len(gated.last_lines(name, 1)) == 1
    assert job(service, f"{container}/restart")["state"] == "succeeded"
    policy = service.ask(f"{container}/restart-policy", "PUT", body={"name": "always"})
    assert policy.status == 200, policy
    source = engine.busybox_image()
    pushed = {"source": source, "registry": "default", "repository": "app", "tag": "1"}
    assert job(service, "/v1/images/push", **pushed)["state"] == "succeeded"
    assert service.ask(f"/v1/images/{source}/anatomy").status == 200
    live = job(service, f"{REGISTRY}/gc-runs", mode="live", accept_risk=True)
    assert live["state"] == "succeeded", live


def test_without_recreation_nothing_is_made(small: tuple[Service, str]) -> None:
    service, name = small
    before = service.ask(f"/v1/containers/{name}").json()
    collected = job(service, f"{REGISTRY}/gc-runs", mode="read-only")
    assert (collected["state"], collected["error"]["code"]) == ("failed", "collection-failed")
    assert "POST /containers/create" in collected["error"]["detail"]
    assert "socket proxy" in collected["error"]["detail"]
    body = {"ulimits": [{"name": "core", "soft": -1, "hard": -1}]}
    answer = service.ask(
        f"/v1/containers/{name}/ulimits", "PUT", body=body, headers={"Prefer": "wait=60"}
    )
    told = answer.json()
    told = told.get("error") or told
    assert told["code"] == "engine-refused"
    assert "POST /containers/create" in told["detail"]
    assert service.ask(f"/v1/containers/{name}").json()["id"] == before["id"]


def test_what_is_not_listed_is_not_let_through(engine: Engine) -> None:
    for profile in RULES:
        gated = DockerEngine(EngineSettings("local", engine.gate(profile)))
        transport = gated._transport  # noqa: SLF001 - to ask what the service never does
        for method, path in (
            ("POST", "/containers/prune"),
            ("POST", "/build"),
            ("POST", "/images/create"),
            ("GET", "/secrets"),
            ("DELETE", f"/images/sha256:{64 * '0'}"),
            ("DELETE", "/images/busybox"),
            ("GET", "/containers/../info"),
            ("POST", "/volumes/create"),
        ):
            with pytest.raises(EngineRefused, match="forbids"):
                transport.ask(Call(method, path))


def test_the_smaller_list_is_part_of_the_larger() -> None:
    lines = {
        name: {line for line in rules if line.startswith("^")} for name, rules in RULES.items()
    }
    assert lines["without-recreation"] < lines["with-recreation"]


def test_an_engine_that_is_gone_is_told_from_one_that_refuses(workspace: Workspace) -> None:
    bed = start_private(workspace)
    try:
        engine = DockerEngine(EngineSettings("local", bed.gate()))
        assert engine.status() == "up"
        assert bed.daemon is not None
        bed.daemon.kill()
        with pytest.raises(EngineUnreachable):
            engine.containers()
        with pytest.raises(EngineUnreachable, match="GET /version is answered by status 503"):
            DockerEngine(EngineSettings("local", bed.gate())).containers()
        bed.restart()
        assert engine.containers() == []
    finally:
        bed.close()
