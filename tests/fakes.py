"""Real classes that stand for the outside in tests, each as its adapter behaves."""

from __future__ import annotations

import copy
import json
import threading
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Literal, Self

from service.domain.audit import Change
from service.domain.content import (
    OCI_INDEX,
    OCI_MANIFEST,
    SCHEMA1_TYPES,
    Descriptor,
    Manifest,
    Platform,
    RawManifest,
    parse_manifest,
)
from service.domain.engine import RegistryLogin
from service.domain.errors import (
    BlobUnknown,
    CatalogUnsupported,
    DeletionDisabled,
    ManifestRefused,
    ManifestUnknown,
    RegistryAnswerInvalid,
    RegistryReadOnly,
    RepositoryUnknown,
)
from service.domain.ports import AuthState, BlobState, RegistryState, Writability
from service.domain.reference import Digest, Repository, Tag

OCI_CONFIG = "application/vnd.oci.image.config.v1+json"
OCI_LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"
OCI_EMPTY = "application/vnd.oci.empty.v1+json"
WriteKind = Literal["put_manifest", "delete_manifest", "delete_tag"]


@dataclass(frozen=True, slots=True)
class Behaviour:
    """What differs between registries; by default distribution 2.8 with delete on."""

    delete_enabled: bool = True
    read_only: bool = False
    delete_by_tag: bool = False
    delete_tag_when_disabled: bool = False
    """3.0.0 to 3.1.0 delete a tag alone even with delete disabled."""
    untags: bool = True
    """Deleting a manifest takes its tags along; False leaves them dangling, as old versions do."""
    tells_delete: bool = True
    """Whether the harmless probe says if delete is on."""
    referrers_api: bool = False
    catalog: bool = True
    schema1: bool = False


V2 = Behaviour()
V3 = Behaviour(delete_by_tag=True)


class Died(BaseException):
    """The process was killed: nothing catches it but a test."""


@dataclass(frozen=True, slots=True)
class Write:
    """One write that reached the registry, as it was asked."""

    kind: WriteKind
    repository: Repository
    reference: Tag | Digest


@dataclass(slots=True)
class Death:
    """Fail at the ``nth`` write (from 1, counted from when it was ordered)."""

    nth: int
    when: Literal["before", "after"]
    error: BaseException
    for_good: bool


@dataclass(slots=True)
class Contents:
    """One repository. A tag without its manifest is dangling."""

    manifests: dict[Digest, RawManifest] = field(default_factory=dict)
    tags: dict[Tag, Digest] = field(default_factory=dict)
    blobs: dict[Digest, bytes] = field(default_factory=dict)
    vouched: set[Digest] = field(default_factory=set)
    """Blobs, manifests too, that are gone while the registry's cache says they are there."""
    damaged: set[str] = field(default_factory=set)
    """Tags and digests whose files make no sense to the registry, which answers 500 for them."""


@dataclass(frozen=True, slots=True)
class Built:
    """A manifest made for a test, with the blobs it names."""

    raw: RawManifest
    blobs: tuple[bytes, ...] = ()

    @property
    def digest(self) -> Digest:
        return self.raw.digest

    def descriptor(self, platform: Platform | None = None) -> dict[str, object]:
        """As an index or a subject field names it."""
        described: dict[str, object] = {
            "mediaType": self.raw.media_type,
            "digest": self.raw.digest,
            "size": len(self.raw.body),
        }
        if platform:
            described["platform"] = {"os": platform.os, "architecture": platform.architecture}
        return described


def raw_manifest(document: Mapping[str, object]) -> RawManifest:
    """Serialise a manifest whose ``mediaType`` is among its fields."""
    body = json.dumps(document).encode()
    return RawManifest(Digest.of(body), str(document["mediaType"]), body)


def described(blob: bytes, media_type: str) -> dict[str, object]:
    return {"mediaType": media_type, "digest": Digest.of(blob), "size": len(blob)}


def image(
    seed: str,
    *,
    layers: Sequence[bytes] | None = None,
    subject: Built | None = None,
    artifact_type: str | None = None,
) -> Built:
    """An OCI image, or with ``artifact_type`` an artifact; the same arguments, the same digest."""
    platform = {"os": "linux", "architecture": "amd64"}
    config = b"{}" if artifact_type else json.dumps({"seed": seed, **platform}).encode()
    config_type = OCI_EMPTY if artifact_type else OCI_CONFIG
    chosen = (f"layer of {seed}".encode(),) if layers is None else tuple(layers)
    document: dict[str, object] = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": described(config, config_type),
        "layers": [described(layer, OCI_LAYER) for layer in chosen],
    }
    if subject:
        document["subject"] = subject.descriptor()
    if artifact_type:
        document["artifactType"] = artifact_type
    return Built(raw_manifest(document), (config, *chosen))


