from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest

from service.domain.audit import Change
from service.domain.content import OCI_INDEX, OCI_MANIFEST, RawManifest
from service.domain.deletion_record import Deletion, KeptManifest, RemovedTag, Requested, State
from service.domain.errors import DeletionUnknown
from service.domain.reference import Digest, Repository, Tag
from tests.contract.store.conftest import START, WholeStore


def raw(text: str, media_type: str = OCI_MANIFEST) -> RawManifest:
    body = text.encode() + bytes(range(256))
    return RawManifest(Digest.of(body), media_type, body)


INDEX, CHILD, SUPPORT = raw("index", OCI_INDEX), raw("child"), raw("support")


def deletion(number: int = 1, registry: str = "default", state: State = "removing") -> Deletion:
    return Deletion(
        id=f"{number:032x}",
        registry=registry,
        repository=Repository("team/app"),
        requested=Requested(tag=Tag("1.2")),
        digest=INDEX.digest,
        tags=(RemovedTag(Tag("1.2"), INDEX.digest), RemovedTag(Tag("gone"), None)),
        manifests=(INDEX, CHILD),
        kept=(KeptManifest(SUPPORT.digest, "another tag points at it: ü"),),
        requested_by="ann",
        created_at=START,
        supports=(SUPPORT,),
        state=state,
    )


def bare(manifest: RawManifest) -> RawManifest:
    return replace(manifest, body=b"", length=len(manifest.body))


def test_a_record_comes_back_as_it_was(store: WholeStore, change: Change) -> None:
    store.deletions.add(change, deletion())
    assert store.deletions.get("default", deletion().id) == deletion()


def test_a_record_of_nothing_but_a_dangling_tag(store: WholeStore, change: Change) -> None:
    empty = replace(
        deletion(), digest=None, manifests=(), supports=(), kept=(), requested=Requested()
    )
    store.deletions.add(change, empty)
    assert store.deletions.get("default", empty.id) == empty


def test_manifests_are_shared_by_the_deletions_that_hold_them(
    store: WholeStore, change: Change
) -> None:
    for number in (1, 2):
        store.deletions.add(change, deletion(number))
    store.deletions.discard(change, deletion(1).id)
    assert store.deletions.get("default", deletion(2).id) == deletion(2)


def test_the_same_bytes_keep_each_deletion_s_media_type(store: WholeStore, change: Change) -> None:
    other = replace(deletion(2), manifests=(replace(INDEX, media_type=OCI_MANIFEST),))
    store.deletions.add(change, deletion(1))
    store.deletions.add(change, other)
    assert store.deletions.get("default", other.id) == other
    assert store.deletions.get("default", deletion(1).id) == deletion(1)


def test_a_record_belongs_to_its_registry(store: WholeStore, change: Change) -> None:
    store.deletions.add(change, deletion())
    with pytest.raises(DeletionUnknown):
        store.deletions.get("other", deletion().id)
    assert store.deletions.page("other", 10, None) == []


def test_unknown_records(store: WholeStore, change: Change) -> None:
    with pytest.raises(DeletionUnknown):
        store.deletions.get("default", "0")
    with pytest.raises(DeletionUnknown):
        store.deletions.set_state(change, "0", "removed")
    with pytest.raises(DeletionUnknown):
        store.deletions.mark_collected(change, "0")
    with pytest.raises(DeletionUnknown):
        store.deletions.replace(change, deletion())
    with pytest.raises(DeletionUnknown):
        store.deletions.discard(change, "0")


def test_pages_have_the_bytes_where_they_are_asked_for(store: WholeStore, change: Change) -> None:
    for number in (1, 2, 3):
        store.deletions.add(change, deletion(number))
    newest = store.deletions.page("default", 2, None, whole=True)
    assert newest == [deletion(3), deletion(2)]
    assert store.deletions.page("default", 2, newest[-1].id, whole=True) == [deletion(1)]
    assert all(raw.body == b"" for raw in store.deletions.page("default", 1, None)[0].manifests)


def test_state_and_collected_move_on(store: WholeStore, change: Change) -> None:
    store.deletions.add(change, deletion())
    store.deletions.set_state(change, deletion().id, "restoring")
    store.deletions.mark_collected(change, deletion().id)
    found = store.deletions.get("default", deletion().id)
    assert found == replace(deletion(), state="restoring", collected=True)
    assert not found.restorable


