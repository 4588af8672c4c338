"""The image of the Dockerfile and the files of deploy/, run as they are on the bed's engine.

Where nothing can be pulled, Debian's packages make the images that the files name: one base with
Python and the programs beside the service, and PostgreSQL's with an entrypoint of the bed.
"""

import json
import os
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from demo.processes import free_port, wait_until
from tests.e2e.bed.clients import run
from tests.e2e.bed.engine import IMAGES, Engine
from tests.e2e.bed.http import Answer, ask
from tests.e2e.bed.programs import need

ROOT = Path(__file__).parents[3]
DEPLOY = ROOT / "deploy"
CODENAME = "bookworm"
PARTS = "python3,python3-venv,tini,ca-certificates,haproxy,caddy,postgresql"
LEFT_OUT = ("doc", "man", "locale")
BUILD_SECONDS = 600
READY_SECONDS = 90

# What PostgreSQL's own image does at its first start, as far as our files use it.
POSTGRES = """\
#!/bin/sh
set -eu
D=/var/lib/postgresql/data
B=$(echo /usr/lib/postgresql/*/bin)
as() { su postgres -s /bin/sh -c "$1"; }
if [ ! -s $D/PG_VERSION ]; then
  chown postgres $D
  printf %s "$POSTGRES_PASSWORD" >/tmp/password
  chown postgres /tmp/password
  as "$B/initdb -E UTF8 -U $POSTGRES_USER --pwfile=/tmp/password -A scram-sha-256 $D"
  echo "host all all all scram-sha-256" >>$D/pg_hba.conf
  echo "CREATE DATABASE $POSTGRES_DB;" | as "$B/postgres --single -D $D postgres"
fi
exec su postgres -s /bin/sh -c \\
  "exec $B/postgres -D $D -c listen_addresses=* -c unix_socket_directories=/tmp"
"""


@dataclass(frozen=True)
class Images:
    """Names of images on the bed's engine."""

    base: str
    service: str
    postgres: str


def build_images(engine: Engine) -> Images:
    """Make the base of Debian's packages, then the service's image as the Dockerfile says."""
    owner = engine.workspace.owner
    base, service, postgres = (
        f"{IMAGES}/{name}:1-{owner}" for name in ("base", "service", "postgres")
    )
    folder = engine.workspace.folder("images")
    _import_base(engine, folder, base)
    _build_service(engine, folder / "context", base, service)
    entry = folder / "postgres"
    entry.mkdir()
    (entry / "entry").write_text(POSTGRES)
    (entry / "entry").chmod(0o755)
    (entry / "Dockerfile").write_text(f'FROM {base}\nCOPY entry /entry\nENTRYPOINT ["/entry"]\n')
    _docker_build(engine, entry, postgres)
    return Images(base, service, postgres)


def _import_base(engine: Engine, folder: Path, name: str) -> None:
    archive = folder / "base.tar"
    left_out = [f"--dpkgopt=path-exclude=/usr/share/{what}/*" for what in LEFT_OUT]
    argv = [str(need("mmdebstrap", "mmdebstrap")), "--quiet", "--variant=minbase", "--mode=root"]
    argv += [f"--include={PARTS}", *left_out, CODENAME, str(archive)]
    subprocess.run(argv, check=True, timeout=BUILD_SECONDS, capture_output=True)
    repository, _, tag = name.partition(":")
    engine.client.api.import_image(str(archive), repository=repository, tag=tag)
    archive.unlink()


def _build_service(engine: Engine, context: Path, base: str, name: str) -> None:
    """Build from what is in the repository, with wheels at hand: the engine has no network."""
    context.mkdir()
    for part in ("Dockerfile", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / part, context / part)
    for part in ("requirements", "service", "demo"):
        shutil.copytree(ROOT / part, context / part, ignore=shutil.ignore_patterns("__pycache__"))
    _wheels(engine, base, context)
    arguments = {"BASE": base, "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": "/src/wheels"}
    _docker_build(engine, context, name, **arguments, VERSION="1.2.3", REVISION="abc")


