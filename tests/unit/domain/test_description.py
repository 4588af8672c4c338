"""What a manifest amounts to: its size, its date, its platforms."""

from __future__ import annotations

import json
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.domain.content import (
    CONFIG_LIMIT,
    CREATED_ANNOTATION,
    DOCKER_LIST,
    DOCKER_MANIFEST,
    OCI_INDEX,
    Platform,
    RawManifest,
)
from service.domain.description import PLATFORMS_REMEMBERED, Describer, Summary
from service.domain.errors import ManifestUnknown, RegistryAnswerInvalid
from service.domain.reference import Digest, Repository
from tests.fakes import OCI_CONFIG, OCI_EMPTY, OCI_LAYER, Built, FakeRegistry, described
from tests.unit.domain.documents import (
    FOREIGN_LAYER,
    LAYER,
    LONG,
    built,
    child,
    config_bytes,
    docker_document,
    image_document,
    image_of,
    index_document,
    index_of,
    schema1,
)

APP = Repository("team/app")
AMD, ARM = Platform("linux", "amd64"), Platform("linux", "arm64")
OLD, NEW = "2020-01-01T00:00:00Z", "2024-01-01T00:00:00Z"
UNKNOWN = "unknown/unknown"


@pytest.fixture
def registry() -> FakeRegistry:
    return FakeRegistry()


def summary(registry: FakeRegistry, top: Built, *below: Built) -> Summary:
    for one in (*below, top):
        registry.push(APP, one)
    return Describer(registry).summary(APP, top.digest)


def length(*manifests: Built) -> int:
    return sum(len(one.raw.body) for one in manifests)


# Size.


def test_an_image_is_its_manifest_config_and_layers(registry: FakeRegistry) -> None:
    image = image_of(config_bytes(), b"1", b"22")
    found = summary(registry, image)
    assert (found.kind, found.media_type) == ("image", image.raw.media_type)
    assert found.size == length(image) + len(config_bytes()) + 3


def test_a_blob_counts_once_though_it_is_listed_twice(registry: FakeRegistry) -> None:
    image = image_of(config_bytes(), b"layer", b"other", b"layer")
    assert summary(registry, image).size == length(image) + len(config_bytes()) + 10
    empty = described(b"{}", OCI_EMPTY)
    artifact = built({"config": empty, "layers": [empty]}, b"{}")
    assert summary(registry, artifact).size == length(artifact) + 2


def test_layers_that_live_elsewhere_or_have_sha512_count_as_well(registry: FakeRegistry) -> None:
    layers = [
        {"mediaType": FOREIGN_LAYER, "digest": LAYER, "size": 100},
        {"mediaType": OCI_LAYER, "digest": LONG, "size": 1000},
    ]
    config = config_bytes()
    image = built({**image_document(config), "layers": layers}, config)
    assert summary(registry, image).size == length(image) + len(config) + 1100


def test_what_has_no_size_counts_nothing(registry: FakeRegistry) -> None:
    old = Built(schema1([{}, {}]))
    assert summary(registry, old).size == length(old)
    odd = built({**image_document(), "layers": [{"digest": LAYER, "size": -5}]})
    assert summary(registry, odd).size == length(odd) + 2


@pytest.mark.parametrize("media_type", [OCI_INDEX, DOCKER_LIST])
def test_an_index_is_its_own_bytes_and_its_childrens_with_shared_layers_once(
    registry: FakeRegistry, media_type: str
) -> None:
    amd = image_of(config_bytes("linux/amd64"), b"shared", b"amd")
    arm = image_of(config_bytes("linux/arm64"), b"shared", b"arm64")
    index = built(index_document(child(amd), child(arm)), media_type=media_type)
    configs = len(config_bytes("linux/amd64")) + len(config_bytes("linux/arm64"))
    found = summary(registry, index, amd, arm)
    assert found.kind == "index"
    assert found.size == length(index, amd, arm) + configs + len(b"shared" + b"amd" + b"arm64")


def test_an_index_in_an_index_is_followed_and_each_manifest_counts_once(
    registry: FakeRegistry,
) -> None:
    image = image_of(config_bytes(), b"layer")
    inner = index_of(child(image, "linux/amd64"))
    other = index_of(child(image, "linux/arm64"), child(inner))
    top = index_of(child(inner), child(other), child(image), child(inner))
    found = summary(registry, top, image, inner, other)
    assert found.size == length(top, inner, other, image) + len(config_bytes()) + 5
    assert set(found.platforms) == {AMD, ARM}


