"""The document: complete, the same everywhere, and nothing in it that is not so."""

import json
import re
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator
from jsonschema.exceptions import SchemaError, ValidationError

from service import __version__
from service.api import openapi, problems
from service.api.base import Api, Application, Blueprint
from service.api.openapi import Operation
from service.app import openapi_document
from tests.unit.api.conformance import document, validator
from tests.unit.api.conftest import Bed

CHECKED_IN = Path(__file__).parents[3] / "openapi" / "openapi.json"

OPERATIONS = [
    (path, method)
    for path, item in document()["paths"].items()
    for method in item
    if method != "parameters"
]
PAGES = ("docs.", "page.")
"""What is for people alone."""


def test_the_document_checked_in_is_the_one_of_the_code() -> None:
    assert CHECKED_IN.read_text(encoding="utf-8") == openapi_document(), "run: make openapi"


def test_it_is_served_as_it_is_checked_in(bed: Bed) -> None:
    answer = bed.ask("/openapi.json", token=None)
    assert answer.data == CHECKED_IN.read_bytes()
    assert answer.mimetype == "application/json"


def test_it_is_made_the_same_each_time() -> None:
    assert openapi_document() == openapi_document()


def test_it_says_what_it_is() -> None:
    assert document()["openapi"] == "3.1.0"
    assert document()["info"]["version"] == __version__
    assert document()["servers"][0]["url"] == "/"
    assert "127.0.0.1:8080" not in openapi_document()


@pytest.mark.parametrize(("path", "method"), OPERATIONS)
def test_every_operation_is_described(path: str, method: str) -> None:
    operation = document()["paths"][path][method]
    verbs = "get|list|put|create|delete|restore|restart|cancel"
    assert re.fullmatch(f"({verbs})[A-Z][A-Za-z]+", operation["operationId"])
    assert operation["summary"].endswith(".")
    assert len(operation["tags"]) == 1
    assert "security" in operation
    for response in operation["responses"].values():
        assert "$ref" in response or response["description"]


def test_operation_ids_are_unique() -> None:
    ids = [document()["paths"][path][method]["operationId"] for path, method in OPERATIONS]
    assert len(set(ids)) == len(ids)


def test_every_route_is_in_it(bed: Bed) -> None:
    routes = {
        (openapi.template(rule.rule), method.lower())
        for rule in bed.app.url_map.iter_rules()
        for method in rule.methods or ()
        if method not in {"HEAD", "OPTIONS"} and not rule.endpoint.startswith(PAGES)
    }
    assert routes == set(OPERATIONS)


@pytest.mark.parametrize(("path", "method"), OPERATIONS)
def test_every_parameter_is_described(path: str, method: str) -> None:
    item = document()["paths"][path]
    for parameter in [*item.get("parameters", []), *item[method].get("parameters", [])]:
        described = parameter
        if "$ref" in parameter:
            described = document()["components"]["parameters"][parameter["$ref"].split("/")[-1]]
        assert described["description"]
        assert described["schema"]["type"]


@pytest.mark.parametrize(("path", "method"), OPERATIONS)
def test_every_answer_and_body_of_ours_has_an_example_that_is_one(path: str, method: str) -> None:
    operation = document()["paths"][path][method]
    contents = [operation.get("requestBody", {}).get("content", {})]
    contents += [one["content"] for one in operation["responses"].values() if "content" in one]
    for content in contents:
        described = content.get("application/json")
        if described and "$ref" in described["schema"]:
            validator(described["schema"]["$ref"].removeprefix("#")).validate(described["example"])


@pytest.mark.parametrize("name", document()["components"]["examples"])
def test_every_example_of_a_problem_is_one(name: str) -> None:
    example = document()["components"]["examples"][name]["value"]
    validator("/components/schemas/Problem").validate(example)
    assert example["code"] == name


@pytest.mark.parametrize("name", document()["components"]["schemas"])
def test_every_schema_is_described_and_one(name: str) -> None:
    schema = document()["components"]["schemas"][name]
    assert schema["description"]
    try:
        Draft202012Validator.check_schema(schema)
    except SchemaError as error:
        pytest.fail(str(error))
    for field in schema.get("properties", {}).values():
        assert "description" in field or "$ref" in field or "anyOf" in field


@pytest.mark.parametrize("name", document()["components"]["responses"])
def test_every_kind_of_problem_is_one_named_schema_with_its_codes(name: str) -> None:
    content = document()["components"]["responses"][name]["content"][problems.CONTENT_TYPE]
    assert content["schema"] == {"$ref": f"#/components/schemas/{name}"}
    for code in content["examples"]:
        example = document()["components"]["examples"][code]["value"]
        validator(f"/components/schemas/{name}").validate(example)
        with pytest.raises(ValidationError):
            validator(f"/components/schemas/{name}").validate(example | {"code": "another"})


@pytest.mark.parametrize("name", document()["components"]["schemas"])
def test_patterns_are_anchored(name: str) -> None:
    for pattern in re.findall(
        r'"pattern": "((?:[^"\\]|\\.)*)"', json.dumps(document()["components"]["schemas"][name])
    ):
        assert pattern.startswith("^")
        assert pattern.endswith("$")


def test_every_code_of_an_answer_has_its_page() -> None:
    codes = {kind.code for kind in problems.TABLE}
    assert set(document()["components"]["examples"]) <= codes


def test_an_operation_without_an_id_fails_the_build() -> None:
    ours = Blueprint("ours", "Ours.")
    ours.route("/ours")(lambda: "")
    with pytest.raises(KeyError):
        Api(Application()).register_blueprint(ours)


def test_a_field_without_an_example_fails_the_build() -> None:
    from marshmallow import fields  # noqa: PLC0415

    from service.api.base import Answer  # noqa: PLC0415

    class Bare(Answer):
        """Bare."""

        name = fields.String()

    with pytest.raises(KeyError, match="no example"):
        openapi.example(Bare)
    assert Operation("getBare", None, Bare).status == 200
