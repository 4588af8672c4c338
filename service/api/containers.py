"""The containers that the API may see: how they are, restarting them, their restart policy."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, ClassVar
from urllib.parse import quote

from marshmallow import ValidationError, validates_schema
from marshmallow import fields as ma_fields
from marshmallow.validate import OneOf

from service.api import auth, context, exclusion
from service.api.base import Answer, Blueprint, Schema
from service.api.fields import ID_EXAMPLE, Whole, about, listing, moment, number, text, whole
from service.api.job_answers import (
    START_PROBLEMS,
    STARTS,
    Answered,
    JobSchema,
    answer_job,
    start_job,
)
from service.api.openapi import Operation
from service.api.paging import Found, Options, PageOptions, page, page_of, sliced
from service.domain import errors
from service.domain.audit import Change
from service.domain.concurrency import spread
from service.domain.containers import Allowed, described
from service.domain.engine import Engine, LayerChange, RestartPolicy
from service.domain.job import JobKind
from service.jobs.locks import held, lock_name
from service.jobs.restarting import RESTART, exclusive, reference

READ = "container:read"
WRITE = "container:write"
CONTAINERS = "/v1/containers"
ONE = CONTAINERS + "/<container>"
NAME = r"[A-Za-z0-9][A-Za-z0-9_.-]*"
POLICIES = ("no", "always", "unless-stopped", "on-failure")
RETRIES_LIMIT = 1000
TIMEOUT_LIMIT = 3600
BUSY_SECONDS = 3.0
"""How long a job may be waited for that works on the container."""

PLACE_LIMIT = 400
ENGINE: tuple[type[errors.RegistryAdminError], ...] = (
    errors.EngineUnreachable,
    errors.EngineRefused,
)
NAMED: tuple[type[errors.RegistryAdminError], ...] = (
    errors.ContainerUnknown,
    errors.ContainerAmbiguous,
    *ENGINE,
)

blueprint = Blueprint("containers", "The containers that the settings allow.")


class RestartPolicySchema(Answer):
    """What the engine does when the container ends."""

    name = text("The policy.", "always", enum=list(POLICIES))
    maximum_retry_count = number("For `on-failure`: how often at most; 0 is without end.", 0)


class UlimitSchema(Answer):
    """A limit of its processes, in the units of `setrlimit`; -1 is unlimited."""

    name = text("The engine's name of it.", "nofile")
    soft = ma_fields.Integer(metadata=about("What a process has.", example=1024, minimum=-1))
    hard = ma_fields.Integer(metadata=about("What it may raise it to.", example=4096, minimum=-1))


class ContainerSchema(Answer):
    """A container."""

    name = text("Its name.", "registry", pattern=whole(NAME))
    engine = text("The engine it is on.", "local")
    id = text("Its id.", ID_EXAMPLE * 2)
    image = text("The image it was created from, as it was named.", "registry:2")
    image_id = text("That image's id.", "sha256:" + ID_EXAMPLE * 2)
    state = text("The engine's word for its state.", "running")
    health = text("What its health check says; null without one.", "healthy", nullable=True)
    restart_policy = ma_fields.Nested(RestartPolicySchema)
    ulimits = listing(UlimitSchema, "As configured; the engine's own apply besides.")
    effective_ulimits = listing(
        UlimitSchema,
        "Those of its first process; null while it does not run or where they are not seen.",
        nullable=True,
    )
    restart_count = number("How often the engine restarted it by itself.", 0)
    started_at = moment("When it was started last; null if never.", nullable=True)
    compose_project = text("The Compose project it belongs to.", "shop", nullable=True)
    writable_layer_size = number(
        "Bytes of its own layer; null where the engine does not tell.", 0, nullable=True
    )


class LayerChangeSchema(Answer):
    """A path that the container holds otherwise than its image."""

    path = text("The path in the container.", "/etc/motd")
    kind = text("What was done.", "added", enum=["added", "modified", "deleted"])


class ChangesPage(page_of(LayerChangeSchema, "LayerChangePage")):  # type: ignore[misc]
    """What a container's own layer has otherwise than its image, a page of it."""

    class Meta(Answer.Meta):
        fields = ("items", "next", "size")

    size = number("Bytes of the layer; null where the engine does not tell.", 4096, nullable=True)


