"""Every error is a problem of RFC 9457, with nothing in it that is nobody's business."""

import json
import logging
import re

import pytest

from service.api import problems
from service.domain import errors
from service.domain.errors import RegistryAdminError
from tests.fakes import FakeRegistry, image
from tests.unit.api.conftest import Bed, Reply

REPOSITORY = "/v1/registries/default/repositories/team/app"
TAG = f"{REPOSITORY}/-/tags/1.0"


def leaves(kind: type[RegistryAdminError]) -> list[type[RegistryAdminError]]:
    below = kind.__subclasses__()
    return [leaf for one in below for leaf in leaves(one)] if below else [kind]


LEAVES = leaves(RegistryAdminError)


@pytest.mark.parametrize("kind", LEAVES)
def test_every_error_has_a_row(kind: type[RegistryAdminError]) -> None:
    row = problems.row_of(kind)
    assert 400 <= row.status < 600
    assert any(row is found for found in problems.TABLE.values())


def test_codes_are_kebab_case_and_one_for_each_row() -> None:
    codes = [kind.code for kind in problems.TABLE]
    assert len(set(codes)) == len(codes)
    assert all(re.fullmatch("[a-z0-9]+(-[a-z0-9]+)*", code) for code in codes)


@pytest.mark.parametrize(
    ("code", "status"),
    [
        ("invalid-repository-name", 400),
        ("invalid-tag", 400),
        ("invalid-digest", 400),
        ("insufficient-scope", 403),
        ("registry-unknown", 404),
        ("repository-unknown", 404),
        ("tag-unknown", 404),
        ("manifest-unknown", 404),
        ("manifest-tagged", 409),
        ("manifest-in-index", 409),
        ("deletion-disabled", 409),
        ("registry-read-only", 409),
        ("tag-exists", 409),
        ("blobs-collected", 410),
        ("digest-mismatch", 412),
        ("validation-failed", 422),
        ("registry-unreachable", 502),
        ("registry-tls-untrusted", 502),
        ("registry-unauthorized", 502),
        ("registry-answer-invalid", 502),
        ("catalog-unsupported", 502),
        ("registry-rate-limited", 502),
        ("engine-unreachable", 502),
        ("registry-timeout", 504),
    ],
)
def test_the_statuses_are_those_of_the_contract(code: str, status: int) -> None:
    assert {kind.code: row.status for kind, row in problems.TABLE.items()}[code] == status


@pytest.mark.parametrize("kind", problems.TABLE)
def test_the_type_is_a_page_of_the_service(bed: Bed, kind: type[RegistryAdminError]) -> None:
    page = bed.ask(problems.PAGES + kind.code, token=None)
    assert page.status == 200
    assert f"<code>{kind.code}</code>" in page.text
    assert str(problems.row_of(kind).status) in page.text


def test_a_problem_has_all_members(bed: Bed) -> None:
    answer = bed.ask(f"{REPOSITORY}/-/tags?x=1", headers={"X-Request-Id": "mine"})
    assert answer.mimetype == "application/problem+json"
    assert answer.json == {
        "type": "/docs/problems/validation-failed",
        "title": "Validation failed",
        "status": 422,
        "detail": "x: Unknown field. Nothing was changed.",
        "instance": f"{REPOSITORY}/-/tags",
        "code": "validation-failed",
        "request_id": "mine",
        "errors": [{"parameter": "x", "detail": "Unknown field."}],
    }


@pytest.mark.parametrize(
    "kind",
    [
        errors.RegistryUnreachable,
        errors.RegistryTlsUntrusted,
        errors.RegistryUnauthorized,
        errors.RegistryTimeout,
        errors.RegistryAnswerInvalid,
        errors.RegistryRateLimited,
    ],
)
@pytest.mark.parametrize(
    ("method", "rest"),
    [
        ("GET", ""),
        ("GET", "/-/tags"),
        ("GET", "/-/tags?detail=true"),
        ("GET", "/-/tags/1.0"),
        ("PUT", "/-/tags/1.0"),
        ("DELETE", "/-/tags/1.0"),
        ("GET", "/-/manifests/1.0"),
        ("GET", "/-/manifests/1.0/raw"),
        ("DELETE", f"/-/manifests/sha256:{'0' * 64}"),
        ("GET", f"/-/manifests/sha256:{'0' * 64}/tags"),
        ("GET", f"/-/manifests/sha256:{'0' * 64}/referrers"),
    ],
)
def test_what_fails_upstream_keeps_its_name(
    bed: Bed,
    monkeypatch: pytest.MonkeyPatch,
    kind: type[RegistryAdminError],
    method: str,
    rest: str,
) -> None:
    def failing(*_: object) -> None:
        raise kind("The registry did not do its part. Nothing was changed.")

    for name in ("repositories", "tags", "resolve", "manifest", "content", "writability"):
        monkeypatch.setattr(FakeRegistry, name, failing)
    body = {"tag": "2.0"} if method == "PUT" else None
    answer = bed.ask(REPOSITORY + rest, method, body=body)
    assert answer.problem == (problems.row_of(kind).status, kind.code)


