"""What a second replica of the API brings, asked through the proxy of deploy/compose.scale.yaml."""

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial

from docker.models.containers import Container

from bench import load
from bench.report import Table, Times
from demo.images import sample
from demo.processes import wait_until
from tests.e2e.bed.engine import Engine, open_engine
from tests.e2e.bed.stack import Stack, build_images, open_stack
from tests.e2e.bed.workspace import Workspace

REPLICAS = ("api-1", "api-2")
CONNECTIONS = 16
REQUESTS = 1500
TAG = "/v1/registries/default/repositories/bench/app/-/tags/1"
ONE, TWO = "tags a second by one replica", "tags a second by two replicas"
GROWTH = 1.7


@contextmanager
def deployment() -> Iterator[tuple[Engine, Stack]]:
    """Build the image and start the compose file, on an engine of its own."""
    with ExitStack() as stack:
        workspace = Workspace()
        stack.callback(workspace.close)
        engine = open_engine(workspace)
        stack.callback(engine.close)
        images = build_images(engine)
        files = ("compose.scale.yaml",)
        yield engine, stack.enter_context(open_stack(engine, images, files, REPLICAS))


def measure(
    engine: Engine, stack: Stack, rounds: int, table: Table, requests: int = REQUESTS
) -> None:
    """Read a tag over and over, by turns with one replica and with two; add what was found."""
    with stack.registry.pusher() as pusher:
        pusher.push("bench/app", sample("scaled"), "1")
    second = engine.client.containers.get(stack.container(REPLICAS[1]))
    rates = Times("a second")
    for _ in range(rounds):
        second.stop()
        rates.note(ONE, _rate(stack, requests))
        since = int(time.time())
        second.start()
        wait_until(partial(_is_asked, stack, second, since), 60, "both replicas are asked")
        rates.note(TWO, _rate(stack, requests))
    table.at_least(GROWTH, "two replicas / one", rates.ratios(TWO, ONE))
    for name, spread in rates.spreads():
        table.info(name, spread)


def _rate(stack: Stack, requests: int) -> float:
    headers = {"Authorization": f"Bearer {stack.admin()}"}
    return load.rate(stack.url, "GET", [TAG] * requests, headers, CONNECTIONS)


def _is_asked(stack: Stack, replica: Container, since: int) -> bool:
    """Ask through the proxy, and tell whether a replica's log shows that some of it came there."""
    for _ in range(4):
        stack.ask("/v1/me")
    return b"/v1/me" in replica.logs(since=since)
