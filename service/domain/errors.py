"""Every error of the rules, as a closed tree.

    RegistryAdminError
    ├── InvalidInput            a caller's mistake, nothing was asked of anybody
    │   ├── InvalidName
    │   │   ├── InvalidRepositoryName
    │   │   ├── InvalidTag
    │   │   └── InvalidDigest
    │   └── ValidationFailed
    ├── Unknown                 what was named does not exist
    │   ├── RegistryUnknown  RepositoryUnknown  TagUnknown  ManifestUnknown
    │   ├── BlobUnknown  DeletionUnknown  TokenUnknown  JobUnknown  ScheduleUnknown
    │   └── ContainerUnknown  ImageUnknown
    ├── Forbidden
    │   ├── Unauthenticated
    │   └── InsufficientScope
    ├── Conflict                the state of things forbids it; nothing was changed
    │   ├── DeletionDisabled  RegistryReadOnly
    │   ├── ManifestTagged  ManifestInIndex
    │   ├── TagExists  DigestMismatch  BlobsCollected  NotRestorable
    │   ├── ManifestRefused     the registry would not accept the manifest
    │   ├── RepositoryBusy
    │   ├── JobNotCancellable  JobAlreadyActive  IdempotencyKeyReused
    │   ├── ContainerNameTaken  ContainerStartFailed  ContainerNotRunning
    │   ├── ContainerAmbiguous  ContainerAutoRemove  ContainerIsSelf  ContainerHasDependents
    │   ├── ContainerImageGone  SwarmManaged  WritableLayerChanged  ContainerBusy
    │   └── NotCollectable  DeleteUntaggedUnsafe  CacheShared  GcAlreadyActive
    ├── UpstreamFailed          registry or engine did not do its part
    │   ├── RegistryUnreachable  RegistryTlsUntrusted  RegistryUnauthorized
    │   ├── RegistryTimeout  RegistryAnswerInvalid  RegistryRateLimited
    │   ├── CatalogUnsupported
    │   ├── EngineUnreachable  EngineRefused
    │   └── CacheUnreachable    the Redis in which a registry caches
    ├── StoreUnavailable        the service's own database does not answer
    ├── CollectionFailed        the registry is as it was, but for what was collected
    ├── PushFailed              the registry may have layers of the image, and no tag for it
    ├── RestartFailed           the container was stopped, and does not run as it should
    └── RecreationFailed        the container is as it was, or the detail says otherwise

``str(error)`` is one sentence or two for an operator: what happened, what was left
untouched, what to do. It never holds a credential or an upstream body verbatim.
``members`` are the extra members of the problem document.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar


class RegistryAdminError(Exception):
    """The root. ``code`` is the stable kebab-case name of the fact."""

    code: ClassVar[str] = "internal-error"

    def __init__(self, detail: str, members: Mapping[str, object] | None = None) -> None:
        """Keep the sentence for the operator and the members of the problem."""
        super().__init__(detail)
        self.detail = detail
        self.members: dict[str, object] = dict(members or {})

    @property
    def retry_after(self) -> int | None:
        """Seconds after which trying again makes sense, or None."""
        return None


class InvalidInput(RegistryAdminError):
    """A caller's mistake."""


def shown(text: str, limit: int = 80) -> str:
    """Quote what a caller sent, escaped and cut, for use inside a sentence."""
    cut = text if len(text) <= limit else text[:limit] + "…"
    return cut.encode("unicode_escape").decode("ascii") if not cut.isprintable() else cut


class InvalidName(InvalidInput):
    """A name outside its grammar."""

    rule: ClassVar[str]
    noun: ClassVar[str]

    def __init__(self, text: str) -> None:
        """Keep the text that was refused."""
        super().__init__(f"'{shown(text)}' is not a {self.noun}: {self.rule}.")


class InvalidRepositoryName(InvalidName):
    """Not a repository name of the OCI grammar."""

    code = "invalid-repository-name"
    noun = "repository name"
    rule = (
        "lower case letters and digits, separated within a component by one '.', '_', '__' or "
        "dashes, components joined by '/', at most 255 characters"
    )


class InvalidTag(InvalidName):
    """Not a tag of the OCI grammar."""

    code = "invalid-tag"
    noun = "tag"
    rule = "letters, digits, '_', '.' and '-', not starting with '.' or '-', at most 128 characters"


