"""The demonstration: a filled registry, the service in front of it, and what to type."""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import requests
from docker.errors import DockerException

from demo.content import fill
from demo.images import Pusher
from demo.processes import Child, free_port, registry_admin, wait_until
from demo.registry import DemoRegistry, NoRegistryError, choose
from demo.words import instructions
from service.settings import Settings

READY_SECONDS = 60
PREFIX = "demo-"
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class DemoError(Exception):
    """The demonstration cannot go on; the text says why."""


# Those of requests and sockets, and what was not so in time, are kinds of OSError.
FAILURES = (DemoError, NoRegistryError, DockerException, OSError, subprocess.SubprocessError)


class Demonstration:
    """Runs from `run` until a signal, or until a part of it ends by itself."""

    def __init__(self, settings: Settings) -> None:
        self.host, self.port = settings.address
        self.bind = settings.bind
        self.data_dir = settings.data_dir
        self.stopping = threading.Event()
        self.service: Child | None = None
        self.registry: DemoRegistry | None = None

    def run(self) -> int:
        """Run it, and say why it ends; gives the exit code: 0 after a signal, 1 after a failure."""
        with self._signals():
            try:
                self._check_port()
                with self._folder() as folder, contextlib.ExitStack() as stack:
                    registry = self._start_registry(folder, stack)
                    self._start_service(registry, folder, stack)
                    self._watch()
            except FAILURES as error:
                print(f"{error}\nStopped.", flush=True)
                return 1
            except KeyboardInterrupt:
                print("Stopped.", flush=True)
            return 0

    def _start_registry(self, folder: Path, stack: contextlib.ExitStack) -> str:
        self.registry = choose(folder, self.stopping.is_set)
        stack.callback(self.registry.stop)
        url = self.registry.start()
        self._wait(f"{url}/v2/", "the registry answers")
        with Pusher(url) as pusher:
            fill(pusher)
        return url

    def _start_service(self, registry: str, folder: Path, stack: contextlib.ExitStack) -> None:
        environment = self._environment(registry, folder)
        token = self._token(environment)  # first, or the service would tell that nobody has one
        self.service = Child(registry_admin("serve"), environment=environment)
        stack.callback(self.service.stop)
        self._wait(f"{self.url}/readyz", "the service is ready")
        print(instructions(self.url, registry, token), flush=True)

    @property
    def url(self) -> str:
        """Where a person reaches the service."""
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self.host, self.host)  # noqa: S104 - read, not bound
        return f"http://[{host}]:{self.port}" if ":" in host else f"http://{host}:{self.port}"

    def _watch(self) -> None:
        while not self.stopping.wait(0.2):
            self._check_parts()
        raise KeyboardInterrupt

    def _wait(self, url: str, what: str) -> None:
        def answers() -> bool:
            if self.stopping.is_set():
                raise KeyboardInterrupt
            self._check_parts()
            return is_ok(url)

        wait_until(answers, READY_SECONDS, what)

    def _check_parts(self) -> None:
        problem = self.registry.problem() if self.registry else None
        if problem:
            raise DemoError(f"The registry has ended: {problem}")
        if self.service and not self.service.is_running():
            raise DemoError(f"The service has ended with {self.service.process.returncode}.")

    def _check_port(self) -> None:
        family = socket.AF_INET6 if ":" in self.host else socket.AF_INET
        with socket.socket(family) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((self.host, self.port))
            except OSError as error:
                raise DemoError(
                    f"{self.bind} cannot be used: {error.strerror}.\n"
                    f"Choose another: REGISTRY_ADMIN_BIND=127.0.0.1:{free_port()} make run"
                ) from error

    def _environment(self, url: str, folder: Path) -> dict[str, str]:
        own = {
            "REGISTRY_ADMIN_REGISTRY_URL": url,
            "REGISTRY_ADMIN_DATA_DIR": str(folder / "service"),
            "REGISTRY_ADMIN_BIND": self.bind,
        }
        if self.registry and self.registry.container:
            own["REGISTRY_ADMIN_REGISTRY_CONTAINER"] = self.registry.container
        return os.environ | own

    def _token(self, environment: dict[str, str]) -> str:
        command = registry_admin("token", "create", "--name", "demo", "--scope", "admin")
        ended = subprocess.run(
            command, env=environment, capture_output=True, text=True, timeout=60, check=False
        )
        if ended.returncode:
            raise DemoError(f"No token could be made: {ended.stderr}")
        return ended.stdout.splitlines()[-1].strip()

    @contextlib.contextmanager
    def _folder(self) -> Iterator[Path]:
        """Make a folder for this run alone, after removing those of killed runs."""
        self.data_dir.mkdir(parents=True, exist_ok=True)
        for left in self.data_dir.glob(f"{PREFIX}*-*"):
            if not is_running(left.name.split("-")[1]):
                shutil.rmtree(left, ignore_errors=True)
        made = Path(tempfile.mkdtemp(prefix=f"{PREFIX}{os.getpid()}-", dir=self.data_dir))
        try:
            yield made
        finally:
            shutil.rmtree(made, ignore_errors=True)

    @contextlib.contextmanager
    def _signals(self) -> Iterator[None]:
        """Let signals set a flag: none may cut short the starting or ending of a child."""
        before = {one: signal.signal(one, self._stop) for one in SIGNALS}
        try:
            yield
        finally:
            for one, handler in before.items():
                signal.signal(one, handler)

    def _stop(self, *_: object) -> None:
        self.stopping.set()


def is_ok(url: str) -> bool:
    """Tell whether a GET is answered 200, asked without the machine's proxies."""
    with requests.Session() as session, contextlib.suppress(requests.RequestException):
        session.trust_env = False
        return bool(session.get(url, timeout=5).status_code == requests.codes.ok)
    return False


def is_running(pid: str) -> bool:
    """Tell whether a process has this number."""
    try:
        os.kill(int(pid), 0)
    except (ProcessLookupError, ValueError):
        return False
    except PermissionError:
        return True
    return True
