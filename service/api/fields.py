"""Fields of requests and answers: stricter than marshmallow's own, described for OpenAPI."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, TypedDict, Unpack

from marshmallow import Schema, ValidationError, fields

COMPONENT = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
REPOSITORY = rf"{COMPONENT}(?:/{COMPONENT})*"
TAG = r"[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}"
DIGEST = r"sha256:[a-f0-9]{64}"
LISTED_DIGEST = r"sha256:[a-f0-9]{64}|sha512:[a-f0-9]{128}"
ID = r"[0-9a-f]{32}"
REGISTRY = r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}"
CONTAINER = r"(?:[A-Za-z0-9._-]+:)?[A-Za-z0-9][A-Za-z0-9_.-]*"
LINE = r"[^\u0000-\u001f\u007f]{1,200}"
"""One line of text."""

DIGEST_EXAMPLE = "sha256:" + "4b" * 32
OTHER_EXAMPLE = "sha256:" + "a3" * 32
ID_EXAMPLE = "0192" * 8
TIME_EXAMPLE = "2026-01-31T12:00:00Z"

CURSOR = r"(?:[2-6][0-9a-f]|7[0-9a-e]){1,510}"
"""The last key in hexadecimal: printable ASCII alone, so that whatever matches is a position."""

ID_CURSOR = r"(?:3[0-9]|6[1-6]){32}"
"""An id in hexadecimal, once more."""

RFC3339 = re.compile(
    r"\d{4}-(?:0[1-9]|1[0-2])-(?:[0-2]\d|3[01])[Tt](?:[01]\d|2[0-3]):[0-5]\d:[0-5]\d(?:\.\d+)?"
    r"(?:[Zz]|[+-](?:[01]\d|2[0-3]):[0-5]\d)",
    re.ASCII,
)


def about(description: str, *, example: object = ..., **more: object) -> dict[str, Any]:
    """Make the metadata of a field: what OpenAPI says of it."""
    shown = {} if example is ... else {"examples": [example]}
    return {"description": description, **shown, **more}


def whole(pattern: str) -> str:
    """Anchor a pattern as JSON Schema needs it."""
    return f"^(?:{pattern})$"


def rfc3339(time: datetime) -> str:
    """Write a time as the API does: UTC, with ``Z``."""
    return time.astimezone(UTC).isoformat().replace("+00:00", "Z")


class Options(TypedDict, total=False):
    """What the fields here take, of marshmallow's many options."""

    metadata: dict[str, Any]
    required: bool
    load_default: Any
    allow_none: bool | None


def _described(options: Options, **more: object) -> Options:
    return {**options, "metadata": {**more, **options.get("metadata", {})}}


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise ValidationError("Must be a text.")
    return value


class Text(fields.String):
    """A text that matches ``pattern`` from its first to its last character."""

    def __init__(
        self, pattern: str = LINE, rule: str = "one line of text", **options: Unpack[Options]
    ) -> None:
        """``rule`` completes the sentence 'Must be ...'."""
        super().__init__(**_described(options, pattern=whole(pattern)))
        self._pattern = re.compile(pattern)
        self._rule = rule

    def _deserialize(self, value: object, attr: object, data: object, **_: object) -> str:
        del attr, data
        if not self._pattern.fullmatch(_text(value)):
            raise ValidationError(f"Must be {self._rule}.")
        return _text(value)


class Name(fields.String):
    """A name of the OCI grammar, parsed: a malformed one is a problem of its own, with its code."""

    def __init__(
        self, parse: Callable[[str], str], pattern: str, **options: Unpack[Options]
    ) -> None:
        """``parse`` raises InvalidName."""
        super().__init__(**_described(options, pattern=whole(pattern)))
        self._parse = parse

    def _deserialize(self, value: object, attr: object, data: object, **_: object) -> str:
        del attr, data
        return self._parse(_text(value))


class Names(fields.List[str]):
    """Names separated by commas, in a query parameter."""

    is_multiple = False  # for webargs: the parameter is given once

    def __init__(
        self, parse: Callable[[str], str], pattern: str, **options: Unpack[Options]
    ) -> None:
        """``parse`` raises InvalidName."""
        super().__init__(Name(parse, pattern), **_described(options, minItems=1))
        self._parse = parse

    def _deserialize(self, value: object, attr: object, data: object, **_: object) -> list[Any]:
        del attr, data
        return [self._parse(part) for part in _text(value).split(",")]


class Flag(fields.Boolean):
    """``true`` or ``false`` in a query parameter, nothing else."""

    def _deserialize(self, value: object, attr: object, data: object, **_: object) -> bool:
        del attr, data
        if value not in ("true", "false"):
            raise ValidationError("Must be true or false.")
        return value == "true"


