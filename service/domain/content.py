"""Manifests as the rules see them: parsed from their exact bytes, never rewritten.

Media types and fields: OCI Image Specification 1.1 and Docker Image Manifest V2,
Schema 1 and 2.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from service.domain.errors import InvalidDigest, RegistryAnswerInvalid
from service.domain.reference import Digest

DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_LIST = "application/vnd.docker.distribution.manifest.list.v2+json"
OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_INDEX = "application/vnd.oci.image.index.v1+json"
SCHEMA1 = "application/vnd.docker.distribution.manifest.v1+json"
SCHEMA1_SIGNED = "application/vnd.docker.distribution.manifest.v1+prettyjws"

INDEX_TYPES = frozenset({DOCKER_LIST, OCI_INDEX})
SCHEMA1_TYPES = frozenset({SCHEMA1, SCHEMA1_SIGNED})
IMAGE_TYPES = frozenset({DOCKER_MANIFEST, OCI_MANIFEST}) | SCHEMA1_TYPES
IMAGE_CONFIG_TYPES = frozenset(
    {
        "application/vnd.docker.container.image.v1+json",
        "application/vnd.oci.image.config.v1+json",
    }
)
ACCEPTED = (DOCKER_MANIFEST, DOCKER_LIST, OCI_MANIFEST, OCI_INDEX, SCHEMA1_SIGNED, SCHEMA1)
"""Every manifest type: a registry converts, or answers a child, when one is left out."""

FOREIGN_LAYER_TYPES = frozenset(
    {
        "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
        "application/vnd.oci.image.layer.nondistributable.v1.tar",
        "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip",
        "application/vnd.oci.image.layer.nondistributable.v1.tar+zstd",
    }
)

SCHEMA_VERSION = 2

MANIFEST_LIMIT = 4 * 1024 * 1024
"""Most bytes of a manifest; the limit of the reference implementation and of the OCI text."""

CONFIG_LIMIT = 4 * 1024 * 1024
"""Most bytes of an image's config that are read."""

CREATED_ANNOTATION = "org.opencontainers.image.created"

_SIZE_LIMIT = 2**63
_WORD_LIMIT = 128
_NAME = r"[A-Za-z0-9][A-Za-z0-9!#$&^_.+-]{0,126}"
_MEDIA_TYPE = re.compile(f"{_NAME}/{_NAME}")  # RFC 6838, section 4.2

Kind = Literal["image", "index", "artifact"]


@dataclass(frozen=True, slots=True)
class Platform:
    """Operating system and processor, as in ``linux``, ``arm``, ``v7``."""

    os: str
    architecture: str
    variant: str | None = None

    @property
    def known(self) -> bool:
        """Tell real platforms from the ``unknown/unknown`` of attestations."""
        return bool(self.os and self.architecture) and "unknown" not in {self.os, self.architecture}


@dataclass(frozen=True, slots=True)
class Descriptor:
    """A pointer to content: size in bytes, None where it is not told, or is no size."""

    digest: Digest
    media_type: str
    size: int | None
    platform: Platform | None = None
    artifact_type: str | None = None
    annotations: Mapping[str, str] = field(default_factory=dict)

    @property
    def may_have_children(self) -> bool:
        """Tell whether the target could be an index: only what is called an image is none."""
        return self.media_type not in IMAGE_TYPES

    @property
    def is_foreign(self) -> bool:
        """Tell whether the blob may live outside the registry."""
        return self.media_type in FOREIGN_LAYER_TYPES


@dataclass(frozen=True, slots=True)
class RawManifest:
    """A manifest's exact bytes; ``digest`` is their sha256 (schema1 excepted)."""

    digest: Digest
    media_type: str
    body: bytes = field(repr=False)
    length: int | None = None
    """Bytes of a body that was left out, as in lists; None where it is there."""

    @property
    def size(self) -> int:
        """Bytes of the body, there or left out."""
        return len(self.body) if self.length is None else self.length


