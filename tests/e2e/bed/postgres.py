"""A private PostgreSQL on 127.0.0.1, and databases of it."""

import getpass
import itertools
import os
import pwd
import shutil
import signal
import subprocess
from pathlib import Path

from demo.processes import free_port, guard, wait_until
from tests.e2e.bed.workspace import Child, Workspace

USER = "bed"
COUNT = itertools.count(1)


class Postgres:
    """A cluster that ends with `close`; it keeps nothing safe, for speed."""

    def __init__(self, workspace: Workspace) -> None:
        self.home = workspace.folder("postgres")
        self.port = free_port()
        self.user = unprivileged()
        self.data = self.home / "data"
        if self.user:
            shutil.chown(self.home, self.user)
        initdb = ["--pgdata", str(self.data), "--username", USER, "--auth=trust", "--no-sync"]
        self._run("initdb", *initdb, "--encoding=UTF8", "--locale=C")
        self.server = Child(
            workspace, self._server(), self.home.with_suffix(".log"), user=self.user
        )
        wait_until(self._answers, 30, f"postgres answers\n{self.server.tail()}")

    def create(self, encoding: str = "UTF8") -> str:
        """Make an empty database; gives its URL."""
        name = f"bed_{next(COUNT)}"
        options = f"ENCODING '{encoding}' LOCALE 'C' TEMPLATE template0"
        self.sql(f"CREATE DATABASE {name} {options}")
        return f"postgresql://{USER}@127.0.0.1:{self.port}/{name}"

    def drop(self, url: str) -> None:
        """Remove a database, whoever is still connected to it."""
        self.sql(f"DROP DATABASE {url.rpartition('/')[2]} WITH (FORCE)")

    def sql(self, statement: str, database: str = "postgres") -> str:
        """Run one statement; gives psql's bare rows."""
        where = ["-h", "127.0.0.1", "-p", str(self.port), "-U", USER, "-d", database]
        return self._run("psql", "-X", "-A", "-t", "-q", *where, "-c", statement)

    def close(self) -> None:
        self.server.stop(signal.SIGINT)  # its fast shutdown: it waits for no client
        shutil.rmtree(self.home)

    def _server(self) -> list[str]:
        settings = {
            "listen_addresses": "127.0.0.1",
            "port": self.port,
            "unix_socket_directories": "",
            "fsync": "off",
            "synchronous_commit": "off",
            "full_page_writes": "off",
        }
        flags = [part for key, value in settings.items() for part in ("-c", f"{key}={value}")]
        return [binary("postgres"), "-D", str(self.data), *flags]

    def _answers(self) -> bool:
        try:
            return self.sql("SELECT 1").strip() == "1"
        except subprocess.CalledProcessError:
            return False

    def _run(self, program: str, *arguments: str) -> str:
        command = [*guard(self.user), binary(program), *arguments]
        environment = os.environ | {"PGCONNECT_TIMEOUT": "5"}
        ended = subprocess.run(
            command,
            env=environment,
            cwd="/",
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
        return ended.stdout


def unprivileged() -> str | None:
    """Name who to run as, since PostgreSQL refuses root; None: as we are."""
    if getpass.getuser() != "root":
        return None
    known = {entry.pw_name for entry in pwd.getpwall()}
    return "postgres" if "postgres" in known else "nobody"


def binary(name: str) -> str:
    """Find a program of the newest PostgreSQL; Debian keeps them off PATH."""
    folders = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=version, reverse=True)
    path = os.pathsep.join([*map(str, folders), os.environ["PATH"]])
    found = shutil.which(name, path=path)
    if found is None:
        raise RuntimeError(f"{name} is missing: apt-get install postgresql")
    return found


def version(folder: Path) -> int:
    return int(folder.parent.name) if folder.parent.name.isdigit() else 0
