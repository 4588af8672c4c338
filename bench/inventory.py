"""All tags with digest, date and size: by a plain loop at the registry, and by the API."""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import chain
from typing import Any
from urllib.parse import quote

from bench.connection import Connection, UnexpectedAnswer
from bench.parts import REGISTRY, Service
from demo.images import DOCKER, OCI, digest_of

ACCEPT = {"Accept": f"{DOCKER.manifest}, {DOCKER.index}, {OCI.manifest}, {OCI.index}"}
PAGE = 1000


@dataclass(frozen=True, order=True)
class Row:
    """One line of an inventory; ``size`` in bytes, each blob once."""

    repository: str
    tag: str
    digest: str
    created: str | None
    size: int


class PlainLoop:
    """The fewest requests, one after the other, and what has to be made of the answers.

    A page of the catalog, the tags of each repository, the manifest of each tag, and once each
    child of an index and each config.
    """

    def __init__(self, url: str) -> None:
        """Ask the registry at ``url``."""
        self._registry = Connection(url, ACCEPT)
        self._children: dict[str, bytes] = {}
        self._dates: dict[str, str | None] = {}

    def run(self) -> list[Row]:
        """Return every tag, sorted."""
        with self._registry:
            return sorted(self._row(name, tag) for name, tag in tags(self._registry))

    def _row(self, name: str, tag: str) -> Row:
        _, body = self._registry.ask("GET", f"/v2/{name}/manifests/{tag}")
        digest = digest_of(body)
        manifests = list(self._with_children(name, body))
        blobs = [blob for one in manifests for blob in blobs_of(one)]
        sizes = {blob["digest"]: blob["size"] for blob in blobs}
        dates = [self._date(name, one["config"]) for one in manifests if "config" in one]
        own = sum(one["size"] for one in manifests)
        created = max((date for date in dates if date), default=None)
        return Row(name, tag, digest, created, own + sum(sizes.values()))

    def _with_children(self, name: str, body: bytes) -> Iterator[dict[str, Any]]:
        document = json.loads(body)
        yield document | {"size": len(body)}
        for child in document.get("manifests", ()):
            yield from self._with_children(name, self._child(name, child["digest"]))

    def _child(self, name: str, digest: str) -> bytes:
        if digest not in self._children:
            self._children[digest] = self._by_digest(f"/v2/{name}/manifests/", digest)
        return self._children[digest]

    def _date(self, name: str, config: Mapping[str, Any]) -> str | None:
        digest = config["digest"]
        if digest not in self._dates:
            document = json.loads(self._by_digest(f"/v2/{name}/blobs/", digest))
            self._dates[digest] = document.get("created")
        return self._dates[digest]

    def _by_digest(self, path: str, digest: str) -> bytes:
        _, body = self._registry.ask("GET", path + digest)
        if hashlib.sha256(body).hexdigest() != digest.removeprefix("sha256:"):
            raise UnexpectedAnswer(f"{path}{digest} has other bytes")
        return body


def blobs_of(manifest: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """Yield config and layers."""
    if "config" in manifest:
        yield manifest["config"]
        yield from manifest["layers"]


def heads(url: str) -> dict[tuple[str, str], str]:
    """Ask by HEAD, one after the other, where every tag points: the least a repetition takes."""
    found = {}
    with Connection(url, ACCEPT) as registry:
        for name, tag in tags(registry):
            answer, _ = registry.ask("HEAD", f"/v2/{name}/manifests/{tag}")
            found[name, tag] = answer.headers["Docker-Content-Digest"]
    return found


def tags(registry: Connection) -> Iterator[tuple[str, str]]:
    """Yield every repository with every tag."""
    for name in repositories(registry):
        for tag in registry.get(f"/v2/{name}/tags/list")["tags"] or ():
            yield name, tag


def repositories(registry: Connection) -> Iterator[str]:
    """Yield the catalog, page by page."""
    path: str | None = f"/v2/_catalog?n={PAGE}"
    while path:
        answer, body = registry.ask("GET", path)
        yield from json.loads(body)["repositories"]
        path = registry.linked(answer, path)


class Api:
    """The same by the service: pages of repositories, then pages of tags in detail."""

    def __init__(self, service: Service, connections: int) -> None:
        """Ask ``connections`` repositories at a time."""
        headers = {"Authorization": f"Bearer {service.token}"}
        self._connections = [Connection(service.url, headers) for _ in range(connections)]

    def run(self) -> list[Row]:
        """Return every tag, sorted."""
        names = [item["name"] for item in pages(self._connections[0], repositories_path())]
        waiting = iter(names)  # handed out under the interpreter's lock
        with ThreadPoolExecutor(len(self._connections)) as pool:
            parts = pool.map(lambda one: self._rows(one, waiting), self._connections)
            return sorted(chain.from_iterable(parts))

    def _rows(self, connection: Connection, names: Iterator[str]) -> Sequence[Row]:
        with connection:
            return [row for name in names for row in rows(connection, name)]


def rows(connection: Connection, name: str) -> Iterator[Row]:
    """Yield the tags of one repository."""
    for item in pages(connection, f"{tags_path(name)}?detail=true&n={PAGE}"):
        yield Row(name, item["name"], item["digest"], item["created"], item["size"])


def pages(connection: Connection, path: str | None) -> Iterator[dict[str, Any]]:
    """Yield the items of a list, page by page."""
    while path:
        page = connection.get(path)
        yield from page["items"]
        path = page["next"]


def repositories_path() -> str:
    """Return the path of the list of repositories."""
    return f"/v1/registries/{REGISTRY}/repositories?n={PAGE}"


def tags_path(name: str) -> str:
    """Return the path of a repository's tags."""
    return f"/v1/registries/{REGISTRY}/repositories/{quote(name)}/-/tags"
