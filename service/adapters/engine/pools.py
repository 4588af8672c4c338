"""Pools of connections to an engine, in place of docker-py's.

Those keep a pool for each URL, so that no connection is ever used again, leave a socket that could
not connect to the garbage collector, and over SSH wait for whole pieces and end with the first
answer that ends by closing.
"""

from __future__ import annotations

import io
import socket
from typing import Any

from docker.transport import SSHHTTPAdapter, UnixHTTPAdapter
from docker.transport.basehttpadapter import BaseHTTPAdapter
from docker.transport.sshconn import SSHConnection, SSHConnectionPool
from docker.transport.unixconn import UnixHTTPConnection, UnixHTTPConnectionPool


class OnePool(BaseHTTPAdapter):
    """Sends every request over the connections of one pool: there is one engine."""

    def __init__(self, made: UnixHTTPAdapter | SSHHTTPAdapter, pool: Any) -> None:  # noqa: ANN401
        """Use ``pool`` in place of those of ``made``, an adapter of docker-py."""
        super().__init__()
        self._made = made
        self._pool = pool

    def get_connection(self, url: str | bytes, proxies: Any = None) -> Any:  # noqa: ANN401 - as there
        """Give the pool, whatever the URL."""
        del url, proxies
        return self._pool

    def request_url(self, request: Any, proxies: Any) -> Any:  # noqa: ANN401 - as there
        """As docker-py's own."""
        return self._made.request_url(request, proxies)

    def close(self) -> None:
        """Close the pool, and what docker-py has connected."""
        self._pool.close()
        self._made.close()


class UnixPool(UnixHTTPConnectionPool):
    """Connections to a socket."""

    def _new_conn(self) -> Any:  # noqa: ANN401 - as there
        timeout: Any = self.timeout
        return _UnixConnection(self.base_url, self.socket_path, timeout)


class _UnixConnection(UnixHTTPConnection):
    def connect(self) -> None:
        made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            made.settimeout(self.timeout)
            made.connect(self.unix_socket)
        except OSError:
            made.close()
            raise
        self.sock = made


class SshPool(SSHConnectionPool):
    """Channels of an SSH connection."""

    def _new_conn(self) -> Any:  # noqa: ANN401 - as there
        timeout: Any = self.timeout
        return _SshConnection(self.ssh_transport, timeout, self.ssh_host)


class _SshConnection(SSHConnection):
    def connect(self) -> None:
        super().connect()
        self.sock: Any = ChannelSocket(self.sock)


class ChannelSocket:
    """A channel that behaves as a socket: it is open as long as a file over it is."""

    def __init__(self, channel: Any) -> None:  # noqa: ANN401 - paramiko has no types
        """Wrap a paramiko channel."""
        self.channel = channel
        self._files = 0
        self._closed = False

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - as above
        return getattr(self.channel, name)

    def makefile(self, *_: object, **__: object) -> io.BufferedReader:
        """A file to read from."""
        self._files += 1
        return io.BufferedReader(_ChannelReader(self))

    def shutdown(self, _how: int) -> None:
        """Wake up whoever reads: a channel does so only when it is closed."""
        self.channel.close()

    def close(self) -> None:
        """Close the channel, after the last file over it."""
        self._closed = True
        self._close_unused()

    def file_closed(self) -> None:
        """Know that a file over it was closed."""
        self._files -= 1
        self._close_unused()

    def _close_unused(self) -> None:
        if self._closed and not self._files:
            self.channel.close()


class _ChannelReader(io.RawIOBase):
    def __init__(self, owner: ChannelSocket) -> None:
        self._owner = owner

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:  # noqa: ANN401 - any buffer
        data = self._owner.channel.recv(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def close(self) -> None:
        if not self.closed:
            super().close()
            self._owner.file_closed()
