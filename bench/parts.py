"""The parts that are compared, as processes of their own: a registry, and the service."""

import contextlib
import http.client
import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from demo.processes import Child, free_port, registry_admin, wait_until
from demo.registry import ProgramRegistry

START_SECONDS = 60
REGISTRY = "default"


@contextlib.contextmanager
def registry(folder: Path) -> Iterator[str]:
    """Run Debian's docker-registry on an empty folder; gives its URL."""
    made = ProgramRegistry(folder)
    try:
        url = made.start()
        wait_until(lambda: answers(f"{url}/v2/") or bool(made.problem()), START_SECONDS, url)
        if problem := made.problem():
            raise RuntimeError(problem)
        yield url
    finally:
        made.stop()


@dataclass(frozen=True)
class Service:
    """The service, running: where it is, a token that may read, its first process."""

    url: str
    token: str
    pid: int


@contextlib.contextmanager
def service(folder: Path, registry_url: str) -> Iterator[Service]:
    """Run `registry-admin serve` as installed, with nothing configured but the registry.

    ``folder`` is new: nothing is cached.
    """
    folder.mkdir()
    address, environment = alone(folder)
    environment["REGISTRY_ADMIN_REGISTRY_URL"] = registry_url
    token = _token(environment)
    child = Child(registry_admin("serve"), folder / "log", environment)
    url = f"http://{address}"
    try:
        wait_until(lambda: answers(f"{url}/readyz") or not child.is_running(), START_SECONDS, url)
        if not child.is_running():
            raise RuntimeError(f"the service ended:\n{child.tail()}")
        yield Service(url, token, child.pid)
    finally:
        child.stop()


def alone(folder: Path) -> tuple[str, dict[str, str]]:
    """Give an address for a service without a registry, and its environment.

    The machine's without settings of the service that others are for.
    """
    address = f"127.0.0.1:{free_port()}"
    clean = {k: v for k, v in os.environ.items() if not k.startswith("REGISTRY_ADMIN_")}
    own = {"REGISTRY_ADMIN_BIND": address, "REGISTRY_ADMIN_DATA_DIR": str(folder / "data")}
    return address, clean | own


def _token(environment: dict[str, str]) -> str:
    said = subprocess.run(
        registry_admin("token", "create", "--name", "bench", "--scope", "registry:read"),
        env=environment,
        capture_output=True,
        text=True,
        timeout=START_SECONDS,
        check=True,
    )
    return said.stdout.splitlines()[-1].strip()


def answers(url: str) -> bool:
    """Tell whether a server says 200."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.netloc, timeout=5)
    try:
        connection.request("GET", parts.path)
        return connection.getresponse().status == http.client.OK
    except OSError:
        return False
    finally:
        connection.close()
