"""Who may do what: scopes, limits, and tokens nobody can guess."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.domain.access import (
    ADMIN,
    SCOPES,
    TOKEN_PREFIX,
    Caller,
    hash_secret,
    new_secret,
)
from service.domain.errors import InsufficientScope

ANYBODY = Caller("anybody", frozenset())


def caller(*scopes: str) -> Caller:
    return replace(ANYBODY, scopes=frozenset(scopes))


# Scopes.


@pytest.mark.parametrize("scope", SCOPES)
@pytest.mark.parametrize("held", [None, *SCOPES])
def test_a_scope_is_held_by_itself_and_by_admin_alone(scope: str, held: str | None) -> None:
    who = caller(*([held] if held else []))
    assert who.holds(scope) == (held in {scope, ADMIN})


def test_no_scope_holds_another_by_the_look_of_it() -> None:
    assert not caller("registry:read").holds("registry")
    assert not caller("registry").holds("registry:read")
    assert not caller("registry:*").holds("registry:read")
    assert not caller("ADMIN").holds("registry:read")


def test_what_is_lacking_is_named() -> None:
    caller("registry:read", "gc:run").require("gc:run")
    with pytest.raises(InsufficientScope) as caught:
        caller("registry:read").require("registry:delete")
    assert caught.value.members == {"required_scope": "registry:delete"}
    assert "registry:delete" in str(caught.value)
    with pytest.raises(InsufficientScope) as caught:
        ANYBODY.require("admin")
    assert "none" in str(caught.value)


# Limits.


def test_no_limits_are_no_limits() -> None:
    assert ANYBODY.sees_registry("any")
    assert ANYBODY.sees_repository("any/thing")
    ANYBODY.require_within_limits("registry:read", "any", "any/thing")
    ANYBODY.require_within_limits("registry:read", None)


@pytest.mark.parametrize(
    ("glob", "seen", "hidden"),
    [
        ("team/app", ["team/app"], ["team/app2", "team/ap", "x/team/app", "team/app/sub"]),
        ("team/*", ["team/app", "team/app/sub"], ["team", "teams/app", "x/team/app"]),
        ("*/app", ["team/app", "a/b/app"], ["app", "team/app/x"]),
        ("*", ["a", "a/b/c"], []),
        ("t?am", ["team", "toam"], ["tam", "teeam", "t/m"]),
        ("[ab]/x", ["a/x", "b/x"], ["c/x", "[ab]/x"]),
        ("[!ab]/x", ["c/x"], ["a/x"]),
        ("a.b", ["a.b"], ["axb"]),
        ("Team/*", [], ["team/app"]),
        ("[", [], ["a"]),
    ],
)
def test_repositories_are_limited_by_globs(glob: str, seen: list[str], hidden: list[str]) -> None:
    limited = replace(ANYBODY, repositories=(glob,))
    assert [name for name in seen + hidden if limited.sees_repository(name)] == seen


def test_several_limits_add_up() -> None:
    limited = replace(ANYBODY, registries=("one", "two"), repositories=("a/*", "b"))
    assert [name for name in ("one", "two", "three", "on") if limited.sees_registry(name)] == [
        "one",
        "two",
    ]
    assert [name for name in ("a/x", "b", "b/x", "c") if limited.sees_repository(name)] == [
        "a/x",
        "b",
    ]


def test_registries_are_limited_by_name_not_by_glob() -> None:
    limited = replace(ANYBODY, registries=("*", "on?"))
    assert not limited.sees_registry("one")
    assert limited.sees_registry("*")


@pytest.mark.parametrize("scopes", [frozenset[str](), frozenset({ADMIN})])
@pytest.mark.parametrize(
    ("registry", "repository", "inside"),
    [
        (None, None, True),
        ("one", None, True),
        ("one", "team/app", True),
        (None, "team/app", True),
        ("two", None, False),
        ("two", "team/app", False),
        ("one", "other/app", False),
        (None, "other/app", False),
    ],
)
def test_limits_bind_everybody_an_admin_too(
    scopes: frozenset[str], registry: str | None, repository: str | None, *, inside: bool
) -> None:
    limited = Caller("limited", scopes, registries=("one",), repositories=("team/*",))
    if inside:
        limited.require_within_limits("registry:read", registry, repository)
        return
    with pytest.raises(InsufficientScope) as caught:
        limited.require_within_limits("registry:read", registry, repository)
    assert caught.value.members == {"required_scope": "registry:read"}


@given(st.text(), st.lists(st.text(), max_size=3))
def test_any_glob_and_any_name_can_be_compared(name: str, globs: list[str]) -> None:
    seen = replace(ANYBODY, repositories=tuple(globs)).sees_repository(name)
    assert seen or globs


# Secrets.


def test_secrets_are_recognised_long_and_never_the_same() -> None:
    secrets = {new_secret() for _ in range(100)}
    assert len(secrets) == 100
    for secret in secrets:
        assert secret.startswith(TOKEN_PREFIX)
        assert len(secret) == len(TOKEN_PREFIX) + 43  # 256 bits in base64url
        assert secret.isascii()


def test_what_is_stored_is_the_sha256_of_the_secret() -> None:
    secret = new_secret()
    assert hash_secret(secret) == hashlib.sha256(secret.encode()).hexdigest()
    assert secret not in hash_secret(secret)
    assert hash_secret(secret) != hash_secret(new_secret())
