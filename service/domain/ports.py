"""What the rules need from outside, as protocols. Each has one adapter and one fake.

Every method of :class:`Registry` and :class:`RegistryWriter` may raise any
``UpstreamFailed`` besides what it names.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, Protocol

from service.domain.access import Token
from service.domain.audit import AuditEvent, AuditLog, Change, Outcome
from service.domain.content import Descriptor, RawManifest
from service.domain.deletion_record import Deletion, State
from service.domain.engine import Engine, RegistryLogin
from service.domain.reference import Digest, Repository, Tag

RegistryStatus = Literal["up", "read-only", "unauthorized", "untrusted", "down"]
BlobState = Literal["sound", "missing", "corrupt"]


@dataclass(frozen=True, slots=True)
class AuthState:
    """How the registry asks for credentials, and where ours come from."""

    scheme: Literal["none", "basic", "bearer"] | None
    username: str | None = None
    source: str | None = None


@dataclass(frozen=True, slots=True)
class TlsState:
    """The registry's certificate and the files we trust and present."""

    verified: bool | None
    """None where nothing answered that could have been verified."""
    issuer: str | None
    not_after: datetime | None
    ca_files: tuple[str, ...] = ()
    client_cert: str | None = None


@dataclass(frozen=True, slots=True)
class Writability:
    """What the registry lets us change; None where it does not tell."""

    delete_enabled: bool | None
    read_only: bool


@dataclass(frozen=True, slots=True)
class RegistryState:
    """A registry as it answers now."""

    status: RegistryStatus
    api_version: str | None
    writability: Writability | None
    auth: AuthState
    tls: TlsState | None
    checked_at: datetime
    problem: str | None = None
    """What is wrong, where it is not up."""


class Registry(Protocol):
    """One configured registry, to read from. Safe to share between threads."""

    @property
    def name(self) -> str:
        """The name it is configured under."""

    @property
    def url(self) -> str:
        """Its base URL, without credentials."""

    def login(self) -> RegistryLogin | None:
        """Who we are to it, None for nobody; raise RegistryUnauthorized where that cannot be told.

        For an engine that pushes to it: what is read and written here is logged in already.
        """

    def state(self) -> RegistryState:
        """Ask how it is; never raises, ``status`` says what is wrong."""

    def writability(self, repository: Repository | None = None) -> Writability:
        """Find out, without changing anything, whether deletion is on and writing possible."""

    def repositories(self) -> Iterator[Repository]:
        """Yield the catalog, page by page, unsorted; raise CatalogUnsupported."""

    def tags(self, repository: Repository) -> Sequence[Tag]:
        """List tags, unsorted; empty for an emptied repository; raise RepositoryUnknown."""

    def resolve(self, repository: Repository, tag: Tag) -> Digest:
        """Ask, now, what a tag points at; raise ManifestUnknown (unknown or dangling tag)."""

    def resolve_many(
        self, repository: Repository, tags: Sequence[Tag]
    ) -> Mapping[Tag, Digest | None]:
        """Ask likewise for many tags, several at a time; None for those unknown or dangling."""

    def manifest(self, repository: Repository, reference: Tag | Digest) -> RawManifest:
        """Fetch a manifest, now; raise ManifestUnknown or RepositoryUnknown.

        The bytes are checked against the digest asked for, and against the one named in the answer.
        """

    def content(self, repository: Repository, digest: Digest) -> RawManifest:
        """A manifest by digest, from the cache where it is there: it may be gone upstream."""

    def config(self, repository: Repository, descriptor: Descriptor) -> bytes:
        """An image's config, cached likewise, at most 4 MiB; raise BlobUnknown."""

    def prefetch(
        self, repository: Repository, manifests: Collection[Digest], configs: Collection[Descriptor]
    ) -> frozenset[Digest]:
        """Let ``content`` and ``config`` find these in the cache, fetched several at a time.

        Return those that are unknown.
        """

    def blob_readable(self, repository: Repository, digest: Digest) -> bool:
        """Tell whether a blob's bytes can be read, by reading from them.

        A HEAD would not do: a registry's warm cache vouches for blobs that are gone.
        """

    def check_blob(self, repository: Repository, blob: Descriptor, *, deep: bool) -> BlobState:
        """Look at a blob, by reading from it: one of another size is corrupt.

        With ``deep`` all of it is read and hashed.
        """

    def referrers(self, repository: Repository, digest: Digest) -> Sequence[Descriptor] | None:
        """What the OCI referrers API lists, or None where the registry does not offer it."""

    def writer(self, change: Change) -> RegistryWriter:
        """Open the registry for an audited change."""


class RegistryWriter(Protocol):
    """Changes a registry under an open :class:`Change`. Nothing here is ever tried twice."""

    def put_manifest(
        self, repository: Repository, reference: Tag | Digest, manifest: RawManifest
    ) -> None:
        """Put exact bytes at a tag or at their digest; raise ManifestRefused."""

    def delete_manifest(self, repository: Repository, digest: Digest) -> None:
        """Delete a manifest and every tag on it; nothing happens when it is gone already.

        Raise DeletionDisabled or RegistryReadOnly.
        """

    def delete_tag(self, repository: Repository, tag: Tag) -> bool:
        """Delete a tag alone; False, nothing changed, where the registry cannot (before 3.0)."""


