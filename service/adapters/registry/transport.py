"""One request to one origin and its answer: timed, bounded, never redirected, never repeated."""

from __future__ import annotations

import ssl
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from http import HTTPStatus

from urllib3 import BaseHTTPResponse, Retry, Timeout

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
from service.domain.errors import RegistryAnswerInvalid

ERROR_LIMIT = 64 * 1024
"""Most bytes read of an answer that is no success: its error codes stand at the start."""

_NEVER = Retry.from_int(False, redirect=False)  # noqa: FBT003 - urllib3's way to say never
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
        self._size = limits.connections
        self._timeout = Timeout(connect=limits.timeout_seconds, read=limits.timeout_seconds)
        self._mutex = threading.Lock()
        self._pools: tuple[ssl.SSLContext | None, Pool, Pool] | None = None

    def send(self, request: Request, authorization: str | None = None) -> Answer:
        """Send once and read the answer; raise UpstreamFailed. Any status is an answer."""
        tried = Attempted(self.origin, request.method, self._advice)
        pool, headers = self._prepare(request, authorization)
        try:
            response = pool.urllib3.urlopen(
                request.method,
                pool.prefix + request.target,
                body=request.body,
                headers=headers,
                retries=_NEVER,
                redirect=False,
                assert_same_host=False,
                timeout=self._timeout,
                preload_content=False,
                decode_content=False,
            )
        except FAILURES as error:
            raise convert(error, tried) from error
        return self._receive(response, request, tried)

    def close(self) -> None:
        """Close idle connections; the transport can be used on."""
        with self._mutex:
            for pool in self._pools[1:] if self._pools else ():
                pool.close()
            self._pools = None

    def _prepare(self, request: Request, authorization: str | None) -> tuple[Pool, dict[str, str]]:
        kept, fresh = self._current_pools()
        headers = {**_OURS, **request.headers}
        if authorization:
            headers["Authorization"] = authorization
        if request.method in SAFE_METHODS:
            return kept, headers
        return fresh, headers | {"Connection": "close"}

    def _current_pools(self) -> tuple[Pool, Pool]:
        context = self._trust.context() if self._trust else None
        with self._mutex:
            if self._pools is None or self._pools[0] is not context:
                # Old pools are not closed: other threads are sending through them.
                kept = Pool(self.origin, context, self._size)
                self._pools = (context, kept, Pool(self.origin, context, 0))
            return self._pools[1:]

    def _receive(self, response: BaseHTTPResponse, request: Request, tried: Attempted) -> Answer:
        try:
            body = self._read(response, request)
        except FAILURES as error:
            raise convert(error, replace(tried, answering=True)) from error
        finally:
            # What was read to the end has gone back to its pool already and stays open.
            response.close()
        return Answer(response.status, response.headers, body)

    def _read(self, response: BaseHTTPResponse, request: Request) -> bytes:
        success = HTTPStatus.OK <= response.status < HTTPStatus.MULTIPLE_CHOICES
        limit = request.limit if success else ERROR_LIMIT
        bounded = request.peek or not success
        body = _read_at_most(response, limit if bounded else limit + 1)
        if not bounded and len(body) > limit:
            raise RegistryAnswerInvalid(
                f"{self.origin} answers with more than the {limit} bytes that are allowed. "
                "Nothing was changed."
            )
        return body


def _read_at_most(response: BaseHTTPResponse, most: int) -> bytes:
    """Read to the end or to ``most`` bytes."""
    body = response.read(most)
    while body and len(body) < most and response.length_remaining != 0:
        chunk = response.read(most - len(body))
        if not chunk:
            break
        body += chunk
    return body
