"""How long a container is away for other ulimits, beside `docker stop` and `docker start`."""

import itertools
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from bench.report import Table, Times
from demo.processes import free_port, wait_until
from tests.e2e.bed.clients import DockerCommand
from tests.e2e.bed.collecting import Probe, probing
from tests.e2e.bed.engine import Engine
from tests.e2e.bed.service import Service

NAME = "bench-recreated"
AWAY_BY_HAND = "away by docker stop, docker start"
AWAY = "away by a change of ulimits"
TOLD = "away as the job tells it"
EXTRA_SECONDS = 2
SOFT_LIMITS = itertools.count(1000)
"""No two rounds ask for the same."""


def measure(engine: Engine, service: Service, rounds: int, table: Table) -> None:
    """Stop and start a container, then change its ulimits, by turns; add what was found."""
    docker, times = DockerCommand(engine), Times()
    with _serving(engine) as port:
        for _ in range(rounds):
            times.note(AWAY_BY_HAND, _away(port, lambda: _stop_and_start(docker)))
            times.note(AWAY, _away(port, lambda: times.note(TOLD, _change(service))))
    table.info(f"{AWAY_BY_HAND}, s", times.spread(AWAY_BY_HAND))
    table.info(f"{AWAY}, s", times.spread(AWAY))
    table.at_most(EXTRA_SECONDS, f"{AWAY}, more by, s", times.differences(AWAY, AWAY_BY_HAND))
    table.info(f"{AWAY} / by hand", times.ratios(AWAY, AWAY_BY_HAND))


@contextmanager
def _serving(engine: Engine) -> Iterator[int]:
    """Give the port of a container that answers there, and stops at once when it is told to."""
    port = free_port()
    container = engine.client.containers.run(
        engine.busybox_image(),
        ["httpd", "-f", "-p", f"127.0.0.1:{port}"],
        name=NAME,
        detach=True,
        labels=engine.labels,
        network_mode="host",
        stop_signal="SIGKILL",
    )
    try:
        yield port
    finally:
        # Another one has its name by now.
        engine.client.containers.get(container.name or NAME).remove(force=True, v=True)


def _away(port: int, task: Callable[[], None]) -> float:
    """Run a task; return for how many seconds nobody answered at the port meanwhile."""
    wait_until(lambda: _answers(port), 30, "the container answers")
    probe = Probe(lambda: _ask(port), good=bool)
    with probing(probe):
        task()
        wait_until(lambda: _answers(port), 30, "the container answers again")
    if not probe.down_seconds:
        raise RuntimeError("the container was never away: nothing was measured")
    return probe.down_seconds


def _ask(port: int) -> int:
    """Return 1 where somebody answers; raise OSError.

    Without waiting for the answer the server's queue would be full soon, and hide that it is away.
    """
    with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
        connection.sendall(b"GET / HTTP/1.0\r\n\r\n")
        return int(connection.recv(64).startswith(b"HTTP/"))


def _answers(port: int) -> bool:
    try:
        return bool(_ask(port))
    except OSError:
        return False


def _stop_and_start(docker: DockerCommand) -> None:
    docker("stop", NAME)
    docker("start", NAME)


def _change(service: Service) -> float:
    """Change its ulimits; return for how long it was away as the job tells it."""
    limits = [{"name": "nofile", "soft": next(SOFT_LIMITS), "hard": 4096}]
    path, prefer = f"/v1/containers/{NAME}/ulimits", {"Prefer": "wait=60"}
    answer = service.ask(path, "PUT", body={"ulimits": limits}, headers=prefer, timeout=90)
    job = answer.json()
    if job.get("state") != "succeeded":
        raise RuntimeError(f"the change failed: {job}")
    return float(job["result"]["down_seconds"])
