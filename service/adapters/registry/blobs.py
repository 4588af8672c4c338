"""Reading blobs, which many registries keep elsewhere and redirect to."""

from __future__ import annotations

from dataclasses import replace
from http import HTTPStatus
from urllib.parse import urljoin

from service.adapters.cache import ContentCache
from service.adapters.registry.answers import Asked, refusal
from service.adapters.registry.conversation import Conversation
from service.adapters.registry.elsewhere import Elsewhere
from service.adapters.registry.failures import AnswerBrokenOff
from service.adapters.registry.origin import Origin, target_of
from service.adapters.registry.routes import Routes
from service.adapters.registry.transport import Answer, Request
from service.domain.content import Descriptor
from service.domain.errors import BlobUnknown, RegistryAnswerInvalid
from service.domain.reference import Digest, Repository

CONFIG_LIMIT = 4 * 1024 * 1024
REDIRECTS_LIMIT = 3
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_EMPTY = Digest.of(b"")


class Blobs:
    """Blobs of one registry. Safe to share between threads."""

    def __init__(
        self,
        conversation: Conversation,
        elsewhere: Elsewhere,
        routes: Routes,
        cache: ContentCache,
    ) -> None:
        """Ask by ``conversation``, follow redirects ``elsewhere``, keep configs in ``cache``."""
        self._conversation = conversation
        self._elsewhere = elsewhere
        self._routes = routes
        self._cache = cache

    def config(self, repository: Repository, descriptor: Descriptor) -> bytes:
        """Return a config's bytes, checked; raise BlobUnknown."""
        digest = descriptor.digest
        cached = self._cache.get(digest)
        if cached is not None:
            return cached
        answer = self._ask(self._routes.blob(repository, digest, CONFIG_LIMIT))
        if answer.status != HTTPStatus.OK:
            raise refusal(answer, self._asked(digest))
        if not digest.matches(answer.body):
            raise self._invalid(f"other bytes than those of the blob {digest}")
        self._cache.put(digest, answer.body)
        return answer.body

    def readable(self, repository: Repository, digest: Digest) -> bool:
        """Tell whether a byte of a blob can be read, or that it is the blob without any."""
        try:
            answer = self._ask(self._routes.first_byte(repository, digest))
        except AnswerBrokenOff:
            return False
        if answer.status in {HTTPStatus.NOT_FOUND, HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE}:
            return answer.status != HTTPStatus.NOT_FOUND and digest == _EMPTY
        if not answer.succeeded:
            raise refusal(answer, self._asked(digest))
        return bool(answer.body) or digest == _EMPTY

    def _ask(self, request: Request) -> Answer:
        """Ask, and follow redirects with no credentials of ours."""
        url = f"{self._conversation.origin}{request.target}"
        answer = self._conversation.ask(request)
        for _ in range(REDIRECTS_LIMIT):
            if answer.status not in _REDIRECTS:
                return answer
            url = self._redirected(url, answer.headers.get("Location", ""))
            answer = self._elsewhere.send(url, replace(request, target=target_of(url)))
        if answer.status in _REDIRECTS:
            raise self._invalid("more redirects than are followed when asked for a blob")
        return answer

    def _redirected(self, url: str, location: str) -> str:
        try:
            target = urljoin(url, location)
            downgrade = Origin.of(url).secure and not Origin.of(target).secure
        except ValueError:
            raise self._invalid("a redirect to what is no URL") from None
        if downgrade or not location:
            raise self._invalid("a redirect that leads nowhere, or away from TLS")
        return target

    def _asked(self, digest: Digest) -> Asked:
        return Asked(self._conversation.origin, "GET", f"blob {digest}", BlobUnknown)

    def _invalid(self, what: str) -> RegistryAnswerInvalid:
        return RegistryAnswerInvalid(
            f"{self._conversation.origin} answers {what}. Nothing was changed."
        )
