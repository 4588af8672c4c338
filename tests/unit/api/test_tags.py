import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.api.tags import TagSchema, dump_tag
from service.domain.content import OCI_MANIFEST, Platform
from service.domain.errors import RegistryUnreachable
from service.domain.reading import TagDetail
from service.domain.reference import Digest, Repository, Tag
from tests.fakes import Behaviour, image, index
from tests.unit.api.conftest import Bed

REPOSITORY = "/v1/registries/default/repositories/team/app"
TAGS = f"{REPOSITORY}/-/tags"
ONE = f"{TAGS}/1.0"
OTHER_DIGEST = "sha256:" + "0" * 64

texts = st.text(max_size=9) | st.none()
platforms = st.builds(Platform, st.text(max_size=9), st.text(max_size=9), texts)
details = st.builds(
    TagDetail,
    name=st.text(min_size=1, max_size=9).map(Tag),
    digest=st.just(Digest(OTHER_DIGEST)) | st.none(),
    media_type=texts,
    kind=st.sampled_from(["image", "index", "artifact", None]),
    size=st.integers(min_value=0) | st.none(),
    created=texts,
    platforms=st.lists(platforms, max_size=3).map(tuple),
    dangling=st.booleans(),
)


@given(details)
def test_the_fast_way_writes_what_the_schema_writes(detail: TagDetail) -> None:
    assert dump_tag(detail) == TagSchema().dump(detail)
    assert list(dump_tag(detail)) == list(TagSchema().dump(detail))


# Reading


def test_tags_are_listed_by_name_alone(bed: Bed) -> None:
    bed.registry.push("team/app", image("a"), "b", "a", "B")
    assert bed.ask(TAGS).json["items"] == [{"name": "B"}, {"name": "a"}, {"name": "b"}]
    assert not [read for read in bed.registry.reads if read[0] == "manifest"]


def test_tags_are_listed_in_full(bed: Bed) -> None:
    bed.registry.push("team/app", image("a"), "1.0", "latest")
    listed = bed.ask(f"{TAGS}?detail=true").json["items"]
    assert listed == [bed.ask(f"{TAGS}/{name}").json for name in ("1.0", "latest")]


def test_a_tag_has_every_field(bed: Bed) -> None:
    pushed = image("a")
    bed.registry.push("team/app", pushed, "1.0")
    answer = bed.ask(ONE)
    assert answer.json == {
        "name": "1.0",
        "digest": pushed.digest,
        "media_type": OCI_MANIFEST,
        "kind": "image",
        "size": len(pushed.raw.body) + sum(len(blob) for blob in pushed.blobs),
        "created": None,
        "platforms": [{"os": "linux", "architecture": "amd64", "variant": None}],
        "dangling": False,
        "problem": None,
    }
    assert answer.headers["ETag"] == f'"{pushed.digest}"'


def test_a_dangling_tag_has_no_digest_and_no_etag(bed: Bed) -> None:
    bed.registry.push("team/app", image("a"), "1.0")
    bed.registry.dangle("team/app", "1.0")
    answer = bed.ask(ONE)
    assert (answer.json["digest"], answer.json["dangling"]) == (None, True)
    assert "ETag" not in answer.headers
    assert bed.ask(ONE, headers={"If-None-Match": "*"}).status == 200
    assert bed.ask(f"{TAGS}?detail=true").json["items"] == [answer.json]


def test_what_is_unknown_is_404(bed: Bed) -> None:
    assert bed.ask(ONE).problem == (404, "repository-unknown")
    assert bed.ask(TAGS).problem == (404, "repository-unknown")
    bed.registry.push("team/app", image("a"), "1.0")
    assert bed.ask(f"{TAGS}/2.0").problem == (404, "tag-unknown")


@pytest.mark.parametrize("sent", ["*", '"{}"', 'W/"{}"', '"a", "{}"', '"a,b" ,, W/"{}"'])
def test_if_none_match_answers_304(bed: Bed, sent: str) -> None:
    digest = bed.registry.push("team/app", image("a"), "1.0")
    answer = bed.ask(ONE, headers={"If-None-Match": sent.format(digest)})
    assert (answer.status, answer.data) == (304, b"")
    assert answer.headers["ETag"] == f'"{digest}"'


@pytest.mark.parametrize("sent", [f'"{OTHER_DIGEST}"', "", '""', ",", '"*"'])
def test_if_none_match_of_something_else_answers_in_full(bed: Bed, sent: str) -> None:
    bed.registry.push("team/app", image("a"), "1.0")
    assert bed.ask(ONE, headers={"If-None-Match": sent}).status == 200


