"""An engine on a Unix socket that answers as a test tells it to, where a real one would not."""

from __future__ import annotations

import json
import re
import socketserver
import struct
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest

from service.adapters.engine import DockerEngine
from service.domain.audit import Attempt, AuditTrail
from service.domain.engine import EngineController
from service.settings import EngineSettings
from tests.fakes_store import FakeStore


@dataclass(frozen=True)
class Asked:
    """A request as it came, its path without the version."""

    method: str
    path: str
    query: Mapping[str, str]
    body: Any

    @property
    def what(self) -> str:
        return f"{self.method} {self.path}"


@dataclass
class Reply:
    """What to answer. ``stream``: pieces of a body that ends by closing, or ``hangs`` first."""

    body: object = None
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    stream: list[bytes] | None = None
    hangs: bool = False
    pause: float = 0.0
    """Seconds between the pieces."""


class StandIn(socketserver.ThreadingUnixStreamServer):
    daemon_threads = True

    def __init__(self, path: Path) -> None:
        super().__init__(str(path), Handler)
        self.url = f"unix://{path}"
        self.replies: dict[str, Reply] = {}
        self.api_version = "1.41"
        self.asked: list[Asked] = []
        self.connections = 0
        self.done = threading.Event()

    def process_request(self, request: Any, client_address: Any) -> None:  # noqa: ANN401
        self.connections += 1
        super().process_request(request, client_address)

    def on(self, what: str, body: object = None, **reply: Any) -> Reply:  # noqa: ANN401
        """Answer so to ``what``: ``GET /containers/a/json``, or ``GET /containers/json all=1``."""
        self.replies[what] = Reply(body, **reply)
        return self.replies[what]

    def count(self, what: str) -> int:
        return sum(one.what == what for one in self.asked)

    def last(self, what: str) -> Asked:
        return [one for one in self.asked if one.what == what][-1]


class Handler(BaseHTTPRequestHandler):
    server: StandIn
    protocol_version = "HTTP/1.1"

    def handle_any(self) -> None:
        asked = self.taken()
        self.server.asked.append(asked)
        if asked.path == "/version":
            self.answer(Reply({"ApiVersion": self.server.api_version}))
            return
        unknown = Reply({"message": f"No such container: {asked.path}"}, 404)
        told = [f"{asked.what} {name}={value}" for name, value in asked.query.items()]
        found = (self.server.replies.get(what) for what in (*told, asked.what))
        self.answer(next((reply for reply in found if reply), unknown))

    do_GET = do_POST = do_DELETE = do_HEAD = handle_any  # noqa: N815

    def taken(self) -> Asked:
        parts = urlsplit(re.sub(r"^/v[0-9.]+", "", self.path))
        content = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        query = dict(parse_qsl(parts.query, keep_blank_values=True))
        return Asked(self.command, parts.path, query, json.loads(content) if content else None)

    def answer(self, reply: Reply) -> None:
        self.send_response(reply.status)
        for name, value in reply.headers.items():
            self.send_header(name, value)
        if reply.stream is None:
            self.whole(reply)
        else:
            self.end_headers()
            self.close_connection = True
            self.pieces(reply)

    def whole(self, reply: Reply) -> None:
        body = reply.body
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        content = b"" if body is None or self.command == "HEAD" else content
        if reply.status not in {204, 304}:
            self.send_header("Content-Length", str(len(content)))
        if reply.hangs:
            self.server.done.wait()
        self.end_headers()
        self.wfile.write(content)

    def pieces(self, reply: Reply) -> None:
        try:
            for piece in reply.stream or ():
                self.wfile.write(piece)
                self.wfile.flush()
                self.server.done.wait(reply.pause)
        except OSError:
            return
        if reply.hangs:
            self.server.done.wait()

    def log_message(self, *_arguments: object) -> None:
        pass


def frame(number: int, data: bytes) -> bytes:
    """A piece of a multiplexed stream: 1 is stdout, 2 stderr."""
    return struct.pack(">BxxxL", number, len(data)) + data


@pytest.fixture
def stand_in(tmp_path: Path) -> Iterator[StandIn]:
    with StandIn(tmp_path / "engine.sock") as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.done.set()
        server.shutdown()
        thread.join()


@pytest.fixture
def engine(stand_in: StandIn) -> DockerEngine:
    return DockerEngine(EngineSettings("local", stand_in.url))


@pytest.fixture
def controller(engine: DockerEngine) -> EngineController:
    change = AuditTrail(FakeStore().audit).begin(Attempt("test", "tester"))
    return engine.controller(change)
