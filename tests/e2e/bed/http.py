"""Plain HTTP over the standard library: what the tests trust instead of the code they test."""

import base64
import http.client
import json
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

TIMEOUT = 30  # seconds


@dataclass(frozen=True)
class Answer:
    """One whole answer; header names in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:  # noqa: ANN401 - whatever the document is
        return json.loads(self.body)


def ask(
    url: str,
    method: str = "GET",
    *,
    headers: Mapping[str, str] | None = None,
    body: bytes | None = None,
    credentials: tuple[str, str] | None = None,
    context: ssl.SSLContext | None = None,
    timeout: float = TIMEOUT,
) -> Answer:
    """Send one request on its own connection; no redirect is followed."""
    parts = urlsplit(url)
    target = f"{parts.path or '/'}{'?' + parts.query if parts.query else ''}"
    connection = connect(url, context, timeout)
    try:
        connection.request(method, target, body, basic(credentials) | dict(headers or {}))
        answer = connection.getresponse()
        found = {name.lower(): value for name, value in answer.getheaders()}
        return Answer(answer.status, found, answer.read())
    finally:
        connection.close()


def connect(
    url: str, context: ssl.SSLContext | None = None, timeout: float = TIMEOUT
) -> http.client.HTTPConnection:
    """Open nothing yet, but make the connection for the URL's scheme and host."""
    parts = urlsplit(url)
    if parts.scheme == "https":
        return http.client.HTTPSConnection(parts.netloc, timeout=timeout, context=context)
    return http.client.HTTPConnection(parts.netloc, timeout=timeout)


def basic(credentials: tuple[str, str] | None) -> dict[str, str]:
    if credentials is None:
        return {}
    packed = base64.b64encode(":".join(credentials).encode()).decode()
    return {"Authorization": f"Basic {packed}"}
