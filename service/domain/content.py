"""Manifests as the rules see them: parsed from their exact bytes, never rewritten.

Media types and fields: OCI Image Specification 1.1 and Docker Image Manifest V2,
Schema 1 and 2.
"""

from __future__ import annotations

import json
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

MANIFEST_LIMIT = 4 * 1024 * 1024
"""Most bytes of a manifest; the limit of the reference implementation and of the OCI text."""

CREATED_ANNOTATION = "org.opencontainers.image.created"

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
    """A pointer to content: size in bytes, None where schema1 does not tell it."""

    digest: Digest
    media_type: str
    size: int | None
    platform: Platform | None = None
    artifact_type: str | None = None
    annotations: Mapping[str, str] = field(default_factory=dict)

    @property
    def is_index(self) -> bool:
        """Tell whether the target has children of its own."""
        return self.media_type in INDEX_TYPES

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
    history: tuple[Mapping[str, Any], ...] = ()
    """Schema1 alone: its v1 images, one a layer and in the same order."""

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
    """Parse exact bytes; raise RegistryAnswerInvalid when they are no manifest."""
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
    config = document.get("config")
    listed = document.get("layers") or document.get("blobs") or ()
    return Manifest(
        **_common(raw, document),
        config=_descriptor(config) if config else None,
        layers=tuple(_descriptor(layer) for layer in listed),
    )


def _index(raw: RawManifest, document: Mapping[str, Any]) -> Manifest:
    children = tuple(_descriptor(child) for child in document.get("manifests") or ())
    return Manifest(**_common(raw, document), children=children)


def _schema1(raw: RawManifest, document: Mapping[str, Any]) -> Manifest:
    # It stands newest first, unlike every later format, and does not tell the sizes of layers.
    layers = tuple(
        Descriptor(Digest.listed(layer["blobSum"]), "application/octet-stream", None)
        for layer in reversed(document["fsLayers"])
    )
    history = tuple(json.loads(one["v1Compatibility"]) for one in reversed(document["history"]))
    return Manifest(raw.digest, raw.media_type, len(raw.body), layers=layers, history=history)


_READERS = {DOCKER_LIST: _index, OCI_INDEX: _index, SCHEMA1: _schema1, SCHEMA1_SIGNED: _schema1}


def _common(raw: RawManifest, document: Mapping[str, Any]) -> dict[str, Any]:
    subject = document.get("subject")
    return {
        "digest": raw.digest,
        "media_type": raw.media_type,
        "size": len(raw.body),
        "subject": _descriptor(subject) if subject else None,
        "artifact_type": _text(document.get("artifactType")),
        "annotations": _texts(document.get("annotations")),
    }


def _descriptor(document: Mapping[str, Any]) -> Descriptor:
    size = document.get("size")
    if not isinstance(size, int) or isinstance(size, bool) or size < 0:
        raise ValueError("size")
    return Descriptor(
        digest=Digest.listed(document["digest"]),
        media_type=_text(document.get("mediaType")) or "application/octet-stream",
        size=size,
        platform=parse_platform(document.get("platform")),
        artifact_type=_text(document.get("artifactType")),
        annotations=_texts(document.get("annotations")),
    )


def parse_platform(document: Mapping[str, Any] | None) -> Platform | None:
    """Read a platform object, or the same three fields of an image config."""
    if not document:
        return None
    os, architecture = _text(document.get("os")), _text(document.get("architecture"))
    return Platform(os or "", architecture or "", _text(document.get("variant")))


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value else None


def _texts(value: object) -> Mapping[str, str]:
    if not isinstance(value, Mapping):
        return {}
    return {str(key): text for key, text in value.items() if isinstance(text, str)}


def media_type_of(body: bytes, declared: str | None) -> str:
    """Name a manifest's type: the registry's Content-Type, else what the document itself says.

    Old registries send ``application/json`` or nothing for schema1, and some leave the type to
    the document.
    """
    bare = (declared or "").partition(";")[0].strip().lower()
    if bare in ACCEPTED:
        return bare
    try:
        document = json.loads(body)
    except ValueError:
        document = None
    if not isinstance(document, dict):
        return bare or "application/octet-stream"
    return _self_described(document) or bare or "application/octet-stream"


def _self_described(document: Mapping[str, Any]) -> str | None:
    named = _text(document.get("mediaType"))
    if named:
        return named
    if document.get("schemaVersion") == 1:
        return SCHEMA1_SIGNED if document.get("signatures") else SCHEMA1
    if isinstance(document.get("manifests"), Sequence):
        return OCI_INDEX
    return OCI_MANIFEST if "config" in document else None
