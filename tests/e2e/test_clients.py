"""Real clients, and many at once, find what they should: before, while and after things change."""

from __future__ import annotations

import random
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from demo import images
from demo.images import DOCKER, OCI, Flavour, Manifest, cosign_tag, sample, signature
from tests.e2e.bed.api import (
    REGISTRY,
    at_once,
    delete,
    manifest_path,
    meanwhile,
    pages,
    problem,
    query,
    restore,
    tag_path,
)
from tests.e2e.bed.clients import DockerCommand, layout, skopeo, skopeo_copy, skopeo_inspect
from tests.e2e.bed.engine import Engine
from tests.e2e.bed.http import Answer
from tests.e2e.bed.registry import MakeRegistry
from tests.e2e.bed.service import MakeService, Service
from tests.e2e.bed.site import Site, open_site
from tests.e2e.bed.workspace import family

WORKERS = 2


@pytest.fixture(scope="module")
def site(module_registry: MakeRegistry, module_service: MakeService) -> Iterator[Site]:
    def serve(*given: Any, **options: Any) -> Any:  # noqa: ANN401
        return module_service(*given, **options, settings={"workers": WORKERS})

    with open_site(module_registry, serve) as opened:
        opened.service.admin()
        yield opened


def pull_and_run(docker: DockerCommand, site: Site, reference: str) -> str:
    """Pull what the engine does not have any more, run it, and remove it again."""
    image = docker.pull(site.registry, reference)
    said = docker("run", "--rm", "--network", "none", image)
    docker("rmi", "--force", image)
    return said


@pytest.mark.parametrize("flavour", [OCI, DOCKER], ids=["oci", "docker"])
def test_images_that_stay_are_pulled_and_run(
    site: Site, docker_command: DockerCommand, flavour: Flavour, tmp_path: Path
) -> None:
    whole = images.multi_arch("whole", flavour=flavour)
    shared, other = whole.children[0], sample("other", flavour=flavour)
    tags = {"1": whole, "latest": whole, "amd64": shared, "2": other}
    repository = site.fill({**tags, cosign_tag(other): signature(other)})
    delete(site.service, tag_path(repository, "1"))
    assert pull_and_run(docker_command, site, f"{repository}:latest") == "whole amd64\n"
    delete(site.service, tag_path(repository, "latest"))
    assert pull_and_run(docker_command, site, f"{repository}:amd64") == "whole amd64\n"
    assert pull_and_run(docker_command, site, f"{repository}:2") == "other\n"
    for tag in site.registry.tags(repository):
        skopeo_copy((site.registry, f"{repository}:{tag}"), f"dir:{tmp_path / tag}", "--all")
    listed = skopeo("list-tags", "--tls-verify=false",
                    f"docker://{site.registry.host}/{repository}")  # fmt: skip
    assert b'"latest"' not in listed
    assert b'"amd64"' in listed


@pytest.mark.parametrize("flavour", [OCI, DOCKER], ids=["oci", "docker"])
def test_a_restored_image_is_pulled_and_run(
    site: Site, docker_command: DockerCommand, flavour: Flavour, tmp_path: Path
) -> None:
    image = images.multi_arch("back", flavour=flavour, attested=flavour is OCI)
    repository = site.fill({"1": image})
    between = layout(tmp_path, "before") if flavour is OCI else f"dir:{tmp_path}"
    skopeo_copy((site.registry, f"{repository}:1"), between, "--all")
    removed = delete(site.service, tag_path(repository, "1"))
    with pytest.raises(subprocess.CalledProcessError):
        docker_command.pull(site.registry, f"{repository}:1")
    restore(site.service, removed)
    assert pull_and_run(docker_command, site, f"{repository}:1") == "back amd64\n"
    assert skopeo_inspect((site.registry, f"{repository}:1"), "--raw") == skopeo_inspect(
        between, "--raw"
    )


