"""Who asks, and whether they may."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping

from flask import g, request

from service.api import context
from service.api.errors import TokenRefused
from service.domain.access import Caller, Token, hash_secret
from service.domain.errors import StoreUnavailable, Unauthenticated

BEARER = re.compile(r"bearer +([A-Za-z0-9._~+/=-]+) *", re.IGNORECASE)
HOW = "Create one with: registry-admin token create --name NAME --scope SCOPE"

log = logging.getLogger(__name__)


def identify() -> Caller:
    """Find the caller by the bearer token; raise Unauthenticated or StoreUnavailable.

    The store is asked each time, so that a revoked token is refused at once in every process.
    """
    sent = request.headers.get("Authorization")
    if sent is None:
        raise Unauthenticated(f"Send the header Authorization: Bearer TOKEN. {HOW}")
    match = BEARER.fullmatch(sent)
    if match is None:
        raise TokenRefused(f"The header Authorization holds no bearer token. {HOW}")
    token = _valid(_find(match[1]))
    g.caller, g.token_id = token.caller, token.id
    return token.caller


def caller() -> Caller:
    """Give the caller of the current request, once identified."""
    found: Caller = g.caller
    return found


def uses(token_id: str) -> bool:
    """Tell whether the current request was made with this token."""
    return bool(g.token_id == token_id)


def actor() -> str | None:
    """Name the caller, None while nobody has been identified."""
    found: Caller | None = g.get("caller")
    return found.name if found else None


def admit(scope: str | None, names: Mapping[str, str]) -> None:
    """Raise InsufficientScope unless the caller holds ``scope`` and may see what the path names."""
    if scope is not None:
        caller().require(scope)
        caller().require_within_limits(scope, names.get("registry"), names.get("repository"))


def _find(secret: str) -> Token | None:
    try:
        return context.services().store.tokens.find(hash_secret(secret))
    except Exception as error:
        log.exception("the store does not tell tokens")
        raise StoreUnavailable(
            "The service's database does not answer, so nobody can be let in. Nothing was changed."
        ) from error


def _valid(token: Token | None) -> Token:
    if token is None:
        raise TokenRefused(f"The token is unknown or was revoked. {HOW}")
    expiry = token.caller.expires_at
    if expiry is not None and expiry <= context.services().clock.now():
        raise TokenRefused(f"The token '{token.caller.name}' has expired. {HOW}")
    return token
