"""Clients of docker-py by an engine's URL. Imported late: docker-py is big, and seldom needed."""

from __future__ import annotations

import os
from typing import Any

from docker import APIClient
from docker.tls import TLSConfig
from docker.transport import UnixHTTPAdapter
from docker.utils import kwargs_from_env

from service.settings import EngineSettings

UNIX = "http+docker://"
"""Where docker-py mounts what connects to a socket."""


class _OnePool(UnixHTTPAdapter):
    """Uses connections again: docker-py keeps a pool for each URL, and no URL comes twice."""

    def get_connection(self, url: str | bytes, proxies: Any = None) -> Any:  # noqa: ANN401 - as there
        del url
        return super().get_connection(UNIX, proxies)


def connect(settings: EngineSettings, seconds: float) -> APIClient:
    """Make a client that has agreed with its engine on a version; ``seconds`` for each answer."""
    options: dict[str, Any] = {"base_url": settings.url, **_tls(settings)}
    client = APIClient(version="auto", timeout=int(seconds), **options)
    found = client.get_adapter(str(client.base_url))
    if isinstance(found, UnixHTTPAdapter):
        client.mount(UNIX, _OnePool(f"http+unix://{found.socket_path}", int(seconds)))
        found.close()
    return client


def _tls(settings: EngineSettings) -> dict[str, Any]:
    folder = settings.certs_dir
    if folder is not None:
        pair = (str(folder / "cert.pem"), str(folder / "key.pem"))
        return {"tls": TLSConfig(pair, ca_cert=str(folder / "ca.pem"), verify=True)}
    if settings.url == os.environ.get("DOCKER_HOST"):
        return {name: value for name, value in kwargs_from_env().items() if name == "tls"}
    return {}
