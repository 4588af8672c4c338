from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

INVENTORY = "--only inventory --rounds 1 --repositories 4 --sample 1 --many 60"
START = "--only start --rounds 1"
OPERATION = "--only operation --rounds 1 --idle 1"


def judged(arguments: str) -> list[str]:
    """Run the bench; give the rows of its table that have a target."""
    ended = subprocess.run(
        [sys.executable, "-m", "bench", *arguments.split()],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    table = ended.stdout.partition("  target\n")[2].splitlines()
    return [line for line in table if re.search(r"at (?:most|least) [\d.]+: (?:ok|MISSED)", line)]


@pytest.mark.soak
@pytest.mark.timeout(300)
def test_the_bench_of_reading_prints_its_table_whatever_the_times() -> None:
    rows = judged(INVENTORY)
    assert len(rows) == 9
    for name in ("API cold, connections: 4 / plain loop", "skopeo", "RSS, MiB"):
        assert any(name in row for row in rows)


@pytest.mark.soak
def test_the_bench_of_starting_prints_its_table_whatever_the_times() -> None:
    first, again = judged(START)
    assert first.startswith("first start to ready")
    assert again.startswith("start to ready")


@pytest.mark.soak
@pytest.mark.timeout(300)
def test_the_bench_of_operation_prints_its_table_whatever_the_times() -> None:
    begun, idle, pulls, away = judged(OPERATION)
    assert begun.startswith("job accepted to begun")
    assert idle.startswith("idle, all processes")
    assert pulls.startswith("pulls failed in a read-only run")
    assert away.startswith("away by a change of ulimits, more by")
