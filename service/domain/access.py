"""Who may do what: scopes, and the limits of a token to registries and repositories."""

from __future__ import annotations

import fnmatch
import hashlib
import secrets
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from service.domain.errors import InsufficientScope

SCOPES = (
    "registry:read",
    "registry:write",
    "registry:delete",
    "gc:run",
    "container:read",
    "container:write",
    "image:push",
    "job:read",
    "audit:read",
    "token:admin",
    "trust:write",
    "metrics:read",
    "admin",
)
ADMIN = "admin"
_CLASS = r"\[!?[a-z0-9._-]+\]"
GLOB = rf"(?:[a-z0-9*?]|{_CLASS})(?:[a-z0-9._/*?-]|{_CLASS}){{0,254}}"
"""What may match the name of a repository."""

TOKEN_PREFIX = "radm_"  # noqa: S105 - the prefix by which leaked tokens are recognised, no secret
TOKEN_BYTES = 32


def new_secret() -> str:
    """Return a fresh bearer token: the prefix and 256 random bits in base64url."""
    return TOKEN_PREFIX + secrets.token_urlsafe(TOKEN_BYTES)


def hash_secret(secret: str) -> str:
    """Return what is stored of a token. A fast hash is enough for 256 random bits."""
    return hashlib.sha256(secret.encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks: empty ``registries`` or ``repositories`` mean no limit; repositories are globs."""

    name: str
    scopes: frozenset[str]
    registries: tuple[str, ...] = ()
    repositories: tuple[str, ...] = ()
    expires_at: datetime | None = None
    kind: Literal["token", "oidc"] = "token"

    def holds(self, scope: str) -> bool:
        """Tell whether the caller has ``scope``; ``admin`` holds all."""
        return scope in self.scopes or ADMIN in self.scopes

    def require(self, scope: str) -> None:
        """Raise InsufficientScope unless the caller holds ``scope``."""
        if not self.holds(scope):
            raise InsufficientScope(
                f"This needs the scope {scope}; the token '{self.name}' has "
                f"{', '.join(sorted(self.scopes)) or 'none'}. Nothing was changed. "
                f"Create one with: registry-admin token create --name NAME --scope {scope}",
                {"required_scope": scope},
            )

    def sees_registry(self, registry: str) -> bool:
        """Tell whether the limits let the caller see ``registry``."""
        return not self.registries or registry in self.registries

    def sees_repository(self, repository: str) -> bool:
        """Tell whether the limits let the caller see ``repository``; ``*`` also matches ``/``."""
        if not self.repositories:
            return True
        return any(fnmatch.fnmatchcase(repository, glob) for glob in self.repositories)

    def require_within_limits(
        self, scope: str, registry: str | None, repository: str | None = None
    ) -> None:
        """Raise InsufficientScope when the token's limits leave out what was named."""
        if registry is not None and not self.sees_registry(registry):
            raise self._outside(scope, f"the registry '{registry}'", ", ".join(self.registries))
        if repository is not None and not self.sees_repository(repository):
            raise self._outside(
                scope, f"the repository '{repository}'", ", ".join(self.repositories)
            )

    def _outside(self, scope: str, what: str, limits: str) -> InsufficientScope:
        return InsufficientScope(
            f"The token '{self.name}' is limited to {limits}, which leaves out {what}. "
            "Nothing was changed. Use a token without that limit.",
            {"required_scope": scope},
        )


@dataclass(frozen=True, slots=True)
class Token:
    """A stored token, without its secret."""

    id: str
    caller: Caller
    created_at: datetime
    created_by: str
    last_used_at: datetime | None = None
