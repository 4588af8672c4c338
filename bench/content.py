"""What the registry is filled with: the same content each time, so that runs can be compared."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from demo import images
from demo.images import AMD64, ARM64, ARM_V7, DOCKER, OCI, Flavour, Layer, Manifest, Platform

PLATFORMS = (AMD64, ARM64, ARM_V7)
EXTRA = ("latest", "stable", "1", "1.0")
"""Further names of images that have one already."""

TAGS_PER_INDEX = 20
EVERYWHERE = 2
"""Images of each repository that are the same in all of them, as a common side-car is."""

STACK = ("ADD rootfs.tar /", "RUN apt-get install runtime", "RUN useradd app", "COPY lib /lib")
SETTINGS: Mapping[str, Any] = {
    "User": "1000:1000",
    "Env": ["PATH=/usr/local/bin:/usr/bin:/bin", "LANG=C.UTF-8", "TZ=UTC"],
    "Entrypoint": ["/usr/bin/app"],
    "Cmd": ["--listen", "0.0.0.0:8080"],
    "WorkingDir": "/srv",
    "ExposedPorts": {"8080/tcp": {}, "9090/tcp": {}},
}


@dataclass(frozen=True)
class Pushed:
    """A manifest and all its tags in one repository."""

    manifest: Manifest
    tags: tuple[str, ...]


@dataclass(frozen=True)
class Catalog:
    """So many repositories of so many tags each."""

    repositories: int = 200
    tags: int = 20

    def names(self) -> Sequence[str]:
        """Give the repositories' names, some of two components."""
        groups = ("library", "platform", "team-a/web", "team-b/jobs")
        return [f"{groups[n % len(groups)]}/app-{n:04d}" for n in range(self.repositories)]

    def content(self, name: str) -> Iterator[Pushed]:
        """Give what a repository holds: of 20 tags, 16 images of which one is multi-arch."""
        extra = min(len(EXTRA), self.tags // 5)
        for n in range(self.tags - extra):
            names = (f"1.0.{n}", EXTRA[n]) if n < extra else (f"1.0.{n}",)
            yield Pushed(self._manifest(name, n, extra), names)

    def _manifest(self, name: str, n: int, extra: int) -> Manifest:
        flavour = (OCI, DOCKER)[(len(name) + int(name[-1]) + n) % 2]
        if n % TAGS_PER_INDEX == extra:
            children = [image(f"{name}:{n}", flavour, platform) for platform in PLATFORMS]
            return images.index(children, flavour=flavour)
        if extra < n <= extra + EVERYWHERE:
            return image(f"side-car:{n}", (OCI, DOCKER)[n % 2])
        return image(f"{name}:{n}", flavour)


def image(text: str, flavour: Flavour, platform: Platform = AMD64) -> Manifest:
    """Build an image of five layers, four of which all images of its platform have."""
    own = shared_layer(f"COPY {text.partition(':')[0]} /srv", platform)
    day = 1 + sum(text.encode()) % 28
    labels = {"org.opencontainers.image.title": text, "org.opencontainers.image.vendor": "bench"}
    return images.image(
        [*(shared_layer(step, platform) for step in STACK), own],
        flavour=flavour,
        platform=platform,
        created=f"2024-05-{day:02d}T12:00:00.123456789Z",
        settings={**SETTINGS, "Labels": labels},
    )


@cache
def shared_layer(step: str, platform: Platform) -> Layer:
    """Give the layer of a step; the same one each time."""
    text = f"{step} for {platform.architecture}\n".encode()
    return images.layer({"layer.txt": text}, created_by=step)


def many(tags: int, manifests: int) -> Iterator[Pushed]:
    """Give the content of one repository with very many tags, several on each manifest."""
    for n in range(manifests):
        names = tuple(f"build-{tag:06d}" for tag in range(n, tags, manifests))
        yield Pushed(image(f"many:{n}", (OCI, DOCKER)[n % 2]), names)
