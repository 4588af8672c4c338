"""Lists as pages: ``n`` and ``last`` in, ``items`` and ``next`` out, and a Link header."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import islice, repeat
from typing import Any, TypeVar
from urllib.parse import urlencode

from flask import request
from marshmallow import fields as ma_fields

from service.api import requests
from service.api.base import Answer, Schema
from service.api.fields import ID_CURSOR, Count, Cursor, about, listing, text

Item = TypeVar("Item")
Options = Mapping[str, Any]
Found = tuple[dict[str, Any], dict[str, str]]
Find = Callable[[int, str | None], Sequence[Item]]

DEFAULT_LENGTH = 100
LENGTH_LIMIT = 1000
ROUNDS = 20
"""Most pages of the store that are looked through for what a caller may see of it."""


class PageOptions(Schema):
    """Which page of a list."""

    n = Count(
        1,
        LENGTH_LIMIT,
        load_default=DEFAULT_LENGTH,
        metadata=about("Most items of the answer.", example=DEFAULT_LENGTH),
    )
    last = Cursor(
        load_default=None,
        metadata=about("Where to go on: opaque, part of an earlier answer's `next`."),
    )


class IdPageOptions(PageOptions):
    """Which page of a list that is in the order of its ids."""

    last = Cursor(
        ID_CURSOR,
        load_default=None,
        metadata=about("Where to go on: opaque, part of an earlier answer's `next`."),
    )


class Page(Answer):
    """A page of a list."""

    class Meta(Answer.Meta):
        fields = ("items", "next")

    items = ma_fields.List(ma_fields.Raw(), metadata={"description": "In order."})
    next = text("Path and query of the next page; null on the last one.", None, nullable=True)


def page_of(item: type[Answer], name: str) -> type[Page]:
    """Make the answer that holds a page of ``item``."""
    made = {"items": listing(item, "In order."), "Meta": Page.Meta, "__doc__": Page.__doc__}
    return type(name, (Page,), made)


def page(find: Find[Item], options: Options, key: Callable[[Item], str]) -> Found:
    """Answer a page: ``find`` gives at most so many items beyond a key, in order."""
    n, last = options["n"], options["last"]
    # One more than asked for tells whether there is a next page.
    items = find(n + 1, last)
    return _answer(items[:n], key(items[n - 1]) if len(items) > n else None)


def visible_page(
    find: Find[Item], options: Options, key: Callable[[Item], str], visible: Callable[[Item], bool]
) -> Found:
    """Answer a page of what the caller may see; it may be short though others follow."""
    n, last = options["n"], options["last"]
    seen: list[Item] = []
    for size in (n + 1, *repeat(LENGTH_LIMIT, ROUNDS)):
        batch = find(size, last)
        seen += islice((item for item in batch if visible(item)), n + 1 - len(seen))
        if len(seen) > n:
            return _answer(seen[:n], key(seen[n - 1]))
        if len(batch) < size:
            return _answer(seen, None)
        last = key(batch[-1])
    return _answer(seen, last)


def sliced(items: Sequence[Item], key: Callable[[Item], str]) -> Find[Item]:
    """Make what finds pages in a list that is whole and sorted by ``key``."""

    def find(n: int, last: str | None) -> Sequence[Item]:
        return list(islice((item for item in items if last is None or key(item) > last), n))

    return find


def _answer(items: Sequence[Item], last: str | None) -> Found:
    if last is None:
        return {"items": items, "next": None}, {}
    following = _link(last)
    return {"items": items, "next": following}, {"Link": f'<{following}>; rel="next"'}


def _link(last: str) -> str:
    kept = {name: value for name, value in request.args.items() if name != "last"}
    return f"{requests.path()}?{urlencode({**kept, 'last': last.encode().hex()})}"
