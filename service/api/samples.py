"""A request for each operation of the OpenAPI document, made of its examples."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import reduce
from itertools import starmap
from operator import getitem
from typing import Any
from urllib.parse import urlencode

from service.api.fields import DIGEST_EXAMPLE, ID_EXAMPLE

Document = Mapping[str, Any]

NAME = re.compile(r"{(\w+)}")

HEAD = """\
# A request for each operation: for the REST Client of VS Code, the HTTP client of JetBrains' IDEs
# and httpyac. Made of the OpenAPI document by `make openapi`. Fill these in first:

@api = http://127.0.0.1:8080
@token = radm_
"""


@dataclass(frozen=True, slots=True)
class Sample:
    """A request. What exists in a living service alone stays a name in its path: ``{job_id}``."""

    id: str
    summary: str
    method: str
    path: str
    query: Mapping[str, Any]
    body: Document | None
    public: bool

    def target(self, variable: Callable[[str], str]) -> str:
        """Give path and query, with ``variable(name)`` in place of each name."""
        path = NAME.sub(lambda found: variable(found[1]), self.path)
        query = urlencode({key: json.dumps(value) for key, value in self.query.items()})
        return path + (f"?{query}" if query else "")


def operations(document: Document) -> Iterator[tuple[str, str, Document]]:
    """Give path, method and operation of each; the parameters of its path are among its own."""
    for path, item in document["paths"].items():
        for method, operation in item.items():
            if method != "parameters":
                both = [*item.get("parameters", []), *operation.get("parameters", [])]
                known = [resolved(document, one) for one in both]
                # An operation's own parameter comes after the path's of the same name.
                named = {(one["in"], one["name"]): one for one in known}
                yield path, method.upper(), {**operation, "parameters": list(named.values())}


def resolved(document: Document, part: Document) -> Document:
    """Give what a part of the document is, where it is only a reference."""
    if "$ref" not in part:
        return part
    _, *names = part["$ref"].split("/")
    found: Document = reduce(getitem, names, document)
    return found


def sample(path: str, method: str, operation: Document) -> Sample:
    """Make the request of an operation; raise KeyError where a part of its path has no example."""
    given = operation["parameters"]
    body = operation.get("requestBody", {}).get("content", {}).get("application/json")
    return Sample(
        operation["operationId"],
        operation["summary"],
        method,
        path.format_map({one["name"]: _part(one) for one in given if one["in"] == "path"}),
        {one["name"]: _choice(one) for one in given if _is_choice(one)},
        body and body["example"],
        not operation["security"],
    )


def _part(parameter: Document) -> str:
    example: str = parameter["schema"]["examples"][0]
    own = {ID_EXAMPLE: f"{{{parameter['name']}}}", DIGEST_EXAMPLE: "{digest}"}
    return own.get(example, example)


def _choice(parameter: Document) -> object:
    return parameter["schema"]["examples"][0]


def _is_choice(parameter: Document) -> bool:
    """Whether it asks for something else than no word of it would; filters and pages do not."""
    schema = parameter["schema"]
    is_option: bool = parameter["in"] == "query" and schema["type"] == "boolean"
    return is_option and schema["examples"] != [schema["default"]]


def samples(document: Document) -> list[Sample]:
    """Make the request of each operation."""
    return [sample(*one) for one in operations(document)]


def variables(document: Document) -> dict[str, Document]:
    """Give what stays a name in a path, each with the parameter that it is."""
    found: dict[str, Document] = {}
    for _, _, operation in operations(document):
        for one in operation["parameters"]:
            if one["in"] == "path" and _part(one).startswith("{"):
                found.setdefault(_part(one).strip("{}"), one)
    return found


def curl(sample: Sample) -> str:
    """Write a request as a command for a shell with API, TOKEN and the variables, in capitals."""
    implied = "GET" if sample.body is None else "POST"
    method = "" if sample.method == implied else f"-X {sample.method} "
    lines = [f'curl -sS --fail-with-body {method}"$API{sample.target(_in_shell)}"']
    if not sample.public:
        lines.append('-H "Authorization: Bearer $TOKEN"')
    if sample.body is not None:
        lines += ["-H 'Content-Type: application/json'", f"-d {shlex.quote(_json(sample.body))}"]
    return " \\\n  ".join(lines)


def _in_shell(name: str) -> str:
    return f"${name.upper()}"


def as_requests(document: Document) -> str:
    """Write a file of requests, with variables at its head."""
    head = HEAD + "".join(starmap(_variable, variables(document).items()))
    return "\n".join([head, *(_request(one) for one in samples(document))])


def _variable(name: str, parameter: Document) -> str:
    # Not empty: httpyac would take the line for a request.
    return f"\n# {parameter['description']}\n@{name} = {parameter['schema']['examples'][0]}\n"


def _request(sample: Sample) -> str:
    lines = [f"### {sample.summary}", f"# @name {sample.id}"]
    lines.append(f"{sample.method} {{{{api}}}}{sample.target(_in_file)}")
    if not sample.public:
        lines.append("Authorization: Bearer {{token}}")
    if sample.body is not None:
        lines += ["Content-Type: application/json", "", json.dumps(sample.body, indent=2)]
    return "\n".join([*lines, ""])


def _in_file(name: str) -> str:
    return f"{{{{{name}}}}}"


def _json(body: Document) -> str:
    return json.dumps(body, ensure_ascii=False)
