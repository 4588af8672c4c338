from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta, timezone

import pytest

from service.domain.access import Caller, Token
from service.domain.audit import Change
from service.domain.errors import TokenUnknown
from tests.contract.store.conftest import START, HandClock, WholeStore


def token(number: int = 1, **caller: object) -> Token:
    known = {"name": f"token {number}", "scopes": frozenset({"registry:read", "gc:run"})}
    return Token(f"{number:032x}", Caller(**{**known, **caller}), START, "cli:root")  # type: ignore[arg-type]


def test_a_token_is_found_by_the_hash_of_its_secret(store: WholeStore, change: Change) -> None:
    limited = token(
        registries=("default", "other"),
        repositories=("team/*", "a"),
        expires_at=START + timedelta(days=1),
    )
    store.tokens.create(change, limited, "hash-1")
    store.tokens.create(change, token(2), "hash-2")
    found = store.tokens.find("hash-1")
    assert found is not None
    assert replace(found, last_used_at=None) == limited
    assert store.tokens.find("hash-3") is None


def test_an_expired_token_is_found_too(store: WholeStore, change: Change, clock: HandClock) -> None:
    store.tokens.create(change, token(expires_at=START), "hash")
    clock.move(days=10)
    assert store.tokens.find("hash") is not None


def test_names_need_not_be_unique(store: WholeStore, change: Change) -> None:
    store.tokens.create(change, token(1, name="same"), "hash-1")
    store.tokens.create(change, token(2, name="same"), "hash-2")
    assert [one.caller.name for one in store.tokens.page(10, None)] == ["same", "same"]


def test_a_revoked_token_is_gone(store: WholeStore, change: Change) -> None:
    store.tokens.create(change, token(1), "hash-1")
    store.tokens.create(change, token(2), "hash-2")
    store.tokens.revoke(change, token(1).id)
    assert store.tokens.find("hash-1") is None
    assert store.tokens.find("hash-2") is not None
    with pytest.raises(TokenUnknown):
        store.tokens.get(token(1).id)
    with pytest.raises(TokenUnknown):
        store.tokens.revoke(change, token(1).id)


def test_get_gives_a_token_by_its_id(store: WholeStore, change: Change) -> None:
    store.tokens.create(change, token(1), "hash-1")
    assert store.tokens.get(token(1).id) == token(1)


def test_pages_are_sorted_by_id_and_complete(store: WholeStore, change: Change) -> None:
    for number in (3, 1, 5, 2, 4):
        store.tokens.create(change, token(number), f"hash-{number}")
    first = store.tokens.page(2, None)
    second = store.tokens.page(2, first[-1].id)
    third = store.tokens.page(2, second[-1].id)
    assert [one.id for one in (*first, *second, *third)] == [
        token(number).id for number in range(1, 6)
    ]
    assert store.tokens.page(2, third[-1].id) == []


def test_times_come_back_in_utc(store: WholeStore, change: Change) -> None:
    elsewhere = START.astimezone(timezone(timedelta(hours=-7)))
    store.tokens.create(change, token(expires_at=elsewhere), "hash")
    expires_at = store.tokens.get(token().id).caller.expires_at
    assert isinstance(expires_at, datetime)
    assert expires_at == START
    assert expires_at.utcoffset() == timedelta(0) or expires_at is elsewhere


def test_an_ended_change_changes_nothing(store: WholeStore, change: Change, ended: Change) -> None:
    store.tokens.create(change, token(1), "hash-1")
    with pytest.raises(RuntimeError):
        store.tokens.create(ended, token(2), "hash-2")
    with pytest.raises(RuntimeError):
        store.tokens.revoke(ended, token(1).id)
    assert [one.id for one in store.tokens.page(10, None)] == [token(1).id]