def test_a_child_that_was_never_pushed_counts_as_listed(registry: FakeRegistry) -> None:
    there, absent = image_of(config_bytes(), b"layer"), image_of(config_bytes("linux/arm64"))
    index = index_of(child(there, "linux/amd64"), child(absent, "linux/arm64"))
    found = summary(registry, index, there)
    assert found.size == length(index, there, absent) + len(config_bytes()) + 5
    assert found.platforms == (AMD, ARM)


def test_an_empty_index_is_its_own_bytes(registry: FakeRegistry) -> None:
    index = index_of()
    assert summary(registry, index) == Summary(
        index.raw.media_type, "index", length(index), None, (), complete=True
    )


@st.composite
def forests(draw: st.DrawFn) -> list[Built]:
    """Images with shared layers, and indexes over what came before, the last one on top."""
    forest = [
        image_of(config_bytes(os), *draw(st.lists(st.sampled_from([b"1", b"22", b"333"]))))
        for os in draw(st.lists(st.sampled_from(["linux/a", "linux/b", "plan9/c"]), min_size=1))
    ]
    for seed in range(draw(st.integers(1, 4))):
        below = draw(st.lists(st.sampled_from(forest), max_size=4))
        forest.append(index_of(*map(child, below), annotations={"seed": str(seed)}))
    return forest


@given(forests())
def test_the_size_is_that_of_all_distinct_bytes(forest: list[Built]) -> None:
    bodies: set[bytes] = set()
    waiting = [forest[-1]]
    by_digest = {one.digest: one for one in forest}
    while waiting:
        one = waiting.pop()
        bodies |= {one.raw.body, *one.blobs}
        listed = json.loads(one.raw.body).get("manifests", ())
        waiting += [by_digest[entry["digest"]] for entry in listed]
    found = summary(FakeRegistry(), forest[-1], *forest)
    assert found.size == sum(map(len, bodies))
    assert found.complete


# Date.


def dated(created: str | None, seed: str = "", **more: object) -> Built:
    return image_of(config_bytes(created=created, seed=seed), **more)


@pytest.mark.parametrize(
    ("created", "expected"),
    [
        ("2024-01-01T02:00:00.5+02:00", "2024-01-01T00:00:00.5Z"),
        ("0001-01-01T00:00:00Z", "0001-01-01T00:00:00Z"),
        ("yesterday", None),
        (None, None),
    ],
)
def test_an_image_was_created_when_its_config_says(
    registry: FakeRegistry, created: str | None, expected: str | None
) -> None:
    assert summary(registry, dated(created)).created == expected


def test_an_annotation_dates_what_has_no_dated_config(registry: FakeRegistry) -> None:
    annotations = {CREATED_ANNOTATION: OLD}
    empty = described(b"{}", OCI_EMPTY)
    artifact = built({"config": empty, "layers": [], "annotations": annotations}, b"{}")
    assert summary(registry, artifact).created == OLD
    assert summary(registry, dated(None, annotations=annotations)).created == OLD
    assert summary(registry, dated(NEW, annotations=annotations)).created == NEW


@pytest.mark.parametrize(
    ("annotation", "children", "expected"),
    [
        (OLD, [NEW], OLD),
        ("garbage", [NEW], NEW),
        (None, [OLD, NEW, None], NEW),
        (None, ["2024-01-01T00:00:00Z", "2024-01-01T00:00:00.1Z"], "2024-01-01T00:00:00.1Z"),
        (None, ["2024-01-01T05:00:00+09:00", "2023-12-31T21:00:00Z"], "2023-12-31T21:00:00Z"),
        (None, ["garbage", None], None),
        (None, [], None),
    ],
)
def test_an_index_was_created_when_annotated_else_with_its_newest_child(
    registry: FakeRegistry,
    annotation: str | None,
    children: Sequence[str | None],
    expected: str | None,
) -> None:
    images = [dated(created, str(place)) for place, created in enumerate(children)]
    more = {"annotations": {CREATED_ANNOTATION: annotation}} if annotation else {}
    index = index_of(*map(child, images), **more)
    assert summary(registry, index, *images).created == expected


