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

from service.domain.content import Platform, parse_platform

_TIME = re.compile(r"(\d{4}-\d\d-\d\d)[Tt ](\d\d:\d\d:\d\d)(\.\d+)?([Zz]|[+-]\d\d:\d\d)")


def normalised_time(text: object) -> str | None:
    """Turn RFC 3339 into UTC with ``Z``, keeping the digits of the fraction; None if it is none."""
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
    steps = tuple(_text(step.get("created_by")) for step in history if not step.get("empty_layer"))
    return _config(document, steps)


def schema1_config(history: Sequence[Mapping[str, Any]]) -> ImageConfig:
    """Read the v1 images of a schema1 manifest, base first: the last one describes the image."""
    return _config(_mapping(history[-1]), tuple(_v1_step(_mapping(image)) for image in history))


def _v1_step(image: Mapping[str, Any]) -> str | None:
    command = _texts(_mapping(image.get("container_config")).get("Cmd"))
    return " ".join(command) if command else None


def _config(document: Mapping[str, Any], steps: tuple[str | None, ...]) -> ImageConfig:
    platform = parse_platform(document) or Platform("", "")
    run = _mapping(document.get("config"))
    labels = _mapping(run.get("Labels"))
    return ImageConfig(
        created=normalised_time(document.get("created")),
        architecture=platform.architecture or None,
        os=platform.os or None,
        variant=platform.variant,
        labels={str(key): text for key, text in labels.items() if isinstance(text, str)},
        entrypoint=_texts(run.get("Entrypoint")),
        cmd=_texts(run.get("Cmd")),
        env=_texts(run.get("Env")) or (),
        user=_text(run.get("User")),
        working_dir=_text(run.get("WorkingDir")),
        exposed_ports=tuple(sorted(map(str, _mapping(run.get("ExposedPorts"))))),
        layer_steps=steps,
    )


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _sequence(value: object) -> Sequence[Any]:
    return value if isinstance(value, list) else ()


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value else None


def _texts(value: object) -> tuple[str, ...] | None:
    if isinstance(value, str):  # shell form, as some builders write it
        return (value,)
    if not isinstance(value, list):
        return None
    return tuple(item for item in value if isinstance(item, str))
