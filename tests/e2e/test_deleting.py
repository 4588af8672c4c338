"""A deletion removes what was asked for and nothing else, or refuses before anything changes."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest

from demo import images
from demo.images import DOCKER, OCI, Manifest, cosign_tag, fallback_tag, sample, signature
from tests.e2e.bed.api import (
    REGISTRY,
    ZEROS,
    delete,
    get,
    manifest_path,
    pages,
    problem,
    query,
    repository_path,
    restore,
    tag_path,
)
from tests.e2e.bed.http import Answer
from tests.e2e.bed.proxy import Exchange, Reply
from tests.e2e.bed.registry import MakeRegistry
from tests.e2e.bed.service import MakeService
from tests.e2e.bed.site import REPOSITORIES, Look, Site, open_site, tree

A = sample("a")
B = sample("b", flavour=DOCKER)
AMD64, ARM64, ARM_V7 = images.multi_arch("shared").children
INDEX = images.index([AMD64, ARM64, ARM_V7])
LIST = images.multi_arch("list", flavour=DOCKER)
ATTESTED = images.multi_arch("attested", attested=True)
BILL = images.artifact(b"a bill", subject=A)
ABOUT_A = images.referrers_index([BILL])
OTHER = images.index([AMD64], annotations={"which": "other"})
NESTED = images.index([INDEX, B])
ARTIFACT = images.artifact(b"rules")


@dataclass(frozen=True)
class Case:
    """Content, a deletion, and what it takes: ``by`` is the tag or the manifest it names."""

    tags: Mapping[str, Manifest]
    by: str | Manifest
    gone_tags: set[str]
    gone: tuple[Manifest, ...] = ()
    kept: Mapping[str, str] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)
    untagged: tuple[Manifest, ...] = ()

    def path(self, repository: str) -> str:
        if isinstance(self.by, str):
            return tag_path(repository, self.by)
        return manifest_path(repository, self.by.digest)

    @property
    def digest(self) -> str:
        return (self.tags[self.by] if isinstance(self.by, str) else self.by).digest

    @property
    def requested(self) -> dict[str, str]:
        return {"tag": self.by} if isinstance(self.by, str) else {"digest": self.by.digest}


SIGNED = {"1": A, cosign_tag(A): signature(A), "other": B}
REFERRED = {"1": A, fallback_tag(A): ABOUT_A, "other": B}
INDEXED = {"1": INDEX, "amd64": AMD64, "other": OTHER}

CASES = {
    "sibling": Case({"1": A, "2": A, "other": B}, "1", {"1"}, kept={A.digest: "tagged"}),
    "sibling-of-an-index": Case(
        {"1": LIST, "latest": LIST, "other": A}, "1", {"1"}, kept={LIST.digest: "tagged"}
    ),
    "sibling-of-a-signed": Case({**SIGNED, "2": A}, "1", {"1"}, kept={A.digest: "tagged"}),
    "last": Case({"1": A, "other": B}, "1", {"1"}, (A,)),
    "last-of-all": Case({"1": B}, "1", {"1"}, (B,)),
    "artifact": Case({"1": ARTIFACT, "other": B}, "1", {"1"}, (ARTIFACT,)),
    "keep-manifest": Case(
        {"1": A, "other": B},
        "1",
        {"1"},
        kept={A.digest: "keep-manifest"},
        options={"keep_manifest": True},
    ),
    "keep-manifest-of-a-signed": Case(
        SIGNED, "1", {"1"}, kept={A.digest: "keep-manifest"}, options={"keep_manifest": True}
    ),
    "index": Case({"1": ATTESTED, "other": B}, "1", {"1"}, tuple(tree(ATTESTED))),
    "index-with-shared-children": Case(
        INDEXED, "1", {"1"}, (INDEX, ARM64, ARM_V7), kept={AMD64.digest: "tagged"}
    ),
    "index-with-a-child-of-another": Case(
        {"1": INDEX, "other": OTHER},
        "1",
        {"1"},
        (INDEX, ARM64, ARM_V7),
        kept={AMD64.digest: "child-of-index"},
    ),
    "index-without-cascade": Case(
        {"1": INDEX, "other": B},
        "1",
        {"1"},
        (INDEX,),
        kept=dict.fromkeys((AMD64.digest, ARM64.digest, ARM_V7.digest), "cascade-off"),
        options={"cascade": False},
    ),
    "nested-index": Case(
        {"1": NESTED, "other": OTHER},
        "1",
        {"1"},
        (NESTED, INDEX, B, ARM64, ARM_V7),
        kept={AMD64.digest: "child-of-index"},
    ),
    "index-in-an-index": Case(
        {"1": INDEX, "other": NESTED}, "1", {"1"}, kept={INDEX.digest: "child-of-index"}
    ),
    "child-of-an-index": Case(INDEXED, "amd64", {"amd64"}, kept={AMD64.digest: "child-of-index"}),
    "signed": Case(SIGNED, "1", {"1", cosign_tag(A)}, (A, signature(A))),
    "signed-without-cascade": Case(
        SIGNED,
        "1",
        {"1"},
        (A,),
        kept={signature(A).digest: "tagged"},
        options={"cascade": False},
    ),
    "signed-child": Case(
        {"1": INDEX, cosign_tag(ARM64): signature(ARM64), "amd64": AMD64},
        "1",
        {"1", cosign_tag(ARM64)},
        (INDEX, ARM64, ARM_V7, signature(ARM64)),
        kept={AMD64.digest: "tagged"},
    ),
    "signature": Case(SIGNED, cosign_tag(A), {cosign_tag(A)}, (signature(A),)),
    "referred": Case(REFERRED, "1", {"1", fallback_tag(A)}, (A, ABOUT_A, BILL)),
    "referred-by-what-is-tagged": Case(
        {**REFERRED, "bill": BILL},
        "1",
        {"1", fallback_tag(A)},
        (A, ABOUT_A),
        kept={BILL.digest: "tagged"},
    ),
    "by-digest": Case({"other": B}, A, set(), (A,), untagged=(A,)),
    "by-digest-with-tags": Case(
        {"1": A, "2": A, "other": B}, A, {"1", "2"}, (A,), options={"tags": "2,1"}
    ),
    "by-digest-with-force": Case(
        {"1": A, "2": A, "other": B}, A, {"1", "2"}, (A,), options={"force": True}
    ),
    "by-digest-of-a-signed": Case(
        SIGNED, A, {"1", cosign_tag(A)}, (A, signature(A)), options={"tags": "1"}
    ),
    "by-digest-of-an-index": Case(
        INDEXED,
        INDEX,
        {"1"},
        (INDEX, ARM64, ARM_V7),
        kept={AMD64.digest: "tagged"},
        options={"force": True},
    ),
    "by-digest-out-of-an-index": Case(
        {"1": INDEX, "other": B}, ARM64, set(), (ARM64,), options={"force": True}
    ),
    "by-digest-out-of-an-untagged-index": Case(
        {"other": B}, ARM64, set(), (ARM64,), untagged=(INDEX,)
    ),
}


@pytest.fixture(scope="module")
def site(module_registry: MakeRegistry, module_service: MakeService) -> Iterator[Site]:
    with open_site(module_registry, module_service) as opened:
        yield opened


def timeless(deletion: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: value
        for name, value in deletion.items()
        if name not in {"id", "created_at", "dry_run"}
    }


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_a_deletion_takes_this_and_nothing_else(site: Site, case: Case) -> None:
    repository = site.fill(case.tags, *case.untagged)
    before = site.look(repository)
    with site.untouched(repository):
        told = delete(site.service, case.path(repository), dry_run=True, **case.options)
    done = delete(site.service, case.path(repository), **case.options)
    expected = before.without(case.gone_tags, {one.digest for one in case.gone})
    assert site.look(repository) == expected
    assert_told(case, repository, done)
    assert timeless(told) == timeless(done)
    assert (told["id"], told["dry_run"], done["dry_run"]) == (None, True, False)
    assert get(site.service, f"{REGISTRY}/deletions/{done['id']}") == done
    for tag in expected.tags:
        site.pull(repository, tag, absent={one.digest for one in case.gone})
    restore(site.service, done)
    assert site.look(repository) == before


def assert_told(case: Case, repository: str, told: Mapping[str, Any]) -> None:
    removed = {one["digest"]: one for one in told["manifests_removed"]}
    assert {one["digest"]: one["reason"] for one in told["manifests_kept"]} == case.kept
    assert set(told["tags_removed"]) == case.gone_tags
    assert set(removed) == {one.digest for one in case.gone}
    for one in case.gone:
        row = {"digest": one.digest, "media_type": one.media_type, "size": len(one.body)}
        assert removed[one.digest] == row
    assert told["requested"] == case.requested
    assert told["registry"] == "default"
    assert told["repository"] == repository
    assert told["digest"] == case.digest
    assert told["requested_by"].startswith("bed-")
    assert told["created_at"].endswith("Z")
    assert told["restorable"] is True
    assert isinstance(case.by, Manifest) or told["tags_removed"][0] == case.by


def test_other_repositories_stay_as_they_are(site: Site) -> None:
    content = {"1": INDEX, "2": A, cosign_tag(A): signature(A)}
    here, there = site.fill(content), site.fill(content)
    before = site.look(there)
    for tag in ("1", "2"):
        delete(site.service, tag_path(here, tag))
    assert site.look(here) == Look({}, frozenset())
    assert site.look(there) == before
    assert get(site.service, repository_path(here))["tag_count"] == 0


def test_a_dangling_tag_is_removed_as_well(site: Site) -> None:
    repository = site.fill({"1": A, "2": B})
    site.dangle(repository, "1")
    site.registry.restart()
    before = site.look(repository)
    assert before.tags["1"] is None
    with site.untouched(repository):
        told = delete(site.service, tag_path(repository, "1"), dry_run=True)
    done = delete(site.service, tag_path(repository, "1"))
    assert timeless(told) == timeless(done)
    assert site.look(repository) == before.without({"1"})
    assert (done["digest"], done["tags_removed"], done["restorable"]) == (None, ["1"], False)
    path = f"{REGISTRY}/deletions/{done['id']}/restore"
    problem(site.service.ask(path, "POST"), 409, "not-restorable")


def test_an_index_whose_child_dangles_is_removed(site: Site) -> None:
    repository = site.fill({"1": INDEX, "amd64": AMD64, "2": B})
    delete(site.service, manifest_path(repository, AMD64.digest), force=True)
    before = site.look(repository)
    done = delete(site.service, tag_path(repository, "1"))
    gone = {INDEX.digest, ARM64.digest, ARM_V7.digest}
    assert site.look(repository) == before.without({"1"}, gone)
    assert {one["digest"] for one in done["manifests_removed"]} == gone


def test_a_tag_that_others_move_meanwhile_stays_theirs(site: Site) -> None:
    repository = site.fill({"1": A, "2": A})
    site.proxy.reset()

    def move(exchange: Exchange) -> Reply:
        site.fill({"1": B}, repository=repository)
        return exchange.forward()

    site.proxy.rule(move, method="DELETE", path=ZEROS, times=1)
    answer = site.service.ask(tag_path(repository, "1"), "DELETE")
    assert problem(answer, 412, "digest-mismatch")["current"] == B.digest
    assert site.registry.tags(repository) == {"1": B.digest, "2": A.digest}


# Refusals.


def refused(
    site: Site, repository: str, path: str, status: int, code: str, **options: object
) -> Any:  # noqa: ANN401
    """Hold that it is refused, dry run or not, and changes nothing; gives the problem."""
    found = [
        without_request(
            problem(site_delete(site, repository, path, **options, **dry), status, code)
        )
        for dry in ({"dry_run": True}, {})
    ]
    assert found[0] == found[1]
    return found[0]


def site_delete(site: Site, repository: str, path: str, **options: object) -> Answer:
    with site.untouched(repository):
        return site.service.ask(path + query(**options), "DELETE")


def without_request(told: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in told.items() if name != "request_id"}


@pytest.mark.parametrize("tags", [None, "1", "1,2,3", "other"])
def test_a_manifest_with_tags_needs_exactly_their_names(site: Site, tags: str | None) -> None:
    repository = site.fill({"1": A, "2": A, "other": B, "3": B})
    path = manifest_path(repository, A.digest)
    told = refused(site, repository, path, 409, "manifest-tagged", tags=tags)
    assert told["tags"] == ["1", "2"]


def test_a_child_of_a_tagged_index_needs_force(site: Site) -> None:
    repository = site.fill({"1": INDEX, "nested": NESTED, "other": OTHER})
    path = manifest_path(repository, AMD64.digest)
    told = refused(site, repository, path, 409, "manifest-in-index")
    assert told["parents"] == sorted([INDEX.digest, OTHER.digest])
    told = refused(site, repository, manifest_path(repository, B.digest), 409, "manifest-in-index")
    assert told["parents"] == [NESTED.digest]


def test_a_tagged_child_needs_both(site: Site) -> None:
    repository = site.fill({"1": INDEX, "amd64": AMD64})
    path = manifest_path(repository, AMD64.digest)
    refused(site, repository, path, 409, "manifest-tagged")
    refused(site, repository, path, 409, "manifest-in-index", tags="amd64")


def test_what_is_not_there_cannot_be_deleted(site: Site) -> None:
    repository = site.fill({"1": A})
    refused(site, repository, tag_path(repository, "2"), 404, "tag-unknown")
    refused(site, repository, manifest_path(repository, ZEROS), 404, "manifest-unknown")
    refused(site, repository, manifest_path(repository, B.digest), 404, "manifest-unknown")
    refused(site, repository, tag_path("case/none", "1"), 404, "repository-unknown")
    path = tag_path(repository, "1").replace("default", "other")
    refused(site, repository, path, 404, "registry-unknown")


def if_match(site: Site, path: str, value: str, **options: object) -> Answer:
    headers = {"If-Match": value}
    return site.service.ask(path + query(**options), "DELETE", headers=headers)


@pytest.mark.parametrize("value", [f'"{B.digest}"', f'W/"{A.digest}"', '"x"', '"a", "b"'])
def test_a_tag_that_is_not_on_the_expected_digest_stays(site: Site, value: str) -> None:
    repository = site.fill({"1": A, "2": A})
    for options in ({}, {"dry_run": True}):
        with site.untouched(repository):
            answer = if_match(site, tag_path(repository, "1"), value, **options)
        told = problem(answer, 412, "digest-mismatch")
        assert told["current"] == A.digest


@pytest.mark.parametrize("value", [f'"{A.digest}"', "*", f'"x", "{A.digest}"'])
def test_a_tag_on_the_expected_digest_goes(site: Site, value: str) -> None:
    repository = site.fill({"1": A, "2": A})
    etag = site.service.ask(tag_path(repository, "1")).headers["etag"]
    assert etag == f'"{A.digest}"'
    assert if_match(site, tag_path(repository, "1"), value).status == 200
    assert site.registry.tags(repository) == {"2": A.digest}


WAYS = ("REGISTRY_STORAGE_DELETE_ENABLED=true", "storage: {delete: {enabled: true}}")


def test_with_deletion_off_nothing_is_begun(
    module_registry: MakeRegistry, service: MakeService
) -> None:
    with open_site(module_registry, service, delete=False) as off:
        repository = off.fill({"1": A, "2": A, "3": B, "idx": INDEX})
        assert get(off.service, REGISTRY)["delete_enabled"] is False
        paths = [tag_path(repository, tag) for tag in ("1", "3", "idx")]
        paths += [manifest_path(repository, one.digest) + "?force=true" for one in (A, INDEX)]
        for path in [*paths, tag_path(repository, "1") + "?dry_run=true"]:
            with off.untouched(repository):
                told = problem(off.service.ask(path, "DELETE"), 409, "deletion-disabled")
            assert all(way in told["detail"] for way in WAYS)
        assert pages(off.service, f"{REGISTRY}/deletions") == []


def test_a_read_only_registry_is_left_alone(
    module_registry: MakeRegistry, service: MakeService
) -> None:
    with open_site(module_registry, service) as site:
        repository = site.fill({"1": A, "2": A, "3": B})
        removed = delete(site.service, tag_path(repository, "3"))
        closed = module_registry(seed=site.registry, read_only=True)
        site.proxy.upstream = closed.url
        assert get(site.service, REGISTRY)["status"] == "read-only"
        again = f"{REGISTRY}/deletions/{removed['id']}/restore"
        tries: list[tuple[str, str, Any]] = [
            ("DELETE", tag_path(repository, "1"), None),
            ("DELETE", tag_path(repository, "1") + "?dry_run=true", None),
            ("DELETE", manifest_path(repository, A.digest) + "?force=true", None),
            ("PUT", tag_path(repository, "new"), {"tag": "1"}),
            ("PUT", tag_path(repository, "new"), {"tag": "1", "dry_run": True}),
            ("POST", again, None),
            ("POST", again, {"dry_run": True}),
        ]
        for method, path, body in tries:
            with site.untouched(repository):
                answer = site.service.ask(path, method, body=body)
            problem(answer, 409, "registry-read-only")
        site.proxy.upstream = site.registry.url
        restore(site.service, removed)


# Pointing tags.


def put(site: Site, repository: str, tag: str, body: object, **headers: str) -> Answer:
    return site.service.ask(tag_path(repository, tag), "PUT", body=body, headers=headers)


@pytest.mark.parametrize("source", [{"digest": INDEX.digest}, {"tag": "idx"}])
def test_a_tag_is_pointed_at_a_manifest(site: Site, source: dict[str, str]) -> None:
    repository = site.fill({"1": A, "idx": INDEX})
    with site.untouched(repository):
        told = put(site, repository, "new", {**source, "dry_run": True})
    made = put(site, repository, "new", source)
    assert (made.status, told.status) == (201, 201)
    assert told.json() == {**made.json(), "dry_run": True}
    assert made.json() == {
        **get(site.service, tag_path(repository, "new")),
        "previous_digest": None,
        "dry_run": False,
    }
    assert made.headers["etag"] == f'"{INDEX.digest}"'
    moved = put(site, repository, "1", source)
    assert (moved.status, moved.json()["previous_digest"]) == (200, A.digest)
    again = put(site, repository, "1", source)
    assert (again.status, again.json()["previous_digest"]) == (200, INDEX.digest)
    assert site.registry.tags(repository) == dict.fromkeys(("1", "idx", "new"), INDEX.digest)


def test_pointing_a_tag_moves_no_blob(site: Site) -> None:
    repository = site.fill({"1": ATTESTED})
    site.proxy.reset()
    assert put(site, repository, "new", {"tag": "1"}).status == 201
    assert [(one.method, one.path) for one in site.changes()] == [
        ("PUT", f"/v2/{repository}/manifests/new")
    ]
    assert not [one for one in site.proxy.seen if "/blobs/" in one.path and one.method == "POST"]


def test_pointing_a_tag_heeds_if_match(site: Site) -> None:
    repository = site.fill({"1": A, "2": B})
    for value in (f'"{B.digest}"', f'W/"{A.digest}"'):
        with site.untouched(repository):
            answer = put(site, repository, "1", {"tag": "2"}, **{"If-Match": value})
        assert problem(answer, 412, "digest-mismatch")["current"] == A.digest
    with site.untouched(repository):
        answer = put(site, repository, "new", {"tag": "2"}, **{"If-Match": "*"})
    assert problem(answer, 412, "digest-mismatch")["current"] is None
    matching = {"If-Match": f'"{A.digest}"'}
    assert put(site, repository, "1", {"tag": "2"}, **matching).status == 200


def test_a_tag_is_pointed_only_at_what_is_there(site: Site) -> None:
    repository = site.fill({"1": A})
    site.fill({"1": B})
    with site.untouched(repository):
        problem(put(site, repository, "1", {"digest": B.digest}), 404, "manifest-unknown")
        problem(put(site, repository, "1", {"tag": "2"}), 404, "tag-unknown")
        problem(put(site, "case/none", "1", {"tag": "2"}), 404, "repository-unknown")


# What a registry takes though it means nothing.

ODD: Mapping[str, dict[str, Any]] = {
    "an index of nothing": {"mediaType": OCI.index},
    "a subject without a digest": {"mediaType": OCI.manifest, "subject": {"size": 1}},
    "a subject that is no digest": {"mediaType": OCI.manifest, "subject": {"digest": "sha256:x"}},
}


@pytest.mark.parametrize("odd", ODD)
def test_an_odd_manifest_keeps_nothing_else_from_going(site: Site, odd: str) -> None:
    repository, document = f"odd/{len(odd)}", {"schemaVersion": 2, **ODD[odd]}
    site.fill({"one": A, "two": B}, repository=repository)
    if document["mediaType"] == OCI.manifest:
        document |= {key: json.loads(A.body)[key] for key in ("config", "layers")}
    path = f"/v2/{repository}/manifests/odd"
    headers = {"Content-Type": document["mediaType"]}
    put = site.registry.ask(path, "PUT", headers=headers, body=json.dumps(document).encode())
    if put.status != 201:  # then there is nothing odd in this registry
        return
    listed = get(site.service, repository_path(repository, "tags"), detail=True)["items"]
    assert [one["name"] for one in listed] == ["odd", "one", "two"]
    delete(site.service, tag_path(repository, "one"))
    delete(site.service, tag_path(repository, "odd"))
    assert set(site.look(repository).tags) == {"two"}


def test_an_image_under_the_name_of_a_fallback_tag_stays(site: Site) -> None:
    repository, named = "odd/named", fallback_tag(A)
    site.fill({"one": A, named: B}, repository=repository)
    delete(site.service, tag_path(repository, "one"))
    assert site.look(repository).tags == {named: B.digest}


def test_an_index_that_was_kept_without_a_tag_keeps_its_children(site: Site) -> None:
    """The registry cannot tell of it, but the record of the deletion that left it can."""
    repository = site.fill({"kept": INDEX, "other": OTHER})
    delete(site.service, tag_path(repository, "kept"), keep_manifest=True)
    done = delete(site.service, tag_path(repository, "other"))
    assert done["manifests_kept"] == [{"digest": AMD64.digest, "reason": "child-of-index"}]
    assert site.look(repository).manifests == {one.digest for one in tree(INDEX)}


# What is damaged in the registry's storage.


@dataclass(frozen=True)
class Damage:
    """How a tag's files are damaged: its link, or the manifest it leads to."""

    link: bool
    content: bytes

    def do(self, site: Site, repository: str, tag: str, manifest: Manifest) -> None:
        tags = site.registry.storage() / REPOSITORIES / repository / "_manifests/tags"
        path = (
            tags / tag / "current/link" if self.link else site.registry.blob_path(manifest.digest)
        )
        path.write_bytes(self.content)


