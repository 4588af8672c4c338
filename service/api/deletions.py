"""Deletions: the records, and putting back what they hold."""

from __future__ import annotations

from marshmallow import fields as ma_fields

from service.api import audit_events, auth, context, exclusion
from service.api.base import Answer, Blueprint, Schema
from service.api.fields import (
    ID,
    ID_EXAMPLE,
    Switch,
    about,
    digest,
    listing,
    moment,
    number,
    text,
    truth,
    whole,
)
from service.api.openapi import UPSTREAM, Operation
from service.api.paging import Found, IdPageOptions, Options, page_of, visible_page
from service.domain import errors
from service.domain.audit import Change
from service.domain.deletion_record import Deletion, described, laid_out
from service.domain.ports import Registry
from service.domain.restoration import Restoration, Restorer

READ = "registry:read"
RESTORE = "registry:write"
DELETIONS = "/v1/registries/<registry>/deletions"
ONE = DELETIONS + "/<deletion_id>"
OCI = "application/vnd.oci.image.manifest.v1+json"

REMOVING: tuple[type[errors.RegistryAdminError], ...] = (
    errors.RepositoryUnknown,
    errors.DeletionDisabled,
    errors.RegistryReadOnly,
    errors.ManifestRefused,
    errors.RepositoryBusy,
    errors.GcAlreadyActive,
)
"""What both ways of removing can answer."""

blueprint = Blueprint("deletions", "Records of what was removed, and restoring it.")


class RemovedManifestSchema(Answer):
    """A manifest that was removed, or put back."""

    digest = digest("Its digest.")
    media_type = text("Its media type.", OCI)
    size = number("Bytes of the manifest itself.", 1024)


class KeptManifestSchema(Answer):
    """A manifest that stays."""

    digest = digest("Its digest.")
    reason = text("Why it stays.", "tagged: 3.20-slim")


class DeletionSchema(Answer):
    """A deletion: what was asked for, what went and what stayed."""

    id = text("Its id; null for a dry run.", ID_EXAMPLE, nullable=True, pattern=whole(ID))
    registry = text("The registry.", "default")
    repository = text("The repository.", "library/alpine")
    requested = ma_fields.Dict(
        metadata=about(
            "What was named: a tag or a digest.",
            example={"tag": "3.20"},
            properties={"tag": {"type": "string"}, "digest": {"type": "string"}},
            minProperties=1,
            maxProperties=1,
        )
    )
    digest = digest("The manifest it was about; null for a dangling tag.", nullable=True)
    tags_removed = listing(text("A tag.", "3.20"), "The one asked for comes first.")
    manifests_removed = listing(RemovedManifestSchema, "In order of removal.")
    manifests_kept = listing(KeptManifestSchema, "Those one might expect to go.")
    requested_by = text("Who asked for it.", "release-cleanup")
    created_at = moment("When.")
    dry_run = truth("True when nothing was changed.", example=False)
    restorable = truth("Whether it can be put back, as far as is known.", example=True)


class RestorationSchema(DeletionSchema):
    """The deletion, and what of it was put back, or with a dry run would be."""

    deletion = text("The deletion's id.", ID_EXAMPLE, pattern=whole(ID))
    tags_restored = listing(text("A tag.", "3.20"), "Tags that are on their digest again.")
    manifests_restored = listing(RemovedManifestSchema, "Children before their index.")
    dry_run = truth("True when nothing was changed.", example=False)


class RestoreOptions(Schema):
    """How to restore."""

    force = Switch(
        load_default=False,
        metadata=about("Move tags back that are in use with another digest.", example=False),
    )
    dry_run = Switch(
        load_default=False, metadata=about("Only tell what would happen.", example=False)
    )


def dump_deletion(deletion: Deletion) -> dict[str, object]:
    """Lay a record out as DeletionSchema has it."""
    return {**laid_out(deletion), "created_at": deletion.created_at}


def _dump_restoration(found: Restoration) -> dict[str, object]:
    return {
        **dump_deletion(found.deletion),
        "deletion": found.deletion.id,
        "tags_restored": found.tags,
        "manifests_restored": [described(raw) for raw in found.manifests],
        "dry_run": found.dry_run,
    }


def _find(registry: Registry, deletion_id: str, scope: str) -> Deletion:
    """Get a record; raise DeletionUnknown, or InsufficientScope by the token's limits."""
    deletion = context.services().store.deletions.get(registry.name, deletion_id)
    auth.caller().require_within_limits(scope, registry.name, deletion.repository)
    return deletion


@blueprint.read(
    DELETIONS,
    Operation(
        "listDeletions",
        READ,
        page_of(DeletionSchema, "DeletionPage"),
        says="Deletions, newest first.",
        headers=("Link",),
    ),
    IdPageOptions,
)
def list_deletions(options: Options, registry: Registry) -> Found:
    """List deletions.

    Those of repositories that the token is not for are left out.
    """
    deletions, sees = context.services().store.deletions, auth.caller().sees_repository
    found, headers = visible_page(
        lambda n, last: deletions.page(registry.name, n, last),
        options,
        key=lambda deletion: deletion.id,
        visible=lambda deletion: sees(deletion.repository),
    )
    return {**found, "items": [dump_deletion(one) for one in found["items"]]}, headers


@blueprint.read(
    ONE,
    Operation(
        "getDeletion",
        READ,
        DeletionSchema,
        says="The deletion.",
        problems=(errors.DeletionUnknown,),
    ),
)
def get_deletion(registry: Registry, deletion_id: str) -> dict[str, object]:
    """Get a deletion."""
    return dump_deletion(_find(registry, deletion_id, READ))


@blueprint.change(
    ONE + "/restore",
    Operation(
        "restoreDeletion",
        RESTORE,
        RestorationSchema,
        method="POST",
        says="What was put back.",
        problems=(
            *UPSTREAM,
            errors.DeletionUnknown,
            errors.TagExists,
            errors.NotRestorable,
            errors.BlobsCollected,
            errors.RegistryReadOnly,
            errors.ManifestRefused,
            errors.RepositoryBusy,
            errors.GcAlreadyActive,
        ),
    ),
    action=audit_events.RESTORE,
    options=RestoreOptions,
)
def restore_deletion(
    change: Change, options: Options, registry: Registry, deletion_id: str
) -> dict[str, object]:
    """Put manifests and tags back as they were.

    All of it or nothing. Done twice it does nothing more.
    """
    found = _find(registry, deletion_id, RESTORE)
    change.details["repository"] = str(found.repository)
    exclusion.require_no_collection(registry)
    restorer = Restorer(registry, context.services().store)
    restoration = restorer.restore(
        change, deletion_id, force=options["force"], dry_run=options["dry_run"]
    )
    return _dump_restoration(restoration)
