"""Reading blobs, which many registries keep elsewhere and redirect to."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import partial
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
from service.domain.concurrency import spread
from service.domain.content import Descriptor
from service.domain.errors import BlobUnknown, RegistryAnswerInvalid
from service.domain.ports import BlobState
from service.domain.reference import Digest, Repository

Put = Callable[[Digest, bytes], None]

CONFIG_LIMIT = 4 * 1024 * 1024
REDIRECTS_LIMIT = 3
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_EMPTY = Digest.of(b"")
_NOTHING_THERE = frozenset({200, 206, 404, 416})
_SIZE = re.compile(r"bytes \d+-\d+/(\d+)")
PART = 4 * 1024 * 1024
"""Bytes of a blob read at once when it is hashed."""


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
        self._require(digest, answer.body)
        self._cache.put(digest, answer.body)
        return answer.body

    def prefetch(self, repository: Repository, configs: Iterable[Descriptor]) -> frozenset[Digest]:
        """Fetch the configs that the cache lacks, several at a time; return what is unknown."""
        distinct = {each.digest: each for each in configs}
        wanted = [each for digest, each in distinct.items() if not self._cache.has(digest)]
        with self._cache.filling() as put:
            unsettled = self._prefetched(repository, wanted, put)
        unknown = spread(partial(self._is_unknown, repository), unsettled)
        return frozenset(each.digest for each, gone in zip(unsettled, unknown, strict=True) if gone)

    def _prefetched(
        self, repository: Repository, wanted: Sequence[Descriptor], put: Put
    ) -> list[Descriptor]:
        """Ask once for each; return those that are somewhere else, or not there."""
        unsettled = []

        def take(index: int, answer: Answer) -> None:
            blob = wanted[index]
            if answer.status == HTTPStatus.OK:
                self._require(blob.digest, answer.body)
                put(blob.digest, answer.body)
            else:
                unsettled.append(blob)

        requests = [self._routes.blob(repository, each.digest, CONFIG_LIMIT) for each in wanted]
        self._conversation.ask_each(requests, take)
        return unsettled

    def _is_unknown(self, repository: Repository, config: Descriptor) -> bool:
        try:
            self.config(repository, config)
        except BlobUnknown:
            return True
        return False

    def _require(self, digest: Digest, body: bytes) -> None:
        if not digest.matches(body):
            raise self._invalid(f"other bytes than those of the blob {digest}")

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

    def check(self, repository: Repository, blob: Descriptor, *, deep: bool) -> BlobState:
        """Compare a blob's size with its descriptor's, and with ``deep`` its bytes with its digest.

        Bytes that break off, or are not there although the registry knows the blob, are missing.
        """
        try:
            answer = self._ask(self._routes.first_byte(repository, blob.digest))
            state = self._first_look(answer, blob)
            if deep and state == "sound":
                return self._hashed(repository, blob.digest)
        except AnswerBrokenOff:
            return "missing"
        return state

    def _first_look(self, answer: Answer, blob: Descriptor) -> BlobState:
        there = answer.succeeded and bool(answer.body)
        if not there and answer.status not in _NOTHING_THERE:
            raise refusal(answer, self._asked(blob.digest))
        if not there and (answer.status == HTTPStatus.NOT_FOUND or blob.digest != _EMPTY):
            return "missing"
        size = _total_size(answer) if there else 0
        return "sound" if blob.size is None or size in {None, blob.size} else "corrupt"

    def _hashed(self, repository: Repository, digest: Digest) -> BlobState:
        """Read a blob part by part, so that its size does not matter."""
        hasher, offset = hashlib.new(digest.partition(":")[0]), 0
        while True:
            answer = self._ask(self._routes.part(repository, digest, offset, PART))
            if answer.status == HTTPStatus.NOT_FOUND:
                return "missing"
            if answer.succeeded:
                hasher.update(answer.body)
                offset += len(answer.body)
            elif answer.status != HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
                raise refusal(answer, self._asked(digest))
            if answer.status != HTTPStatus.PARTIAL_CONTENT or len(answer.body) < PART:
                return "sound" if hasher.hexdigest() == digest.hex else "corrupt"

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
            before, after = Origin.of(url), Origin.of(target)
        except ValueError:
            raise self._invalid("a redirect to what is no URL") from None
        if not location or (before.secure and not after.secure):
            raise self._invalid("a redirect that leads nowhere, or away from TLS")
        return target

    def _asked(self, digest: Digest) -> Asked:
        return Asked(self._conversation.origin, "GET", f"blob {digest}", BlobUnknown)

    def _invalid(self, what: str) -> RegistryAnswerInvalid:
        return RegistryAnswerInvalid(
            f"{self._conversation.origin} answers {what}. Nothing was changed."
        )


def _total_size(answer: Answer) -> int | None:
    """Return the size of all of a blob, where the answer to a range tells it."""
    match = _SIZE.fullmatch(answer.headers.get("Content-Range", ""))
    if match:
        return int(match[1])
    length = answer.headers.get("Content-Length", "")
    return int(length) if answer.status == HTTPStatus.OK and length.isdecimal() else None
