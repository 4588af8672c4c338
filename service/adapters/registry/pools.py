"""Connections to one origin: urllib3's, kept, with our trust, and with an end to every answer."""

from __future__ import annotations

import http.client
import io
import socket
import ssl
import time
from collections import deque
from typing import Any, cast
from urllib.request import getproxies

from urllib3 import PoolManager, ProxyManager, make_headers
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.exceptions import ProxyError

from service.adapters.registry.origin import Origin

ANSWER_TIMEOUTS = 3
"""A whole answer may take so many read time-outs: dripping bytes cannot hold us for longer."""


class _TimedReader(io.RawIOBase):
    """A socket to read from until a moment, with at most ``pause`` seconds between two reads."""

    def __init__(self, sock: socket.socket, pause: float) -> None:
        self._sock = sock
        self._raw = sock.makefile("rb", buffering=0)
        self._pause = pause
        self._end = time.monotonic() + ANSWER_TIMEOUTS * pause

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:  # noqa: ANN401 - any writable buffer, no type for it in 3.11
        left = self._end - time.monotonic()
        if left <= 0:
            raise TimeoutError("the answer takes too long")
        self._sock.settimeout(min(left, self._pause))
        return self._raw.readinto(buffer)

    def close(self) -> None:
        self._raw.close()
        super().close()


class _TimedSocket:
    """What http.client asks of a socket for an answer: a file to read it from."""

    def __init__(self, sock: socket.socket, pause: float) -> None:
        self._reader = _TimedReader(sock, pause)

    def makefile(self, _mode: str) -> io.BufferedReader:
        return io.BufferedReader(self._reader)


class _TimedAnswers:
    """A connection whose answers end in time, status line and headers included."""

    timeout: Any  # seconds: ours are made with no other kind

    def response_class(self, sock: socket.socket, method: str | None = None) -> Any:  # noqa: ANN401 - http.client's attribute, a method here
        return http.client.HTTPResponse(_TimedSocket(sock, self.timeout), method=method)  # type: ignore[arg-type]


class _PlainConnection(_TimedAnswers, HTTPConnection):  # type: ignore[misc]
    pass


class _TlsConnection(_TimedAnswers, HTTPSConnection):  # type: ignore[misc]
    pass


class Pool:
    """Connections to one origin, through the proxy that the environment names for it.

    Requests go straight over urllib3's connections: those of its pool send and receive in one
    step, so that a thread could not have several requests under way.
    """

    def __init__(
        self, origin: Origin, context: ssl.SSLContext | None, kept: int, timeout_seconds: float
    ) -> None:
        """Keep at most ``kept`` idle connections."""
        self._origin = origin
        self._kept = kept
        self._timeout_seconds = timeout_seconds
        self._idle: deque[HTTPConnection] = deque()
        self._model = _manager(str(origin), context).connection_from_url(str(origin))
        # A proxy for plain HTTP is told the whole URL in place of the path, and who asks.
        forwarded = self._model.proxy is not None and not origin.secure
        self.prefix = str(origin) if forwarded else ""
        self.headers = dict(self._model.proxy_headers) if forwarded else {}

    def take(self) -> HTTPConnection:
        """Return an idle connection that the other side has not closed, else a new one."""
        while self._idle:
            try:
                connection = self._idle.pop()
            except IndexError:  # another thread was faster
                break
            if connection.is_connected:
                return connection
            connection.close()
        return self.open()

    def open(self) -> HTTPConnection:
        """Return a new connection, through the proxy if there is one."""
        connection = self._made()
        try:
            self._connect(connection)
        except BaseException:
            connection.close()
            raise
        return connection

    def give_back(self, connection: HTTPConnection) -> None:
        """Keep a connection whose answer was read to the end."""
        if len(self._idle) < self._kept and not connection.is_closed:
            self._idle.append(connection)
        else:
            connection.close()

    def close(self) -> None:
        """Close the idle connections; those in use are closed when they come back."""
        self._kept = 0
        while self._idle:
            self._idle.pop().close()

    def _made(self) -> HTTPConnection:
        proxy, (_, host, port) = self._model.proxy, self._origin
        if proxy is not None:
            host, port = proxy.host or "", proxy.port or 0
        kind = _TlsConnection if self._origin.secure else _PlainConnection
        options = self._model.conn_kw
        return cast("HTTPConnection", kind(host, port, timeout=self._timeout_seconds, **options))

    def _connect(self, connection: HTTPConnection) -> None:
        proxy = self._model.proxy
        if proxy is None or not self._origin.secure:
            connection.connect()
            return
        scheme, headers = proxy.scheme or "http", self._model.proxy_headers
        connection.set_tunnel(self._origin.host, self._origin.port, headers, scheme)
        try:
            connection.connect()
        except OSError as error:
            if isinstance(error, ssl.SSLError):  # what stands behind the proxy is not trusted
                raise
            raise ProxyError("no tunnel", error) from error


def _manager(url: str, context: ssl.SSLContext | None) -> PoolManager:
    """Return what knows how to connect, through the proxy that the environment names for a URL."""
    if not getproxies():
        return PoolManager(ssl_context=context)
    from requests import utils  # noqa: PLC0415 - 4 MiB, and most do without a proxy

    proxy = utils.select_proxy(url, utils.get_environ_proxies(url))
    if proxy is None:
        return PoolManager(ssl_context=context)
    proxy = utils.prepend_scheme_if_needed(proxy, "http")  # type: ignore[no-untyped-call]
    user, password = utils.get_auth_from_url(proxy)
    headers = make_headers(proxy_basic_auth=f"{user}:{password}") if user else None
    return ProxyManager(proxy, proxy_headers=headers, ssl_context=context)
