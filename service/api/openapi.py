"""What the OpenAPI document says beyond fields and paths: problems, headers, examples, security."""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, Literal

import marshmallow as ma

import service
from service.api import errors as refusals
from service.api import fields, problems, requests
from service.api.guard import PUBLIC
from service.domain import errors
from service.domain.errors import RegistryAdminError
from service.domain.reference import REPOSITORY_LIMIT

Document = dict[str, Any]
Kind = type[RegistryAdminError]

ABOUT: Mapping[str, Any] = {
    "title": "registry-admin",
    "version": service.__version__,
    "openapi_version": "3.1.0",
    "info": {
        "description": (
            "See, safely delete and maintain what a container registry holds.\n\n"
            "A repository name may hold slashes; `/-/` ends it, and `%2F` is the same as `/`. "
            "Lists are pages: follow `next` until it is null. Every error is a problem of RFC 9457 "
            "with a stable `code`. HEAD is answered wherever GET is."
        ),
        "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
    },
    "servers": [{"url": "/", "description": "Where this document comes from."}],
}

UPSTREAM: tuple[Kind, ...] = (
    errors.RegistryUnreachable,
    errors.RegistryTlsUntrusted,
    errors.RegistryUnauthorized,
    errors.RegistryAnswerInvalid,
    errors.RegistryRateLimited,
    errors.RegistryTimeout,
)
"""What any operation can answer that asks a registry."""


@dataclass(frozen=True, slots=True)
class Media:
    """An answer that is no JSON of ours: by media type what OpenAPI says of it."""

    types: Mapping[str, Mapping[str, Any]]


Method = Literal["GET", "POST", "PUT", "DELETE"]


@dataclass(frozen=True, slots=True)
class Operation:
    """What the document says of an operation. ``also`` are further statuses with the same body.

    ``scope`` is None where any token will do.
    """

    id: str
    scope: str | None
    answer: type[ma.Schema] | Media | None
    problems: tuple[Kind, ...] = ()
    method: Method = "GET"
    path: str = ""
    status: int = 200
    says: str = "As asked."
    also: Mapping[int, str] | None = None
    headers: tuple[str, ...] = ()
    parameters: tuple[str, ...] = ()
    by_digest: bool = False
    """Whether its ``reference`` must be a digest."""

    body_limit: int = requests.BODY_LIMIT
    """Bytes that its body may have, less one."""


SECTIONS = ("openapi", "info", "servers", "tags", "paths", "components")

DOCUMENT = "openapi-document"
"""Where an application keeps its document."""

_PATH: Mapping[str, tuple[str, str, Document]] = {
    "registry": ("The registry's configured name.", "default", {"pattern": fields.REGISTRY}),
    "repository": (
        "The repository's name; slashes as they are or as `%2F`.",
        "library/alpine",
        {"pattern": fields.REPOSITORY, "maxLength": REPOSITORY_LIMIT},
    ),
    "tag": ("The tag.", "3.20", {"pattern": fields.TAG}),
    "digest": ("The manifest's digest.", "sha256:" + "4b" * 32, {"pattern": fields.DIGEST}),
    "reference": ("A tag, or a digest.", "3.20", {"pattern": f"{fields.TAG}|{fields.DIGEST}"}),
    "container": (
        "The container's name; `engine:name` where several engines have one of that name.",
        "registry",
        {"pattern": fields.CONTAINER},
    ),
    "image": (
        "The image's name or id; slashes as they are or as `%2F`.",
        "team/app:1.2",
        {"pattern": r"[A-Za-z0-9][A-Za-z0-9._:@/+-]*"},
    ),
    "deletion_id": ("The deletion's id.", "0192" * 8, {"pattern": fields.ID}),
    "token_id": ("The token's id.", "0192" * 8, {"pattern": fields.ID}),
    "job_id": ("The job's id.", "0192" * 8, {"pattern": fields.ID}),
}

_NAMED: Mapping[str, tuple[Kind, ...]] = {
    "registry": (errors.RegistryUnknown,),
    "repository": (errors.InvalidRepositoryName,),
    "tag": (errors.InvalidTag,),
    "digest": (errors.InvalidDigest,),
    "reference": (errors.InvalidTag, errors.InvalidDigest),
}

