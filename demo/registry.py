"""A registry for the demonstration: Debian's program, else a container."""

import contextlib
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import docker
from docker.errors import APIError, DockerException, ImageNotFound, NotFound
from docker.models.containers import Container

from demo.processes import Child, free_port

PROGRAM = "docker-registry"
PORT = 5000  # when it is free
CONTAINER = "registry-admin-demo"
IMAGES = ("registry:2", "registry:3")
GONE_SECONDS = 10  # a container is missing for a moment while it is recreated
CHECK_SECONDS = 2

NEITHER = f"""\
There is no registry to demonstrate with. Either
  - name your own:            REGISTRY_ADMIN_REGISTRY_URL=http://registry.example:5000 make run
  - install Debian's program: apt-get install {PROGRAM}
  - or start a Docker engine that this user may use (%s)."""

CONFIG = """\
version: 0.1
log:
  level: warn
storage:
  cache:
    blobdescriptor: inmemory
  filesystem:
    rootdirectory: {storage}
  delete:
    enabled: true
http:
  addr: 127.0.0.1:{port}
"""


class NoRegistryError(Exception):
    """Nothing on this machine can be the registry; the text says what to install."""


class DemoRegistry(Protocol):
    """A registry of the demonstration, from `start` to `stop`."""

    container: str | None

    def start(self) -> str:
        """Start it on 127.0.0.1, without waiting until it answers; gives its URL."""

    def problem(self) -> str | None:
        """Say why it no longer runs; None while it does."""

    def stop(self) -> None:
        """End it and remove what it left, whether or not it still runs."""


class ProgramRegistry:
    """Debian's docker-registry as a child process, with its files in a folder."""

    container: str | None = None

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.child: Child | None = None

    def start(self) -> str:
        """Write its configuration and start it; gives its URL."""
        port = free_port(PORT)
        config = self.folder / "registry.yml"
        config.write_text(CONFIG.format(storage=self.folder / "registry", port=port))
        self.child = Child([PROGRAM, "serve", str(config)], self.folder / "registry.log")
        return f"http://127.0.0.1:{port}"

    def problem(self) -> str | None:
        """Say why it no longer runs; None while it does."""
        if self.child is None or self.child.is_running():
            return None
        return f"{PROGRAM} ended with {self.child.process.returncode}:\n{self.child.tail(10)}"

    def stop(self) -> None:
        """End the process."""
        if self.child is not None:
            self.child.stop()


class ContainerRegistry:
    """A container of the official image; `interrupted` ends a pull of it early."""

    container: str | None = CONTAINER

    def __init__(self, client: docker.DockerClient, interrupted: Callable[[], bool]) -> None:
        self.client = client
        self.interrupted = interrupted
        self.seen = time.monotonic()
        self.checked = self.seen

    def start(self) -> str:
        """Run it in the place of one that an earlier demonstration left; gives its URL."""
        image = self._image()
        self._remove()
        port = free_port(PORT)
        self.client.containers.run(
            image,
            name=CONTAINER,
            detach=True,
            environment={"REGISTRY_STORAGE_DELETE_ENABLED": "true"},
            ports={"5000/tcp": ("127.0.0.1", port)},
        )
        self.seen = time.monotonic()
        return f"http://127.0.0.1:{port}"

    def problem(self) -> str | None:
        """Say why it no longer runs; stopped is not gone: a collection stops it for a while."""
        now = time.monotonic()
        if now - self.checked > CHECK_SECONDS:
            self.checked = now
            if self._found():
                self.seen = now
        return f"the container {CONTAINER} is gone" if now - self.seen > GONE_SECONDS else None

    def stop(self) -> None:
        """Remove the container with its volume."""
        with contextlib.suppress(DockerException, OSError):
            self._remove()
        self.client.close()

    def _found(self) -> Container | None:
        with contextlib.suppress(DockerException, OSError):
            return self.client.containers.get(CONTAINER)
        return None

    def _remove(self) -> None:
        with contextlib.suppress(NotFound):
            self.client.containers.get(CONTAINER).remove(force=True, v=True)

    def _image(self) -> str:
        for name in IMAGES:
            with contextlib.suppress(ImageNotFound):
                self.client.images.get(name)
                return name
        return self._pulled()

    def _pulled(self) -> str:
        reason = ""
        for name in IMAGES:
            print(f"Pulling {name} ...", flush=True)
            repository, _, tag = name.partition(":")
            try:
                for _ in self.client.api.pull(repository, tag=tag, stream=True):
                    if self.interrupted():
                        raise KeyboardInterrupt
                self.client.images.get(name)
            except APIError as error:
                reason = str(error.explanation)
            else:
                return name
        raise NoRegistryError(NEITHER % f"this one cannot pull {' or '.join(IMAGES)}: {reason}")


def choose(folder: Path, interrupted: Callable[[], bool]) -> DemoRegistry:
    """Give the best kind this machine offers; raises NoRegistryError."""
    if shutil.which(PROGRAM):
        return ProgramRegistry(folder)
    try:
        client = docker.from_env(timeout=60, use_context=False)
    except (DockerException, OSError) as error:
        raise NoRegistryError(NEITHER % error) from error
    try:
        client.ping()
    except (DockerException, OSError) as error:
        client.close()
        raise NoRegistryError(NEITHER % error) from error
    return ContainerRegistry(client, interrupted)
