"""One kept connection of the standard library, as a script would use it."""

import http.client
import json
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Self
from urllib.parse import urljoin, urlsplit

TIMEOUT = 120  # seconds


class UnexpectedAnswer(RuntimeError):
    """What was asked for did not come, so there is nothing to measure."""


class Connection:
    """Sends one request after the other; not to be shared between threads."""

    def __init__(self, url: str, headers: Mapping[str, str]) -> None:
        """Send ``headers`` with every request."""
        self._base = url
        self._headers = dict(headers)
        self._http = http.client.HTTPConnection(urlsplit(url).netloc, timeout=TIMEOUT)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._http.close()

    def get(self, path: str) -> Any:  # noqa: ANN401 - JSON
        """Return the document at ``path``."""
        return json.loads(self.ask("GET", path)[1])

    def ask(self, method: str, path: str) -> tuple[http.client.HTTPResponse, bytes]:
        """Return a successful answer and its body; raise UnexpectedAnswer."""
        self._http.request(method, path, headers=self._headers)
        answer = self._http.getresponse()
        body = answer.read()
        if answer.status != http.client.OK:
            raise UnexpectedAnswer(f"{method} {path}: {answer.status} {body[:300]!r}")
        return answer, body

    def linked(self, answer: http.client.HTTPResponse, path: str) -> str | None:
        """Return the path of the next page, as the header Link tells it."""
        link = answer.headers.get("Link", "")
        if 'rel="next"' not in link:
            return None
        parts = urlsplit(urljoin(self._base + path, link[link.index("<") + 1 : link.index(">")]))
        return f"{parts.path}?{parts.query}"