_HEADERS: Mapping[str, Document] = {
    "X-Request-Id": {
        "description": "The request's id: the caller's own, where it sent a sane one.",
        "required": True,
        "schema": {"type": "string", "pattern": fields.whole("[A-Za-z0-9._:/+=@-]{1,128}")},
    },
    "Link": {
        "description": 'The next page, `rel="next"`; absent on the last one.',
        "schema": {"type": "string"},
    },
    "ETag": {
        "description": "The digest, in quotes; absent where there is none.",
        "schema": {"type": "string", "pattern": f'^"{fields.DIGEST}"$'},
    },
    "Docker-Content-Digest": {
        "description": "The digest of the body.",
        "required": True,
        "schema": {"type": "string", "pattern": fields.whole(fields.DIGEST)},
    },
    "Location": {
        "description": "Where what was made can be asked for.",
        "schema": {"type": "string"},
    },
    "Preference-Applied": {
        "description": "`wait=N` where the answer was held; it may have come before the end.",
        "schema": {"type": "string"},
    },
    "Retry-After": {
        "description": "Seconds after which trying again makes sense.",
        "schema": {"type": "integer", "minimum": 0},
    },
    "WWW-Authenticate": {
        "description": "How to authenticate, RFC 6750.",
        "required": True,
        "schema": {"type": "string", "pattern": "^Bearer "},
    },
}

_PARAMETERS: Mapping[str, Document] = {
    "If-Match": {
        "in": "header",
        "name": "If-Match",
        "description": "Change the tag only while it is on this digest (its `ETag`).",
        "schema": {"type": "string"},
    },
    "If-None-Match": {
        "in": "header",
        "name": "If-None-Match",
        "description": "Answer 304 without a body while the digest (its `ETag`) is this one.",
        "schema": {"type": "string"},
    },
    "Prefer": {
        "in": "header",
        "name": "Prefer",
        "description": "`wait=N` holds the answer for at most N seconds (60) until the job ends.",
        "schema": {"type": "string"},
    },
    "Last-Event-ID": {
        "in": "header",
        "name": "Last-Event-ID",
        "description": "Go on with the stream of events behind this one.",
        "schema": {"type": "string"},
    },
}

_MEMBERS: Document = {
    "errors": {
        "description": "What is wrong with which part of the request.",
        "type": "array",
        "items": {
            "type": "object",
            "required": ["detail"],
            "properties": {
                "pointer": {"description": "JSON Pointer into the body.", "type": "string"},
                "parameter": {"description": "A query parameter.", "type": "string"},
                "detail": {"description": "What is wrong.", "type": "string"},
            },
        },
    },
    "required_scope": {"description": "The scope it takes.", "type": "string"},
    "job": {"description": "Id of the job that is in the way.", "type": "string"},
    "state": {"description": "Where the job stands.", "type": "string"},
    "header": {"description": "The header that is malformed.", "type": "string"},
    "tags": {
        "description": "Tags in the way; with `tag-exists`, where each is and where it was to go.",
        "type": "array",
        "items": {
            "anyOf": [
                {"type": "string"},
                {
                    "type": "object",
                    "required": ["tag", "digest", "current"],
                    "properties": {
                        "tag": {"description": "The tag.", "type": "string"},
                        "digest": {"description": "Where it was.", "type": "string"},
                        "current": {"description": "Where it is.", "type": "string"},
                    },
                },
            ]
        },
    },
    "deletion": {
        "description": "Id of the deletion that was interrupted, and is finished later.",
        "type": "string",
    },
    "parents": {
        "description": "Digests of the indexes that list the manifest.",
        "type": "array",
        "items": {"type": "string"},
    },
    "current": {"description": "The digest the tag is on.", "type": ["string", "null"]},
    "blobs": {
        "description": "Digests of the blobs that are gone.",
        "type": "array",
        "items": {"type": "string"},
    },
    "repositories": {
        "description": "Repositories that hold an index.",
        "type": "array",
        "items": {"type": "string"},
    },
    "health": {"description": "How each part of the service is.", "type": "object"},
}

PROBLEM: Document = {
    "type": "object",
    "description": "A problem, as in RFC 9457.",
    "required": ["type", "title", "status", "detail", "instance", "code", "request_id"],
    "properties": {
        "type": {
            "description": "A page about this code, on the service itself.",
            "type": "string",
            "format": "uri-reference",
        },
        "title": {"description": "The code in words.", "type": "string"},
        "status": {"description": "The HTTP status.", "type": "integer"},
        "detail": {"description": "What happened, and what to do.", "type": "string"},
        "instance": {
            "description": "The path asked for.",
            "type": "string",
            "format": "uri-reference",
        },
        "code": {"description": "What happened; never changes its meaning.", "type": "string"},
        "request_id": {"description": "The id of the request.", "type": "string"},
        **_MEMBERS,
    },
}

