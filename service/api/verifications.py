"""Checking that what a registry lists is there."""

from __future__ import annotations

from typing import Any

from service.api import exclusion
from service.api.base import Blueprint, Schema
from service.api.fields import Switch, about
from service.api.job_answers import START_PROBLEMS, STARTS, JobSchema, answer_job, start_job
from service.api.openapi import Operation
from service.api.paging import Options
from service.domain.audit import Change
from service.domain.ports import Registry
from service.jobs.verifying import VERIFICATION

blueprint = Blueprint("verifications", "Checking that what a registry lists is there.")


class VerificationOptions(Schema):
    """How closely to look."""

    deep = Switch(
        load_default=False,
        metadata=about("Read every blob to its end and check its digest.", example=True),
    )


@blueprint.change(
    "/v1/registries/<registry>/verifications",
    Operation(
        "createVerification",
        VERIFICATION.scope,
        JobSchema,
        method="POST",
        problems=START_PROBLEMS,
        **STARTS,
    ),
    action="verification.start",
    options=VerificationOptions,
)
def start_verification(
    change: Change, options: Options, registry: Registry
) -> tuple[dict[str, Any], int, dict[str, str]]:
    """Check that every tag resolves and that the blobs of every manifest are there.

    The result lists dangling tags, missing and corrupt blobs, with the tags they hurt.
    """
    exclusion.require_whole(registry, VERIFICATION.scope)
    params = {"deep": options["deep"]}
    return answer_job(start_job(change, VERIFICATION.name, params, registry=registry.name))
