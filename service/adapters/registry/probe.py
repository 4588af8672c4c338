"""How a registry is, found out without changing anything."""

from __future__ import annotations

import logging
from datetime import UTC, datetime
from http import HTTPStatus

from service.adapters.registry.answers import UNSUPPORTED, Asked, error_codes, refusal
from service.adapters.registry.auth import Authenticator
from service.adapters.registry.certificates import inspect
from service.adapters.registry.conversation import Conversation
from service.adapters.registry.credentials import Credentials
from service.adapters.registry.routes import Routes
from service.adapters.registry.tls import Trust
from service.adapters.registry.transport import Answer
from service.domain.errors import (
    ManifestUnknown,
    RegistryTlsUntrusted,
    RegistryUnauthorized,
    UpstreamFailed,
)
from service.domain.ports import AuthState, RegistryState, RegistryStatus, TlsState, Writability
from service.domain.reference import Digest, Repository

NO_MANIFEST = Digest("sha256:" + "0" * 64)
SOME_REPOSITORY = Repository("registry-admin/probe")
UNTOLD = Writability(delete_enabled=None, read_only=False)

_PASSING = frozenset({429, 500, 502, 503, 504})

log = logging.getLogger(__name__)


class Probe:
    """Asks one registry how it is. Safe to share between threads."""

    def __init__(
        self,
        conversation: Conversation,
        routes: Routes,
        auth: Authenticator,
        credentials: Credentials,
    ) -> None:
        """Ask by ``conversation``, which logs in by ``auth`` as the user of ``credentials``."""
        self._conversation = conversation
        self._routes = routes
        self._auth = auth
        self._credentials = credentials

    def writability(self, repository: Repository | None) -> Writability:
        """Find out by deleting what cannot be there, harmless under any repository's name.

        With deletion off that is 405 and a code, on a read-only registry 405 in plain text,
        else 404. Who may not try learns nothing.
        """
        request = self._routes.delete(repository or SOME_REPOSITORY, NO_MANIFEST)
        try:
            answer = self._conversation.ask(request)
        except RegistryUnauthorized:
            return UNTOLD
        if answer.status in _PASSING:
            origin = self._conversation.origin
            raise refusal(answer, Asked(origin, "GET", "manifest", ManifestUnknown))
        return _understood(answer)

    def state(self, trust: Trust | None, timeout_seconds: float) -> RegistryState:
        """Ask once, and shake hands where there is TLS; raise nothing for what goes wrong."""
        status, api_version, problem = self._status()
        up = status == "up"
        writability = self._writability() if up else None
        if writability and writability.read_only:
            status = "read-only"
        return RegistryState(
            status=status,
            api_version=api_version,
            writability=writability,
            auth=self._auth_state(reached=up or status == "unauthorized"),
            tls=self._tls_state(trust, timeout_seconds),
            checked_at=datetime.now(UTC),
            problem=problem,
        )

    def _status(self) -> tuple[RegistryStatus, str | None, str | None]:
        """How it is, the API it speaks, and what is wrong."""
        try:
            answer = self._conversation.ask_once(self._routes.ping())
        except RegistryTlsUntrusted as error:
            return "untrusted", None, error.detail
        except RegistryUnauthorized as error:
            return "unauthorized", None, error.detail
        except UpstreamFailed as error:
            log.info("%s", error)
            return "down", None, error.detail
        version = answer.headers.get("Docker-Distribution-Api-Version")
        if answer.status == HTTPStatus.OK:
            return "up", version, None
        problem = f"{self._conversation.origin} answers GET /v2/ with {answer.status}."
        forbidden = answer.status == HTTPStatus.FORBIDDEN
        return ("unauthorized", None, problem) if forbidden else ("down", version, problem)

    def _writability(self) -> Writability | None:
        try:
            return self.writability(None)
        except UpstreamFailed:
            return None

    def _auth_state(self, *, reached: bool) -> AuthState:
        scheme = self._auth.scheme if reached else None
        try:
            login = self._credentials.login()
        except RegistryUnauthorized:
            return AuthState(scheme)
        return AuthState(scheme, login.username, login.source) if login else AuthState(scheme)

    def _tls_state(self, trust: Trust | None, timeout_seconds: float) -> TlsState | None:
        return inspect(self._conversation.origin, trust, timeout_seconds) if trust else None


def _understood(answer: Answer) -> Writability:
    codes = error_codes(answer)
    if answer.status == HTTPStatus.METHOD_NOT_ALLOWED and not codes:
        return Writability(delete_enabled=None, read_only=True)
    if answer.status in {HTTPStatus.METHOD_NOT_ALLOWED, HTTPStatus.BAD_REQUEST}:
        return (
            Writability(delete_enabled=False, read_only=False) if UNSUPPORTED in codes else UNTOLD
        )
    if answer.status in {HTTPStatus.NOT_FOUND, HTTPStatus.ACCEPTED}:
        return Writability(delete_enabled=True, read_only=False)
    return UNTOLD
