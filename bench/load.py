"""How many requests a second a server answers, asked over several kept connections at once.

The client is as cheap as can be in Python, since it runs on the cores it measures: requests are
made beforehand, and of an answer only its status and its end are looked at.
"""

import selectors
import socket
import time
from collections.abc import Iterator, Mapping, Sequence
from urllib.parse import urlsplit

from bench.connection import UnexpectedAnswer

CHUNK = 65536
STALL_SECONDS = 30.0
END = b"\r\n\r\n"
LENGTH = b"\r\ncontent-length: "


def rate(
    url: str, method: str, paths: Sequence[str], headers: Mapping[str, str], connections: int
) -> float:
    """Ask once for every path, in turn; return answers a second."""
    host = urlsplit(url).netloc
    requests = iter([_request(method, host, path, headers) for path in paths])
    with selectors.DefaultSelector() as selector:
        clients = [_Client(host, requests, has_body=method != "HEAD") for _ in range(connections)]
        started = time.perf_counter()
        for client in clients:
            client.ask()
            selector.register(client.socket, selectors.EVENT_READ, client)
        _serve(selector)
        return len(paths) / (time.perf_counter() - started)


def _serve(selector: selectors.BaseSelector) -> None:
    while selector.get_map():
        events = selector.select(STALL_SECONDS)
        if not events:
            raise UnexpectedAnswer(f"no answer in {STALL_SECONDS:g} s")
        for key, _ in events:
            client: _Client = key.data
            if client.answered() and not client.ask():
                selector.unregister(client.socket)
                client.socket.close()


def _request(method: str, host: str, path: str, headers: Mapping[str, str]) -> bytes:
    lines = [f"{method} {path} HTTP/1.1", f"Host: {host}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode()


class _Client:
    """One connection with one request under way."""

    def __init__(self, host: str, requests: Iterator[bytes], *, has_body: bool) -> None:
        name, _, port = host.rpartition(":")
        self.socket = socket.create_connection((name, int(port)), STALL_SECONDS)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._requests = requests
        self._has_body = has_body
        self._received = b""

    def ask(self) -> bool:
        """Send the next request; False when none is left."""
        request = next(self._requests, None)
        if request is not None:
            self.socket.sendall(request)
        return request is not None

    def answered(self) -> bool:
        """Read what is there; tell whether an answer is complete, raise unless it is a 200."""
        chunk = self.socket.recv(CHUNK)
        self._received += chunk
        end = self._received.find(END)
        if end < 0 or len(self._received) < end + len(END) + self._length(end):
            if not chunk:
                raise UnexpectedAnswer(f"an answer broke off: {self._received[:300]!r}")
            return False
        if not self._received.startswith(b"HTTP/1.1 200 "):
            raise UnexpectedAnswer(f"{self._received[:300]!r}")
        self._received = b""
        return True

    def _length(self, end: int) -> int:
        if not self._has_body:
            return 0
        head = self._received[:end].lower() + b"\r\n"
        return int(head.partition(LENGTH)[2].partition(b"\r\n")[0])
