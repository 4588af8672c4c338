"""Whether processes that crash in a container leave a core, and those that are there."""

from __future__ import annotations

from marshmallow import fields as ma_fields

from service.api.base import Answer, Blueprint
from service.api.containers import NAMED, ONE, READ, find
from service.api.fields import about, listing, moment, number, text, truth
from service.api.openapi import Operation
from service.domain import errors
from service.domain.coredump_facts import CoreDumps, core_dumps

blueprint = Blueprint("core-dumps", "Whether a crash leaves a core, and where.")


class CoreCheckSchema(Answer):
    """Something that has to be so for a core to be written."""

    name = text("What was looked at.", "core-limit")
    passed = ma_fields.Boolean(
        allow_none=True,
        metadata=about(
            "Whether it is so; null where it cannot be told, or was not looked at.", example=False
        ),
    )
    detail = text(
        "What was found.", "The soft limit of the size of cores is 0: so none is written."
    )
    fix = text(
        "What to type on the host, or which call to make.",
        'PUT /v1/containers/web/ulimits {"ulimits": [{"name": "core", "soft": -1, "hard": -1}]}',
        nullable=True,
    )


class CoreFileSchema(Answer):
    """A core."""

    path = text("Where it is in the container.", "/tmp/core.web.17")  # noqa: S108 - an example
    size = number("Bytes.", 8388608)
    modified_at = moment("When it was written.")


class CoreDumpsSchema(Answer):
    """Whether a crash leaves a core."""

    ready = truth("Whether it does. What cannot be told counts as no.", example=False)
    core_pattern = text(
        "The kernel's, which is the host's; null where it cannot be seen.", "core", nullable=True
    )
    soft_limit = ma_fields.Integer(
        allow_none=True,
        metadata=about(
            "Most bytes of a core; -1 is unlimited, null where it cannot be seen.",
            example=0,
            minimum=-1,
        ),
    )
    hard_limit = ma_fields.Integer(
        allow_none=True,
        metadata=about("What a process may raise that to.", example=-1, minimum=-1),
    )
    checks = listing(CoreCheckSchema, "In the order to look at.")
    files = listing(
        CoreFileSchema,
        "Files there that the pattern may have named, 1000 at most; null where the place cannot "
        "be seen into.",
        nullable=True,
    )


@blueprint.read(
    ONE + "/core-dumps",
    Operation(
        "getCoreDumps",
        READ,
        CoreDumpsSchema,
        problems=(*NAMED, errors.ContainerNotRunning),
    ),
)
def get_core_dumps(container: str) -> CoreDumps:
    """Find out whether a process that crashes in a container leaves a core, and where.

    It is about the container's first process, and what runs as the same user in the same place.
    Nothing is changed, least of all the host's `core_pattern`.
    """
    return core_dumps(find(container, READ))
