"""Tags of a repository."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from flask import Response
from marshmallow import ValidationError, validates_schema
from marshmallow import fields as ma_fields

from service.api import auth, context, exclusion
from service.api.base import Answer, Blueprint, Schema
from service.api.deletions import REMOVING, DeletionSchema, dump_deletion
from service.api.fields import (
    DIGEST,
    DIGEST_EXAMPLE,
    TAG,
    TIME_EXAMPLE,
    Flag,
    Name,
    Switch,
    about,
    digest,
    listing,
    number,
    text,
    truth,
)
from service.api.openapi import UPSTREAM, Operation
from service.api.paging import Found, Options, Page, PageOptions, page
from service.api.platforms import PlatformSchema, dump_platform
from service.api.preconditions import etag, expected, unchanged
from service.api.repositories import READ, REPOSITORY
from service.domain import errors
from service.domain.audit import Change
from service.domain.deletion import RemoveTag
from service.domain.ports import Registry
from service.domain.reading import TagDetail
from service.domain.reference import Digest, Repository, Tag
from service.domain.removal import Remover
from service.domain.tagging import Pointed, PointTag, point

TAGS = REPOSITORY + "/-/tags"
ONE = TAGS + "/<anything:tag>"
OCI = "application/vnd.oci.image.index.v1+json"

blueprint = Blueprint("tags", "Tags: seeing them, moving them, removing them one by one.")


class TagNameSchema(Answer):
    """A tag, by name alone."""

    name = text("The tag.", "3.20")


class TagSchema(Answer):
    """A tag; what is not known of a dangling one is null."""

    name = text("The tag.", "3.20")
    digest = digest("The digest it points at.", nullable=True)
    media_type = text("The manifest's media type.", OCI, nullable=True)
    kind = text("What it is.", "index", nullable=True, enum=["image", "index", "artifact", None])
    size = number(
        "Bytes of all of it: manifest, config and layers, each blob once; an index adds its own "
        "to those of its children.",
        3408729,
        nullable=True,
    )
    created = text("When it was made.", TIME_EXAMPLE, nullable=True, format="date-time")
    platforms = listing(PlatformSchema, "What it runs on.")
    dangling = truth("True where the tag is listed, but its manifest is gone.", example=False)
    problem = text(
        "Why nothing is known of it, where it is damaged in the registry's storage.",
        None,
        nullable=True,
    )


def dump_tag(detail: TagDetail) -> dict[str, object]:
    """Do what TagSchema does, a good deal faster: lists are a thousand of these."""
    return {
        "name": detail.name,
        "digest": detail.digest,
        "media_type": detail.media_type,
        "kind": detail.kind,
        "size": detail.size,
        "created": detail.created,
        "platforms": [dump_platform(platform) for platform in detail.platforms],
        "dangling": detail.dangling,
        "problem": detail.problem,
    }


class TagPage(Page):
    """A page of tags: by name, or with `detail=true` each in full."""

    items = ma_fields.List(
        ma_fields.Raw(
            metadata={
                "anyOf": [
                    {"$ref": "#/components/schemas/Tag"},
                    {"$ref": "#/components/schemas/TagName"},
                ],
                "examples": [{"name": "3.20"}],
            }
        ),
        metadata={"description": "Sorted by name."},
    )


class TagsOptions(PageOptions):
    """Which tags, and how much of them."""

    detail = Flag(load_default=False, metadata=about("Each tag in full.", example=True))


class PointedSchema(TagSchema):
    """A tag that was pointed at a manifest."""

    previous_digest = digest("Where it pointed before; null when it is new.", nullable=True)
    dry_run = truth("True when nothing was changed.", example=False)


class PointOptions(Schema):
    """Where a tag is to point: at a digest, or where another tag of the repository points."""

    json_schema: ClassVar = {"oneOf": [{"required": ["digest"]}, {"required": ["tag"]}]}
    shown = ("tag", "dry_run")

    digest = Name(
        Digest.parse, DIGEST, metadata=about("The manifest's digest.", example=DIGEST_EXAMPLE)
    )
    tag = Name(Tag.parse, TAG, metadata=about("A tag of the same repository.", example="3.20.1"))
    dry_run = Switch(
        load_default=False, metadata=about("Only tell what would happen.", example=False)
    )

    @validates_schema(skip_on_field_errors=True)
    def require_one(self, data: dict[str, Any], **_: object) -> None:
        """Refuse none of them, and both."""
        if ("digest" in data) == ("tag" in data):
            raise ValidationError("Give either digest or tag.")


class RemoveTagOptions(Schema):
    """What goes with a tag."""

    keep_manifest = Flag(
        load_default=False,
        metadata=about("Keep the manifest although this was its last tag.", example=False),
    )
    cascade = Flag(
        load_default=True,
        metadata=about("Remove children and referrers that only it used, too.", example=True),
    )
    dry_run = Flag(load_default=False, metadata=about("Only tell what would happen.", example=True))


@blueprint.read(
    TAGS,
    Operation(
        "listTags",
        READ,
        TagPage,
        says="Tags, sorted by name.",
        problems=(*UPSTREAM, errors.RepositoryUnknown),
        headers=("Link",),
    ),
    TagsOptions,
)
def list_tags(options: Options, registry: Registry, repository: Repository) -> Found:
    """List tags."""
    reader = context.reader(registry)

    def names(n: int, last: str | None) -> Sequence[dict[str, Any]]:
        return [{"name": name} for name in reader.tag_names(repository, n, last)]

    def details(n: int, last: str | None) -> Sequence[dict[str, Any]]:
        return [dump_tag(detail) for detail in reader.tag_details(repository, n, last)]

    return page(details if options["detail"] else names, options, key=lambda tag: str(tag["name"]))


@blueprint.read(
    ONE,
    Operation(
        "getTag",
        READ,
        TagSchema,
        says="The tag.",
        problems=(*UPSTREAM, errors.RepositoryUnknown, errors.TagUnknown),
        headers=("ETag",),
        parameters=("If-None-Match",),
    ),
)
def get_tag(
    registry: Registry, repository: Repository, tag: Tag
) -> Response | tuple[TagDetail, dict[str, str]]:
    """Get a tag."""
    detail = context.reader(registry).tag(repository, tag)
    headers = etag(detail.digest)
    return unchanged(detail.digest, headers) or (detail, headers)


@blueprint.change(
    ONE,
    Operation(
        "putTag",
        "registry:write",
        PointedSchema,
        method="PUT",
        says="The tag was there and has been moved.",
        also={201: "The tag is new."},
        problems=(
            *UPSTREAM,
            errors.RepositoryUnknown,
            errors.TagUnknown,
            errors.ManifestUnknown,
            errors.InvalidDigest,
            errors.DigestMismatch,
            errors.RegistryReadOnly,
            errors.ManifestRefused,
            errors.RepositoryBusy,
            errors.GcAlreadyActive,
        ),
        headers=("ETag",),
        parameters=("If-Match",),
    ),
    action="tag.put",
    options=PointOptions,
)
def put_tag(
    change: Change, options: Options, registry: Registry, repository: Repository, tag: Tag
) -> tuple[dict[str, object], int, dict[str, str]]:
    """Point a tag at a manifest of its repository.

    Nothing is pulled or pushed but the manifest itself.
    """
    exclusion.require_no_collection(registry)
    source = options.get("digest") or options["tag"]
    condition = expected(lambda: registry.resolve(repository, tag))
    wanted = PointTag(repository, tag, source, condition)
    locks, dry_run = context.services().store.locks, options["dry_run"]
    pointed = point(registry, locks, change, wanted, dry_run=dry_run)
    status = 201 if pointed.created else 200
    return _dump_pointed(pointed), status, etag(pointed.detail.digest)


def _dump_pointed(pointed: Pointed) -> dict[str, object]:
    more = {"previous_digest": pointed.previous_digest, "dry_run": pointed.dry_run}
    return {**dump_tag(pointed.detail), **more}


@blueprint.change(
    ONE,
    Operation(
        "deleteTag",
        "registry:delete",
        DeletionSchema,
        method="DELETE",
        says="What was removed.",
        problems=(
            *UPSTREAM,
            *REMOVING,
            errors.TagUnknown,
            errors.DigestMismatch,
        ),
        parameters=("If-Match",),
    ),
    action="tag.delete",
    options=RemoveTagOptions,
)
def delete_tag(
    change: Change, options: Options, registry: Registry, repository: Repository, tag: Tag
) -> dict[str, object]:
    """Remove a tag and no other.

    Its manifest goes as well when this was its last tag, with what only it used. Every other tag
    still resolves to the digest it had. It can be restored until garbage is collected.
    """
    exclusion.require_no_collection(registry)
    services = context.services()
    condition = expected(lambda: registry.resolve(repository, tag))
    wanted = RemoveTag(repository, tag, options["keep_manifest"], options["cascade"], condition)
    remover = Remover(registry, services.store, services.clock)
    return dump_deletion(
        remover.remove(change, auth.caller().name, wanted, dry_run=options["dry_run"])
    )
