"""Bearer tokens."""

from __future__ import annotations

from datetime import datetime

from flask import Response
from marshmallow import fields as ma_fields
from marshmallow.validate import Length

from service.api import auth, context, requests
from service.api.base import Blueprint, Schema
from service.api.errors import ExpiryPassed, TokenInUse
from service.api.fields import (
    ID,
    ID_EXAMPLE,
    REGISTRY,
    TIME_EXAMPLE,
    Text,
    Time,
    about,
    moment,
    text,
    whole,
)
from service.api.me import CallerSchema, dump_caller
from service.api.openapi import Operation
from service.api.paging import Found, IdPageOptions, Options, page_of, visible_page
from service.domain.access import GLOB, SCOPES, Caller, Token, hash_secret, new_secret
from service.domain.audit import Change
from service.domain.errors import TokenUnknown
from service.domain.granting import require_grantable, within_limits

SCOPE = "token:admin"
TOKENS = "/v1/tokens"
ONE = TOKENS + "/<token_id>"
NAME = r"[A-Za-z0-9](?:[A-Za-z0-9 ._@:+-]{0,98}[A-Za-z0-9])?"
LIST_LIMIT = 100

blueprint = Blueprint("tokens", "Bearer tokens: who may do what, where, and until when.")


class TokenSchema(CallerSchema):
    """A token, without its secret."""

    id = text("Its id.", ID_EXAMPLE, pattern=whole(ID))
    created_at = moment("When it was made.")
    created_by = text("Who made it.", "bootstrap")
    last_used_at = moment("When it was last used; null for never, or unknown.", nullable=True)


class NewTokenSchema(TokenSchema):
    """A token that was just made, with its secret: the only time that it is told."""

    secret = text("What to send as the bearer token.", "radm_" + "x" * 43)


class NewTokenOptions(Schema):
    """What a token is to be."""

    shown = ("name", "scopes", "registries", "repositories")

    name = Text(
        NAME,
        "1 to 100 letters, digits, spaces and ._@:+-, with a letter or digit at both ends",
        required=True,
        metadata=about("What the audit trail calls whoever uses it.", example="release-cleanup"),
    )
    scopes = ma_fields.List(
        Text(
            "|".join(SCOPES),
            "a scope: " + ", ".join(SCOPES),
            metadata=about("A scope.", example="registry:read", enum=list(SCOPES)),
        ),
        required=True,
        validate=Length(min=1, max=LIST_LIMIT),
        metadata=about("What it may do; nothing that you may not."),
    )
    registries = ma_fields.List(
        Text(REGISTRY, "a registry's name", metadata=about("A registry.", example="default")),
        load_default=list,
        validate=Length(max=LIST_LIMIT),
        metadata=about("Registries it is for; none for all."),
    )
    repositories = ma_fields.List(
        Text(GLOB, "a glob of repository names", metadata=about("A glob.", example="team/*")),
        load_default=list,
        validate=Length(max=LIST_LIMIT),
        metadata=about("Repositories it is for; none for all."),
    )
    expires_at = Time(
        load_default=None,
        allow_none=True,
        metadata=about("When it ends; null for never.", example=TIME_EXAMPLE),
    )


def dump_token(token: Token) -> dict[str, object]:
    """Lay a token out as TokenSchema has it."""
    return {
        **dump_caller(token.caller),
        "id": token.id,
        "created_at": token.created_at,
        "created_by": token.created_by,
        "last_used_at": token.last_used_at,
    }


@blueprint.read(
    TOKENS,
    Operation(
        "listTokens",
        SCOPE,
        page_of(TokenSchema, "TokenPage"),
        says="Tokens, oldest first.",
        headers=("Link",),
    ),
    IdPageOptions,
)
def list_tokens(options: Options) -> Found:
    """List tokens, without their secrets.

    Those that reach beyond the limits of the caller's own are left out.
    """
    found, headers = visible_page(
        context.services().store.tokens.page,
        options,
        key=lambda token: token.id,
        visible=lambda token: within_limits(auth.caller(), token.caller),
    )
    return {**found, "items": [dump_token(token) for token in found["items"]]}, headers


@blueprint.read(
    ONE, Operation("getToken", SCOPE, TokenSchema, says="The token.", problems=(TokenUnknown,))
)
def get_token(token_id: str) -> dict[str, object]:
    """Get a token, without its secret."""
    return dump_token(_find(token_id))


@blueprint.change(
    TOKENS,
    Operation(
        "createToken",
        SCOPE,
        NewTokenSchema,
        method="POST",
        status=201,
        says="The token, with its secret.",
        problems=(ExpiryPassed,),
        headers=("Location",),
    ),
    action="token.create",
    options=NewTokenOptions,
    makes="token_id",
)
def create_token(
    change: Change, options: Options, token_id: str
) -> tuple[dict[str, object], int, dict[str, str]]:
    """Make a token and tell its secret, once.

    Nobody grants a scope they lack, other registries or repositories than their own, or more time
    than they have.
    """
    token, secret = _made(token_id, options), new_secret()
    change.details.update(token_id=token.id, name=token.caller.name, scopes=options["scopes"])
    context.services().store.tokens.create(change, token, hash_secret(secret))
    location = {"Location": f"{requests.path()}/{token.id}"}
    return {**dump_token(token), "secret": secret}, 201, location


@blueprint.change(
    ONE,
    Operation(
        "deleteToken",
        SCOPE,
        None,
        method="DELETE",
        status=204,
        says="The token is no longer accepted, in any process.",
        problems=(TokenUnknown, TokenInUse),
    ),
    action="token.revoke",
)
def delete_token(change: Change, token_id: str) -> Response:
    """Revoke a token, but not the one that is used to ask for it."""
    change.details["name"] = _find(token_id).caller.name
    if auth.uses(token_id):
        raise TokenInUse(
            "A token cannot revoke itself. Nothing was changed. Use another one, or: "
            f"registry-admin token revoke {token_id}"
        )
    context.services().store.tokens.revoke(change, token_id)
    return Response(status=204)


def _made(token_id: str, options: Options) -> Token:
    caller = Caller(
        name=options["name"],
        scopes=frozenset(options["scopes"]),
        registries=tuple(options["registries"]),
        repositories=tuple(options["repositories"]),
        expires_at=options["expires_at"],
    )
    giver, now = auth.caller(), context.services().clock.now()
    require_grantable(giver, caller)
    _require_future(caller.expires_at, now)
    return Token(token_id, caller, now, giver.name)


def _require_future(expires_at: datetime | None, now: datetime) -> None:
    if expires_at is not None and expires_at <= now:
        raise ExpiryPassed("The token would have expired already. Nothing was changed.")


def _find(token_id: str) -> Token:
    """Get a token; raise TokenUnknown, also for what reaches beyond the caller's limits."""
    token = context.services().store.tokens.get(token_id)
    if not within_limits(auth.caller(), token.caller):
        raise TokenUnknown(f"There is no token with the id '{token_id}'.")
    return token
