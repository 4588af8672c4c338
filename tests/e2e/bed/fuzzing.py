"""Schemathesis: does a running service do what its OpenAPI document says?"""

import json
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SEED = "1"
SCHEMATHESIS = Path(sys.executable).with_name("schemathesis")
CASES = 2
"""Most generated requests an operation and phase; what the coverage phase lists comes besides."""

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


def schemathesis(
    url: str, token: str, folder: Path, config: str, *arguments: str, cases: int = CASES
) -> Run:
    """Fuzz the running service as an administrator, with every check there is."""
    report, settings = folder / "report.json", folder / "schemathesis.toml"
    settings.write_text(config)
    command = [str(SCHEMATHESIS), "--no-color", "--config-file", str(settings)]
    command += ["run", f"{url}/openapi.json", "--checks", "all"]
    command += ["--header", f"Authorization: Bearer {token}"]
    command += ["--max-examples", str(cases), "--seed", SEED, "--continue-on-failure"]
    command += ["--report", "json", "--report-json-path", str(report), *arguments]
    ended = subprocess.run(
        command, cwd=folder, capture_output=True, text=True, timeout=1700, check=False
    )
    return Run(ended.returncode, ended.stdout + ended.stderr, json.loads(report.read_text()))
