"""`make run` without a registry: the demonstration starts, its lines work, it stops cleanly."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from demo.content import SHARED
from demo.processes import free_port, wait_until
from tests.e2e.bed.http import ask
from tests.e2e.bed.programs import need
from tests.e2e.bed.workspace import Child, Workspace, family, is_alive

ROOT = Path(__file__).parents[2]
DEMO = (sys.executable, "-m", "demo")
PROMISED_SECONDS = 180


class Demo:
    """`python -m demo` in a folder of its own."""

    def __init__(
        self, workspace: Workspace, argv: tuple[str, ...] = DEMO, **environment: str
    ) -> None:
        self.data_dir = workspace.folder("demo")
        self.url = f"http://127.0.0.1:{free_port()}"
        clean = {key: value for key, value in os.environ.items() if "REGISTRY_ADMIN" not in key}
        own = {
            "REGISTRY_ADMIN_BIND": self.url.removeprefix("http://"),
            "REGISTRY_ADMIN_DATA_DIR": str(self.data_dir),
        }
        log = self.data_dir.with_suffix(".log")
        self.child = Child(workspace, argv, log, clean | own | environment)

    def wait(self, seconds: float = 90) -> None:
        ready = "restore it"
        wait_until(lambda: ready in self.said() or not self.child.is_running(), seconds, "demo")
        assert self.child.is_running(), self.said()

    def said(self) -> str:
        return self.child.log.read_text()

    def lines(self) -> list[str]:
        return re.findall("^curl .*$", self.said(), re.MULTILINE)

    def registry(self) -> str:
        found = re.search(r"images: +(http://127.0.0.1:\d+)$", self.said(), re.MULTILINE)
        assert found, self.said()
        return found[1]


@pytest.fixture
def demo(workspace: Workspace) -> Iterator[Demo]:
    made = Demo(workspace)
    made.wait()
    yield made
    made.child.kill()


def paste(line: str) -> list[Any]:
    """Run a printed line as a person would; gives the JSON of each line of the answer."""
    ended = subprocess.run(["sh", "-c", line], capture_output=True, text=True, check=True)
    return [json.loads(row) for row in ended.stdout.splitlines() if row]


def test_the_printed_lines_work_as_printed(demo: Demo) -> None:
    repository, tag, sibling = SHARED
    registries, repositories, tags, delete, restore = demo.lines()
    assert "nobody has a token" not in demo.said()
    assert '"__main__"' not in demo.said()
    assert [one["name"] for one in paste(registries)[0]["items"]] == ["default"]
    assert repository in [one["name"] for one in paste(repositories)[0]["items"]]
    [listed] = paste(tags)
    digests = {one["name"]: one["digest"] for one in listed["items"]}
    deletion, survivor = paste(delete)
    assert deletion["tags_removed"] == [tag]
    assert survivor["digest"] == digests[tag] == digests[sibling]
    paste(restore)
    [again] = paste(tags)
    assert {one["name"]: one["digest"] for one in again["items"]} == digests


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_it_with_all_its_parts(demo: Demo, how: signal.Signals) -> None:
    parts = family(demo.child.pid)
    registry = demo.registry()
    assert ask(f"{registry}/v2/").status == 200
    demo.child.process.send_signal(how)
    assert demo.child.process.wait(60) == 0
    assert not any(map(is_alive, parts))
    assert list(demo.data_dir.iterdir()) == []
    with pytest.raises(ConnectionError):
        ask(f"{registry}/v2/")


@pytest.mark.parametrize("part", ["docker-registry", "registry-admin"])
def test_it_says_which_part_died_and_stops(demo: Demo, part: str) -> None:
    parts = family(demo.child.pid)
    [victim] = [pid for pid in children(demo.child.pid) if f"{part} serve" in command(pid)]
    os.kill(victim, signal.SIGKILL)
    assert demo.child.process.wait(60) == 1
    assert {"docker-registry": "The registry", "registry-admin": "The service"}[part] in demo.said()
    # What a killed service leaves notices by itself, and ends.
    wait_until(lambda: not any(map(is_alive, parts)), 30, "the end of all parts")


def test_a_taken_port_is_named_before_anything_starts(demo: Demo, workspace: Workspace) -> None:
    bind = demo.url.removeprefix("http://")
    second = Demo(workspace, REGISTRY_ADMIN_BIND=bind)
    assert second.child.process.wait(60) == 1
    assert f"{bind} cannot be used" in second.said()
    assert "REGISTRY_ADMIN_BIND=127.0.0.1:" in second.said()


def test_what_is_missing_is_named(workspace: Workspace, tmp_path: Path) -> None:
    made = Demo(workspace, PATH=str(tmp_path), DOCKER_HOST=f"unix://{tmp_path}/none")
    assert made.child.process.wait(60) == 1
    assert "apt-get install docker-registry" in made.said()


@pytest.mark.soak
@pytest.mark.timeout(4 * PROMISED_SECONDS)
def test_from_a_fresh_clone_to_the_first_deletion(
    workspace: Workspace, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """By one command, where packages are cached: as whoever finds the project would do it."""
    for name in ("PYTHONPATH", "VIRTUAL_ENV", "MAKEFLAGS"):
        monkeypatch.delenv(name, raising=False)
    clone, started = workspace.folder("clone") / "registry-admin", time.monotonic()
    subprocess.run([need("git", "git"), "clone", "--quiet", ROOT, clone], check=True)
    made = Demo(workspace, ("make", "-C", str(clone), "run"))
    made.wait(2 * PROMISED_SECONDS)
    ready = time.monotonic() - started
    deletion, survivor = paste(made.lines()[3])
    seconds = time.monotonic() - started
    with capsys.disabled():
        sys.stdout.write(f"\nready after {ready:.0f} s, first deletion after {seconds:.0f} s\n")
    made.child.stop()
    _, tag, sibling = SHARED
    assert deletion["tags_removed"] == [tag]
    assert survivor["name"] == sibling
    assert seconds < PROMISED_SECONDS


def children(pid: int) -> list[int]:
    found = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    return [int(one) for one in found.split()]


def command(pid: int) -> str:
    return Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ")
