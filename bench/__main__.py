"""The speed comparison: `make bench`, or `python -m bench --help`."""

import argparse
import contextlib
import os
import platform
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench import availability, compare, fill, jobs, parts, recreation, scale, start
from bench.content import Catalog
from bench.report import Table
from bench.site import site

KINDS = ("inventory", "operation", "start", "scale")


def main() -> None:
    """Measure what was asked for and print its table."""
    asked = arguments()
    print(machine())
    wanted = {asked.only} if asked.only else set(KINDS)
    table = inventory(asked) if "inventory" in wanted else Table()
    if "operation" in wanted:
        operation(asked.rounds, asked.idle, table)
    if "start" in wanted:
        start.measure(asked.rounds, table)
    if "scale" in wanted:
        with scale.deployment() as (engine, stack):
            scale.measure(engine, stack, asked.rounds, table)
    print(table)


def operation(rounds: int, idle_seconds: float, table: Table) -> None:
    """Measure jobs, collections and recreated containers, on a real engine."""
    with site() as (registry, service):
        jobs.measure(service, rounds, idle_seconds, table)
        availability.measure(registry, service, rounds, table)
        recreation.measure(registry.engine, service, rounds, table)


def inventory(asked: argparse.Namespace) -> Table:
    """Run the comparison of reading and return its table."""
    catalog = Catalog(asked.repositories, asked.tags)
    with tempfile.TemporaryDirectory(prefix="registry-admin-bench-") as name:
        folder = Path(name)
        with registry(asked.registry, folder) as url:
            print(f"filling {url} with {asked.repositories} repositories", flush=True)
            fill.fill(url, catalog)
            comparison = compare.Comparison(folder, url, catalog, asked.sample)
            for number in range(asked.rounds):
                print(f"round {number + 1} of {asked.rounds}", flush=True)
                comparison.round(number)
            comparison.large(asked.many)
    return comparison.table()


def machine() -> str:
    """Describe what the figures are for, and how busy it is with other things."""
    cores, load = len(os.sched_getaffinity(0)), os.getloadavg()[0]
    version = platform.python_version()
    return f"{platform.machine()}, {cores} cores, Python {version}; load before: {load:.1f}"


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--only", choices=KINDS, help="one part of it")
    parser.add_argument("--registry", help="URL of an empty registry to use instead of an own one")
    for name, default, what in (
        ("rounds", 5, "measurements of each kind"),
        ("repositories", 200, "repositories of the catalog"),
        ("tags", 20, "tags of each of them"),
        ("sample", 10, "repositories that skopeo lists a round"),
        ("many", 10_000, "tags of the one large repository"),
        ("idle", 30, "seconds for which nothing is asked of the service"),
    ):
        parser.add_argument(f"--{name}", type=int, default=default, help=f"{what} ({default})")
    return parser.parse_args()


@contextmanager
def registry(given: str | None, folder: Path) -> Iterator[str]:
    """Give the registry's URL: the one named, else one that is started for the run."""
    with contextlib.ExitStack() as stack:
        yield given or stack.enter_context(parts.registry(folder))


if __name__ == "__main__":
    main()