class BlobCache(Protocol):
    """A cache outside of a registry, in which it keeps what it knows of blobs.

    It outlives the registry's restart, and vouches for what was collected. Every method may raise
    CacheUnreachable.
    """

    def check(self) -> None:
        """Raise CacheUnreachable where ``forget`` would; nothing is changed."""

    def holds(self, repository: Repository, digest: Digest) -> bool:
        """Tell whether it knows of a blob, in any repository or in that one."""

    def forget(self) -> int:
        """Remove all that it knows of blobs; return how many keys that were."""


class Registries(Protocol):
    """The configured registries."""

    def names(self) -> Sequence[str]:
        """Names, sorted."""

    def get(self, name: str) -> Registry:
        """One registry; raise RegistryUnknown."""

    def container(self, name: str) -> str | None:
        """The registry's container, where one is configured."""

    def engine(self, name: str) -> Engine:
        """The engine that the registry's container runs on; raise RegistryUnknown."""

    def blob_cache(self, name: str) -> BlobCache | None:
        """The cache of blobs outside of the registry, where it is configured."""

    def version(self, name: str) -> str | None:
        """The registry software's version as its container tells it, such as ``2.8.2``, or None."""


@dataclass(frozen=True, slots=True)
class AuditQuery:
    """Filters of the audit trail; None matches all. ``since`` is inclusive, ``until`` is not."""

    actor: str | None = None
    action: str | None = None
    registry: str | None = None
    container: str | None = None
    outcome: Outcome | None = None
    since: datetime | None = None
    until: datetime | None = None


class Tokens(Protocol):
    """Bearer tokens, by the hash of their secret."""

    def create(self, change: Change, token: Token, secret_hash: str) -> None:
        """Store a token."""

    def find(self, secret_hash: str) -> Token | None:
        """The token of that secret, asked from the store each time: revocation is in force at once.

        Expired tokens are found too: the caller checks.
        """

    def get(self, token_id: str) -> Token:
        """One token; raise TokenUnknown."""

    def revoke(self, change: Change, token_id: str) -> None:
        """Delete a token; raise TokenUnknown."""

    def page(self, n: int, last: str | None) -> Sequence[Token]:
        """At most ``n`` tokens with an id beyond ``last``, sorted by id."""


class AuditReader(AuditLog, Protocol):
    """The audit trail, to write to and to read from."""

    def page(self, query: AuditQuery, n: int, last: str | None) -> Sequence[AuditEvent]:
        """At most ``n`` events older than ``last``, newest first."""

    def refusals(self) -> Mapping[str, int]:
        """How many attempts were ever refused, by the problem's code; ``none`` for one without."""


class Deletions(Protocol):
    """Records of deletions, with the bytes of what was removed and of what supports it.

    Bytes are stored once by digest, whatever the number of deletions that hold them.
    """

    def add(self, change: Change, deletion: Deletion) -> None:
        """Store a deletion before its first step."""

    def set_state(self, change: Change, deletion_id: str, state: State) -> None:
        """Move a deletion on."""

    def replace(self, change: Change, deletion: Deletion) -> None:
        """Store what really went, in place of what was planned."""

    def discard(self, change: Change, deletion_id: str) -> None:
        """Drop a deletion that has changed nothing."""

    def mark_collected(self, change: Change, deletion_id: str) -> None:
        """Note that garbage collection took a blob of it."""

    def get(self, registry: str, deletion_id: str) -> Deletion:
        """One deletion with bytes; raise DeletionUnknown."""

    def page(
        self, registry: str, n: int, last: str | None, *, whole: bool = False
    ) -> Sequence[Deletion]:
        """At most ``n`` older than ``last``, newest first; bodies are empty unless ``whole``."""

    def indexes(self, registry: str, repository: Repository) -> Sequence[RawManifest]:
        """The indexes that any record of a repository holds, each once, with bytes."""

    def manifests(
        self, registry: str, repository: Repository, digests: Collection[Digest]
    ) -> Sequence[RawManifest]:
        """Those of ``digests`` that any record of a repository holds, each once, with bytes."""

    def unfinished(self) -> Sequence[Deletion]:
        """All in state ``removing`` or ``restoring``, oldest first, with bytes."""


class Locks(Protocol):
    """Mutual exclusion over all processes of the service; freed when a process dies."""

    def hold(self, name: str, wait_seconds: float) -> AbstractContextManager[None]:
        """Hold the lock ``name``; raise RepositoryBusy when it stays taken for ``wait_seconds``."""


class Store(Protocol):
    """The service's own state."""

    @property
    def tokens(self) -> Tokens:
        """Bearer tokens."""

    @property
    def audit(self) -> AuditReader:
        """The audit trail."""

    @property
    def deletions(self) -> Deletions:
        """Deletion records."""

    @property
    def locks(self) -> Locks:
        """Locks."""

    def check(self) -> None:
        """Ask the database for something; raise when it does not answer."""


class Clock(Protocol):
    """The time."""

    def now(self) -> datetime:
        """Now, in UTC, aware."""