class InvalidDigest(InvalidName):
    """Not a sha256 digest."""

    code = "invalid-digest"
    noun = "digest"
    rule = "'sha256:' followed by 64 lower case hexadecimal digits"


class ValidationFailed(InvalidInput):
    """Fields that break their rules; ``errors`` as in the contract."""

    code = "validation-failed"

    def __init__(self, errors: Sequence[Mapping[str, str]]) -> None:
        """Keep ``errors``: each has ``detail`` and ``pointer`` (body) or ``parameter``."""
        detail = "; ".join(f"{_place(error)}: {error['detail']}" for error in errors[:3])
        super().__init__(
            f"{detail} Nothing was changed.", {"errors": [dict(error) for error in errors]}
        )


def _place(error: Mapping[str, str]) -> str:
    return shown(error.get("parameter") or error.get("pointer") or "body")


class Unknown(RegistryAdminError):
    """What was named does not exist, or not for this caller."""


class RegistryUnknown(Unknown):
    """No registry of that name is configured."""

    code = "registry-unknown"


class RepositoryUnknown(Unknown):
    """The registry has no such repository."""

    code = "repository-unknown"


class TagUnknown(Unknown):
    """The repository has no such tag."""

    code = "tag-unknown"


class ManifestUnknown(Unknown):
    """The repository has no such manifest. For a listed tag: it is dangling."""

    code = "manifest-unknown"


class BlobUnknown(Unknown):
    """The repository has no such blob."""

    code = "blob-unknown"


class DeletionUnknown(Unknown):
    """No deletion has that id."""

    code = "deletion-unknown"


class TokenUnknown(Unknown):
    """No token has that id."""

    code = "token-unknown"


class JobUnknown(Unknown):
    """No job has that id."""

    code = "job-unknown"


class ScheduleUnknown(Unknown):
    """No schedule is set for the registry."""

    code = "schedule-unknown"


class ContainerUnknown(Unknown):
    """The engine has no such container, or none that the configuration allows."""

    code = "container-unknown"


class ImageUnknown(Unknown):
    """The engine has no such image."""

    code = "image-unknown"


class Forbidden(RegistryAdminError):
    """The caller may not."""


class Unauthenticated(Forbidden):
    """No token, or one that is unknown, expired or revoked."""

    code = "unauthenticated"


class InsufficientScope(Forbidden):
    """The token lacks a scope, or is limited to other registries or repositories."""

    code = "insufficient-scope"


class Conflict(RegistryAdminError):
    """The state of things forbids it; nothing was changed."""


class DeletionDisabled(Conflict):
    """The registry runs with deletion off."""

    code = "deletion-disabled"


class RegistryReadOnly(Conflict):
    """The registry runs read-only."""

    code = "registry-read-only"


class ManifestTagged(Conflict):
    """The manifest has tags that were not named; member ``tags``."""

    code = "manifest-tagged"


class ManifestInIndex(Conflict):
    """The manifest is a child of a tagged index; member ``parents``."""

    code = "manifest-in-index"


class TagExists(Conflict):
    """The tag is in use with another digest; member ``tags``."""

    code = "tag-exists"


class DigestMismatch(Conflict):
    """The tag is not, or no longer, on the digest the caller named; member ``current``."""

    code = "digest-mismatch"


class BlobsCollected(Conflict):
    """Garbage collection has taken blobs; member ``blobs``."""

    code = "blobs-collected"


class NotRestorable(Conflict):
    """The deletion left nothing to put back, or has not ended yet."""

    code = "not-restorable"


class ManifestRefused(Conflict):
    """The registry would not accept a manifest that was put to it."""

    code = "manifest-refused"


class RepositoryBusy(Conflict):
    """Another change of the same repository is under way."""

    code = "repository-busy"

    @property
    def retry_after(self) -> int | None:
        """A deletion takes seconds, so trying again soon makes sense."""
        return 5


class JobNotCancellable(Conflict):
    """The job has ended, or is past its point of no return."""

    code = "job-not-cancellable"


class JobAlreadyActive(Conflict):
    """Another job has the same exclusive purpose; member ``job``."""

    code = "job-already-active"


class IdempotencyKeyReused(InvalidInput):
    """The same idempotency key came with another request."""

    code = "idempotency-key-reused"


class ContainerNameTaken(Conflict):
    """Another container has that name."""

    code = "container-name-taken"


class ContainerNotRunning(Conflict):
    """The container is stopped, paused, or restarting just now."""

    code = "container-not-running"


