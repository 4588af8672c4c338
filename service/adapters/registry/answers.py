"""What a registry's refusals mean: OCI error codes and statuses to errors of the domain, a table.

Codes: OCI Distribution Specification 1.1, "Error Codes". Read-only registries and unrouted paths
answer in plain text, so the absence of a code says something too.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from service.adapters.registry.failures import SAFE_METHODS, UNSENT
from service.adapters.registry.origin import Origin
from service.adapters.registry.transport import Answer
from service.domain.errors import (
    BlobUnknown,
    DeletionDisabled,
    ManifestRefused,
    ManifestUnknown,
    RegistryAdminError,
    RegistryAnswerInvalid,
    RegistryRateLimited,
    RegistryReadOnly,
    RegistryTimeout,
    RegistryUnauthorized,
    RegistryUnreachable,
    RepositoryUnknown,
)

UNSUPPORTED = "UNSUPPORTED"
_CODE = re.compile(r"[A-Z][A-Z0-9_]{0,63}")
_CODES_SHOWN = 5

SURE_LENGTH = 230
"""Longest repository name that every registry takes. Distribution 2.8 answers 500 and ``{}`` from
somewhere beyond on, since it counts parts of its own address and of its file names as well."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What a request was about: ``what`` reads well after "has no"; ``unknown`` is its 404."""

    origin: Origin
    method: str
    what: str
    unknown: type[RegistryAdminError]
    repository: str = ""


def error_codes(answer: Answer) -> frozenset[str]:
    """Return the OCI error codes of an answer, none for plain text or anything else."""
    document = parsed(answer.body)
    errors = document.get("errors") if isinstance(document, dict) else None
    listed = errors if isinstance(errors, list) else []
    codes = [each.get("code") for each in listed if isinstance(each, dict)]
    return frozenset(code for code in codes if isinstance(code, str) and _CODE.fullmatch(code))


def parsed(body: bytes) -> object:
    """Return the JSON of a body, None when it is none."""
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        return None


def document_of(answer: Answer, origin: Origin, what: str) -> Mapping[str, Any]:
    """Return the JSON object of a successful answer; raise RegistryAnswerInvalid."""
    document = parsed(answer.body)
    if isinstance(document, dict):
        return document
    raise RegistryAnswerInvalid(
        f"What {origin} answers as {what} is no JSON object. {UNSENT} "
        "Check that the URL is that of a registry."
    )


def refusal(answer: Answer, asked: Asked) -> RegistryAdminError:
    """Return the error that an answer without success stands for."""
    codes = error_codes(answer)
    if answer.status == HTTPStatus.INTERNAL_SERVER_ERROR and len(asked.repository) > SURE_LENGTH:
        return _repository_unknown(asked, f"{len(asked.repository)} characters are too many")
    for row in _TABLE:
        if row.fits(answer.status, codes, asked.method):
            return row.tell(asked, _shown(answer.status, codes))
    return _senseless(asked, _shown(answer.status, codes))


def _shown(status: int, codes: frozenset[str]) -> str:
    named = ", ".join(sorted(codes)[:_CODES_SHOWN])
    return f"status {status} ({named})" if named else f"status {status}"


_Tell = Callable[[Asked, str], RegistryAdminError]


@dataclass(frozen=True, slots=True)
class _Row:
    """Fits when status, method and codes do; empty sets fit all. ``coded``: any code, or none."""

    statuses: frozenset[int]
    tell: _Tell
    methods: frozenset[str] = frozenset()
    codes: frozenset[str] = frozenset()
    coded: bool | None = None

    def fits(self, status: int, codes: frozenset[str], method: str) -> bool:
        return (
            status in self.statuses
            and (not self.methods or method in self.methods)
            and (not self.codes or bool(self.codes & codes))
            and self.coded in {None, bool(codes)}
        )


def _repository_unknown(asked: Asked, shown: str) -> RegistryAdminError:
    return RepositoryUnknown(
        f"{asked.origin} has no such repository, asked for {asked.what}: {shown}. {UNSENT}"
    )


def _manifest_unknown(asked: Asked, shown: str) -> RegistryAdminError:
    return ManifestUnknown(f"{asked.origin} has no {asked.what}: {shown}. {UNSENT}")


