"""Checking that what a registry lists is really there: every tag, manifest and blob.

Blobs are read, not only asked for: a registry's cache vouches for blobs that are gone. What is
kept in memory is 30 bytes for each blob and manifest of the repository that is looked at (with
``deep`` for each blob of the registry), the tags of that repository, and what is missing or
corrupt with the tags it hurts: some 50 MB for a million blobs, twice that with ``deep``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from service.domain.concurrency import spread
from service.domain.content import Descriptor, Manifest, parse_manifest
from service.domain.digests import Digests
from service.domain.errors import ManifestUnknown, RegistryAnswerInvalid, RepositoryUnknown
from service.domain.ports import BlobState, Registry
from service.domain.reference import Digest, Repository, Tag
from service.domain.survey import resolve_each

TagName = Mapping[str, str]
ReportProgress = Callable[[int, int | None], None]


@dataclass(slots=True)
class Verification:
    """What was looked at and what was found."""

    tags: int = 0
    manifests: int = 0
    blobs: int = 0
    dangling: list[TagName] = field(default_factory=list)
    unreadable: list[TagName] = field(default_factory=list)
    """Those that the registry cannot tell anything of: damaged in its storage."""
    missing: dict[Digest, list[TagName]] = field(default_factory=dict)
    corrupt: dict[Digest, list[TagName]] = field(default_factory=dict)

    def counts(self) -> dict[str, Any]:
        """The short form, in a collection's result."""
        return {
            "tags": self.tags,
            "manifests": self.manifests,
            "missing_blobs": sorted(self.missing),
        }

    def result(self) -> dict[str, Any]:
        """The result of a verification job."""
        return {
            "tags": self.tags,
            "manifests": self.manifests,
            "blobs": self.blobs,
            "dangling_tags": _sorted(self.dangling),
            "unreadable_tags": _sorted(self.unreadable),
            "missing_blobs": _hurt(self.missing),
            "corrupt_blobs": _hurt(self.corrupt),
        }


def _hurt(found: Mapping[Digest, list[TagName]]) -> list[dict[str, Any]]:
    return [{"digest": digest, "tags": _sorted(found[digest])} for digest in sorted(found)]


def _sorted(names: Iterable[TagName]) -> list[TagName]:
    """Sort, since they are found in whatever order a registry lists them."""
    return sorted(names, key=lambda name: (name["repository"], name["tag"]))


def verify(registry: Registry, report: ReportProgress, *, deep: bool = False) -> Verification:
    """Look at every tag, every manifest below it and every blob of those; ``deep`` hashes blobs.

    One repository after the other, so that memory does not grow with the registry. Progress
    counts manifests.
    """
    found = Verification()
    hashed = Digests()
    for repository in registry.repositories():
        _Repository(registry, repository, found, hashed, deep=deep).verify(report)
    return found


Ill = Mapping[Digest, BlobState]
"""What is missing or corrupt, manifests and blobs alike."""


class _Look(NamedTuple):
    """What was seen of one manifest: of itself and its blobs, and what is below it."""

    ill: Ill
    children: Sequence[Digest] = ()


class _Repository:
    """The verification of one repository."""

    def __init__(
        self,
        registry: Registry,
        repository: Repository,
        found: Verification,
        hashed: Digests,
        *,
        deep: bool,
    ) -> None:
        self._registry = registry
        self._repository = repository
        self._found = found
        self._hashed = hashed  # over all repositories: the same digest has the same bytes
        self._deep = deep
        self._sound = Digests()
        self._bad: dict[Digest, BlobState] = {}
        self._well = Digests()  # manifests below which all is sound
        self._looks: dict[Digest, _Look] = {}  # the others

    def verify(self, report: ReportProgress) -> None:
        """Look at everything that tags reach."""
        for digest, tags in self._targets().items():
            names = [self._name(tag) for tag in tags]
            for one, state in self._ill_below(digest).items():
                found = self._found.missing if state == "missing" else self._found.corrupt
                found.setdefault(one, []).extend(names)
            report(self._found.manifests, None)

    def _targets(self) -> dict[Digest, list[Tag]]:
        try:
            names = set(self._registry.tags(self._repository))
            tags, damaged = resolve_each(self._registry, self._repository, names)
        except RepositoryUnknown:  # removed since the catalog was read
            return {}
        self._found.unreadable += map(self._name, damaged)
        targets: dict[Digest, list[Tag]] = {}
        for tag, digest in tags.items():
            if digest is None:
                self._found.dangling.append(self._name(tag))
            else:
                targets.setdefault(digest, []).append(tag)
        self._found.tags += len(names)
        return targets

    def _name(self, tag: Tag) -> TagName:
        return {"repository": str(self._repository), "tag": str(tag)}

    def _ill_below(self, digest: Digest) -> Ill:
        """Look at a manifest and all below it that was not looked at yet."""
        looks: dict[Digest, _Look] = {}
        waiting = [digest]
        while waiting:
            one = waiting.pop()
            if one not in looks and one not in self._well:
                looks[one] = look = self._looks.get(one) or self._look_at(one)
                waiting += look.children
        ill = {one: state for look in looks.values() for one, state in look.ill.items()}
        if ill:
            self._looks |= looks
        else:
            for one in looks:
                self._well.add(one)
        return ill

    def _look_at(self, digest: Digest) -> _Look:
        self._found.manifests += 1
        try:
            manifest = parse_manifest(self._registry.manifest(self._repository, digest))
        except ManifestUnknown:
            return _Look({digest: "missing"})
        except RegistryAnswerInvalid:
            return _Look({digest: "corrupt"})
        children = [child.digest for child in manifest.children]
        return _Look(self._ill_blobs(manifest), children)

    def _ill_blobs(self, manifest: Manifest) -> Ill:
        blobs = {blob.digest: blob for blob in manifest.blobs if not blob.is_foreign}
        new = [
            blob for one, blob in blobs.items() if one not in self._sound and one not in self._bad
        ]
        for blob, state in zip(new, spread(self._check, new), strict=True):
            if state == "sound":
                self._sound.add(blob.digest)
            else:
                self._bad[blob.digest] = state
        self._found.blobs += len(new)
        return {one: self._bad[one] for one in blobs if one in self._bad}

    def _check(self, blob: Descriptor) -> BlobState:
        deep = self._deep and blob.digest not in self._hashed
        state = self._registry.check_blob(self._repository, blob, deep=deep)
        if deep and state == "sound":
            self._hashed.add(blob.digest)
        return state