MALFORMED = ["x", OTHER_DIGEST, '"a', 'a"', "'a'", '*, "a"', 'w/"a"', 'W/ "a"', '"a" "b"', "**"]


@pytest.mark.parametrize("sent", MALFORMED)
@pytest.mark.parametrize(
    ("method", "header"),
    [("GET", "If-None-Match"), ("PUT", "If-Match"), ("DELETE", "If-Match")],
)
def test_malformed_conditions_are_400(bed: Bed, method: str, header: str, sent: str) -> None:
    bed.registry.push("team/app", image("a"), "1.0")
    body = {"tag": "1.0"} if method == "PUT" else None
    answer = bed.ask(ONE, method, body=body, headers={header: sent})
    assert answer.problem == (400, "malformed-header")
    assert answer.json["header"] == header
    assert bed.registry.writes == []


# Moving


def test_a_new_tag_is_201(bed: Bed) -> None:
    digest = bed.registry.push("team/app", image("a"), "1.0")
    answer = bed.ask(f"{TAGS}/2.0", "PUT", body={"digest": digest})
    assert answer.status == 201
    assert answer.headers["ETag"] == f'"{digest}"'
    assert answer.json == {
        **bed.ask(f"{TAGS}/2.0").json,
        "previous_digest": None,
        "dry_run": False,
    }


def test_a_moved_tag_is_200_and_tells_where_it_was(bed: Bed) -> None:
    before = bed.registry.push("team/app", image("a"), "1.0")
    after = bed.registry.push("team/app", image("b"), "2.0")
    answer = bed.ask(ONE, "PUT", body={"tag": "2.0"})
    assert answer.status == 200
    assert (answer.json["digest"], answer.json["previous_digest"]) == (after, before)
    assert bed.registry.resolved("team/app")[Tag("1.0")] == after


def test_a_dry_run_of_pointing_changes_nothing(bed: Bed) -> None:
    bed.registry.push("team/app", image("a"), "1.0")
    bed.registry.push("team/app", image("b"), "2.0")
    dry = bed.ask(ONE, "PUT", body={"tag": "2.0", "dry_run": True})
    assert bed.registry.writes == []
    real = bed.ask(ONE, "PUT", body={"tag": "2.0", "dry_run": False})
    assert dry.status == real.status
    assert dry.json == {**real.json, "dry_run": True}


def test_what_a_tag_is_pointed_at_must_be_there(bed: Bed) -> None:
    bed.registry.push("team/app", image("a"), "1.0")
    answer = bed.ask(ONE, "PUT", body={"digest": OTHER_DIGEST})
    assert answer.problem == (404, "manifest-unknown")
    assert bed.ask(ONE, "PUT", body={"tag": "none"}).problem == (404, "tag-unknown")


def test_a_read_only_registry_refuses(bed: Bed) -> None:
    bed.registry.push("team/app", image("a"), "1.0")
    bed.registry.behaviour = Behaviour(read_only=True)
    assert bed.ask(ONE, "PUT", body={"tag": "1.0"}).problem == (409, "registry-read-only")
    assert bed.ask(ONE, "DELETE").problem == (409, "registry-read-only")


@pytest.mark.parametrize("sent", ["*", '"{}"', '"a", "{}"', 'W/"a", "b" , "{}"'])
@pytest.mark.parametrize("method", ["PUT", "DELETE"])
def test_if_match_lets_through_what_matches(bed: Bed, method: str, sent: str) -> None:
    digest = bed.registry.push("team/app", image("a"), "1.0")
    body = {"tag": "1.0"} if method == "PUT" else None
    answer = bed.ask(ONE, method, body=body, headers={"If-Match": sent.format(digest)})
    assert answer.status == 200


@pytest.mark.parametrize("sent", [f'"{OTHER_DIGEST}"', 'W/"{}"', '"a", "b"', '""', "", ",", '"*"'])
@pytest.mark.parametrize("method", ["PUT", "DELETE"])
def test_if_match_stops_what_does_not(bed: Bed, method: str, sent: str) -> None:
    digest = bed.registry.push("team/app", image("a"), "1.0")
    body = {"tag": "1.0"} if method == "PUT" else None
    answer = bed.ask(ONE, method, body=body, headers={"If-Match": sent.format(digest)})
    assert answer.problem == (412, "digest-mismatch")
    assert answer.json["current"] == digest
    assert bed.registry.writes == []


@pytest.mark.parametrize("method", ["PUT", "DELETE"])
def test_a_condition_that_is_not_offered_is_refused(bed: Bed, method: str) -> None:
    bed.registry.push("team/app", image("a"), "1.0")
    body = {"tag": "1.0"} if method == "PUT" else None
    answer = bed.ask(ONE, method, body=body, headers={"If-None-Match": "*"})
    assert answer.problem == (400, "malformed-header")
    assert bed.registry.writes == []


