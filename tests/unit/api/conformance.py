"""Whether an answer is one that the OpenAPI document promises."""

from __future__ import annotations

import json
import re
from functools import cache
from typing import Any

from jsonschema import Draft202012Validator, FormatChecker
from referencing import Registry
from referencing.jsonschema import DRAFT202012
from werkzeug.test import TestResponse

from service.app import openapi_document

Document = dict[str, Any]
METHOD_NOT_ALLOWED = 405
FORMATS = FormatChecker(())


@FORMATS.checks("date-time")
def _is_utc(value: object) -> bool:
    times = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z"
    return not isinstance(value, str) or bool(re.fullmatch(times, value))


@cache
def document() -> Document:
    loaded: Document = json.loads(openapi_document())
    return loaded


@cache
def _registry() -> Registry[Any]:
    resource = DRAFT202012.create_resource(document())
    found: Registry[Any] = Registry().with_resource("urn:document", resource)
    return found


@cache
def validator(pointer: str) -> Draft202012Validator:
    schema = {"$ref": f"urn:document#{pointer}"}
    return Draft202012Validator(schema, registry=_registry(), format_checker=FORMATS)


@cache
def _templates() -> list[tuple[re.Pattern[str], str]]:
    # The most literal path first, as a server matches them.
    paths = sorted(document()["paths"], key=lambda path: path.count("{"))
    return [(re.compile(re.sub(r"\\\{\w+\\\}", "(.+)", re.escape(path))), path) for path in paths]


def template(path: str) -> str | None:
    """The path of the document that a request's path belongs to."""
    found = [template for pattern, template in _templates() if pattern.fullmatch(path)]
    longest = sorted(found, key=lambda one: -len(re.sub(r"\{\w+\}", "", one)))
    return longest[0] if longest else None


def require_conforming(response: TestResponse) -> None:
    """Raise AssertionError unless the document promises this answer."""
    method = response.request.method.lower()
    path = template(response.request.path)
    if response.status_code == METHOD_NOT_ALLOWED or method == "options" or path is None:
        return
    operation = document()["paths"][path].get("get" if method == "head" else method)
    assert operation is not None, f"{method} {path} is not in the document"
    promised = _pointer(path, "get" if method == "head" else method, response)
    _require_headers(_resolved(promised), response)
    _require_content(promised, response)


def _pointer(path: str, method: str, response: TestResponse) -> str:
    status = str(response.status_code)
    responses = document()["paths"][path][method]["responses"]
    assert status in responses, f"{method} {path} answered {status}: {response.text}"
    if "$ref" in responses[status]:
        return str(responses[status]["$ref"]).removeprefix("#")
    escaped = path.replace("~", "~0").replace("/", "~1")
    return f"/paths/{escaped}/{method}/responses/{status}"


def _resolved(pointer: str) -> Document:
    found: Any = document()
    for part in pointer.removeprefix("/").split("/"):
        found = found[part.replace("~1", "/").replace("~0", "~")]
    if "$ref" in found:
        return _resolved(found["$ref"].removeprefix("#"))
    described: Document = found
    return described


def _require_headers(promised: Document, response: TestResponse) -> None:
    for name, header in promised.get("headers", {}).items():
        described = _resolved(header["$ref"].removeprefix("#"))
        value = response.headers.get(name)
        assert value is not None or not described.get("required"), f"{name} is missing"
        if value is not None and "pattern" in described["schema"]:
            assert re.search(described["schema"]["pattern"], value), f"{name}: {value}"


def _require_content(pointer: str, response: TestResponse) -> None:
    promised = _resolved(pointer).get("content", {})
    if response.request.method == "HEAD" or (not promised and not response.data):
        return
    kind = str(response.mimetype)
    assert kind in promised, f"{kind} is not among {list(promised)}"
    if response.is_json and "schema" in promised[kind]:
        escaped = kind.replace("/", "~1")
        validator(f"{pointer}/content/{escaped}/schema").validate(response.json)