def _blob_unknown(asked: Asked, shown: str) -> RegistryAdminError:
    return BlobUnknown(f"{asked.origin} has no {asked.what}: {shown}. {UNSENT}")


def _unknown(asked: Asked, shown: str) -> RegistryAdminError:
    return asked.unknown(f"{asked.origin} has no {asked.what}: {shown}. {UNSENT}")


def _read_only(asked: Asked, shown: str) -> RegistryAdminError:
    return RegistryReadOnly(
        f"{asked.origin} is read-only: {shown}. {UNSENT} Try again when its maintenance has ended."
    )


def _deletion_disabled(asked: Asked, shown: str) -> RegistryAdminError:
    return DeletionDisabled(
        f"{asked.origin} runs with deletion disabled: {shown}. {UNSENT} Enable it by "
        "REGISTRY_STORAGE_DELETE_ENABLED=true in its environment, or by "
        "'storage: {delete: {enabled: true}}' in its configuration file, and restart it."
    )


def _refused(asked: Asked, shown: str) -> RegistryAdminError:
    return ManifestRefused(f"{asked.origin} does not accept {asked.what}: {shown}. {UNSENT}")


def _unauthorized(asked: Asked, shown: str) -> RegistryAdminError:
    return RegistryUnauthorized(
        f"{asked.origin} does not let the service's user at {asked.what}: {shown}. {UNSENT} "
        "Check what the registry allows that user."
    )


def _rate_limited(asked: Asked, _shown: str) -> RegistryAdminError:
    return RegistryRateLimited(
        f"{asked.origin} limits the rate of requests, and still does after waiting. {UNSENT} "
        "Try again later."
    )


def _down(asked: Asked, shown: str) -> RegistryAdminError:
    return RegistryUnreachable(
        f"{asked.origin} cannot be reached through its proxy, or is overloaded: {shown}. "
        f"{_effect(asked)}"
    )


def _slow(asked: Asked, shown: str) -> RegistryAdminError:
    return RegistryTimeout(f"{asked.origin} did not answer its proxy in time: {shown}. "
                           f"{_effect(asked)}")  # fmt: skip


def _redirected(asked: Asked, shown: str) -> RegistryAdminError:
    return RegistryAnswerInvalid(
        f"{asked.origin} points elsewhere for {asked.what} ({shown}), which is not followed. "
        f"{UNSENT} Check that the URL is the registry's own."
    )


def _senseless(asked: Asked, shown: str) -> RegistryAdminError:
    return RegistryAnswerInvalid(
        f"{asked.origin} answers {shown} when asked for {asked.what}, which makes no sense. "
        f"{_effect(asked)}"
    )


def _effect(asked: Asked) -> str:
    if asked.method in SAFE_METHODS:
        return UNSENT
    return "Whether the change was made is not known: look before trying again."


_WRITES = frozenset({"PUT", "DELETE"})
_PUT = frozenset({"PUT"})
_DELETE = frozenset({"DELETE"})


def _statuses(*statuses: int) -> frozenset[int]:
    return frozenset(statuses)


_NAME = frozenset({"NAME_UNKNOWN"})
_MANIFEST = frozenset({"MANIFEST_UNKNOWN"})
_BLOB = frozenset({"BLOB_UNKNOWN"})

_TABLE = (
    _Row(_statuses(405), _read_only, _WRITES, coded=False),
    _Row(_statuses(400, 405), _deletion_disabled, _DELETE, codes=frozenset({UNSUPPORTED})),
    _Row(_statuses(405), _read_only, _PUT),  # a pull-through cache
    _Row(_statuses(400, 404, 409, 412, 413, 415, 422), _refused, _PUT),
    _Row(_statuses(404), _repository_unknown, codes=_NAME),
    _Row(_statuses(404), _manifest_unknown, codes=_MANIFEST),
    _Row(_statuses(404), _blob_unknown, codes=_BLOB),
    _Row(_statuses(404), _unknown),
    _Row(_statuses(401, 403), _unauthorized),
    _Row(_statuses(429), _rate_limited),
    _Row(_statuses(502, 503), _down),
    _Row(_statuses(504), _slow),
    _Row(frozenset(range(300, 400)) - {HTTPStatus.NOT_MODIFIED}, _redirected),
)
"""The first row that fits decides; what none fits makes no sense."""
