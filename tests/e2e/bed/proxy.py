"""A pass-through in front of a registry that records every request and can spoil any of them.

proxy.rule(answers(429, {"Retry-After": "1"}), path="_catalog", times=2)
proxy.rule(calls_after(service.kill), method=WRITES, skip=2, times=1)
"""

import contextlib
import http.client
import re
import socket
import ssl
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from tests.e2e.bed.http import TIMEOUT, connect

WRITES = "PUT|POST|PATCH|DELETE"
HOP = {"connection", "keep-alive", "transfer-encoding", "content-length"}

Headers = list[tuple[str, str]]


@dataclass(frozen=True)
class Seen:
    """A request that came in; `status` is what it was answered, None when it was dropped."""

    method: str
    path: str
    status: int | None


@dataclass(frozen=True)
class Reply:
    """An answer; `length` is what Content-Length says where that is not the body's."""

    status: int
    headers: Headers = field(default_factory=list)
    body: bytes = b""
    length: int | None = None


@dataclass(frozen=True)
class Exchange:
    """One request, and `forward` to send it on and get the registry's answer."""

    method: str
    path: str
    headers: Headers
    body: bytes
    forward: Callable[[], Reply]


Action = Callable[[Exchange], Reply | None]  # None: hang up without an answer


def answers(status: int, headers: Mapping[str, str] | None = None, body: bytes = b"") -> Action:
    """Answer in the registry's place; nothing reaches it."""
    return lambda _: Reply(status, list((headers or {}).items()), body)


def delays(seconds: float) -> Action:
    """Forward after a time."""

    def act(exchange: Exchange) -> Reply:
        time.sleep(seconds)
        return exchange.forward()

    return act


def drops() -> Action:
    """Hang up; nothing reaches the registry."""
    return lambda _: None


def cuts() -> Action:
    """Forward, and hang up in the middle of the answer's body."""

    def act(exchange: Exchange) -> Reply:
        whole = exchange.forward()
        half = whole.body[: len(whole.body) // 2]
        return Reply(whole.status, whole.headers, half, length=len(whole.body))

    return act


def calls_before(call: Callable[[], object]) -> Action:
    """Call, then hang up: the registry never hears the request."""

    def act(_exchange: Exchange) -> None:
        call()

    return act


def calls_after(call: Callable[[], object]) -> Action:
    """Forward, call once the registry has acted, then hang up: the client never hears of it."""

    def act(exchange: Exchange) -> None:
        exchange.forward()
        call()

    return act


@dataclass
class Rule:
    """Acts on requests that match, after `skip` of them, `times` times (None: always)."""

    action: Action
    method: re.Pattern[str]
    path: re.Pattern[str]
    skip: int
    times: int | None

    def takes(self, method: str, path: str) -> bool:
        """Count a request and tell whether this rule acts on it."""
        if not (self.method.fullmatch(method) and self.path.search(path)) or self.times == 0:
            return False
        if self.skip:
            self.skip -= 1
            return False
        self.times = None if self.times is None else self.times - 1
        return True


class Proxy:
    """Listens on 127.0.0.1 from construction to `close`."""

    def __init__(self, upstream: str, context: ssl.SSLContext | None = None) -> None:
        self.upstream = upstream
        self.context = context
        self.lock = threading.Lock()
        self.seen: list[Seen] = []
        self.rules: list[Rule] = []
        self.server = Server(self)
        self.host = f"127.0.0.1:{self.server.server_port}"
        self.url = f"http://{self.host}"
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.02,))
        self.thread.start()

    def rule(
        self,
        action: Action,
        *,
        method: str = ".*",
        path: str = "",
        skip: int = 0,
        times: int | None = None,
    ) -> None:
        """Add a rule; the first that takes a request acts on it alone."""
        with self.lock:
            self.rules.append(Rule(action, re.compile(method), re.compile(path), skip, times))

    def writes(self) -> list[Seen]:
        """What came in that could change the registry."""
        with self.lock:
            return [one for one in self.seen if re.fullmatch(WRITES, one.method)]

    def reset(self) -> None:
        """Forget every rule and what was seen."""
        with self.lock:
            self.rules.clear()
            self.seen.clear()

    def close(self) -> None:
        self.server.shutdown()
        self.thread.join()
        self.server.hang_up()
        self.server.server_close()

    def handle(self, exchange: Exchange) -> Reply | None:
        with self.lock:
            action = self._action(exchange)
        reply = action(exchange) if action else exchange.forward()
        with self.lock:
            status = reply.status if reply else None
            self.seen.append(Seen(exchange.method, exchange.path, status))
        return reply

    def forward(self, method: str, path: str, headers: Headers, body: bytes) -> Reply:
        """Send a request on as it came, the Host too, so that Locations lead back here."""
        connection = connect(self.upstream, self.context, TIMEOUT)
        with contextlib.closing(connection):
            connection.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
            for name, value in headers:
                if name.lower() not in HOP:
                    connection.putheader(name, value)
            if self.upstream.startswith("https:"):
                connection.putheader("X-Forwarded-Proto", "http")
            connection.putheader("Content-Length", str(len(body)))
            connection.endheaders(body)
            return received(connection.getresponse())

    def _action(self, exchange: Exchange) -> Action | None:
        matching = (one for one in self.rules if one.takes(exchange.method, exchange.path))
        found = next(matching, None)
        return found.action if found else None


