"""What every Registry keeps to, whatever is behind it: the fake, a played one, a real one.

A test file subclasses the suite and gives the fixture ``arrange``, which makes an
:class:`Arranged` registry of the wanted shape.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Protocol

import pytest

from service.domain.audit import Attempt, AuditTrail, Change, Completion
from service.domain.content import DOCKER_LIST, OCI_INDEX, Descriptor, parse_manifest
from service.domain.errors import (
    BlobUnknown,
    DeletionDisabled,
    ManifestRefused,
    ManifestUnknown,
    RegistryReadOnly,
    RepositoryUnknown,
)
from service.domain.ports import Registry
from service.domain.reference import Digest, Repository, Tag
from service.domain.untagging import placeholder
from tests.fakes import OCI_LAYER, Built, image, index
from tests.fakes_store import FakeStore

APP = Repository("team/app")
ONE = image("one")
TWO = image("two")
NOWHERE = Digest("sha256:" + "5" * 64)
V1, LATEST = Tag("1"), Tag("latest")


class Arranged(Protocol):
    """A registry of some shape, and ways to fill it that do not go through the port."""

    @property
    def registry(self) -> Registry:
        """The port under test."""

    @property
    def deletes_tags(self) -> bool:
        """Whether it can delete a tag alone, as distribution from 3.0 on."""

    def push(self, repository: str, built: Built, *tags: str) -> Digest:
        """Put a manifest there with its blobs."""

    def dangle(self, repository: str, tag: str) -> None:
        """Take a tag's manifest away and leave the tag."""

    def lose_blob(self, repository: str, blob: bytes) -> None:
        """Take a blob's bytes away, whatever the registry still believes of it."""

    def spoil_blob(self, repository: str, blob: bytes) -> None:
        """Turn a blob's bytes into others, as many."""


Arrange = Callable[..., Arranged]
"""Called with ``delete=False`` or ``read_only=True``, and ``filled``, called before read-only."""


def blob(content: bytes, media_type: str = "application/octet-stream") -> Descriptor:
    return Descriptor(Digest.of(content), media_type, len(content))


def resolved(registry: Registry, repository: Repository = APP) -> dict[str, Digest | None]:
    found: dict[str, Digest | None] = {}
    for tag in registry.tags(repository):
        try:
            found[tag] = registry.resolve(repository, tag)
        except ManifestUnknown:
            found[tag] = None
    return found


def fill(arranged: Arranged) -> None:
    arranged.push(APP, ONE, "1", "latest")


