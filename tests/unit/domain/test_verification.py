"""Verification: what is missing or corrupt is found, with the tags it hurts, and nothing else."""

from __future__ import annotations

from service.domain.reference import Digest, Repository
from service.domain.verification import Verification, verify
from tests.fakes import FakeRegistry, image, index

APP, TOOLS = Repository("team/app"), Repository("team/tools")


def ignore(_done: int, _total: int | None) -> None:
    """Progress is of no interest here."""


def looked_at(registry: FakeRegistry, *, deep: bool = False) -> Verification:
    return verify(registry, ignore, deep=deep)


def name(repository: Repository, tag: str) -> dict[str, str]:
    return {"repository": repository, "tag": tag}


def filled() -> FakeRegistry:
    registry = FakeRegistry()
    shared = b"a layer of both"
    one, two = image("one", layers=[shared]), image("two", layers=[shared, b"own"])
    registry.push(APP, one, "1", "latest")
    registry.push(APP, two, "2")
    registry.push(APP, index(one, two), "all")
    registry.push(TOOLS, image("tool"), "t")
    return registry


def test_a_sound_registry_is_sound() -> None:
    for deep in (False, True):
        result = looked_at(filled(), deep=deep).result()
        assert result["dangling_tags"] == result["missing_blobs"] == result["corrupt_blobs"] == []
        assert (result["tags"], result["manifests"]) == (5, 4)


def test_a_missing_blob_is_found_with_every_tag_it_hurts() -> None:
    registry = filled()
    lost = Digest.of(b"a layer of both")
    del registry.contents[APP].blobs[lost]
    found = looked_at(registry)
    assert list(found.missing) == [lost]
    hurt = sorted(found.missing[lost], key=lambda one: one["tag"])
    assert hurt == [name(APP, tag) for tag in ("1", "2", "all", "latest")]
    assert found.counts()["missing_blobs"] == [lost]


def test_a_blob_that_the_cache_still_vouches_for_is_missing() -> None:
    registry = filled()
    lost = Digest.of(b"own")
    del registry.contents[APP].blobs[lost]
    registry.contents[APP].vouched.add(lost)
    assert list(looked_at(registry).missing) == [lost]


def test_changed_bytes_of_the_same_length_are_found_by_hashing_alone() -> None:
    registry = filled()
    hurt = Digest.of(b"own")
    registry.contents[APP].blobs[hurt] = b"OWN"
    assert not looked_at(registry).corrupt
    found = looked_at(registry, deep=True)
    assert {one["tag"] for one in found.corrupt[hurt]} == {"2", "all"}


def test_a_blob_of_another_size_is_corrupt() -> None:
    registry = filled()
    hurt = Digest.of(b"own")
    registry.contents[APP].blobs[hurt] = b"ow"
    assert list(looked_at(registry).corrupt) == [hurt]


def test_a_child_that_is_gone_hurts_its_index() -> None:
    registry = filled()
    child = image("two", layers=[b"a layer of both", b"own"]).digest
    del registry.contents[APP].manifests[child]
    found = looked_at(registry)
    assert found.dangling == [name(APP, "2")]
    assert found.missing == {child: [name(APP, "all")]}


def test_what_several_tags_share_is_read_once_and_hurts_each() -> None:
    registry = filled()
    one, two = image("one", layers=[b"a layer of both"]), image("other", layers=[b"its"])
    registry.push(APP, two, "other")
    inner = index(one, two)
    registry.push(APP, inner)
    registry.push(APP, index(inner, two), "nested")
    del registry.contents[APP].blobs[Digest.of(b"its")]
    found = looked_at(registry)
    assert {at["tag"] for at in found.missing[Digest.of(b"its")]} == {"other", "nested"}
    assert (found.manifests, found.blobs) == (7, 8)
    asked = [what for what in registry.reads if what[0] == "manifest"]
    assert len(asked) == len(set(asked))


def test_progress_counts_manifests() -> None:
    seen: list[int] = []
    verify(filled(), lambda done, _total: seen.append(done))
    assert seen == sorted(seen)
    assert seen[-1] == 4