def received(answer: http.client.HTTPResponse) -> Reply:
    headers = [row for row in answer.getheaders() if row[0].lower() not in HOP]
    length = answer.getheader("Content-Length")
    try:
        body = answer.read()
    except http.client.IncompleteRead as broken:  # a registry whose blob is gone does so
        body = broken.partial
    return Reply(answer.status, headers, body, int(length) if length else None)


class Server(ThreadingHTTPServer):
    """Remembers its open connections, to hang up on them at the end."""

    daemon_threads = False

    def __init__(self, proxy: Proxy) -> None:
        self.proxy = proxy
        self.open: set[socket.socket] = set()
        super().__init__(("127.0.0.1", 0), Handler)

    def process_request(self, request: Any, client_address: Any) -> None:  # noqa: ANN401
        self.open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:  # noqa: ANN401
        self.open.discard(request)
        super().shutdown_request(request)

    def hang_up(self) -> None:
        for one in list(self.open):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)

    def handle_error(self, *_: object) -> None:
        """Say nothing: clients that hang up are part of the tests."""


class Handler(BaseHTTPRequestHandler):
    """Passes one connection's requests to the proxy."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # a body after its headers would wait for the client's word
    server: Server

    def do_any(self) -> None:
        headers = self.headers.items()
        body = self._body()
        proxy = self.server.proxy

        def forward() -> Reply:
            return proxy.forward(self.command, self.path, headers, body)

        reply = proxy.handle(Exchange(self.command, self.path, headers, body, forward))
        if reply is None:
            self.close_connection = True
        else:
            self._send(reply)

    do_GET = do_HEAD = do_PUT = do_POST = do_PATCH = do_DELETE = do_OPTIONS = do_any  # noqa: N815

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        content = b""
        while size := int(self.rfile.readline().split(b";")[0], 16):
            content += self.rfile.read(size)
            self.rfile.readline()
        while self.rfile.readline().strip():
            pass  # trailers
        return content

    def _send(self, reply: Reply) -> None:
        self.send_response_only(reply.status)
        for name, value in reply.headers:
            self.send_header(name, value)
        length = len(reply.body) if reply.length is None else reply.length
        if reply.status not in (HTTPStatus.NO_CONTENT, HTTPStatus.NOT_MODIFIED):
            self.send_header("Content-Length", str(length))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(reply.body)
            self.close_connection = self.close_connection or length != len(reply.body)

    def log_message(self, *_: object) -> None:
        """Say nothing: what came in is recorded."""
