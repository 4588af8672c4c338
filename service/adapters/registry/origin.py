"""Where a server is: what credentials, certificates and connections are bound to."""

from __future__ import annotations

from typing import NamedTuple, Self
from urllib.parse import urlsplit

DEFAULT_PORTS = {"http": 80, "https": 443}


class Origin(NamedTuple):
    """Scheme, host (IPv6 without brackets) and port."""

    scheme: str
    host: str
    port: int

    @classmethod
    def of(cls, url: str) -> Self:
        """Return the origin of an absolute URL; raise ValueError for anything but http(s)."""
        parts = urlsplit(url)
        default = DEFAULT_PORTS.get(parts.scheme)
        if default is None or not parts.hostname:
            raise ValueError("not an http or https URL")
        return cls(parts.scheme, parts.hostname, parts.port or default)

    @property
    def secure(self) -> bool:
        """Tell whether it is spoken to over TLS."""
        return self.scheme == "https"

    @property
    def authority(self) -> str:
        """``host:port``, as folders of certificates are named."""
        return f"{self._bracketed}:{self.port}"

    @property
    def aliases(self) -> tuple[str, ...]:
        """The names people give it: ``host:port``, and ``host`` where the port is the default."""
        usual = DEFAULT_PORTS[self.scheme] == self.port
        return (self.authority, self._bracketed) if usual else (self.authority,)

    @property
    def _bracketed(self) -> str:
        return f"[{self.host}]" if ":" in self.host else self.host

    def __str__(self) -> str:
        return f"{self.scheme}://{self.aliases[-1]}"


def target_of(url: str) -> str:
    """Return path and query of a URL, as a request line has them."""
    parts = urlsplit(url)
    path = parts.path or "/"
    return f"{path}?{parts.query}" if parts.query else path
