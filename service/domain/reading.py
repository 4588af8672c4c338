"""What a repository holds, described from manifests and configs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from service.domain.content import Kind, Platform
from service.domain.ports import Registry
from service.domain.reference import Digest, Repository, Tag


@dataclass(frozen=True, slots=True)
class TagDetail:
    """A tag; all but ``name`` are None or empty when it is dangling. Sizes in bytes.

    ``created`` is RFC 3339 in UTC with ``Z``, with the digits of the source kept.
    """

    name: Tag
    digest: Digest | None = None
    media_type: str | None = None
    kind: Kind | None = None
    size: int | None = None
    created: str | None = None
    platforms: tuple[Platform, ...] = ()
    dangling: bool = False


@dataclass(frozen=True, slots=True)
class ConfigDetail:
    """An image's config, with the fields of the contract."""

    digest: Digest
    created: str | None
    architecture: str | None
    os: str | None
    labels: Mapping[str, str]
    entrypoint: tuple[str, ...] | None
    cmd: tuple[str, ...] | None
    env: tuple[str, ...]
    user: str | None
    working_dir: str | None
    exposed_ports: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class LayerDetail:
    """A layer and the history step that made it; ``size`` is None for schema1."""

    digest: Digest
    media_type: str
    size: int | None
    created_by: str | None


@dataclass(frozen=True, slots=True)
class ChildDetail:
    """A child of an index; ``size`` is its total, like a tag's."""

    digest: Digest
    platform: Platform | None
    size: int


@dataclass(frozen=True, slots=True)
class ManifestDetail:
    """A manifest in full. ``config`` is None for an index and for artifacts without an image config."""

    digest: Digest
    media_type: str
    kind: Kind
    artifact_type: str | None
    size: int
    subject: Digest | None
    annotations: Mapping[str, str]
    platforms: tuple[Platform, ...]
    config: ConfigDetail | None
    layers: tuple[LayerDetail, ...]
    children: tuple[ChildDetail, ...]


@dataclass(frozen=True, slots=True)
class Referrer:
    """What refers to a manifest, and how that was found."""

    digest: Digest
    artifact_type: str | None
    media_type: str
    size: int
    source: Literal["api", "fallback-tag", "cosign-tag"]
