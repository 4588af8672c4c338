"""The image of the Dockerfile and the files of deploy/, run as they are on the bed's engine.

Where nothing can be pulled, Debian's packages make the images that the files name: one with the
Python that is the base, one with the programs beside the service.
"""

import os
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from demo.processes import free_port, wait_until
from tests.e2e.bed.api import Asked
from tests.e2e.bed.clients import run
from tests.e2e.bed.engine import IMAGES, Engine
from tests.e2e.bed.http import ask
from tests.e2e.bed.packages import root_file_system
from tests.e2e.bed.programs import need
from tests.e2e.bed.registry import RegistryClient

ROOT = Path(__file__).parents[3]
DEPLOY = ROOT / "deploy"
SHELL = ("base-files", "coreutils", "dash")
BASE = (*SHELL, "ca-certificates", "libstdc++6", "python3", "python3-venv", "tini")
BESIDE = (*SHELL, "caddy", "haproxy", "postgresql", "util-linux")
PATH = "/usr/sbin:/usr/bin"
BUILD_SECONDS = 600
READY_SECONDS = 90

# What PostgreSQL's own image does at its first start, as far as our files use it.
POSTGRES = b"""\
#!/bin/sh
set -eu
D=/var/lib/postgresql/data
B=$(echo /usr/lib/postgresql/*/bin)
as() { setpriv --reuid=postgres --regid=70 --clear-groups "$@"; }
if [ ! -s $D/PG_VERSION ]; then
  chown postgres $D
  printf %s "$POSTGRES_PASSWORD" >/tmp/password
  chown postgres /tmp/password
  as $B/initdb --no-sync -E UTF8 -U $POSTGRES_USER --pwfile=/tmp/password -A scram-sha-256 $D
  echo "host all all all scram-sha-256" >>$D/pg_hba.conf
  echo "CREATE DATABASE $POSTGRES_DB;" | as $B/postgres --single -j -c jit=off -D $D postgres
fi
exec setpriv --reuid=postgres --regid=70 --clear-groups \
  $B/postgres -D $D -c jit=off -c listen_addresses='*' -c unix_socket_directories=/tmp
"""


# Compose as a program of its own, and an image that is built already, as the Dockerfile says.
DOCKER = """\
#!/bin/sh
case $1 in
  compose) shift; exec docker-compose "$@" ;;
  build) exit ;;
  *) exec "$REAL_DOCKER" "$@" ;;
esac
"""
PAGE = ROOT / "docs" / "deploy.md"