class ContainerStartFailed(Conflict):
    """The engine could not start the container; the detail has its reason."""

    code = "container-start-failed"


class ContainerAmbiguous(Conflict):
    """Several engines have a container of that name; member ``names`` has one for each."""

    code = "container-ambiguous"


class ContainerAutoRemove(Conflict):
    """The container was started with ``--rm``: it vanishes when it stops."""

    code = "container-auto-remove"


class ContainerIsSelf(Conflict):
    """The service itself runs in the container."""

    code = "container-is-self"


class ContainerHasDependents(Conflict):
    """Others use its network, processes or volumes by its id; member ``dependents``."""

    code = "container-has-dependents"


class ContainerImageGone(Conflict):
    """The container's image is no longer on the engine."""

    code = "container-image-gone"


class SwarmManaged(Conflict):
    """The container is a task of a swarm service, which would replace it."""

    code = "swarm-managed"


class WritableLayerChanged(Conflict):
    """What the container wrote into its own layer would be lost; member ``paths``."""

    code = "writable-layer-changed"


class ContainerBusy(Conflict):
    """A job works on the container just now."""

    code = "container-busy"

    @property
    def retry_after(self) -> int | None:
        """Restarts and recreations take seconds."""
        return 5


class NotCollectable(Conflict):
    """The registry's container cannot be collected, or not in that mode."""

    code = "registry-not-collectable"


class DeleteUntaggedUnsafe(Conflict):
    """The registry's version removes the children of tagged indexes; member ``repositories``."""

    code = "delete-untagged-unsafe"


class CacheShared(Conflict):
    """The registry caches what it knows of blobs in Redis, and we are not told where."""

    code = "registry-cache-shared"


class GcAlreadyActive(Conflict):
    """A collection of the registry is queued or runs; member ``job``."""

    code = "gc-already-active"

    @property
    def retry_after(self) -> int | None:
        """A collection takes from seconds to hours; half a minute is a polite guess."""
        return 30


class UpstreamFailed(RegistryAdminError):
    """The registry or the engine did not do its part."""


class RegistryUnreachable(UpstreamFailed):
    """No connection, or it broke."""

    code = "registry-unreachable"


class RegistryTlsUntrusted(UpstreamFailed):
    """Its certificate is not trusted; the detail says which file to add, and where."""

    code = "registry-tls-untrusted"


class RegistryUnauthorized(UpstreamFailed):
    """The registry refuses the credentials the service has for it."""

    code = "registry-unauthorized"


class RegistryTimeout(UpstreamFailed):
    """The registry did not answer, or not to the end, in time."""

    code = "registry-timeout"


class RegistryAnswerInvalid(UpstreamFailed):
    """The registry's answer makes no sense, or is larger than allowed."""

    code = "registry-answer-invalid"


class RegistryRateLimited(UpstreamFailed):
    """The registry answered 429 to the last try."""

    code = "registry-rate-limited"


class CatalogUnsupported(UpstreamFailed):
    """The registry offers no catalog, or not to us."""

    code = "catalog-unsupported"


class EngineUnreachable(UpstreamFailed):
    """The engine's socket is absent or refused."""

    code = "engine-unreachable"


class EngineRefused(UpstreamFailed):
    """The engine answered with an error of its own; the detail has its reason."""

    code = "engine-refused"


class CacheUnreachable(UpstreamFailed):
    """The Redis in which the registry caches what it knows of blobs does not do its part."""

    code = "registry-cache-unreachable"


class StoreUnavailable(RegistryAdminError):
    """The service's own database does not answer."""

    code = "store-unavailable"

    @property
    def retry_after(self) -> int | None:
        """A database that restarts is back within seconds."""
        return 5


class CollectionFailed(RegistryAdminError):
    """A collection did not come to its end; the detail says how the registry was left."""

    code = "collection-failed"


class PushFailed(RegistryAdminError):
    """An engine did not push an image; the detail has its reason."""

    code = "push-failed"


class RestartFailed(RegistryAdminError):
    """The container was restarted and does not run as it should."""

    code = "restart-failed"


class RecreationFailed(RegistryAdminError):
    """A container could not be recreated; the old one is back, or the detail says otherwise."""

    code = "recreation-failed"


class JobDied(RegistryAdminError):
    """The worker died in the middle of the job, too often to try again."""

    code = "job-died"


class InternalError(RegistryAdminError):
    """The service made a mistake; its log has the request's id and the cause."""

    code = "internal-error"
