from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

SMALL = ("--rounds", "2", "--repositories", "4", "--sample", "1", "--many", "60")


@pytest.mark.timeout(300)
def test_the_bench_prints_its_table_whatever_the_times() -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "bench", *SMALL],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    table = ended.stdout.partition("  target\n")[2]
    assert len(re.findall(r"at (?:most|least) [\d.]+: (?:ok|MISSED)", table)) == 9
    for row in ("API cold, connections: 4 / plain loop", "skopeo", "HEADs a second", "RSS, MiB"):
        assert row in table
