"""A Docker engine for the tests: the one given, else a private one that nobody else sees."""

import contextlib
import io
import os
import signal
import socket
import subprocess
import tarfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import docker
from docker.errors import DockerException, ImageNotFound
from docker.models.containers import Container
from docker.models.images import Image

from demo.processes import wait_until
from tests.e2e.bed.gate import Gate
from tests.e2e.bed.programs import need
from tests.e2e.bed.workspace import Child, Workspace, is_alive

GIVEN = "REGISTRY_ADMIN_TEST_DOCKER_HOST"
LABEL = "registry-admin-bed"  # holds the run that made a container, volume or network
IMAGES = "registry-admin-bed"  # repositories of what is built here, for one run each
START_SECONDS = 100  # an engine that was killed first puts away what was left
API_TIMEOUT = 300  # seconds: a volume of ten thousand images takes its time to go

REGISTRY_CONFIG = b"""\
version: 0.1
log:
  fields:
    service: registry
storage:
  cache:
    blobdescriptor: inmemory
  filesystem:
    rootdirectory: /var/lib/registry
http:
  addr: :5000
  headers:
    X-Content-Type-Options: [nosniff]
health:
  storagedriver:
    enabled: true
    interval: 10s
    threshold: 3
"""

REGISTRY_CHANGES = (
    "VOLUME /var/lib/registry",
    "EXPOSE 5000",
    'ENTRYPOINT ["/bin/registry"]',
    'CMD ["serve", "/etc/docker/registry/config.yml"]',
)
ODD_REGISTRY = b"""\
#!/bin/sh
if [ "$1" = garbage-collect ] && [ -e /bed/collect ]; then . /bed/collect; fi
exec /bin/real-registry "$@"
"""

ENTRYPOINT = b"""\
#!/bin/sh
case $1 in
    *.yml) exec registry serve "$@" ;;
    serve | garbage-collect) exec registry "$@" ;;
esac
exec "$@"
"""
SCRIPTED_CHANGES = (
    *REGISTRY_CHANGES[:2],
    "ENV OTEL_TRACES_EXPORTER=none",
    'ENTRYPOINT ["/entrypoint.sh"]',
    'CMD ["/etc/distribution/config.yml"]',
)


