"""ETags and the headers If-Match and If-None-Match, RFC 9110 sections 8.8.3 and 13.1."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from flask import Response, request

from service.api.errors import MalformedHeader
from service.domain.errors import ManifestUnknown
from service.domain.reference import Digest

ANY = "*"
_DIGEST = re.compile(r'"(sha256:[a-f0-9]{64})"')
NOTHING = "an empty list"
_TAG = r'(?:W/)?"[\x21\x23-\x7e\x80-\xff]*"'
_TAGS = re.compile(rf"(?:{_TAG})?(?:[ \t]*,[ \t]*(?:{_TAG})?)*")  # empty elements are allowed


def etag(digest: str | None) -> dict[str, str]:
    """Make the header ETag; nothing where there is no digest."""
    return {"ETag": f'"{digest}"'} if digest else {}


def unchanged(digest: str | None, headers: Mapping[str, str]) -> Response | None:
    """Answer 304 when If-None-Match names ``digest``, else None; raise MalformedHeader."""
    sent = _entity_tags("If-None-Match")
    if digest is None or not sent:
        return None
    known = {tag.removeprefix("W/") for tag in sent}  # weak comparison
    return Response(status=304, headers=headers) if known & {ANY, f'"{digest}"'} else None


def expected(current: Callable[[], Digest]) -> str | None:
    """Give the digest a tag must be on by If-Match, ``*`` for any, None for no condition.

    ``current`` asks for the present digest; it is asked when the header names several. For what
    cannot match, such as a weak tag, the header itself is given. Raise MalformedHeader.
    """
    if "If-None-Match" in request.headers:
        # To ignore a condition on a change would be to break it.
        raise MalformedHeader("If-None-Match", "A change takes If-Match alone. Nothing changed.")
    sent = _entity_tags("If-Match")
    if sent is None:
        return None
    if sent == [ANY]:
        return ANY
    digests = [match[1] for tag in sent if (match := _DIGEST.fullmatch(tag))]
    if len(digests) > 1:
        present = _asked(current)
        return present if present in digests else digests[0]
    return digests[0] if digests else request.headers["If-Match"] or NOTHING


def _asked(current: Callable[[], Digest]) -> Digest | None:
    try:
        return current()
    except ManifestUnknown:
        return None


def _entity_tags(header: str) -> list[str] | None:
    value = request.headers.get(header)
    if value is None:
        return None
    text = value.strip(" \t")
    if text == ANY:
        return [ANY]
    if not _TAGS.fullmatch(text):
        raise MalformedHeader(
            header, f'{header} must be * or entity tags in quotes, such as "sha256:4b4b...".'
        )
    return re.findall(_TAG, text)
