"""What a digest amounts to: size, date and platforms, worked out once and remembered."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import chain

from service.domain.content import (
    CONFIG_LIMIT,
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
"""Most manifests a process remembers, at some 700 bytes each."""

PLATFORMS_REMEMBERED = 100
"""Most platforms of a manifest that is remembered: an index may list tens of thousands."""

PORTION_BYTES = 512 * 1024
"""Bytes of manifests that are worked on at a time; parsed they take some ten times as much."""


@dataclass(frozen=True, slots=True)
class Summary:
    """What never changes about a complete manifest. ``size`` is the total, each blob once."""

    media_type: str
    kind: Kind
    size: int
    created: str | None
    platforms: tuple[Platform, ...]
    complete: bool
    """False when some of it is not there: it may be pushed yet."""


class Describer:
    """Describes the manifests of one registry. Safe to share between threads."""

    def __init__(self, registry: Registry) -> None:
        """Read from ``registry``."""
        self._registry = registry
        self._summaries: Memory[tuple[Repository, Digest], Summary] = Memory(SUMMARIES)

    def summary(self, repository: Repository, digest: Digest) -> Summary:
        """Describe by digest; raise ManifestUnknown."""
        known = self._known(repository, digest)
        if known is not None:
            return known
        return self.summarise(
            repository, parse_manifest(self._registry.content(repository, digest))
        )

    def summaries(self, repository: Repository, digests: Iterable[Digest]) -> dict[Digest, Summary]:
        """Describe many by digest, asking for several at a time; leave out what is unknown."""
        found, new = {}, []
        for digest in dict.fromkeys(digests):
            known = self._known(repository, digest)
            if known is None:
                new.append(digest)
            else:
                found[digest] = known
        for portion in self._portions(repository, new):
            self._prepare(repository, portion)
            found |= {one.digest: self.summarise(repository, one) for one in portion}
        return found

    def summarise(self, repository: Repository, manifest: Manifest) -> Summary:
        """Describe a manifest at hand."""
        known = self._known(repository, manifest.digest)
        if known is not None:
            return known
        describe = self._index if manifest.is_index else self._image
        summary = describe(repository, manifest)
        if summary.complete and len(summary.platforms) <= PLATFORMS_REMEMBERED:
            self._summaries.put((repository, manifest.digest), summary)
        return summary

    def config(self, repository: Repository, manifest: Manifest) -> ImageConfig | None:
        """Return the image config; None where there is none, or its blob is gone."""
        if manifest.history:
            return schema1_config(manifest.history)
        descriptor = _image_config(manifest)
        if descriptor is None:
            return None
        try:
            return parse_config(self._registry.config(repository, descriptor))
        except BlobUnknown:
            return None

    def _known(self, repository: Repository, digest: Digest) -> Summary | None:
        # The repository is part of the key: one may not be read through another.
        return self._summaries.get((repository, digest))

    def _portions(
        self, repository: Repository, digests: Sequence[Digest]
    ) -> Iterator[list[Manifest]]:
        """Yield the manifests that are there, no more at a time than may be held in memory."""
        portion, size = [], 0
        for manifest in self._manifests(repository, digests):
            portion.append(manifest)
            size += manifest.size
            if size > PORTION_BYTES:
                yield portion
                portion, size = [], 0
        yield portion

    def _manifests(self, repository: Repository, digests: Sequence[Digest]) -> Iterator[Manifest]:
        unknown = self._registry.prefetch(repository, digests, ())
        for digest in digests:
            if digest not in unknown:
                with suppress(ManifestUnknown):
                    yield parse_manifest(self._registry.content(repository, digest))

    def _prepare(self, repository: Repository, manifests: Sequence[Manifest]) -> None:
        """Have children and configs fetched, for all of them at once."""
        children = dict.fromkeys(child.digest for one in manifests for child in one.children)
        below = self._manifests(repository, tuple(children))
        configs = [config for one in chain(manifests, below) if (config := _image_config(one))]
        self._registry.prefetch(repository, (), configs)

    def _image(self, repository: Repository, manifest: Manifest) -> Summary:
        config = self.config(repository, manifest)
        annotated = normalised_time(manifest.annotations.get(CREATED_ANNOTATION))
        platform = config.platform if config else None
        return Summary(
            manifest.media_type,
            manifest.kind,
            manifest.size + _total(manifest.blobs),
            (config.created if config else None) or annotated,
            (platform,) if platform and platform.known else (),
            complete=config is not None or _image_config(manifest) is None,
        )

    def _index(self, repository: Repository, index: Manifest) -> Summary:
        below = self._below(repository, index)
        there = [index, *(one for one in below.values() if one)]
        listed = [child for one in there for child in one.children]
        missing = [child for child in listed if below[child.digest] is None]
        blobs = [blob for one in there for blob in one.blobs]
        images = self._images(repository, there)
        dates = [image.created for image in images.values() if image.created]
        annotated = normalised_time(index.annotations.get(CREATED_ANNOTATION))
        return Summary(
            index.media_type,
            "index",
            sum(one.size for one in there) + _total(blobs) + _total(missing),
            annotated or max(dates, key=time_key, default=None),
            _platforms(listed, below, images),
            complete=not missing and all(image.complete for image in images.values()),
        )

    def _below(self, repository: Repository, index: Manifest) -> dict[Digest, Manifest | None]:
        """Return all below an index, each once, None for what is not there."""
        found: dict[Digest, Manifest | None] = {}
        waiting = list(dict.fromkeys(child.digest for child in index.children))
        while waiting:
            generation = list(self._manifests(repository, waiting))
            found |= dict.fromkeys(waiting) | {one.digest: one for one in generation}
            listed = (child.digest for one in generation for child in one.children)
            waiting = [digest for digest in dict.fromkeys(listed) if digest not in found]
        return found

    def _images(
        self, repository: Repository, manifests: Iterable[Manifest]
    ) -> dict[Digest, Summary]:
        images = [one for one in manifests if not one.is_index]
        self._prepare(
            repository, [one for one in images if not self._known(repository, one.digest)]
        )
        return {one.digest: self.summarise(repository, one) for one in images}


def _image_config(manifest: Manifest) -> Descriptor | None:
    config = manifest.config
    if config is None or config.media_type not in IMAGE_CONFIG_TYPES:
        return None
    return config if (config.size or 0) <= CONFIG_LIMIT else None


def _total(blobs: Iterable[Descriptor]) -> int:
    return sum({blob.digest: blob.size or 0 for blob in blobs}.values())


def _platforms(
    listed: Iterable[Descriptor],
    below: Mapping[Digest, Manifest | None],
    images: Mapping[Digest, Summary],
) -> tuple[Platform, ...]:
    found: dict[Platform, None] = {}  # a dict for its order
    for child in listed:
        manifest, described = below[child.digest], images.get(child.digest)
        if manifest and manifest.is_index:
            continue
        named = (child.platform,) if child.platform else described.platforms if described else ()
        found |= dict.fromkeys(platform for platform in named if platform.known)
    return tuple(found)