def _wheels(engine: Engine, base: str, context: Path) -> None:
    """Fetch the locked wheels for the base's Python, whatever Python the tests run on."""
    version = _python_of(engine, base)
    locked = (context / "requirements/runtime.txt").read_text()
    locked = re.sub(r"^pywin32==.*?\n(?! )", "", locked, flags=re.MULTILINE | re.DOTALL)
    wanted = context / "wanted.txt"
    # Markers are judged by the Python that asks: hashes choose well enough without them.
    wanted.write_text(re.sub(r" ; [^\\]*", " ", locked))
    tags = [f"--platform={one}_{platform.machine()}" for one in ("manylinux_2_28", "manylinux2014")]
    argv = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--require-hashes"]
    argv += ["--only-binary=:all:", f"--python-version={version}", *tags]
    argv += ["--requirement", str(wanted), "--requirement", str(ROOT / "requirements/build.txt")]
    argv += ["--dest", str(context / "wheels")]
    subprocess.run(argv, check=True, timeout=BUILD_SECONDS, capture_output=True)


def _python_of(engine: Engine, image: str) -> str:
    program = "import platform; print(platform.python_version())"
    said: bytes = engine.client.containers.run(
        image, ["python3", "-c", program], network_mode="none", remove=True, labels=engine.labels
    )
    return said.decode().strip()


def _docker_build(engine: Engine, context: Path, name: str, **arguments: str) -> None:
    argv = ["docker", "build", "--network=none", f"--tag={name}"]
    argv += [f"--build-arg={key}={value}" for key, value in arguments.items()]
    environment = os.environ | {"DOCKER_HOST": engine.host, "DOCKER_BUILDKIT": "0"}
    subprocess.run(
        [*argv, str(context)], env=environment, check=True, timeout=BUILD_SECONDS,
        capture_output=True,
    )  # fmt: skip


@dataclass
class Stack:
    """Compose files of deploy/ that run under a project's name, reached on 127.0.0.1."""

    project: str
    files: tuple[str, ...]
    environment: Mapping[str, str]
    api: str
    token: str = ""

    def compose(self, *arguments: str) -> str:
        """Run a command of Compose."""
        named = [word for file in self.files for word in ("-f", str(DEPLOY / file))]
        return run(["docker-compose", "-p", self.project, *named, *arguments],
                   dict(self.environment)).decode()  # fmt: skip

    def ask(self, path: str, method: str = "GET", body: object = None, **headers: str) -> Answer:
        """Ask the API as an administrator; underscores in the names of headers are dashes."""
        sent = {"Authorization": f"Bearer {self.token}", "Content-Type": "application/json"}
        sent |= {name.replace("_", "-"): value for name, value in headers.items()}
        content = None if body is None else json.dumps(body).encode()
        return ask(self.api + path, method, headers=sent, body=content, timeout=75)

    def get(self, path: str) -> Any:  # noqa: ANN401 - JSON
        """Give the document of a 200."""
        answer = self.ask(path)
        assert answer.status == 200, answer.body
        return answer.json()

    def ready(self) -> bool:
        """Tell whether all of it works."""
        try:
            answer = ask(f"{self.api}/readyz", timeout=5)
        except OSError:
            return False
        return answer.status == 200 and answer.json()["worker"] == "up"


@contextmanager
def open_stack(
    engine: Engine, images: Images, name: str, files: tuple[str, ...]
) -> Iterator[Stack]:
    """Start compose files, with one token; nothing of them is left afterwards."""
    owner = engine.workspace.owner.replace(".", "-")
    port = free_port()
    environment = os.environ | {
        "DOCKER_HOST": engine.host,
        "DOCKER_SOCKET": engine.host.removeprefix("unix://"),
        "REGISTRY_IMAGE": engine.registry_image("built"),
        "REGISTRY_CONTAINER": f"{name}-registry-{owner}",
        "REGISTRY_PORT": str(free_port()),
        "REGISTRY_ADMIN_IMAGE": images.service,
        "REGISTRY_ADMIN_PORT": str(port),
        "HAPROXY_IMAGE": images.base,
        "CADDY_IMAGE": images.base,
        "REGISTRY_HOST": "localhost",
        "POSTGRES_IMAGE": images.postgres,
        "POSTGRES_PASSWORD": "not4production",
        "HTTPS_ADDRESS": "127.0.0.1",
        "HTTPS_PORT": str(free_port()),
    }
    need("docker-compose", "docker-compose")
    stack = Stack(f"{name}-{owner}", files, environment, f"http://127.0.0.1:{port}")
    try:
        stack.compose("up", "--detach", "--no-build")
        wait_until(stack.ready, READY_SECONDS, f"{name} is ready")
        yield stack
    finally:
        stack.compose("down", "--volumes", "--timeout", "3")