def test_the_newest_child_may_be_in_an_index_in_the_index(registry: FakeRegistry) -> None:
    old, new = dated(OLD), dated(NEW)
    inner = index_of(child(new), annotations={CREATED_ANNOTATION: OLD})
    assert summary(registry, index_of(child(old), child(inner)), old, new, inner).created == NEW


# Platforms.


def test_the_platform_of_an_image_is_its_configs(registry: FakeRegistry) -> None:
    image = image_of(config_bytes("linux/arm/v7"))
    assert summary(registry, image).platforms == (Platform("linux", "arm", "v7"),)
    assert summary(registry, image_of(config_bytes(UNKNOWN))).platforms == ()
    assert summary(registry, image_of(config_bytes(None))).platforms == ()


def test_every_leaf_is_named_by_its_descriptor_else_by_its_config(registry: FakeRegistry) -> None:
    amd, arm = image_of(config_bytes("linux/amd64")), image_of(config_bytes("linux/arm/v6"))
    windows, half = image_of(config_bytes("windows/amd64")), image_of(config_bytes("plan9/386"))
    index = index_of(
        child(amd),
        child(arm, "linux/arm/v7"),
        child(windows),
        child(half, "linux"),
    )
    assert summary(registry, index, amd, arm, windows, half).platforms == (
        AMD,
        Platform("linux", "arm", "v7"),
        Platform("windows", "amd64"),
        Platform("plan9", "386"),
    )


def test_attestations_are_no_platform(registry: FakeRegistry) -> None:
    image, attestation = image_of(config_bytes()), image_of(config_bytes(UNKNOWN), b"statement")
    index = index_of(child(image, "linux/amd64"), child(attestation, UNKNOWN), child(attestation))
    found = summary(registry, index, image, attestation)
    assert found.platforms == (AMD,)
    assert found.size > length(index, image, attestation)


def test_one_image_may_be_listed_for_two_platforms_and_none_is_named_twice(
    registry: FakeRegistry,
) -> None:
    image = image_of(config_bytes())
    index = index_of(child(image, "linux/arm64"), child(image, "linux/amd64"), child(image))
    assert summary(registry, index, image).platforms == (ARM, AMD)


def test_the_leaves_of_an_index_in_an_index_are_named_and_it_itself_is_not(
    registry: FakeRegistry,
) -> None:
    image = image_of(config_bytes("linux/arm64"))
    inner = index_of(child(image))
    assert summary(registry, index_of(child(inner, "linux/amd64")), image, inner).platforms == (
        ARM,
    )


def test_a_schema1_image_is_dated_and_placed_by_its_top_layer(registry: FakeRegistry) -> None:
    top = {"created": NEW, "os": "linux", "architecture": "amd64"}
    found = summary(registry, Built(schema1([{"created": OLD}, top], signed=True)))
    assert (found.kind, found.created, found.platforms) == ("image", NEW, (AMD,))


def test_docker_images_are_described_as_oci_ones_are(registry: FakeRegistry) -> None:
    config = config_bytes(created=NEW)
    image = built(docker_document(config, b"layer"), config, media_type=DOCKER_MANIFEST)
    found = summary(registry, image)
    assert (found.size, found.created, found.platforms) == (
        length(image) + len(config) + 5,
        NEW,
        (AMD,),
    )


# What is not there, and what is remembered.


class Counting:
    """Reads by kind, since last asked."""

    def __init__(self, registry: FakeRegistry) -> None:
        self.registry = registry

    def __call__(self) -> list[str]:
        kinds = [read[0] for read in self.registry.reads]
        self.registry.forget_reads()
        return kinds


def test_what_was_described_is_not_asked_for_again(registry: FakeRegistry) -> None:
    image = image_of(config_bytes(created=NEW))
    index = index_of(child(image))
    registry.push(APP, image)
    registry.push(APP, index)
    describer, reads = Describer(registry), Counting(registry)
    first = describer.summary(APP, index.digest)
    assert sorted(reads()) == ["config", "manifest", "manifest"]
    assert describer.summary(APP, index.digest) is first
    assert describer.summary(APP, image.digest).created == NEW
    assert reads() == []
    other = index_of(child(image), annotations={"other": "index"})
    registry.push(APP, other)
    describer.summary(APP, other.digest)
    assert "config" not in reads()


