"""Who asks comes first, whether they may second, what they ask third."""

import pytest

from tests.fakes import image
from tests.unit.api.conformance import document
from tests.unit.api.conftest import ADMIN, Bed

DIGEST = "sha256:" + "0" * 64
VALUES = {
    "image": "app:1",
    "registry": "default",
    "repository": "team/app",
    "tag": "1.0",
    "digest": DIGEST,
    "reference": DIGEST,
    "deletion_id": "0" * 32,
    "token_id": "0" * 32,
    "job_id": "0" * 32,
    "container": "web-1",
}
PUBLIC = {"/healthz", "/readyz", "/openapi.json"}


def operations() -> list[tuple[str, str]]:
    return [
        (method.upper(), path)
        for path, item in document()["paths"].items()
        for method in item
        if method != "parameters"
    ]


PROTECTED = [one for one in operations() if one[1] not in PUBLIC]
ANY_TOKEN = {("GET", "/v1/me"), ("POST", "/v1/jobs/{job_id}/cancel")}
"""What scope these take, if any, depends on what is asked for."""

SCOPED = [one for one in PROTECTED if one not in ANY_TOKEN]


def filled(path: str, **changed: str) -> str:
    return path.format(**{**VALUES, **changed})


def test_only_these_are_open_to_everybody(bed: Bed) -> None:
    answered = {
        str(rule.rule)
        for rule in bed.app.url_map.iter_rules()
        if "<" not in rule.rule and bed.ask(str(rule.rule), token=None).status in {200, 302, 422}
    }
    assert answered == {*PUBLIC, "/", "/docs", "/docs/"}


@pytest.mark.parametrize(("method", "path"), PROTECTED)
def test_without_a_token_everything_else_is_401(bed: Bed, method: str, path: str) -> None:
    answer = bed.ask(filled(path) + "?nonsense=1", method, token=None, body=b"nonsense")
    assert answer.problem == (401, "unauthenticated")
    assert answer.headers["WWW-Authenticate"] == 'Bearer realm="registry-admin"'


@pytest.mark.parametrize(("method", "path"), PROTECTED)
def test_401_comes_before_every_other_fault(bed: Bed, method: str, path: str) -> None:
    wrong = filled(path, registry="none", repository="BAD", tag="-bad", reference="-b", digest="x")
    answer = bed.ask(wrong + "?nonsense=1", method, token="radm_unknown", body=b"nonsense")
    assert answer.problem == (401, "unauthenticated")
    assert 'error="invalid_token"' in answer.headers["WWW-Authenticate"]


@pytest.mark.parametrize(("method", "path"), SCOPED)
def test_403_comes_before_every_other_fault(bed: Bed, method: str, path: str) -> None:
    powerless = bed.token()
    wrong = filled(path, registry="none", repository="BAD", tag="-bad", reference="-b", digest="x")
    answer = bed.ask(wrong + "?nonsense=1", method, token=powerless, body=b"nonsense")
    assert answer.problem == (403, "insufficient-scope")
    scope = answer.json["required_scope"]
    described = document()["paths"][path][method.lower()]["description"]
    assert f"Needs the scope `{scope}`." in described


@pytest.mark.parametrize(("method", "path"), SCOPED)
def test_the_scope_that_is_named_suffices(bed: Bed, method: str, path: str) -> None:
    refused = bed.ask(filled(path), method, token=bed.token())
    answer = bed.ask(filled(path), method, token=bed.token(refused.json["required_scope"]))
    assert answer.status not in {401, 403}


@pytest.mark.parametrize(("method", "path"), [one for one in PROTECTED if "{registry}" in one[1]])
def test_a_registry_off_limits_is_403_whether_it_exists_or_not(
    bed: Bed, method: str, path: str
) -> None:
    limited = bed.token("admin", registries=("other",))
    for registry in ("default", "none"):
        answer = bed.ask(filled(path, registry=registry), method, token=limited)
        assert answer.problem == (403, "insufficient-scope")
        assert "other" in answer.json["detail"]


@pytest.mark.parametrize(("method", "path"), [one for one in PROTECTED if "{repository}" in one[1]])
def test_a_repository_off_limits_is_403_whether_it_exists_or_not(
    bed: Bed, method: str, path: str
) -> None:
    bed.registry.push("team/app", image("a"), "1.0")
    limited = bed.token("admin", repositories=("library/*",))
    for repository in ("team/app", "team/none", "BAD"):
        answer = bed.ask(filled(path, repository=repository), method, token=limited)
        assert answer.problem == (403, "insufficient-scope")
    assert bed.registry.reads == []


def test_names_come_before_options(bed: Bed) -> None:
    path = "/v1/registries/default/repositories/BAD/-/tags?nonsense=1"
    assert bed.ask(path).json["code"] == "invalid-repository-name"


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER", "Bearer  "])
def test_the_scheme_is_read_in_any_case(bed: Bed, scheme: str) -> None:
    headers = {"Authorization": f"{scheme} {ADMIN}"}
    assert bed.ask("/v1/me", token=None, headers=headers).status == 200


@pytest.mark.parametrize(
    "sent", ["", "Bearer", "Bearer ", "Basic cm9vdDpyb290", f"Token {ADMIN}", "Bearer a b", ADMIN]
)
def test_what_is_no_bearer_token_is_401(bed: Bed, sent: str) -> None:
    assert bed.ask("/v1/me", token=None, headers={"Authorization": sent}).status == 401


def test_an_expired_token_is_401_from_that_moment_on(bed: Bed) -> None:
    expiring = bed.token("admin", expires_at=bed.clock.now().replace(hour=13))
    assert bed.ask("/v1/me", token=expiring).status == 200
    bed.clock.advance(hours=1)
    answer = bed.ask("/v1/me", token=expiring)
    assert answer.status == 401
    assert "expired" in answer.json["detail"]


def test_a_store_that_does_not_answer_lets_nobody_in(
    bed: Bed, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(_: str) -> None:
        raise OSError("secret of the database")

    monkeypatch.setattr(bed.store.tokens, "find", broken)
    answer = bed.ask("/v1/me")
    assert answer.problem == (503, "store-unavailable")
    assert answer.headers["Retry-After"] == "5"
    assert "secret" not in answer.text


def test_no_answer_repeats_the_token(bed: Bed) -> None:
    sent = "radm_" + "s" * 43
    for headers in ({"Authorization": f"Bearer {sent}"}, {"Authorization": f"Basic {sent}"}):
        answer = bed.ask("/v1/me", token=None, headers=headers)
        assert sent not in answer.text
        assert sent not in str(answer.headers)
