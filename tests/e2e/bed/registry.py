"""Registries in any shape: real containers on the bed's engine, on 127.0.0.1."""

import contextlib
import itertools
import json
import re
import shutil
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, cast
from urllib.parse import urljoin

import bcrypt
from docker.errors import NotFound
from docker.models.containers import Container
from docker.types import Mount

from demo.images import DOCKER, OCI, Pusher
from demo.processes import free_port, wait_until
from tests.e2e.bed.certificates import Authority, Pair
from tests.e2e.bed.engine import Engine
from tests.e2e.bed.http import Answer, ask

ACCEPT = f"{DOCKER.manifest}, {DOCKER.index}, {OCI.manifest}, {OCI.index}"
ROOT = "/var/lib/registry"
COUNT = itertools.count(1)

# The registry refuses manifests with foreign layers unless their URLs are allowed.
FOREIGN_LAYERS = {"REGISTRY_VALIDATION_MANIFESTS_URLS_ALLOW": '["^https?://"]'}


@dataclass(frozen=True)
class Shape:
    """What a registry is started as."""

    delete: bool = True
    read_only: bool = False
    htpasswd: tuple[str, str] | None = None
    tls: bool | Literal["client"] = False
    address: str = "127.0.0.1"
    env: Mapping[str, str] = field(default_factory=dict)
    root: str = ROOT  # where it stores, in its volume
    config: bytes | None = None  # a configuration that is mounted
    run: Mapping[str, Any] = field(default_factory=dict)  # more arguments of the engine's create


@dataclass(frozen=True)
class Collected:
    """What `registry garbage-collect` said."""

    exit_code: int
    stdout: str
    stderr: str


class RegistryClient:
    """What a test asks of a registry itself, whoever runs it."""

    url: str
    credentials: tuple[str, str] | None = None

    def ask(self, path: str, method: str = "GET", **options: Any) -> Answer:  # noqa: ANN401
        """Send one request, with the registry's credentials and certificates."""
        options = {"credentials": self.credentials, "context": self.context()} | options
        return ask(urljoin(self.url, path), method, **options)

    def context(self) -> ssl.SSLContext | None:
        """Give whom to trust; none on plain HTTP."""
        return None

    def pusher(self) -> Pusher:
        """Make a pusher for it; close it after, or use it in a `with`."""
        return Pusher(self.url, self.credentials)

    def snapshot(self) -> dict[str, dict[str, str | None]]:
        """Give `{repository: {tag: digest}}`, None for a tag whose manifest is gone."""
        return {name: self.tags(name) for name in self.repositories()}

    def repositories(self) -> list[str]:
        found: list[str] = []
        path: str | None = "/v2/_catalog?n=1000"
        while path:
            answer = self.ask(path)
            found += answer.json()["repositories"] or []
            link = re.match(r'<([^>]+)>; *rel="next"', answer.headers.get("link", ""))
            path = link[1] if link else None
        return found

    def tags(self, repository: str) -> dict[str, str | None]:
        answer = self.ask(f"/v2/{repository}/tags/list")
        names = answer.json().get("tags") or []
        return {name: self.digest(repository, name) for name in names}

    def digest(self, repository: str, reference: str) -> str | None:
        """Give the digest a reference resolves to, None when it doesn't."""
        headers = {"Accept": ACCEPT}
        answer = self.ask(f"/v2/{repository}/manifests/{reference}", "HEAD", headers=headers)
        return answer.headers.get("docker-content-digest")


