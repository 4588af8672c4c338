from datetime import timedelta
from typing import Any

import pytest

from service.domain.access import TOKEN_PREFIX, hash_secret
from tests.unit.api.conftest import Bed, Reply

TOKENS = "/v1/tokens"


def create(bed: Bed, token: str, **body: object) -> Reply:
    wanted = {"name": "new", "scopes": ["registry:read"], **body}
    return bed.ask(TOKENS, "POST", token=token, body=wanted)


def made(bed: Bed, **body: object) -> dict[str, Any]:
    answer = create(bed, "radm_admin", **body)
    assert answer.status == 201
    found: dict[str, Any] = answer.json
    return found


def test_a_token_is_made_and_told_once(bed: Bed) -> None:
    answer = create(
        bed,
        "radm_admin",
        scopes=["registry:read", "registry:delete"],
        registries=["default"],
        repositories=["team/*"],
        expires_at="2026-03-01T01:00:00+01:00",
    )
    assert answer.status == 201
    secret = answer.json["secret"]
    assert secret.startswith(TOKEN_PREFIX)
    assert answer.headers["Location"] == f"{TOKENS}/{answer.json['id']}"
    assert answer.json == {
        "id": answer.json["id"],
        "name": "new",
        "scopes": ["registry:delete", "registry:read"],
        "registries": ["default"],
        "repositories": ["team/*"],
        "expires_at": "2026-03-01T00:00:00Z",
        "kind": "token",
        "created_at": "2026-01-31T12:00:00Z",
        "created_by": "root",
        "last_used_at": None,
        "secret": secret,
    }
    told = {name: value for name, value in answer.json.items() if name != "secret"}
    assert bed.ask(answer.headers["Location"]).json == told
    assert told in bed.ask(TOKENS).json["items"]
    assert secret not in bed.ask(TOKENS).text
    assert bed.store.tokens.find(hash_secret(secret)) is not None


def test_it_is_good_for_what_it_says(bed: Bed) -> None:
    secret = made(bed, scopes=["token:admin"])["secret"]
    me = bed.ask("/v1/me", token=secret).json
    assert me == {
        "name": "new",
        "scopes": ["token:admin"],
        "registries": [],
        "repositories": [],
        "expires_at": None,
        "kind": "token",
    }


def test_the_record_tells_whom_was_given_what_but_no_secret(bed: Bed) -> None:
    token = made(bed)
    (event,) = bed.events()
    assert event.completion is not None
    assert event.completion.details == {
        "token_id": token["id"],
        "name": "new",
        "scopes": ["registry:read"],
    }
    assert event.attempt.target == token["id"]
    assert token["secret"] not in repr(event)


def test_a_deleted_token_is_refused_at_once(bed: Bed) -> None:
    token = made(bed)
    answer = bed.ask(f"{TOKENS}/{token['id']}", "DELETE")
    assert (answer.status, answer.data) == (204, b"")
    assert bed.ask("/v1/me", token=token["secret"]).problem == (401, "unauthenticated")
    for method in ("GET", "DELETE"):
        answer = bed.ask(f"{TOKENS}/{token['id']}", method)
        assert answer.problem == (404, "token-unknown")


def test_a_token_does_not_revoke_itself(bed: Bed) -> None:
    (own,) = bed.ask(TOKENS).json["items"]
    answer = bed.ask(f"{TOKENS}/{own['id']}", "DELETE")
    assert answer.problem == (409, "token-in-use")
    assert bed.ask("/v1/me").status == 200


def test_revoking_takes_no_options(bed: Bed) -> None:
    token = made(bed)
    answer = bed.ask(f"{TOKENS}/{token['id']}?dry_run=true", "DELETE")
    assert answer.problem == (422, "validation-failed")
    assert bed.ask("/v1/me", token=token["secret"]).status == 200


@pytest.mark.parametrize("scope", ["admin", "registry:delete", "audit:read"])
def test_nobody_grants_a_scope_they_lack(bed: Bed, scope: str) -> None:
    giver = bed.token("token:admin", "registry:read")
    answer = create(bed, giver, scopes=["registry:read", scope])
    assert answer.problem == (403, "insufficient-scope")
    assert answer.json["required_scope"] == scope
    assert create(bed, giver, scopes=["registry:read", "token:admin"]).status == 201


