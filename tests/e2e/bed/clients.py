"""Real clients as a person would run them: skopeo, and the docker command on the bed's engine."""

import json
import os
import re
import subprocess
from pathlib import Path
from typing import Any

from tests.e2e.bed.engine import Engine
from tests.e2e.bed.programs import need
from tests.e2e.bed.registry import RunningRegistry

LIMIT = 100  # seconds that a client may take

Place = str | tuple[RunningRegistry, str]  # skopeo's own name, or ours: (registry, "app:1")


def skopeo(*arguments: str) -> bytes:
    """Run skopeo and give its output; raises CalledProcessError with stderr as a note."""
    need("skopeo", "skopeo")
    return run(["skopeo", "--insecure-policy", *arguments], dict(os.environ))


def skopeo_copy(source: Place, target: Place, *options: str) -> None:
    """Copy an image; `--all` copies an index with all its children."""
    sides = [*access(source, "src-"), *access(target, "dest-")]
    skopeo("copy", "--quiet", *sides, *options, place(source), place(target))


def skopeo_inspect(source: Place, *options: str) -> dict[str, Any]:
    """Give what skopeo says of an image; `--raw` gives the manifest, `--config` the config."""
    found: dict[str, Any] = json.loads(
        skopeo("inspect", *access(source, ""), *options, place(source))
    )
    return found


def place(where: Place) -> str:
    return where if isinstance(where, str) else f"docker://{where[0].host}/{where[1]}"


def access(where: Place, side: str) -> list[str]:
    """Say how to reach a registry; `side` is what the options begin with."""
    if isinstance(where, str):
        return []
    registry = where[0]
    flags = [f"--{side}tls-verify={'true' if registry.ca_file else 'false'}"]
    if registry.ca_file:
        flags.append(f"--{side}cert-dir={registry.ca_file.parent}")
    if registry.credentials:
        flags.append(f"--{side}creds={':'.join(registry.credentials)}")
    return flags


class DockerCommand:
    """The docker command on an engine, with a configuration of its own."""

    def __init__(self, engine: Engine) -> None:
        need("docker", "docker.io")
        self.config = engine.workspace.folder("docker-config")
        self.environment = os.environ | {
            "DOCKER_HOST": engine.host,
            "DOCKER_CONFIG": str(self.config),
        }

    def __call__(self, *arguments: str, stdin: str = "") -> str:
        return run(["docker", *arguments], self.environment, stdin).decode()

    def push(self, image: str, registry: RunningRegistry, reference: str) -> str:
        """Tag an image of the engine, push it, drop the extra tag; gives the digest."""
        name = f"{registry.host}/{reference}"
        self.login(registry)
        self("tag", image, name)
        said = self("push", name)
        self("rmi", name)
        found = re.search(r"digest: (sha256:[0-9a-f]{64})", said)
        assert found, said
        return found[1]

    def pull(self, registry: RunningRegistry, reference: str) -> str:
        """Pull an image; gives its id on the engine. Its name there is the whole reference."""
        name = f"{registry.host}/{reference}"
        self.login(registry)
        self("pull", "--quiet", name)
        return self("image", "inspect", "--format", "{{.Id}}", name).strip()

    def login(self, registry: RunningRegistry) -> None:
        if registry.credentials:
            user, password = registry.credentials
            self("login", "-u", user, "--password-stdin", registry.host, stdin=password)


def run(argv: list[str], environment: dict[str, str], stdin: str = "") -> bytes:
    """Run to the end, within a time; a failure says what the program said."""
    ended = subprocess.run(
        argv, env=environment, input=stdin.encode(), capture_output=True, timeout=LIMIT, check=False
    )
    if ended.returncode:
        error = subprocess.CalledProcessError(ended.returncode, argv, ended.stdout, ended.stderr)
        error.add_note(ended.stderr.decode(errors="replace"))
        raise error
    return ended.stdout


def layout(folder: Path, name: str = "") -> str:
    """Name an OCI layout for skopeo."""
    return f"oci:{folder}{':' + name if name else ''}"
