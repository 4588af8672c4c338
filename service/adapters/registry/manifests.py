"""Reading manifests: exact bytes, checked against every digest that is known of them."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from http import HTTPStatus
from typing import Literal, TypeVar

from service.adapters.cache import ContentCache
from service.adapters.registry.answers import Asked, refusal
from service.adapters.registry.conversation import Conversation
from service.adapters.registry.origin import Origin
from service.adapters.registry.routes import Routes
from service.adapters.registry.schema1 import schema1_digest
from service.adapters.registry.transport import Answer, Request
from service.domain.content import SCHEMA1_TYPES, RawManifest, media_type_of
from service.domain.errors import InvalidDigest, ManifestUnknown, RegistryAnswerInvalid
from service.domain.reference import Digest, Repository, Tag

Reference = TypeVar("Reference", Tag, Digest)
Put = Callable[[Digest, bytes], None]

REMEMBERED_TAGS = 50_000
_ELSEWHERE = frozenset({302, 303, 307, 308})
"""Object storage is where a registry sends those who ask for a blob that it has."""

_REFUSALS = frozenset({401, 403, 429, 500, 502, 503, 504})


def named(repository: Repository, reference: Tag | Digest) -> str:
    """Return ``repository:tag`` or ``repository@digest``."""
    return f"{repository}{'@' if isinstance(reference, Digest) else ':'}{reference}"


class Manifests:
    """Manifests of one registry. Safe to share between threads."""

    def __init__(self, conversation: Conversation, routes: Routes, cache: ContentCache) -> None:
        """Ask by ``conversation``, keep content in ``cache``."""
        self._conversation = conversation
        self._routes = routes
        self._cache = cache
        self._seen = _SeenTags()

    def resolve(self, repository: Repository, tag: Tag) -> Digest:
        """Ask what a tag points at now; raise ManifestUnknown.

        A tag that is new to this process is fetched, content and all, for that is one request
        where HEAD and GET are two. ``If-None-Match`` is not used: distribution 2.8 answers 304
        for a tag whose manifest is gone.
        """
        if self._knows(repository, tag):
            answer = self._conversation.ask(self._routes.manifest(repository, tag, "HEAD"))
            digest = self._told(repository, tag, answer)
            if digest:
                return digest
        return self.fetch(repository, tag).digest

    def resolve_many(self, repository: Repository, tags: Sequence[Tag]) -> dict[Tag, Digest | None]:
        """Ask likewise for many tags, several at a time; None for those that would be unknown."""
        found: dict[Tag, Digest | None] = {}
        known = [tag for tag in tags if self._knows(repository, tag)]

        def take(index: int, answer: Answer) -> None:
            digest = self._told(repository, known[index], answer)
            if digest:
                found[known[index]] = digest

        self._conversation.ask_each(self._requests(repository, known, "HEAD"), take)
        found |= self._fetch_many(repository, [tag for tag in tags if tag not in found])
        return found

    def fetch(self, repository: Repository, reference: Tag | Digest) -> RawManifest:
        """Fetch a manifest; raise ManifestUnknown, RepositoryUnknown, RegistryAnswerInvalid."""
        answer = self._conversation.ask(self._routes.manifest(repository, reference, "GET"))
        if answer.status == HTTPStatus.INTERNAL_SERVER_ERROR and isinstance(reference, Digest):
            self._require_no_blob(repository, reference)
        return self._taken(repository, reference, answer, self._cache.put)

    def _require_no_blob(self, repository: Repository, digest: Digest) -> None:
        """Raise ManifestUnknown for a config or layer: distribution 2.8 answers 500 for them."""
        answer = self._conversation.ask(self._routes.first_byte(repository, digest))
        if answer.succeeded or answer.status in _ELSEWHERE:
            raise ManifestUnknown(
                f"{self._conversation.origin} has no manifest {digest} in '{repository}': it is a "
                "blob there, a config or a layer. Nothing was changed."
            )

    def content(self, repository: Repository, digest: Digest) -> RawManifest:
        """Return a manifest by digest from the cache, else fetch it."""
        body = self._cache.get(digest)
        if body is None:
            return self.fetch(repository, digest)
        return RawManifest(digest, media_type_of(body, None), body)

    def prefetch(self, repository: Repository, digests: Iterable[Digest]) -> frozenset[Digest]:
        """Fetch what the cache lacks, several at a time; return what is unknown."""
        wanted = [digest for digest in digests if not self._cache.has(digest)]
        found = self._fetch_many(repository, wanted)
        return frozenset(wanted) - set(found.values())

    def _fetch_many(
        self, repository: Repository, references: Sequence[Reference]
    ) -> dict[Reference, Digest | None]:
        found: dict[Reference, Digest | None] = dict.fromkeys(references)
        with self._cache.filling() as put:

            def take(index: int, answer: Answer) -> None:
                with suppress(ManifestUnknown):
                    raw = self._taken(repository, references[index], answer, put)
                    found[references[index]] = raw.digest

            self._conversation.ask_each(self._requests(repository, references, "GET"), take)
        return found

    def _requests(
        self,
        repository: Repository,
        references: Iterable[Tag | Digest],
        method: Literal["GET", "HEAD"],
    ) -> list[Request]:
        return [self._routes.manifest(repository, each, method) for each in references]

    def _knows(self, repository: Repository, tag: Tag) -> bool:
        before = self._seen.get(repository, tag)
        return before is not None and self._cache.has(before)

    def _told(self, repository: Repository, tag: Tag, answer: Answer) -> Digest | None:
        """Return the digest that a HEAD tells, None where a GET has to find out.

        HEAD may be unsupported, without the header, or a 404 that has no body to say why.
        """
        if answer.status in _REFUSALS:
            raise refusal(answer, self._asked(repository, tag))
        if answer.status != HTTPStatus.OK:
            return None
        try:
            digest = Digest.parse(answer.headers.get("Docker-Content-Digest", ""))
        except InvalidDigest:
            return None
        self._seen.put(repository, tag, digest)
        return digest

    def _taken(
        self, repository: Repository, reference: Tag | Digest, answer: Answer, put: Put
    ) -> RawManifest:
        """Check what a GET brought, and keep it; raise as :meth:`fetch`."""
        if answer.status != HTTPStatus.OK:
            raise refusal(answer, self._asked(repository, reference))
        raw = checked(answer, reference, self._conversation.origin)
        # The cache keeps bytes alone: what does not tell its own type is not for it.
        if media_type_of(raw.body, None) == raw.media_type and raw.digest.matches(raw.body):
            put(raw.digest, raw.body)
        if isinstance(reference, Tag):
            self._seen.put(repository, reference, raw.digest)
        return raw

    def _asked(self, repository: Repository, reference: Tag | Digest) -> Asked:
        what = f"manifest {named(repository, reference)}"
        return Asked(self._conversation.origin, "GET", what, ManifestUnknown, repository)


def checked(answer: Answer, reference: Tag | Digest, origin: Origin) -> RawManifest:
    """Return the manifest an answer holds; raise RegistryAnswerInvalid unless its digests agree.

    They are the sha256 of the bytes, the one that was asked for, and the one in the answer's
    ``Docker-Content-Digest``, which may be missing.
    """
    media_type = media_type_of(answer.body, answer.headers.get("Content-Type"))
    if not answer.body.lstrip().startswith(b"{"):
        raise _invalid(origin, reference, "what is no JSON object")
    header = answer.headers.get("Docker-Content-Digest", "")
    digest = (
        _schema1_digest(answer.body, header)
        if media_type in SCHEMA1_TYPES
        else _plain_digest(answer.body, header)
    )
    if digest is None:
        raise _invalid(origin, reference, "bytes whose digest is not the one it names")
    if isinstance(reference, Digest) and digest != reference:
        raise _invalid(origin, reference, f"the manifest {digest}, which was not asked for")
    return RawManifest(digest, media_type, answer.body)


def _plain_digest(body: bytes, header: str) -> Digest | None:
    digest = Digest.of(body)
    if header in {"", digest}:
        return digest
    try:
        return digest if Digest.listed(header).matches(body) else None
    except InvalidDigest:
        return None


def _schema1_digest(body: bytes, header: str) -> Digest | None:
    # What was signed cannot always be told from what is served: the registry's word counts.
    try:
        return Digest.parse(header) if header else schema1_digest(body)
    except (ValueError, InvalidDigest):
        return None


def _invalid(origin: Origin, reference: Tag | Digest, what: str) -> RegistryAnswerInvalid:
    return RegistryAnswerInvalid(
        f"{origin} answers {what} when asked for the manifest {reference}. Nothing was changed."
    )


class _SeenTags:
    """The digests that tags had when they were last looked at; forgets the oldest."""

    def __init__(self) -> None:
        self._digests: OrderedDict[tuple[Repository, Tag], Digest] = OrderedDict()
        self._mutex = threading.Lock()

    def get(self, repository: Repository, tag: Tag) -> Digest | None:
        return self._digests.get((repository, tag))

    def put(self, repository: Repository, tag: Tag, digest: Digest) -> None:
        with self._mutex:
            self._digests[repository, tag] = digest
            self._digests.move_to_end((repository, tag))
            while len(self._digests) > REMEMBERED_TAGS:
                self._digests.popitem(last=False)
