"""One request to one origin and its answer: timed, bounded, never redirected, never repeated."""

from __future__ import annotations

import ssl
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from http import HTTPStatus

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
from service.adapters.registry.wire import Head, Wire, request_bytes
from service.domain.errors import RegistryAnswerInvalid

ERROR_LIMIT = 64 * 1024
"""Most bytes read of an answer that is no success: its error codes stand at the start."""

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


class Transport:
    """Sends requests to one origin. Safe to share between threads, not over a fork.

    Writes get a fresh connection each: one that was kept may be closed by the other side just
    as the request goes out, and such a write cannot be told from one that was carried out.
    """

    def __init__(self, origin: Origin, trust: Trust | None, limits: Limits) -> None:
        """Speak to ``origin``; ``trust`` is None for plain HTTP."""
        self.origin = origin
        self._trust = trust if origin.secure else None
        self._advice = trust.advice if trust else ""
        self._limits = limits
        self._headers = {"Host": origin.host_header, **_OURS}
        self._mutex = threading.Lock()
        self._pools: tuple[ssl.SSLContext | None, Pool, Pool] | None = None

    def send(self, request: Request, authorization: str | None = None) -> Answer:
        """Send once and read the answer; raise UpstreamFailed. Any status is an answer."""
        tried = Attempted(self.origin, request.method, self._advice)
        pool = self._pool(request.method)
        try:
            head = self._head(pool, request, authorization)
            wire = pool.take()
        except FAILURES as error:
            raise convert(error, tried) from error
        try:
            return self._exchange(wire, head, request, tried)
        finally:
            pool.give_back(wire)

    def close(self) -> None:
        """Close idle connections; the transport can be used on."""
        with self._mutex:
            self._drop_pools()

    def _pool(self, method: str) -> Pool:
        context = self._trust.context() if self._trust else None
        with self._mutex:
            if self._pools is None or self._pools[0] is not context:
                self._drop_pools()
                seconds = self._limits.timeout_seconds
                reads = Pool(self.origin, context, self._limits.connections, seconds)
                self._pools = (context, reads, Pool(self.origin, context, 0, seconds))
            _, kept, fresh = self._pools
            return kept if method in SAFE_METHODS else fresh

    def _drop_pools(self) -> None:
        for pool in self._pools[1:] if self._pools else ():
            pool.close()
        self._pools = None

    def _head(self, pool: Pool, request: Request, authorization: str | None) -> bytes:
        headers = {**self._headers, **pool.headers, **request.headers}
        if authorization:
            headers["Authorization"] = authorization
        if request.method not in SAFE_METHODS:
            headers["Connection"] = "close"
        length = None if request.body is None else len(request.body)
        return request_bytes(request.method, pool.prefix + request.target, headers, length)

    def _exchange(self, wire: Wire, head: bytes, request: Request, tried: Attempted) -> Answer:
        try:
            wire.send(head, request.body)
            found = wire.head(request.method)
        except FAILURES as error:
            raise convert(error, tried) from error
        try:
            body = self._body(wire, found, request)
        except FAILURES as error:
            raise convert(error, replace(tried, answering=True)) from error
        return Answer(found.status, found.headers, body)

    def _body(self, wire: Wire, head: Head, request: Request) -> bytes:
        success = HTTPStatus.OK <= head.status < HTTPStatus.MULTIPLE_CHOICES
        limit = request.limit if success else ERROR_LIMIT
        bounded = request.peek or not success
        body = wire.body(head, limit if bounded else limit + 1)
        if not bounded and len(body) > limit:
            raise RegistryAnswerInvalid(
                f"{self.origin} answers with more than the {limit} bytes that are allowed. "
                "Nothing was changed."
            )
        return body