def test_what_docker_pushed_is_deleted_pushed_again_and_restored(
    site: Site, docker_command: DockerCommand, engine: Engine
) -> None:
    busybox = engine.busybox_image()
    digest = docker_command.push(busybox, site.registry, "pushed/box:1")
    removed = delete(site.service, tag_path("pushed/box", "1"))
    assert removed["digest"] == digest
    assert site.registry.tags("pushed/box") == {}
    assert docker_command.push(busybox, site.registry, "pushed/box:2") == digest
    restore(site.service, removed)
    assert site.registry.tags("pushed/box") == {"1": digest, "2": digest}
    image = docker_command.pull(site.registry, "pushed/box:1")
    assert docker_command("run", "--rm", "--network", "none", image, "echo", "x") == "x\n"


def test_a_tag_that_was_moved_is_what_clients_get(
    site: Site, docker_command: DockerCommand
) -> None:
    repository = site.fill({"1": sample("first"), "2": sample("second", flavour=DOCKER)})
    for source, said in (("2", "second\n"), ("1", "first\n")):
        answer = site.service.ask(tag_path(repository, "live"), "PUT", body={"tag": source})
        assert answer.status in {200, 201}
        assert pull_and_run(docker_command, site, f"{repository}:live") == said


def test_siblings_are_pulled_while_a_tag_goes(site: Site) -> None:
    """A tag is never away for the moment that the removal of its sibling takes."""
    image = images.multi_arch("shared")
    names = [f"{number}" for number in range(8)]
    repository = site.fill(dict.fromkeys([*names, "stays"], image))
    with meanwhile(lambda: site.pull(repository, "stays")):
        for name in names:
            delete(site.service, tag_path(repository, name))
    assert site.registry.tags(repository) == {"stays": image.digest}


def test_what_others_delete_is_seen_and_told(site: Site) -> None:
    first, second = sample("first"), sample("second")
    repository = site.fill({"1": first, "2": second})
    assert site.service.ask(tag_path(repository, "1")).status == 200
    skopeo("delete", "--tls-verify=false", f"docker://{site.registry.host}/{repository}:1")
    problem(site.service.ask(tag_path(repository, "1")), 404, "tag-unknown")
    problem(site.service.ask(tag_path(repository, "1"), "DELETE"), 404, "tag-unknown")
    problem(site.service.ask(manifest_path(repository, first.digest)), 404, "manifest-unknown")


# Many at once.

CLIENTS = 8
ENOUGH = 10  # hundredths of a second
ROUNDS = 8
BASES = [sample(f"base {number}", flavour=(OCI, DOCKER)[number % 2]) for number in range(3)]
SHARED = images.index([BASES[0], BASES[2]])
KEPT: dict[str, Manifest] = {f"keep-{number}": base for number, base in enumerate(BASES)}
KEPT |= {"keep-index": SHARED, "keep-twin": SHARED, cosign_tag(BASES[0]): signature(BASES[0])}


@dataclass
class Client:
    """Changes its own tags at random, and knows where each should be."""

    site: Site
    repository: str
    number: int
    tags: dict[str, str] = field(default_factory=dict)
    removed: list[Any] = field(default_factory=list)
    done: list[str] = field(default_factory=list)

    def own(self) -> dict[str, Manifest]:
        """What it begins with: an image that only it has, and two that others have as well."""
        mine = sample(f"of client {self.number}")
        held = {"alone": mine, "twin": mine, "shared": BASES[self.number % 3], "index": SHARED}
        return {f"c{self.number}-{name}": one for name, one in held.items()}

    def work(self) -> None:
        choice = random.Random(self.number)  # noqa: S311 - to be repeated, not to be secret
        self.tags = {tag: one.digest for tag, one in self.own().items()}
        for _ in range(ROUNDS):
            choice.choice([self.remove, self.remove, self.move, self.restore])(choice)

    def remove(self, choice: random.Random) -> None:
        if self.tags:
            tag = choice.choice(sorted(self.tags))
            answer = self._ask(tag_path(self.repository, tag), "DELETE")
            assert answer.json()["tags_removed"][0] == tag
            assert set(answer.json()["tags_removed"]) == {tag}
            self.removed.append(answer.json())
            del self.tags[tag]

    def move(self, choice: random.Random) -> None:
        tag = f"c{self.number}-{choice.choice(['alone', 'shared', 'new'])}"
        source = choice.choice(sorted(KEPT))
        answer = self._ask(tag_path(self.repository, tag), "PUT", body={"tag": source})
        self.tags[tag] = KEPT[source].digest
        assert answer.json()["digest"] == KEPT[source].digest

    def restore(self, choice: random.Random) -> None:
        if self.removed:
            deletion = self.removed.pop(choice.randrange(len(self.removed)))
            restore(self.site.service, deletion, force=True)
            self.tags[deletion["tags_removed"][0]] = deletion["digest"]
            self.done.append("restore")

    def _ask(self, path: str, method: str, **options: Any) -> Answer:  # noqa: ANN401
        answer = self.site.service.ask(path, method, **options)
        assert answer.status in {200, 201}, (method, path, answer.body)
        self.done.append(method)
        return answer


