"""Many deletions lose nothing, many tags need little memory: some each time, all as a soak."""

from __future__ import annotations

import contextlib
import random
import re
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from demo import images
from demo.images import DOCKER, OCI, Manifest, Pusher, cosign_tag, fallback_tag, sample, signature
from tests.e2e.bed.api import at_once, delete, each_page, pages, repository_path, restore, tag_path
from tests.e2e.bed.registry import MakeRegistry, RunningRegistry
from tests.e2e.bed.service import MakeService, Service
from tests.e2e.bed.site import Site, open_site, tree
from tests.e2e.bed.workspace import family

HOURS = 3 * 3600  # seconds a soak may take on a slow machine
MEBIBYTE = 1024 * 1024
MEMORY = 250 * MEBIBYTE
REPOSITORY = "many/app"
REFERRER = re.compile(r"sha256-([0-9a-f]{64})(\.(sig|att|sbom))?")


@pytest.fixture
def site(registry: MakeRegistry, service: MakeService) -> Iterator[Site]:
    def serve(registry: RunningRegistry, **_: object) -> Service:
        # Not through the proxy, which would take longer than the registry.
        return service(registry)

    with open_site(registry, serve) as opened:
        opened.service.admin()
        yield opened


# A repository in which much depends on much.


@dataclass
class World:
    """Tags at random: on images, on shared ones, on indexes that share children, signed or not."""

    choice: random.Random
    tags: dict[str, Manifest] = field(default_factory=dict)

    def grow(self, size: int) -> dict[str, Manifest]:
        ways = [self.image, self.image, self.image, self.again, self.index, self.signed]
        ways += [self.referred, self.nested]
        self.image()
        while len(self.tags) < size:
            self.choice.choice(ways)()
        return self.tags

    def image(self) -> None:
        number = len(self.tags)
        made = sample(f"image {number}", flavour=self.choice.choice([OCI, DOCKER]))
        for twin in range(self.choice.choice([1, 1, 2, 3])):
            self.tags[f"v{number}.{twin}"] = made

    def again(self) -> None:
        self.tags[f"again{len(self.tags)}"] = self.some()

    def index(self) -> None:
        plain = [one for one in self.tags.values() if not one.children]
        children = self.choice.sample(plain, min(len(plain), self.choice.randint(1, 4)))
        fresh = sample(f"child {len(self.tags)}", platform=images.ARM64)
        self.tags[f"index{len(self.tags)}"] = images.index([*dict.fromkeys(children), fresh])

    def nested(self) -> None:
        self.tags[f"nested{len(self.tags)}"] = images.index([self.some(), self.some()])

    def signed(self) -> None:
        target = self.some()
        self.tags.setdefault(cosign_tag(target), signature(target))

    def referred(self) -> None:
        target = self.some()
        bill = images.artifact(f"about {target.digest}".encode(), subject=target)
        self.tags.setdefault(fallback_tag(target), images.referrers_index([bill]))

    def some(self) -> Manifest:
        return self.choice.choice(list(self.tags.values()))


def fill(site: Site, tags: Mapping[str, Manifest]) -> None:
    site.fill(tags, repository=REPOSITORY)


def lose_nothing(site: Site, size: int, deletions: int, look_each: int) -> str:
    """Delete at random, look independently, restore in another order, look again."""
    choice = random.Random(size)  # noqa: S311 - to be repeated, not to be secret
    tags = World(choice).grow(size)
    fill(site, tags)
    begun, before = time.monotonic(), site.look(REPOSITORY)
    assert before.tags == {tag: one.digest for tag, one in tags.items()}
    left, removed = dict(before.tags), list[Any]()
    for number in range(1, deletions + 1):
        removed.append(delete_one(site, choice, left))
        if number % look_each == 0:
            asked = {one["requested"]["tag"] for one in removed}
            assert_nothing_else_lost(site, tags, left, asked)
    deleted = time.monotonic()
    choice.shuffle(removed)
    for one in removed:
        restore(site.service, one)
    assert site.look(REPOSITORY) == before
    for tag in choice.sample(sorted(tags), 20):
        site.pull(REPOSITORY, tag)
    return told(size, removed, deleted - begun, time.monotonic() - deleted)


def told(size: int, removed: list[Any], deleting: float, restoring: float) -> str:
    tags = sum(len(one["tags_removed"]) for one in removed)
    manifests = sum(len(one["manifests_removed"]) for one in removed)
    return (
        f"{size} tags: {len(removed)} deletions took {tags} tags and {manifests} manifests "
        f"({deleting:.0f} s), 0 lost that were not asked for; all restored in another order "
        f"({restoring:.0f} s), the repository is what it was"
    )


def delete_one(site: Site, choice: random.Random, left: dict[str, str | None]) -> Any:  # noqa: ANN401 - JSON
    """Delete a tag, and strike out what the service says that went."""
    tag = choice.choice(sorted(left))
    found = delete(site.service, tag_path(REPOSITORY, tag))
    assert found["tags_removed"][0] == tag
    for other in found["tags_removed"]:
        assert other == tag or REFERRER.fullmatch(other), other
        del left[other]
    return found


