"""One request to one origin and its answer: timed, bounded, never redirected, never repeated."""

from __future__ import annotations

import re
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from http import HTTPStatus

from urllib3 import HTTPResponse
from urllib3.connection import HTTPConnection
from urllib3.util import parse_url

from service import __version__
from service.adapters.registry.failures import (
    FAILURES,
    SAFE_METHODS,
    Attempted,
    convert,
)
from service.adapters.registry.origin import Origin
from service.adapters.registry.pools import Pool
from service.adapters.registry.tls import Trust
from service.domain.errors import RegistryAnswerInvalid, UpstreamFailed

ERROR_LIMIT = 64 * 1024
"""Most bytes read of an answer that is no success: its error codes stand at the start."""

ABANDONED = "abandoned"
"""The outcome of a request whose answer was not waited for."""

_TARGET = re.compile(r"[!-~]+")
_OURS = {"User-Agent": f"registry-admin/{__version__}", "Accept-Encoding": "identity"}


@dataclass(frozen=True, slots=True)
class Request:
    """What to send. ``scope`` is what a token must allow for it, in the words of the token server.

    ``limit``: most bytes of a successful answer. ``peek``: read no more than that and hang up,
    instead of refusing what is larger.
    """

    method: str
    target: str
    scope: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes | None = field(default=None, repr=False)
    limit: int = ERROR_LIMIT
    peek: bool = False


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back; header names are found in any case, several of a name joined by commas."""

    status: int
    headers: Mapping[str, str]
    body: bytes = field(repr=False)

    @property
    def succeeded(self) -> bool:
        """Tell whether the status is of the 200s."""
        return HTTPStatus.OK <= self.status < HTTPStatus.MULTIPLE_CHOICES


@dataclass(frozen=True, slots=True)
class Limits:
    """Seconds to connect and between two reads; idle connections kept."""

    timeout_seconds: float
    connections: int


Observe = Callable[[str, str, float], None]
"""Takes note of a request that has ended: its method, its outcome, the seconds it took."""


class Measure:
    """Tells once how a request ended: the class of its answer's status, or the error's code."""

    def __init__(self, method: str, observe: Observe) -> None:
        """Begin now."""
        self._method = method
        self._observe = observe
        self._begun_at = time.perf_counter()
        self._ended = False

    def end(self, outcome: str) -> None:
        """Tell; what comes after the first end is none."""
        if not self._ended:
            self._ended = True
            self._observe(self._method, outcome, time.perf_counter() - self._begun_at)

    @contextmanager
    def failures(self) -> Iterator[None]:
        """Tell what goes wrong within the block."""
        try:
            yield
        except UpstreamFailed as error:
            self.end(error.code)
            raise


def ignore(_method: str, _outcome: str, _seconds: float) -> None:
    """Take no note of requests."""


class Transport:
    """Sends requests to one origin. Safe to share between threads, not over a fork.

    Writes get a fresh connection each: one that was kept may be closed by the other side just
    as the request goes out, and such a write cannot be told from one that was carried out.
    """

    def __init__(
        self, origin: Origin, trust: Trust | None, limits: Limits, observe: Observe = ignore
    ) -> None:
        """Speak to ``origin``; ``trust`` is None for plain HTTP."""
        self.origin = origin
        self.limits = limits
        self._observe = observe
        self._trust = trust if origin.secure else None
        self._advice = trust.advice if trust else ""
        self._mutex = threading.Lock()
        self._pool: tuple[ssl.SSLContext | None, Pool] | None = None

    def send(self, request: Request, authorization: str | None = None) -> Answer:
        """Send once and read the answer; raise UpstreamFailed. Any status is an answer."""
        return self.begin(request, authorization).finish()

    def begin(self, request: Request, authorization: str | None = None) -> Exchange:
        """Send once; the answer is the Exchange's to read. Raise UpstreamFailed."""
        measure = Measure(request.method, self._observe)
        with measure.failures():
            return self._begin(request, authorization, measure)

    def close(self) -> None:
        """Close idle connections; the transport can be used on."""
        with self._mutex:
            self._drop_pool()

    def _begin(self, request: Request, authorization: str | None, measure: Measure) -> Exchange:
        tried = Attempted(self.origin, request.method, self._advice)
        safe = request.method in SAFE_METHODS
        try:
            pool = self._current_pool()
            connection = pool.take() if safe else pool.open()
        except FAILURES as error:
            raise convert(error, tried) from error
        exchange = Exchange(pool, connection, request, tried, measure)
        headers = {**_OURS, **pool.headers, **request.headers}
        headers |= {} if safe else {"Connection": "close"}
        exchange.start(headers | ({"Authorization": authorization} if authorization else {}))
        return exchange

    def _current_pool(self) -> Pool:
        context = self._trust.context() if self._trust else None
        with self._mutex:
            if self._pool is None or self._pool[0] is not context:
                self._drop_pool()
                limits = self.limits
                made = Pool(self.origin, context, limits.connections, limits.timeout_seconds)
                self._pool = (context, made)
            return self._pool[1]

    def _drop_pool(self) -> None:
        if self._pool is not None:
            self._pool[1].close()
        self._pool = None


