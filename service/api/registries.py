"""The configured registries and how they are."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from marshmallow import fields as ma_fields

from service.api import auth, context
from service.api.base import Answer, Blueprint
from service.api.fields import listing, moment, text, truth
from service.api.openapi import Operation
from service.api.paging import Found, Options, PageOptions, page, page_of, sliced
from service.domain.errors import UpstreamFailed
from service.domain.ports import AuthState, Registry, RegistryState

READ = "registry:read"
REGISTRIES = "/v1/registries"
ONE = REGISTRIES + "/<registry>"
PATIENCE_SECONDS = 15.0
"""How long registries may take to tell how they are; whoever takes longer is down."""
WIDTH = 16

blueprint = Blueprint("registries", "The configured registries and how they are.")


class AuthStateSchema(Answer):
    """How the registry asks for credentials, and where the service has them from."""

    scheme = text(
        "How it asks; null while that is unknown.",
        "basic",
        nullable=True,
        enum=["none", "basic", "bearer", None],
    )
    username = text("Who the service is to it.", "ci", nullable=True)
    source = text("Where the credentials come from.", "password_file", nullable=True)


class TlsSchema(Answer):
    """The registry's certificate, and the files the service trusts and presents."""

    verified = truth("Whether it is trusted; null if unknown.", example=True, nullable=True)
    issuer = text("Who issued it.", "CN=Example CA", nullable=True)
    not_after = moment("Until when it is valid.", nullable=True)
    ca_files = listing(text("A file.", "ca.crt"), "CA roots trusted besides the system's.")
    client_cert = text("The client certificate presented.", None, nullable=True)


class RegistrySchema(Answer):
    """A configured registry as it answers now."""

    name = text("Its configured name.", "default")
    url = text("Its base URL.", "http://127.0.0.1:5000")
    status = text("How it is.", "up", enum=["up", "read-only", "unauthorized", "untrusted", "down"])
    problem = text("What is wrong, where it is not up; else null.", None, nullable=True)
    api_version = text("The API it speaks.", "registry/2.0", nullable=True)
    version = text("Its software's version; null if unknown.", "2.8.2", nullable=True)
    delete_enabled = ma_fields.Boolean(
        allow_none=True,
        metadata={
            "description": "Whether it lets anything be deleted; null if unknown.",
            "examples": [True],
        },
    )
    read_only = truth("Whether it lets nothing be changed.", example=False)
    auth = ma_fields.Nested(AuthStateSchema)
    tls = ma_fields.Nested(TlsSchema, allow_none=True)
    container = text("Its container; null where none is configured.", "registry", nullable=True)
    checked_at = moment("When it was asked.")


@dataclass(frozen=True, slots=True)
class Seen:
    """A registry and what it answered."""

    name: str
    url: str
    state: RegistryState
    version: str | None


@blueprint.read(
    REGISTRIES,
    Operation(
        "listRegistries",
        READ,
        page_of(RegistrySchema, "RegistryPage"),
        says="The registries, sorted by name.",
        headers=("Link",),
    ),
    PageOptions,
)
def list_registries(options: Options) -> Found:
    """List the registries and how they are, all asked at once.

    Those that the token is not for are left out.
    """
    registries, sees = context.services().registries, auth.caller().sees_registry
    names = [name for name in registries.names() if sees(name)]
    found, headers = page(sliced(names, str), options, key=str)
    seen = look([registries.get(name) for name in found["items"]])
    return {**found, "items": [dump_registry(one) for one in seen]}, headers


@blueprint.read(ONE, Operation("getRegistry", READ, RegistrySchema, says="The registry."))
def get_registry(registry: Registry) -> dict[str, object]:
    """Get a registry and how it is."""
    return dump_registry(look([registry])[0])


def look(registries: Sequence[Registry]) -> list[Seen]:
    """Ask registries how they are, all at once, for PATIENCE_SECONDS at most."""
    versions = context.services().registries
    pool = ThreadPoolExecutor(max_workers=WIDTH)
    states = [pool.submit(registry.state) for registry in registries]
    known = [pool.submit(versions.version, registry.name) for registry in registries]
    asked: list[Future[Any]] = [*states, *known]
    wait(asked, PATIENCE_SECONDS)
    pool.shutdown(wait=False, cancel_futures=True)
    return [
        Seen(registry.name, registry.url, _state(state), _version(version))
        for registry, state, version in zip(registries, states, known, strict=True)
    ]


def _state(future: Future[RegistryState]) -> RegistryState:
    if future.done() and not future.cancelled():
        return future.result()
    now = context.services().clock.now()
    slow = f"It has not answered within {PATIENCE_SECONDS:.0f} s."
    return RegistryState("down", None, None, AuthState(None), None, now, slow)


def _version(future: Future[str | None]) -> str | None:
    if future.done() and not future.cancelled():
        with suppress(UpstreamFailed):  # an engine that is away makes it unknown, no more
            return future.result()
    return None


def dump_registry(seen: Seen) -> dict[str, object]:
    """Lay a registry out as RegistrySchema has it."""
    state = seen.state
    writability = state.writability
    return {
        "name": seen.name,
        "url": seen.url,
        "status": state.status,
        "problem": state.problem,
        "api_version": state.api_version,
        "version": seen.version,
        "delete_enabled": writability.delete_enabled if writability else None,
        "read_only": state.status == "read-only",
        "auth": state.auth,
        "tls": state.tls,
        "container": context.services().registries.container(seen.name),
        "checked_at": state.checked_at,
    }
