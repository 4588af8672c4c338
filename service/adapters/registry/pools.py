"""Connections to one origin: pooled, with our trust, and with an end to every answer."""

from __future__ import annotations

import http.client
import io
import socket
import ssl
import time
from typing import Any

from requests.adapters import HTTPAdapter
from requests.utils import get_environ_proxies, select_proxy
from urllib3 import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.connection import HTTPConnection, HTTPSConnection

from service.adapters.registry.origin import Origin

_PoolClasses = dict[str, type[HTTPConnectionPool]]

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

    timeout: Any  # seconds by now: urllib3 sets it to the read time-out before it reads

    def response_class(self, sock: socket.socket, method: str | None = None) -> Any:  # noqa: ANN401 - http.client's attribute, a method here
        return http.client.HTTPResponse(_TimedSocket(sock, self.timeout), method=method)  # type: ignore[arg-type]


class _UsedOnce:
    """A connection that the pool never takes for alive: it is opened anew each time."""

    @property
    def is_connected(self) -> bool:
        return False


class _PlainConnection(_TimedAnswers, HTTPConnection):  # type: ignore[misc]
    pass


class _TlsConnection(_TimedAnswers, HTTPSConnection):  # type: ignore[misc]
    pass


class _PlainConnectionUsedOnce(_UsedOnce, _PlainConnection):  # type: ignore[misc]
    pass


class _TlsConnectionUsedOnce(_UsedOnce, _TlsConnection):  # type: ignore[misc]
    pass


class _PlainPool(HTTPConnectionPool):
    ConnectionCls = _PlainConnection


class _TlsPool(HTTPSConnectionPool):
    ConnectionCls = _TlsConnection


class _PlainPoolOfFresh(HTTPConnectionPool):
    ConnectionCls = _PlainConnectionUsedOnce


class _TlsPoolOfFresh(HTTPSConnectionPool):
    ConnectionCls = _TlsConnectionUsedOnce


_KEPT: _PoolClasses = {"http": _PlainPool, "https": _TlsPool}
_FRESH: _PoolClasses = {"http": _PlainPoolOfFresh, "https": _TlsPoolOfFresh}


class _Adapter(HTTPAdapter):
    """requests' adapter, with a TLS context of ours, that makes pools of timed connections."""

    def __init__(
        self, context: ssl.SSLContext | None, size: int, pool_classes: _PoolClasses
    ) -> None:
        self._context = context
        self._pool_classes = pool_classes
        super().__init__(pool_connections=1, pool_maxsize=size)

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401 - as requests hands them over
        super().init_poolmanager(*args, ssl_context=self._context, **kwargs)
        self.poolmanager.pool_classes_by_scheme = self._pool_classes

    def proxy_manager_for(self, proxy: str, **kwargs: Any) -> Any:  # noqa: ANN401 - as above
        manager = super().proxy_manager_for(proxy, ssl_context=self._context, **kwargs)
        manager.pool_classes_by_scheme = self._pool_classes
        return manager


class Pool:
    """Connections to one origin, through the proxy that the environment names for it.

    Requests go straight to urllib3's pool: a ``requests.Session`` costs 0.3 ms of processor
    time for each, its adapter alone 0.2, the pool 0.1, and an inventory is thousands of them.
    """

    def __init__(self, origin: Origin, context: ssl.SSLContext | None, kept: int) -> None:
        """Keep at most ``kept`` idle connections; with 0 each request has one of its own."""
        self._adapter = _Adapter(context, max(kept, 1), _KEPT if kept else _FRESH)
        proxy = select_proxy(str(origin), get_environ_proxies(str(origin)))
        manager = self._adapter.proxy_manager_for(proxy) if proxy else self._adapter.poolmanager
        self.urllib3 = manager.connection_from_url(str(origin))
        # A proxy for plain HTTP is told the whole URL, in place of the path.
        self.prefix = str(origin) if proxy and not origin.secure else ""

    def close(self) -> None:
        """Close the idle connections; those in use are closed when they come back."""
        self._adapter.close()