_SAMPLE_MEMBERS: Mapping[Kind, Document] = {
    errors.ValidationFailed: {"errors": [{"parameter": "n", "detail": "Must be a whole number."}]},
    errors.InsufficientScope: {"required_scope": "registry:read"},
    refusals.MalformedHeader: {"header": "If-Match"},
    errors.ManifestTagged: {"tags": ["3.20"]},
    errors.ManifestInIndex: {"parents": ["sha256:" + "1d" * 32]},
    errors.TagExists: {
        "tags": [{"tag": "3.20", "digest": "sha256:" + "4b" * 32, "current": "sha256:" + "a3" * 32}]
    },
    errors.DigestMismatch: {"current": "sha256:" + "4b" * 32},
    errors.JobAlreadyActive: {"job": "0192" * 8},
    errors.GcAlreadyActive: {"job": "0192" * 8},
    errors.DeleteUntaggedUnsafe: {"repositories": ["library/alpine"]},
    errors.IdempotencyKeyReused: {"job": "0192" * 8},
    errors.JobNotCancellable: {"state": "succeeded"},
    errors.BlobsCollected: {"blobs": ["sha256:" + "a3" * 32]},
}


def add_components(spec: Any) -> None:  # noqa: ANN401 - apispec's own
    """Add what every document has."""
    spec.components.security_scheme(
        "token",
        {
            "type": "http",
            "scheme": "bearer",
            "description": "A token of `registry-admin token create` or of `POST /v1/tokens`.",
        },
    )
    spec.components.schema("Problem", PROBLEM)


def render(document: Mapping[str, Any]) -> str:
    """Write the document; the same each time."""
    ordered = {name: document[name] for name in SECTIONS}
    return json.dumps(ordered, indent=2, ensure_ascii=False) + "\n"


def template(rule: str) -> str:
    """Write a route as OpenAPI does."""
    return re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", rule)


def path_names(path: str) -> list[str]:
    """Give the names of the parameters of a route."""
    return re.findall(r"<(?:\w+:)?(\w+)>", path)


def path_parameters(path: str) -> list[Document]:
    """Describe the parameters of a route."""
    return [_path_parameter(name) for name in path_names(path)]


def _path_parameter(name: str) -> Document:
    description, example, schema = _PATH[name]
    return {
        "in": "path",
        "name": name,
        "required": True,
        "description": description,
        "schema": {
            "type": "string",
            **schema,
            "pattern": fields.whole(schema["pattern"]),
            "examples": [example],
        },
    }


def complete_operation(
    doc: Document,
    info: Document,
    *,
    spec: Any,  # noqa: ANN401 - apispec's own
    **_: object,
) -> Document:
    """Complete what flask-smorest says of an operation; raise KeyError when it has no id."""
    says: Operation = info["says"]
    doc["operationId"] = says.id
    doc["security"] = [] if says.scope == PUBLIC else [{"token": []}]
    _add_scope(info["docstring"], says.scope)
    _add_request(doc, says, spec)
    successes = _successes(doc.get("responses", {}), says)
    doc["responses"] = {**successes, **dict(_failures(says, spec))}
    _add_headers(doc["responses"], says, spec)
    return doc


def _add_scope(docstring: Document, scope: str | None) -> None:
    if scope is not None and scope != PUBLIC:
        said = docstring.get("description", "")
        docstring["description"] = f"{said}\n\nNeeds the scope `{scope}`.".strip()


def _add_request(doc: Document, says: Operation, spec: Any) -> None:  # noqa: ANN401 - apispec's own
    for name in says.parameters:
        key = name.replace("-", "")
        if key not in spec.components.parameters:
            spec.components.parameter(key, "header", _PARAMETERS[name])
        doc.setdefault("parameters", []).append(key)
    if says.by_digest:
        by_digest = {**_path_parameter("digest"), "name": "reference"}
        doc.setdefault("parameters", []).append(by_digest)
    for content in doc.get("requestBody", {}).get("content", {}).values():
        content["example"] = example(content["schema"])


def _successes(responses: Mapping[Any, Document], says: Operation) -> Document:
    first = responses.get(says.status, {"description": says.says})
    if isinstance(says.answer, Media):
        first["content"] = {kind: dict(content) for kind, content in says.answer.types.items()}
    elif says.answer is not None:
        first["content"]["application/json"]["example"] = example(says.answer)
    others = {
        str(status): {**first, "description": text} for status, text in (says.also or {}).items()
    }
    if "If-None-Match" in says.parameters:
        others["304"] = {"description": "Nothing has changed."}
    return dict(sorted({str(says.status): first, **others}.items()))


def possible_problems(says: Operation) -> list[Kind]:
    """List every class of problem that an operation can answer, by status and code."""
    kinds = {errors.ValidationFailed, errors.InternalError, *says.problems}
    for name in path_names(says.path):
        kinds |= {refusals.NotFound, *_NAMED.get(name, ())}
    if says.scope != PUBLIC:
        kinds |= {errors.Unauthenticated, errors.StoreUnavailable}
    if says.scope not in {None, PUBLIC}:
        kinds.add(errors.InsufficientScope)
    if says.method != "GET":
        kinds.add(refusals.ContentTooLarge)
    if says.method in {"POST", "PUT"}:
        kinds |= {refusals.MalformedBody, refusals.UnsupportedMediaType}
    if says.parameters:
        kinds.add(refusals.MalformedHeader)
    return sorted(kinds, key=lambda kind: (problems.row_of(kind).status, kind.code))


