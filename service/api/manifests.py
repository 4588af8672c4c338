"""Manifests of a repository."""

from __future__ import annotations

import re

from flask import Response
from marshmallow import fields as ma_fields

from service.api import auth, context, exclusion
from service.api.base import Answer, Blueprint, Schema
from service.api.deletions import REMOVING, DeletionSchema, dump_deletion
from service.api.fields import (
    TAG,
    TIME_EXAMPLE,
    Flag,
    Names,
    about,
    digest,
    listed_digest,
    listing,
    number,
    text,
    texts,
)
from service.api.openapi import UPSTREAM, Media, Operation
from service.api.paging import Found, Options, PageOptions, page, page_of, sliced
from service.api.platforms import PlatformSchema
from service.api.preconditions import etag, unchanged
from service.api.repositories import READ, REPOSITORY
from service.api.tags import TagNameSchema
from service.domain import content, errors
from service.domain.audit import Change
from service.domain.content import RawManifest
from service.domain.deletion import RemoveManifest
from service.domain.ports import Registry
from service.domain.reading import ManifestDetail, Referrer
from service.domain.reference import Digest, Repository, Tag
from service.domain.removal import Remover

ONE = REPOSITORY + "/-/manifests/<reference>"
BY_DIGEST = REPOSITORY + "/-/manifests/<digest>"
IMAGE = "application/vnd.oci.image.manifest.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"
MEDIA_TYPE = re.compile(r"[A-Za-z0-9!#$&^_.+-]+/[A-Za-z0-9!#$&^_.+-]+")

RAW: dict[str, dict[str, object]] = {
    kind: {"schema": {"type": "object"}} if kind.endswith("+json") else {}
    for kind in content.ACCEPTED
}

UNKNOWN: tuple[type[errors.RegistryAdminError], ...] = (
    errors.RepositoryUnknown,
    errors.ManifestUnknown,
)

blueprint = Blueprint("manifests", "Manifests: what an image is made of, and removing all of it.")


class ConfigSchema(Answer):
    """An image's config: how it was made and how it runs."""

    digest = listed_digest("Its digest.")
    created = text("When it was made.", TIME_EXAMPLE, nullable=True, format="date-time")
    architecture = text("The processor.", "arm64", nullable=True)
    os = text("The operating system.", "linux", nullable=True)
    labels = texts("Labels.")
    entrypoint = listing(
        text("An argument.", "/docker-entrypoint.sh"), "What always runs.", nullable=True
    )
    cmd = listing(
        text("An argument.", "/bin/sh"), "What runs by default, or its arguments.", nullable=True
    )
    env = listing(text("A variable.", "PATH=/usr/bin:/bin"), "Environment variables.")
    user = text("Who it runs as.", "1000", nullable=True)
    working_dir = text("Where it runs.", "/app", nullable=True)
    exposed_ports = listing(text("A port.", "8080/tcp"), "Ports it listens on.")


class LayerSchema(Answer):
    """A layer."""

    digest = listed_digest("Its digest.")
    media_type = text("Its media type.", LAYER)
    size = number("Bytes, compressed; null where schema 1 does not tell.", 3408729, nullable=True)
    created_by = text("The history step that made it.", "COPY app /app # buildkit", nullable=True)


class ChildSchema(Answer):
    """A child of an index."""

    digest = listed_digest("Its digest.")
    platform = ma_fields.Nested(PlatformSchema, allow_none=True)
    size = number("Bytes of all of it.", 3408729)


class ManifestSchema(Answer):
    """A manifest in full."""

    digest = digest("Its digest.")
    media_type = text("Its media type.", IMAGE)
    kind = text("What it is.", "image", enum=["image", "index", "artifact"])
    artifact_type = text("What kind of artifact; null for an image.", None, nullable=True)
    size = number("Bytes of all of it, as a tag's `size`.", 3408729)
    subject = text("Digest of the manifest this one is about.", None, nullable=True)
    annotations = texts("Annotations.")
    platforms = listing(PlatformSchema, "What it runs on.")
    config = ma_fields.Nested(ConfigSchema, allow_none=True)
    layers = listing(LayerSchema, "Lowest first.")
    children = listing(ChildSchema, "As the index lists them.")


class ReferrerSchema(Answer):
    """What refers to a manifest: a signature, an attestation, an SBOM."""

    digest = listed_digest("Its digest.")
    artifact_type = text("What it is.", "application/vnd.dev.cosign.signature", nullable=True)
    media_type = text("Its media type.", IMAGE)
    size = number("Bytes of its manifest.", 1024)
    source = text("How it was found.", "fallback-tag", enum=["api", "fallback-tag", "cosign-tag"])


