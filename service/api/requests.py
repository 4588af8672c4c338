"""The request as such: its id, where it comes from, what is logged of it."""

from __future__ import annotations

import ipaddress
import re
from functools import lru_cache
from urllib.parse import quote

from flask import g, request
from werkzeug.exceptions import RequestEntityTooLarge

from service import log
from service.api import context
from service.api.errors import ContentTooLarge
from service.domain.identity import new_id

BODY_LIMIT = 1024 * 1024
"""Bytes of a body, unless the operation says otherwise."""

REQUEST_ID = re.compile(r"[A-Za-z0-9._:/+=@-]{1,128}")
PATH_SAFE = "/:@-._~!$&'()*+,;="


def request_id() -> str:
    """Give the id of the current request: the caller's where it is sane, else a new one."""
    if "request_id" not in g:
        sent = request.headers.get("X-Request-Id", "")
        g.request_id = sent if REQUEST_ID.fullmatch(sent) else new_id()
        log.REQUEST_ID.set(g.request_id)
    return str(g.request_id)


def path() -> str:
    """Give the request's path as a URI reference, with the prefix the service is mounted under."""
    return quote(request.root_path + request.path, safe=PATH_SAFE)


def source_ip() -> str | None:
    """Give the caller's address, as far as the peer or proxies that are trusted tell it."""
    hops = request.headers.get("X-Forwarded-For", "").split(",")
    address = request.remote_addr or None
    # The last hop was written by our peer, the one before it by the last hop, and so on.
    while address and hops and _trusted(address, context.services().settings.trusted_proxies):
        claimed = hops.pop().strip()
        if not _is_address(claimed):
            break
        address = claimed
    return address


@lru_cache(maxsize=1024)
def _trusted(address: str, proxies: tuple[str, ...]) -> bool:
    if not _is_address(address):
        return False
    known = ipaddress.ip_address(address)
    return any(known in ipaddress.ip_network(proxy, strict=False) for proxy in proxies)


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def body() -> bytes:
    """Read the request's body; raise ContentTooLarge.

    A body in chunks is cut at the limit without a word, so one that reaches it is taken for longer.
    """
    limit = request.max_content_length or BODY_LIMIT
    try:
        read = request.get_data(cache=True)
    except RequestEntityTooLarge as error:
        raise _too_large(limit) from error
    if len(read) >= limit:
        raise _too_large(limit)
    return read


def _too_large(limit: int) -> ContentTooLarge:
    return ContentTooLarge(f"The body is larger than {limit // 1024**2} MiB. Nothing was changed.")
