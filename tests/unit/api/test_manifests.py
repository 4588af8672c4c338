import json

import pytest

from service.domain.content import OCI_INDEX, OCI_MANIFEST, RawManifest
from service.domain.reference import Digest, Repository
from tests.fakes import Built, FakeRegistry, image, index
from tests.unit.api.conftest import Bed

REPOSITORY = "/v1/registries/default/repositories/team/app"
MANIFESTS = f"{REPOSITORY}/-/manifests"
UNKNOWN = "sha256:" + "0" * 64


def test_a_manifest_is_described_by_tag_and_by_digest(bed: Bed) -> None:
    built = image("a")
    bed.registry.push("team/app", built, "1.0")
    described = bed.ask(f"{MANIFESTS}/1.0").json
    assert described == bed.ask(f"{MANIFESTS}/{built.digest}").json
    config, layer = built.blobs
    assert described == {
        "digest": built.digest,
        "media_type": OCI_MANIFEST,
        "kind": "image",
        "artifact_type": None,
        "size": len(built.raw.body) + len(config) + len(layer),
        "subject": None,
        "annotations": {},
        "platforms": [{"os": "linux", "architecture": "amd64", "variant": None}],
        "config": {
            "digest": Digest.of(config),
            "created": None,
            "architecture": "amd64",
            "os": "linux",
            "labels": {},
            "entrypoint": None,
            "cmd": None,
            "env": [],
            "user": None,
            "working_dir": None,
            "exposed_ports": [],
        },
        "layers": [
            {
                "digest": Digest.of(layer),
                "media_type": "application/vnd.oci.image.layer.v1.tar+gzip",
                "size": len(layer),
                "created_by": None,
            }
        ],
        "children": [],
    }


def test_an_index_has_children_and_no_config(bed: Bed) -> None:
    children = [image("a"), image("b")]
    for child in children:
        bed.registry.push("team/app", child)
    bed.registry.push("team/app", index(*children, seed="s"), "1.0")
    described = bed.ask(f"{MANIFESTS}/1.0").json
    assert (described["kind"], described["media_type"]) == ("index", OCI_INDEX)
    assert (described["config"], described["layers"]) == (None, [])
    assert described["annotations"] == {"seed": "s"}
    assert [child["digest"] for child in described["children"]] == [c.digest for c in children]
    assert described["children"][1]["platform"] == {
        "os": "linux",
        "architecture": "arm64",
        "variant": None,
    }


def test_an_artifact_names_its_subject(bed: Bed) -> None:
    subject = image("a")
    bed.registry.push("team/app", subject, "1.0")
    signature = image("s", subject=subject, artifact_type="application/vnd.example")
    bed.registry.push("team/app", signature)
    described = bed.ask(f"{MANIFESTS}/{signature.digest}").json
    assert (described["kind"], described["config"]) == ("artifact", None)
    assert described["artifact_type"] == "application/vnd.example"
    assert described["subject"] == subject.digest


@pytest.mark.parametrize("rest", ["", "/raw"])
def test_what_is_unknown_is_404(bed: Bed, rest: str) -> None:
    assert bed.ask(f"{MANIFESTS}/1.0{rest}").problem == (404, "repository-unknown")
    bed.registry.push("team/app", image("a"), "1.0")
    assert bed.ask(f"{MANIFESTS}/2.0{rest}").problem == (404, "tag-unknown")
    assert bed.ask(f"{MANIFESTS}/{UNKNOWN}{rest}").problem == (404, "manifest-unknown")
    bed.registry.dangle("team/app", "1.0")
    assert bed.ask(f"{MANIFESTS}/1.0{rest}").problem == (404, "manifest-unknown")


@pytest.mark.parametrize("rest", ["tags", "referrers"])
def test_what_is_about_an_unknown_manifest_is_404(bed: Bed, rest: str) -> None:
    bed.registry.push("team/app", image("a"), "1.0")
    assert bed.ask(f"{MANIFESTS}/{UNKNOWN}/{rest}").problem == (404, "manifest-unknown")


def test_raw_is_the_exact_bytes(bed: Bed) -> None:
    body = b'{"schemaVersion": 2,\n\t"mediaType": "' + OCI_MANIFEST.encode() + b'" }  \n'
    built = Built(RawManifest(Digest.of(body), OCI_MANIFEST, body))
    bed.registry.push("team/app", built, "1.0")
    answer = bed.ask(f"{MANIFESTS}/1.0/raw")
    assert answer.data == body
    assert answer.headers["Content-Type"] == OCI_MANIFEST
    assert answer.headers["Docker-Content-Digest"] == built.digest
    assert answer.headers["ETag"] == f'"{built.digest}"'
    assert answer.headers["Content-Length"] == str(len(body))


def test_raw_answers_304(bed: Bed) -> None:
    digest = bed.registry.push("team/app", image("a"), "1.0")
    answer = bed.ask(f"{MANIFESTS}/1.0/raw", headers={"If-None-Match": f'"{digest}"'})
    assert (answer.status, answer.data) == (304, b"")
    assert answer.headers["Docker-Content-Digest"] == digest


