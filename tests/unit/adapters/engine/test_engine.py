from __future__ import annotations

import gc
import json
import re
import socketserver
import threading
from collections import Counter
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest

from service.adapters import engine as module
from service.adapters.engine import DockerEngine
from service.settings import EngineSettings

VERSION = b"registry github.com/docker/distribution 2.8.2\r\n"


class StandIn(socketserver.ThreadingUnixStreamServer):
    """Answers as an engine does, on a socket, what a test tells it to."""

    daemon_threads = True

    def __init__(self, path: Path) -> None:
        super().__init__(str(path), Handler)
        self.url = f"unix://{path}"
        self.container: dict[str, Any] | None = {
            "Id": "c1",
            "State": {"StartedAt": "2026-01-01T00:00:00Z"},
        }
        self.output = [VERSION]
        self.hangs = threading.Event()
        self.hangs.set()
        self.asked: Counter[str] = Counter()


class Handler(BaseHTTPRequestHandler):
    server: StandIn
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.server.asked[self.what()] += 1
        if self.path == "/version":
            self.answer({"ApiVersion": "1.41"})
        elif self.path.endswith("/_ping"):
            self.answer("OK")
        elif self.server.container is None:
            self.answer({"message": "No such container"}, 404)
        else:
            self.answer(self.server.container)

    def do_POST(self) -> None:
        self.server.asked[self.what()] += 1
        self.rfile.read(int(self.headers["Content-Length"]))
        if self.path.endswith("/start"):
            self.stream()
        else:
            self.answer({"Id": "e1"}, 201)

    def what(self) -> str:
        return re.sub(r"^/v[0-9.]+", "", self.path)

    def answer(self, body: object, status: int = 200) -> None:
        content = body.encode() if isinstance(body, str) else json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def stream(self) -> None:
        assert "Upgrade" not in self.headers
        self.send_response(200)
        self.send_header("Content-Type", "application/vnd.docker.raw-stream")
        self.end_headers()
        self.close_connection = True
        try:
            for chunk in self.server.output:
                self.wfile.write(chunk)
                self.wfile.flush()
        except OSError:
            return
        self.server.hangs.wait()

    def log_message(self, *_arguments: object) -> None:
        pass


@pytest.fixture
def stand_in(tmp_path: Path) -> Iterator[StandIn]:
    with StandIn(tmp_path / "engine.sock") as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.hangs.set()
        server.shutdown()
        thread.join()


@pytest.fixture
def engine(stand_in: StandIn) -> DockerEngine:
    return DockerEngine(EngineSettings("local", stand_in.url))


@pytest.mark.parametrize(
    ("output", "version"),
    [
        (VERSION, "2.8.2"),
        (b"registry github.com/distribution/distribution/v3 3.1.1\n", "3.1.1"),
        (b"registry github.com/distribution/distribution/v3 v3.0.0-rc.1+unknown\n", "3.0.0-rc.1"),
        (b"registry github.com/docker/distribution v2.8.2+ds1\r\n", "2.8.2"),
        (b"OCI runtime exec failed: exec failed: no such file: unknown\r\n", None),
        (b"registry github.com/docker/distribution (unknown)\r\n", None),
        (b"", None),
        (b"\xff\xfe", None),
    ],
)
def test_the_version_is_what_the_container_says(
    engine: DockerEngine, stand_in: StandIn, output: bytes, version: str | None
) -> None:
    stand_in.output = [output[:5], output[5:]]
    assert engine.registry_version("registry") == version


def test_a_version_is_asked_for_once_while_the_container_runs(
    engine: DockerEngine, stand_in: StandIn
) -> None:
    for _ in range(3):
        assert engine.registry_version("registry") == "2.8.2"
    assert stand_in.asked["/exec/e1/start"] == 1


@pytest.mark.parametrize(
    "change",
    [{"Id": "c2"}, {"State": {"StartedAt": "2026-01-02T00:00:00Z"}}],
    ids=["recreated", "restarted"],
)
def test_a_container_that_changed_is_asked_again(
    engine: DockerEngine, stand_in: StandIn, change: dict[str, Any]
) -> None:
    assert engine.registry_version("registry") == "2.8.2"
    stand_in.output = [b"registry x 3.1.1\n"]
    assert stand_in.container is not None
    stand_in.container |= change
    assert engine.registry_version("registry") == "3.1.1"


def test_a_version_is_asked_for_again_after_some_minutes(
    engine: DockerEngine, stand_in: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "KNOWN_SECONDS", 0)
    engine.registry_version("registry")
    engine.registry_version("registry")
    assert stand_in.asked["/exec/e1/start"] == 2


def test_a_container_that_is_not_there_has_no_version_and_is_not_asked_for_each_time(
    engine: DockerEngine, stand_in: StandIn
) -> None:
    stand_in.container = None
    for _ in range(3):
        assert engine.registry_version("registry") is None
    assert stand_in.asked["/containers/registry/json"] == 1


def test_a_command_that_hangs_ends_in_time(
    engine: DockerEngine, stand_in: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "TIMEOUT_SECONDS", 0.1)
    stand_in.hangs.clear()
    stand_in.output = [b"registry x 2."]
    assert engine.registry_version("registry") is None


def test_a_command_that_talks_on_for_ever_is_cut_off(
    engine: DockerEngine, stand_in: StandIn
) -> None:
    stand_in.output = [b"x" * 65536] * 10_000
    assert engine.registry_version("registry") is None


def test_an_engine_that_answers_is_up(engine: DockerEngine) -> None:
    assert engine.status() == "up"


# docker-py leaves a socket that could not connect to the garbage collector.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("url", ["unix:///nowhere/docker.sock", "tcp://127.0.0.1:1", "ssh://h"])
def test_an_engine_that_is_not_there_is_down(url: str) -> None:
    engine = DockerEngine(EngineSettings("local", url))
    assert engine.status() == "down"
    assert engine.registry_version("registry") is None
    del engine
    gc.collect()


def test_each_thread_has_a_client_of_its_own(engine: DockerEngine, stand_in: StandIn) -> None:
    for _ in range(2):
        thread = threading.Thread(target=lambda: [engine.status(), engine.status()])
        thread.start()
        thread.join()
    assert stand_in.asked["/version"] == 2