@pytest.mark.parametrize(
    ("limits", "body"),
    [
        ({"registries": ("a",)}, {}),
        ({"registries": ("a",)}, {"registries": ["b"]}),
        ({"registries": ("a",)}, {"registries": ["a", "b"]}),
        ({"repositories": ("team/*",)}, {}),
        ({"repositories": ("team/*",)}, {"repositories": ["*"]}),
        ({"repositories": ("team/*",)}, {"repositories": ["team/*", "library/*"]}),
        ({"repositories": ("team/*",)}, {"repositories": ["tea*"]}),
    ],
)
def test_nobody_grants_more_than_their_own_limits(
    bed: Bed, limits: dict[str, Any], body: dict[str, object]
) -> None:
    giver = bed.token("admin", **limits)
    assert create(bed, giver, **body).problem == (403, "insufficient-scope")


def test_nobody_grants_more_time_than_they_have(bed: Bed) -> None:
    giver = bed.token("admin", expires_at=bed.clock.now() + timedelta(hours=2))
    assert create(bed, giver).problem == (403, "insufficient-scope")
    late = create(bed, giver, expires_at="2026-01-31T15:00:00Z")
    assert late.problem == (403, "insufficient-scope")
    assert create(bed, giver, expires_at="2026-01-31T14:00:00Z").status == 201


def test_a_token_that_has_expired_already_is_not_made(bed: Bed) -> None:
    answer = create(bed, "radm_admin", expires_at="2026-01-31T12:00:00Z")
    assert answer.problem == (409, "expiry-passed")
    assert create(bed, "radm_admin", expires_at="2026-01-31T12:00:00.001Z").status == 201


@pytest.mark.parametrize(
    "body",
    [
        {"name": ""},
        {"name": " x"},
        {"name": "x" * 101},
        {"name": "a\nb"},
        {"name": "a\x00b"},
        {"name": None},
        {"scopes": []},
        {"scopes": ["everything"]},
        {"scopes": "admin"},
        {"scopes": [None]},
        {"registries": [""]},
        {"registries": ["a/b"]},
        {"registries": None},
        {"repositories": ["TEAM/*"]},
        {"repositories": ["../*"]},
        {"repositories": [1]},
        {"expires_at": "tomorrow"},
        {"expires_at": "2026-03-01"},
        {"expires_at": "2026-03-01T00:00:00"},
        {"expires_at": "2026-02-30T00:00:00Z"},
        {"expires_at": 1767225600},
        {"expires": None},
        {"secret": "radm_mine"},
    ],
)
def test_what_is_no_token_is_422(bed: Bed, body: dict[str, object]) -> None:
    answer = create(bed, "radm_admin", **body)
    assert answer.problem == (422, "validation-failed")
    assert answer.json["errors"][0]["pointer"].startswith("/")


@pytest.mark.parametrize("missing", ["name", "scopes"])
def test_name_and_scopes_are_needed(bed: Bed, missing: str) -> None:
    body = {"name": "x", "scopes": ["admin"]}
    del body[missing]
    answer = bed.ask(TOKENS, "POST", body=body)
    assert [error["pointer"] for error in answer.json["errors"]] == [f"/{missing}"]


def test_tokens_beyond_the_callers_limits_do_not_exist_for_it(bed: Bed) -> None:
    limited = bed.token("token:admin", name="limited", registries=("a",))
    inside = made(bed, name="inside", registries=["a"])
    outside = made(bed, name="outside", registries=["b"])
    found = bed.ask(TOKENS, token=limited).json["items"]
    assert [one["name"] for one in found] == ["limited", "inside"]
    for method in ("GET", "DELETE"):
        answer = bed.ask(f"{TOKENS}/{outside['id']}", method, token=limited)
        assert answer.problem == (404, "token-unknown")
    assert bed.ask(f"{TOKENS}/{inside['id']}", "DELETE", token=limited).status == 204
