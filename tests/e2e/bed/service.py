"""The service itself, started as a person would: one configuration file, one command."""

import contextlib
import itertools
import json
import os
import subprocess
from collections.abc import Callable, Mapping
from contextlib import closing
from typing import Any

from demo.processes import free_port, registry_admin, wait_until
from service.adapters.store import SqlStore
from service.domain.access import Caller, Token, hash_secret, new_secret
from service.domain.audit import Attempt, AuditTrail
from service.domain.identity import new_id
from service.settings import load
from tests.e2e.bed.api import Asked
from tests.e2e.bed.engine import Engine
from tests.e2e.bed.http import ask
from tests.e2e.bed.registry import RunningRegistry
from tests.e2e.bed.workspace import Child, Workspace, command_line, family
from tests.fakes_store import WallClock

Table = Mapping[str, Any]
COUNT = itertools.count(1)


class Service(Asked):
    """`registry-admin serve` on a free port, with its own folder; not started by construction."""

    def __init__(self, workspace: Workspace, settings: Table) -> None:
        self.workspace = workspace
        self.folder = workspace.folder("service")
        self.data_dir = self.folder / "data"
        self.log = self.folder / "log"
        self.config = self.folder / "config.toml"
        self.host = f"127.0.0.1:{free_port()}"
        self.url = f"http://{self.host}"
        self.prefix: tuple[str, ...] = ()  # of its command: what it is started by
        self.child: Child | None = None
        self.secrets: dict[str, str] = {}
        self.configure(settings)

    def configure(self, settings: Table) -> None:
        """Write the configuration file; in force at the next start."""
        own = {"bind": self.host, "data_dir": str(self.data_dir)}
        self.config.write_text(toml(own | dict(settings)))

    def start(self, *arguments: str) -> None:
        """Start it and wait until it is ready; `arguments` follow `serve`."""
        command = [*self.prefix, *registry_admin("serve", *arguments)]
        self.child = Child(self.workspace, command, self.log, self.environment())
        wait_until(lambda: self._ready() or not self._running(), 60, "service ready")
        if not self._running():
            raise RuntimeError(f"the service ended:\n{self.child.tail()}")

    def stop(self) -> int:
        """End it as an operator does; gives its exit code."""
        assert self.child is not None
        return self.child.stop()

    def kill(self) -> None:
        """SIGKILL it with all its processes, as a power cut would."""
        assert self.child is not None
        self.child.kill()

    def processes(self, command: str) -> list[int]:
        """Give the processes that run a command of its own, such as `worker`, parents first."""
        assert self.child is not None
        tree = [int(name.partition("-")[0]) for name in family(self.child.pid)[1:]]
        return [pid for pid in tree if command.encode() in command_line(pid)]

    def restart(self) -> None:
        """Start it anew on the same data, after ending it if it still runs."""
        self.stop()
        self.start()

    def close(self) -> None:
        if self.child is not None:
            self.child.kill()

    def run(self, *arguments: str) -> str:
        """Run another command of registry-admin on the same settings; gives its stdout."""
        ended = subprocess.run(
            registry_admin(*arguments),
            env=self.environment(),
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert ended.returncode == 0, ended.stderr
        return ended.stdout

    def token(self, *scopes: str, **limits: str) -> str:
        """Create a token by the command line: `token("registry:read", registry="default")`."""
        flags = [part for scope in scopes or ("admin",) for part in ("--scope", scope)]
        for name, value in limits.items():
            flags += [f"--{name}", value]
        said = self.run("token", "create", "--name", f"bed-{next(COUNT)}", *flags)
        return said.splitlines()[-1].strip()

    def admin(self) -> str:
        """Give a token that may do everything, made once, without the second a command takes."""
        if "admin" not in self.secrets:
            self.secrets["admin"] = self._made("admin")
        return self.secrets["admin"]

    def _made(self, scope: str) -> str:
        settings = load(self.config, {})
        secret, name = new_secret(), f"bed-{next(COUNT)}"
        made = Token(new_id(), Caller(name, frozenset({scope})), WallClock().now(), "bed")
        with closing(SqlStore(settings.database_url, settings.data_dir, WallClock())) as store:
            store.migrate()
            with AuditTrail(store.audit).attempt(Attempt("token.create", "bed")) as change:
                store.tokens.create(change, made, hash_secret(secret))
        return secret

    def environment(self) -> dict[str, str]:
        """Give the machine's environment without its own settings, logins and engine."""
        clean = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("REGISTRY_ADMIN_", "DOCKER_"))
        }
        own = {"REGISTRY_ADMIN_CONFIG": str(self.config), "DOCKER_CONFIG": str(self.folder)}
        return clean | own

    def _ready(self) -> bool:
        with contextlib.suppress(OSError):
            return ask(f"{self.url}/readyz", timeout=5).status == 200
        return False

    def _running(self) -> bool:
        return self.child is not None and self.child.is_running()


MakeService = Callable[..., Service]  # what the `service` fixture is


def registry_table(registry: RunningRegistry, url: str | None = None) -> Table:
    """Describe a registry as the configuration does; `url` where a proxy stands in front."""
    table = {"url": url or registry.url, "container": registry.name, "engine": "local"}
    if registry.credentials:
        user, password = registry.credentials
        secret = registry.folder / "password"
        secret.write_text(password)
        table |= {"username": user, "password_file": str(secret)}
    if registry.ca_file:
        table |= {"ca_file": str(registry.ca_file)}
    return table


def engine_table(engine: Engine, *containers: str) -> Table:
    """Describe an engine, which is reached through the filter of deploy/, as it should be."""
    return {"url": engine.gate(), "containers": list(containers)}


def toml(table: Table, name: str = "") -> str:
    """Write a table of plain values and tables as TOML."""
    plain = {key: value for key, value in table.items() if not isinstance(value, Mapping)}
    lines = [f"[{name}]"] if name and plain else []
    lines += [f"{key} = {json.dumps(value)}" for key, value in plain.items()]
    for key, value in table.items():
        if isinstance(value, Mapping):
            lines.append(toml(value, f"{name}.{key}" if name else key))
    return "\n".join(lines) + "\n"
