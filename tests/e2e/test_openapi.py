"""The OpenAPI document: clean to a linter, and true of the service that runs."""

import json
import os
import subprocess
from pathlib import Path

import pytest

from demo import images
from demo.images import sample
from tests.e2e.bed.fuzzing import LENIENCE, schemathesis
from tests.e2e.bed.http import ask
from tests.e2e.bed.registry import MakeRegistry, RunningRegistry
from tests.e2e.bed.service import MakeService, Service

ROOT = Path(__file__).parents[2]
DOCUMENT = ROOT / "openapi" / "openapi.json"
REDOCLY = Path(__file__).parent / "openapi-lint" / "node_modules" / ".bin" / "redocly"
QUIET = {"REDOCLY_TELEMETRY": "off", "REDOCLY_SUPPRESS_UPDATE_NOTICE": "true", "CI": "true"}
APP = "library/alpine"
REPOSITORY = f"/v1/registries/default/repositories/{APP}"


def test_the_document_is_clean_to_redocly() -> None:
    linted = subprocess.run(
        [str(REDOCLY), "lint", str(DOCUMENT), "--extends", "recommended", "--format", "json"],
        env=os.environ | QUIET,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    found = json.loads(linted.stdout)
    assert found["problems"] == []
    assert found["totals"] == {"errors": 0, "warnings": 0, "ignored": 0}
    assert linted.returncode == 0


@pytest.fixture(scope="module")
def filled(module_registry: MakeRegistry) -> RunningRegistry:
    """A registry that holds what the document's examples name."""
    made = module_registry()
    with made.pusher() as pusher:
        pusher.push(APP, sample("alpine"), "3.20", "3.20-slim")
        pusher.push(APP, images.multi_arch("alpine"), "multi")
        pusher.push(APP, sample("doomed"), "doomed")
        subject = sample("signed")
        pusher.push(APP, subject, "signed")
        pusher.push(APP, images.signature(subject), images.cosign_tag(subject))
        pusher.push("team/app", images.artifact(b"a list"), "list")
    return made


@pytest.fixture(scope="module")
def running(module_service: MakeService, filled: RunningRegistry) -> Service:
    return module_service(filled)


def test_the_service_serves_the_document_checked_in(running: Service) -> None:
    answer = ask(f"{running.url}/openapi.json")
    assert answer.body == DOCUMENT.read_bytes()


@pytest.mark.timeout(700)
def test_what_is_there_is_read_as_the_document_says(running: Service, tmp_path: Path) -> None:
    with_parts = running.ask(f"{REPOSITORY}/-/tags/multi").json()
    timetable = {"cron": "0 3 1 1 *", "enabled": False}
    assert running.ask("/v1/registries/default/gc-schedule", "PUT", body=timetable).status == 200
    token = running.ask("/v1/tokens", "POST", body={"name": "seen", "scopes": ["job:read"]})
    deletion = running.ask(f"{REPOSITORY}/-/tags/doomed", "DELETE").json()
    pinned = {
        "registry": "default",
        "repository": APP,
        "tag": "multi",
        "reference": "multi",
        "digest": with_parts["digest"],
        "token_id": token.json()["id"],
        "deletion_id": deletion["id"],
    }
    lines = [f'"path.{name}" = "{value}"' for name, value in pinned.items()]
    config = "\n".join(["[parameters]", *lines])
    phases = ("--include-method", "GET", "--phases", "examples,coverage")  # the rest was tried
    found = schemathesis(running.url, running.token("admin"), tmp_path, config, *phases)
    found.require_success()
    assert found.never_accepted(set(pinned)) == set()


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("cases", [2, pytest.param(20, marks=pytest.mark.soak)])
def test_the_service_does_what_the_document_says(
    running: Service, tmp_path: Path, cases: int
) -> None:
    found = schemathesis(running.url, running.token("admin"), tmp_path, LENIENCE, cases=cases)
    found.require_success()
    assert found.report["operations"]["tested"] >= 25