def index(
    *children: Built, seed: str = "", subject: Built | None = None, media_type: str = OCI_INDEX
) -> Built:
    """An OCI index, or a Docker list by ``media_type``; ``seed`` tells equal ones apart."""
    architectures = ("amd64", "arm64", "ppc64le", "s390x", "riscv64")
    listed = [
        child.descriptor(Platform("linux", architectures[place % len(architectures)]))
        for place, child in enumerate(children)
    ]
    document: dict[str, object] = {
        "schemaVersion": 2,
        "mediaType": media_type,
        "manifests": listed,
        "annotations": {"seed": seed},
    }
    if subject:
        document["subject"] = subject.descriptor()
    return Built(raw_manifest(document))


class Mortal:
    """What can be told to die around one of its writes."""

    _death: Death | None = None
    _dead: BaseException | None = None

    def die(
        self,
        nth: int,
        when: Literal["before", "after"],
        error: BaseException | None = None,
        *,
        for_good: bool = True,
    ) -> None:
        """Raise ``error`` before or after the ``nth`` write from now (from 1).

        ``for_good``: every later call raises it too, as nothing runs in a killed process;
        otherwise it happens once, as a connection that breaks. ``revive`` ends it.
        """
        self._death = Death(nth, when, error or Died(), for_good)

    def revive(self) -> None:
        """Answer again."""
        self._death = self._dead = None

    def strike(self, when: Literal["before", "after"]) -> None:
        """Die here, if that was ordered."""
        death = self._death
        if death is None or death.when != when:
            return
        death.nth -= 1
        if death.nth == 0:
            self._death = None
            self._dead = death.error if death.for_good else None
            raise death.error

    def pulse(self) -> None:
        """Raise when dead."""
        if self._dead:
            raise self._dead