class RegistrySuite:
    """The tests; each makes the registry it needs."""

    @pytest.fixture
    def change(self) -> Iterator[Change]:
        with AuditTrail(FakeStore().audit).attempt(Attempt("test", "tester")) as opened:
            yield opened

    # Listing.

    def test_catalog_yields_every_repository_once(self, arrange: Arrange) -> None:
        arranged = arrange()
        names = ["a", "b/c", "b-c/d", "b/c/d/e/f", "z" * 200]
        for name in names:
            arranged.push(name, ONE, "1")
        assert sorted(arranged.registry.repositories()) == sorted(names)

    def test_an_empty_registry_has_an_empty_catalog(self, arrange: Arrange) -> None:
        assert list(arrange().registry.repositories()) == []

    def test_tags_are_listed(self, arrange: Arrange) -> None:
        arranged = arrange()
        arranged.push(APP, ONE, "1", "1.0", "T" * 128)
        arranged.push(APP, TWO)
        assert sorted(arranged.registry.tags(APP)) == ["1", "1.0", "T" * 128]

    def test_tags_of_an_unknown_repository_are_an_error(self, arrange: Arrange) -> None:
        arranged = arrange()
        fill(arranged)
        with pytest.raises(RepositoryUnknown):
            arranged.registry.tags(Repository("team/ap"))
        with pytest.raises(RepositoryUnknown):
            arranged.registry.tags(Repository("team"))

    def test_an_emptied_repository_has_no_tags_and_stays_listed(
        self, arrange: Arrange, change: Change
    ) -> None:
        arranged = arrange()
        fill(arranged)
        arranged.registry.writer(change).delete_manifest(APP, ONE.digest)
        assert list(arranged.registry.tags(APP)) == []
        assert list(arranged.registry.repositories()) == [APP]

    # Reading.

    def test_tags_resolve_to_their_digests(self, arrange: Arrange) -> None:
        arranged = arrange()
        fill(arranged)
        arranged.push(APP, TWO, "2")
        expected = {"1": ONE.digest, "latest": ONE.digest, "2": TWO.digest}
        assert resolved(arranged.registry) == expected
        assert resolved(arranged.registry) == expected

    def test_a_moved_tag_resolves_to_its_new_digest(self, arrange: Arrange) -> None:
        arranged = arrange()
        fill(arranged)
        assert arranged.registry.resolve(APP, LATEST) == ONE.digest
        arranged.push(APP, TWO, "latest")
        assert arranged.registry.resolve(APP, LATEST) == TWO.digest

    def test_an_unknown_tag_is_an_error(self, arrange: Arrange) -> None:
        arranged = arrange()
        fill(arranged)
        with pytest.raises(ManifestUnknown):
            arranged.registry.resolve(APP, Tag("2"))
        with pytest.raises((ManifestUnknown, RepositoryUnknown)):
            arranged.registry.resolve(Repository("team/other"), V1)

    def test_a_dangling_tag_is_listed_but_does_not_resolve(self, arrange: Arrange) -> None:
        arranged = arrange()
        fill(arranged)
        assert arranged.registry.resolve(APP, V1) == ONE.digest
        arranged.dangle(APP, "1")
        with pytest.raises(ManifestUnknown):
            arranged.registry.resolve(APP, V1)
        assert V1 in arranged.registry.tags(APP)

    def test_many_tags_resolve_as_each_does(self, arrange: Arrange) -> None:
        arranged = arrange()
        fill(arranged)
        arranged.push(APP, TWO, "2", "gone")
        arranged.dangle(APP, "gone")
        registry, asked = arranged.registry, [V1, LATEST, Tag("2"), Tag("gone"), Tag("unknown")]
        for _ in range(2):
            each = {**resolved(registry), "unknown": None}
            assert each == {"1": ONE.digest, "latest": ONE.digest, "2": None, "gone": None} | {
                "unknown": None
            }
            assert registry.resolve_many(APP, asked) == each
        assert registry.resolve_many(APP, []) == {}

    def test_what_was_prefetched_outlives_its_manifest(
        self, arrange: Arrange, change: Change
    ) -> None:
        arranged = arrange()
        fill(arranged)
        config = parse_manifest(ONE.raw).config
        assert config is not None
        elsewhere = Descriptor(Digest.of(b"x"), config.media_type, 1)
        found = arranged.registry.prefetch(APP, [ONE.digest, NOWHERE], [config, elsewhere])
        assert found == {NOWHERE, elsewhere.digest}
        arranged.registry.writer(change).delete_manifest(APP, ONE.digest)
        assert arranged.registry.content(APP, ONE.digest) == ONE.raw
        assert arranged.registry.config(APP, config) == ONE.blobs[0]

    def test_manifests_come_as_the_exact_bytes(self, arrange: Arrange) -> None:
        arranged = arrange()
        fill(arranged)
        for reference in (V1, ONE.digest):
            raw = arranged.registry.manifest(APP, reference)
            assert raw == ONE.raw

    @pytest.mark.parametrize("media_type", [DOCKER_LIST, OCI_INDEX])
    def test_an_index_is_never_answered_by_its_child(
        self, arrange: Arrange, media_type: str
    ) -> None:
        arranged = arrange()
        arranged.push(APP, ONE)
        whole = index(ONE, media_type=media_type)
        arranged.push(APP, whole, "1")
        assert arranged.registry.resolve(APP, V1) == whole.digest
        assert arranged.registry.manifest(APP, V1) == whole.raw
        assert parse_manifest(whole.raw).children[0].digest == ONE.digest

    def test_an_unknown_manifest_is_an_error(self, arrange: Arrange) -> None:
        arranged = arrange()
        fill(arranged)
        with pytest.raises(ManifestUnknown):
            arranged.registry.manifest(APP, NOWHERE)

    def test_content_outlives_its_manifest(self, arrange: Arrange, change: Change) -> None:
        arranged = arrange()
        fill(arranged)
        assert arranged.registry.content(APP, ONE.digest) == ONE.raw
        arranged.registry.writer(change).delete_manifest(APP, ONE.digest)
        assert arranged.registry.content(APP, ONE.digest) == ONE.raw
        with pytest.raises(ManifestUnknown):
            arranged.registry.manifest(APP, ONE.digest)

    def test_configs_come_as_the_exact_bytes(self, arrange: Arrange) -> None:
        arranged = arrange()
        fill(arranged)
        descriptor = parse_manifest(ONE.raw).config
        assert descriptor is not None
        assert arranged.registry.config(APP, descriptor) == ONE.blobs[0]
        assert json.loads(ONE.blobs[0])["seed"] == "one"

    def test_an_unknown_config_is_an_error(self, arrange: Arrange) -> None:
        arranged = arrange()
        fill(arranged)
        with pytest.raises(BlobUnknown):
            arranged.registry.config(APP, blob(b"never pushed"))

    def test_blobs_that_can_be_read_are_readable(self, arrange: Arrange) -> None:
        arranged = arrange()
        empty = image("one", layers=[b"", b"x" * 5000])
        arranged.push(APP, empty, "1")
        for content in empty.blobs:
            assert arranged.registry.blob_readable(APP, Digest.of(content))

    def test_blobs_that_are_gone_are_not_readable(self, arrange: Arrange) -> None:
        arranged = arrange()
        fill(arranged)
        assert not arranged.registry.blob_readable(APP, NOWHERE)
        layer = ONE.blobs[1]
        assert arranged.registry.blob_readable(APP, Digest.of(layer))
        arranged.lose_blob(APP, layer)
        assert not arranged.registry.blob_readable(APP, Digest.of(layer))

    @pytest.mark.parametrize("deep", [False, True])
    def test_blobs_that_are_as_they_should_be_are_sound(
        self, arrange: Arrange, *, deep: bool
    ) -> None:
        arranged = arrange()
        built = image("one", layers=[b"", b"x" * 5000])
        arranged.push(APP, built, "1")
        for content in built.blobs:
            assert arranged.registry.check_blob(APP, blob(content), deep=deep) == "sound"

    @pytest.mark.parametrize("deep", [False, True])
    def test_blobs_that_are_gone_are_missing(self, arrange: Arrange, *, deep: bool) -> None:
        arranged = arrange()
        fill(arranged)
        layer = ONE.blobs[1]
        assert arranged.registry.check_blob(APP, blob(b"never pushed"), deep=deep) == "missing"
        assert arranged.registry.check_blob(APP, blob(layer), deep=deep) == "sound"
        arranged.lose_blob(APP, layer)
        assert arranged.registry.check_blob(APP, blob(layer), deep=deep) == "missing"

    def test_blobs_of_another_size_are_corrupt(self, arrange: Arrange) -> None:
        arranged = arrange()
        fill(arranged)
        layer = ONE.blobs[1]
        other = Descriptor(Digest.of(layer), OCI_LAYER, len(layer) + 1)
        assert arranged.registry.check_blob(APP, other, deep=False) == "corrupt"

    def test_blobs_of_other_bytes_are_found_corrupt_by_reading_all_of_them(
        self, arrange: Arrange
    ) -> None:
        arranged = arrange()
        fill(arranged)
        layer = ONE.blobs[1]
        arranged.spoil_blob(APP, layer)
        assert arranged.registry.check_blob(APP, blob(layer), deep=False) == "sound"
        assert arranged.registry.check_blob(APP, blob(layer), deep=True) == "corrupt"

    # How it is.

    def test_deletion_on_and_off_are_told_apart(self, arrange: Arrange) -> None:
        for enabled in (True, False):
            registry = arrange(delete=enabled).registry
            for repository in (None, APP):
                found = registry.writability(repository)
                assert (found.delete_enabled, found.read_only) == (enabled, False)
            assert registry.state().status == "up"

    def test_a_read_only_registry_says_so(self, arrange: Arrange) -> None:
        registry = arrange(read_only=True).registry
        assert registry.writability().read_only
        state = registry.state()
        assert state.status == "read-only"
        assert state.api_version == "registry/2.0"

    def test_asking_whether_deletion_is_on_changes_nothing(self, arrange: Arrange) -> None:
        arranged = arrange()
        fill(arranged)
        before = resolved(arranged.registry)
        arranged.registry.writability(APP)
        arranged.registry.writability()
        assert resolved(arranged.registry) == before
        assert list(arranged.registry.repositories()) == [APP]

    # Writing.

    def test_a_put_moves_that_tag_alone(self, arrange: Arrange, change: Change) -> None:
        arranged = arrange()
        fill(arranged)
        arranged.push(APP, TWO)
        arranged.registry.writer(change).put_manifest(APP, LATEST, TWO.raw)
        assert resolved(arranged.registry) == {"1": ONE.digest, "latest": TWO.digest}

    def test_a_put_by_digest_tags_nothing(self, arrange: Arrange, change: Change) -> None:
        arranged = arrange()
        fill(arranged)
        whole = index(ONE)
        arranged.registry.writer(change).put_manifest(APP, whole.digest, whole.raw)
        assert arranged.registry.manifest(APP, whole.digest) == whole.raw
        assert set(resolved(arranged.registry)) == {"1", "latest"}

    def test_a_manifest_without_its_blobs_is_refused(
        self, arrange: Arrange, change: Change
    ) -> None:
        arranged = arrange()
        fill(arranged)
        with pytest.raises(ManifestRefused):
            arranged.registry.writer(change).put_manifest(APP, V1, image("never pushed").raw)
        assert arranged.registry.resolve(APP, V1) == ONE.digest

    def test_a_deleted_manifest_can_be_put_back(self, arrange: Arrange, change: Change) -> None:
        arranged = arrange()
        fill(arranged)
        writer = arranged.registry.writer(change)
        writer.delete_manifest(APP, ONE.digest)
        writer.put_manifest(APP, V1, ONE.raw)
        assert resolved(arranged.registry) == {"1": ONE.digest}
        assert arranged.registry.manifest(APP, V1) == ONE.raw

    def test_deleting_a_manifest_takes_all_its_tags_and_no_other(
        self, arrange: Arrange, change: Change
    ) -> None:
        arranged = arrange()
        fill(arranged)
        arranged.push(APP, TWO, "2")
        arranged.registry.writer(change).delete_manifest(APP, ONE.digest)
        assert resolved(arranged.registry) == {"2": TWO.digest}

    def test_deleting_what_is_gone_does_nothing(self, arrange: Arrange, change: Change) -> None:
        arranged = arrange()
        fill(arranged)
        arranged.registry.writer(change).delete_manifest(APP, NOWHERE)
        arranged.registry.writer(change).delete_manifest(Repository("team/other"), NOWHERE)
        assert set(resolved(arranged.registry)) == {"1", "latest"}

    def test_deleting_an_index_leaves_its_children(self, arrange: Arrange, change: Change) -> None:
        arranged = arrange()
        arranged.push(APP, ONE)
        whole = index(ONE)
        arranged.push(APP, whole, "1")
        arranged.registry.writer(change).delete_manifest(APP, whole.digest)
        assert arranged.registry.manifest(APP, ONE.digest) == ONE.raw

    def test_a_child_of_a_tagged_index_can_be_deleted_which_breaks_it(
        self, arrange: Arrange, change: Change
    ) -> None:
        arranged = arrange()
        arranged.push(APP, ONE)
        whole = index(ONE)
        arranged.push(APP, whole, "1")
        arranged.registry.writer(change).delete_manifest(APP, ONE.digest)
        assert arranged.registry.resolve(APP, V1) == whole.digest
        with pytest.raises(ManifestUnknown):
            arranged.registry.manifest(APP, ONE.digest)

    def test_deleting_a_tag_alone_takes_it_alone_or_says_it_cannot(
        self, arrange: Arrange, change: Change
    ) -> None:
        arranged = arrange()
        fill(arranged)
        before = resolved(arranged.registry)
        done = arranged.registry.writer(change).delete_tag(APP, V1)
        assert done is arranged.deletes_tags
        assert resolved(arranged.registry) == ({"latest": ONE.digest} if done else before)
        assert arranged.registry.manifest(APP, ONE.digest) == ONE.raw

    def test_a_placeholder_takes_one_tag_along_when_it_is_deleted(
        self, arrange: Arrange, change: Change
    ) -> None:
        arranged = arrange()
        fill(arranged)
        stand_in = placeholder("deletion", V1)
        writer = arranged.registry.writer(change)
        writer.put_manifest(APP, V1, stand_in)
        writer.delete_manifest(APP, stand_in.digest)
        assert resolved(arranged.registry) == {"latest": ONE.digest}

    def test_where_deletion_is_off_nothing_is_deleted(
        self, arrange: Arrange, change: Change
    ) -> None:
        arranged = arrange(delete=False)
        fill(arranged)
        writer = arranged.registry.writer(change)
        with pytest.raises(DeletionDisabled):
            writer.delete_manifest(APP, ONE.digest)
        assert writer.delete_tag(APP, V1) is False
        assert set(resolved(arranged.registry)) == {"1", "latest"}

    def test_a_read_only_registry_refuses_every_write(
        self, arrange: Arrange, change: Change
    ) -> None:
        registry = arrange(read_only=True, filled=fill).registry
        writer = registry.writer(change)
        with pytest.raises(RegistryReadOnly):
            writer.put_manifest(APP, V1, ONE.raw)
        with pytest.raises(RegistryReadOnly):
            writer.delete_manifest(APP, ONE.digest)
        with pytest.raises(RegistryReadOnly):
            writer.delete_tag(APP, V1)
        assert set(resolved(registry)) == {"1", "latest"}

    def test_a_change_that_has_ended_writes_nothing(self, arrange: Arrange, change: Change) -> None:
        arranged = arrange()
        fill(arranged)
        ended = AuditTrail(FakeStore().audit).begin(Attempt("test", "tester"))
        ended.complete(Completion("succeeded"))
        writer = arranged.registry.writer(ended)
        for write in (
            lambda: writer.put_manifest(APP, LATEST, ONE.raw),
            lambda: writer.delete_manifest(APP, ONE.digest),
            lambda: writer.delete_tag(APP, V1),
        ):
            with pytest.raises(RuntimeError):
                write()
        assert set(resolved(arranged.registry)) == {"1", "latest"}
        change.require_open()
