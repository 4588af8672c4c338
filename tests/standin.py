"""A server in the test's own process that answers as no registry here does: badly, slowly, oddly.

with StandIn(lambda seen: Reply(200, body=b"{}")) as server:
    server.rule(replies(429, {"Retry-After": "1"}), path="_catalog", times=2)
"""

from __future__ import annotations

import contextlib
import json
import re
import socket
import ssl
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from http import HTTPStatus
from typing import Self
from urllib.parse import parse_qsl, urlsplit

JSON = "application/json"
OPEN_SECONDS = 30.0


@dataclass(frozen=True)
class Seen:
    """A request that came in; names of headers in lower case."""

    method: str
    target: str
    headers: Mapping[str, str]
    body: bytes
    connection: int
    """Which connection it came on, counted from 1."""

    @property
    def path(self) -> str:
        return urlsplit(self.target).path

    @property
    def query(self) -> dict[str, str]:
        return dict(parse_qsl(urlsplit(self.target).query, keep_blank_values=True))


@dataclass(frozen=True)
class Reply:
    """An answer, and how to spoil it.

    ``length``: what Content-Length says where that is not the body's; -1 leaves it out, and the
    connection's end is the body's. ``raw``: sent in place of everything. ``drip``: seconds
    between two bytes of what is sent. ``silent``: nothing is sent and the connection stays open.
    ``hang_up``: the connection is closed after it.
    """

    status: int = 200
    headers: Sequence[tuple[str, str]] = ()
    body: bytes = b""
    length: int | None = None
    raw: bytes | None = None
    drip: float | None = None
    silent: bool = False
    hang_up: bool = False

    def bytes(self, method: str) -> bytes:
        if self.raw is not None:
            return self.raw
        length = len(self.body) if self.length is None else self.length
        head = [f"HTTP/1.1 {self.status} {_reason(self.status)}"]
        head += [f"{name}: {value}" for name, value in self.headers]
        head += [f"Content-Length: {length}"] if length >= 0 and self.status != 304 else []
        lines = "\r\n".join([*head, "", ""]).encode("latin-1")
        return lines if method == "HEAD" else lines + self.body

    @property
    def last(self) -> bool:
        spoiled = self.raw is not None or self.length not in {None, len(self.body)}
        return self.hang_up or spoiled


Handler = Callable[[Seen], Reply]


def _reason(status: int) -> str:
    with contextlib.suppress(ValueError):
        return HTTPStatus(status).phrase
    return "Odd"


def replies(
    status: int = 200, headers: Mapping[str, str] | None = None, body: bytes = b""
) -> Handler:
    """Always the same answer."""
    return lambda _: Reply(status, list((headers or {}).items()), body)


def says(reply: Reply) -> Handler:
    """Always this reply."""
    return lambda _: reply


def json_reply(document: object, status: int = 200, **headers: str) -> Reply:
    """A JSON answer; ``Docker_Content_Digest=...`` is the header Docker-Content-Digest."""
    named = [(name.replace("_", "-"), value) for name, value in headers.items()]
    return Reply(status, [("Content-Type", JSON), *named], json.dumps(document).encode())


def oci_error(status: int, code: str, message: str = "no words are promised") -> Reply:
    """An error as the OCI text has it."""
    error = {"code": code, "message": message, "detail": {"secret": "upstream"}}
    return json_reply({"errors": [error]}, status)


def plain(status: int, text: str) -> Reply:
    """An error in plain text."""
    return Reply(status, [("Content-Type", "text/plain; charset=utf-8")], text.encode())


@dataclass
class Rule:
    """Acts on requests that match, after ``skip`` of them, ``times`` times (None: always)."""

    handler: Handler
    method: re.Pattern[str]
    path: re.Pattern[str]
    skip: int
    times: int | None

    def takes(self, seen: Seen) -> bool:
        """Count a request and tell whether this rule acts on it."""
        matches = self.method.fullmatch(seen.method) and self.path.search(seen.target)
        if not matches or self.times == 0:
            return False
        if self.skip:
            self.skip -= 1
            return False
        self.times = None if self.times is None else self.times - 1
        return True