def _failures(says: Operation, spec: Any) -> Iterable[tuple[str, str]]:  # noqa: ANN401 - apispec's own
    for status, kinds in groupby(possible_problems(says), lambda k: problems.row_of(k).status):
        yield str(status), _response(list(kinds), spec)


def _response(kinds: Sequence[Kind], spec: Any) -> str:  # noqa: ANN401 - apispec's own
    name = ".".join(kind.__name__ for kind in kinds)
    if name not in spec.components.responses:
        for kind in kinds:
            _add_example(kind, spec)
        # By name: generated clients have one class for it, instead of one an operation and status.
        spec.components.schema(name, _problem_schema(kinds))
        spec.components.response(name, _problem_response(kinds, _reference("schemas", name)))
    return name


def _problem_schema(kinds: Sequence[Kind]) -> Document:
    codes = {"description": "What happened.", "type": "string", "enum": [k.code for k in kinds]}
    return {
        "description": f"A problem: {', '.join(kind.code for kind in kinds)}.",
        "allOf": [
            _reference("schemas", "Problem"),
            {"type": "object", "required": ["code"], "properties": {"code": codes}},
        ],
    }


def _problem_response(kinds: Sequence[Kind], schema: Document) -> Document:
    examples = {kind.code: _reference("examples", kind.code) for kind in kinds}
    return {
        "description": "\n".join(f"- `{kind.code}`: {meaning(kind)}" for kind in kinds),
        "headers": dict(_problem_headers(kinds)),
        "content": {problems.CONTENT_TYPE: {"schema": schema, "examples": examples}},
    }


def _problem_headers(kinds: Sequence[Kind]) -> Iterable[tuple[str, Document]]:
    yield "X-Request-Id", _reference("headers", "X-Request-Id")
    if errors.Unauthenticated in kinds:
        yield "WWW-Authenticate", _reference("headers", "WWW-Authenticate")
    if any(kind.retry_after is not RegistryAdminError.retry_after for kind in kinds):
        yield "Retry-After", _reference("headers", "Retry-After")


def _add_headers(responses: Document, says: Operation, spec: Any) -> None:  # noqa: ANN401 - apispec's own
    for response in responses.values():
        if isinstance(response, str):
            continue
        names = ["X-Request-Id", *says.headers]
        response["headers"] = {name: _reference("headers", name) for name in names}
    documented = [r["headers"] for r in responses.values() if not isinstance(r, str)]
    for name in _HEADERS:
        used = any(name in headers for headers in documented) or name in _ALWAYS
        if used and name not in spec.components.headers:
            spec.components.header(name, _HEADERS[name])


_ALWAYS = {"WWW-Authenticate", "Retry-After"}
"""Headers of problems that every document has."""


def _add_example(kind: Kind, spec: Any) -> None:  # noqa: ANN401 - apispec's own
    if kind.code in spec.components.examples:
        return
    row = problems.row_of(kind)
    value = {
        "type": problems.PAGES + kind.code,
        "title": row.title,
        "status": row.status,
        "detail": meaning(kind),
        "instance": "/v1/registries/default/repositories/library/alpine",
        "code": kind.code,
        "request_id": "0192" * 8,
        **_SAMPLE_MEMBERS.get(kind, {}),
    }
    spec.components.example(kind.code, {"summary": row.title, "value": value})


def meaning(kind: Kind) -> str:
    """Say what a class of problem means."""
    return inspect.cleandoc(kind.__doc__ or "").partition("\n\n")[0].replace("\n", " ")


def _reference(section: str, name: str) -> Document:
    return {"$ref": f"#/components/{section}/{name}"}


def example(schema: type[ma.Schema] | ma.Schema) -> Document:
    """Make an example from those of the fields; raise KeyError where a field has none."""
    instance = schema() if isinstance(schema, type) else schema
    chosen = getattr(instance, "shown", None) or list(instance.fields)
    return {name: _field_example(instance.fields[name]) for name in chosen}


def _field_example(field: ma.fields.Field[Any]) -> Any:  # noqa: ANN401 - whatever its type is
    if "examples" in field.metadata:
        return field.metadata["examples"][0]
    if isinstance(field, ma.fields.Nested):
        return example(field.schema)
    if isinstance(field, ma.fields.List):
        return [_field_example(field.inner)]
    raise KeyError(f"{field.parent}.{field.name} has no example")
