"""Reading manifests: exact bytes, checked against every digest that is known of them."""

from __future__ import annotations

import threading
from collections import OrderedDict
from http import HTTPStatus

from service.adapters.cache import ContentCache
from service.adapters.registry.answers import Asked, refusal
from service.adapters.registry.conversation import Conversation
from service.adapters.registry.origin import Origin
from service.adapters.registry.routes import Routes
from service.adapters.registry.schema1 import schema1_digest
from service.adapters.registry.transport import Answer
from service.domain.content import SCHEMA1_TYPES, RawManifest, media_type_of
from service.domain.errors import InvalidDigest, ManifestUnknown, RegistryAnswerInvalid
from service.domain.reference import Digest, Repository, Tag

REMEMBERED_TAGS = 50_000
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
        before = self._seen.get(repository, tag)
        if before and self._cache.has(before):
            digest = self._head(repository, tag)
            if digest:
                self._seen.put(repository, tag, digest)
                return digest
        return self.fetch(repository, tag).digest

    def fetch(self, repository: Repository, reference: Tag | Digest) -> RawManifest:
        """Fetch a manifest; raise ManifestUnknown, RepositoryUnknown, RegistryAnswerInvalid."""
        request = self._routes.manifest(repository, reference, "GET")
        answer = self._conversation.ask(request)
        if answer.status != HTTPStatus.OK:
            raise refusal(answer, self._asked(repository, reference))
        raw = checked(answer, reference, self._conversation.origin)
        self._keep(raw)
        if isinstance(reference, Tag):
            self._seen.put(repository, reference, raw.digest)
        return raw

    def content(self, repository: Repository, digest: Digest) -> RawManifest:
        """Return a manifest by digest from the cache, else fetch it."""
        body = self._cache.get(digest)
        if body is None:
            return self.fetch(repository, digest)
        return RawManifest(digest, media_type_of(body, None), body)

    def _head(self, repository: Repository, tag: Tag) -> Digest | None:
        """Return the digest that a HEAD tells, None where a GET has to find out.

        HEAD may be unsupported, without the header, or a 404 that has no body to say why.
        """
        answer = self._conversation.ask(self._routes.manifest(repository, tag, "HEAD"))
        if answer.status in _REFUSALS:
            raise refusal(answer, self._asked(repository, tag))
        if answer.status != HTTPStatus.OK:
            return None
        try:
            return Digest.parse(answer.headers.get("Docker-Content-Digest", ""))
        except InvalidDigest:
            return None

    def _keep(self, raw: RawManifest) -> None:
        # The cache keeps bytes alone: what does not tell its own type is not for it.
        if media_type_of(raw.body, None) == raw.media_type and raw.digest.matches(raw.body):
            self._cache.put(raw.digest, raw.body)

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
