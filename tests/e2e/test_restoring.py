"""A deletion is put back as it was, or, where its blobs are gone, nothing is."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from demo import images
from demo.images import DOCKER, Manifest, cosign_tag, digest_of, fallback_tag, sample, signature
from tests.e2e.bed.api import (
    REGISTRY,
    delete,
    each_page,
    get,
    manifest_path,
    pages,
    problem,
    restore,
    tag_path,
    try_restore,
)
from tests.e2e.bed.registry import FOREIGN_LAYERS, MakeRegistry
from tests.e2e.bed.service import MakeService
from tests.e2e.bed.site import Look, Site, open_site, tree

A = sample("a")
B = sample("b", flavour=DOCKER)
INDEX = images.multi_arch("index", attested=True)
AMD64, *OTHERS = INDEX.children
BILL = images.artifact(b"a bill", subject=A)


@pytest.fixture(scope="module")
def site(module_registry: MakeRegistry, module_service: MakeService) -> Iterator[Site]:
    with open_site(module_registry, module_service, env=FOREIGN_LAYERS) as opened:
        yield opened


def test_a_restore_tells_what_it_put_back(site: Site) -> None:
    repository = site.fill({"1": A, cosign_tag(A): signature(A), "2": B})
    before = site.look(repository)
    done = delete(site.service, tag_path(repository, "1"))
    found = restore(site.service, done)
    assert found["deletion"] == done["id"]
    assert (found["registry"], found["repository"]) == ("default", repository)
    assert sorted(found["tags_restored"]) == sorted(["1", cosign_tag(A)])
    put = {one["digest"]: one for one in found["manifests_restored"]}
    assert put == {one["digest"]: one for one in done["manifests_removed"]}
    assert found["dry_run"] is False
    assert site.look(repository) == before
    for tag in before.tags:
        site.pull(repository, tag)


def test_a_dry_run_tells_the_same_and_changes_nothing(site: Site) -> None:
    repository = site.fill({"1": INDEX, "2": B})
    done = delete(site.service, tag_path(repository, "1"))
    with site.untouched(repository):
        told = restore(site.service, done, dry_run=True)
    assert restore(site.service, done) == {**told, "dry_run": False}


def test_a_whole_repository_comes_back(site: Site) -> None:
    content = {"1": INDEX, "amd64": AMD64, "2": A, fallback_tag(A): images.referrers_index([BILL])}
    repository = site.fill({**content, cosign_tag(AMD64): signature(AMD64)})
    before = site.look(repository)
    removed = [delete(site.service, tag_path(repository, tag)) for tag in ("2", "amd64", "1")]
    assert site.look(repository) == Look({}, frozenset())
    for one in removed:
        restore(site.service, one)
    assert site.look(repository) == before


@pytest.mark.parametrize("reverse", [False, True])
def test_the_order_of_restores_does_not_matter(site: Site, *, reverse: bool) -> None:
    repository = site.fill({"1": INDEX, "2": INDEX, "amd64": AMD64, "3": A, "4": A})
    before = site.look(repository)
    order = ("1", "4", "amd64", "2", "3")
    removed = [delete(site.service, tag_path(repository, tag)) for tag in order]
    for one in reversed(removed) if reverse else removed:
        tags = restore(site.service, one)["tags_restored"]
        assert tags == one["tags_removed"]
        site.pull(repository, tags[0])
    assert site.look(repository) == before


def test_a_second_restore_changes_nothing_more(site: Site) -> None:
    repository = site.fill({"1": INDEX})
    before = site.look(repository)
    done = delete(site.service, tag_path(repository, "1"))
    restore(site.service, done)
    assert restore(site.service, done)["tags_restored"] == []
    assert site.look(repository) == before


def test_a_tag_in_use_with_another_digest_is_not_moved(site: Site) -> None:
    repository = site.fill({"1": A, cosign_tag(A): signature(A), "2": B})
    before = site.look(repository)
    done = delete(site.service, tag_path(repository, "1"))
    site.fill({"1": B}, repository=repository)
    for options in ({"dry_run": True}, {}):
        with site.untouched(repository):
            answer = try_restore(site.service, done, **options)
        told = problem(answer, 409, "tag-exists")
        assert told["tags"] == [{"tag": "1", "digest": A.digest, "current": B.digest}]
    with site.untouched(repository):
        told = restore(site.service, done, force=True, dry_run=True)
    assert restore(site.service, done, force=True) == {**told, "dry_run": False}
    assert site.look(repository) == before


def test_a_tag_that_is_back_already_is_no_hindrance(site: Site) -> None:
    repository = site.fill({"1": A, "2": B})
    before = site.look(repository)
    done = delete(site.service, tag_path(repository, "1"))
    site.fill({"1": A}, repository=repository)
    assert restore(site.service, done)["tags_restored"] == []
    assert site.look(repository) == before


def test_an_index_comes_back_after_its_child(site: Site) -> None:
    repository = site.fill({"1": INDEX, "2": B})
    before = site.look(repository)
    child = delete(site.service, manifest_path(repository, AMD64.digest), force=True)
    whole = delete(site.service, tag_path(repository, "1"))
    told = restore(site.service, whole, dry_run=True)
    assert AMD64.digest in {one["digest"] for one in told["manifests_restored"]}
    assert restore(site.service, whole) == {**told, "dry_run": False}
    assert site.look(repository) == before
    assert restore(site.service, child)["tags_restored"] == []
    assert site.look(repository) == before


def test_an_index_whose_child_others_deleted_is_refused_with_what_to_do(site: Site) -> None:
    repository = site.fill({"1": INDEX, "2": B})
    assert site.registry.ask(f"/v2/{repository}/manifests/{AMD64.digest}", "DELETE").status == 202
    whole = delete(site.service, tag_path(repository, "1"))
    for dry_run in (True, False):
        answer = try_restore(site.service, whole, dry_run=dry_run)
        told = problem(answer, 409, "manifest-refused")
        assert "push that one again" in told["detail"].lower()
    assert site.registry.tags(repository) == {"2": B.digest}
    site.fill({}, AMD64, repository=repository)
    restore(site.service, whole)
    assert site.registry.tags(repository) == {"1": INDEX.digest, "2": B.digest}


def test_foreign_layers_are_not_asked_for(site: Site) -> None:
    outside = images.image([images.foreign_layer(), images.base_layer()])
    repository = site.fill({"1": outside})
    before = site.look(repository)
    restore(site.service, delete(site.service, tag_path(repository, "1")))
    assert site.look(repository) == before


def test_deletions_are_listed_newest_first(site: Site) -> None:
    repository = site.fill({f"{number}": A for number in range(5)})
    removed = [delete(site.service, tag_path(repository, f"{number}")) for number in range(5)]
    path = f"{REGISTRY}/deletions"
    assert pages(site.service, path)[:5] == removed[::-1]
    walked = [item for page in each_page(site.service, path, n=2) for item in page]
    assert walked == pages(site.service, path, n=1000)
    for one in removed:
        assert get(site.service, f"{path}/{one['id']}") == one


@pytest.mark.parametrize("deletion_id", ["0" * 32, "x", "..", "%00", "A" * 32])
def test_an_unknown_deletion_is_named(site: Site, deletion_id: str) -> None:
    path = f"{REGISTRY}/deletions/{deletion_id}"
    problem(site.service.ask(path), 404, "deletion-unknown")
    with site.untouched():
        problem(site.service.ask(f"{path}/restore", "POST"), 404, "deletion-unknown")


# Garbage collection.


def warm(site: Site, repository: str, manifest: Manifest) -> None:
    """Let the registry remember every blob, so that it vouches for them later."""
    for blob in manifest.blobs:
        path = f"/v2/{repository}/blobs/{digest_of(blob)}"
        assert site.registry.ask(path, "HEAD").status == 200


def collect(site: Site) -> None:
    assert site.registry.garbage_collect().exit_code == 0


@pytest.fixture
def collected(site: Site) -> Iterator[Site]:
    """Collect during a test; after it the registry forgets what it wrongly remembers."""
    yield site
    site.registry.restart()


def lost(*manifests: Manifest) -> list[str]:
    """The blobs that a collection takes: all but the base that other repositories share."""
    shared = {digest_of(images.base_layer(name).content) for name in ("amd64", "arm64", "arm")}
    blobs = {digest_of(blob) for root in manifests for one in tree(root) for blob in one.blobs}
    return sorted(blobs - shared)


@pytest.mark.parametrize("flavour", [images.OCI, DOCKER], ids=["oci", "docker"])
@pytest.mark.parametrize("restarted", [False, True])
def test_what_was_collected_is_not_restored(
    collected: Site, flavour: images.Flavour, *, restarted: bool
) -> None:
    site = collected
    taken = images.multi_arch(f"taken {restarted}", flavour=flavour)
    repository = site.fill({"1": taken, "2": A})
    site.fill({"1": images.multi_arch("keeps the base")}, repository="keeper")
    done = delete(site.service, tag_path(repository, "1"))
    for child in taken.children:
        warm(site, repository, child)
    collect(site)
    if restarted:
        site.registry.restart()
    assert_collected(site, repository, done, lost(taken))
    site.pull(repository, "2")
    assert get(site.service, f"{REGISTRY}/deletions/{done['id']}")["restorable"] is False


def assert_collected(site: Site, repository: str, deletion: Any, blobs: list[str]) -> None:  # noqa: ANN401
    for options in ({"dry_run": True}, {}, {"force": True}):
        with site.untouched(repository):
            answer = try_restore(site.service, deletion, **options)
        assert problem(answer, 410, "blobs-collected")["blobs"] == blobs


def test_one_collected_blob_is_enough_to_put_nothing_back(collected: Site) -> None:
    site = collected
    taken, spared = sample("taken"), sample("spared")
    pair = images.index([taken, spared])
    repository = site.fill({"1": pair, "spared": spared})
    site.fill({"1": A}, repository="keeper")
    whole = delete(site.service, tag_path(repository, "1"))
    assert {one["digest"] for one in whole["manifests_kept"]} == {spared.digest}
    warm(site, repository, taken)
    collect(site)
    assert_collected(site, repository, whole, lost(taken))
    assert site.registry.tags(repository) == {"spared": spared.digest}


@pytest.mark.parametrize("warmed", [False, True])
def test_manifests_outlive_a_collection_that_leaves_their_blobs(
    collected: Site, *, warmed: bool
) -> None:
    """A registry that has not been restarted says 201 to a manifest it then does not keep."""
    site = collected
    twin = images.image([images.base_layer()], annotations={"twin": f"{warmed}"})
    other = images.image([images.base_layer()])
    repository = site.fill({"1": twin, "2": twin, "3": other, "4": other})
    before = site.look(repository)
    removed = [delete(site.service, tag_path(repository, tag)) for tag in ("1", "3", "2")]
    collect(site)
    if warmed:
        told = problem(try_restore(site.service, removed[2]), 409, "manifest-refused")
        assert "Restart the registry" in told["detail"]
        assert site.registry.tags(repository) == {"4": other.digest}
    site.registry.restart()
    for one in removed:
        restore(site.service, one)
    assert site.look(repository) == before
    for tag in before.tags:
        site.pull(repository, tag)


def test_the_image_is_restorable_once_pushed_again(collected: Site) -> None:
    site = collected
    taken = sample("taken and pushed again")
    repository = site.fill({"1": taken, "2": A})
    done = delete(site.service, tag_path(repository, "1"))
    collect(site)
    site.registry.restart()
    assert_collected(site, repository, done, lost(taken))
    site.fill({"again": taken}, repository=repository)
    assert restore(site.service, done)["tags_restored"] == ["1"]
    site.pull(repository, "1")
