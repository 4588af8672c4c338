"""Removing many tags and manifests by one job."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

from marshmallow import ValidationError, validates_schema
from marshmallow import fields as ma_fields
from marshmallow.validate import Length

from service.api import auth, exclusion
from service.api.base import Blueprint, Schema
from service.api.deletions import DELETIONS
from service.api.fields import DIGEST, DIGEST_EXAMPLE, REPOSITORY, TAG, Name, Switch, about
from service.api.job_answers import START_PROBLEMS, STARTS, JobSchema, answer_job, start_job
from service.api.openapi import Operation
from service.api.paging import Options
from service.domain.audit import Change
from service.domain.errors import GcAlreadyActive, InvalidName
from service.domain.ports import Registry
from service.domain.reference import REPOSITORY_LIMIT, Digest, Repository, Tag
from service.jobs.collecting import exclusive
from service.jobs.deleting import BULK_DELETION

ITEMS_LIMIT = 10_000
BODY_LIMIT = 8 * 1024 * 1024
"""Bytes: room for as many items with the longest names there are, and for spaces between."""

blueprint = Blueprint("bulk-deletions", "Removing many tags and manifests at once.")


def _among_many(parse: Callable[[str], str]) -> Callable[[str], str]:
    """Have a malformed name told by its place: a code of its own would not say which one it is."""

    def parsed(text: str) -> str:
        try:
            return parse(text)
        except InvalidName as error:
            raise ValidationError(str(error)) from error

    return parsed


class ItemSchema(Schema):
    """Something to remove: a tag, or a manifest by its digest."""

    json_schema: ClassVar = {"oneOf": [{"required": ["tag"]}, {"required": ["digest"]}]}
    shown = ("repository", "tag")

    repository = Name(
        _among_many(Repository.parse),
        REPOSITORY,
        required=True,
        metadata=about("The repository.", example="library/alpine", maxLength=REPOSITORY_LIMIT),
    )
    tag = Name(_among_many(Tag.parse), TAG, metadata=about("The tag.", example="3.20"))
    digest = Name(
        _among_many(Digest.parse),
        DIGEST,
        metadata=about("The manifest's digest.", example=DIGEST_EXAMPLE),
    )

    @validates_schema(skip_on_field_errors=True)
    def require_one(self, data: dict[str, Any], **_: object) -> None:
        """Refuse none of them, and both."""
        if ("tag" in data) == ("digest" in data):
            raise ValidationError("Give either tag or digest.")


class BulkOptions(Schema):
    """What to remove."""

    items = ma_fields.List(
        ma_fields.Nested(ItemSchema),
        required=True,
        validate=Length(1, ITEMS_LIMIT),
        metadata={"description": "Tags and manifests, each removed as by a request of its own."},
    )
    cascade = Switch(
        load_default=True,
        metadata=about("Remove children and referrers that only they used, too.", example=True),
    )
    dry_run = Switch(
        load_default=False, metadata=about("Only tell what would happen.", example=True)
    )


@blueprint.change(
    DELETIONS,
    Operation(
        "createBulkDeletion",
        BULK_DELETION.scope,
        JobSchema,
        method="POST",
        problems=(*START_PROBLEMS, GcAlreadyActive),
        body_limit=BODY_LIMIT,
        **STARTS,
    ),
    action="deletion.bulk-start",
    options=BulkOptions,
)
def start_bulk_deletion(
    change: Change, options: Options, registry: Registry
) -> tuple[dict[str, Any], int, dict[str, str]]:
    """Remove many tags and manifests.

    At most 10,000, in a body of less than 8 MiB (of other operations: 1 MiB). The result holds one
    deletion or problem an item; one failure does not stop the rest.
    """
    items: list[Mapping[str, str]] = options["items"]
    for repository in {item["repository"] for item in items}:
        auth.caller().require_within_limits(BULK_DELETION.scope, registry.name, repository)
    change.details["items"] = len(items)
    params = {key: options[key] for key in ("items", "cascade", "dry_run")}
    job = start_job(
        change,
        BULK_DELETION.name,
        params,
        lambda: exclusion.require_no_collection(registry),
        registry=registry.name,
        exclusive=exclusive(registry.name),
    )
    return answer_job(job)
