"""HTTP with an engine, by docker-py's connections: each call with a time-out and a bound.

docker-py connects (Unix socket, TCP with TLS, SSH); the calls are made here, since its own methods
know neither bounds nor, for streams, time-outs.
"""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, suppress
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol
from urllib.parse import quote

from service.adapters.engine.failures import FILTERED, filtered, refusal, unreachable
from service.domain.engine import Inspected
from service.domain.errors import ContainerUnknown, EngineRefused, ImageUnknown, shown
from service.settings import EngineSettings

if TYPE_CHECKING:
    from docker import APIClient

CONNECT_SECONDS = 5.0
READ_SECONDS = 15.0
"""How long an engine may take to tell something."""

CHANGE_SECONDS = 120.0
"""How long it may take to do something: a busy one needs its time for a start."""

JSON_LIMIT = 32 * 1024 * 1024
CHUNK = 64 * 1024
NOT_MODIFIED = 304
ERROR = 300
"""Redirects count as errors: the engine has none, but for paths that are not its own."""

_CONTAINER = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
_IMAGE = re.compile(r"(?!.*(^|/)\.{1,2}(/|$))[A-Za-z0-9][A-Za-z0-9._:@/+-]*")


def container_path(reference: str, what: str = "") -> str:
    """The path of ``what`` of a container, by its name or id.

    Raise ContainerUnknown where it can be neither.
    """
    if not _CONTAINER.fullmatch(reference.removeprefix("/")):
        raise ContainerUnknown(f"No container can be named '{shown(reference)}'.")
    return f"/containers/{reference.removeprefix('/')}{what}"


def image_path(reference: str, what: str = "") -> str:
    """The path of ``what`` of an image likewise; raise ImageUnknown."""
    if not _IMAGE.fullmatch(reference):
        raise ImageUnknown(f"No image can be named '{shown(reference)}'.")
    return f"/images/{quote(reference, safe='/:@')}{what}"


class Answer(Protocol):
    """What of the client's response is used; ``raw`` is its body to read from."""

    status_code: int
    raw: Any

    @property
    def headers(self) -> Mapping[str, str]:
        """By their names, in any case."""

    def close(self) -> None:
        """Let go of the connection."""


class Call(NamedTuple):
    """A request. ``seconds`` are those that the engine may be silent."""

    method: str
    path: str
    query: Mapping[str, Any] | None = None
    body: Mapping[str, Any] | None = None
    seconds: float = READ_SECONDS
    headers: Mapping[str, str] | None = None


class Connection(NamedTuple):
    """A client, and the version of the API that is spoken over it."""

    client: APIClient
    api_version: tuple[int, int]


class Transport:
    """Calls to one engine. Safe between threads: each has a client of its own."""

    def __init__(self, settings: EngineSettings) -> None:
        """Connect when first asked to."""
        self.name = settings.name
        self._settings = settings
        self._threads = threading.local()

    @property
    def api_version(self) -> tuple[int, int]:
        """The version in use, such as (1, 41)."""
        try:
            return self._connection().api_version
        except Exception as error:  # as below
            raise self.lost(error) from error

    def inspect(self, reference: str) -> Inspected:
        """A container as the engine tells it; raise ContainerUnknown."""
        found: Inspected = self.ask(Call("GET", container_path(reference, "/json")))
        return found

    def ask(self, call: Call) -> Any:  # noqa: ANN401 - whatever JSON the engine answers
        """Give the answer's JSON, None when it is empty."""
        with closing(self.open(call)) as response:
            content = self.read(response, JSON_LIMIT, call.seconds)
        try:
            return json.loads(content) if content else None
        except ValueError as error:
            raise self._nonsense("that is not JSON") from error

    def open(self, call: Call, accept: int | None = None) -> Answer:
        """Give an answer whose body is still to be read, and which the caller closes.

        An error is raised, unless it has the status ``accept``.
        """
        try:
            response = self._send(call)
        except Exception as error:  # the connections under docker-py have no common root of errors
            raise self.lost(error) from error
        if response.status_code < ERROR or response.status_code in {NOT_MODIFIED, accept}:
            return response
        with closing(response):
            message = self._message(response, call.seconds)
            if response.status_code in FILTERED:
                raise filtered(self.name, f"{call.method} {call.path}", message)
            raise refusal(self.name, response.status_code, message)

    def read(self, response: Answer, limit: int, seconds: float) -> bytes:
        """A whole body; raise EngineRefused when it is larger than ``limit`` bytes."""
        content = bytearray()
        try:
            for chunk in _chunks(response, seconds):
                content += chunk
                if len(content) > limit:
                    break
        except Exception as error:  # as above
            raise self.lost(error) from error
        if len(content) > limit:
            raise self._nonsense(f"of more than {limit} bytes")
        return bytes(content)

    def lost(self, error: BaseException) -> Exception:
        """Forget this thread's client, whose connections may be dead; give the error to raise."""
        self.forget()
        return unreachable(self.name, self._settings.url, error)

    def forget(self) -> None:
        """Close this thread's client; the next call makes another."""
        connection = self._threads.__dict__.pop("connection", None)
        if connection is not None:
            with suppress(Exception):
                connection.client.close()

    def _send(self, call: Call) -> Answer:
        client, (major, minor) = self._connection()
        return _requested(client, call._replace(path=f"/v{major}.{minor}{call.path}"))

    def _message(self, response: Answer, seconds: float) -> str:
        content = self.read(response, JSON_LIMIT, seconds).decode(errors="replace")
        with suppress(ValueError, KeyError, TypeError):
            return str(json.loads(content)["message"])
        return content

    def _nonsense(self, what: str) -> EngineRefused:
        return EngineRefused(f"The engine '{self.name}' gave an answer {what}.")

    def _connection(self) -> Connection:
        connection: Connection | None = getattr(self._threads, "connection", None)
        if connection is None:
            from service.adapters.engine.connections import connect  # noqa: PLC0415 - see there

            client = connect(self._settings, CONNECT_SECONDS)
            connection = self._threads.connection = Connection(client, _api_version(client))
        return connection


def _api_version(client: APIClient) -> tuple[int, int]:
    """The newest version of the API that the engine speaks."""
    with closing(_requested(client, Call("GET", "/version", seconds=CONNECT_SECONDS))) as response:
        if response.status_code >= ERROR:  # of what is in front of it
            raise ConnectionError(f"GET /version is answered by status {response.status_code}")
        found = json.loads(b"".join(_chunks(response, CONNECT_SECONDS)))
    major, _, minor = found["ApiVersion"].partition(".")
    return int(major), int(minor)


def _requested(client: APIClient, call: Call) -> Answer:
    return client.request(
        call.method,
        f"{client.base_url}{call.path}",
        params=call.query,
        json=call.body,
        headers={"Accept-Encoding": "identity", **(call.headers or {})},
        stream=True,
        timeout=(CONNECT_SECONDS, call.seconds),
        allow_redirects=False,
    )


def _chunks(response: Answer, seconds: float) -> Iterator[bytes]:
    """What comes, as it comes; raise TimeoutError when it has not all come in ``seconds``."""
    deadline = time.monotonic() + seconds
    while chunk := response.raw.read1(CHUNK):
        yield chunk
        if time.monotonic() > deadline:
            raise TimeoutError(f"no whole answer in {seconds:g} s")
