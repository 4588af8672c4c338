"""The reference of the API as a page of Markdown, made of the OpenAPI document."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence

from service.api.problems import CONTENT_TYPE
from service.api.samples import Document, curl, operations, resolved, sample, variables

HEAD = """\
# API reference

Made of [the OpenAPI document](../openapi/openapi.json) by `make openapi`. As a file of requests for
editors: [registry-admin.http](../openapi/registry-admin.http). [Clients](clients.md) are generated.

{about}

The examples are for a shell where `API` is the service's address, say `http://127.0.0.1:8080`, and
`TOKEN` a token's secret. What only a living service can name is a variable as well:

{variables}
"""
MANY = 20
"""Values of an enumeration that are no longer listed."""

Rows = Iterable[Sequence[str]]


def as_markdown(document: Document) -> str:
    """Write the reference: a section an operation, then one a schema."""
    named = variables(document).items()
    rows = ((f"`{name.upper()}`", parameter["description"]) for name, parameter in named)
    table = _table(("variable", "what it is"), rows)
    head = HEAD.format(about=document["info"]["description"], variables=table)
    schemas = ["## Schemas\n", *_schemas(document)]
    return "\n".join([head, *_nouns(document), *schemas, _problems(document)])


def _nouns(document: Document) -> Iterator[str]:
    for noun in document["tags"]:
        yield f"## {noun['name']}\n\n{noun['description']}\n"
        for path, method, operation in operations(document):
            if noun["name"] in operation["tags"]:
                yield "\n\n".join(_operation(document, path, method, operation)) + "\n"


def _operation(document: Document, path: str, method: str, operation: Document) -> Iterator[str]:
    yield f"### {operation['operationId']}\n\n`{method} {path}`\n\n{operation['summary']}"
    if "description" in operation:
        yield operation["description"]
    if operation["parameters"]:
        yield _table(
            ("parameter", "in", "type", "meaning"), map(_parameter, operation["parameters"])
        )
    if "requestBody" in operation:
        schema = _content(operation["requestBody"])["schema"]
        yield f"The body is {_kind(schema)}:\n\n{_members(resolved(document, schema))}"
    yield f"```sh\n{curl(sample(path, method, operation))}\n```"
    yield _table(("status", "answer"), _answers(document, operation))


def _content(described: Document) -> Document:
    found: Document = described["content"]["application/json"]
    return found


def _parameter(parameter: Document) -> tuple[str, ...]:
    return f"`{parameter['name']}`", parameter["in"], *_typed(parameter)


def _typed(described: Document) -> tuple[str, str]:
    """Give the type and the meaning, with the default, of a parameter or of a schema's member."""
    schema = described.get("schema", described)
    default = f" Default: `{json.dumps(schema['default'])}`." if "default" in schema else ""
    return _kind(schema), described.get("description", "") + default


def _answers(document: Document, operation: Document) -> Iterator[tuple[str, str]]:
    for status, response in operation["responses"].items():
        yield status, _answer(resolved(document, response))


def _answer(response: Document) -> str:
    content = response.get("content", {})
    if CONTENT_TYPE in content:
        return ", ".join(f"`{code}`" for code in content[CONTENT_TYPE]["examples"])
    kinds = [f"`{media}`{_named(what)}" for media, what in content.items()]
    return f"{response['description']} {', '.join(kinds)}".strip()


def _named(content: Document) -> str:
    return f": {_kind(content['schema'])}" if "$ref" in content.get("schema", {}) else ""


def _schemas(document: Document) -> Iterator[str]:
    for name, schema in document["components"]["schemas"].items():
        if "properties" in schema:
            yield f"### {name}\n\n{schema['description']}\n\n{_members(schema)}\n"


def _problems(document: Document) -> str:
    values = [example["value"] for example in document["components"]["examples"].values()]
    rows = ((f"`{one['code']}`", str(one["status"]), one["detail"]) for one in values)
    return f"## Problems\n\n{_table(('code', 'status', 'meaning'), sorted(rows))}\n"


def _members(schema: Document) -> str:
    required = schema.get("required", [])
    rows = (
        (f"`{name}`", "yes" if name in required else "", *_typed(member))
        for name, member in schema["properties"].items()
    )
    return _table(("member", "always", "type", "meaning"), rows)


def _kind(schema: Document) -> str:
    """Name the type of a schema."""
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return f"[{name}](#{name.lower()})"
    if "anyOf" in schema:
        return " or ".join(map(_kind, schema["anyOf"]))
    if len(schema.get("enum", [None] * MANY)) < MANY:
        return ", ".join(f"`{json.dumps(value)}`" for value in schema["enum"])
    if schema.get("type") == "array":
        return f"list of {_kind(schema['items'])}"
    return " or ".join(_types(schema))


def _types(schema: Document) -> list[str]:
    types = schema.get("type", "anything")
    named = [types] if isinstance(types, str) else types
    return [schema.get("format", one) if one == "string" else one for one in named]


def _table(head: Sequence[str], rows: Rows) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(map(_cell, line))} |" for line in lines)


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")
