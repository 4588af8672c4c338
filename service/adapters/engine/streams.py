"""Output of processes: followed while it comes, taken apart into lines, left when told to.

A stream has no end of its own and may be silent for hours, so a thread reads it, and whoever waits
for its lines looks now and then whether to go on.
"""

from __future__ import annotations

import queue
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Literal, Protocol, Self

from service.adapters.engine.transport import CHUNK, Answer, Call, Transport
from service.domain.engine import Output
from service.domain.errors import RegistryAdminError

POLL_SECONDS = 0.1
"""How often ``stop`` is asked, at most."""

AHEAD = 64
"""How many chunks are read ahead of whoever takes them."""

LEAVE_SECONDS = 5.0
"""How long a broken connection may take to wake up the thread that reads it."""

LINE_LIMIT = 64 * 1024
"""Bytes of a line that are given on; the rest of it is dropped."""

Name = Literal["stdout", "stderr"]
NAMES: dict[int, Name] = {1: "stdout", 2: "stderr"}
HEADER = struct.Struct(">BxxxL")
"""Before each piece of a multiplexed stream: which one, and how many bytes."""


class Patience:
    """When to give up: the time is over, or ``stop`` says so, which is asked now and then."""

    def __init__(self, stop: Callable[[], bool], seconds: float) -> None:
        """Start the clock."""
        self.seconds = seconds
        self._stop = stop
        self._deadline = time.monotonic() + seconds
        self._asked = -POLL_SECONDS

    def is_over(self) -> bool:
        """Tell whether to give up."""
        now = time.monotonic()
        if now >= self._deadline:
            return True
        if now - self._asked < POLL_SECONDS:
            return False
        self._asked = now
        return self._stop()


class Feeder(Protocol):
    """Takes a stream's bytes as they come."""

    def feed(self, data: bytes) -> None:
        """Take some."""

    def end(self) -> None:
        """Know that nothing more will come."""


class Lines:
    """Splits bytes into lines."""

    def __init__(self, name: Name, output: Output) -> None:
        """Give each line of the stream ``name`` to ``output``."""
        self._name = name
        self._output = output
        self._line = bytearray()

    def feed(self, data: bytes) -> None:
        """Take some bytes; a line goes on at its line feed."""
        *whole, rest = data.split(b"\n")
        for part in whole:
            self._add(part)
            self._flush()
        self._add(rest)

    def end(self) -> None:
        """Give on a last line without a line feed."""
        if self._line:
            self._flush()

    def _add(self, part: bytes) -> None:
        self._line += part[: LINE_LIMIT - len(self._line)]

    def _flush(self) -> None:
        line = bytes(self._line)
        self._line.clear()
        self._output(self._name, line.removesuffix(b"\r"))


class Multiplexed:
    """Takes a stream apart that holds both, each piece after a header."""

    def __init__(self, output: Output) -> None:
        """Give each line to ``output``."""
        self._lines = {number: Lines(name, output) for number, name in NAMES.items()}
        self._header = b""
        self._current: Lines | None = None
        self._left = 0

    def feed(self, data: bytes) -> None:
        """Take some bytes, wherever they were cut."""
        while data:
            data = self._payload(data) if self._left else self._head(data)

    def end(self) -> None:
        """Give on last lines without a line feed."""
        for lines in self._lines.values():
            lines.end()

    def _head(self, data: bytes) -> bytes:
        missing = HEADER.size - len(self._header)
        self._header += data[:missing]
        if len(self._header) == HEADER.size:
            number, self._left = HEADER.unpack(self._header)
            self._current = self._lines.get(number)
            self._header = b""
        return data[missing:]

    def _payload(self, data: bytes) -> bytes:
        part = data[: self._left]
        self._left -= len(part)
        if self._current is not None:
            self._current.feed(part)
        return data[len(part) :]


class Stream:
    """An answer read by a thread of its own, with a client of its own. Use it in a ``with``."""

    def __init__(self, transport: Transport, call: Call) -> None:
        """Read what ``call`` answers."""
        self._transport = transport
        self._call = call
        self._response: Answer | None = None
        self._closed = threading.Event()
        self._chunks: queue.Queue[bytes | Exception] = queue.Queue(AHEAD)
        # A daemon: an engine that hangs must not keep the process from ending.
        self._thread = threading.Thread(target=self._read, name="engine-stream", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Break the connection, if it still is there, and let the thread end."""
        self._closed.set()
        self._break_off()
        deadline = time.monotonic() + LEAVE_SECONDS
        while self._is_busy() and time.monotonic() < deadline:
            with suppress(queue.Empty):
                self._chunks.get(timeout=POLL_SECONDS / 10)
            self._break_off()

    def chunks(self, patience: Patience) -> Iterator[bytes]:
        """Yield what comes, to its end or while ``patience`` lasts; then the last is empty."""
        while not patience.is_over():
            try:
                chunk = self._chunks.get(timeout=POLL_SECONDS)
            except queue.Empty:
                continue
            if isinstance(chunk, Exception):
                raise chunk
            yield chunk
            if not chunk:
                return

    def _is_busy(self) -> bool:
        # A thread that has no answer yet has nothing to break off, and ends when it gets one.
        return self._thread.is_alive() and self._response is not None

    def _break_off(self) -> None:
        if self._response is not None:
            with suppress(Exception):  # it may be over, or have no socket any more
                self._response.raw.shutdown()

    def _read(self) -> None:
        try:
            self._response = self._transport.open(self._call)
            while not self._closed.is_set():
                chunk = self._response.raw.read1(CHUNK) or b""
                self._chunks.put(chunk)
                if not chunk:
                    break
        except Exception as error:  # noqa: BLE001 - the thread that waits raises it
            if not self._closed.is_set():
                self._chunks.put(self._failure(error))
        finally:
            self._close()

    def _failure(self, error: Exception) -> Exception:
        return error if isinstance(error, RegistryAdminError) else self._transport.lost(error)

    def _close(self) -> None:
        if self._response is not None:
            self._response.close()
        self._transport.forget()


def follow(stream: Stream, feeder: Feeder, patience: Patience) -> bool:
    """Feed a stream's bytes; tell whether it came to its end before ``patience`` did."""
    for chunk in stream.chunks(patience):
        if not chunk:
            feeder.end()
            return True
        feeder.feed(chunk)
    return False
