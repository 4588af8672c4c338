from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from service import metrics

COUNTS = """
import os, sys
from service import metrics
for _ in range(int(sys.argv[1])):
    metrics.observe_call("default", "2xx", 0.1)
forked = os.fork() if len(sys.argv) > 2 else None
if forked == 0:
    metrics.observe_call("default", "2xx", 0.1)
    os._exit(0)
if forked:
    os.waitpid(forked, 0)
print("counted", flush=True)
sys.stdin.read()
"""


class Counting:
    """A process that counts calls, and lives until it is killed."""

    def __init__(self, folder: Path, *arguments: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", COUNTS, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, metrics.FOLDER: str(folder)},
        )
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == b"counted\n"

    def kill(self) -> None:
        self._process.kill()
        self._process.communicate()


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as opened:
        yield opened


def total(folder: Path, monkeypatch: pytest.MonkeyPatch) -> float:
    monkeypatch.setenv(metrics.FOLDER, str(folder))
    labels = {"registry": "default", "outcome": "2xx"}
    found = metrics.collectors().get_sample_value("registry_admin_upstream_calls_total", labels)
    assert found is not None
    return found


def files(folder: Path) -> int:
    return len(list(folder.glob("*.db")))


def test_processes_add_up_and_a_new_one_goes_on_from_a_dead_one(
    tmp_path: Path, stack: ExitStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = Counting(tmp_path, "1")
    second = Counting(tmp_path, "2")
    stack.callback(second.kill)
    assert (total(tmp_path, monkeypatch), files(tmp_path)) == (3, 4)
    first.kill()
    third = Counting(tmp_path, "4")
    stack.callback(third.kill)
    assert (total(tmp_path, monkeypatch), files(tmp_path)) == (7, 4)


def test_a_fork_counts_for_itself(
    tmp_path: Path, stack: ExitStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    stack.callback(Counting(tmp_path, "3", "and fork").kill)
    assert (total(tmp_path, monkeypatch), files(tmp_path)) == (4, 4)


def test_methods_that_nobody_knows_are_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(metrics.FOLDER, raising=False)
    metrics.observe_request("BREW", "none", 405, 0.1)
    text = str(list(metrics.collectors().collect()))
    assert "BREW" not in text
    assert "'method': 'other'" in text
