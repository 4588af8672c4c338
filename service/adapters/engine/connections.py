"""Clients of docker-py by an engine's URL. Imported late: docker-py is big, and seldom needed."""

from __future__ import annotations

import os
from typing import Any

from docker import APIClient
from docker.tls import TLSConfig
from docker.transport import SSHHTTPAdapter, UnixHTTPAdapter
from docker.utils import kwargs_from_env

from service.adapters.engine.pools import OnePool, SshPool, UnixPool
from service.settings import EngineSettings

ANY_VERSION = "1.41"
"""Else docker-py asks the engine while it is made, with time-outs and certificates not yet ours."""


def connect(settings: EngineSettings, seconds: float) -> APIClient:
    """Make a client; ``seconds`` for each answer. It has sent nothing yet, but for SSH.

    What the environment says of proxies and of certificates to trust is for others: requests
    would prefer it to the engine's own.
    """
    options: dict[str, Any] = {"base_url": settings.url, **_tls(settings)}
    client = APIClient(version=ANY_VERSION, timeout=int(seconds), **options)
    client.trust_env = False
    base = str(client.base_url)
    client.mount(base, _bettered(client.get_adapter(base), seconds))
    return client


def _bettered(made: Any, seconds: float) -> Any:  # noqa: ANN401 - an adapter of requests
    if isinstance(made, UnixHTTPAdapter):
        return OnePool(made, UnixPool("", made.socket_path, int(seconds)))
    if isinstance(made, SSHHTTPAdapter):
        return OnePool(made, SshPool(made.ssh_client, int(seconds), host=made.ssh_host))
    return made


def _tls(settings: EngineSettings) -> dict[str, Any]:
    folder = settings.certs_dir
    if folder is not None:
        pair = (str(folder / "cert.pem"), str(folder / "key.pem"))
        return {"tls": TLSConfig(pair, ca_cert=str(folder / "ca.pem"), verify=True)}
    if settings.url == os.environ.get("DOCKER_HOST"):
        return {name: value for name, value in kwargs_from_env().items() if name == "tls"}
    return {}
