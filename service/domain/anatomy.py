"""How an image of an engine is made, layer by layer, and what containers on it add of their own."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from service.domain.concurrency import spread
from service.domain.containers import Allowed
from service.domain.engine import Engine, Inspected
from service.domain.errors import ContainerUnknown, ImageUnknown

MISSING = "<missing>"
"""What the engine says for the image of a step that is not there."""


@dataclass(frozen=True, slots=True)
class Layer:
    """A step of an image's history: its layer's digest and bytes, unpacked; none if ``empty``."""

    digest: str | None
    size: int
    created_by: str | None
    empty: bool


def layers(
    image: Inspected,
    history: Sequence[Inspected],
    counted: Callable[[str], int | None] = lambda _: None,
) -> list[Layer]:
    """An image's steps, the first one first; ``history`` is the engine's, the last one first.

    The engine does not say which steps have a layer. Those with bytes do. Which of the others do
    is told by ``counted``, the number of layers of the image that a step left, where there still is
    one (a builder's); else by their commands.
    """
    digests = list((image.get("RootFS") or {}).get("Layers") or ())
    steps = list(reversed(history))
    filled = _filled(steps, _known(steps, len(digests), counted))
    if filled is None:  # a history that does not fit its layers tells nothing about them
        return [Layer(digest, 0, None, empty=False) for digest in digests]
    left = iter(digests)
    return [
        Layer(
            next(left) if place in filled else None,
            _size(step),
            _command(step),
            place not in filled,
        )
        for place, step in enumerate(steps)
    ]


def _known(
    steps: Sequence[Inspected], total: int, counted: Callable[[str], int | None]
) -> dict[int, int]:
    """How many layers there are up to and with a step, by its place, where that is known."""
    sure = sum(1 for step in steps if _size(step))
    ids = {place: str(step["Id"]) for place, step in enumerate(steps[:-1]) if _is_there(step)}
    told = spread(counted, list(ids.values())) if sure < total < len(steps) else ()
    known = {place: count for place, count in zip(ids, told, strict=False) if count is not None}
    return {**known, len(steps) - 1: total}


def _is_there(step: Inspected) -> bool:
    return str(step.get("Id") or MISSING) != MISSING


def _filled(steps: Sequence[Inspected], known: Mapping[int, int]) -> set[int] | None:
    """The places of the steps that have a layer."""
    found: set[int] = set()
    begin = before = 0
    for place, count in sorted(known.items()):
        part = _guessed(steps, range(begin, place + 1), count - before)
        if part is None:
            return None
        found |= part
        begin, before = place + 1, count
    return found


def _guessed(steps: Sequence[Inspected], places: range, count: int) -> set[int] | None:
    """Those of ``places`` that have the ``count`` layers."""
    sure = [place for place in places if _size(steps[place])]
    unsure = [place for place in places if place not in sure]
    # Files come by RUN, COPY, ADD and WORKDIR, also where they have no bytes.
    unsure.sort(key=lambda place: not _makes_files(_command(steps[place]) or ""))
    missing = count - len(sure)
    if not 0 <= missing <= len(unsure):
        return None
    return {*sure, *unsure[:missing]}


def _makes_files(command: str) -> bool:
    said = command.removeprefix("/bin/sh -c ").lstrip()
    if said.startswith("#(nop)"):
        return said.removeprefix("#(nop)").split()[:1] in (["ADD"], ["COPY"], ["WORKDIR"])
    word = said.partition(" ")[0]
    return word not in {"CMD", "ENTRYPOINT", "ENV", "EXPOSE", "LABEL", "USER", "VOLUME", "ARG"} | {
        "HEALTHCHECK",
        "MAINTAINER",
        "ONBUILD",
        "SHELL",
        "STOPSIGNAL",
    }


def _size(step: Inspected) -> int:
    return int(step.get("Size") or 0)


def _command(step: Inspected) -> str | None:
    return step.get("CreatedBy") or None


def anatomy(engine: Engine, reference: str, allowed: Sequence[Allowed]) -> dict[str, Any]:
    """An image as the contract has it; raise ImageUnknown.

    ``allowed`` are containers of that engine; those on the image are told with what is theirs.
    """
    image = engine.image(reference)
    users = spread(lambda one: _on(one, str(image["Id"])), allowed)
    return {
        "id": image["Id"],
        "engine": engine.name,
        "names": sorted({*(image.get("RepoTags") or ()), *(image.get("RepoDigests") or ())}),
        "size": int(image.get("Size") or 0),
        "layers": layers(image, engine.history(str(image["Id"])), lambda one: _count(engine, one)),
        "containers": [user for user in users if user is not None],
    }


def _count(engine: Engine, image_id: str) -> int | None:
    try:
        return len((engine.image(image_id).get("RootFS") or {}).get("Layers") or ())
    except ImageUnknown:
        return None


def _on(one: Allowed, image_id: str) -> Mapping[str, Any] | None:
    try:
        if one.engine.container(one.container_id)["Image"] != image_id:
            return None
        return {
            "name": one.name,
            "id": one.container_id,
            "writable_layer_size": one.engine.writable_size(one.container_id),
        }
    except ContainerUnknown:  # removed since the list was made
        return None
