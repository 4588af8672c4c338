"""How long the service takes to be ready, beside a bare Python that loads what it is made of."""

import subprocess
import sys
import tempfile
from pathlib import Path

from bench import parts
from bench.report import Table, Times
from demo.processes import Child, registry_admin, wait_until

IMPORTS = "import dbos, docker, flask_smorest, requests, sqlalchemy"
LOADED = "bare Python, libraries loaded"
FIRST = "first start to ready, makes the database"
AGAIN = "start to ready"
SECONDS = 2


def measure(rounds: int, table: Table) -> None:
    """Start on a new folder, then on the same again, by turns with the bare Python."""
    times = Times()
    for _ in range(rounds):
        times.take(LOADED, _load)
        with tempfile.TemporaryDirectory(prefix="registry-admin-bench-") as name:
            for start in (FIRST, AGAIN):
                _start(Path(name), start, times)
    for start in (FIRST, AGAIN):
        table.at_most(SECONDS, f"{start}, s", times.spread(start))
        table.info(f"{start} / {LOADED}", times.ratios(start, LOADED))


def _load() -> None:
    subprocess.run([sys.executable, "-c", IMPORTS], check=True, timeout=parts.START_SECONDS)


def _start(folder: Path, name: str, times: Times) -> None:
    """Start the service with no registry configured, and end it once it is ready."""
    address, environment = parts.alone(folder)
    child: list[Child] = []

    def start() -> None:
        child.append(Child(registry_admin("serve"), folder / "log", environment))
        ready = f"http://{address}/readyz"
        wait_until(lambda: parts.answers(ready), parts.START_SECONDS, ready)

    try:
        times.take(name, start)
    finally:
        for one in child:
            one.stop()
