"""What a repository holds, described from manifests and configs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice, zip_longest
from typing import Literal

from service.domain.concurrency import WIDTH, spread
from service.domain.content import (
    Descriptor,
    Kind,
    Manifest,
    Platform,
    RawManifest,
    parse_manifest,
)
from service.domain.deletion import referrer_tags
from service.domain.description import Describer, Summary
from service.domain.errors import (
    ManifestUnknown,
    RegistryAnswerInvalid,
    RepositoryUnknown,
    TagUnknown,
)
from service.domain.image_config import ImageConfig
from service.domain.ports import Registry
from service.domain.reference import Digest, Repository, Tag
from service.domain.survey import resolve_all

Source = Literal["api", "fallback-tag", "cosign-tag"]

LOOKS = 2
"""How often a tag is looked up whose manifest is gone."""


@dataclass(frozen=True, slots=True)
class TagDetail:
    """A tag; all but ``name`` are None or empty when it is dangling. Sizes in bytes.

    ``problem`` says why nothing is known of a tag that is damaged in the registry's storage.
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
    problem: str | None = None


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
    """A layer and the history step that made it; ``size`` is None where it is not told."""

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
    """A manifest in full; ``config`` is None for an index and for what has no image config."""

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
    source: Source


class Reader:
    """Reads one registry. Keep it: it remembers what it has described, by digest."""

    def __init__(self, registry: Registry) -> None:
        """Read from ``registry``."""
        self._registry = registry
        self._describer = Describer(registry)

    # Repositories

    def repositories(
        self, n: int, last: str | None, *, include_empty: bool, visible: Callable[[str], bool]
    ) -> list[Repository]:
        """At most ``n`` names after ``last``, sorted by bytes; those without tags only if asked.

        Raise CatalogUnsupported. Costs the whole catalog, and one question a repository unless
        ``include_empty``.
        """
        names = sorted(set(self._registry.repositories()))
        candidates = (name for name in names if _beyond(name, last) and visible(name))
        if include_empty:
            return list(islice(candidates, n))
        return self._first_filled(candidates, n)

    def _first_filled(self, candidates: Iterable[Repository], n: int) -> list[Repository]:
        found: list[Repository] = []
        source = iter(candidates)
        while len(found) < n and (batch := list(islice(source, max(WIDTH, n - len(found))))):
            filled = spread(self._has_tags, batch)
            found += [name for name, has_tags in zip(batch, filled, strict=True) if has_tags]
        return found[:n]

    def _has_tags(self, repository: Repository) -> bool:
        try:
            return bool(self._registry.tags(repository))
        except RepositoryUnknown:  # removed since the catalog was read
            return False

    def tag_count(self, repository: Repository) -> int:
        """Count tags, dangling ones too; raise RepositoryUnknown."""
        return len(set(self._registry.tags(repository)))

    # Tags

    def tag_names(self, repository: Repository, n: int, last: str | None) -> list[Tag]:
        """At most ``n`` tags after ``last``, sorted by bytes; raise RepositoryUnknown."""
        return list(islice(self._names(repository, last), n))

    def tag_details(self, repository: Repository, n: int, last: str | None) -> list[TagDetail]:
        """Like :meth:`tag_names`, each described; all asked concurrently.

        Raise RegistryAnswerInvalid where the registry makes sense of no tag it has.
        """
        names = list(self._names(repository, last))
        found: list[TagDetail] = []
        waiting = iter(names)
        while len(found) < n and (batch := list(islice(waiting, n - len(found)))):
            found += self._still_there(repository, self._tags_or_problems(repository, batch))
        if last is None and len(found) == len(names):
            _require_some_sense(found)
        return found

    def _tags_or_problems(self, repository: Repository, names: Sequence[Tag]) -> list[TagDetail]:
        try:
            return self._tags(repository, names)
        except RegistryAnswerInvalid:  # one damaged tag does not hide the others
            return spread(partial(self._tag_or_problem, repository), names)

    def _tag_or_problem(self, repository: Repository, tag: Tag) -> TagDetail:
        try:
            return self._tag(repository, tag)
        except RegistryAnswerInvalid as error:
            return TagDetail(tag, problem=error.detail)

    def _tags(self, repository: Repository, names: Sequence[Tag]) -> list[TagDetail]:
        targets = self._registry.resolve_many(repository, names)
        summaries = self._describer.summaries(repository, filter(None, targets.values()))
        return [
            TagDetail(tag, dangling=True)
            if (digest := targets[tag]) is None
            else _tag_detail(tag, digest, summaries[digest])
            if digest in summaries
            else self._tag(repository, tag)  # it has moved meanwhile, or dangles now
            for tag in names
        ]

    def _names(self, repository: Repository, last: str | None) -> Iterator[Tag]:
        names = sorted(set(self._registry.tags(repository)))
        return (name for name in names if _beyond(name, last))

    def _still_there(
        self, repository: Repository, details: Sequence[TagDetail]
    ) -> Sequence[TagDetail]:
        """Leave out tags that were removed since they were listed: those do not dangle."""
        if not any(detail.dangling for detail in details):
            return details
        listed = set(self._registry.tags(repository))
        return [detail for detail in details if not detail.dangling or detail.name in listed]

    def tag(self, repository: Repository, tag: Tag) -> TagDetail:
        """Describe a tag; raise TagUnknown or RepositoryUnknown. A listed one may be dangling."""
        detail = self._tag(repository, tag)
        if detail.dangling and tag not in self._registry.tags(repository):
            raise TagUnknown(f"The repository '{repository}' has no tag '{tag}'.")
        return detail

    def described_as(self, repository: Repository, tag: Tag, raw: RawManifest) -> TagDetail:
        """Describe ``tag`` as it is when it points at ``raw``."""
        return _tag_detail(
            tag, raw.digest, self._describer.summarise(repository, parse_manifest(raw))
        )

    def _tag(self, repository: Repository, tag: Tag) -> TagDetail:
        for _ in range(LOOKS):
            try:
                digest = self._registry.resolve(repository, tag)
            except ManifestUnknown:
                break
            try:
                return _tag_detail(tag, digest, self._describer.summary(repository, digest))
            except ManifestUnknown:  # it may have moved, and what it was on have been deleted
                continue
        return TagDetail(tag, dangling=True)

    def tags_of(self, repository: Repository, digest: Digest) -> list[Tag]:
        """Return every tag on a manifest, sorted; raise ManifestUnknown, RepositoryUnknown."""
        targets = resolve_all(self._registry, repository)
        found = sorted(tag for tag, target in targets.items() if target == digest)
        if not found:
            self._registry.manifest(repository, digest)
        return found

    # Manifests

    def raw(self, repository: Repository, reference: Tag | Digest) -> RawManifest:
        """Return exact bytes; raise TagUnknown, ManifestUnknown or RepositoryUnknown."""
        try:
            return self._registry.manifest(repository, reference)
        except ManifestUnknown:
            names = self._registry.tags(repository)  # RepositoryUnknown says more, where it is so
            if isinstance(reference, Tag) and reference not in names:
                raise TagUnknown(
                    f"The repository '{repository}' has no tag '{reference}'."
                ) from None
            raise

    def manifest(self, repository: Repository, reference: Tag | Digest) -> ManifestDetail:
        """Describe a manifest; raise TagUnknown, ManifestUnknown or RepositoryUnknown."""
        manifest = parse_manifest(self.raw(repository, reference))
        summary = self._describer.summarise(repository, manifest)
        config = self._describer.config(repository, manifest)
        return ManifestDetail(
            digest=manifest.digest,
            media_type=manifest.media_type,
            kind=manifest.kind,
            artifact_type=manifest.artifact_type,
            size=summary.size,
            subject=manifest.subject.digest if manifest.subject else None,
            annotations=manifest.annotations,
            platforms=summary.platforms,
            config=_config_detail(manifest, config),
            layers=_layers(manifest, config),
            children=tuple(spread(partial(self._child, repository), manifest.children)),
        )

    def _child(self, repository: Repository, child: Descriptor) -> ChildDetail:
        try:
            size = self._describer.summary(repository, child.digest).size
        except ManifestUnknown:  # an index may list what was never pushed here
            size = child.size or 0
        return ChildDetail(child.digest, child.platform, size)

    # Referrers

    def referrers(self, repository: Repository, digest: Digest) -> list[Referrer]:
        """What refers to a manifest, from each source once.

        Raise ManifestUnknown or RepositoryUnknown.
        """
        self.raw(repository, digest)
        listed = self._registry.referrers(repository, digest)
        fallback, *cosign = referrer_tags(digest)
        found = (
            self._fallback_referrers(repository, fallback)
            if listed is None
            else [_referrer(one, "api") for one in listed]
        )
        for tag in cosign:
            found += self._cosign_referrers(repository, tag)
        return list({(one.digest, one.source): one for one in found}.values())

    def _fallback_referrers(self, repository: Repository, tag: Tag) -> list[Referrer]:
        try:
            index = parse_manifest(self._registry.manifest(repository, tag))
        except ManifestUnknown:
            return []
        children = spread(partial(self._with_artifact_type, repository), index.children)
        return [_referrer(child, "fallback-tag") for child in children]

    def _with_artifact_type(self, repository: Repository, referrer: Descriptor) -> Descriptor:
        """Complete what a client left out of the index that it keeps by hand."""
        if referrer.artifact_type is not None:
            return referrer
        try:
            manifest = parse_manifest(self._registry.content(repository, referrer.digest))
        except (ManifestUnknown, RegistryAnswerInvalid):
            return referrer
        return replace(referrer, artifact_type=manifest.effective_artifact_type)

    def _cosign_referrers(self, repository: Repository, tag: Tag) -> list[Referrer]:
        try:
            manifest = parse_manifest(self._registry.manifest(repository, tag))
        except ManifestUnknown:
            return []
        digest, kind = manifest.digest, manifest.effective_artifact_type
        return [Referrer(digest, kind, manifest.media_type, manifest.size, "cosign-tag")]


