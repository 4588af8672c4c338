"""A registry, a recording proxy in front of it, and a service that knows the proxy alone."""

import contextlib
import itertools
import json
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import KW_ONLY, dataclass, field

from demo.images import Manifest, digest_of
from tests.e2e.bed.api import ZEROS, Asked
from tests.e2e.bed.proxy import Proxy, Seen
from tests.e2e.bed.registry import ACCEPT, MakeRegistry, RegistryClient, RunningRegistry
from tests.e2e.bed.service import MakeService, Service

REPOSITORIES = "docker/registry/v2/repositories"
NAMES = itertools.count(1)


@dataclass(frozen=True)
class Look:
    """A repository as the registry itself tells it: tags (None: dangling), manifests served."""

    tags: Mapping[str, str | None]
    manifests: frozenset[str]

    def without(self, tags: Iterable[str], manifests: Iterable[str] = ()) -> "Look":
        left = {tag: digest for tag, digest in self.tags.items() if tag not in set(tags)}
        return Look(left, self.manifests - set(manifests))


@dataclass
class Place:
    """A registry and a service for it, where tests work: each in a repository of its own."""

    registry: RegistryClient
    service: Asked
    known: dict[str, set[str]] = field(default_factory=dict)

    def fill(self, tags: Mapping[str, Manifest], *untagged: Manifest, repository: str = "") -> str:
        """Push content to a repository, a new one unless it is named; gives its name."""
        name = repository or f"case/{next(NAMES)}"
        with self.registry.pusher() as pusher:
            for manifest in untagged:
                pusher.push(name, manifest)
            for tag, manifest in tags.items():
                pusher.push(name, manifest, tag)
        digests = {one.digest for root in (*tags.values(), *untagged) for one in tree(root)}
        self.known.setdefault(name, set()).update(digests)
        return name

    def look(self, repository: str) -> Look:
        """Ask the registry for every tag, and every manifest that was ever pushed here."""
        known = self.known[repository]
        served = {one for one in known if self.registry.digest(repository, one) == one}
        return Look(self.registry.tags(repository), frozenset(served))

    def pull(self, repository: str, reference: str, *, absent: Iterable[str] = ()) -> None:
        """Fetch a manifest and all it needs as a client does, and check every byte."""
        headers = {"Accept": ACCEPT}
        answer = self.registry.ask(f"/v2/{repository}/manifests/{reference}", headers=headers)
        assert answer.status == 200, (repository, reference, answer.body)
        assert digest_of(answer.body) == answer.headers["docker-content-digest"]
        document = json.loads(answer.body)
        for child in document.get("manifests", ()):
            if child["digest"] not in set(absent):
                self.pull(repository, child["digest"], absent=absent)
        config = [document["config"]] if "config" in document else []
        for blob in [*config, *document.get("layers", ())]:
            found = self.registry.ask(f"/v2/{repository}/blobs/{blob['digest']}")
            assert (found.status, digest_of(found.body)) == (200, blob["digest"])


@dataclass
class Site(Place):
    """A place where is seen what the service sends, and what the registry stores."""

    registry: RunningRegistry
    service: Service
    _: KW_ONLY
    proxy: Proxy

    def dangle(self, repository: str, tag: str) -> None:
        """Take a tag's manifest away in the registry's storage, and leave the tag."""
        folder = self.registry.storage() / REPOSITORIES / repository / "_manifests"
        digest = (folder / "tags" / tag / "current/link").read_text()
        shutil.rmtree(folder / "revisions/sha256" / digest.removeprefix("sha256:"))

    def changes(self) -> list[Seen]:
        """What reached the registry that could change it: not the harmless question."""
        return [one for one in self.proxy.writes() if not is_probe(one)]

    @contextmanager
    def untouched(self, repository: str = "") -> Iterator[None]:
        """Hold that the block changes nothing, and sends nothing that could."""
        before = self.look(repository) if repository else None
        self.proxy.reset()
        yield
        assert self.changes() == []
        assert not repository or self.look(repository) == before


def is_probe(seen: Seen) -> bool:
    """Tell the deletion of what cannot be there, which shows whether deletion is enabled."""
    return seen.method == "DELETE" and seen.path.endswith(f"/manifests/{ZEROS}")


def tree(manifest: Manifest) -> Iterator[Manifest]:
    yield manifest
    for child in manifest.children:
        yield from tree(child)


@contextmanager
def open_site(make: MakeRegistry, serve: MakeService, **shape: object) -> Iterator[Site]:
    """Start all three; the shape is the registry's."""
    registry = make(**shape)
    with contextlib.closing(Proxy(registry.url, registry.context())) as proxy:
        yield Site(registry, serve(registry, url=proxy.url), proxy=proxy)