@dataclass(frozen=True, slots=True)
class Manifest:
    """A parsed manifest; ``size`` is that of its own bytes."""

    digest: Digest
    media_type: str
    size: int
    config: Descriptor | None = None
    layers: tuple[Descriptor, ...] = ()
    children: tuple[Descriptor, ...] = ()
    subject: Descriptor | None = None
    artifact_type: str | None = None
    annotations: Mapping[str, str] = field(default_factory=dict)
    history: tuple[Any, ...] = ()
    """Schema1 alone: its v1 images as JSON, one a layer and in the same order."""

    @property
    def is_index(self) -> bool:
        """Tell whether this is an index or a manifest list."""
        return self.media_type in INDEX_TYPES

    @property
    def kind(self) -> Kind:
        """Classify as the contract does: an artifact is what is no image and no index."""
        if self.is_index:
            return "index"
        if self.media_type in SCHEMA1_TYPES:
            return "image"
        image = self.config is not None and self.config.media_type in IMAGE_CONFIG_TYPES
        return "image" if image and not self.artifact_type else "artifact"

    @property
    def effective_artifact_type(self) -> str | None:
        """What a referrers list names: the artifact type, else the config's media type."""
        return self.artifact_type or (self.config.media_type if self.config else None)

    @property
    def blobs(self) -> tuple[Descriptor, ...]:
        """Config and layers, in order."""
        return ((self.config,) if self.config else ()) + self.layers


def parse_manifest(raw: RawManifest) -> Manifest:
    """Parse exact bytes; raise RegistryAnswerInvalid when they are no manifest.

    What a manifest points at must make sense: deletion rests on it. What it merely says, a size
    or an annotation, is left out where it is of the wrong type.
    """
    try:
        document = json.loads(raw.body)
        return _READERS.get(raw.media_type, _image)(raw, document)
    except (
        ValueError,
        TypeError,
        KeyError,
        AttributeError,
        RecursionError,
        InvalidDigest,
    ) as error:
        raise _senseless(raw) from error


def _senseless(raw: RawManifest) -> RegistryAnswerInvalid:
    return RegistryAnswerInvalid(
        f"The registry serves {raw.digest} as {raw.media_type}, but its content is no such "
        "manifest. Nothing was changed."
    )


def _image(raw: RawManifest, document: Mapping[str, Any]) -> Manifest:
    _require_fields(document, own=_IMAGE_FIELDS, other=_INDEX_FIELDS)
    config = document.get("config")
    listed = _listed(document, "layers") or _listed(document, "blobs")
    return Manifest(
        **_common(raw, document),
        config=_descriptor(config) if config else None,
        layers=tuple(_descriptor(layer) for layer in listed),
    )


def _index(raw: RawManifest, document: Mapping[str, Any]) -> Manifest:
    _require_fields(document, own=_INDEX_FIELDS, other=_IMAGE_FIELDS)
    children = tuple(_descriptor(child) for child in _listed(document, "manifests"))
    return Manifest(**_common(raw, document), children=children)


def _require_fields(
    document: Mapping[str, Any], *, own: frozenset[str], other: frozenset[str]
) -> None:
    # A document that is both could hide the children that an index protects. One that is neither
    # protects none, and some registries take it; without a version it is no manifest at all.
    versioned = document.get("schemaVersion") == SCHEMA_VERSION
    if not (own & document.keys() or versioned) or any(document.get(name) for name in other):
        raise ValueError("fields")


def _schema1(raw: RawManifest, document: Mapping[str, Any]) -> Manifest:
    # It stands newest first, unlike every later format, and does not tell the sizes of layers.
    layers = tuple(
        Descriptor(Digest.listed(layer["blobSum"]), "application/octet-stream", None)
        for layer in reversed(document["fsLayers"])
    )
    history = tuple(json.loads(one["v1Compatibility"]) for one in reversed(document["history"]))
    return Manifest(raw.digest, raw.media_type, len(raw.body), layers=layers, history=history)


