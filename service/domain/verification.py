"""Checking that what a registry lists is really there: every tag, manifest and blob.

Blobs are read, not only asked for: a registry's cache vouches for blobs that are gone. What is
kept in memory is a digest and its tags for each blob that is missing or corrupt, and a digest for
each one that was looked at.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from service.domain.concurrency import spread
from service.domain.content import Descriptor, Manifest, parse_manifest
from service.domain.errors import ManifestUnknown, RegistryAnswerInvalid, RepositoryUnknown
from service.domain.ports import BlobState, Registry
from service.domain.reference import Digest, Repository
from service.domain.survey import resolve_all

TagName = Mapping[str, str]
ReportProgress = Callable[[int, int | None], None]


@dataclass(slots=True)
class Verification:
    """What was looked at and what was found."""

    tags: int = 0
    manifests: int = 0
    blobs: int = 0
    dangling: list[TagName] = field(default_factory=list)
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
    hashed: set[Digest] = set()
    for repository in registry.repositories():
        _Repository(registry, repository, found, hashed, deep=deep).verify(report)
    return found


class _Repository:
    """The verification of one repository."""

    def __init__(
        self,
        registry: Registry,
        repository: Repository,
        found: Verification,
        hashed: set[Digest],
        *,
        deep: bool,
    ) -> None:
        self._registry = registry
        self._repository = repository
        self._found = found
        self._hashed = hashed  # over all repositories: the same digest has the same bytes
        self._deep = deep
        self._states: dict[Digest, BlobState] = {}
        self._manifests: dict[Digest, Manifest | None] = {}

    def verify(self, report: ReportProgress) -> None:
        """Look at everything that tags reach."""
        for digest, tags in self._targets().items():
            self._look_below(digest)
            self._blame(digest, tags)
            report(self._found.manifests, None)

    def _targets(self) -> dict[Digest, list[TagName]]:
        try:
            tags = resolve_all(self._registry, self._repository)
        except RepositoryUnknown:  # removed since the catalog was read
            return {}
        targets: dict[Digest, list[TagName]] = {}
        for tag, digest in tags.items():
            name = {"repository": str(self._repository), "tag": str(tag)}
            if digest is None:
                self._found.dangling.append(name)
            else:
                targets.setdefault(digest, []).append(name)
        self._found.tags += len(tags)
        return targets

    def _look_below(self, digest: Digest) -> None:
        waiting = [digest]
        while waiting:
            manifest = self._look_at(waiting.pop())
            if manifest is not None:
                waiting += [c.digest for c in manifest.children if c.digest not in self._manifests]

    def _look_at(self, digest: Digest) -> Manifest | None:
        if digest in self._manifests:
            return None
        self._manifests[digest] = manifest = self._read(digest)
        self._found.manifests += 1
        if manifest is not None:
            blobs = {blob.digest: blob for blob in manifest.blobs if not blob.is_foreign}
            new = [blob for one, blob in blobs.items() if one not in self._states]
            self._states |= zip(
                (blob.digest for blob in new), spread(self._check, new), strict=True
            )
            self._found.blobs += len(new)
        return manifest

    def _read(self, digest: Digest) -> Manifest | None:
        try:
            return parse_manifest(self._registry.manifest(self._repository, digest))
        except ManifestUnknown:
            self._states[digest] = "missing"
        except RegistryAnswerInvalid:
            self._states[digest] = "corrupt"
        return None

    def _check(self, blob: Descriptor) -> BlobState:
        deep = self._deep and blob.digest not in self._hashed
        state = self._registry.check_blob(self._repository, blob, deep=deep)
        if deep and state == "sound":
            self._hashed.add(blob.digest)
        return state

    def _blame(self, digest: Digest, tags: Sequence[TagName]) -> None:
        """Note which tags are hurt by what is missing or corrupt below their manifest."""
        for one in self._below(digest):
            state = self._states.get(one, "sound")
            if state != "sound":
                found = self._found.missing if state == "missing" else self._found.corrupt
                found.setdefault(one, []).extend(tags)

    def _below(self, digest: Digest) -> Iterable[Digest]:
        """Return the manifest, all below it, and their blobs; each once."""
        seen: dict[Digest, None] = {}
        waiting = [digest]
        while waiting:
            one = waiting.pop()
            if one in seen:
                continue
            seen[one] = None
            manifest = self._manifests.get(one)
            if manifest is not None:
                waiting += [child.digest for child in manifest.children]
                seen |= dict.fromkeys(blob.digest for blob in manifest.blobs)
        return seen
