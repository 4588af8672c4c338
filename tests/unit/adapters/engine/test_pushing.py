"""What an engine says of a push that failed, in its own words, and what that means."""

from __future__ import annotations

import base64
import json

import pytest

from service.adapters.engine.failures import filtered, push_failure, refusal
from service.adapters.engine.pushing import authorization
from service.domain.engine import RegistryLogin
from service.domain.errors import (
    EngineRefused,
    EngineUnreachable,
    PushFailed,
    RegistryAdminError,
    RegistryReadOnly,
    RegistryTlsUntrusted,
    RegistryUnauthorized,
    RegistryUnreachable,
)

HOST = "registry.example:5443"
SAID: list[tuple[str, type[RegistryAdminError], str]] = [
    (
        f'Get "https://{HOST}/v2/": x509: certificate signed by unknown authority',
        RegistryTlsUntrusted,
        f"/etc/docker/certs.d/{HOST}/ca.crt",
    ),
    (
        f'Get "https://{HOST}/v2/": http: server gave HTTP response to HTTPS client',
        RegistryTlsUntrusted,
        f'"insecure-registries": ["{HOST}"]',
    ),
    (f'Get "http://{HOST}/v2/": no basic auth credentials', RegistryUnauthorized, "password"),
    ("unauthorized: authentication required", RegistryUnauthorized, "docker_config"),
    ("denied: requested access to the resource is denied", RegistryUnauthorized, "password"),
    (
        'error parsing HTTP 405 response body: invalid character "M": "Method not allowed"',
        RegistryReadOnly,
        "read-only",
    ),
    (
        f'Get "http://{HOST}/v2/": dial tcp 10.0.0.1:5443: connect: connection refused',
        RegistryUnreachable,
        f"as {HOST}",
    ),
    ("received unexpected HTTP status: 500 Internal Server Error", PushFailed, "log"),
]


@pytest.mark.parametrize(("message", "kind", "hint"), SAID)
def test_a_failed_push_is_told_with_what_to_do(
    message: str, kind: type[RegistryAdminError], hint: str
) -> None:
    error = push_failure("local", HOST, message)
    assert type(error) is kind
    assert hint in error.detail
    assert "'local'" in error.detail
    assert "No tag was changed" in error.detail


def test_credentials_go_as_the_engine_wants_them() -> None:
    def said(login: RegistryLogin | None) -> object:
        return json.loads(base64.urlsafe_b64decode(authorization(login, HOST)))

    assert said(None) == {}
    assert said(RegistryLogin("me", "ü>>?")) == {
        "username": "me",
        "password": "ü>>?",
        "serveraddress": HOST,
    }
    assert said(RegistryLogin("<token>", "t", identity_token=True)) == {
        "identitytoken": "t",
        "serveraddress": HOST,
    }


def test_what_a_filter_forbids_names_the_call() -> None:
    error = filtered("local", "POST /containers/create", "not allowed")
    assert isinstance(error, EngineRefused)
    for words in ("POST /containers/create", "not allowed", "deploy/socket-proxy"):
        assert words in error.detail


def test_an_engine_that_is_gone_behind_a_proxy_is_unreachable() -> None:
    gone = refusal("local", 503, "<html><body><h1>503 Service Unavailable</h1></body></html>")
    assert isinstance(gone, EngineUnreachable)
    own = refusal("local", 503, "This node is not a swarm manager.")
    assert isinstance(own, EngineRefused)
