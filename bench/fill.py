"""Filling a registry, by as many processes as there are cores."""

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import cache, partial
from itertools import islice
from multiprocessing import get_context
from typing import TypeVar

from bench.content import Catalog, Pushed, many
from demo.images import Pusher

Item = TypeVar("Item")

CHUNKS = 8
"""Parts of the one large repository, for several processes to push."""


def fill(url: str, catalog: Catalog) -> None:
    """Push every repository of the catalog."""
    _spread(partial(_fill_one, url, catalog), catalog.names())


def fill_many(url: str, repository: str, tags: int, manifests: int) -> None:
    """Push one repository with very many tags."""
    _spread(partial(_fill_part, url, repository, tags, manifests), range(CHUNKS))


def _spread(task: Callable[[Item], None], items: Sequence[Item]) -> None:
    with ProcessPoolExecutor(_cores(), get_context("spawn")) as pool:
        for _ in pool.map(task, items):
            pass


def _fill_one(url: str, catalog: Catalog, name: str) -> None:
    _push(url, name, catalog.content(name))


def _fill_part(url: str, repository: str, tags: int, manifests: int, part: int) -> None:
    _push(url, repository, islice(many(tags, manifests), part, None, CHUNKS))


def _push(url: str, repository: str, content: Iterator[Pushed]) -> None:
    pusher = _pusher(url)
    for pushed in content:
        pusher.push(repository, pushed.manifest, *pushed.tags)


@cache
def _pusher(url: str) -> Pusher:
    """Give this process's pusher, which knows what it has pushed."""
    return Pusher(url)


def _cores() -> int:
    return len(os.sched_getaffinity(0))