_IMAGE_FIELDS = frozenset({"config", "layers", "blobs"})
_INDEX_FIELDS = frozenset({"manifests"})
_READERS = {DOCKER_LIST: _index, OCI_INDEX: _index, SCHEMA1: _schema1, SCHEMA1_SIGNED: _schema1}


def _common(raw: RawManifest, document: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "digest": raw.digest,
        "media_type": raw.media_type,
        "size": len(raw.body),
        "subject": _subject(document.get("subject")),
        "artifact_type": as_text(document.get("artifactType")),
        "annotations": as_texts(document.get("annotations")),
    }


def _subject(value: object) -> Descriptor | None:
    """Read what it refers to; None where that is nothing: registries take what they are sent."""
    try:
        return _descriptor(value) if isinstance(value, Mapping) and value else None
    except (ValueError, TypeError, KeyError, AttributeError, InvalidDigest):
        return None


def _listed(document: Mapping[str, Any], name: str) -> Sequence[Any]:
    value = document.get(name)  # null is what Go writes for an empty list
    if not isinstance(value, list | None):
        raise TypeError(name)
    return value or ()


def _descriptor(document: Mapping[str, Any]) -> Descriptor:
    return Descriptor(
        digest=Digest.listed(document["digest"]),
        media_type=as_text(document.get("mediaType")) or "application/octet-stream",
        size=_size(document.get("size")),
        platform=_platform(document.get("platform")),
        artifact_type=as_text(document.get("artifactType")),
        annotations=as_texts(document.get("annotations")),
    )


def _size(value: object) -> int | None:
    if not isinstance(value, int) or isinstance(value, bool):
        return None
    return value if 0 <= value < _SIZE_LIMIT else None


def _platform(value: object) -> Platform | None:
    """Read a descriptor's platform, None unless it names both system and processor."""
    if not isinstance(value, Mapping):
        return None
    platform = parse_platform(value)
    return platform if platform.os and platform.architecture else None


def parse_platform(document: Mapping[str, Any]) -> Platform:
    """Read a platform object, or the same three fields of an image config; empty where absent."""
    return Platform(
        _word(document.get("os")) or "",
        _word(document.get("architecture")) or "",
        _word(document.get("variant")),
    )


def _word(value: object) -> str | None:
    """Read a short text: these are remembered by the ten thousand, so none may be large."""
    return as_text(value) if isinstance(value, str) and len(value) <= _WORD_LIMIT else None


def as_text(value: object) -> str | None:
    """Return a text that is not empty, else None; anything that JSON holds may come."""
    return encodable(value) if isinstance(value, str) and value else None


def as_texts(value: object) -> Mapping[str, str]:
    """Return those members of an object that are texts."""
    if not isinstance(value, Mapping):
        return {}
    return {encodable(key): encodable(text) for key, text in value.items() if isinstance(text, str)}


def encodable(text: str) -> str:
    """Replace half surrogate pairs, which JSON can spell and no other encoding can hold."""
    return text if text.isascii() else text.encode(errors="replace").decode()


def media_type_of(body: bytes, declared: str | None) -> str:
    """Name a manifest's type: what the document itself says, else the registry's Content-Type.

    The document is what the digest vouches for. Many name no type, and then old registries send
    ``application/json`` or nothing for schema1.
    """
    bare = (declared or "").partition(";")[0].strip().lower()
    document = _object(body)
    named = as_text(document.get("mediaType"))
    known = [one for one in (named, bare) if one in ACCEPTED]
    others = [one for one in (named, _shape(document), bare) if one and _MEDIA_TYPE.fullmatch(one)]
    return (*known, *others, "application/octet-stream")[0]


def _object(body: bytes) -> Mapping[str, Any]:
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    return document if isinstance(document, dict) else {}


def _shape(document: Mapping[str, Any]) -> str | None:
    if document.get("schemaVersion") == 1:
        return SCHEMA1_SIGNED if document.get("signatures") else SCHEMA1
    if isinstance(document.get("manifests"), list):
        return OCI_INDEX
    return OCI_MANIFEST if "config" in document else None
