"""The order in which every request is looked at; nothing reaches a view but through here.

A read: who asks (401), may they (403), are the names well-formed (400) and known (404), then the
view with its options. A change: the same, but the attempt is in the audit trail before any of
it is answered, and its outcome after.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Mapping
from functools import wraps
from weakref import WeakSet

from flask import Response

from service.api import auth, context, problems, requests
from service.domain.audit import Attempt, Change, Completion, Outcome
from service.domain.errors import (
    DeletionUnknown,
    JobUnknown,
    StoreUnavailable,
    TokenUnknown,
    Unknown,
    shown,
)
from service.domain.identity import new_id
from service.domain.reference import Digest, Repository, Tag, parse_reference

log = logging.getLogger(__name__)

Names = Mapping[str, str]
View = Callable[..., Response]
Parse = Callable[[str], object]

PUBLIC = "public"
"""The scope of what needs no token."""

REFUSED_FROM = 400
FAILED_FROM = 500
TARGET_LIMIT = 400

_audited: WeakSet[View] = WeakSet()


def is_audited(view: object) -> bool:
    """Tell whether a view was made by :func:`audited`: only such may change anything."""
    return callable(view) and view in _audited


def _registry(name: str) -> object:
    return context.services().registries.get(name)


def _id(unknown: type[Unknown]) -> Parse:
    def parse(text: str) -> str:
        if not re.fullmatch("[0-9a-f]{32}", text):
            raise unknown(f"'{shown(text)}' is the id of nothing.")
        return text

    return parse


PARSERS: Mapping[str, Parse] = {
    "registry": _registry,
    "repository": Repository.parse,
    "tag": Tag.parse,
    "digest": Digest.parse,
    "reference": parse_reference,
    "deletion_id": _id(DeletionUnknown),
    "token_id": _id(TokenUnknown),
    "job_id": _id(JobUnknown),
}
"""What becomes of the names of a path; others stay text."""


def guarded(view: View, scope: str | None, parsers: Mapping[str, Parse]) -> View:
    """Let callers with ``scope`` into a view that reads; None lets any token in."""

    @wraps(view)
    def enter(**names: str) -> Response:
        if scope != PUBLIC:
            auth.identify()
            auth.admit(scope, names)
        return view(**_parsed(names, parsers))

    return enter


def audited(
    view: View,
    scope: str | None,
    action: str,
    parsers: Mapping[str, Parse],
    makes: str | None = None,
) -> View:
    """Let callers with ``scope`` into a view that changes, whose first argument is a Change.

    ``makes`` names the id of what it makes, which the trail knows before there is such a thing.
    """

    @wraps(view)
    def enter(**names: str) -> Response:
        names |= {makes: new_id()} if makes else {}
        refusal = _refusal()
        change = _begin(action, names)

        def proceed() -> Response:
            if refusal:
                raise refusal
            auth.admit(scope, names)
            return view(change, **_parsed(names, parsers))

        return _completed(change, proceed)

    _audited.add(enter)
    return enter


def _parsed(names: Names, parsers: Mapping[str, Parse]) -> dict[str, object]:
    return {name: parsers.get(name, str)(text) for name, text in names.items()}


def _refusal() -> Exception | None:
    # Held back until the attempt is recorded: refused attempts belong into the trail, too.
    try:
        auth.identify()
    except Exception as error:  # noqa: BLE001 - whatever it is, it is raised once recorded
        return error
    return None


def _begin(action: str, names: Names) -> Change:
    attempt = Attempt(
        action=action,
        actor=auth.actor(),
        source_ip=requests.source_ip(),
        registry=_bounded(names.get("registry")),
        container=_bounded(names.get("container")),
        target=_bounded(target(names)),
        request_id=requests.request_id(),
    )
    try:
        return context.services().trail.begin(attempt)
    except Exception as error:
        log.exception("the audit trail cannot be written")
        raise StoreUnavailable(
            "The audit trail cannot be written, so nothing may be changed. Nothing was changed."
        ) from error


def target(names: Names) -> str | None:
    """Name what a path is about: ``team/app:1.2``, ``team/app@sha256:...``, or an id."""
    repository, tag = names.get("repository"), names.get("tag")
    reference = names.get("reference") or names.get("digest")
    if repository is not None and (tag or reference):
        return f"{repository}:{tag}" if tag else f"{repository}@{reference}"
    return repository or names.get("deletion_id") or names.get("token_id") or names.get("job_id")


def _bounded(text: str | None) -> str | None:
    return None if text is None else shown(text, TARGET_LIMIT)


def _completed(change: Change, proceed: Callable[[], Response]) -> Response:
    code = None
    try:
        response = proceed()
    except Exception as error:  # noqa: BLE001 - every error is an answer, and recorded as such
        response, code = problems.answer(error), problems.code_of(error)
    except BaseException:
        _complete(change, Completion("failed", details=change.details))
        raise
    status = response.status_code
    _complete(change, Completion(_outcome(status), status, code, change.details))
    return response


def _outcome(status: int) -> Outcome:
    if status >= FAILED_FROM:
        return "failed"
    return "refused" if status >= REFUSED_FROM else "succeeded"


def _complete(change: Change, completion: Completion) -> None:
    try:
        change.complete(completion)
    except Exception:
        # What was done is done and must be told; the trail still has the attempt.
        log.exception("the outcome of %s cannot be recorded", change.id)
