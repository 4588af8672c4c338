"""What a caller may hand on to others: never more than it has itself."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import datetime

from service.domain.access import Caller
from service.domain.errors import InsufficientScope

_WILDCARD = re.compile(r"[*?\[]")


def require_grantable(giver: Caller, wanted: Caller) -> None:
    """Raise InsufficientScope unless everything ``wanted`` may, ``giver`` may as well."""
    for scope in sorted(wanted.scopes):
        giver.require(scope)
    if not within_limits(giver, wanted):
        raise _beyond(giver, "the registries and repositories it is limited to")
    if not _ends_first(wanted.expires_at, giver.expires_at):
        raise _beyond(giver, "the time when it expires itself")


def within_limits(outer: Caller, inner: Caller) -> bool:
    """Tell whether the registries and repositories of ``inner`` are among those of ``outer``."""
    registries = not outer.registries or (
        bool(inner.registries) and set(inner.registries) <= set(outer.registries)
    )
    repositories = not outer.repositories or (
        bool(inner.repositories)
        and all(_covered(glob, outer.repositories) for glob in inner.repositories)
    )
    return registries and repositories


def _covered(glob: str, by: Sequence[str]) -> bool:
    return any(_covers(outer, glob) for outer in by)


def _covers(outer: str, inner: str) -> bool:
    """Tell whether ``outer`` certainly matches whatever ``inner`` does.

    That is so for equal patterns, and for those that only end in ``*``. Whether other patterns
    contain each other is not worked out: the answer is no.
    """
    stem = outer.removesuffix("*")
    if _WILDCARD.search(stem) or outer == stem:
        return outer == inner
    return _WILDCARD.split(inner)[0].startswith(stem)


def _ends_first(wanted: datetime | None, giver: datetime | None) -> bool:
    return giver is None or (wanted is not None and wanted <= giver)


def _beyond(giver: Caller, what: str) -> InsufficientScope:
    return InsufficientScope(
        f"The token '{giver.name}' cannot grant more than it has: this goes beyond {what}. "
        "Nothing was changed.",
        {"required_scope": "token:admin"},
    )
