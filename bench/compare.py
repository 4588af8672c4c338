"""What is measured beside what, and what of it must be reached."""

import itertools
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TypeVar

from bench import fill, load, parts, skopeo
from bench.connection import Connection, UnexpectedAnswer
from bench.content import Catalog
from bench.inventory import ACCEPT, Api, PlainLoop, Row, heads, rows, tags_path
from bench.memory import MEBIBYTE, Peak
from bench.parts import Service
from bench.report import Table, Times

First = TypeVar("First")
Second = TypeVar("Second")

CONNECTIONS = (4, 1)
"""How many repositories the API's client asks for at a time."""

LOAD_CONNECTIONS = 16
LARGE = "bench/many-tags"
TAGS_PER_MANIFEST = 2
SKOPEO = f"skopeo, {skopeo.AT_A_TIME} at a time"
HEADS_RATE = f"HEADs a second, {LOAD_CONNECTIONS} connections"
TAGS_RATE = f"tags a second by the API, {LOAD_CONNECTIONS} connections"


def loop(n: int) -> str:
    """Name the plain loop that was run beside the API asked over ``n`` connections."""
    return f"plain loop, beside the API over {n}"


def loop_of_heads(n: int) -> str:
    """Name the loop of HEADs likewise."""
    return f"loop of HEADs, beside the API over {n}"


def cold(n: int) -> str:
    """Name the inventory by the API with nothing cached, over ``n`` connections."""
    return f"API cold, connections: {n}"


def warm(n: int) -> str:
    """Name its first repetition."""
    return f"API warm, connections: {n}"


class Comparison:
    """Measures round by round; which of two is first changes with each round."""

    def __init__(self, folder: Path, url: str, catalog: Catalog, sample: int) -> None:
        """Compare on the registry at ``url``, which holds the catalog and nothing else."""
        self.times = Times()
        self._folder = folder
        self._url = url
        self._catalog = catalog
        self._sample = sample
        self._rates = Times("a second")
        self._memory = Times("MiB")
        self._services = itertools.count(1)

    def round(self, number: int) -> None:
        """Measure all but the large repository once."""
        for connections in CONNECTIONS:
            with self._service() as service:
                self._inventories(number, service, connections)
        names = self._catalog.names()
        first = number * self._sample % len(names)
        self._loop_skopeo(names[first : first + self._sample])

    def large(self, tags: int) -> None:
        """Fill a large repository and measure its pages, and the memory meanwhile."""
        fill.fill_many(self._url, LARGE, tags, tags // TAGS_PER_MANIFEST)
        with self._service() as service, Peak(service.pid) as peak:
            for state in ("cold", "warm"):
                found = self.times.take(f"{tags} tags, {state}", lambda: whole(service, LARGE))
                if len(set(found)) != tags:
                    raise UnexpectedAnswer(f"{len(set(found))} tags of {tags}")
        self._memory.note("rss", peak.rss / MEBIBYTE)
        self._memory.note("pss", peak.pss / MEBIBYTE)

    def table(self) -> Table:
        """Return what was found."""
        table = Table()
        for n in CONNECTIONS:
            table.at_most(1.3, f"{cold(n)} / plain loop", self.times.ratios(cold(n), loop(n)))
            heads_ratio = self.times.ratios(warm(n), loop_of_heads(n))
            table.at_most(1.3, f"{warm(n)} / loop of HEADs", heads_ratio)
        for n in CONNECTIONS:
            table.at_least(4, f"{SKOPEO} / {cold(n)}", self.times.ratios(SKOPEO, cold(n)))
            table.at_least(10, f"{SKOPEO} / {warm(n)}", self.times.ratios(SKOPEO, warm(n)))
        table.info(f"{TAGS_RATE} / HEADs", self._rates.ratios(TAGS_RATE, HEADS_RATE))
        table.at_most(250, "memory of all processes, RSS, MiB", self._memory.spread("rss"))
        table.info("memory of all processes, PSS, MiB", self._memory.spread("pss"))
        for name, spread in (*self.times.spreads(), *self._rates.spreads()):
            table.info(name, spread)
        return table

    def _service(self) -> AbstractContextManager[Service]:
        return parts.service(self._folder / f"service-{next(self._services)}", self._url)

    def _inventories(self, number: int, service: Service, n: int) -> None:
        api = Api(service, n)
        plain, ours = alternate(
            number,
            lambda: self.times.take(loop(n), lambda: PlainLoop(self._url).run()),
            lambda: self.times.take(cold(n), api.run),
        )
        require_same(plain, ours)
        _, again = alternate(
            number,
            lambda: self.times.take(loop_of_heads(n), lambda: heads(self._url)),
            lambda: self.times.take(warm(n), api.run),
        )
        require_same(plain, again)
        if n == CONNECTIONS[0]:
            self._load(number, service, plain)

    def _load(self, number: int, service: Service, found: Sequence[Row]) -> None:
        ours = [f"{tags_path(row.repository)}/{row.tag}" for row in found]
        theirs = [f"/v2/{row.repository}/manifests/{row.tag}" for row in found]
        token = {"Authorization": f"Bearer {service.token}"}
        load.rate(service.url, "GET", ours, token, LOAD_CONNECTIONS)  # each process knows each tag
        alternate(
            number,
            lambda: self._rate(HEADS_RATE, self._url, "HEAD", theirs, ACCEPT),
            lambda: self._rate(TAGS_RATE, service.url, "GET", ours, token),
        )

    def _rate(
        self, name: str, url: str, method: str, paths: Sequence[str], headers: dict[str, str]
    ) -> None:
        self._rates.note(name, load.rate(url, method, paths, headers, LOAD_CONNECTIONS))

    def _loop_skopeo(self, names: Sequence[str]) -> None:
        factor = self._catalog.repositories / len(names)
        self.times.take(SKOPEO, lambda: skopeo.inventory(self._url, names), factor)


def alternate(
    number: int, first: Callable[[], First], second: Callable[[], Second]
) -> tuple[First, Second]:
    """Run both, in the other order every second time."""
    if number % 2 == 0:
        return first(), second()
    result = second()
    return first(), result


def require_same(plain: Sequence[Row], ours: Sequence[Row]) -> None:
    """Raise UnexpectedAnswer unless both found the same: else their times compare nothing."""
    for one, other in itertools.zip_longest(plain, ours):
        if one != other:
            raise UnexpectedAnswer(f"the plain loop finds {one}, the API {other}")


def whole(service: Service, repository: str) -> list[Row]:
    """Return all tags of a repository, by pages."""
    with Connection(service.url, {"Authorization": f"Bearer {service.token}"}) as connection:
        return list(rows(connection, repository))
