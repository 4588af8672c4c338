"""Our application, Api, Blueprint, schemas and converters: the only importer of flask-smorest.

A blueprint offers two kinds of routes: :meth:`Blueprint.read` and :meth:`Blueprint.change`. The
application refuses any other route that could change something.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial, wraps
from typing import Any, ClassVar, NoReturn, TypeVar

import flask_smorest
import marshmallow as ma
from apispec.ext.marshmallow import MarshmallowPlugin
from apispec.ext.marshmallow.openapi import OpenAPIConverter
from flask import Flask, Request, Response, request
from flask.json.provider import DefaultJSONProvider
from webargs.flaskparser import FlaskParser
from werkzeug.routing import BaseConverter

from service.api import guard, openapi, requests
from service.api.errors import MalformedBody, UnsupportedMediaType
from service.api.fields import Names
from service.api.openapi import Media, Operation
from service.domain.audit import Change
from service.domain.errors import ValidationFailed
from service.domain.reference import Digest

Function = TypeVar("Function", bound=Callable[..., Any])

SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
WITH_BODY = frozenset({"POST", "PUT"})
ERRORS_SHOWN = 50


class Schema(ma.Schema):
    """What a request may hold; anything else is refused."""

    json_schema: ClassVar[Mapping[str, object]] = {}
    """What JSON Schema can say of it beyond its fields."""

    class Meta:
        unknown = ma.RAISE


class Answer(ma.Schema):
    """What an answer holds: every field, always."""

    json_schema: ClassVar[Mapping[str, object]] = {}

    class Meta:
        # Clients must not rely on a closed set: the contract grows by new fields.
        unknown = ma.EXCLUDE

    def on_bind_field(self, field_name: str, field_obj: ma.fields.Field[Any]) -> None:
        """Mark each field as always there."""
        super().on_bind_field(field_name, field_obj)
        field_obj.required = True


class NoOptions(Schema):
    """No query parameters."""


_NO_OPTIONS = NoOptions()


class AnythingConverter(BaseConverter):
    """A part of a path with whatever in it: names are parsed later, so that 401 and 403 come first.

    It may hold slashes, since ``%2F`` and ``/`` are the same once the server has decoded the path.
    """

    part_isolating = False
    regex = r"[\s\S]+?"


class Parser(FlaskParser):
    """Reads query and body strictly and answers what is wrong by our problems."""

    def __init__(self) -> None:
        super().__init__(unknown=ma.RAISE)

    def load_querystring(self, req: Request, schema: ma.Schema) -> Any:  # noqa: ANN401 - as webargs has it
        """Load the query; a parameter given twice is refused, as its meaning would be a guess."""
        twice = [name for name, values in req.args.lists() if len(values) > 1]
        if twice:
            raise ma.ValidationError({name: ["Given more than once."] for name in twice})
        return super().load_querystring(req, schema)

    def load_json(self, req: Request, schema: ma.Schema) -> Any:  # noqa: ANN401 - as webargs has it
        """Load the body; raise UnsupportedMediaType or MalformedBody. No body is an empty one."""
        del schema
        body = requests.body()
        if not body:
            return {}
        if req.mimetype != "application/json":
            raise UnsupportedMediaType("Send the body as application/json. Nothing was changed.")
        return strict_json(body)

    def handle_error(self, error: ma.ValidationError, *_: object, **__: object) -> NoReturn:
        """Raise ValidationFailed with a place for each error."""
        messages = error.messages_dict
        flat = [
            {_place(location): _pointer(location, path), "detail": text}
            for location, tree in messages.items()
            for path, text in _leaves(tree, ())
        ]
        raise ValidationFailed(flat[:ERRORS_SHOWN])


def _leaves(tree: object, path: tuple[str, ...]) -> Sequence[tuple[tuple[str, ...], str]]:
    if isinstance(tree, Mapping):
        deeper = [(key, branch) for key, branch in tree.items()]
        return [leaf for key, branch in deeper for leaf in _leaves(branch, _down(path, key))]
    texts = tree if isinstance(tree, list) else [tree]
    return [(path, str(text)) for text in texts]


def _down(path: tuple[str, ...], key: object) -> tuple[str, ...]:
    return path if key == "_schema" else (*path, str(key))


def _place(location: str) -> str:
    return "pointer" if location == "json" else "parameter"


def _pointer(location: str, path: Sequence[str]) -> str:
    if location != "json":
        return path[0] if path else ""
    return "".join("/" + part.replace("~", "~0").replace("/", "~1") for part in path)


def strict_json(body: bytes) -> object:
    """Parse JSON as RFC 8259 and RFC 7493 have it; raise MalformedBody.

    No NaN, no name twice in an object, no half of a surrogate pair, no nesting without end.
    """
    try:
        document = json.loads(
            body.decode(), parse_constant=_constant, object_pairs_hook=_unambiguous
        )
        json.dumps(document, ensure_ascii=False).encode()
    except (ValueError, RecursionError) as error:
        raise MalformedBody("The body is not valid JSON. Nothing was changed.") from error
    return document


def _constant(name: str) -> NoReturn:
    raise ValueError(name)


def _unambiguous(pairs: list[tuple[str, object]]) -> dict[str, object]:
    document = dict(pairs)
    if len(document) != len(pairs):
        raise ValueError("a name is given twice")
    return document


PARSER = Parser()


class Json(DefaultJSONProvider):
    """JSON in the order of the contract, without spaces."""

    sort_keys = False
    compact = True


class Application(Flask):
    """Flask without unaudited changes: a route that could change something comes from `change`."""

    def __init__(self) -> None:
        super().__init__("service", static_folder=None)
        self.config["MAX_CONTENT_LENGTH"] = requests.BODY_LIMIT
        self.url_map.merge_slashes = False
        self.json = Json(self)

    def require_audited(self) -> None:
        """Raise RuntimeError when a route could change something without an audit record."""
        for rule in self.url_map.iter_rules():
            self._require_audited(rule.rule, rule.methods or (), self.view_functions[rule.endpoint])

    def add_url_rule(
        self,
        rule: str,
        endpoint: str | None = None,
        view_func: Callable[..., Any] | None = None,
        provide_automatic_options: bool | None = None,  # noqa: FBT001 - Flask's signature
        **options: Any,  # noqa: ANN401 - Flask's signature
    ) -> None:
        """Add a route; raise RuntimeError for an unsafe method outside ``Blueprint.change``."""
        methods = options.get("methods") or getattr(view_func, "methods", None) or ("GET",)
        self._require_audited(rule, methods, view_func)
        super().add_url_rule(rule, endpoint, view_func, provide_automatic_options, **options)

    def make_default_options_response(self) -> Response:
        """Answer OPTIONS: the methods, and nothing else."""
        response = super().make_default_options_response()
        response.status_code = 204
        del response.headers["Content-Type"]
        return response

    def _require_audited(self, rule: str, methods: Iterable[str], view: object) -> None:
        unsafe = {method.upper() for method in methods} - SAFE
        if unsafe and not guard.is_audited(view):
            raise RuntimeError(f"{rule}: {', '.join(sorted(unsafe))} without an audit record")


class Converter(OpenAPIConverter):
    """Describes schemas with what their classes say beyond their fields."""

    def schema2jsonschema(self, schema: Any) -> dict[str, Any]:  # noqa: ANN401 - as apispec has it
        """Describe a schema."""
        described = super().schema2jsonschema(schema)
        kind = schema if isinstance(schema, type) else type(schema)
        described["description"] = inspect.cleandoc(kind.__doc__ or "").replace("\n", " ")
        described.update(getattr(kind, "json_schema", {}))
        return described


class Plugin(MarshmallowPlugin):
    """Uses our converter."""

    Converter = Converter


class Api(flask_smorest.Api):
    """flask-smorest without its own errors, pages and defaults."""

    DEFAULT_ERROR_RESPONSE_NAME = None

    def __init__(self, app: Flask) -> None:
        """Describe what is registered from now on."""
        app.url_map.converters["anything"] = AnythingConverter
        super().__init__(app, spec_kwargs={"marshmallow_plugin": Plugin(), **openapi.ABOUT})
        self.ma_plugin.converter.add_parameter_attribute_function(_comma_separated)
        openapi.add_components(self.spec)

    def _nothing(self) -> None:
        """Do without what flask-smorest would add."""

    # Errors are the problems module's, and its stock components would go unused.
    _register_error_handlers = _nothing
    _register_responses = _nothing
    _register_etag_headers = _nothing
    _register_pagination_header = _nothing


def _comma_separated(_converter: object, field: object, **_: object) -> dict[str, object]:
    return {"style": "form", "explode": False} if isinstance(field, Names) else {}


class Blueprint(flask_smorest.Blueprint):
    """A noun's routes."""

    ARGUMENTS_PARSER = PARSER

    def __init__(self, name: str, description: str) -> None:
        """``name`` groups the operations in the document."""
        super().__init__(name, __name__, description=description)
        self._prepare_doc_cbks.append(openapi.complete_operation)

    def read(
        self, path: str, says: Operation, query: type[Schema] = NoOptions
    ) -> Callable[[Function], Function]:
        """Register a view for GET and HEAD.

        It is called with the options, where there is a ``query``, and with the names in ``path``.
        """

        def register(function: Function) -> Function:
            view = self._with_query(_answering(self, function, says), query)
            self._add(path, guard.guarded(view, says.scope, guard.PARSERS), says)
            return function

        return register

    def change(
        self,
        path: str,
        says: Operation,
        action: str,
        options: type[Schema] = NoOptions,
        makes: str | None = None,
    ) -> Callable[[Function], Function]:
        """Register a view that changes something, under an audit record of ``action``.

        It is called with the Change, the options, where there are any (members of the body of POST
        and PUT, query parameters of DELETE), and with the names in ``path``; where it ``makes``
        something, with the id for that by this name as well.
        """
        parsers = {**guard.PARSERS, **({"reference": Digest.parse} if says.by_digest else {})}
        in_body = says.method in WITH_BODY

        def register(function: Function) -> Function:
            view = _noting(_answering(self, function, says))
            view = self._with_body(view, options) if in_body else _bodiless(view)
            view = _limited(self._with_query(view, NoOptions if in_body else options), says)
            self._add(path, guard.audited(view, says.scope, action, parsers, makes), says)
            return function

        return register

    def _with_body(self, view: guard.View, options: type[Schema]) -> guard.View:
        schema = options()
        required = bool(schema.json_schema) or any(f.required for f in schema.fields.values())
        parsing: guard.View = self.arguments(schema, required=required)(view)
        return parsing

    def _with_query(self, view: guard.View, query: type[Schema]) -> guard.View:
        if query is NoOptions:
            return _optionless(view)
        parsing: guard.View = self.arguments(query(), location="query")(view)
        return parsing

    def _add(self, path: str, view: guard.View, says: Operation) -> None:
        vars(view)["_apidoc"] = {**vars(view).get("_apidoc", {}), "says": replace(says, path=path)}
        self.route(
            path,
            methods=[says.method],
            endpoint=says.id,
            parameters=openapi.path_parameters(path),
        )(view)


