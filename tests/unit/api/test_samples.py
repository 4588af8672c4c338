"""The example requests: one an operation, made of what the document says."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from service.api.samples import (
    Sample,
    as_requests,
    curl,
    operations,
    sample,
    samples,
    variables,
)
from service.app import openapi_document
from tests.unit.api.conformance import document, validator

CHECKED_IN = Path(__file__).parents[3] / "openapi" / "registry-admin.http"
SAMPLES = {one.id: one for one in samples(document())}


def test_the_requests_checked_in_are_those_of_the_code() -> None:
    assert CHECKED_IN.read_text(encoding="utf-8") == openapi_document("http"), "run: make openapi"


def test_there_is_one_an_operation() -> None:
    assert SAMPLES.keys() == {one["operationId"] for *_, one in operations(document())}


def test_what_only_a_living_service_can_name_stays_a_name() -> None:
    names = {"digest", "deletion_id", "job_id", "token_id"}
    assert variables(document()).keys() == names
    left = {name for one in SAMPLES.values() for name in re.findall(r"{(\w+)}", one.path)}
    assert left == names


@pytest.mark.parametrize("name", SAMPLES)
def test_each_body_is_one_that_the_operation_takes(name: str) -> None:
    given = SAMPLES[name].body
    for *_, operation in operations(document()):
        if operation["operationId"] == name and "requestBody" in operation:
            schema = operation["requestBody"]["content"]["application/json"]["schema"]
            validator(schema["$ref"].removeprefix("#")).validate(given)
            return
    assert given is None


def test_a_command_says_no_more_than_it_must() -> None:
    assert curl(SAMPLES["getLiveness"]) == 'curl -sS --fail-with-body "$API/healthz"'
    assert curl(SAMPLES["deleteToken"]).splitlines() == [
        'curl -sS --fail-with-body -X DELETE "$API/v1/tokens/$TOKEN_ID" \\',
        '  -H "Authorization: Bearer $TOKEN"',
    ]
    assert curl(SAMPLES["restartContainer"]).splitlines() == [
        'curl -sS --fail-with-body "$API/v1/containers/registry/restart" \\',
        '  -H "Authorization: Bearer $TOKEN" \\',
        "  -H 'Content-Type: application/json' \\",
        "  -d '{\"timeout\": 10}'",
    ]


def test_what_can_be_tried_first_is_and_pages_and_filters_are_left_out() -> None:
    assert SAMPLES["deleteTag"].query == {"dry_run": True}
    assert SAMPLES["listTags"].query == {"detail": True}
    assert SAMPLES["listJobs"].query == {}


def test_a_command_quotes_for_the_shell_and_names_its_variables() -> None:
    made = Sample(
        "putIt", "Put it.", "PUT", "/v1/{job_id}", {"a": True}, {"b": "it's"}, public=True
    )
    assert curl(made).splitlines() == [
        'curl -sS --fail-with-body -X PUT "$API/v1/$JOB_ID?a=true" \\',
        "  -H 'Content-Type: application/json' \\",
        """  -d '{"b": "it'"'"'s"}'""",
    ]


def test_a_parameter_of_an_operation_comes_before_its_path_s() -> None:
    path: dict[str, Any] = {"in": "path", "name": "it", "schema": {"examples": ["path"]}}
    own = {**path, "schema": {"examples": ["own"]}}
    get = {"operationId": "getIt", "summary": "", "security": [], "parameters": [own]}
    paths = {"/{it}": {"parameters": [path], "get": get}}
    (found,) = operations({"paths": paths})
    assert sample(*found).path == "/own"


def test_a_path_without_an_example_is_no_request() -> None:
    bare = {"in": "path", "name": "it", "schema": {}}
    with pytest.raises(KeyError):
        sample("/{it}", "GET", {"operationId": "getIt", "summary": "", "parameters": [bare]})


def test_the_file_of_requests_can_be_read() -> None:
    head, *requests = as_requests(document()).split("\n### ")
    assert re.findall(r"^@(\w+) =", head, re.MULTILINE) == ["api", "token", *variables(document())]
    assert len(requests) == len(SAMPLES)
    for text, made in zip(requests, SAMPLES.values(), strict=True):
        told, _, body = text.rstrip("\n").partition("\n\n")
        assert told.splitlines()[:2] == [made.summary, f"# @name {made.id}"]
        assert told.splitlines()[2].startswith(f"{made.method} {{{{api}}}}/")
        assert ("Authorization: Bearer {{token}}" in told) is not made.public
        assert (json.loads(body) if body else None) == made.body
