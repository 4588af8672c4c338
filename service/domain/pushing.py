"""Pushing an image of an engine to a registry: what ``docker tag`` and ``docker push`` do.

The engine pushes what it knows under the registry's own name, so the image is given that name for
the time being. A name that was there before is there again afterwards, on the image it was on.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from service.domain.anatomy import layers
from service.domain.engine import Engine, EngineController, Inspected, PushName
from service.domain.errors import ImageUnknown, PushFailed
from service.domain.job import Cancelled, JobContext
from service.domain.ports import Registry
from service.domain.reading import Reader
from service.domain.reference import Repository, Tag
from service.domain.untagging import require_writable

COMPENSATION = "put-image-names-back"
KEPT = "registry-admin/kept"
"""Keeps an image whose name is taken for the time being: without one it could be pruned."""

PORTS = {"http": 80, "https": 443}
SHORT_ID = 12
HEXADECIMAL = re.compile(r"(?:sha256:)?[0-9a-f]+")

DONE = {"Pushed": "pushed", "Layer already exists": "existing"}
MOUNTED = "Mounted from "
"""What the engine says of a layer that the registry had in another repository."""


def engine_host(url: str) -> str:
    """How an engine names a registry: ``host:port``, which it must reach it by.

    The port is left out where an engine would take it and the host for no part of an image's name.
    """
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2]
    if parts.port is None and (parts.scheme == "http" or "." not in host):
        return f"{host}:{PORTS[parts.scheme]}"
    return host


def require_named(image: Inspected, source: str) -> None:
    """Raise ImageUnknown for an image given by its id.

    It may have no name, and would go with the one it is given.
    """
    wanted = source.removeprefix("sha256:")
    is_id = HEXADECIMAL.fullmatch(source) and image["Id"].removeprefix("sha256:").startswith(wanted)
    named = any(name.rpartition(":")[0] == source for name in image.get("RepoTags") or ())
    if is_id and not named:
        raise ImageUnknown(
            f"No image has the name '{source}'; one has an id that begins so. Nothing was pushed. "
            "Give it a name by docker tag, such as app:latest, and push that."
        )


@dataclass(frozen=True, slots=True)
class Push:
    """What to push where."""

    source: str
    repository: Repository
    tag: Tag


class Pusher:
    """One push. Whoever runs it puts the names back afterwards by :func:`put_back`."""

    def __init__(
        self, registry: Registry, engine: Engine, controller: EngineController, context: JobContext
    ) -> None:
        """Push by ``engine`` to ``registry``."""
        self._registry = registry
        self._engine = engine
        self._controller = controller
        self._context = context

    def push(self, wanted: Push) -> dict[str, Any]:
        """Push, and find it in the registry; raise Cancelled, PushFailed, or what kept it."""
        context, name = self._context, self._name(wanted)
        context.step("check")
        self._put_back_earlier()
        image = self._engine.image(wanted.source)
        require_named(image, wanted.source)
        require_writable(self._registry, wanted.repository)
        context.step("tag")
        self._tag(str(image["Id"]), name)
        context.step("push")
        pushed = self._pushed(image, name)
        context.step("verify")
        return self._verified(wanted, pushed)

    def _name(self, wanted: Push) -> PushName:
        host = engine_host(self._registry.url)
        return PushName(f"{host}/{wanted.repository}", wanted.tag)

    def _put_back_earlier(self) -> None:
        """Have the names as they were before a run of this job that died."""
        left = self._context.left(COMPENSATION)
        if left is not None:
            put_back(self._engine, self._controller, left)
            self._context.settled(COMPENSATION)

    def _tag(self, image_id: str, name: PushName) -> None:
        before = id_of(self._engine, str(name))
        if before == image_id:
            return
        data = _compensation(self._context.job.id, image_id, name, before)
        self._context.compensate(COMPENSATION, data)
        if before is not None:
            self._controller.tag(before, PushName(KEPT, Tag(self._context.job.id)))
        self._controller.tag(image_id, name)

    def _pushed(self, image: Inspected, name: PushName) -> Layers:
        told = Layers(self._context, _sizes(image, self._engine))
        login = self._registry.login()
        if not self._controller.push(name, login, told.hear, self._context.cancel_requested):
            raise Cancelled
        return told

    def _verified(self, wanted: Push, pushed: Layers) -> dict[str, Any]:
        found = Reader(self._registry).tag(wanted.repository, wanted.tag)
        if pushed.digest is None or found.digest != pushed.digest:
            raise PushFailed(
                f"The engine '{self._engine.name}' says that it pushed {pushed.digest}, and the "
                f"registry '{self._registry.name}' has {found.digest} at "
                f"{wanted.repository}:{wanted.tag}. Either somebody else moved the tag meanwhile, "
                f"or the engine reaches another registry as {engine_host(self._registry.url)}."
            )
        return {
            "digest": found.digest,
            "size": found.size,
            "layers_pushed": pushed.count("pushed"),
            "layers_existing": pushed.count("existing"),
        }


def _sizes(image: Inspected, engine: Engine) -> dict[str, int]:
    """Bytes of the image's layers, by the ids that the engine tells of them in a push."""
    made = layers(image, engine.history(str(image["Id"])))
    digests = ((layer.digest, layer.size) for layer in made if layer.digest)
    return {digest.partition(":")[2][:SHORT_ID]: size for digest, size in digests}