def mistaken(bed: Bed, monkeypatch: pytest.MonkeyPatch) -> Reply:
    def failing(*_: object) -> None:
        raise ZeroDivisionError("password=hunter2")

    monkeypatch.setattr(FakeRegistry, "resolve", failing)
    return bed.ask(TAG)


def test_a_mistake_of_ours_tells_nothing_but_where_to_look(
    bed: Bed, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.ERROR):
        answer = mistaken(bed, monkeypatch)
    assert answer.problem == (500, "internal-error")
    assert answer.json["request_id"] in answer.json["detail"]
    assert "hunter2" not in answer.text
    assert "Traceback" not in answer.text
    assert "hunter2" in caplog.text
    assert answer.headers["X-Request-Id"] == answer.json["request_id"]


@pytest.mark.parametrize(
    ("path", "method", "allowed"),
    [
        ("/v1/registries", "POST", {"GET", "HEAD", "OPTIONS"}),
        ("/healthz", "DELETE", {"GET", "HEAD", "OPTIONS"}),
        (TAG, "POST", {"GET", "HEAD", "OPTIONS", "PUT", "DELETE"}),
        (TAG, "PATCH", {"GET", "HEAD", "OPTIONS", "PUT", "DELETE"}),
        (TAG, "TRACE", {"GET", "HEAD", "OPTIONS", "PUT", "DELETE"}),
        ("/v1/tokens", "DELETE", {"GET", "HEAD", "OPTIONS", "POST"}),
        ("/v1/registries/default/deletions/1/restore", "GET", {"OPTIONS", "POST"}),
        ("/docs", "POST", {"GET", "HEAD", "OPTIONS"}),
    ],
)
def test_405_names_the_methods_there_are(
    bed: Bed, path: str, method: str, allowed: set[str]
) -> None:
    answer = bed.ask(path, method)
    assert answer.problem == (405, "method-not-allowed")
    assert set(answer.headers["Allow"].split(", ")) == allowed
    assert bed.events() == []


MALFORMED = [
    b"{",
    b"",
    b"\xff",
    b"\xef\xbb\xbf{}",
    b"{'tag': '1.0'}",
    b'{"tag": "1.0"} x',
    b'{"tag": NaN}',
    b'{"tag": Infinity}',
    b'{"tag": "1.0", "tag": "2.0"}',
    b'{"tag": "\\ud800"}',
    b'{"tag": ' + b"9" * 5000 + b"}",
    b"[" * 100_000,
    b'{"a":' * 50_000 + b"1" + b"}" * 50_000,
]


@pytest.mark.parametrize("body", [one for one in MALFORMED if one])
def test_a_body_that_is_no_json_is_400(bed: Bed, body: bytes) -> None:
    answer = bed.ask(TAG, "PUT", body=body)
    assert answer.problem == (400, "malformed-body")


@pytest.mark.parametrize("body", [b"null", b"[]", b"1", b'"tag"', b"true", b"[" * 90 + b"]" * 90])
def test_a_body_that_is_no_object_is_422(bed: Bed, body: bytes) -> None:
    answer = bed.ask(TAG, "PUT", body=body)
    assert answer.problem == (422, "validation-failed")
    assert answer.json["errors"][0]["pointer"] == ""


@pytest.mark.parametrize(
    "kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", ""]
)
def test_a_body_of_another_type_is_415(bed: Bed, kind: str) -> None:
    answer = bed.ask(TAG, "PUT", body=b'{"tag": "1.0"}', content_type=kind)
    assert answer.problem == (415, "unsupported-media-type")