class Engine:
    """An engine with the images that the bed builds; `host` is what DOCKER_HOST would hold."""

    def __init__(self, workspace: Workspace, host: str, daemon: Child | None = None) -> None:
        self.workspace = workspace
        self.host = host
        self.daemon = daemon
        self.labels = {LABEL: workspace.owner}
        self.busybox = f"{IMAGES}/busybox:1-{workspace.owner}"
        self.odd_registry = f"{IMAGES}/odd-registry:1-{workspace.owner}"
        self.scripted_registry = f"{IMAGES}/scripted-registry:1-{workspace.owner}"
        self.alone = f"{IMAGES}/alone:1-{workspace.owner}"
        self.registry = f"{IMAGES}/registry:2.8.2-{workspace.owner}"
        self.client = docker.DockerClient(base_url=host, timeout=API_TIMEOUT)
        self.gates: dict[str, Gate] = {}

    def gate(self, profile: str = "with-recreation") -> str:
        """Give the URL of a socket proxy in front of it, with the rules of a profile."""
        if profile not in self.gates:
            self.gates[profile] = Gate(self.workspace, self.host, profile)
        return self.gates[profile].url

    def registry_image(self, name: str) -> str:
        """See to it that the image is on the engine; "built" names the one made of Debian's."""
        if name == "built":
            return self.registry if self._has(self.registry) else self._import_registry()
        if not self._has(name):
            self.client.images.pull(name)
        return name

    def busybox_image(self) -> str:
        """Give the name of a small image that runs `/bin/sh` and busybox's commands."""
        return self.busybox if self._has(self.busybox) else self._import_busybox()

    def odd_registry_image(self) -> str:
        """Give the name of a registry's image with a shell, which collects as `/bed/collect` says.

        Where that script ends without an exit, the registry collects as usual.
        """
        if not self._has(self.odd_registry):
            self._import_odd_registry()
        return self.odd_registry

    def scripted_registry_image(self) -> str:
        """Give the name of a registry's image that is laid out as the official one of 3.x."""
        if not self._has(self.scripted_registry):
            files = registry_files("bin/registry", "etc/distribution/config.yml")
            files |= {"bin/busybox": need("busybox", "busybox-static"), "entrypoint.sh": ENTRYPOINT}
            self.load(pack(files, applets()), self.scripted_registry, *SCRIPTED_CHANGES)
        return self.scripted_registry

    def alone_image(self) -> str:
        """Give the name of an image that holds `/sleep` and nothing else."""
        if not self._has(self.alone):
            self.load(pack({"sleep": need("busybox", "busybox-static")}, {}), self.alone)
        return self.alone

    def prove(self) -> None:
        """Run a container: some machines start an engine that can't. Raises DockerException."""
        run = {"network_mode": "none", "remove": True, "labels": self.labels}
        self.client.containers.run(self.busybox_image(), ["true"], **run)  # type: ignore[call-overload]

    def load(self, archive: bytes, repository: str, *changes: str) -> Image:
        """Import a root file system (a tar) as an image, with Dockerfile instructions."""
        name, _, tag = repository.partition(":")
        self.client.api.import_image_from_data(
            archive, repository=name, tag=tag or "latest", changes=list(changes)
        )
        return self.client.images.get(repository)

    def content(self, container: Container, path: str) -> bytes:
        """Read a file of a container."""
        pieces, _ = container.get_archive(path)
        with tarfile.open(fileobj=io.BytesIO(b"".join(pieces))) as archive:
            member = archive.extractfile(archive.next() or path)
            assert member is not None
            return member.read()

    def restart(self) -> None:
        """End the private engine with SIGKILL and start it anew, as after a crash."""
        if self.daemon is None:
            raise RuntimeError("a given engine is not ours to kill")
        self.daemon.kill()
        home = Path(self.host.removeprefix("unix://")).parent
        for stale in (home / "pid", home / "exec" / "containerd" / "containerd.pid"):
            stale.unlink(missing_ok=True)
        self.daemon = launch(self.workspace, home, "")

    def close(self) -> None:
        """Remove what the run made on the engine, and end it when it is private."""
        with contextlib.suppress(DockerException, OSError):
            clear(self.client, self.workspace.owner)
        self.client.close()
        for gate in self.gates.values():
            gate.child.stop()
        if self.daemon is not None:
            self.daemon.stop(signal.SIGTERM, 30)

    def _has(self, name: str) -> bool:
        with contextlib.suppress(ImageNotFound):
            return bool(self.client.images.get(name))
        return False

    def _import_busybox(self) -> str:
        files = {"bin/busybox": need("busybox", "busybox-static"), "tmp/": None}
        self.load(pack(files, applets()), self.busybox, 'CMD ["sh"]')
        return self.busybox

    def _import_odd_registry(self) -> None:
        files = registry_files("bin/real-registry")
        files |= {"bin/busybox": need("busybox", "busybox-static"), "bin/registry": ODD_REGISTRY}
        self.load(pack(files, applets()), self.odd_registry, *REGISTRY_CHANGES)

    def _import_registry(self) -> str:
        self.load(pack(registry_files("bin/registry"), {}), self.registry, *REGISTRY_CHANGES)
        return self.registry


def registry_files(
    place: str, config: str = "etc/docker/registry/config.yml"
) -> dict[str, Path | bytes | None]:
    """Give the files of a registry's image, with its program and configuration at a place."""
    program = need("docker-registry", "docker-registry")
    files: dict[str, Path | bytes | None] = {place: program, config: REGISTRY_CONFIG}
    return files | {str(path).lstrip("/"): path for path in libraries(program)}


def applets() -> dict[str, str]:
    """Give the links to busybox that are its commands."""
    listed = subprocess.run(["busybox", "--list"], capture_output=True, text=True, check=True)
    return {f"bin/{name}": "busybox" for name in listed.stdout.split() if name != "busybox"}


def open_engine(workspace: Workspace) -> Engine:
    """Give the engine of the environment, cleared of dead runs' things, or start a private one."""
    given = os.environ.get(GIVEN)
    if given:
        engine = Engine(workspace, given)
        clear_dead(engine.client)
        return engine
    try:
        return start_private(workspace)
    except (DockerException, TimeoutError):
        return start_private(workspace, "vfs")  # slower, and runs where overlay can't