def _compensation(
    job_id: str, image_id: str, name: PushName, before: str | None
) -> dict[str, str | None]:
    return {
        "repository": name.repository,
        "tag": name.tag,
        "image": image_id,
        "before": before,
        "kept": job_id,
    }


def put_back(engine: Engine, controller: EngineController, data: Mapping[str, Any]) -> None:
    """Take the name for the push away, or give it back. May be called at any point, and again.

    A name that is on yet another image by now is left: somebody else put it there.
    """
    name, kept = PushName(data["repository"], data["tag"]), PushName(KEPT, data["kept"])
    before = data["before"]
    if id_of(engine, str(name)) == data["image"]:
        if before is not None and id_of(engine, before) is not None:
            controller.tag(before, name)
        else:
            controller.untag(name)
    if before is not None:
        controller.untag(kept)


def id_of(engine: Engine, reference: str) -> str | None:
    """The id of an image; None where there is none of that name."""
    try:
        return str(engine.image(reference)["Id"])
    except ImageUnknown:
        return None


@dataclass(slots=True)
class _Layer:
    size: int
    done: int = 0
    status: str = ""


@dataclass(slots=True)
class Layers:
    """What the engine tells of a push, as progress and log of its job."""

    context: JobContext
    sizes: Mapping[str, int]
    digest: str | None = None
    _layers: dict[str, _Layer] = field(default_factory=dict)

    def count(self, how: str) -> int:
        """How many layers were ``pushed``, or were ``existing`` in the registry."""
        return sum(_how(one.status) == how for one in self._layers.values())

    def hear(self, message: Mapping[str, Any]) -> None:
        """Take one message of the engine."""
        said = message.get("aux")
        if isinstance(said, Mapping) and "Digest" in said:
            self.digest = str(said["Digest"])
        layer, status = message.get("id"), message.get("status")
        if isinstance(layer, str) and isinstance(status, str) and layer:
            self._hear_of(layer, status, message.get("progressDetail") or {})

    def _hear_of(self, name: str, status: str, detail: Mapping[str, Any]) -> None:
        layer = self._layers.setdefault(name, _Layer(self.sizes.get(name, 0)))
        if status != layer.status:
            self.context.log("info", f"layer {name}: {status.lower()}")
        layer.status = status
        layer.size = max(layer.size, int(detail.get("total") or 0))
        layer.done = min(int(detail.get("current") or layer.done), layer.size)
        if _how(status) is not None:
            layer.done = layer.size
        done, total = (sum(getattr(one, what) for one in self._layers.values())
                       for what in ("done", "size"))  # fmt: skip
        self.context.progress(done, total)


def _how(status: str) -> str | None:
    return "existing" if status.startswith(MOUNTED) else DONE.get(status)
