"""What a digest amounts to: size, date and platforms, worked out once and remembered."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from service.domain.content import (
    CREATED_ANNOTATION,
    IMAGE_CONFIG_TYPES,
    Descriptor,
    Kind,
    Manifest,
    Platform,
    parse_manifest,
)
from service.domain.errors import BlobUnknown, ManifestUnknown
from service.domain.image_config import (
    ImageConfig,
    normalised_time,
    parse_config,
    schema1_config,
    time_key,
)
from service.domain.memory import Memory
from service.domain.ports import Registry
from service.domain.reference import Digest, Repository

SUMMARIES = 50_000
"""Most manifests a process remembers, at some 300 bytes each."""


@dataclass(frozen=True, slots=True)
class Summary:
    """What never changes about a manifest. ``size`` is the total in bytes, each blob once."""

    media_type: str
    kind: Kind
    size: int
    created: str | None
    platforms: tuple[Platform, ...]


@dataclass(slots=True)
class _Tree:
    """An index with all below it: each manifest once, each descriptor as often as listed."""

    manifests: list[Manifest]
    leaves: list[Descriptor] = field(default_factory=list)
    missing: list[Descriptor] = field(default_factory=list)


class Describer:
    """Describes the manifests of one registry. Safe to share between threads."""

    def __init__(self, registry: Registry) -> None:
        """Read from ``registry``."""
        self._registry = registry
        self._summaries: Memory[tuple[Repository, Digest], Summary] = Memory(SUMMARIES)

    def summary(self, repository: Repository, digest: Digest) -> Summary:
        """Describe by digest; raise ManifestUnknown."""
        # The repository is part of the key: one may not be read through another.
        known = self._summaries.get((repository, digest))
        if known is not None:
            return known
        return self.summarise(
            repository, parse_manifest(self._registry.content(repository, digest))
        )

    def summarise(self, repository: Repository, manifest: Manifest) -> Summary:
        """Describe a manifest at hand."""
        describe = self._index if manifest.is_index else self._image
        summary, complete = describe(repository, manifest)
        if complete:  # what is missing may be pushed yet
            self._summaries.put((repository, manifest.digest), summary)
        return summary

    def config(self, repository: Repository, manifest: Manifest) -> ImageConfig | None:
        """Return the image config; None where there is none, or its blob is gone."""
        if manifest.history:
            return schema1_config(manifest.history)
        if manifest.config is None or manifest.config.media_type not in IMAGE_CONFIG_TYPES:
            return None
        try:
            return parse_config(self._registry.config(repository, manifest.config))
        except BlobUnknown:
            return None

    def _image(self, repository: Repository, manifest: Manifest) -> tuple[Summary, bool]:
        config = self.config(repository, manifest)
        expected = manifest.config is not None and manifest.config.media_type in IMAGE_CONFIG_TYPES
        annotated = normalised_time(manifest.annotations.get(CREATED_ANNOTATION))
        platform = config.platform if config else None
        summary = Summary(
            manifest.media_type,
            manifest.kind,
            manifest.size + _total(manifest.blobs),
            (config.created if config else None) or annotated,
            (platform,) if platform and platform.known else (),
        )
        return summary, config is not None or not expected

    def _index(self, repository: Repository, index: Manifest) -> tuple[Summary, bool]:
        tree = self._tree(repository, index)
        images = {one.digest: one for one in tree.manifests if not one.is_index}
        below = {digest: self.summarise(repository, one) for digest, one in images.items()}
        dates = [summary.created for summary in below.values() if summary.created]
        blobs = [blob for one in tree.manifests for blob in one.blobs]
        summary = Summary(
            index.media_type,
            "index",
            sum(one.size for one in tree.manifests) + _total(blobs) + _total(tree.missing),
            normalised_time(index.annotations.get(CREATED_ANNOTATION))
            or max(dates, key=time_key, default=None),
            _platforms(tree.leaves, below),
        )
        return summary, not tree.missing

    def _tree(self, repository: Repository, index: Manifest) -> _Tree:
        tree = _Tree([index])
        seen, waiting = {index.digest}, list(index.children)
        while waiting:
            child = waiting.pop(0)
            manifest = self._child(repository, child)
            if manifest is None or not manifest.is_index:
                tree.leaves.append(child)
            if child.digest in seen:
                continue
            seen.add(child.digest)
            if manifest is None:
                tree.missing.append(child)
            else:
                tree.manifests.append(manifest)
                waiting += manifest.children
        return tree

    def _child(self, repository: Repository, child: Descriptor) -> Manifest | None:
        try:
            return parse_manifest(self._registry.content(repository, child.digest))
        except ManifestUnknown:
            return None


def _total(blobs: Iterable[Descriptor]) -> int:
    return sum({blob.digest: blob.size or 0 for blob in blobs}.values())


def _platforms(
    leaves: Iterable[Descriptor], below: Mapping[Digest, Summary]
) -> tuple[Platform, ...]:
    found: dict[Platform, None] = {}  # a dict for its order
    for leaf in leaves:
        described = below.get(leaf.digest)
        named = (leaf.platform,) if leaf.platform else described.platforms if described else ()
        found |= dict.fromkeys(platform for platform in named if platform.known)
    return tuple(found)