class FakeRegistry(Mortal):
    """A registry in memory, behind the Registry port; counts writes and can die at one of them."""

    def __init__(
        self,
        name: str = "default",
        behaviour: Behaviour = V2,
        url: str = "http://127.0.0.1:5000",
    ) -> None:
        self.name = name
        self.url = url
        self.behaviour = behaviour
        self.contents: dict[Repository, Contents] = {}
        self.writes: list[Write] = []
        self.reads: list[tuple[str, ...]] = []
        self._seen_manifests: dict[Digest, RawManifest] = {}
        self._seen_blobs: dict[Digest, bytes] = {}
        self.known_as: RegistryLogin | None = None
        self._mutex = threading.RLock()

    # What a test arranges.

    def push(self, repository: str, built: Built, *tags: str) -> Digest:
        """Store a manifest with its blobs, under tags or under its digest alone."""
        contents = self.contents.setdefault(Repository.parse(repository), Contents())
        contents.blobs.update({Digest.of(blob): blob for blob in built.blobs})
        contents.manifests[built.digest] = built.raw
        contents.tags.update({Tag.parse(tag): built.digest for tag in tags})
        return built.digest

    def dangle(self, repository: str, tag: str) -> None:
        """Take the manifest of a tag away and leave the tag listed."""
        contents = self.contents[Repository(repository)]
        contents.manifests.pop(contents.tags[Tag(tag)], None)

    def collect(self, *, stale_cache: bool = False) -> None:
        """Collect garbage. With ``stale_cache`` the registry still vouches for what it swept."""
        for contents in self.contents.values():
            kept = {
                blob.digest
                for raw in contents.manifests.values()
                for blob in parse_manifest(raw).blobs
            }
            gone = set(contents.blobs) - kept
            contents.blobs = {d: blob for d, blob in contents.blobs.items() if d in kept}
            contents.vouched |= gone if stale_cache else set()

    def forget_reads(self) -> None:
        """Start with empty caches, as a fresh process with a fresh disk does."""
        self._seen_manifests.clear()
        self._seen_blobs.clear()
        self.reads.clear()

    def copy(self) -> Self:
        """A registry with the same contents that changes on its own, without writes or deaths."""
        twin = type(self)(self.name, self.behaviour, self.url)
        twin.contents = copy.deepcopy(self.contents)
        return twin

    def resolved(self, repository: str) -> dict[Tag, Digest | None]:
        """Every tag with the digest that it resolves to, None when it dangles."""
        contents = self.contents.get(Repository(repository), Contents())
        return {
            tag: digest if digest in contents.manifests else None
            for tag, digest in contents.tags.items()
        }

    # The port.

    def login(self) -> RegistryLogin | None:
        return self.known_as

    def state(self) -> RegistryState:
        status: Literal["up", "read-only"] = "read-only" if self.behaviour.read_only else "up"
        return RegistryState(
            status=status,
            api_version="registry/2.0",
            writability=self.writability(),
            auth=AuthState("none"),
            tls=None,
            checked_at=datetime.now(UTC),
        )

    def writability(self, repository: Repository | None = None) -> Writability:
        self._read("writability", repository or "")
        tells = self.behaviour.tells_delete and not self.behaviour.read_only
        return Writability(
            delete_enabled=self.behaviour.delete_enabled if tells else None,
            read_only=self.behaviour.read_only,
        )

    def repositories(self) -> Iterator[Repository]:
        self._read("repositories")
        if not self.behaviour.catalog:
            raise CatalogUnsupported(f"The registry {self.url} offers no catalog.")
        yield from sorted(self.contents, reverse=True)

    def tags(self, repository: Repository) -> Sequence[Tag]:
        self._read("tags", repository)
        with self._mutex:
            if repository not in self.contents:
                raise RepositoryUnknown(f"The registry {self.url} has no repository {repository}.")
            return list(self.contents[repository].tags)

    def resolve(self, repository: Repository, tag: Tag) -> Digest:
        self._read("resolve", repository, tag)
        return self._lookup(repository, tag).digest

    def resolve_many(
        self, repository: Repository, tags: Sequence[Tag]
    ) -> Mapping[Tag, Digest | None]:
        found: dict[Tag, Digest | None] = dict.fromkeys(tags)
        for tag in tags:
            with suppress(ManifestUnknown):
                found[tag] = self.resolve(repository, tag)
        return found

    def manifest(self, repository: Repository, reference: Tag | Digest) -> RawManifest:
        self._read("manifest", repository, reference)
        raw = self._lookup(repository, reference)
        self._seen_manifests[raw.digest] = raw
        return raw

    def content(self, repository: Repository, digest: Digest) -> RawManifest:
        seen = self._seen_manifests.get(digest)
        return seen or self.manifest(repository, digest)

    def config(self, repository: Repository, descriptor: Descriptor) -> bytes:
        digest = descriptor.digest
        if digest not in self._seen_blobs:
            self._read("config", repository, digest)
            with self._mutex:
                blobs = self.contents.get(repository, Contents()).blobs
                if digest not in blobs:
                    raise BlobUnknown(f"The repository {repository} has no blob {digest}.")
                self._seen_blobs[digest] = blobs[digest]
        return self._seen_blobs[digest]

    def prefetch(
        self, repository: Repository, manifests: Collection[Digest], configs: Collection[Descriptor]
    ) -> frozenset[Digest]:
        unknown = {*manifests, *(descriptor.digest for descriptor in configs)}
        for digest in manifests:
            with suppress(ManifestUnknown):
                if digest not in self._seen_manifests:
                    self.manifest(repository, digest)
                unknown.discard(digest)
        for descriptor in configs:
            with suppress(BlobUnknown):
                self.config(repository, descriptor)
                unknown.discard(descriptor.digest)
        return frozenset(unknown)

    def blob_readable(self, repository: Repository, digest: Digest) -> bool:
        self._read("blob_readable", repository, digest)
        return digest in self.contents.get(repository, Contents()).blobs

    def check_blob(self, repository: Repository, blob: Descriptor, *, deep: bool) -> BlobState:
        self._read("check_blob", repository, blob.digest)
        body = self.contents.get(repository, Contents()).blobs.get(blob.digest)
        if body is None:
            return "missing"
        sound = blob.size in {None, len(body)} and (not deep or blob.digest.matches(body))
        return "sound" if sound else "corrupt"

    def referrers(self, repository: Repository, digest: Digest) -> Sequence[Descriptor] | None:
        self._read("referrers", repository, digest)
        if not self.behaviour.referrers_api:
            return None
        with self._mutex:
            raws = list(self.contents.get(repository, Contents()).manifests.values())
        manifests = [parse_manifest(raw) for raw in raws]
        return [_referrer(one) for one in manifests if one.subject and one.subject.digest == digest]

    def writer(self, change: Change) -> FakeWriter:
        return FakeWriter(self, change)

    # For the writer.

    @contextmanager
    def write(self, write: Write) -> Iterator[Contents]:
        """Give the repository to change, dying around it as ordered; a refusal is no write."""
        with self._mutex:
            self.pulse()
            self.strike("before")
            yield self.contents.get(write.repository, Contents())
            self.writes.append(write)
            self.strike("after")

    def _read(self, *what: str) -> None:
        self.pulse()
        self.reads.append(what)

    def _lookup(self, repository: Repository, reference: Tag | Digest) -> RawManifest:
        with self._mutex:
            contents = self.contents.get(repository, Contents())
            digest = contents.tags.get(reference) if isinstance(reference, Tag) else reference
            if {reference, digest} & contents.damaged:
                raise RegistryAnswerInvalid(f"The registry answers 500 for {reference}.")
            if digest is None or digest not in contents.manifests:
                raise ManifestUnknown(f"The repository {repository} has no manifest {reference}.")
            return contents.manifests[digest]