@dataclass
class StandIn:
    """Listens on 127.0.0.1 while the ``with`` block lasts."""

    handler: Handler = field(default_factory=lambda: replies(404))
    context: ssl.SSLContext | None = None
    seen: list[Seen] = field(default_factory=list)
    rules: list[Rule] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.host = f"127.0.0.1:{self.port}"
        self.url = f"{'https' if self.context else 'http'}://{self.host}"
        self._ending = threading.Event()
        self._mutex = threading.Lock()
        self._sockets: set[socket.socket] = set()
        self._threads = [threading.Thread(target=self._accept)]
        self._connections = 0
        self.most_at_once = 0
        self._at_once = 0

    def __enter__(self) -> Self:
        self._threads[0].start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ending.set()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.hang_up()
        for thread in list(self._threads):
            thread.join(OPEN_SECONDS)

    def rule(
        self,
        handler: Handler,
        *,
        method: str = ".*",
        path: str = "",
        skip: int = 0,
        times: int | None = None,
    ) -> None:
        """Add a rule; the first that takes a request acts on it alone."""
        with self._mutex:
            self.rules.append(Rule(handler, re.compile(method), re.compile(path), skip, times))

    def requests(self, method: str = ".*", path: str = "") -> list[Seen]:
        """What came in and matches."""
        with self._mutex:
            return [
                one
                for one in self.seen
                if re.fullmatch(method, one.method) and re.search(path, one.target)
            ]

    def forget(self) -> None:
        """Forget what was seen."""
        with self._mutex:
            self.seen.clear()

    def hang_up(self) -> None:
        """Close every connection that is open, idle ones as well."""
        with self._mutex:
            for one in self._sockets:
                with contextlib.suppress(OSError):
                    one.shutdown(socket.SHUT_RDWR)

    def _accept(self) -> None:
        while not self._ending.is_set():
            try:
                accepted, _ = self._listener.accept()
            except OSError:
                return
            thread = threading.Thread(target=self._serve, args=(accepted,))
            self._threads.append(thread)
            thread.start()

    def _serve(self, accepted: socket.socket) -> None:
        with self._mutex:
            self._connections += 1
            number = self._connections
            self._sockets.add(accepted)
        with contextlib.suppress(OSError, ValueError), accepted:
            accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            accepted.settimeout(OPEN_SECONDS)
            with self._secured(accepted) as connection, connection.makefile("rb") as stream:
                while (seen := _received(stream, number)) and self._answer(connection, seen):
                    pass
        with self._mutex:
            self._sockets.discard(accepted)

    def _secured(self, accepted: socket.socket) -> socket.socket:
        if self.context is None:
            return accepted
        context = self.context
        secured = context.wrap_socket(accepted, server_side=True, do_handshake_on_connect=False)
        with self._mutex:
            self._sockets.add(secured)
        try:
            secured.do_handshake()
        except OSError:
            # Closing with something unread is a reset, and the client never learns why.
            plain = socket.socket(fileno=secured.detach())
            with plain:
                plain.shutdown(socket.SHUT_WR)
                while plain.recv(65536):
                    pass
            raise
        return secured

    def _answer(self, connection: socket.socket, seen: Seen) -> bool:
        """Answer, and tell whether the connection stays open."""
        with self._mutex:
            self.seen.append(seen)
            handler = next((one.handler for one in self.rules if one.takes(seen)), self.handler)
            self._at_once += 1
            self.most_at_once = max(self.most_at_once, self._at_once)
        try:
            reply = handler(seen)
        finally:
            with self._mutex:
                self._at_once -= 1
        if reply.silent:
            self._ending.wait(OPEN_SECONDS)
            return False
        if seen.headers.get("connection", "").lower() == "close":
            reply = replace(reply, hang_up=True)
        self._send(connection, reply, seen.method)
        return not reply.last

    def _send(self, connection: socket.socket, reply: Reply, method: str) -> None:
        content = reply.bytes(method)
        if reply.drip is None:
            connection.sendall(content)
            return
        for number in range(len(content)):
            connection.sendall(content[number : number + 1])
            if self._ending.wait(reply.drip):
                return


def _received(stream: object, number: int) -> Seen | None:
    """Read a request off a connection, None at its end."""
    readline = stream.readline  # type: ignore[attr-defined]
    line = readline().decode("latin-1").split()
    if len(line) != 3 or not line[2].startswith("HTTP/"):
        return None
    headers: dict[str, str] = {}
    while text := readline().decode("latin-1").strip():
        name, _, value = text.partition(":")
        headers[name.lower()] = value.strip()
    body = stream.read(int(headers.get("content-length", 0)))  # type: ignore[attr-defined]
    return Seen(line[0], line[1], headers, body, number)