def start_private(workspace: Workspace, driver: str = "") -> Engine:
    home = workspace.folder("engine")
    daemon = launch(workspace, home, driver)
    engine = Engine(workspace, f"unix://{home}/docker.sock", daemon)
    try:
        engine.prove()
    except DockerException:
        engine.close()
        raise
    return engine


def launch(workspace: Workspace, home: Path, driver: str) -> Child:
    """Start dockerd, without a bridge, firewall rules or the machine's settings."""
    need("dockerd", "docker.io")
    (home / "daemon.json").write_text("{}")
    argv = ["dockerd", "--config-file", f"{home}/daemon.json", "--bridge=none"]
    argv += ["--iptables=false", "--ip6tables=false", "--data-root", f"{home}/root"]
    argv += ["--exec-root", f"{home}/exec", "-H", f"unix://{home}/docker.sock"]
    argv += ["--pidfile", f"{home}/pid", *([f"--storage-driver={driver}"] if driver else [])]
    daemon = Child(workspace, argv, home / "log")
    try:
        wait_until(
            lambda: answers(home) or not daemon.is_running(), START_SECONDS, "dockerd answers"
        )
    finally:
        if not answers(home):
            daemon.stop()
    if not daemon.is_running():
        raise DockerException(f"dockerd ended:\n{daemon.tail()}")
    return daemon


def answers(home: Path) -> bool:
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(5)
        connection.connect(f"{home}/docker.sock")
        connection.sendall(b"GET /_ping HTTP/1.0\r\n\r\n")
        return b" 200 " in connection.recv(64)
    return False


def clear(client: docker.DockerClient, owner: str) -> None:
    """Remove the containers, volumes, networks and images that a run made."""
    mine: dict[str, str | list[str] | bool] = {"label": f"{LABEL}={owner}"}
    for container in client.containers.list(all=True, filters=mine):
        container.remove(force=True, v=True)
    for volume in client.volumes.list(filters=mine):
        volume.remove(force=True)
    for network in client.networks.list(filters=mine):
        network.remove()
    for tag in built(client):
        if image_owner(tag) == owner:
            client.images.remove(tag)


def clear_dead(client: docker.DockerClient) -> None:
    """Remove what runs left on a given engine that were killed."""
    containers = client.containers.list(all=True, filters={"label": LABEL})
    volumes = client.volumes.list(filters={"label": LABEL})
    owners = {one.labels[LABEL] for one in containers}
    owners |= {one.attrs["Labels"][LABEL] for one in volumes}
    owners |= {image_owner(tag) for tag in built(client)}
    for owner in owners:
        if not is_alive(owner):
            clear(client, owner)


def built(client: docker.DockerClient) -> list[str]:
    found = client.images.list(filters={"reference": f"{IMAGES}/*"})
    return [tag for one in found for tag in one.tags if tag.startswith(f"{IMAGES}/")]


def image_owner(tag: str) -> str:
    return tag.partition(":")[2].partition("-")[2]


def libraries(program: Path) -> Iterator[Path]:
    """List the shared libraries and the loader that a program needs."""
    listed = subprocess.run(["ldd", str(program)], capture_output=True, text=True, check=False)
    for word in listed.stdout.split():
        if word.startswith("/"):
            yield Path(word)


def pack(files: Mapping[str, Path | bytes | None], links: Mapping[str, str]) -> bytes:
    """Make a tar of files (a path's content, or bytes; None is a folder) and symbolic links."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, source in files.items():
            entry = tarfile.TarInfo(name)
            entry.mode = 0o755
            content = source.read_bytes() if isinstance(source, Path) else source or b""
            entry.size = len(content)
            entry.type = tarfile.DIRTYPE if source is None else tarfile.REGTYPE
            archive.addfile(entry, io.BytesIO(content))
        for name, target in links.items():
            entry = tarfile.TarInfo(name)
            entry.type, entry.linkname = tarfile.SYMTYPE, target
            archive.addfile(entry)
    return buffer.getvalue()
