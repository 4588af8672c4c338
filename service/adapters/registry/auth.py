"""Logging in: what the registry asks for, and what we answer."""

from __future__ import annotations

from typing import Literal

from service.adapters.registry.challenge import Challenge, parse_challenges
from service.adapters.registry.credentials import Credentials
from service.adapters.registry.origin import Origin
from service.adapters.registry.tokens import TokenSource, Wanted
from service.adapters.registry.transport import Answer
from service.domain.errors import RegistryAnswerInvalid, RegistryUnauthorized

REMEMBERED_SCOPES = 2000


class Authenticator:
    """Answers a registry's challenges. Safe to share between threads.

    Nothing is sent before the registry has asked; from then on every request carries what it
    asked for.
    """

    def __init__(self, origin: Origin, credentials: Credentials, tokens: TokenSource) -> None:
        """Log in to ``origin`` as the user of ``credentials``."""
        self._origin = origin
        self._credentials = credentials
        self._tokens = tokens
        self._challenge: Challenge | None = None
        self._named_scopes: dict[str, str] = {}

    @property
    def scheme(self) -> Literal["none", "basic", "bearer"]:
        """What the registry has asked for so far."""
        if self._challenge is None:
            return "none"
        return "basic" if self._challenge.scheme == "basic" else "bearer"

    def authorization(self, scope: str) -> str | None:
        """Return the ``Authorization`` for what needs ``scope``; may ask the token server.

        Raise UpstreamFailed.
        """
        challenge = self._challenge
        if challenge is None:
            return None
        if challenge.scheme == "bearer":
            return "Bearer " + self._tokens.token(self._wanted(challenge, scope))
        login = self._credentials.login()
        return login.basic if login else None

    def learn(self, answer: Answer, scope: str, sent: str | None) -> None:
        """Take a 401 in, after which ``authorization`` is worth another try.

        ``sent``: the authorization it was the answer to. Raise RegistryUnauthorized when the
        registry asks for what we do not have, or refuses what we have.
        """
        challenge = self._chosen(answer)
        self._challenge = challenge
        if challenge.scheme == "basic":
            self._require_login(sent)
            return
        if sent:
            refused = sent.removeprefix("Bearer ")
            self._tokens.drop(self._wanted(challenge, scope), refused)
        self._remember(scope, challenge.parameters.get("scope", ""))

    def refused(self) -> RegistryUnauthorized:
        """Return the error for a registry that keeps answering 401."""
        login = self._credentials.login()
        who = f"the user {login.username} ({login.source})" if login else "anonymous access"
        return RegistryUnauthorized(
            f"{self._origin} refuses {who}. Nothing was changed. "
            "Check the registry's username and password in the settings."
        )

    def _chosen(self, answer: Answer) -> Challenge:
        """Pick the challenge to answer: a token where one is offered, else the password."""
        offered = parse_challenges(answer.headers.get("WWW-Authenticate", ""))
        by_scheme = {challenge.scheme: challenge for challenge in reversed(offered)}
        bearer = by_scheme.get("bearer")
        if bearer and bearer.parameters.get("realm"):
            self._require_safe(bearer.parameters["realm"])
            return bearer
        if "basic" in by_scheme:
            return by_scheme["basic"]
        named = ", ".join(sorted(by_scheme)) or "none"
        raise RegistryUnauthorized(
            f"{self._origin} asks for credentials in a way that is not supported ({named[:80]}): "
            "basic and bearer are. Nothing was changed."
        )

    def _require_safe(self, realm: str) -> None:
        try:
            server = Origin.of(realm)
        except ValueError:
            raise RegistryAnswerInvalid(
                f"{self._origin} names a token server that is no URL. Nothing was changed."
            ) from None
        if self._origin.secure and not server.secure:
            raise RegistryAnswerInvalid(
                f"{self._origin} names a token server without TLS, {server}: no credentials were "
                "sent to it. Nothing was changed."
            )

    def _require_login(self, sent: str | None) -> None:
        login = self._credentials.login()
        if login is None or login.identity_token:
            raise RegistryUnauthorized(
                f"{self._origin} asks for a user name and a password, and none are configured. "
                "Nothing was changed. Set the registry's username and password_file."
            )
        if login.basic == sent:
            raise self.refused()

    def _wanted(self, challenge: Challenge, scope: str) -> Wanted:
        parameters = challenge.parameters
        named = self._named_scopes.get(scope, scope)
        return Wanted(parameters["realm"], parameters.get("service", ""), named)

    def _remember(self, scope: str, named: str) -> None:
        """Keep the scope that the registry names where it is not the one we would ask for."""
        if named and named != scope and scope:
            if len(self._named_scopes) >= REMEMBERED_SCOPES:
                self._named_scopes.clear()
            self._named_scopes[scope] = named