class RestartOptions(Schema):
    """How to restart."""

    timeout = Whole(
        0,
        TIMEOUT_LIMIT,
        load_default=None,
        allow_none=True,
        metadata=about(
            "Seconds it may take to end before it is killed; the container's own when left out.",
            example=10,
        ),
    )


class PolicyOptions(Schema):
    """A restart policy."""

    json_schema: ClassVar = {
        "not": {
            "required": ["maximum_retry_count"],
            "properties": {"name": {"enum": [one for one in POLICIES if one != "on-failure"]}},
        }
    }

    name = ma_fields.String(
        required=True,
        validate=OneOf(POLICIES),
        metadata=about("The policy.", example="on-failure"),
    )
    maximum_retry_count = Whole(
        0,
        RETRIES_LIMIT,
        metadata=about(
            "With `on-failure` alone: how often at most; 0 is without end.",
            example=5,
        ),
    )

    @validates_schema(skip_on_field_errors=True)
    def require_meaning(self, data: dict[str, Any], **_: object) -> None:
        """Refuse a count that no policy would heed."""
        if "maximum_retry_count" in data and data["name"] != "on-failure":
            raise ValidationError("Goes with on-failure alone.", "maximum_retry_count")


def find(name: str, scope: str) -> Allowed:
    """Find a container for the caller; raise ContainerUnknown, or InsufficientScope.

    A token that is limited to registries reaches their own containers; one that is limited to
    repositories none, since a container serves all of them. Of others it does not even learn
    whether they exist.
    """
    try:
        return context.services().containers.find(name, _within_limits)
    except errors.ContainerUnknown as error:
        if not is_limited():
            raise
        raise beyond_limits(f"container '{errors.shown(name)}'", scope) from error


def is_limited() -> bool:
    """Tell whether the caller's token has limits."""
    return bool(auth.caller().registries or auth.caller().repositories)


def beyond_limits(what: str, scope: str) -> errors.InsufficientScope:
    """Make the error for what the limits leave out, in the same words where there is no such."""
    return errors.InsufficientScope(
        f"The token '{auth.caller().name}' is limited, and the {what} is beyond its limits. "
        "Nothing was changed. Use a token without limits.",
        {"required_scope": scope},
    )


def _within_limits(one: Allowed) -> bool:
    if not is_limited():
        return True
    mine = one.registry is not None and auth.caller().sees_registry(one.registry)
    return mine and not auth.caller().repositories


def visible(engine: Engine) -> list[Allowed]:
    """Give the containers of an engine that the caller may see."""
    found = context.services().containers.all()
    return [one for one in found if one.engine is engine and _within_limits(one)]


@blueprint.read(
    CONTAINERS,
    Operation(
        "listContainers",
        READ,
        page_of(ContainerSchema, "ContainerPage"),
        says="By name.",
        problems=ENGINE,
        headers=("Link",),
    ),
    PageOptions,
)
def list_containers(options: Options) -> Found:
    """List the containers that the settings allow, and the caller's limits."""
    mine = [one for one in context.services().containers.all() if _within_limits(one)]
    found, headers = page(sliced(mine, _key), options, _key)
    return {**found, "items": [one for one in spread(_present, found["items"]) if one]}, headers


def _key(one: Allowed) -> str:
    # A space comes before whatever a name can hold, so that this is the order of the names' bytes.
    return f"{one.name} {one.engine.name}"


def _present(one: Allowed) -> dict[str, Any] | None:
    try:
        return described(one)
    except errors.ContainerUnknown:  # removed since the list was made
        return None


@blueprint.read(ONE, Operation("getContainer", READ, ContainerSchema, problems=NAMED))
def get_container(container: str) -> dict[str, Any]:
    """Get a container as it is now."""
    return described(find(container, READ))