class RunningRegistry(RegistryClient):
    """A registry container that answers, and what a test needs to know of it."""

    def __init__(self, engine: Engine, image: str, shape: Shape) -> None:
        self.engine = engine
        self.shape = shape
        self.image = image
        self.port = free_port()
        self.host = f"{shape.address}:{self.port}"
        self.url = f"{'https' if shape.tls else 'http'}://{self.host}"
        self.name = f"bed-{engine.workspace.owner}-{next(COUNT)}"
        self.credentials = shape.htpasswd
        self.folder = engine.workspace.folder("registry")  # mounted into the container
        self.authority = Authority(self.folder) if shape.tls else None
        self.ca_file = self.authority.ca_file if self.authority else None
        self.client_pair = self._client_pair()
        self.volume = engine.client.volumes.create(self.name, labels=engine.labels).name
        self._create()

    @property
    def container(self) -> Container:
        """The container as it now is: another one may have taken the name."""
        return self.engine.client.containers.get(self.name)

    @property
    def id(self) -> str:
        return str(self.container.id)

    def storage(self) -> Path:
        """Where this machine sees what the registry stores."""
        volume = self.engine.client.volumes.get(str(self.volume))
        return Path(volume.attrs["Mountpoint"]) / self.shape.root.removeprefix(ROOT).lstrip("/")

    def blob_path(self, digest: str) -> Path:
        """Where a blob's (or manifest's) bytes are on this machine."""
        digits = digest.removeprefix("sha256:")
        blobs = self.storage() / "docker/registry/v2/blobs/sha256"
        return blobs / digits[:2] / digits / "data"

    def start(self) -> None:
        """Start the container and wait until the registry answers."""
        self.container.start()
        self.wait()

    def restart(self) -> None:
        self.container.restart(timeout=5)
        self.wait()

    def stop(self) -> None:
        self.container.stop(timeout=5)

    def remove(self) -> None:
        """Remove the container, its volumes and its folder."""
        with contextlib.suppress(NotFound):
            self.container.remove(force=True, v=True)
        # A service that was stopped in the middle of a collection leaves what stands in for it.
        for left in self.engine.client.containers.list(all=True, filters={"volume": self.volume}):
            left.remove(force=True)
        self.engine.client.volumes.get(str(self.volume)).remove(force=True)
        shutil.rmtree(self.folder)

    def wait(self) -> None:
        """Wait until it answers anything; its log tells why when it doesn't."""
        try:
            wait_until(self._answers, 20, f"{self.url} answers")
        except TimeoutError as error:
            error.add_note(self.container.logs(tail=20).decode())
            raise

    def context(self) -> ssl.SSLContext | None:
        return self.authority.trust(self.client_pair) if self.authority else None

    def pusher(self) -> Pusher:
        pair = self.client_pair
        cert = (str(pair.certificate), str(pair.key)) if pair else None
        return Pusher(self.url, self.credentials, str(self.ca_file) if self.ca_file else True, cert)

    def garbage_collect(self, *, dry_run: bool = False, delete_untagged: bool = False) -> Collected:
        """Run the registry's own collection in the container; the caller restarts it."""
        config = self.container.attrs["Config"]["Cmd"][-1]
        flags = ["--dry-run"] * dry_run + ["--delete-untagged"] * delete_untagged
        command = ["registry", "garbage-collect", *flags, config]
        ended = self.container.exec_run(command, demux=True)
        stdout, stderr = cast("tuple[bytes | None, bytes | None]", ended.output)
        code = -1 if ended.exit_code is None else ended.exit_code
        return Collected(code, (stdout or b"").decode(), (stderr or b"").decode())

    def _answers(self) -> bool:
        with contextlib.suppress(OSError):
            return self.ask("/v2/", timeout=5).status > 0
        return False

    def _client_pair(self) -> Pair | None:
        wanted = self.authority is not None and self.shape.tls == "client"
        return self.authority.client() if self.authority and wanted else None

    def _create(self) -> None:
        options: dict[str, Any] = {"network_mode": "host", "labels": self.engine.labels}
        if self.shape.config is not None:
            (self.folder / "config.yml").write_bytes(self.shape.config)
            options["command"] = ["serve", "/bed/config.yml"]
        options |= self.shape.run
        mounts = [
            Mount(ROOT, self.volume, type="volume"),
            Mount("/bed", str(self.folder), type="bind", read_only=True),
        ]
        environment = self._environment() | dict(self.shape.env)
        self.engine.client.containers.create(
            self.image, name=self.name, environment=environment, mounts=mounts, **options
        )

    def _environment(self) -> dict[str, str]:
        found = {"REGISTRY_HTTP_ADDR": self.host, "OTEL_TRACES_EXPORTER": "none"}
        found["REGISTRY_STORAGE_DELETE_ENABLED"] = json.dumps(self.shape.delete)
        if self.shape.read_only:
            found["REGISTRY_STORAGE_MAINTENANCE_READONLY"] = '{"enabled":true}'
        if self.shape.root != ROOT:
            found["REGISTRY_STORAGE_FILESYSTEM_ROOTDIRECTORY"] = self.shape.root
        return found | self._auth_environment() | self._tls_environment()

    def _auth_environment(self) -> dict[str, str]:
        if self.shape.htpasswd is None:
            return {}
        user, password = self.shape.htpasswd
        hashed = bcrypt.hashpw(password.encode(), bcrypt.gensalt(rounds=4)).decode()
        (self.folder / "htpasswd").write_text(f"{user}:{hashed}\n")
        return {
            "REGISTRY_AUTH": "htpasswd",
            "REGISTRY_AUTH_HTPASSWD_REALM": "bed",
            "REGISTRY_AUTH_HTPASSWD_PATH": "/bed/htpasswd",
        }

    def _tls_environment(self) -> dict[str, str]:
        if self.authority is None:
            return {}
        pair = self.authority.server(self.shape.address)
        found = {
            "REGISTRY_HTTP_TLS_CERTIFICATE": f"/bed/{pair.certificate.name}",
            "REGISTRY_HTTP_TLS_KEY": f"/bed/{pair.key.name}",
        }
        asked = {"REGISTRY_HTTP_TLS_CLIENTCAS": '["/bed/ca.crt"]'}
        return found | (asked if self.shape.tls == "client" else {})


MakeRegistry = Callable[..., RunningRegistry]  # what the `registry` fixture is


def open_registry(
    engine: Engine, image: str, shape: Shape, seed: RunningRegistry | None = None
) -> RunningRegistry:
    """Start a registry; `seed` is one whose data it begins with, as a copy."""
    registry = RunningRegistry(engine, image, shape)
    if seed is not None:
        shutil.copytree(seed.storage(), registry.storage(), dirs_exist_ok=True)
    try:
        registry.start()
    except BaseException:
        registry.remove()
        raise
    return registry