def test_the_type_may_have_parameters(bed: Bed) -> None:
    answer = bed.ask(
        TAG, "PUT", body={"tag": "1.0"}, content_type="application/json; charset=utf-8"
    )
    assert answer.problem == (404, "repository-unknown")


def test_a_body_without_end_is_413(bed: Bed) -> None:
    body = json.dumps({"tag": "x" * 1024 * 1024}).encode()
    assert bed.ask(TAG, "PUT", body=body).problem == (413, "content-too-large")
    assert bed.ask(TAG, "DELETE", body=body).problem == (413, "content-too-large")


def test_a_body_where_none_is_read_is_refused_not_ignored(bed: Bed) -> None:
    bed.registry.push("team/app", image("a"), "1.0")
    answer = bed.ask(TAG, "DELETE", body={"dry_run": True})
    assert answer.problem == (422, "validation-failed")
    assert bed.registry.writes == []


@pytest.mark.parametrize(
    ("body", "pointers"),
    [
        ({}, [""]),
        ({"tag": "1.0", "digest": "sha256:" + "0" * 64}, [""]),
        ({"tag": 1}, ["/tag"]),
        ({"tag": None}, ["/tag"]),
        ({"tag": "1.0", "dry_run": "true"}, ["/dry_run"]),
        ({"tag": "1.0", "dry_run": 1}, ["/dry_run"]),
        ({"tag": "1.0", "a/b~c": {"d": [1]}}, ["/a~1b~0c"]),
        ({"tag": 1, "dry_run": 1, "x": 1}, ["/dry_run", "/tag", "/x"]),
    ],
)
def test_pointers_lead_to_what_is_wrong(
    bed: Bed, body: dict[str, object], pointers: list[str]
) -> None:
    answer = bed.ask(TAG, "PUT", body=body)
    assert answer.problem == (422, "validation-failed")
    assert sorted(error["pointer"] for error in answer.json["errors"]) == pointers


def test_pointers_lead_into_lists(bed: Bed) -> None:
    body = {"name": "x", "scopes": ["registry:read", "nonsense"]}
    answer = bed.ask("/v1/tokens", "POST", body=body)
    assert [error["pointer"] for error in answer.json["errors"]] == ["/scopes/1"]


def test_a_malformed_name_in_a_body_has_its_own_code(bed: Bed) -> None:
    assert bed.ask(TAG, "PUT", body={"digest": "x"}).problem == (400, "invalid-digest")
    assert bed.ask(TAG, "PUT", body={"tag": "-x"}).problem == (400, "invalid-tag")


def test_options_of_put_are_no_query_parameters(bed: Bed) -> None:
    answer = bed.ask(f"{TAG}?dry_run=true", "PUT", body={"tag": "1.0"})
    assert answer.problem == (422, "validation-failed")
    assert answer.json["errors"][0]["parameter"] == "dry_run"


def test_a_thousand_errors_are_not_all_told(bed: Bed) -> None:
    body = {f"field{number}": 1 for number in range(1000)}
    assert len(bed.ask(TAG, "PUT", body=body).json["errors"]) == 50


@pytest.mark.parametrize("value", ["1", "True", "TRUE", "yes", "on", "", "null", "0", "f"])
def test_truth_in_a_query_is_true_or_false(bed: Bed, value: str) -> None:
    answer = bed.ask(f"{TAG}?dry_run={value}", "DELETE")
    assert answer.problem == (422, "validation-failed")


def test_a_parameter_given_twice_is_refused(bed: Bed) -> None:
    bed.registry.push("team/app", image("a"), "1.0")
    answer = bed.ask(f"{TAG}?dry_run=true&dry_run=false", "DELETE")
    assert answer.problem == (422, "validation-failed")
    assert bed.registry.writes == []


@pytest.mark.parametrize(
    "path", ["/healthz", "/readyz", "/metrics", "/openapi.json", "/v1/me", REPOSITORY]
)
def test_unknown_parameters_are_refused_everywhere(bed: Bed, path: str) -> None:
    bed.registry.push("team/app", image("a"), "1.0")
    assert bed.ask(path).status == 200
    assert bed.ask(f"{path}?verbose=1").problem == (422, "validation-failed")


def test_problems_of_head_have_no_body(bed: Bed) -> None:
    answer = bed.ask(f"{REPOSITORY}/-/tags/none", "HEAD")
    assert (answer.status, answer.data) == (404, b"")