class FakeWriter:
    """Writes to a FakeRegistry with the checks a registry makes."""

    def __init__(self, registry: FakeRegistry, change: Change) -> None:
        self._registry = registry
        self._change = change

    def put_manifest(
        self, repository: Repository, reference: Tag | Digest, manifest: RawManifest
    ) -> None:
        self._require_writable()
        with self._registry.write(Write("put_manifest", repository, reference)) as contents:
            self._require_acceptable(contents, reference, manifest)
            self._registry.contents[repository] = contents
            if manifest.digest not in contents.vouched:
                contents.manifests[manifest.digest] = manifest
            if isinstance(reference, Tag):
                contents.tags[reference] = manifest.digest
                contents.damaged.discard(reference)

    def delete_manifest(self, repository: Repository, digest: Digest) -> None:
        self._require_writable()
        if not self._registry.behaviour.delete_enabled:
            raise DeletionDisabled("The registry runs with deletion off. Nothing was changed.")
        with self._registry.write(Write("delete_manifest", repository, digest)) as contents:
            gone = contents.manifests.pop(digest, None)
            if gone and self._registry.behaviour.untags:
                contents.tags = {t: d for t, d in contents.tags.items() if d != digest}

    def delete_tag(self, repository: Repository, tag: Tag) -> bool:
        self._require_writable()
        behaviour = self._registry.behaviour
        allowed = behaviour.delete_enabled or behaviour.delete_tag_when_disabled
        if not (behaviour.delete_by_tag and allowed):
            return False
        with self._registry.write(Write("delete_tag", repository, tag)) as contents:
            contents.tags.pop(tag, None)
        return True

    def _require_writable(self) -> None:
        self._change.require_open()
        if self._registry.behaviour.read_only:
            raise RegistryReadOnly("The registry runs read-only. Nothing was changed.")

    def _require_acceptable(
        self, contents: Contents, reference: Tag | Digest, raw: RawManifest
    ) -> None:
        if isinstance(reference, Digest) and not reference.matches(raw.body):
            raise ManifestRefused(
                f"The registry refuses {reference}: its bytes have another digest."
            )
        if raw.media_type in SCHEMA1_TYPES and not self._registry.behaviour.schema1:
            raise ManifestRefused("The registry refuses schema1. Nothing was changed.")
        missing = _missing(contents, parse_manifest(raw))
        if missing:
            raise ManifestRefused(f"The registry lacks {', '.join(missing)}. Nothing was changed.")


def _missing(contents: Contents, manifest: Manifest) -> list[Digest]:
    # Foreign layers live elsewhere, and a subject may come later than what refers to it.
    blobs = [blob for blob in manifest.blobs if "foreign" not in blob.media_type]
    known = contents.blobs.keys() | contents.vouched
    lost = [blob.digest for blob in blobs if blob.digest not in known]
    return lost + [c.digest for c in manifest.children if c.digest not in contents.manifests]


def _referrer(manifest: Manifest) -> Descriptor:
    fallback = manifest.config.media_type if manifest.config else None
    return Descriptor(
        digest=manifest.digest,
        media_type=manifest.media_type,
        size=manifest.size,
        artifact_type=manifest.artifact_type or fallback,
        annotations=manifest.annotations,
    )
