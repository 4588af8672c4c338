"""ETags and the headers If-Match and If-None-Match, RFC 9110 sections 8.8.3 and 13.1."""

from __future__ import annotations

import re
from collections.abc import Callable

from flask import Response, request

from service.api.errors import MalformedHeader
from service.domain.errors import ManifestUnknown
from service.domain.reference import Digest

ANY = "*"
_TAG = r'(?:W/)?"[\x21\x23-\x7e\x80-\xff]*"'
_TAGS = re.compile(rf"{_TAG}(?:[ \t]*,[ \t]*{_TAG})*")


def etag(digest: str | None) -> dict[str, str]:
    """Make the header ETag; nothing where there is no digest."""
    return {"ETag": f'"{digest}"'} if digest else {}


def unchanged(digest: str | None) -> Response | None:
    """Answer 304 when If-None-Match names ``digest``, else None; raise MalformedHeader."""
    sent = _entity_tags("If-None-Match")
    if digest is None or not sent:
        return None
    known = {tag.removeprefix("W/").strip('"') for tag in sent}  # weak comparison
    if known & {ANY, digest}:
        return Response(status=304, headers=etag(digest))
    return None


def expected(current: Callable[[], Digest]) -> str | None:
    """Give the digest a tag must be on by If-Match, ``*`` for any, None for no condition.

    ``current`` asks for the present digest, and is asked when the header has a choice of
    several. What cannot match, such as a weak tag, is given as it was sent. Raise MalformedHeader.
    """
    sent = _entity_tags("If-Match")
    if not sent:
        return None
    strong = [tag.strip('"') for tag in sent if not tag.startswith("W/")]
    if len(strong) > 1:
        present = _asked(current)
        return present if present in strong else strong[0]
    return strong[0] if strong else sent[0]


def _asked(current: Callable[[], Digest]) -> Digest | None:
    try:
        return current()
    except ManifestUnknown:
        return None


def _entity_tags(header: str) -> list[str]:
    value = request.headers.get(header)
    if value is None:
        return []
    text = value.strip(" \t")
    if text == ANY:
        return [ANY]
    if not _TAGS.fullmatch(text):
        raise MalformedHeader(
            header, f'{header} must be * or entity tags in quotes, such as "sha256:4b4b...".'
        )
    return re.findall(_TAG, text)
