"""A registry over HTTP: the Registry port, each part of which is a module beside this one."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus

from service.adapters.registry.answers import Asked, refusal
from service.adapters.registry.blobs import Blobs
from service.adapters.registry.conversation import Conversation
from service.adapters.registry.credentials import Credentials
from service.adapters.registry.elsewhere import Elsewhere
from service.adapters.registry.listing import Listing
from service.adapters.registry.manifests import Manifests
from service.adapters.registry.pages import follow
from service.adapters.registry.probe import Probe
from service.adapters.registry.routes import Routes
from service.adapters.registry.tls import Trust
from service.adapters.registry.transport import Request
from service.adapters.registry.writer import HttpRegistryWriter
from service.domain.audit import Change
from service.domain.content import OCI_INDEX, Descriptor, RawManifest, parse_manifest
from service.domain.engine import RegistryLogin
from service.domain.errors import ManifestUnknown
from service.domain.ports import BlobState, RegistryState, RegistryWriter, Writability
from service.domain.reference import Digest, Repository, Tag

_NO_REFERRERS = frozenset({400, 404, 405, 501})


@dataclass(frozen=True, slots=True)
class Parts:
    """What a registry is made of."""

    conversation: Conversation
    elsewhere: Elsewhere
    routes: Routes
    listing: Listing
    manifests: Manifests
    blobs: Blobs
    probe: Probe
    credentials: Credentials
    trust: Trust | None


class HttpRegistry:
    """The Registry port over HTTP. Safe to share between threads, not over a fork."""

    def __init__(self, name: str, url: str, timeout_seconds: float, parts: Parts) -> None:
        """Be the registry configured as ``name``, reached through ``parts``."""
        self._name = name
        self._url = url
        self._timeout_seconds = timeout_seconds
        self._parts = parts

    @property
    def name(self) -> str:
        """The name it is configured under."""
        return self._name

    @property
    def url(self) -> str:
        """Its base URL, without credentials."""
        return self._url

    def login(self) -> RegistryLogin | None:
        """Who we are to it, as the settings say now; raise RegistryUnauthorized."""
        login = self._parts.credentials.login()
        if login is None:
            return None
        return RegistryLogin(login.username, login.secret, login.identity_token)

    def state(self) -> RegistryState:
        """Ask how it is; never raises, ``status`` says what is wrong."""
        return self._parts.probe.state(self._parts.trust, self._timeout_seconds)

    def writability(self, repository: Repository | None = None) -> Writability:
        """Find out, without changing anything, whether deletion is on and writing possible."""
        return self._parts.probe.writability(repository)

    def repositories(self) -> Iterator[Repository]:
        """Yield the catalog, page by page; raise CatalogUnsupported."""
        return self._parts.listing.repositories()

    def tags(self, repository: Repository) -> Sequence[Tag]:
        """List tags, none for an emptied repository; raise RepositoryUnknown."""
        return self._parts.listing.tags(repository)

    def resolve(self, repository: Repository, tag: Tag) -> Digest:
        """Ask, now, what a tag points at; raise ManifestUnknown."""
        return self._parts.manifests.resolve(repository, tag)

    def resolve_many(
        self, repository: Repository, tags: Sequence[Tag]
    ) -> Mapping[Tag, Digest | None]:
        """Ask likewise for many tags at once; None for those that are unknown or dangle."""
        return self._parts.manifests.resolve_many(repository, tags)

    def manifest(self, repository: Repository, reference: Tag | Digest) -> RawManifest:
        """Fetch a manifest, now, checked; raise ManifestUnknown or RepositoryUnknown."""
        return self._parts.manifests.fetch(repository, reference)

    def content(self, repository: Repository, digest: Digest) -> RawManifest:
        """A manifest by digest, from the cache where it is there."""
        return self._parts.manifests.content(repository, digest)

    def config(self, repository: Repository, descriptor: Descriptor) -> bytes:
        """An image's config, cached likewise; raise BlobUnknown."""
        return self._parts.blobs.config(repository, descriptor)

    def prefetch(
        self, repository: Repository, manifests: Collection[Digest], configs: Collection[Descriptor]
    ) -> frozenset[Digest]:
        """Fetch into the cache, many at once, what it lacks; return what is unknown."""
        unknown = self._parts.manifests.prefetch(repository, manifests)
        return unknown | self._parts.blobs.prefetch(repository, configs)

    def blob_readable(self, repository: Repository, digest: Digest) -> bool:
        """Tell whether a blob's bytes can be read, by reading the first."""
        return self._parts.blobs.readable(repository, digest)

    def check_blob(self, repository: Repository, blob: Descriptor, *, deep: bool) -> BlobState:
        """Look at a blob's first byte and size, with ``deep`` at all its bytes."""
        return self._parts.blobs.check(repository, blob, deep=deep)

    def referrers(self, repository: Repository, digest: Digest) -> Sequence[Descriptor] | None:
        """What the referrers API lists, each once; None where it is not offered, which is a 404."""
        conversation = self._parts.conversation
        found: dict[Digest, Descriptor] = {}

        def first(_n: int | None) -> Request:
            return self._parts.routes.referrers(repository, digest)

        for page in follow(conversation.ask, first, conversation.origin):
            if page.status in _NO_REFERRERS and not found:
                return None
            if page.status != HTTPStatus.OK:
                what = f"referrers of {repository}@{digest}"
                asked = Asked(conversation.origin, "GET", what, ManifestUnknown, repository)
                raise refusal(page, asked)
            index = parse_manifest(RawManifest(Digest.of(page.body), OCI_INDEX, page.body))
            found |= {each.digest: each for each in index.children}
        return list(found.values())

    def writer(self, change: Change) -> RegistryWriter:
        """Open the registry for an audited change."""
        return HttpRegistryWriter(self._parts.conversation, self._parts.routes, change)

    def close(self) -> None:
        """Close idle connections; the registry can be used on."""
        self._parts.conversation.close()
        self._parts.elsewhere.close()