class RemoveManifestOptions(Schema):
    """What may go with a manifest."""

    tags = Names(Tag.parse, TAG, metadata=about("Its tags, all of them, as you know them."))
    force = Flag(
        load_default=False,
        metadata=about(
            "Whatever tags it has, and although a tagged index lists it.", example=False
        ),
    )
    cascade = Flag(
        load_default=True,
        metadata=about("Remove children and referrers that only it used, too.", example=True),
    )
    dry_run = Flag(load_default=False, metadata=about("Only tell what would happen.", example=True))


@blueprint.read(
    ONE,
    Operation(
        "getManifest",
        READ,
        ManifestSchema,
        says="The manifest.",
        problems=(*UPSTREAM, *UNKNOWN, errors.TagUnknown),
    ),
)
def get_manifest(
    registry: Registry, repository: Repository, reference: Tag | Digest
) -> ManifestDetail:
    """Get a manifest, described with its config."""
    return context.reader(registry).manifest(repository, reference)


@blueprint.read(
    ONE + "/raw",
    Operation(
        "getRawManifest",
        READ,
        Media(RAW),
        says="The exact bytes, in their own media type.",
        problems=(*UPSTREAM, *UNKNOWN, errors.TagUnknown),
        headers=("ETag", "Docker-Content-Digest"),
        parameters=("If-None-Match",),
    ),
)
def get_raw_manifest(
    registry: Registry, repository: Repository, reference: Tag | Digest
) -> Response:
    """Get a manifest's exact bytes."""
    raw = context.reader(registry).raw(repository, reference)
    headers = {**etag(raw.digest), "Docker-Content-Digest": raw.digest}
    return unchanged(raw.digest, headers) or Response(
        raw.body, headers=headers, content_type=_content_type(raw)
    )


def _content_type(raw: RawManifest) -> str:
    # The document names its own type where the registry does not, and could name anything.
    sane = MEDIA_TYPE.fullmatch(raw.media_type)
    return raw.media_type if sane else "application/octet-stream"


@blueprint.read(
    BY_DIGEST + "/tags",
    Operation(
        "listManifestTags",
        READ,
        page_of(TagNameSchema, "TagNamePage"),
        says="The tags on it, sorted.",
        problems=(*UPSTREAM, *UNKNOWN),
        headers=("Link",),
    ),
    PageOptions,
)
def list_manifest_tags(
    options: Options, registry: Registry, repository: Repository, digest: Digest
) -> Found:
    """List every tag that points at a manifest."""
    tags = context.reader(registry).tags_of(repository, digest)
    named = [{"name": str(tag)} for tag in tags]
    return page(sliced(named, lambda tag: tag["name"]), options, key=lambda tag: tag["name"])


@blueprint.read(
    BY_DIGEST + "/referrers",
    Operation(
        "listReferrers",
        READ,
        page_of(ReferrerSchema, "ReferrerPage"),
        says="What refers to it, sorted by digest.",
        problems=(*UPSTREAM, *UNKNOWN),
        headers=("Link",),
    ),
    PageOptions,
)
def list_referrers(
    options: Options, registry: Registry, repository: Repository, digest: Digest
) -> Found:
    """List what refers to a manifest: signatures, attestations, SBOMs."""
    found = context.reader(registry).referrers(repository, digest)
    return page(sliced(sorted(found, key=_referrer_key), _referrer_key), options, _referrer_key)


def _referrer_key(referrer: Referrer) -> str:
    return f"{referrer.digest} {referrer.source}"


@blueprint.change(
    ONE,
    Operation(
        "deleteManifest",
        "registry:delete",
        DeletionSchema,
        method="DELETE",
        says="What was removed.",
        problems=(
            *UPSTREAM,
            *REMOVING,
            errors.ManifestUnknown,
            errors.ManifestTagged,
            errors.ManifestInIndex,
        ),
        by_digest=True,
    ),
    action="manifest.delete",
    options=RemoveManifestOptions,
)
def delete_manifest(
    change: Change, options: Options, registry: Registry, repository: Repository, reference: Digest
) -> dict[str, object]:
    """Remove a manifest and every tag on it.

    One with tags needs their names in `tags`, or `force`; so does a child of a tagged index. It
    can be restored until garbage is collected.
    """
    exclusion.require_no_collection(registry)
    services, force, cascade = context.services(), options["force"], options["cascade"]
    tags = frozenset(options["tags"]) if "tags" in options else None
    wanted = RemoveManifest(repository, reference, tags, force, cascade)
    remover = Remover(registry, services.store, services.clock)
    return dump_deletion(
        remover.remove(change, auth.caller().name, wanted, dry_run=options["dry_run"])
    )
