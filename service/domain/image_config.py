"""Image configs: what an image says of itself.

Fields: OCI Image Specification 1.1, "Image Configuration"; Docker's v1 images for schema1.
A config is content that anybody may have pushed, so a field of the wrong type is left out
rather than trusted or refused.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from service.domain.content import Platform, as_text, as_texts, encodable, parse_platform

_HOUR, _MINUTE = r"(?:[01][0-9]|2[0-3])", r"[0-5][0-9]"
_TIME = re.compile(
    r"([0-9]{4}-[0-9]{2}-[0-9]{2})[Tt ]"
    rf"({_HOUR}:{_MINUTE}:{_MINUTE})(?:(\.[0-9]{{1,9}})[0-9]*)?([Zz]|[+-]{_HOUR}:{_MINUTE})"
)


def normalised_time(text: object) -> str | None:
    """Turn RFC 3339 into UTC with ``Z``; None if it is no such text.

    The digits of the fraction are kept, up to nanoseconds: what is remembered must stay short.
    """
    match = _TIME.fullmatch(text) if isinstance(text, str) else None
    if match is None:
        return None
    date, clock, fraction, zone = match.groups()
    try:
        moment = datetime.fromisoformat(f"{date}T{clock}{'+00:00' if zone in 'Zz' else zone}")
        seconds = moment.astimezone(UTC).replace(tzinfo=None).isoformat(timespec="seconds")
    except (ValueError, OverflowError):
        return None
    return f"{seconds}{fraction or ''}Z"


def time_key(text: str) -> str:
    """Order normalised times: without the ``Z`` a longer fraction sorts after a shorter one."""
    return text.removesuffix("Z")


@dataclass(frozen=True, slots=True)
class ImageConfig:
    """An image's config. ``layer_steps`` has the command behind each layer, in order."""

    created: str | None = None
    architecture: str | None = None
    os: str | None = None
    variant: str | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    entrypoint: tuple[str, ...] | None = None
    cmd: tuple[str, ...] | None = None
    env: tuple[str, ...] = ()
    user: str | None = None
    working_dir: str | None = None
    exposed_ports: tuple[str, ...] = ()
    layer_steps: tuple[str | None, ...] = ()

    @property
    def platform(self) -> Platform:
        """The platform the image is for."""
        return Platform(self.os or "", self.architecture or "", self.variant)


def parse_config(body: bytes) -> ImageConfig:
    """Read a config; one that is no JSON object says nothing."""
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        document = None
    document = _mapping(document)
    history = [_mapping(step) for step in _sequence(document.get("history"))]
    steps = tuple(
        as_text(step.get("created_by")) for step in history if not step.get("empty_layer")
    )
    return _config(document, steps)


def schema1_config(history: Sequence[object]) -> ImageConfig:
    """Read the v1 images of a schema1 manifest, base first: the last one describes the image."""
    return _config(_mapping(history[-1]), tuple(_v1_step(_mapping(image)) for image in history))


def _v1_step(image: Mapping[str, Any]) -> str | None:
    command = _arguments(_mapping(image.get("container_config")).get("Cmd"))
    return " ".join(command) if command else None


def _config(document: Mapping[str, Any], steps: tuple[str | None, ...]) -> ImageConfig:
    platform = parse_platform(document)
    run = _mapping(document.get("config"))
    return ImageConfig(
        created=normalised_time(document.get("created")),
        architecture=platform.architecture or None,
        os=platform.os or None,
        variant=platform.variant,
        labels=as_texts(run.get("Labels")),
        entrypoint=_arguments(run.get("Entrypoint")),
        cmd=_arguments(run.get("Cmd")),
        env=_arguments(run.get("Env")) or (),
        user=as_text(run.get("User")),
        working_dir=as_text(run.get("WorkingDir")),
        exposed_ports=_arguments(sorted(_mapping(run.get("ExposedPorts")))) or (),
        layer_steps=steps,
    )


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _sequence(value: object) -> Sequence[Any]:
    return value if isinstance(value, list) else ()


def _arguments(value: object) -> tuple[str, ...] | None:
    """Read a command or the like; some builders write one text, in shell form."""
    if isinstance(value, str):
        return _arguments([value])
    if not isinstance(value, list):
        return None
    return tuple(encodable(item) for item in value if isinstance(item, str))