@blueprint.change(
    ONE + "/restart",
    Operation(
        "restartContainer",
        WRITE,
        JobSchema,
        method="POST",
        problems=(
            *START_PROBLEMS,
            *NAMED,
            errors.ContainerNotRunning,
            errors.ContainerIsSelf,
            errors.GcAlreadyActive,
        ),
        **STARTS,
    ),
    action="container.restart",
    options=RestartOptions,
)
def restart_container(change: Change, options: Options, container: str) -> Answered:
    """Restart a container, within its own stop time-out unless told otherwise.

    The job succeeds when it runs again, and is healthy if it has a health check.
    """
    one = find(container, WRITE)
    return start_on(change, one, RESTART, options, lambda: _require_restartable(one))


def start_on(
    change: Change,
    one: Allowed,
    kind: JobKind,
    params: Mapping[str, Any],
    require: Callable[[], object],
) -> Answered:
    """Start a job on a container, unless ``require`` raises what is in its way."""
    job = start_job(
        change,
        kind.name,
        {"container": reference(one), **params},
        require,
        registry=one.registry,
        container=one.name,
        exclusive=exclusive(one),
    )
    return answer_job(job)


def _require_restartable(one: Allowed) -> None:
    context.services().containers.require_not_self(one)
    exclusion.require_no_collection_in(one)
    status = one.engine.container(one.container_id)["State"]["Status"]
    if status in {"paused", "dead", "removing"}:
        raise errors.ContainerNotRunning(
            f"The container '{one.name}' is {status}, and an engine cannot restart such a one. "
            f"Nothing was changed. See: docker inspect {one.name}"
        )


@blueprint.change(
    ONE + "/restart-policy",
    Operation(
        "putRestartPolicy",
        WRITE,
        ContainerSchema,
        method="PUT",
        says="The container as it now is.",
        problems=(
            *NAMED,
            errors.ContainerAutoRemove,
            errors.ContainerBusy,
            errors.GcAlreadyActive,
        ),
    ),
    action="container.restart-policy",
    options=PolicyOptions,
)
def set_restart_policy(change: Change, options: Options, container: str) -> dict[str, Any]:
    """Set what the engine does when the container ends; at once, and nothing is restarted."""
    one = find(container, WRITE)
    change.details.update(options)
    policy = RestartPolicy(options["name"], options.get("maximum_retry_count", 0))
    # It holds the registry down by the policy, and gives back the one it found.
    exclusion.require_no_collection_in(one)
    if one.engine.container(one.container_id)["HostConfig"].get("AutoRemove"):
        raise errors.ContainerAutoRemove(
            f"The container '{one.name}' was started with --rm: the engine removes it when it "
            "ends, and takes no restart policy. Nothing was changed. Recreate it without --rm."
        )
    with _alone(one):
        one.engine.controller(change).set_restart_policy(one.container_id, policy)
    return described(one)


@contextmanager
def _alone(one: Allowed) -> Iterator[None]:
    """Keep jobs off a container: one that recreates it gives back the policy it found."""
    lock = lock_name("", exclusive(one))
    with held(context.services().store.locks, lock, BUSY_SECONDS) as mine:
        if not mine:
            raise errors.ContainerBusy(
                f"A job works on the container '{one.name}' just now. Nothing was changed. Try "
                "again when it has ended: GET /v1/jobs?state=running"
            )
        yield


@blueprint.read(
    ONE + "/changes",
    Operation(
        "listContainerChanges",
        READ,
        ChangesPage,
        says="By path.",
        problems=NAMED,
        headers=("Link",),
    ),
    PageOptions,
)
def list_changes(options: Options, container: str) -> Found:
    """List what a container's own layer has otherwise than its image: lost when it is recreated."""
    one = find(container, READ)
    changes = sorted(one.engine.layer_changes(one.container_id), key=_place)
    found, headers = page(sliced(changes, _place), options, _place)
    return {**found, "size": one.engine.writable_size(one.container_id)}, headers


def _place(change: LayerChange) -> str:
    """Where it is in the list: a path may be longer, and of other characters, than a cursor."""
    digest = hashlib.sha256(change.path.encode(errors="surrogateescape")).hexdigest()
    return f"{quote(change.path, safe='/', errors='surrogateescape')[:PLACE_LIMIT]} {digest}"