def test_what_one_repository_has_is_not_told_of_another(registry: FakeRegistry) -> None:
    image = image_of(config_bytes())
    describer = Describer(registry)
    summary(registry, image)
    describer.summary(APP, image.digest)
    registry.forget_reads()
    with pytest.raises(ManifestUnknown):
        describer.summary(Repository("other"), image.digest)


@pytest.mark.parametrize("late", ["config", "child", "config of a child", "inner index"])
def test_what_is_missing_is_looked_for_again_each_time(registry: FakeRegistry, late: str) -> None:
    image = image_of(config_bytes(created=NEW), b"layer")
    inner = index_of(child(image, "linux/amd64"))
    top = {"config": image, "inner index": index_of(child(inner))}.get(late, inner)
    bare = Built(image.raw)
    before = {"config": [], "child": [], "config of a child": [bare], "inner index": [image]}
    registry.push(APP, bare if late == "config" else top)
    for one in before[late]:
        registry.push(APP, one)
    describer = Describer(registry)
    first = describer.summary(APP, top.digest)
    assert not first.complete
    for one in (image, inner):
        registry.push(APP, one)
    second = describer.summary(APP, top.digest)
    assert (second.created, second.platforms, second.complete) == (NEW, (AMD,), True)
    assert second == summary(registry, top, image, inner)


def test_a_config_that_is_gone_or_too_large_leaves_the_size(registry: FakeRegistry) -> None:
    gone = built(image_document(b"config", b"layer"))
    assert summary(registry, gone).size == length(gone) + 11
    large = {"mediaType": OCI_CONFIG, "digest": LAYER, "size": CONFIG_LIMIT + 1}
    odd = built({**image_document(), "config": large})
    found = summary(registry, odd)
    assert (found.size, found.complete) == (length(odd) + CONFIG_LIMIT + 1, True)
    assert not [read for read in registry.reads if LAYER in read]


def test_only_image_configs_are_read(registry: FakeRegistry) -> None:
    config = config_bytes(created=NEW)
    artifact = built({"config": described(config, "application/x"), "layers": []}, config)
    found = summary(registry, artifact)
    assert (found.created, found.platforms) == (None, ())
    assert [read[0] for read in registry.reads] == ["manifest"]


def test_garbage_below_an_index_is_an_invalid_answer(registry: FakeRegistry) -> None:
    garbage = built(b"<html>")
    with pytest.raises(RegistryAnswerInvalid):
        summary(registry, index_of(child(garbage)), garbage)


def test_an_index_of_very_many_platforms_is_not_remembered(registry: FakeRegistry) -> None:
    image = image_of(config_bytes())
    few = index_of(*(child(image, f"linux/{n}") for n in range(PLATFORMS_REMEMBERED)))
    many = index_of(*(child(image, f"linux/{n}") for n in range(PLATFORMS_REMEMBERED + 1)))
    for one in (image, few, many):
        registry.push(APP, one)
    describer, reads = Describer(registry), Counting(registry)
    for one, again in ((few, False), (many, True)):
        assert len(describer.summary(APP, one.digest).platforms) >= PLATFORMS_REMEMBERED
        reads()
        describer.summary(APP, one.digest)
        assert bool(reads()) == again


class Strict(FakeRegistry):
    """Fails a test in which the same content is asked for twice."""

    def content(self, repository: Repository, digest: Digest) -> RawManifest:
        assert ("content", repository, digest) not in self.reads
        self.reads.append(("content", repository, digest))
        return super().content(repository, digest)


def test_a_child_that_is_listed_very_often_is_asked_for_once() -> None:
    registry = Strict()
    image = image_of(config_bytes())
    inner = index_of(*[child(image)] * 2000)
    top = index_of(*[child(inner)] * 2000, child(image))
    found = summary(registry, top, inner, image)
    assert found.platforms == (AMD,)


def test_a_very_deep_nesting_is_followed_to_its_end(registry: FakeRegistry) -> None:
    image = image_of(config_bytes(created=NEW))
    nested = [image]
    for _ in range(3000):
        nested.append(index_of(child(nested[-1])))
    found = summary(registry, nested[-1], *nested[:-1])
    assert (found.created, found.platforms) == (NEW, (AMD,))
    assert found.size == length(*nested) + len(config_bytes(created=NEW))