def work_done(service: Service) -> dict[str, int]:
    """Tell how long each process of the API has worked, in hundredths of a second."""
    found = {}
    assert service.child is not None
    for name in family(service.child.pid):
        process = Path("/proc", name.partition("-")[0])
        if b"serve-api" in (process / "cmdline").read_bytes():
            fields = (process / "stat").read_text().rpartition(")")[2].split()
            found[name] = int(fields[11]) + int(fields[12])
    return found


def test_clients_that_change_a_repository_at_once_lose_nothing(site: Site) -> None:
    clients = [Client(site, "busy/app", number) for number in range(CLIENTS)]
    site.fill(KEPT, repository="busy/app")
    for client in clients:
        site.fill(client.own(), repository="busy/app")
    before = work_done(site.service)
    at_once(client.work for client in clients)
    after = work_done(site.service)
    busy = [name for name in after if after[name] - before.get(name, 0) > ENOUGH]
    assert len(busy) >= WORKERS, "one process did it all"
    expected = {tag: one.digest for tag, one in KEPT.items()}
    for client in clients:
        expected |= client.tags
    assert site.registry.tags("busy/app") == expected
    for tag in expected:
        site.pull("busy/app", tag)
    done = [one for client in clients for one in client.done]
    assert min(done.count(kind) for kind in ("DELETE", "PUT", "restore")) >= 5
    events = pages(site.service, "/v1/audit-events", n=1000)
    outcomes = {one["outcome"] for one in events if (one["target"] or "").startswith("busy/app")}
    assert outcomes == {"succeeded"}


def test_a_tag_asked_away_by_many_goes_once(site: Site) -> None:
    image = sample("once")
    repository = site.fill({"1": image, "2": image})
    path = tag_path(repository, "1")
    answers = at_once([lambda: site.service.ask(path, "DELETE")] * CLIENTS)
    assert sorted(one.status for one in answers) == [200] + [404] * (CLIENTS - 1)
    assert site.registry.tags(repository) == {"2": image.digest}


def test_of_many_who_expect_the_same_digest_one_moves_the_tag(site: Site) -> None:
    first = sample("first")
    others = {f"{number}": sample(f"{number}") for number in range(CLIENTS)}
    repository = site.fill({"live": first, **others})
    expected = {"If-Match": f'"{first.digest}"'}

    def move(source: str) -> Answer:
        path = tag_path(repository, "live")
        return site.service.ask(path, "PUT", body={"tag": source}, headers=expected)

    answers = dict(zip(others, at_once(partial(move, source) for source in others), strict=True))
    [winner] = [source for source, answer in answers.items() if answer.status == 200]
    for source, answer in answers.items():
        if source != winner:
            told = problem(answer, 412, "digest-mismatch")
            assert told["current"] == others[winner].digest
    assert site.registry.tags(repository)["live"] == others[winner].digest


def test_a_restore_and_a_deletion_at_once_end_in_one_of_both(site: Site) -> None:
    image = images.multi_arch("tossed")
    repository = site.fill({"1": image, "2": image})
    before = site.look(repository)
    removed = delete(site.service, tag_path(repository, "1"))
    again = f"{REGISTRY}/deletions/{removed['id']}/restore"
    last = manifest_path(repository, image.digest) + query(force=True)
    at_once([lambda: site.service.ask(again, "POST"), lambda: site.service.ask(last, "DELETE")])
    found = site.look(repository)
    both = dict(before.tags)
    assert found.tags in ({}, {"1": image.digest}, both)
    for tag in found.tags:
        site.pull(repository, tag)
