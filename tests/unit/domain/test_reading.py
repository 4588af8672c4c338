"""Reading a registry: what is there, all of it and nothing else, whatever changes meanwhile."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.domain.content import OCI_INDEX, OCI_MANIFEST, Platform
from service.domain.deletion import referrer_tags
from service.domain.errors import (
    CatalogUnsupported,
    ManifestUnknown,
    RegistryAdminError,
    RepositoryUnknown,
    TagUnknown,
)
from service.domain.reading import ConfigDetail, LayerDetail, Reader, Referrer, TagDetail
from service.domain.reference import Digest, Repository, Tag
from tests.fakes import OCI_CONFIG, OCI_LAYER, Behaviour, Built, FakeRegistry, image
from tests.unit.domain.documents import (
    FOREIGN_LAYER,
    LAYER,
    built,
    child,
    config_bytes,
    image_document,
    image_of,
    index_of,
    schema1,
)
from tests.unit.domain.meanwhile import LivingRegistry

APP = Repository("team/app")
ABSENT = Digest("sha256:" + "0" * 64)
SBOM = "application/spdx+json"


@pytest.fixture
def registry() -> LivingRegistry:
    return LivingRegistry()


@pytest.fixture
def reader(registry: LivingRegistry) -> Reader:
    return Reader(registry)


def everywhere(_name: str) -> bool:
    return True


# Repositories.


def names(reader: Reader, n: int = 1000, last: str | None = None) -> list[Repository]:
    return reader.repositories(n, last, include_empty=False, visible=everywhere)


def test_repositories_are_sorted_by_bytes(registry: FakeRegistry, reader: Reader) -> None:
    in_order = ["a", "a-b", "a.b", "a/b", "a0", "a_b", "aa", "b"]
    for name in ["b", "a/b", "a_b", "a", "aa", "a-b", "a0", "a.b"]:
        registry.push(name, image("x"), "1")
    assert names(reader) == in_order == sorted(in_order, key=str.encode)


def test_repositories_begin_beyond_the_last_and_end_at_n(
    registry: FakeRegistry, reader: Reader
) -> None:
    for name in "abcde":
        registry.push(name, image("x"), "1")
    assert names(reader, 2) == ["a", "b"]
    assert names(reader, 2, "b") == ["c", "d"]
    assert names(reader, 2, "bb") == ["c", "d"]
    assert names(reader, 2, "d") == ["e"]
    assert names(reader, 2, "e") == []
    assert names(reader, 2, "é") == []


@pytest.mark.parametrize("include_empty", [False, True])
def test_a_page_is_full_although_most_repositories_are_empty(
    registry: FakeRegistry, reader: Reader, *, include_empty: bool
) -> None:
    for number in range(100):
        registry.push(f"r{number:02}", image("x"), *(["1"] if number % 30 == 7 else []))
    found = reader.repositories(3, "r05", include_empty=include_empty, visible=everywhere)
    assert found == (["r06", "r07", "r08"] if include_empty else ["r07", "r37", "r67"])


def test_a_repository_is_left_out_with_its_last_tag(registry: FakeRegistry, reader: Reader) -> None:
    registry.push("a", image("x"))
    registry.push("b", image("x"), "gone")
    registry.dangle("b", "gone")
    assert names(reader) == ["b"]  # a dangling tag is one


def test_what_the_caller_may_not_see_is_neither_listed_nor_asked_about(
    registry: FakeRegistry, reader: Reader
) -> None:
    for name in ("mine/a", "theirs/a", "mine/b", "theirs/b"):
        registry.push(name, image("x"), "1")
    found = reader.repositories(9, None, include_empty=False, visible=lambda n: n[0] == "m")
    assert found == ["mine/a", "mine/b"]
    assert not [read for read in registry.reads if "theirs" in "".join(read)]
    assert reader.repositories(9, None, include_empty=True, visible=lambda _: False) == []


def test_a_repository_that_vanishes_meanwhile_is_left_out(
    registry: LivingRegistry, reader: Reader
) -> None:
    for name in ("a", "b", "c"):
        registry.push(name, image("x"), "1")
    registry.after("repositories", partial(registry.contents.pop, Repository("b")))
    assert names(reader) == ["a", "c"]


def test_a_catalog_that_names_one_twice_lists_it_once(reader: Reader) -> None:
    class Stuttering(FakeRegistry):
        def repositories(self):  # type: ignore[no-untyped-def]  # noqa: ANN202
            for name in super().repositories():
                yield from (name, name)

        def tags(self, repository: Repository) -> list[Tag]:
            return [*super().tags(repository)] * 2

    registry = Stuttering()
    registry.push("a", image("x"), "1", "2")
    reader = Reader(registry)
    assert names(reader) == ["a"]
    assert reader.tag_names(Repository("a"), 9, None) == ["1", "2"]
    assert reader.tag_count(Repository("a")) == 2


def test_without_a_catalog_there_is_no_list() -> None:
    with pytest.raises(CatalogUnsupported):
        names(Reader(FakeRegistry(behaviour=Behaviour(catalog=False))))


# Tags.


def test_tags_are_sorted_by_bytes_beyond_the_last_at_most_n(
    registry: FakeRegistry, reader: Reader
) -> None:
    registry.push(APP, image("x"), "b", "B", "_", "1.10", "1.9", "1-1")
    in_order = ["1-1", "1.10", "1.9", "B", "_", "b"]
    assert reader.tag_names(APP, 9, None) == in_order
    assert reader.tag_names(APP, 2, "1.10") == ["1.9", "B"]
    assert [detail.name for detail in reader.tag_details(APP, 9, None)] == in_order
    assert [detail.name for detail in reader.tag_details(APP, 2, "1.10")] == ["1.9", "B"]
    assert reader.tag_count(APP) == 6


def test_a_tag_tells_what_its_manifest_is(registry: FakeRegistry, reader: Reader) -> None:
    config = config_bytes("linux/arm/v7", "2024-01-01T01:00:00+01:00")
    one = image_of(config, b"layer")
    registry.push(APP, one, "1")
    expected = TagDetail(
        name=Tag("1"),
        digest=one.digest,
        media_type=OCI_MANIFEST,
        kind="image",
        size=len(one.raw.body) + len(config) + 5,
        created="2024-01-01T00:00:00Z",
        platforms=(Platform("linux", "arm", "v7"),),
        dangling=False,
    )
    assert reader.tag(APP, Tag("1")) == expected
    assert reader.tag_details(APP, 1, None) == [expected]


def test_a_dangling_tag_is_listed_and_counted_as_such(
    registry: FakeRegistry, reader: Reader
) -> None:
    registry.push(APP, image("x"), "gone")
    registry.push(APP, image("y"), "here")
    registry.dangle(APP, "gone")
    assert reader.tag(APP, Tag("gone")) == TagDetail(Tag("gone"), dangling=True)
    found = reader.tag_details(APP, 9, None)
    assert [(one.name, one.digest, one.dangling) for one in found] == [
        ("gone", None, True),
        ("here", image("y").digest, False),
    ]
    assert reader.tag_count(APP) == 2


def test_a_tag_whose_manifest_only_its_registry_vouches_for_dangles() -> None:
    class Vouching(FakeRegistry):
        def resolve(self, _repository: Repository, _tag: Tag) -> Digest:
            return ABSENT

    registry = Vouching()
    registry.push(APP, image("x"), "1")
    assert Reader(registry).tag(APP, Tag("1")) == TagDetail(Tag("1"), dangling=True)


def test_unknown_tags_and_repositories_are_told_apart(
    registry: FakeRegistry, reader: Reader
) -> None:
    registry.push(APP, image("x"))
    assert reader.tag_names(APP, 9, None) == []
    assert reader.tag_details(APP, 9, None) == []
    assert reader.tag_count(APP) == 0
    with pytest.raises(TagUnknown):
        reader.tag(APP, Tag("1"))
    other = Repository("other")
    asks: list[Callable[[], object]] = [
        lambda: reader.tag(other, Tag("1")),
        lambda: reader.tag_names(other, 9, None),
        lambda: reader.tag_details(other, 9, None),
        lambda: reader.tag_count(other),
        lambda: reader.tags_of(other, ABSENT),
        lambda: reader.raw(other, Tag("1")),
        lambda: reader.raw(other, ABSENT),
        lambda: reader.manifest(other, Tag("1")),
        lambda: reader.referrers(other, ABSENT),
    ]
    for ask in asks:
        with pytest.raises(RepositoryUnknown):
            ask()


def test_a_tag_removed_since_it_was_listed_is_left_out_and_the_page_still_full(
    registry: LivingRegistry, reader: Reader
) -> None:
    for tag in "abcdef":
        registry.push(APP, image(tag), tag)
    registry.dangle(APP, "d")
    registry.after("tags", lambda: list(map(partial(registry.remove, APP), "bc")))
    found = reader.tag_details(APP, 4, None)
    assert [(one.name, one.dangling) for one in found] == [
        ("a", False),
        ("d", True),
        ("e", False),
        ("f", False),
    ]


def test_a_tag_that_moves_while_its_manifest_is_removed_does_not_dangle(
    registry: LivingRegistry, reader: Reader
) -> None:
    registry.push(APP, image("old"), "1")

    def move() -> None:
        registry.remove(APP, "1")
        registry.push(APP, image("new"), "1")

    registry.after("resolve", move)
    detail = reader.tag(APP, Tag("1"))
    assert (detail.digest, detail.dangling) == (image("new").digest, False)


def test_a_page_of_known_tags_costs_one_question_a_tag(
    registry: FakeRegistry, reader: Reader
) -> None:
    registry.push(APP, image("x"), *map(str, range(50)))
    reader.tag_details(APP, 50, None)
    registry.forget_reads()
    reader.tag_details(APP, 50, None)
    assert sorted(read[0] for read in registry.reads) == ["resolve"] * 50 + ["tags"]


# Pages: complete, and stable while things change.


def walk(
    find: Callable[[int, str | None], Sequence[str]], n: int, between: Callable[[], object]
) -> list[str]:
    """Follow pages as the API does: one more than asked for tells that there is a next one."""
    seen: list[str] = []
    last: str | None = None
    while True:
        found = find(n + 1, last)
        seen += found[:n]
        if len(found) <= n:
            return seen
        last = seen[-1]
        between()


def detailed(reader: Reader, n: int, last: str | None) -> list[Tag]:
    return [detail.name for detail in reader.tag_details(APP, n, last)]


tag_sets = st.sets(st.from_regex(r"[ab_][ab.-]{0,2}", fullmatch=True, alphabet="ab_.-"))


@given(tag_sets, tag_sets, tag_sets, st.integers(1, 4), st.booleans())
def test_following_pages_yields_every_tag_that_stays_exactly_once(
    staying: set[str],
    leaving: set[str],
    coming: set[str],
    n: int,
    details: bool,  # noqa: FBT001
) -> None:
    registry = LivingRegistry()
    reader = Reader(registry)
    registry.push(APP, image("x"), *staying, *leaving)
    goes, comes = list(leaving - staying), list(coming - staying)

    def change() -> None:
        if goes:
            registry.contents[APP].tags.pop(Tag(goes.pop()))
        if comes:
            registry.push(APP, image("y"), comes.pop())

    for _ in range(10):
        registry.after("tags", change)
    seen = walk(partial(detailed, reader) if details else partial(reader.tag_names, APP), n, change)
    assert seen == sorted(seen, key=str.encode)
    assert len(seen) == len(set(seen))
    assert staying <= set(seen) <= staying | leaving | coming


repository_sets = st.sets(st.from_regex(r"[ab]([/.-][ab]){0,2}", fullmatch=True))


@given(repository_sets, repository_sets, repository_sets, repository_sets, st.integers(1, 4))
def test_following_pages_yields_every_repository_that_stays_exactly_once(
    staying: set[str], emptied: set[str], vanishing: set[str], coming: set[str], n: int
) -> None:
    registry = LivingRegistry()
    for name in staying | emptied | vanishing:
        registry.push(name, image("x"), "1")
    empties, goes, comes = (list(one - staying) for one in (emptied, vanishing, coming))

    def change() -> None:
        if empties and (contents := registry.contents.get(Repository(empties.pop()))):
            contents.tags.clear()
        if goes:
            registry.contents.pop(Repository(goes.pop()), None)
        if comes:
            registry.push(comes.pop(), image("y"), "1")

    for _ in range(10):
        registry.after("repositories", change)
        registry.after("tags", change)
    seen = walk(partial(names, Reader(registry)), n, change)
    assert seen == sorted(seen, key=str.encode)
    assert len(seen) == len(set(seen))
    assert staying <= set(seen) <= staying | emptied | vanishing | coming


# Tags of a manifest, raw bytes.


def test_all_tags_of_a_manifest_are_found(registry: FakeRegistry, reader: Reader) -> None:
    registry.push(APP, image("x"), "b", "a", "Z")
    registry.push(APP, image("y"), "c")
    registry.push(APP, image("untagged"))
    registry.push(APP, image("gone"), "gone")
    registry.dangle(APP, "gone")
    assert reader.tags_of(APP, image("x").digest) == ["Z", "a", "b"]
    assert reader.tags_of(APP, image("untagged").digest) == []
    for digest in (ABSENT, image("gone").digest):
        with pytest.raises(ManifestUnknown):
            reader.tags_of(APP, digest)


def test_raw_is_what_was_pushed(registry: FakeRegistry, reader: Reader) -> None:
    one = built(json.dumps(image_document(), indent=3).encode() + b"\n\n", b"{}")
    registry.push(APP, one, "1")
    assert reader.raw(APP, Tag("1")) == reader.raw(APP, one.digest) == one.raw


@pytest.mark.parametrize("ask", [Reader.raw, Reader.manifest])
def test_an_unknown_tag_a_dangling_one_and_an_unknown_manifest_are_three_things(
    registry: FakeRegistry, reader: Reader, ask: Callable[..., object]
) -> None:
    registry.push(APP, image("x"), "gone")
    registry.dangle(APP, "gone")
    expected: Iterable[tuple[Tag | Digest, type[RegistryAdminError]]] = (
        (Tag("never"), TagUnknown),
        (Tag("gone"), ManifestUnknown),
        (ABSENT, ManifestUnknown),
    )
    for reference, error in expected:
        with pytest.raises(error):
            ask(reader, APP, reference)


# Manifests in full.


def test_an_image_is_described_with_its_config_and_layers(
    registry: FakeRegistry, reader: Reader
) -> None:
    config = config_bytes(
        created="2024-01-01T00:00:00Z",
        config={"Cmd": ["run"], "Env": ["A=1"], "Labels": {"a": "b"}},
        history=[
            {"created_by": "ADD"},
            {"created_by": "ENV", "empty_layer": True},
            {"created_by": "RUN"},
        ],
    )
    subject = image("subject")
    one = image_of(config, b"1", b"22", subject=subject.descriptor(), annotations={"a": "b"})
    registry.push(APP, one, "1")
    found = reader.manifest(APP, Tag("1"))
    assert found == reader.manifest(APP, one.digest)
    assert (found.digest, found.media_type, found.kind) == (one.digest, OCI_MANIFEST, "image")
    assert (found.subject, found.annotations) == (subject.digest, {"a": "b"})
    assert found.size == len(one.raw.body) + len(config) + 3
    assert found.platforms == (Platform("linux", "amd64"),)
    assert found.config == ConfigDetail(
        digest=Digest.of(config),
        created="2024-01-01T00:00:00Z",
        architecture="amd64",
        os="linux",
        labels={"a": "b"},
        entrypoint=None,
        cmd=("run",),
        env=("A=1",),
        user=None,
        working_dir=None,
        exposed_ports=(),
    )
    assert found.layers == (
        LayerDetail(Digest.of(b"1"), OCI_LAYER, 1, "ADD"),
        LayerDetail(Digest.of(b"22"), OCI_LAYER, 2, "RUN"),
    )
    assert found.children == ()


@pytest.mark.parametrize(
    ("steps", "expected"),
    [
        (["one"], ["one", None]),
        (["one", "two", "three"], ["one", "two"]),
        ([], [None, None]),
        ([None, "two"], [None, "two"]),
    ],
)
def test_layers_and_history_may_differ_in_length(
    registry: FakeRegistry,
    reader: Reader,
    steps: Sequence[str | None],
    expected: Sequence[str | None],
) -> None:
    config = config_bytes(history=[{"created_by": step} for step in steps])
    registry.push(APP, image_of(config, b"1", b"2"), "1")
    assert [layer.created_by for layer in reader.manifest(APP, Tag("1")).layers] == expected


def test_schema1_layers_tell_their_steps_and_no_sizes(
    registry: FakeRegistry, reader: Reader
) -> None:
    base, top = {"container_config": {"Cmd": ["ADD", "x"]}}, {"os": "linux", "architecture": "386"}
    registry.push(APP, Built(schema1([base, top])), "1")
    found = reader.manifest(APP, Tag("1"))
    assert [(one.size, one.created_by) for one in found.layers] == [(None, "ADD x"), (None, None)]
    assert found.platforms == (Platform("linux", "386"),)
    assert found.config is None


def test_foreign_layers_are_listed(registry: FakeRegistry, reader: Reader) -> None:
    config = config_bytes("windows/amd64", history=[{"created_by": "base"}])
    layer = {"mediaType": FOREIGN_LAYER, "digest": LAYER, "size": 9, "urls": ["https://x"]}
    registry.push(APP, built({**image_document(config), "layers": [layer]}, config), "1")
    assert reader.manifest(APP, Tag("1")).layers == (LayerDetail(LAYER, FOREIGN_LAYER, 9, "base"),)


def test_an_artifact_has_no_config_to_tell(registry: FakeRegistry, reader: Reader) -> None:
    registry.push(APP, image("x", artifact_type=SBOM), "1")
    found = reader.manifest(APP, Tag("1"))
    assert (found.kind, found.artifact_type, found.config) == ("artifact", SBOM, None)
    assert [layer.created_by for layer in found.layers] == [None]


def test_an_image_whose_config_is_gone_is_described_without(
    registry: FakeRegistry, reader: Reader
) -> None:
    registry.push(APP, Built(image_of(config_bytes(), b"1").raw), "1")
    found = reader.manifest(APP, Tag("1"))
    assert (found.config, found.kind, found.platforms) == (None, "image", ())
    assert [layer.created_by for layer in found.layers] == [None]


def test_children_have_their_platform_and_whole_size(
    registry: FakeRegistry, reader: Reader
) -> None:
    amd, arm = image_of(config_bytes(), b"layer"), image_of(config_bytes("linux/arm64"))
    inner, absent = index_of(child(arm, "linux/arm64")), image("never pushed")
    listed = (child(amd, "linux/amd64"), child(inner), child(absent, "linux/386"), child(amd))
    top = index_of(*listed)
    for one in (amd, arm, inner):
        registry.push(APP, one)
    registry.push(APP, top, "1")
    found = reader.manifest(APP, Tag("1"))
    amd_size = len(amd.raw.body) + len(config_bytes()) + 5
    arm_size = len(arm.raw.body) + len(config_bytes("linux/arm64"))
    assert [(one.digest, one.platform, one.size) for one in found.children] == [
        (amd.digest, Platform("linux", "amd64"), amd_size),
        (inner.digest, None, len(inner.raw.body) + arm_size),
        (absent.digest, Platform("linux", "386"), len(absent.raw.body)),
        (amd.digest, None, amd_size),
    ]
    assert found.size == len(top.raw.body + inner.raw.body + absent.raw.body) + amd_size + arm_size
    assert (found.kind, found.media_type, found.config) == ("index", OCI_INDEX, None)
    assert found.layers == ()


# Referrers.


def refers(to: Built, seed: str = "sbom") -> Built:
    return image(seed, subject=to, artifact_type=SBOM)


def listing_of(referrer: Built) -> Referrer:
    size = len(referrer.raw.body)
    return Referrer(referrer.digest, SBOM, OCI_MANIFEST, size, "fallback-tag")


def test_referrers_come_from_the_api_where_there_is_one() -> None:
    registry = FakeRegistry(behaviour=Behaviour(referrers_api=True))
    one, other = image("one"), image("other")
    fallback, *_ = referrer_tags(one.digest)
    registry.push(APP, one, "1")
    registry.push(APP, other, "2")
    registry.push(APP, refers(one))
    registry.push(APP, refers(other, "of the other"))
    registry.push(APP, index_of(child(refers(one, "stale"))), fallback)
    registry.push(APP, index_of(child(other)), referrer_tags(refers(one).digest)[0])
    reader = Reader(registry)
    assert reader.referrers(APP, refers(one).digest) == []
    (found,) = reader.referrers(APP, one.digest)
    assert (found.digest, found.artifact_type, found.source) == (refers(one).digest, SBOM, "api")
    assert (found.media_type, found.size) == (OCI_MANIFEST, len(refers(one).raw.body))


def test_referrers_come_from_the_fallback_tag_else(registry: FakeRegistry, reader: Reader) -> None:
    one, other = image("one"), image("other")
    for subject in (one, other):
        registry.push(APP, subject, f"of-{subject.digest[7:12]}")
        fallback, *_ = referrer_tags(subject.digest)
        entry = child(refers(subject), artifactType=SBOM)
        registry.push(APP, index_of(entry, entry), fallback)
    assert reader.referrers(APP, one.digest) == [listing_of(refers(one))]
    assert reader.referrers(APP, other.digest) == [listing_of(refers(other))]


def test_what_a_fallback_tag_leaves_out_is_read_from_the_referrer(
    registry: FakeRegistry, reader: Reader
) -> None:
    one, gone = image("one"), image("gone", subject=image("one"), artifact_type=SBOM)
    registry.push(APP, one, "1")
    registry.push(APP, refers(one))
    fallback, *_ = referrer_tags(one.digest)
    registry.push(APP, gone)
    registry.push(APP, index_of(child(refers(one)), child(gone)), fallback)
    del registry.contents[APP].manifests[gone.digest]
    found = {each.digest: each.artifact_type for each in reader.referrers(APP, one.digest)}
    assert found == {refers(one).digest: SBOM, gone.digest: None}


def test_a_fallback_tag_that_is_no_index_lists_nothing(
    registry: FakeRegistry, reader: Reader
) -> None:
    one = image("one")
    registry.push(APP, one, "1")
    registry.push(APP, image("two"), referrer_tags(one.digest)[0])
    assert reader.referrers(APP, one.digest) == []


@pytest.mark.parametrize("api", [False, True])
def test_cosign_tags_are_referrers_as_well(*, api: bool) -> None:
    registry = FakeRegistry(behaviour=Behaviour(referrers_api=api))
    one, other = image("one"), image("other")
    registry.push(APP, one, "1")
    registry.push(APP, other, "2")
    signed = {suffix: image(suffix) for suffix in (".sig", ".att", ".sbom")}
    for suffix, signature in signed.items():
        registry.push(APP, signature, f"sha256-{one.digest.hex}{suffix}")
    registry.push(APP, image("of the other"), f"sha256-{other.digest.hex}.sig")
    registry.push(APP, image("no referrer"), f"sha256-{one.digest.hex}.txt")
    found = Reader(registry).referrers(APP, one.digest)
    assert [(one.digest, one.artifact_type, one.source) for one in found] == [
        (signature.digest, OCI_CONFIG, "cosign-tag") for signature in signed.values()
    ]
    assert [one.size for one in found] == [len(one.raw.body) for one in signed.values()]


def test_a_cosign_tag_that_dangles_is_left_out(registry: FakeRegistry, reader: Reader) -> None:
    one, tag = image("one"), referrer_tags(image("one").digest)[1]
    registry.push(APP, one, "1")
    registry.push(APP, image("signature"), tag)
    registry.dangle(APP, tag)
    assert reader.referrers(APP, one.digest) == []


def test_a_manifest_that_is_not_there_has_no_referrers(
    registry: FakeRegistry, reader: Reader
) -> None:
    registry.push(APP, image("signature"), referrer_tags(ABSENT)[1])
    with pytest.raises(ManifestUnknown):
        reader.referrers(APP, ABSENT)
