"""Who the caller is."""

from __future__ import annotations

from service.api import auth
from service.api.base import Answer, Blueprint
from service.api.fields import listing, moment, text
from service.api.openapi import Operation
from service.domain.access import SCOPES, Caller

blueprint = Blueprint("me", "Who the caller is.")


class CallerSchema(Answer):
    """Who asks, and what they may."""

    name = text("The token's name.", "release-cleanup")
    scopes = listing(text("A scope.", "registry:read", enum=list(SCOPES)), "What it may do.")
    registries = listing(text("A registry.", "default"), "Those it is for; empty for all.")
    repositories = listing(text("A glob.", "team/*"), "Those it is for; empty for all.")
    expires_at = moment("When it ends; null for never.", nullable=True)
    kind = text("How the caller proved who they are.", "token", enum=["token", "oidc"])


def dump_caller(caller: Caller) -> dict[str, object]:
    """Lay a caller out as CallerSchema has it."""
    return {
        "name": caller.name,
        "scopes": sorted(caller.scopes),
        "registries": caller.registries,
        "repositories": caller.repositories,
        "expires_at": caller.expires_at,
        "kind": caller.kind,
    }


@blueprint.read("/v1/me", Operation("getMe", None, CallerSchema, says="The caller."))
def get_me() -> dict[str, object]:
    """Get who asks. Any valid token will do."""
    return dump_caller(auth.caller())
