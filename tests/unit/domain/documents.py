"""Manifests and configs written out by hand, right and wrong."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from hypothesis import strategies as st

from service.domain.content import (
    DOCKER_MANIFEST,
    OCI_INDEX,
    OCI_MANIFEST,
    SCHEMA1,
    SCHEMA1_SIGNED,
    RawManifest,
)
from service.domain.reference import Digest
from tests.fakes import OCI_CONFIG, OCI_LAYER, Built, described

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

DOCKER_CONFIG = "application/vnd.docker.container.image.v1+json"
DOCKER_LAYER = "application/vnd.docker.image.rootfs.diff.tar.gzip"
FOREIGN_LAYER = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"
LAYER = Digest("sha256:" + "a" * 64)
LONG = Digest("sha512:" + "b" * 128)

Document = dict[str, Any]

json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=5)
    | st.sampled_from(
        [LAYER, LONG, OCI_INDEX, "linux", 2**70, "\ud800", "unknown", ["\ud800"], {"a": "\ud800"}]
    ),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["digest", "size", "mediaType", "platform", "os", "blobSum", "x"]),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)
"""Anything JSON holds, and what JSON does not but Python reads: NaN, half surrogate pairs."""


def raw(document: object, media_type: str = OCI_MANIFEST) -> RawManifest:
    """Serialise a document, served as ``media_type``."""
    body = document if isinstance(document, bytes) else json.dumps(document).encode()
    return RawManifest(Digest.of(body), media_type, body)


def built(document: object, *blobs: bytes, media_type: str = OCI_MANIFEST) -> Built:
    """Make a manifest to push, with the blobs it names."""
    return Built(raw(document, media_type), blobs)


def image_document(config: bytes = b"{}", *layers: bytes, **more: object) -> Document:
    """An OCI image manifest, which as usual does not name its own type."""
    return {
        "schemaVersion": 2,
        "config": described(config, OCI_CONFIG),
        "layers": [described(layer, OCI_LAYER) for layer in layers],
        **more,
    }


def docker_document(config: bytes = b"{}", *layers: bytes, **more: object) -> Document:
    """A Docker v2 manifest."""
    return {
        "schemaVersion": 2,
        "mediaType": DOCKER_MANIFEST,
        "config": described(config, DOCKER_CONFIG),
        "layers": [described(layer, DOCKER_LAYER) for layer in layers],
        **more,
    }


def index_document(*children: Mapping[str, object], **more: object) -> Document:
    """An OCI index of descriptors."""
    return {"schemaVersion": 2, "manifests": list(children), **more}


def config_bytes(
    platform: str | None = "linux/amd64", created: str | None = None, **more: object
) -> bytes:
    """An image config; the platform as in ``linux/arm/v7``."""
    names = ("os", "architecture", "variant")
    document: Document = dict(zip(names, (platform or "").split("/"), strict=False))
    document |= {"created": created} if created else {}
    return json.dumps({**document, **more}).encode()


def image_of(config: bytes, *layers: bytes, **more: object) -> Built:
    """An OCI image of a config, ready to push."""
    return built(image_document(config, *layers, **more), config, *layers)


def index_of(*children: Mapping[str, object], **more: object) -> Built:
    """An OCI index of descriptors, ready to push."""
    return built(index_document(*children, **more), media_type=OCI_INDEX)


def child(of: Built, platform: str | None = None, **more: object) -> Document:
    """What an index says of a child; the platform as in ``linux/arm/v7``."""
    document: Document = {**of.descriptor(), **more}
    if platform:
        names = ("os", "architecture", "variant")
        document["platform"] = dict(zip(names, platform.split("/"), strict=False))
    return document


def schema1(steps: Sequence[Mapping[str, object]], *, signed: bool = False) -> RawManifest:
    """A schema1 manifest of v1 images, base first; each has a layer of its own."""
    newest_first = list(reversed(list(enumerate(steps))))
    document: Document = {
        "schemaVersion": 1,
        "name": "team/app",
        "tag": "old",
        "architecture": "amd64",
        "fsLayers": [{"blobSum": Digest.of(b"layer %d" % place)} for place, _ in newest_first],
        "history": [{"v1Compatibility": json.dumps(step)} for _, step in newest_first],
    }
    if signed:
        document["signatures"] = [{"header": {}, "signature": "AA", "protected": "AA"}]
    return raw(document, SCHEMA1_SIGNED if signed else SCHEMA1)


def can_be_sent(value: DataclassInstance) -> bool:
    """Tell whether what was found fits into JSON and UTF-8, without escapes to hide behind."""
    text = json.dumps(asdict(value), ensure_ascii=False, allow_nan=False, default=str)
    return text.isascii() or bool(text.encode())
