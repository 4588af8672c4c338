"""The OpenAPI document: clean to a linter, and true of the service that runs."""

import json
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from demo import images
from demo.images import sample
from tests.e2e.bed.http import ask
from tests.e2e.bed.registry import MakeRegistry, RunningRegistry
from tests.e2e.bed.service import MakeService, Service

ROOT = Path(__file__).parents[2]
DOCUMENT = ROOT / "openapi" / "openapi.json"
REDOCLY = Path(__file__).parent / "openapi-lint" / "node_modules" / ".bin" / "redocly"
QUIET = {"REDOCLY_TELEMETRY": "off", "REDOCLY_SUPPRESS_UPDATE_NOTICE": "true", "CI": "true"}
SEED = "1"
SCHEMATHESIS = Path(sys.executable).with_name("schemathesis")
CASES = "6"
"""Most generated requests an operation and phase; what the coverage phase lists comes besides."""

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


@dataclass(frozen=True)
class Run:
    """What schemathesis found: its exit code, what it printed, its report."""

    code: int
    output: str
    report: dict[str, Any]

    def require_success(self) -> None:
        """Raise unless every check passed, on every operation, with a token good to the end."""
        assert self.code == 0, self.output
        assert self.report["complete"], self.output
        assert self.report["test_cases"]["with_failures"] == 0
        assert self.report["operations"]["tested"] == self.report["operations"]["selected"]
        assert self.report["operations"]["errored"] == 0
        assert self.report["warnings"]["missing_auth"] == [], self.output

    def never_accepted(self, names: set[str]) -> set[str]:
        """Operations of no other names whose valid requests were all refused or reached nothing."""
        return {
            operation
            for operation, phases in self.report["valid_rates"].items()
            if set(re.findall(r"{(\w+)}", operation)) <= names
            and not sum(phase["accepted"] for phase in phases.values())
        }


def schemathesis(running: Service, folder: Path, config: str, *arguments: str) -> Run:
    """Fuzz the running service as an administrator, with every check there is."""
    report, settings = folder / "report.json", folder / "schemathesis.toml"
    settings.write_text(config)
    command = [str(SCHEMATHESIS), "--no-color", "--config-file", str(settings)]
    command += ["run", f"{running.url}/openapi.json", "--checks", "all"]
    command += ["--header", f"Authorization: Bearer {running.token('admin')}"]
    command += ["--max-examples", CASES, "--seed", SEED, "--continue-on-failure"]
    command += ["--report", "json", "--report-json-path", str(report), *arguments]
    ended = subprocess.run(
        command, cwd=folder, capture_output=True, text=True, timeout=600, check=False
    )
    return Run(ended.returncode, ended.stdout + ended.stderr, json.loads(report.read_text()))


LENIENCE = """
[[operations]]
include-name = "PUT /v1/containers/{container}/ulimits"
checks.positive_data_acceptance.expected-statuses = ["2xx", "403", "404", "409", "422", "5xx"]

[[operations]]
include-name = "PUT /v1/registries/{registry}/gc-schedule"
phases.coverage.enabled = false
"""
"""No schema can say what the kernel grants: it is asked, and its refusal is 422. And there are
some six hundred time zones, each of which would be tried, with each way to be wrong."""


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
    found = schemathesis(running, tmp_path, config, *phases)
    found.require_success()
    assert found.never_accepted(set(pinned)) == set()


@pytest.mark.timeout(700)
def test_the_service_does_what_the_document_says(running: Service, tmp_path: Path) -> None:
    found = schemathesis(running, tmp_path, LENIENCE)
    found.require_success()
    assert found.report["operations"]["tested"] >= 25