def _require_some_sense(details: Sequence[TagDetail]) -> None:
    problems = [detail.problem for detail in details if detail.problem]
    if problems and len(problems) == len(details):
        raise RegistryAnswerInvalid(problems[0])


def _beyond(name: str, last: str | None) -> bool:
    # Names are ASCII, so the order of text is the order of bytes.
    return last is None or name > last


def _tag_detail(tag: Tag, digest: Digest, summary: Summary) -> TagDetail:
    return TagDetail(
        tag,
        digest,
        summary.media_type,
        summary.kind,
        summary.size,
        summary.created,
        summary.platforms,
    )


def _referrer(descriptor: Descriptor, source: Source) -> Referrer:
    artifact_type = descriptor.artifact_type
    return Referrer(
        descriptor.digest, artifact_type, descriptor.media_type, descriptor.size or 0, source
    )


def _config_detail(manifest: Manifest, config: ImageConfig | None) -> ConfigDetail | None:
    if config is None or manifest.config is None:
        return None
    return ConfigDetail(
        digest=manifest.config.digest,
        created=config.created,
        architecture=config.architecture,
        os=config.os,
        labels=config.labels,
        entrypoint=config.entrypoint,
        cmd=config.cmd,
        env=config.env,
        user=config.user,
        working_dir=config.working_dir,
        exposed_ports=config.exposed_ports,
    )


def _layers(manifest: Manifest, config: ImageConfig | None) -> tuple[LayerDetail, ...]:
    steps = config.layer_steps if config else ()
    return tuple(
        LayerDetail(layer.digest, layer.media_type, layer.size, step)
        for layer, step in zip_longest(manifest.layers, steps[: len(manifest.layers)])
    )
