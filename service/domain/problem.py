"""The only map from errors to problem documents (RFC 9457), for answers and for failed jobs."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any, NamedTuple

from service.domain import errors

PAGES = "/docs/problems/"


class Row(NamedTuple):
    """How an error is told: the HTTP status, and the code in words."""

    status: int
    title: str


TABLE: dict[type[errors.RegistryAdminError], Row] = {
    errors.InvalidRepositoryName: Row(400, "Invalid repository name"),
    errors.InvalidTag: Row(400, "Invalid tag"),
    errors.InvalidDigest: Row(400, "Invalid digest"),
    errors.Unauthenticated: Row(401, "Unauthenticated"),
    errors.InsufficientScope: Row(403, "Insufficient scope"),
    errors.RegistryUnknown: Row(404, "Registry unknown"),
    errors.RepositoryUnknown: Row(404, "Repository unknown"),
    errors.TagUnknown: Row(404, "Tag unknown"),
    errors.ManifestUnknown: Row(404, "Manifest unknown"),
    errors.BlobUnknown: Row(404, "Blob unknown"),
    errors.DeletionUnknown: Row(404, "Deletion unknown"),
    errors.TokenUnknown: Row(404, "Token unknown"),
    errors.JobUnknown: Row(404, "Job unknown"),
    errors.ScheduleUnknown: Row(404, "Schedule unknown"),
    errors.ContainerUnknown: Row(404, "Container unknown"),
    errors.ImageUnknown: Row(404, "Image unknown"),
    errors.DeletionDisabled: Row(409, "Deletion disabled"),
    errors.RegistryReadOnly: Row(409, "Registry read-only"),
    errors.ManifestTagged: Row(409, "Manifest tagged"),
    errors.ManifestInIndex: Row(409, "Manifest in index"),
    errors.TagExists: Row(409, "Tag exists"),
    errors.NotRestorable: Row(409, "Not restorable"),
    errors.ManifestRefused: Row(409, "Manifest refused"),
    errors.RepositoryBusy: Row(409, "Repository busy"),
    errors.JobNotCancellable: Row(409, "Job not cancellable"),
    errors.JobAlreadyActive: Row(409, "Job already active"),
    errors.ContainerNameTaken: Row(409, "Container name taken"),
    errors.ContainerNotRunning: Row(409, "Container not running"),
    errors.ContainerStartFailed: Row(409, "Container start failed"),
    errors.ContainerAmbiguous: Row(409, "Container ambiguous"),
    errors.ContainerAutoRemove: Row(409, "Container auto-remove"),
    errors.ContainerIsSelf: Row(409, "Container is self"),
    errors.ContainerHasDependents: Row(409, "Container has dependents"),
    errors.ContainerImageGone: Row(409, "Container image gone"),
    errors.SwarmManaged: Row(409, "Swarm managed"),
    errors.WritableLayerChanged: Row(409, "Writable layer changed"),
    errors.ContainerBusy: Row(409, "Container busy"),
    errors.NotCollectable: Row(409, "Registry not collectable"),
    errors.DeleteUntaggedUnsafe: Row(409, "Delete untagged unsafe"),
    errors.CacheShared: Row(409, "Registry cache shared"),
    errors.GcAlreadyActive: Row(409, "GC already active"),
    errors.BlobsCollected: Row(410, "Blobs collected"),
    errors.DigestMismatch: Row(412, "Digest mismatch"),
    errors.ValidationFailed: Row(422, "Validation failed"),
    errors.IdempotencyKeyReused: Row(422, "Idempotency key reused"),
    errors.InternalError: Row(500, "Internal error"),
    errors.JobDied: Row(500, "Job died"),
    errors.CollectionFailed: Row(502, "Collection failed"),
    errors.PushFailed: Row(502, "Push failed"),
    errors.RestartFailed: Row(502, "Restart failed"),
    errors.RecreationFailed: Row(502, "Recreation failed"),
    errors.RegistryUnreachable: Row(502, "Registry unreachable"),
    errors.RegistryTlsUntrusted: Row(502, "Registry TLS untrusted"),
    errors.RegistryUnauthorized: Row(502, "Registry unauthorized"),
    errors.RegistryAnswerInvalid: Row(502, "Registry answer invalid"),
    errors.RegistryRateLimited: Row(502, "Registry rate limited"),
    errors.CatalogUnsupported: Row(502, "Catalog unsupported"),
    errors.EngineUnreachable: Row(502, "Engine unreachable"),
    errors.EngineRefused: Row(502, "Engine refused"),
    errors.CacheUnreachable: Row(502, "Registry cache unreachable"),
    errors.StoreUnavailable: Row(503, "Store unavailable"),
    errors.RegistryTimeout: Row(504, "Registry timeout"),
}


def row_of(
    kind: type[errors.RegistryAdminError],
    table: Mapping[type[errors.RegistryAdminError], Row] = TABLE,
) -> Row:
    """Tell how errors of a class are told: by the nearest class in ``table``."""
    for ancestor in inspect.getmro(kind):
        if ancestor in table:
            return table[ancestor]
    return table[errors.InternalError]


def document(
    error: errors.RegistryAdminError, row: Row, instance: str, request_id: str | None
) -> dict[str, Any]:
    """Give the members of a problem document; ``instance`` is the path it came up at."""
    return {
        "type": PAGES + error.code,
        "title": row.title,
        "status": row.status,
        "detail": error.detail,
        "instance": instance,
        "code": error.code,
        "request_id": request_id,
        **error.members,
    }
