"""Following ``Link: <...>; rel="next"`` (RFC 8288), on the same server and to an end."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from http import HTTPStatus
from urllib.parse import urljoin

from service.adapters.registry.origin import Origin, target_of
from service.adapters.registry.transport import Answer, Request
from service.domain.errors import RegistryAnswerInvalid

PAGES_LIMIT = 5000
SIZES = (1000, 100, None)
"""Names a page: distribution allows 1000, others less and say 400; None leaves it to them."""

_LINK = re.compile(r"<([^>]*)>([^<]*)")
_RELATION = re.compile(r';\s*rel\s*=\s*(?:"([^"]*)"|([^\s;,"]+))', re.IGNORECASE)


def next_page(answer: Answer, current: str, origin: Origin) -> str | None:
    """Return the target of the next page, None on the last one.

    ``current``: the target the answer came from. Raise RegistryAnswerInvalid for another scheme,
    host or port: nothing is sent to where a registry would like us to look.
    """
    reference = _next_reference(answer.headers.get("Link", ""))
    if reference is None:
        return None
    try:
        url = urljoin(f"{origin}{current}", reference)
        if Origin.of(url) == origin:
            return target_of(url)
    except ValueError:
        pass
    raise RegistryAnswerInvalid(
        f"{origin} names a next page on another server, which is not followed. Nothing was changed."
    )


def _next_reference(header: str) -> str | None:
    for reference, parameters in _LINK.findall(header):
        for quoted, bare in _RELATION.findall(parameters):
            if "next" in (quoted or bare).lower().split():
                return str(reference)
    return None


def follow(
    ask: Callable[[Request], Answer],
    first: Callable[[int | None], Request],
    origin: Origin,
    limit: int = PAGES_LIMIT,
) -> Iterator[Answer]:
    """Yield an answer a page; one that is no success is the last.

    ``first`` makes the request for the first page from the number of names wanted. Raise
    RegistryAnswerInvalid for pages that lead in a circle, or on and on.
    """
    request, answer = _first_page(ask, first)
    visited = {request.target}
    while True:
        yield answer
        target = next_page(answer, request.target, origin) if answer.succeeded else None
        if target is None:
            return
        if target in visited or len(visited) >= limit:
            raise RegistryAnswerInvalid(
                f"The pages of {origin} do not come to an end. Nothing was changed."
            )
        visited.add(target)
        request = replace(request, target=target)
        answer = ask(request)


def _first_page(
    ask: Callable[[Request], Answer], first: Callable[[int | None], Request]
) -> tuple[Request, Answer]:
    request = first(SIZES[0])
    answer = ask(request)
    for size in SIZES[1:]:
        if answer.status != HTTPStatus.BAD_REQUEST:
            break
        request = first(size)
        answer = ask(request)
    return request, answer
