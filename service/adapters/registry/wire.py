"""HTTP/1.1 on an open connection (RFC 9112): a request out, its answer in, within time and bounds.

``http.client`` does the same for twice the processor time, half of which goes into reading headers
as those of an e-mail, and an inventory is thousands of answers.
"""

from __future__ import annotations

import re
import select
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from http import HTTPStatus
from http.client import BadStatusLine, HTTPException, IncompleteRead, LineTooLong
from typing import Protocol
from urllib.parse import quote

ANSWER_TIMEOUTS = 3
"""A whole answer may take so many read time-outs: dripping bytes cannot hold us for longer."""

HEAD_LIMIT = 64 * 1024
HEADERS_LIMIT = 100
CHUNK_LINE_LIMIT = 4096
CHUNK = 64 * 1024

_VERSION = b"HTTP/1."
_END = re.compile(rb"\r?\n\r?\n")
_STATUS = re.compile(r"HTTP/1\.(\d) ([1-9]\d\d)(?: .*)?")
_SIZE = re.compile(rb"([0-9a-fA-F]{1,15})[ \t]*(?:;.*)?\r?\n", re.DOTALL)
_TARGET = re.compile(r"[!-~]+")
_PRINTABLE = "".join(map(chr, range(0x21, 0x7F)))
_UNSAFE_VALUE = re.compile(r"[\r\n\x00]")
_WITHOUT_BODY = frozenset({HTTPStatus.NO_CONTENT, HTTPStatus.NOT_MODIFIED})
_FINAL = HTTPStatus.OK
_BLANK = frozenset({b"\r\n", b"\n"})


class Socket(Protocol):
    """What is used of a socket, plain or TLS."""

    def recv(self, size: int, /) -> bytes:
        """Return what is there, at most ``size`` bytes; none at the end."""

    def sendall(self, data: bytes, /) -> None:
        """Send all of it."""

    def settimeout(self, seconds: float, /) -> None:
        """Let what follows take no longer."""

    def fileno(self) -> int:
        """Return its descriptor, -1 when it is closed."""

    def close(self) -> None:
        """Close it."""


class Headers(Mapping[str, str]):
    """An answer's headers: found in any case, several of a name joined by commas."""

    __slots__ = ("_values",)

    def __init__(self, values: dict[str, str]) -> None:
        """Take ``values`` by names in lower case."""
        self._values = values

    def __getitem__(self, name: str) -> str:
        return self._values[name.lower()]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)


@dataclass(frozen=True, slots=True)
class Head:
    """What stands before the body. ``length`` of it in bytes, None where its end will tell."""

    status: int
    headers: Headers
    length: int | None
    chunked: bool
    closing: bool


def request_bytes(
    method: str, target: str, headers: Mapping[str, str], length: int | None
) -> bytes:
    """Write a request's head; ``length`` of the body in bytes, None without one.

    Raise HTTPException for a header that would end early, UnicodeError for one that cannot be sent.
    """
    if not _TARGET.fullmatch(target):  # where a server sends us may be spelt in any way
        target = quote(target, safe=_PRINTABLE)
    lines = [f"{method} {target} HTTP/1.1"]
    for name, value in headers.items():
        if _UNSAFE_VALUE.search(value):
            raise HTTPException(f"the header {name} cannot be sent")
        lines.append(f"{name}: {value}")
    if length is not None:
        lines.append(f"Content-Length: {length}")
    return "\r\n".join([*lines, "", ""]).encode("latin-1")