def test_if_match_on_a_tag_that_is_not_there_is_412_for_put(bed: Bed) -> None:
    bed.registry.push("team/app", image("a"), "1.0")
    answer = bed.ask(f"{TAGS}/2.0", "PUT", body={"tag": "1.0"}, headers={"If-Match": "*"})
    assert answer.problem == (412, "digest-mismatch")
    assert answer.json["current"] is None


# Removing


def test_the_answer_is_the_deletion(bed: Bed) -> None:
    built = image("a")
    bed.registry.push("team/app", built, "1.0")
    answer = bed.ask(ONE, "DELETE")
    assert answer.status == 200
    assert answer.json == {
        "id": answer.json["id"],
        "registry": "default",
        "repository": "team/app",
        "requested": {"tag": "1.0"},
        "digest": built.digest,
        "tags_removed": ["1.0"],
        "manifests_removed": [
            {"digest": built.digest, "media_type": OCI_MANIFEST, "size": len(built.raw.body)}
        ],
        "manifests_kept": [],
        "requested_by": "root",
        "created_at": "2026-01-31T12:00:00Z",
        "dry_run": False,
        "restorable": True,
    }
    assert bed.registry.resolved("team/app") == {}


def test_a_dry_run_answers_the_same_but_for_its_id(bed: Bed) -> None:
    bed.registry.push("team/app", index(image("a"), image("b")), "1.0")
    bed.registry.push("team/app", image("a"))
    dry = bed.ask(f"{ONE}?dry_run=true", "DELETE")
    assert bed.registry.writes == []
    real = bed.ask(ONE, "DELETE")
    assert dry.json == {**real.json, "id": None, "dry_run": True}


def test_every_other_tag_stays(bed: Bed) -> None:
    digest = bed.registry.push("team/app", image("a"), "1.0", "latest")
    answer = bed.ask(ONE, "DELETE").json
    assert bed.registry.resolved("team/app") == {"latest": digest}
    assert (answer["tags_removed"], answer["manifests_removed"]) == (["1.0"], [])
    assert [kept["digest"] for kept in answer["manifests_kept"]] == [digest]


def test_keep_manifest_and_cascade_are_obeyed(bed: Bed) -> None:
    child = image("child")
    bed.registry.push("team/app", child)
    digest = bed.registry.push("team/app", index(child), "1.0", "2.0")
    kept = bed.ask(f"{TAGS}/2.0?keep_manifest=true", "DELETE").json
    assert kept["manifests_removed"] == []
    alone = bed.ask(f"{ONE}?cascade=false", "DELETE").json
    assert [removed["digest"] for removed in alone["manifests_removed"]] == [digest]
    assert child.digest in bed.registry.contents[Repository("team/app")].manifests


def test_a_registry_with_deletion_disabled_says_how_to_enable_it(
    bed: Bed, locked: Behaviour
) -> None:
    bed.registry.push("team/app", image("a"), "1.0")
    bed.registry.behaviour = locked
    answer = bed.ask(ONE, "DELETE")
    assert answer.problem == (409, "deletion-disabled")
    assert "REGISTRY_STORAGE_DELETE_ENABLED" in answer.json["detail"]
    assert bed.registry.writes == []


def test_a_dangling_tag_is_removed(bed: Bed) -> None:
    bed.registry.push("team/app", image("a"), "1.0")
    bed.registry.dangle("team/app", "1.0")
    answer = bed.ask(ONE, "DELETE").json
    assert (answer["digest"], answer["tags_removed"], answer["restorable"]) == (
        None,
        ["1.0"],
        False,
    )


def test_a_repository_that_is_being_changed_is_busy(
    bed: Bed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.domain.removal.LOCK_WAIT_SECONDS", 0.01)
    bed.registry.push("team/app", image("a"), "1.0")
    with bed.store.locks.hold("repository/default/team/app", 1):
        answer = bed.ask(ONE, "DELETE")
    assert answer.problem == (409, "repository-busy")
    assert answer.headers["Retry-After"] == "5"


def test_an_interrupted_deletion_is_named(bed: Bed) -> None:
    bed.registry.push("team/app", image("a"), "1.0")
    broken = RegistryUnreachable("The connection broke.")
    bed.registry.die(1, "before", broken, for_good=False)
    answer = bed.ask(ONE, "DELETE")
    assert answer.problem == (502, "registry-unreachable")
    record = bed.ask(f"/v1/registries/default/deletions/{answer.json['deletion']}").json
    assert record["requested"] == {"tag": "1.0"}
    assert bed.events()[-1].completion is not None
