"""Images on an engine: pushing them to a registry, and how they are made."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from marshmallow import fields as ma_fields

from service.api import auth, context, exclusion
from service.api.base import Answer, Blueprint, Schema
from service.api.containers import ENGINE, READ, beyond_limits, is_limited, visible
from service.api.fields import (
    COMPONENT,
    DIGEST,
    DIGEST_EXAMPLE,
    ID_EXAMPLE,
    REGISTRY,
    REPOSITORY,
    TAG,
    Name,
    Text,
    about,
    listing,
    number,
    text,
    truth,
)
from service.api.job_answers import (
    START_PROBLEMS,
    STARTS,
    Answered,
    JobSchema,
    answer_job,
    start_job,
)
from service.api.openapi import Operation
from service.api.paging import Options
from service.domain import errors
from service.domain.anatomy import anatomy
from service.domain.audit import Change
from service.domain.pushing import require_named
from service.domain.reference import REPOSITORY_LIMIT, Repository, Tag
from service.jobs.collecting import exclusive
from service.jobs.pushing import IMAGE_PUSH

IMAGES = "/v1/images"
DOMAIN = r"[A-Za-z0-9][A-Za-z0-9.-]{0,252}(?::[0-9]{1,5})?"
IMAGE = rf"(?:{DOMAIN}/)?{COMPONENT}(?:/{COMPONENT})*(?::{TAG})?(?:@{DIGEST})?"
IMAGE_LIMIT = 640

blueprint = Blueprint("images", "Images on an engine: pushing them, and how they are made.")


class PushOptions(Schema):
    """What to push where."""

    source = Text(
        IMAGE,
        "an image's name on the engine, such as app:latest",
        required=True,
        metadata=about("The image's name.", example="team/app:1.2", maxLength=IMAGE_LIMIT),
    )
    registry = Text(
        REGISTRY,
        "a registry's configured name",
        required=True,
        metadata=about("The registry's configured name.", example="default"),
    )
    repository = Name(
        Repository.parse,
        REPOSITORY,
        required=True,
        metadata=about("The repository.", example="team/app", maxLength=REPOSITORY_LIMIT),
    )
    tag = Name(Tag.parse, TAG, required=True, metadata=about("The tag.", example="1.2"))


class ImageLayerSchema(Answer):
    """A step that an image was made by."""

    digest = text(
        "Its layer's digest, unpacked; null without a layer.", DIGEST_EXAMPLE, nullable=True
    )
    size = number("Bytes of the layer, unpacked.", 3408729)
    created_by = text("The command that made it.", "COPY app /app", nullable=True)
    empty = truth("True for a step that made no layer.", example=False)


class ImageUserSchema(Answer):
    """A container on an image."""

    name = text("Its name.", "web-1")
    id = text("Its id.", ID_EXAMPLE * 2)
    writable_layer_size = number(
        "Bytes of its own; null where the engine does not tell.", 4096, nullable=True
    )


class AnatomySchema(Answer):
    """How an image is made: what containers on it share, and what is their own."""

    id = text("Its id.", DIGEST_EXAMPLE)
    engine = text("The engine it is on.", "local")
    names = ma_fields.List(
        ma_fields.String(), metadata=about("Its names there.", example=["app:latest"])
    )
    size = number("Bytes of all its layers, shared by the containers on it.", 3408729)
    layers = listing(ImageLayerSchema, "Its steps, the first one first.")
    containers = listing(ImageUserSchema, "The containers on it that the caller may see, by name.")


@blueprint.change(
    IMAGES + "/push",
    Operation(
        "createImagePush",
        IMAGE_PUSH.scope,
        JobSchema,
        method="POST",
        problems=(
            *START_PROBLEMS,
            *ENGINE,
            errors.ImageUnknown,
            errors.RegistryUnknown,
            errors.InvalidRepositoryName,
            errors.InvalidTag,
            errors.GcAlreadyActive,
        ),
        **STARTS,
    ),
    action="image.push-start",
    options=PushOptions,
)
def start_push(change: Change, options: Options) -> Answered:
    """Push an image from the registry's engine to the registry.

    What `docker tag` and `docker push` do, with the service's credentials for the registry; the
    engine must reach it by the host and port of its URL. The extra name on the engine is removed
    afterwards; one that was there before is left, or put back where it was. Whatever image the
    engine has may be pushed, also by a token whose limits are where it may be pushed to.
    """
    source, repository, tag = options["source"], options["repository"], options["tag"]
    change.details.update(options)
    auth.caller().require_within_limits(IMAGE_PUSH.scope, options["registry"], repository)
    registries = context.services().registries
    registry = registries.get(options["registry"])

    def require() -> None:
        exclusion.require_no_collection(registry)
        require_named(registries.engine(registry.name).image(source), source)

    job = start_job(
        change,
        IMAGE_PUSH.name,
        {"source": source, "repository": repository, "tag": tag},
        require,
        registry=registry.name,
        exclusive=exclusive(registry.name),
    )
    return answer_job(job)


@blueprint.read(
    IMAGES + "/<anything:image>/anatomy",
    Operation("getImageAnatomy", READ, AnatomySchema, problems=(*ENGINE, errors.ImageUnknown)),
)
def get_anatomy(image: str) -> dict[str, Any]:
    """Tell how an image is made, and what containers on it have of their own.

    The first engine that has an image of that name, by the engines' names. A token that is limited
    sees the images of the containers that it sees.
    """
    try:
        found = _anatomy(image)
    except errors.ImageUnknown as error:
        if not is_limited():
            raise
        raise beyond_limits(f"image '{errors.shown(image)}'", READ) from error
    if is_limited() and not found["containers"]:
        raise beyond_limits(f"image '{errors.shown(image)}'", READ)
    return found


def _anatomy(image: str) -> dict[str, Any]:
    *others, last = context.services().engines
    for engine in others:
        with suppress(errors.ImageUnknown):
            return anatomy(engine, image, visible(engine))
    return anatomy(last, image, visible(last))