class Wire:
    """A connection. Not to be shared between threads.

    Every method may raise OSError or HTTPException, after which it is of no use any more.
    """

    def __init__(self, sock: Socket, pause: float) -> None:
        """Wait at most ``pause`` seconds for the next bytes, ANSWER_TIMEOUTS times that for all."""
        self._sock = sock
        self._pause = pause
        self._waits = pause
        self._until = 0.0
        self._received = b""
        self._clean = True
        sock.settimeout(pause)

    def send(self, head: bytes, body: bytes | None) -> None:
        """Send a request; from now on its answer's time runs."""
        self._clean = False
        self._wait_at_most(self._pause)
        # Whoever refuses a request early has answered before it hung up.
        with suppress(BrokenPipeError):
            self._sock.sendall(head + body if body else head)
        self._until = time.monotonic() + ANSWER_TIMEOUTS * self._pause

    def head(self, method: str) -> Head:
        """Read an answer up to its body; what is only preliminary is passed over."""
        while True:
            version, status, headers = _parsed(self._head_bytes())
            if status >= _FINAL:
                return _framed(method, version, status, headers)
            if status == HTTPStatus.SWITCHING_PROTOCOLS:
                raise HTTPException("another protocol, which nobody asked for")

    def body(self, head: Head, most: int) -> bytes:
        """Read the body to its end, or to ``most`` bytes."""
        if head.chunked:
            found, ended = self._chunked(most)
        elif head.length is None:
            found, ended = self._to_the_end(most), False
        else:
            found, ended = self._exactly(min(head.length, most)), head.length <= most
        self._clean = ended and not head.closing
        return found

    @property
    def reusable(self) -> bool:
        """Tell whether the answer was read to its end, and another may follow."""
        return self._clean and not self._received

    @property
    def silent(self) -> bool:
        """Tell whether the other side has neither hung up nor said what nobody asked for."""
        look = select.poll()
        look.register(self._sock.fileno(), select.POLLIN)
        return not look.poll(0)

    def close(self) -> None:
        """Close the connection."""
        self._sock.close()

    # Reading

    def _head_bytes(self) -> bytes:
        while not (end := _END.search(self._received)):
            self._require_head()
            if not self._more():
                raise ConnectionResetError("closed before an answer was there")
        self._require_head(end.start())
        found, self._received = self._received[: end.start()], self._received[end.end() :]
        return found

    def _require_head(self, length: int = 0) -> None:
        """Raise when what has been received cannot be the start of an answer."""
        if not self._received.startswith(_VERSION[: len(self._received)]):
            raise BadStatusLine("no HTTP")
        if (length or len(self._received)) > HEAD_LIMIT:
            raise LineTooLong("head")

    def _exactly(self, size: int) -> bytes:
        if len(self._received) < size:
            self._collect(size)
        found, self._received = self._received[:size], self._received[size:]
        return found

    def _collect(self, size: int) -> None:
        parts, missing = [self._received], size - len(self._received)
        self._received = b""
        while missing > 0:
            if not self._more():
                raise IncompleteRead(b"".join(parts), missing)
            parts.append(self._received)
            missing -= len(self._received)
            self._received = b""
        self._received = b"".join(parts)

    def _to_the_end(self, most: int) -> bytes:
        parts: list[bytes] = []
        room = most
        while room > 0 and (self._received or self._more()):
            parts.append(self._received[:room])
            room -= len(parts[-1])
            self._received = b""
        return b"".join(parts)

    def _chunked(self, most: int) -> tuple[bytes, bool]:
        """Return the bytes, and whether that was all."""
        parts: list[bytes] = []
        room = most
        while room > 0:
            size = self._chunk_size()
            if size == 0:
                self._skip_trailers()
                return b"".join(parts), True
            parts.append(self._exactly(min(size, room)))
            room -= size
            if room >= 0 and self._line() not in _BLANK:
                raise IncompleteRead(b"".join(parts))
        return b"".join(parts), False

    def _chunk_size(self) -> int:
        match = _SIZE.fullmatch(self._line())
        if match is None:
            raise IncompleteRead(b"")
        return int(match[1], 16)

    def _skip_trailers(self) -> None:
        for _ in range(HEADERS_LIMIT):
            if self._line() in _BLANK:
                return
        raise HTTPException("trailers without end")

    def _line(self) -> bytes:
        while (end := self._received.find(b"\n")) < 0:
            if len(self._received) > CHUNK_LINE_LIMIT:
                raise LineTooLong("chunk")
            if not self._more():
                raise IncompleteRead(b"")
        line, self._received = self._received[: end + 1], self._received[end + 1 :]
        return line

    def _more(self) -> bool:
        """Wait for bytes; False when no more will come."""
        left = self._until - time.monotonic()
        if left <= 0:
            raise TimeoutError("the answer takes too long")
        self._wait_at_most(min(left, self._pause))
        received = self._sock.recv(CHUNK)
        self._received += received
        return bool(received)

    def _wait_at_most(self, seconds: float) -> None:
        if seconds != self._waits:  # it costs a system call
            self._sock.settimeout(seconds)
            self._waits = seconds


def _parsed(head: bytes) -> tuple[str, int, Headers]:
    """Return the minor version, the status and the headers."""
    first, *lines = head.decode("latin-1").split("\n")
    match = _STATUS.fullmatch(first.rstrip("\r"))
    if match is None:
        raise BadStatusLine(first[:80])
    if len(lines) > HEADERS_LIMIT:
        raise HTTPException("too many headers")
    return match[1], int(match[2]), Headers(_header_values(lines))


def _header_values(lines: list[str]) -> dict[str, str]:
    values: dict[str, str] = {}
    name = ""
    for line in lines:
        if name and line[:1] in {" ", "\t"}:  # obsolete, and still allowed in answers to us
            values[name] += " " + line.strip(" \t\r")
            continue
        name, colon, value = line.partition(":")
        if not colon or not name or name != name.strip():
            raise HTTPException("a header that is none")
        name, value = name.lower(), value.strip(" \t\r")
        values[name] = f"{values[name]}, {value}" if name in values else value
    return values


def _framed(method: str, version: str, status: int, headers: Headers) -> Head:
    """Tell where the body ends, RFC 9112 section 6.3."""
    options = {option.strip() for option in headers.get("connection", "").lower().split(",")}
    closing = "close" in options or (version == "0" and "keep-alive" not in options)
    if method == "HEAD" or status in _WITHOUT_BODY:
        return Head(status, headers, 0, chunked=False, closing=closing)
    coding = headers.get("transfer-encoding", "").lower()
    if coding not in {"", "chunked"}:
        raise HTTPException("a transfer coding that nobody asked for")
    length = None if coding else _length(headers.get("content-length"))
    return Head(status, headers, length, chunked=bool(coding), closing=closing)


def _length(text: str | None) -> int | None:
    if text is None:
        return None
    stated = {part.strip() for part in text.split(",")}
    one = stated.pop()
    if stated or not (one.isascii() and one.isdigit()):
        raise HTTPException("a length that is none")
    return int(one)