class Switch(fields.Boolean):
    """JSON's true or false in a body, nothing else."""

    def _deserialize(self, value: object, attr: object, data: object, **_: object) -> bool:
        del attr, data
        if not isinstance(value, bool):
            raise ValidationError("Must be true or false.")
        return value


class _Bounded(fields.Integer):
    """A whole number from ``low`` to ``high``, both included."""

    def __init__(self, low: int, high: int, **options: Unpack[Options]) -> None:
        """Both bounds are told in the document, too."""
        super().__init__(**_described(options, minimum=low, maximum=high))
        self._low, self._high = low, high

    def _deserialize(self, value: object, attr: object, data: object, **_: object) -> int:
        del attr, data
        number = self._read(value)
        if number is None or not self._low <= number <= self._high:
            raise ValidationError(f"Must be a whole number from {self._low} to {self._high}.")
        return number

    def _read(self, value: object) -> int | None:
        """The number; None for whatever is none."""
        raise NotImplementedError


class Whole(_Bounded):
    """A whole number in a body, which JSON may write as ``1.0``."""

    def _read(self, value: object) -> int | None:
        number = isinstance(value, int | float) and not isinstance(value, bool)
        return int(value) if number and value == value // 1 else None  # type: ignore[operator]


class Count(_Bounded):
    """A whole number in a query parameter, in plain digits."""

    def _read(self, value: object) -> int | None:
        return int(_text(value)) if re.fullmatch("[0-9]{1,9}", _text(value)) else None


class Cursor(fields.String):
    """A position in a list: the last key seen, in hexadecimal."""

    def __init__(self, pattern: str = CURSOR, **options: Unpack[Options]) -> None:
        """Like any field; ``pattern`` is that of the keys, in hexadecimal."""
        super().__init__(**_described(options, pattern=whole(pattern)))
        self._pattern = pattern

    def _deserialize(self, value: object, attr: object, data: object, **_: object) -> str:
        del attr, data
        if not re.fullmatch(self._pattern, _text(value)):
            raise ValidationError("Must be a value of an earlier answer's 'next'.")
        return bytes.fromhex(_text(value)).decode("ascii")


class Time(fields.AwareDateTime):
    """A time of RFC 3339; written in UTC with ``Z``."""

    def _serialize(
        self, value: datetime | None, attr: object, obj: object, **_: object
    ) -> str | None:
        del attr, obj
        return None if value is None else rfc3339(value)

    def _deserialize(self, value: object, attr: object, data: object, **_: object) -> datetime:
        del attr, data
        if not RFC3339.fullmatch(_text(value)):
            raise ValidationError("Must be a time of RFC 3339, such as 2026-01-31T12:00:00Z.")
        try:
            return datetime.fromisoformat(_text(value).upper()).astimezone(UTC)
        except (ValueError, OverflowError):
            raise ValidationError("There is no such time.") from None


# Fields of answers, in one line each.


def text(
    description: str, example: str | None, *, nullable: bool = False, **more: object
) -> fields.String:
    """A text."""
    return fields.String(
        allow_none=nullable or None, metadata=about(description, example=example, **more)
    )


def digest(
    description: str, example: str | None = DIGEST_EXAMPLE, *, nullable: bool = False
) -> fields.String:
    """A digest that a registry serves."""
    return text(description, example, nullable=nullable, pattern=whole(DIGEST))


def listed_digest(description: str) -> fields.String:
    """A digest as a manifest lists it, of whatever algorithm."""
    return text(description, OTHER_EXAMPLE, pattern=whole(LISTED_DIGEST))


def number(description: str, example: int, *, nullable: bool = False) -> fields.Integer:
    """A whole number, never negative."""
    return fields.Integer(
        allow_none=nullable or None, metadata=about(description, example=example, minimum=0)
    )


def truth(description: str, *, example: bool, nullable: bool = False) -> fields.Boolean:
    """True or false."""
    return fields.Boolean(allow_none=nullable or None, metadata=about(description, example=example))


def moment(description: str, *, nullable: bool = False) -> Time:
    """A time."""
    return Time(allow_none=nullable or None, metadata=about(description, example=TIME_EXAMPLE))


def listing(
    of: fields.Field[Any] | type[Schema], description: str, *, nullable: bool = False
) -> fields.List[Any]:
    """A list of such fields, or of such objects."""
    inner = of if isinstance(of, fields.Field) else fields.Nested(of)
    return fields.List(inner, allow_none=nullable or None, metadata={"description": description})


def texts(description: str) -> fields.Dict:
    """Texts by name, as labels and annotations are."""
    example = {"org.opencontainers.image.version": "3.20"}
    return fields.Dict(
        keys=fields.String(), values=fields.String(), metadata=about(description, example=example)
    )