DAMAGES = {
    "empty link": Damage(link=True, content=b""),
    "garbage link": Damage(link=True, content=b"sha256:zz"),
    "empty manifest": Damage(link=False, content=b""),
    "garbage manifest": Damage(link=False, content=b"\x00\x01"),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_tag_hides_nothing_and_is_mended_before_anything_is_deleted(
    site: Site, damage: Damage
) -> None:
    ill = sample(f"ill {damage}")
    repository = site.fill({"1": A, "ill": ill, "other": B})
    site.look(repository)  # nobody is to remember what it was
    damage.do(site, repository, "ill", ill)
    details = get(site.service, repository_path(repository, "tags"), detail=True)["items"]
    found = {one["name"]: (one["digest"], bool(one["problem"])) for one in details}
    assert found == {"1": (A.digest, False), "ill": (None, True), "other": (B.digest, False)}
    problem(site.service.ask(tag_path(repository, "ill")), 502, "registry-answer-invalid")
    for tag in ("1", "ill"):
        with site.untouched():
            answer = site.service.ask(tag_path(repository, tag), "DELETE")
        told = problem(answer, 502, "registry-answer-invalid")
        assert (told["tags"], "PUT .../-/tags/ill" in told["detail"]) == (["ill"], True)
    path = tag_path(repository, "ill")
    assert site.service.ask(path, "PUT", body={"tag": "other"}).status == 201
    for tag in ("1", "ill"):
        assert delete(site.service, tag_path(repository, tag))["tags_removed"] == [tag]
    assert site.registry.tags(repository) == {"other": B.digest}