def _answering(
    blueprint: flask_smorest.Blueprint, function: Callable[..., Any], says: Operation
) -> guard.View:
    if isinstance(says.answer, Media) or says.answer is None:
        return function
    answering: guard.View = blueprint.response(says.status, says.answer, description=says.says)(
        function
    )
    return answering


def _wrapped(view: guard.View, before: Callable[..., None]) -> guard.View:
    def wrapper(*given: object, **names: object) -> Response:
        before(*given)
        return view(*given, **names)

    return wraps(view)(wrapper)


def _limited(view: guard.View, says: Operation) -> guard.View:
    """Let a body be as long as the operation says; who may not ask at all is refused before."""

    def widen(*_: object) -> None:
        request.max_content_length = says.body_limit

    return _wrapped(view, before=widen)


def _note_dry_run(change: Change, *options: Mapping[str, object]) -> None:
    for given in options:
        if "dry_run" in given:
            change.details["dry_run"] = given["dry_run"]


def _refuse_options(*_: object) -> None:
    PARSER.parse(_NO_OPTIONS, location="query")


def _refuse_body(*_: object) -> None:
    # An option sent in the wrong place, such as dry_run, must not pass unseen.
    if requests.body():
        raise ValidationFailed(
            [{"pointer": "", "detail": "Takes no body: send options as query parameters."}]
        )


_noting = partial(_wrapped, before=_note_dry_run)
_optionless = partial(_wrapped, before=_refuse_options)
_bodiless = partial(_wrapped, before=_refuse_body)