class Exchange:
    """A request and its answer, over one connection, which goes back to its pool after."""

    def __init__(
        self,
        pool: Pool,
        connection: HTTPConnection,
        request: Request,
        tried: Attempted,
        measure: Measure,
    ) -> None:
        """Use ``connection`` of ``pool``."""
        self._pool = pool
        self._connection = connection
        self._request = request
        self._tried = tried
        self._measure = measure

    def fileno(self) -> int:
        """Return the descriptor that can be read from once the answer comes."""
        return self._connection.sock.fileno()

    def start(self, headers: Mapping[str, str]) -> None:
        """Send the request; raise UpstreamFailed."""
        request, target = self._request, self._pool.prefix + self._request.target
        if not _TARGET.fullmatch(target):  # where a server sends us may be spelt in any way
            target = parse_url(target).url
        try:
            # Whoever refuses a request early has answered before it hung up.
            with suppress(BrokenPipeError, ConnectionResetError):
                self._connection.request(
                    request.method,
                    target,
                    request.body,
                    headers,
                    preload_content=False,
                    decode_content=False,
                )
        except FAILURES as error:
            self._connection.close()
            raise convert(error, self._tried) from error

    def finish(self) -> Answer:
        """Read the answer; raise UpstreamFailed."""
        with self._measure.failures():
            answer = self._answer()
        self._measure.end(f"{answer.status // 100}xx")
        return answer

    def abandon(self) -> None:
        """Do without the answer."""
        self._connection.close()
        self._measure.end(ABANDONED)

    def _answer(self) -> Answer:
        try:
            response = self._connection.getresponse()
        except FAILURES as error:
            self._connection.close()
            raise convert(error, self._tried) from error
        try:
            body = self._read(response)
        except FAILURES as error:
            raise convert(error, replace(self._tried, answering=True)) from error
        finally:
            self._end(response)
        return Answer(response.status, response.headers, body)

    def _end(self, response: HTTPResponse) -> None:
        ended = response.isclosed()  # which it is once it has been read to its end
        if ended and self._request.method in SAFE_METHODS:
            self._pool.give_back(self._connection)
        else:
            response.close()
            self._connection.close()

    def _read(self, response: HTTPResponse) -> bytes:
        success = HTTPStatus.OK <= response.status < HTTPStatus.MULTIPLE_CHOICES
        limit = self._request.limit if success else ERROR_LIMIT
        bounded = self._request.peek or not success
        body = _read_at_most(response, limit if bounded else limit + 1)
        if not bounded and len(body) > limit:
            raise RegistryAnswerInvalid(
                f"{self._tried.origin} answers with more than the {limit} bytes that are "
                "allowed. Nothing was changed."
            )
        return body


def _read_at_most(response: HTTPResponse, most: int) -> bytes:
    """Read to the end or to ``most`` bytes."""
    body = response.read(most)
    while body and len(body) < most and response.length_remaining != 0:
        chunk = response.read(most - len(body))
        if not chunk:
            break
        body += chunk
    return body
