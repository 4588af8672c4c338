"""Container registries over HTTP: the OCI Distribution Specification 1.1, and what is beside it.

From the bottom up: ``tls`` says whom to trust, ``pools`` keeps connections, ``transport`` sends one
request, ``failures`` name what goes wrong, ``retry`` decides about another try, ``challenge``,
``credentials``, ``tokens`` and ``auth`` log in, ``turns`` bound what goes on at a time, ``volley``
sends many reads, and ``conversation`` puts these together. On top of it ``listing``, ``manifests``,
``blobs``, ``probe`` and ``writer`` each do a part of the port, ``answers`` says what refusals mean,
``client`` is the port itself.
"""

from __future__ import annotations

from urllib.parse import urlsplit

from service.adapters.cache import ContentCache
from service.adapters.registry.auth import Authenticator
from service.adapters.registry.blobs import Blobs
from service.adapters.registry.client import HttpRegistry, Parts
from service.adapters.registry.conversation import Conversation
from service.adapters.registry.credentials import (
    Credentials,
    FixedLogin,
    NoCredentials,
    PasswordFile,
)
from service.adapters.registry.docker_config import DockerConfig
from service.adapters.registry.elsewhere import Elsewhere
from service.adapters.registry.listing import Listing
from service.adapters.registry.manifests import Manifests
from service.adapters.registry.origin import Origin
from service.adapters.registry.probe import Probe
from service.adapters.registry.retry import Retrier
from service.adapters.registry.routes import Routes
from service.adapters.registry.tls import Trust
from service.adapters.registry.tokens import TokenSource
from service.adapters.registry.transport import (
    Answer,
    Limits,
    Observe,
    Request,
    Transport,
    ignore,
)
from service.settings import RegistrySettings

__all__ = ["HttpRegistry", "build_registry"]


def build_registry(
    settings: RegistrySettings,
    cache: ContentCache,
    retrier: Retrier | None = None,
    observe: Observe = ignore,
) -> HttpRegistry:
    """Build the registry that ``settings`` describe; nothing is sent yet.

    ``observe`` takes note of every request to it, or to a server that it points at. Build it in
    the process that uses it: connections must not cross a fork.
    """
    return _Builder(settings, cache, retrier or Retrier(), observe).build()


class _Builder:
    """Puts the parts of one registry together."""

    def __init__(
        self,
        settings: RegistrySettings,
        cache: ContentCache,
        retrier: Retrier,
        observe: Observe,
    ) -> None:
        self.settings = settings
        self.cache = cache
        self.retrier = retrier
        self.observe = observe
        self.origin = Origin.of(settings.url)
        self.trust = Trust(self.origin, settings.certs_dir, settings.ca_file)
        self.transport = self._transport(self.origin)
        self.elsewhere = Elsewhere(self._transport_elsewhere, retrier)

    def build(self) -> HttpRegistry:
        settings, origin, routes = self.settings, self.origin, self._routes()
        credentials = credentials_of(settings, origin)
        auth = Authenticator(origin, credentials, TokenSource(self._to_token_server, credentials))
        conversation = Conversation(self.transport, auth, self.retrier, settings.concurrency)
        parts = Parts(
            conversation=conversation,
            elsewhere=self.elsewhere,
            routes=routes,
            listing=Listing(conversation, routes),
            manifests=Manifests(conversation, routes, self.cache),
            blobs=Blobs(conversation, self.elsewhere, routes, self.cache),
            probe=Probe(conversation, routes, auth, credentials),
            credentials=credentials,
            trust=self.trust if origin.secure else None,
        )
        return HttpRegistry(settings.name, settings.url, settings.timeout_seconds, parts)

    def _routes(self) -> Routes:
        return Routes(urlsplit(self.settings.url).path.rstrip("/"))

    def _transport(self, origin: Origin, trust: Trust | None = None) -> Transport:
        limits = Limits(self.settings.timeout_seconds, self.settings.concurrency)
        return Transport(origin, trust or self.trust, limits, self.observe)

    def _transport_elsewhere(self, origin: Origin) -> Transport:
        trust = Trust(origin, self.settings.certs_dir, None, roots_of=self.trust)
        return self._transport(origin, trust)

    def _to_token_server(self, url: str, request: Request, authorization: str | None) -> Answer:
        """Send to the token server; where it is the registry itself, as to the registry."""
        if Origin.of(url) != self.origin:
            return self.elsewhere.send(url, request, authorization)
        return self.retrier.run(request.method, lambda: self.transport.send(request, authorization))


def credentials_of(settings: RegistrySettings, origin: Origin) -> Credentials:
    """Return where a registry's login comes from: a password, a file with it, or Docker's."""
    if settings.username and settings.password_file:
        return PasswordFile(settings.username, settings.password_file)
    if settings.username and settings.password is not None:
        return FixedLogin(settings.username, settings.password)
    if settings.docker_config:
        return DockerConfig(settings.docker_config, origin)
    return NoCredentials()