@pytest.mark.parametrize("kind", ["text/html\r\nX: y", "text/html; x", "€/x", "nonsense", "a/b c"])
def test_a_type_that_is_none_does_not_reach_the_headers(bed: Bed, kind: str) -> None:
    body = json.dumps({"schemaVersion": 2, "mediaType": kind}).encode()
    bed.registry.push("team/app", Built(RawManifest(Digest.of(body), kind, body)), "1.0")
    answer = bed.client.get(f"{MANIFESTS}/1.0/raw", headers={"Authorization": "Bearer radm_admin"})
    assert (answer.status_code, answer.content_type) == (200, "application/octet-stream")
    assert answer.headers["X-Content-Type-Options"] == "nosniff"


def test_the_tags_on_a_manifest(bed: Bed) -> None:
    digest = bed.registry.push("team/app", image("a"), "2", "1", "10")
    bed.registry.push("team/app", image("b"), "3")
    untagged = bed.registry.push("team/app", image("c"))
    assert bed.ask(f"{MANIFESTS}/{digest}/tags").json == {
        "items": [{"name": "1"}, {"name": "10"}, {"name": "2"}],
        "next": None,
    }
    assert bed.ask(f"{MANIFESTS}/{untagged}/tags").json["items"] == []


def test_what_refers_to_a_manifest(bed: Bed) -> None:
    subject = image("a")
    bed.registry.push("team/app", subject, "1.0")
    sbom = image("s", subject=subject, artifact_type="application/vnd.example")
    bed.registry.push("team/app", sbom)
    bed.registry.push("team/app", index(sbom), f"sha256-{subject.digest.hex}")
    bed.registry.push("team/app", image("signature"), f"sha256-{subject.digest.hex}.sig")
    found = bed.ask(f"{MANIFESTS}/{subject.digest}/referrers").json["items"]
    assert {one["source"] for one in found} == {"fallback-tag", "cosign-tag"}
    assert found == sorted(found, key=lambda one: str(one["digest"]))
    assert set(found[0]) == {"digest", "artifact_type", "media_type", "size", "source"}
    assert sbom.digest in {one["digest"] for one in found}


# Removing


def test_a_manifest_without_tags_is_removed(bed: Bed) -> None:
    digest = bed.registry.push("team/app", image("a"))
    answer = bed.ask(f"{MANIFESTS}/{digest}", "DELETE").json
    assert answer["requested"] == {"digest": digest}
    assert [removed["digest"] for removed in answer["manifests_removed"]] == [digest]
    assert bed.registry.contents[Repository("team/app")].manifests == {}


@pytest.fixture
def tagged(bed: Bed) -> Digest:
    return bed.registry.push("team/app", image("a"), "1.0", "latest")


@pytest.mark.parametrize("query", ["", "?tags=1.0", "?tags=1.0,latest,other", "?force=false"])
def test_one_with_tags_needs_them_named(bed: Bed, tagged: Digest, query: str) -> None:
    answer = bed.ask(f"{MANIFESTS}/{tagged}{query}", "DELETE")
    assert answer.problem == (409, "manifest-tagged")
    assert answer.json["tags"] == ["1.0", "latest"]
    assert bed.registry.writes == []


@pytest.mark.parametrize("query", ["?tags=latest,1.0", "?tags=1.0%2Clatest", "?force=true"])
def test_named_or_forced_it_goes_with_its_tags(bed: Bed, tagged: Digest, query: str) -> None:
    answer = bed.ask(f"{MANIFESTS}/{tagged}{query}", "DELETE").json
    assert sorted(answer["tags_removed"]) == ["1.0", "latest"]
    assert bed.registry.resolved("team/app") == {}


@pytest.mark.parametrize("tags", ["", ",", "1.0,", "-x", "1.0,,latest", "1.0%20"])
def test_what_is_no_list_of_tags_is_400(bed: Bed, tagged: Digest, tags: str) -> None:
    answer = bed.ask(f"{MANIFESTS}/{tagged}?tags={tags}", "DELETE")
    assert answer.problem == (400, "invalid-tag")
    assert bed.registry.writes == []


def test_a_child_of_a_tagged_index_stays(bed: Bed) -> None:
    child = image("child")
    bed.registry.push("team/app", child)
    parent = bed.registry.push("team/app", index(child), "1.0")
    answer = bed.ask(f"{MANIFESTS}/{child.digest}", "DELETE")
    assert answer.problem == (409, "manifest-in-index")
    assert answer.json["parents"] == [parent]
    assert bed.ask(f"{MANIFESTS}/{child.digest}?force=true", "DELETE").status == 200


def test_an_unknown_manifest_cannot_be_removed(bed: Bed, tagged: Digest) -> None:
    assert bed.ask(f"{MANIFESTS}/{UNKNOWN}", "DELETE").problem == (404, "manifest-unknown")
    assert tagged in bed.registry.contents[Repository("team/app")].manifests


def test_a_dry_run_removes_nothing(bed: Bed, tagged: Digest) -> None:
    dry = bed.ask(f"{MANIFESTS}/{tagged}?force=true&dry_run=true", "DELETE").json
    assert bed.registry.writes == []
    real = bed.ask(f"{MANIFESTS}/{tagged}?force=true", "DELETE").json
    assert dry == {**real, "id": None, "dry_run": True}
    assert isinstance(bed.registry, FakeRegistry)