def printed(heading: str) -> list[str]:
    """Give the blocks that docs/deploy.md has to be typed below a heading."""
    _, _, below = PAGE.read_text().partition(f"\n## {heading}\n")
    section, _, _ = below.partition("\n## ")
    return re.findall(r"^```sh\n(.*?)^```$", section, re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Images:
    """Names of images on the bed's engine; `beside` has PostgreSQL, Caddy and HAProxy."""

    base: str
    service: str
    beside: str


def build_images(engine: Engine) -> Images:
    """Make the base of Debian's packages, then the service's image as the Dockerfile says."""
    owner = engine.workspace.owner
    names = Images(*(f"{IMAGES}/{name}:1-{owner}" for name in ("base", "service", "beside")))
    context = engine.workspace.folder("images") / "context"
    with ThreadPoolExecutor() as hands:
        wheels = hands.submit(_fill, context)
        beside = root_file_system(BESIDE, {"entry": POSTGRES})
        engine.load(root_file_system(BASE, {}), names.base, f"ENV PATH={PATH}")
        wheels.result()
        built = hands.submit(_build_service, engine, context, names)
        # As in PostgreSQL's own image, its programs are found before Debian's wrappers of them.
        path = ":".join([*map(str, Path("/usr/lib/postgresql").glob("*/bin")), PATH])
        engine.load(beside, names.beside, 'CMD ["/entry"]', f"ENV PATH={path}")
        built.result()
    return names


def _fill(context: Path) -> None:
    """Copy what is in the repository, with wheels at hand: the engine has no network."""
    context.mkdir()
    for part in ("Dockerfile", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / part, context / part)
    for part in ("requirements", "service", "demo"):
        shutil.copytree(ROOT / part, context / part, ignore=shutil.ignore_patterns("__pycache__"))
    _wheels(context)


def _build_service(engine: Engine, context: Path, names: Images) -> None:
    """Build as behind a firewall."""
    arguments = {"BASE": names.base, "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": "/src/wheels"}
    _docker_build(engine, context, names.service, **arguments, VERSION="1.2.3", REVISION="abc")


def _wheels(context: Path) -> None:
    """Fetch the locked wheels for the base's Python, whatever Python the tests run on."""
    locked = (context / "requirements/runtime.txt").read_text()
    locked = re.sub(r"^pywin32==.*?\n(?! )", "", locked, flags=re.MULTILINE | re.DOTALL)
    wanted = context / "wanted.txt"
    # Markers are judged by the Python that asks: hashes choose well enough without them.
    wanted.write_text(re.sub(r" ; [^\\]*", " ", locked))
    tags = [f"--platform={one}_{platform.machine()}" for one in ("manylinux_2_28", "manylinux2014")]
    argv = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--require-hashes"]
    argv += ["--only-binary=:all:", f"--python-version={_python()}", *tags]
    argv += ["--requirement", str(wanted), "--requirement", str(ROOT / "requirements/build.txt")]
    argv += ["--dest", str(context / "wheels")]
    subprocess.run(argv, check=True, timeout=BUILD_SECONDS, capture_output=True)


def _python() -> str:
    """Give the version of Debian's Python, which the base has."""
    program = "import platform; print(platform.python_version())"
    return run(["/usr/bin/python3", "-c", program], {}).decode().strip()


def _docker_build(engine: Engine, context: Path, name: str, **arguments: str) -> None:
    argv = ["docker", "build", "--network=none", f"--tag={name}"]
    argv += [f"--build-arg={key}={value}" for key, value in arguments.items()]
    environment = os.environ | {"DOCKER_HOST": engine.host, "DOCKER_BUILDKIT": "0"}
    subprocess.run(
        [*argv, str(context)], env=environment, check=True, timeout=BUILD_SECONDS,
        capture_output=True,
    )  # fmt: skip


@dataclass
class StackRegistry(RegistryClient):
    """The registry of a stack."""

    url: str


@dataclass
class Stack(Asked):
    """Compose files of deploy/ that run under a project's name, reached on 127.0.0.1."""

    project: str
    files: tuple[str, ...]
    environment: Mapping[str, str]
    url: str
    replicas: tuple[str, ...]
    folder: Path
    secret: str = ""

    @property
    def registry(self) -> RegistryClient:
        """The registry itself, past the service."""
        return StackRegistry(f"http://127.0.0.1:{self.environment['REGISTRY_PORT']}")

    def compose(self, *arguments: str, **variables: str) -> str:
        """Run a command of Compose, with more variables than the stack was started with."""
        named = [word for file in self.files for word in ("-f", str(DEPLOY / file))]
        return run(["docker-compose", "-p", self.project, *named, *arguments],
                   {**self.environment, **variables}).decode()  # fmt: skip

    def type(self, heading: str, **variables: str) -> str:
        """Type what docs/deploy.md prints below a heading; gives what was printed."""
        typed = "\n".join(["set -euo pipefail", *printed(heading)])
        shims = self.folder / "bin"
        shims.mkdir(exist_ok=True)
        (shims / "docker").write_text(DOCKER)
        (shims / "docker").chmod(0o755)
        own = {
            "PATH": f"{shims}:{self.environment['PATH']}",
            "REAL_DOCKER": str(need("docker", "docker-cli")),
            "COMPOSE_PROJECT_NAME": self.project,
        }
        environment = {**self.environment, **own, **variables}
        return run(["bash", "-c", f"cd {ROOT}\n{typed}"], environment).decode()

    def container(self, service: str) -> str:
        """Name the container of a service."""
        return f"{self.project}_{service}_1"

    def token(self, *scopes: str) -> str:
        """Create a token as an operator does."""
        command = ["registry-admin", "token", "create", "--name", "me"]
        command += [word for scope in scopes for word in ("--scope", scope)]
        return self.compose("exec", "-T", self.replicas[0], *command).strip().splitlines()[-1]

    def admin(self) -> str:
        """Give a token that may do everything, made once."""
        self.secret = self.secret or self.token("admin")
        return self.secret

    def ready(self) -> bool:
        """Tell whether all of it works."""
        try:
            answer = ask(f"{self.url}/readyz", timeout=5)
        except OSError:
            return False
        return answer.status == 200 and answer.json()["worker"] == "up"


def started(stack: Stack) -> None:
    """Begin a stack of images that are there."""
    stack.compose("up", "--detach", "--no-build")


@contextmanager
def open_stack(
    engine: Engine,
    images: Images,
    files: tuple[str, ...],
    replicas: tuple[str, ...],
    begin: Callable[[Stack], object] = started,
) -> Iterator[Stack]:
    """Start compose files; `replicas` are those of the API. Nothing of them is left afterwards."""
    name = "stack"
    owner = engine.workspace.owner.replace(".", "-")
    port = free_port()
    environment = os.environ | {
        "DOCKER_HOST": engine.host,
        "DOCKER_SOCKET": engine.host.removeprefix("unix://"),
        "REGISTRY_IMAGE": engine.scripted_registry_image(),
        "REGISTRY_CONTAINER": f"{name}-registry-{owner}",
        "REGISTRY_PORT": str(free_port()),
        "REGISTRY_ADMIN_IMAGE": images.service,
        "REGISTRY_ADMIN_PORT": str(port),
        "HAPROXY_IMAGE": images.beside,
        "CADDY_IMAGE": images.beside,
        "REGISTRY_HOST": "localhost",
        "POSTGRES_IMAGE": images.beside,
        "POSTGRES_PASSWORD": "not4production",
        "HTTPS_ADDRESS": "127.0.0.1",
        "HTTPS_PORT": str(free_port()),
    }
    need("docker-compose", "docker-compose")
    url = f"http://127.0.0.1:{port}"
    folder = engine.workspace.folder("stack")
    with running(Stack(f"{name}-{owner}", files, environment, url, replicas, folder), begin) as one:
        yield one


@contextmanager
def running(stack: Stack, begin: Callable[[Stack], object]) -> Iterator[Stack]:
    """Begin a stack, wait until it is ready, and remove all of it afterwards."""
    try:
        begin(stack)
        wait_until(stack.ready, READY_SECONDS, f"{stack.files} are ready")
        yield stack
    finally:
        stack.compose("down", "--volumes", "--timeout", "3", "--remove-orphans")