def test_what_really_went_takes_the_plan_s_place(store: WholeStore, change: Change) -> None:
    done = replace(
        deletion(),
        tags=deletion().tags[:1],
        manifests=(CHILD,),
        kept=(KeptManifest(INDEX.digest, "in use again"),),
        supports=(SUPPORT, INDEX),
        state="removed",
    )
    store.deletions.add(change, deletion())
    store.deletions.replace(change, done)
    assert store.deletions.get("default", done.id) == done


def test_a_discarded_record_is_gone(store: WholeStore, change: Change) -> None:
    store.deletions.add(change, deletion())
    store.deletions.discard(change, deletion().id)
    assert store.deletions.unfinished() == []
    with pytest.raises(DeletionUnknown):
        store.deletions.get("default", deletion().id)


def test_pages_are_newest_first_without_bodies(store: WholeStore, change: Change) -> None:
    for number in (2, 1, 3, 5, 4):
        store.deletions.add(change, deletion(number))
    first = store.deletions.page("default", 2, None)
    second = store.deletions.page("default", 2, first[-1].id)
    third = store.deletions.page("default", 2, second[-1].id)
    listed = [*first, *second, *third]
    assert [one.id for one in listed] == [deletion(number).id for number in (5, 4, 3, 2, 1)]
    assert listed[0].manifests == (bare(INDEX), bare(CHILD))
    assert listed[0].supports == (bare(SUPPORT),)
    assert listed[0].manifests[0].size == INDEX.size
    assert listed[0].restorable


def test_unfinished_are_the_oldest_first_with_bytes(store: WholeStore, change: Change) -> None:
    states: tuple[State, ...] = ("restoring", "removed", "removing")
    for number, state in zip((3, 2, 1), states, strict=True):
        store.deletions.add(change, deletion(number, state=state))
    expected = [deletion(1, state="removing"), deletion(3, state="restoring")]
    assert store.deletions.unfinished() == expected


def test_large_manifests_fit(store: WholeStore, change: Change) -> None:
    body = b"\x00\xff" * (2 * 1024 * 1024)
    large = replace(deletion(), manifests=(RawManifest(Digest.of(body), OCI_MANIFEST, body),))
    store.deletions.add(change, large)
    assert store.deletions.get("default", large.id).manifests[0].body == body


def test_an_ended_change_changes_nothing(store: WholeStore, change: Change, ended: Change) -> None:
    store.deletions.add(change, deletion())
    with pytest.raises(RuntimeError):
        store.deletions.add(ended, deletion(2))
    with pytest.raises(RuntimeError):
        store.deletions.set_state(ended, deletion().id, "removed")
    with pytest.raises(RuntimeError):
        store.deletions.mark_collected(ended, deletion().id)
    with pytest.raises(RuntimeError):
        store.deletions.replace(ended, replace(deletion(), kept=()))
    with pytest.raises(RuntimeError):
        store.deletions.discard(ended, deletion().id)
    assert store.deletions.unfinished() == [deletion()]


def found(raws: Sequence[RawManifest]) -> dict[Digest, RawManifest]:
    """What was found, once each."""
    by_digest = {one.digest: one for one in raws}
    assert len(by_digest) == len(raws)
    return by_digest


def test_indexes_are_told_for_a_repository_each_once_with_bytes(
    store: WholeStore, change: Change
) -> None:
    other = raw("other", OCI_INDEX)
    elsewhere = replace(deletion(4), repository=Repository("team/other"), manifests=(other,))
    for one in (deletion(1), deletion(2), deletion(3, "second"), elsewhere):
        store.deletions.add(change, one)
    kept = replace(deletion(5), manifests=(), supports=(raw("kept", OCI_INDEX),))
    store.deletions.add(change, kept)
    indexes = store.deletions.indexes("default", Repository("team/app"))
    assert found(indexes) == {INDEX.digest: INDEX, kept.supports[0].digest: kept.supports[0]}
    assert store.deletions.indexes("default", Repository("team/none")) == []


def test_manifests_are_told_by_digest_within_a_repository(
    store: WholeStore, change: Change
) -> None:
    for number in (1, 2):
        store.deletions.add(change, deletion(number))
    wanted = [CHILD.digest, SUPPORT.digest, raw("unknown").digest]
    app = Repository("team/app")
    manifests = store.deletions.manifests("default", app, wanted)
    assert found(manifests) == {CHILD.digest: CHILD, SUPPORT.digest: SUPPORT}
    assert store.deletions.manifests("second", app, wanted) == []
    assert store.deletions.manifests("default", Repository("team/apple"), wanted) == []
