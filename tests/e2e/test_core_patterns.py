"""Every kind of core pattern: what the diagnosis says is what a kernel does.

The pattern of this machine is its host's and never changed. So these crashes are those of a kernel
of its own, with an engine and containers of its own: nothing in it is played.
"""

from __future__ import annotations

import json
import platform
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.bed.crashes import ROWS
from tests.e2e.bed.kernel import run_in_own_kernel
from tests.e2e.bed.workspace import Workspace

PATTERN = Path("/proc/sys/kernel/core_pattern")
HAS_ONE = platform.machine() == "x86_64"
"""Debian has user-mode Linux for this alone; elsewhere the domain's own tests must do."""

Seen = dict[str, dict[str, Any]]


@pytest.fixture(scope="module")
def seen(workspace: Workspace) -> Seen:
    before = PATTERN.read_bytes()
    found: Seen = json.loads(run_in_own_kernel(workspace, "tests.e2e.bed.crashes"))
    assert PATTERN.read_bytes() == before
    return found


@pytest.mark.timeout(300)
@pytest.mark.parametrize("name", ROWS if HAS_ONE else ())
def test_what_was_diagnosed_is_what_the_kernel_does(seen: Seen, name: str) -> None:
    row, told, came = ROWS[name], seen[name]["told"], seen[name]["came"]
    assert told["core_pattern"] == row.pattern
    assert told["ready"] == bool(came) == (row.fails is None), seen[name]
    failed = [check["name"] for check in told["checks"] if check["passed"] is False]
    assert failed[:1] == ([row.fails] if row.fails else [])
    assert all(check["fix"] for check in told["checks"] if check["name"] in failed)
    listed = {one["path"]: one["size"] for one in seen[name]["listed"] or ()}
    assert came.items() <= listed.items()


@pytest.mark.parametrize("name", [one for one in ROWS if HAS_ONE and one.startswith("pipe")])
def test_a_program_takes_cores_out_of_the_container(seen: Seen, name: str) -> None:
    assert seen[name]["taken"] > 0
    (check,) = [one for one in seen[name]["told"]["checks"] if one["name"] == "core-pattern"]
    assert "outside of the container and whatever its limits are" in check["detail"]
    assert "sysctl -w kernel.core_pattern=" in check["fix"]