def assert_nothing_else_lost(
    site: Site, tags: Mapping[str, Manifest], left: Mapping[str, str | None], asked: set[str]
) -> None:
    """Ask the registry itself: tags are where they were, and what they need is there.

    A tag that nobody asked away has only gone when it named the referrers of what has gone.
    """
    look = site.look(REPOSITORY)
    assert look.tags == left
    assert {one.digest for tag in left for one in tree(tags[tag])} <= look.manifests
    for tag in tags.keys() - left.keys() - asked:
        subject = REFERRER.fullmatch(tag)
        assert subject
        assert f"sha256:{subject[1]}" not in look.manifests


def test_deletions_at_random_lose_nothing(site: Site) -> None:
    lose_nothing(site, size=70, deletions=40, look_each=4)


@pytest.mark.soak
@pytest.mark.timeout(HOURS)
def test_a_thousand_deletions_at_random_lose_nothing(
    site: Site, capsys: pytest.CaptureFixture[str]
) -> None:
    found = lose_nothing(site, size=1500, deletions=1000, look_each=20)
    with capsys.disabled():
        print(f"\n{found}")  # noqa: T201 - what a soak has found is its product


# Memory.


@dataclass
class Memory:
    """The most that a service's processes took at once, in bytes: shared pages once, and each."""

    service: Service
    pss: int = 0
    rss: int = 0

    def look(self) -> None:
        assert self.service.child is not None
        pids = [int(name.partition("-")[0]) for name in family(self.service.child.pid)]
        self.pss = max(self.pss, sum(kilobytes(pid, "Pss") for pid in pids) * 1024)
        self.rss = max(self.rss, sum(kilobytes(pid, "Rss") for pid in pids) * 1024)

    @contextlib.contextmanager
    def watched(self) -> Iterator[None]:
        """Look again and again while the block runs."""
        ended = threading.Event()

        def watch() -> None:
            while not ended.wait(0.1):
                self.look()

        thread = threading.Thread(target=watch)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()

    def __str__(self) -> str:
        return f"PSS {self.pss / MEBIBYTE:.0f} MiB, RSS {self.rss / MEBIBYTE:.0f} MiB at most"


def kilobytes(pid: int, name: str) -> int:
    """Read a figure of a process's memory; nothing of one that has ended."""
    with contextlib.suppress(OSError):
        text = Path(f"/proc/{pid}/smaps_rollup").read_text()
        found = re.search(rf"^{name}: +(\d+) kB", text, re.MULTILINE)
        return int(found[1]) if found else 0
    return 0


def fill_with_images(site: Site, count: int) -> dict[str, str]:
    """Push so many different images, each under a tag of its own; gives their digests."""
    hands = 8
    parts = at_once(partial(push_share, site, range(hand, count, hands)) for hand in range(hands))
    return {tag: digest for part in parts for tag, digest in part.items()}


def push_share(site: Site, numbers: range) -> dict[str, str]:
    found = {}
    with Pusher(site.registry.url) as pusher:
        for number in numbers:
            settings = {"Labels": {"number": f"{number}"}}
            image = images.image([images.base_layer("none")], settings=settings)
            found[f"t{number:05}"] = pusher.push(REPOSITORY, image, f"t{number:05}")
    return found


def read_in_detail(site: Site, count: int) -> str:
    """Read all tags by pages, cold and then warm, by two clients at once; measure the memory."""
    expected = fill_with_images(site, count)
    memory, path, took = Memory(site.service), repository_path(REPOSITORY, "tags"), list[float]()
    with memory.watched():
        for _ in range(3):
            begun = time.monotonic()
            for listed in at_once([partial(digests, site.service, path)] * 2):
                assert listed == expected
            took.append(time.monotonic() - begun)
    assert memory.pss < MEMORY, memory
    times = ", ".join(f"{seconds:.1f} s" for seconds in took)
    return f"{count} tags in detail, by two clients at once, three times ({times}): {memory}"


def digests(service: Service, path: str) -> dict[str, str]:
    walk = each_page(service, path, n=1000, detail=True)
    return {one["name"]: one["digest"] for page in walk for one in page}


def test_tags_in_detail_need_little_memory(site: Site) -> None:
    read_in_detail(site, 300)
    assert len(pages(site.service, repository_path(REPOSITORY, "tags"), n=7)) == 300


@pytest.mark.soak
@pytest.mark.timeout(HOURS)
def test_ten_thousand_tags_in_detail_need_little_memory(
    site: Site, capsys: pytest.CaptureFixture[str]
) -> None:
    found = read_in_detail(site, 10_000)
    with capsys.disabled():
        print(f"\n{found}")  # noqa: T201 - what a soak has found is its product
