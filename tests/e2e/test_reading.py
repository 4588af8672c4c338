"""Everything a registry holds is seen as it is: beside skopeo, and the registry's own bytes."""

import base64
import contextlib
import hashlib
import json
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, utils
from cryptography.hazmat.primitives.hashes import SHA256

from demo import images
from demo.images import DOCKER, OCI, Manifest, Pusher, digest_of, sample
from tests.e2e.bed.api import (
    REGISTRY,
    ZEROS,
    delete,
    each_page,
    get,
    major,
    manifest_path,
    pages,
    problem,
    repository_path,
    restore,
    tag_path,
)
from tests.e2e.bed.clients import skopeo, skopeo_inspect
from tests.e2e.bed.http import Answer
from tests.e2e.bed.registry import ACCEPT, FOREIGN_LAYERS, MakeRegistry, RunningRegistry
from tests.e2e.bed.service import MakeService, Service, registry_table
from tests.e2e.bed.tokens import TokenServer

APP = "team/app"
FIVE = "one/two/three/four/five"
LONG = f"{'a' * 118}/{'b' * 121}"  # 240 characters
LONG_TAG = "T" + "x" * 127
SCHEMA1_ENABLED = {"REGISTRY_COMPATIBILITY_SCHEMA1_ENABLED": "true"}
SIGNED = "application/vnd.docker.distribution.manifest.v1+prettyjws"
PLATFORMS = [
    {"os": "linux", "architecture": "amd64", "variant": None},
    {"os": "linux", "architecture": "arm64", "variant": "v8"},
    {"os": "linux", "architecture": "arm", "variant": "v7"},
]
WORKERS = 2
LATER = "2025-02-03T04:05:06Z"

IMAGE = sample("app")
SUBJECT = sample("subject", created=LATER)
BILL = images.artifact(b"a list", subject=SUBJECT, annotations={"made-by": "hand"})
HELD: Mapping[str, Manifest] = {
    "oci": IMAGE,
    "docker": sample("app", flavour=DOCKER),
    "docker-list": images.multi_arch("app", flavour=DOCKER),
    "oci-index": images.multi_arch("app"),
    "attested": images.multi_arch("attested", attested=True),
    "nested": images.index([images.multi_arch("app"), sample("beside", created=LATER)]),
    "dated": images.index(
        [IMAGE], annotations={"org.opencontainers.image.created": "2020-01-02T05:04:05+02:00"}
    ),
    "twice": images.image([images.base_layer(), images.base_layer()]),
    "foreign-docker": images.image([images.foreign_layer(), images.base_layer()], flavour=DOCKER),
    "foreign-oci": images.image([images.foreign_layer()]),
    "artifact": images.artifact(b"rules: []\n"),
    "subject": SUBJECT,
    images.cosign_tag(IMAGE): images.signature(IMAGE),
    images.cosign_tag(IMAGE, "att"): images.artifact(b"statement", media_type=images.IN_TOTO),
    images.fallback_tag(SUBJECT): images.referrers_index([BILL]),
    LONG_TAG: IMAGE,
    "gone": sample("gone"),
}
KINDS = {"artifact": "artifact", "docker-list": "index", "oci-index": "index", "nested": "index"}
KINDS |= {"attested": "index", "dated": "index", images.fallback_tag(SUBJECT): "index"}
KINDS |= {images.cosign_tag(IMAGE, "att"): "artifact"}


@dataclass(frozen=True)
class Held:
    """A registry with all kinds of content, and a service for it."""

    registry: RunningRegistry
    service: Service


@pytest.fixture(scope="module")
def held(module_registry: MakeRegistry, module_service: MakeService) -> Held:
    registry = module_registry(env={**FOREIGN_LAYERS, **SCHEMA1_ENABLED})
    with registry.pusher() as pusher:
        for tag, manifest in HELD.items():
            pusher.push(APP, manifest, tag)
        for name in (FIVE, LONG, "emptied", "zz"):
            pusher.push(name, IMAGE, "1")
        pusher.delete("emptied", IMAGE.digest)
    registry.blob_path(HELD["gone"].digest).unlink()
    registry.restart()
    return Held(registry, module_service(registry))


def kept() -> list[str]:
    return sorted(set(HELD) - {"gone"})


# What skopeo says of an image, and what follows from it.


@dataclass(frozen=True)
class Seen:
    """A manifest as skopeo copies it, with all below it."""

    registry: RunningRegistry
    repository: str
    reference: str

    @property
    def body(self) -> bytes:
        where = f"docker://{self.registry.host}/{self.repository}{self.reference}"
        return skopeo("inspect", "--tls-verify=false", "--raw", where)

    def documents(self) -> list[tuple[bytes, Any]]:
        body = self.body
        document = json.loads(body)
        found = [(body, document)]
        for child in document.get("manifests", ()):
            below = Seen(self.registry, self.repository, f"@{child['digest']}")
            found += below.documents()
        return found

    def size(self) -> int:
        documents = self.documents()
        parts = {digest_of(body): len(body) for body, _ in documents}
        for _, document in documents:
            config = [document["config"]] if "config" in document else []
            for blob in [*config, *document.get("layers", ())]:
                parts[blob["digest"]] = blob["size"]
        return sum(parts.values())


def inspected(held: Held, tag: str, *options: str) -> dict[str, Any]:
    return skopeo_inspect((held.registry, f"{APP}:{tag}"), *options)


# Registries and repositories.


def test_a_registry_tells_how_it_is(held: Held) -> None:
    found = get(held.service, REGISTRY)
    assert found.pop("checked_at").endswith("Z")
    assert found.pop("version").split(".")[0] == str(major(held.registry))
    assert found == {
        "name": "default",
        "url": held.registry.url,
        "status": "up",
        "problem": None,
        "api_version": "registry/2.0",
        "delete_enabled": True,
        "read_only": False,
        "auth": {"scheme": "none", "username": None, "source": None},
        "tls": None,
        "container": held.registry.name,
    }
    [listed] = pages(held.service, "/v1/registries")
    assert listed["name"] == "default"


def test_repositories_are_those_of_the_catalog_that_hold_tags(held: Held) -> None:
    listed = [item["name"] for item in pages(held.service, f"{REGISTRY}/repositories")]
    assert listed == sorted({APP, FIVE, LONG, "zz"})
    whole = pages(held.service, f"{REGISTRY}/repositories", include_empty=True)
    assert [item["name"] for item in whole] == sorted(held.registry.repositories())
    assert {"name": "emptied"} in whole


@pytest.mark.parametrize("name", [APP, FIVE, LONG, "emptied"])
def test_a_repository_counts_its_tags(held: Held, name: str) -> None:
    tags = held.registry.tags(name)
    found = get(held.service, repository_path(name))
    assert found == {"name": name, "tag_count": len(tags)}
    assert bool(tags) == (name != "emptied")
    names = pages(held.service, repository_path(name, "tags"))
    assert [item["name"] for item in names] == sorted(tags)


def test_a_name_of_255_characters_is_asked_for(held: Held) -> None:
    """Distribution takes 255 with its own host's name, so that it answers such a name oddly."""
    longest = "/".join(["c" * 127, "d" * 127])
    assert len(longest) == 255
    answer = held.service.ask(repository_path(longest))
    code = answer.json()["code"]
    assert (answer.status, code) in {
        (404, "repository-unknown"),
        (502, "registry-answer-invalid"),
    }, code
    problem(held.service.ask(repository_path(longest + "e")), 400, "invalid-repository-name")


def test_what_is_not_there_is_named(held: Held) -> None:
    ask = held.service.ask
    problem(ask("/v1/registries/other"), 404, "registry-unknown")
    problem(ask(repository_path("team/other")), 404, "repository-unknown")
    problem(ask(repository_path("team/other", "tags")), 404, "repository-unknown")
    problem(ask(repository_path("team/other", "tags") + "?detail=true"), 404, "repository-unknown")
    problem(ask(tag_path(APP, "other")), 404, "tag-unknown")
    problem(ask(manifest_path(APP, "other")), 404, "tag-unknown")
    for rest in ("", "raw", "tags", "referrers"):
        problem(ask(manifest_path(APP, ZEROS, rest)), 404, "manifest-unknown")


def test_a_tag_that_dangles_has_no_manifest(held: Held) -> None:
    problem(held.service.ask(manifest_path(APP, "gone")), 404, "manifest-unknown")
    problem(held.service.ask(manifest_path(APP, "gone", "raw")), 404, "manifest-unknown")


# Tags.


@pytest.mark.parametrize("tag", kept())
def test_a_tag_is_what_skopeo_says_it_is(held: Held, tag: str) -> None:
    found = get(held.service, tag_path(APP, tag))
    seen = Seen(held.registry, APP, f":{tag}")
    assert found["name"] == tag
    assert found["digest"] == held.registry.digest(APP, tag) == digest_of(seen.body)
    assert found["media_type"] == HELD[tag].media_type
    assert found["kind"] == KINDS.get(tag, "image")
    assert found["size"] == seen.size()
    assert found["dangling"] is False


@pytest.mark.parametrize("tag", ["oci", "docker", "subject", "twice", "foreign-docker"])
def test_an_image_has_skopeo_s_date_and_platform(held: Held, tag: str) -> None:
    found, told = get(held.service, tag_path(APP, tag)), inspected(held, tag)
    assert found["created"] == told["Created"]
    platform = {"os": told["Os"], "architecture": told["Architecture"], "variant": None}
    assert found["platforms"] == [platform]
    assert found["digest"] == told["Digest"]


@pytest.mark.parametrize(
    ("tag", "created", "platforms"),
    [
        ("oci-index", images.CREATED, PLATFORMS),
        ("docker-list", images.CREATED, PLATFORMS),
        ("attested", images.CREATED, PLATFORMS),
        ("nested", LATER, PLATFORMS),
        ("dated", "2020-01-02T03:04:05Z", PLATFORMS[:1]),
        ("artifact", None, []),
        (images.cosign_tag(IMAGE), "0001-01-01T00:00:00Z", []),
    ],
)
def test_an_index_has_the_platforms_of_its_leaves(
    held: Held, tag: str, created: str | None, platforms: list[Any]
) -> None:
    found = get(held.service, tag_path(APP, tag))
    assert (found["created"], found["platforms"]) == (created, platforms)
    described = get(held.service, manifest_path(APP, tag))
    assert (described["size"], described["platforms"]) == (found["size"], platforms)


def test_a_dangling_tag_says_so(held: Held) -> None:
    found = get(held.service, tag_path(APP, "gone"))
    assert found == {
        "name": "gone",
        "digest": None,
        "media_type": None,
        "kind": None,
        "size": None,
        "created": None,
        "platforms": [],
        "dangling": True,
        "problem": None,
    }
    assert "etag" not in held.service.ask(tag_path(APP, "gone")).headers


def test_tags_in_detail_are_the_tags_one_by_one(held: Held) -> None:
    listed = pages(held.service, repository_path(APP, "tags"), detail=True)
    assert listed == [get(held.service, tag_path(APP, tag)) for tag in sorted(HELD)]


@pytest.mark.parametrize("n", [1, 2, 16, 17, 18])
@pytest.mark.parametrize("detail", [False, True])
def test_pages_are_complete(held: Held, n: int, *, detail: bool) -> None:
    found = list(each_page(held.service, repository_path(APP, "tags"), n=n, detail=detail))
    assert [item["name"] for page in found for item in page] == sorted(HELD)
    assert {len(page) for page in found[:-1]} <= {n}
    assert 0 < len(found[-1]) <= n


@pytest.mark.parametrize("empty", [False, True])
def test_pages_of_repositories_are_complete(held: Held, *, empty: bool) -> None:
    path = f"{REGISTRY}/repositories"
    found = list(each_page(held.service, path, n=1, include_empty=empty))
    assert [len(page) for page in found] == [1] * len(found)
    whole = pages(held.service, path, include_empty=empty)
    assert [item for page in found for item in page] == whole


def test_pages_hold_what_stays_once_whatever_comes_and_goes(held: Held) -> None:
    names = [f"{number:02}" for number in range(12)]
    with held.registry.pusher() as pusher:
        pusher.push("moving", IMAGE, *names)
        walk = each_page(held.service, repository_path("moving", "tags"), n=4)
        seen = [item["name"] for item in next(walk)]
        delete(held.service, tag_path("moving", "02"))
        delete(held.service, tag_path("moving", "03"))  # where the next page goes on
        pusher.push("moving", IMAGE, "00a", "05a")
        seen += [item["name"] for page in walk for item in page]
    assert seen == sorted([*names, "05a"])


# Manifests.


@pytest.mark.parametrize("tag", kept())
def test_a_manifest_comes_as_the_registry_s_own_bytes(held: Held, tag: str) -> None:
    own = held.registry.ask(f"/v2/{APP}/manifests/{tag}", headers={"Accept": ACCEPT})
    for reference in (tag, own.headers["docker-content-digest"]):
        raw = held.service.ask(manifest_path(APP, reference, "raw"))
        assert raw.status == 200
        assert raw.body == own.body == HELD[tag].body
        for name in ("content-type", "docker-content-digest", "etag"):
            assert raw.headers[name] == own.headers[name]
        again = {"If-None-Match": raw.headers["etag"]}
        kept_back = held.service.ask(manifest_path(APP, reference, "raw"), headers=again)
        assert (kept_back.status, kept_back.body) == (304, b"")
        assert kept_back.headers["etag"] == raw.headers["etag"]


def test_a_tag_s_etag_is_its_digest(held: Held) -> None:
    answer = held.service.ask(tag_path(APP, "oci"))
    assert answer.headers["etag"] == f'"{IMAGE.digest}"'
    unchanged = held.service.ask(tag_path(APP, "oci"), headers={"If-None-Match": '"x", *'})
    assert unchanged.status == 400
    same = {"If-None-Match": answer.headers["etag"]}
    assert held.service.ask(tag_path(APP, "oci"), headers=same).status == 304
    assert held.service.ask(tag_path(APP, "docker"), headers=same).status == 200


@pytest.mark.parametrize("tag", ["oci", "docker"])
def test_an_image_is_described_by_its_config(held: Held, tag: str) -> None:
    found = get(held.service, manifest_path(APP, tag))
    config, told = inspected(held, tag, "--config"), inspected(held, tag, "--raw")
    run = config["config"]
    assert found["config"] == {
        "digest": told["config"]["digest"],
        "created": config["created"],
        "architecture": config["architecture"],
        "os": config["os"],
        "labels": run["Labels"],
        "entrypoint": run["Entrypoint"],
        "cmd": run["Cmd"],
        "env": run["Env"],
        "user": run["User"],
        "working_dir": run["WorkingDir"],
        "exposed_ports": list(run["ExposedPorts"]),
    }
    steps = [step["created_by"] for step in config["history"] if not step.get("empty_layer")]
    assert found["layers"] == [
        {
            "digest": one["digest"],
            "media_type": one["mediaType"],
            "size": one["size"],
            "created_by": step,
        }
        for one, step in zip(told["layers"], steps, strict=True)
    ]
    assert (found["children"], found["subject"], found["artifact_type"]) == ([], None, None)
    assert found == get(held.service, manifest_path(APP, HELD[tag].digest))


def test_foreign_layers_are_named(held: Held) -> None:
    for tag, kind in (("foreign-docker", DOCKER), ("foreign-oci", OCI)):
        layers = get(held.service, manifest_path(APP, tag))["layers"]
        assert layers[0]["media_type"] == kind.foreign_layer
        assert layers[0]["digest"] == digest_of(images.foreign_layer().content)


@pytest.mark.parametrize("tag", ["oci-index", "docker-list", "attested", "nested", "dated"])
def test_an_index_lists_its_children_with_their_totals(held: Held, tag: str) -> None:
    found = get(held.service, manifest_path(APP, tag))
    told = inspected(held, tag, "--raw")["manifests"]
    assert [child["digest"] for child in found["children"]] == [one["digest"] for one in told]
    for child, one in zip(found["children"], told, strict=True):
        assert child["size"] == Seen(held.registry, APP, f"@{child['digest']}").size()
        platform = {"variant": None} | one["platform"] if "platform" in one else None
        assert child["platform"] == platform
        alone = get(held.service, manifest_path(APP, child["digest"]))
        assert alone["size"] == child["size"]
        assert {"unknown"}.isdisjoint(each["os"] for each in alone["platforms"])
    assert (found["config"], found["layers"]) == (None, [])


def test_an_artifact_is_told_by_its_type(held: Held) -> None:
    found = get(held.service, manifest_path(APP, "artifact"))
    told = inspected(held, "artifact", "--raw")
    assert (found["kind"], found["config"]) == ("artifact", None)
    assert found["artifact_type"] == told["artifactType"]
    assert found["layers"][0]["digest"] == told["layers"][0]["digest"]
    about = get(held.service, manifest_path(APP, BILL.digest))
    assert about["subject"] == SUBJECT.digest
    assert about["annotations"] == {"made-by": "hand"}


def test_a_manifest_names_all_its_tags(held: Held) -> None:
    path = manifest_path(APP, IMAGE.digest, "tags")
    assert pages(held.service, path) == [{"name": LONG_TAG}, {"name": "oci"}]
    assert pages(held.service, path, n=1) == [{"name": LONG_TAG}, {"name": "oci"}]
    assert pages(held.service, manifest_path(APP, BILL.digest, "tags")) == []


def test_referrers_are_found_by_tag(held: Held) -> None:
    signed = pages(held.service, manifest_path(APP, IMAGE.digest, "referrers"))
    tags = [images.cosign_tag(IMAGE), images.cosign_tag(IMAGE, "att")]
    expected = [
        {
            "digest": HELD[tag].digest,
            "artifact_type": json.loads(HELD[tag].body).get("artifactType", OCI.config),
            "media_type": OCI.manifest,
            "size": len(HELD[tag].body),
            "source": "cosign-tag",
        }
        for tag in tags
    ]
    assert signed == sorted(expected, key=lambda one: one["digest"])
    assert pages(held.service, manifest_path(APP, SUBJECT.digest, "referrers")) == [
        {
            "digest": BILL.digest,
            "artifact_type": "application/vnd.example.sbom.v1+json",
            "media_type": OCI.manifest,
            "size": len(BILL.body),
            "source": "fallback-tag",
        }
    ]
    assert pages(held.service, manifest_path(APP, HELD["docker"].digest, "referrers")) == []


# Names, methods.

PATHS = (
    "/v1/registries",
    REGISTRY,
    f"{REGISTRY}/repositories",
    repository_path(APP),
    repository_path(FIVE),
    repository_path(APP, "tags"),
    repository_path(APP, "tags") + "?detail=true&n=3",
    tag_path(APP, "oci"),
    tag_path(APP, LONG_TAG),
    tag_path(LONG, "1"),
    manifest_path(APP, "attested"),
    manifest_path(APP, IMAGE.digest),
    manifest_path(APP, "oci", "raw"),
    manifest_path(APP, IMAGE.digest, "tags"),
    manifest_path(APP, IMAGE.digest, "referrers"),
    f"{REGISTRY}/deletions",
    tag_path(APP, "other"),
)
VARYING = ("date", "x-request-id")


def same(answer: Answer) -> tuple[int, dict[str, str]]:
    return answer.status, {k: v for k, v in answer.headers.items() if k not in VARYING}


@pytest.mark.parametrize("path", PATHS)
def test_head_is_get_without_the_body(held: Held, path: str) -> None:
    whole, head = held.service.ask(path), held.service.ask(path, "HEAD")
    assert head.body == b""
    assert same(head) == same(whole)
    assert whole.status == (404 if path.endswith("/other") else 200)


@pytest.mark.parametrize("path", [one for one in PATHS if "repositories/" in one])
def test_slashes_of_names_may_be_escaped(held: Held, path: str) -> None:
    base = f"{REGISTRY}/repositories/"
    name, _, rest = path.removeprefix(base).partition("/-/")
    plain = held.service.ask(path)
    for escaped in (name.replace("/", "%2F"), name.replace("/", "%2f")):
        found = held.service.ask(f"{base}{escaped}{'/-/' + rest if rest else ''}")
        assert found.status == plain.status
        if plain.status == 200:
            assert found.body == plain.body


def test_a_digest_may_be_escaped(held: Held) -> None:
    escaped = IMAGE.digest.replace(":", "%3A")
    found = held.service.ask(manifest_path(APP.replace("/", "%2F"), escaped, "raw"))
    assert (found.status, found.body) == (200, IMAGE.body)


# Schema 1, which only registries before 3.0 take, when they are told to.


def unpadded(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).decode().rstrip("=")


def schema1(repository: str, tag: str, layers: list[bytes]) -> Manifest:
    """Build and sign a manifest as Docker before 1.10 did; its digest is the payload's."""
    steps = [v1_image(number, layers) for number in range(len(layers))]
    document = {
        "schemaVersion": 1,
        "name": repository,
        "tag": tag,
        "architecture": "amd64",
        "fsLayers": [{"blobSum": digest_of(one)} for one in reversed(layers)],
        "history": [{"v1Compatibility": json.dumps(one)} for one in reversed(steps)],
    }
    payload = json.dumps(document, indent=3).encode()
    head = payload[: -len(b"\n}")]
    signatures = json.dumps([signed(payload, len(head))]).encode()
    body = head + b',\n   "signatures": ' + signatures + b"\n}"
    return Manifest(SIGNED, body, tuple(layers))


def v1_image(number: int, layers: list[bytes]) -> dict[str, Any]:
    names = [hashlib.sha256(one).hexdigest() for one in layers]
    return {
        "id": names[number],
        **({"parent": names[number - 1]} if number else {}),
        "created": images.CREATED,
        "os": "linux",
        "architecture": "amd64",
        "container_config": {"Cmd": [f"step {number}"]},
    }


def signed(payload: bytes, length: int) -> dict[str, Any]:
    """Sign as libtrust does: ES256 over the protected header and the payload."""
    key = ec.generate_private_key(ec.SECP256R1())
    point = key.public_key().public_numbers()
    protected = unpadded(
        json.dumps({"formatLength": length, "formatTail": unpadded(b"\n}")}).encode()
    )
    made = key.sign(f"{protected}.{unpadded(payload)}".encode(), ec.ECDSA(SHA256()))
    signature = b"".join(part.to_bytes(32) for part in utils.decode_dss_signature(made))
    jwk = {"kty": "EC", "crv": "P-256"}
    jwk |= {"x": unpadded(point.x.to_bytes(32)), "y": unpadded(point.y.to_bytes(32))}
    header = {"jwk": jwk, "alg": "ES256"}
    return {"header": header, "signature": unpadded(signature), "protected": protected}


def push_schema1(registry: RunningRegistry, manifest: Manifest, repository: str) -> Answer:
    with registry.pusher() as pusher:
        for blob in manifest.blobs:
            pusher.blob(repository, blob)
    headers = {"Content-Type": SIGNED}
    path = f"/v2/{repository}/manifests/1"
    return registry.ask(path, "PUT", headers=headers, body=manifest.body)


def test_schema1_is_recognised_and_named(held: Held) -> None:
    layers = [images.base_layer().content, images.layer({"etc/motd": b"old\n"}).content]
    old = schema1("old/app", "1", layers)
    pushed = push_schema1(held.registry, old, "old/app")
    if major(held.registry) >= 3:
        assert pushed.status >= 400
        return
    assert pushed.status == 201, pushed.body
    digest = pushed.headers["docker-content-digest"]
    found = get(held.service, tag_path("old/app", "1"))
    assert found["digest"] == digest == inspect_digest(held, "old/app:1")
    assert (found["media_type"], found["kind"]) == (SIGNED, "image")
    assert (found["created"], found["platforms"]) == (images.CREATED, PLATFORMS[:1])
    described = get(held.service, manifest_path("old/app", digest))
    assert [one["created_by"] for one in described["layers"]] == ["step 0", "step 1"]
    assert [one["digest"] for one in described["layers"]] == [digest_of(one) for one in layers]
    raw = held.service.ask(manifest_path("old/app", "1", "raw"))
    assert raw.headers["content-type"] == SIGNED
    # The registry signs anew each time: the payload alone stays what it was.
    payload = raw.body.partition(b',\n   "signatures"')[0] + b"\n}"
    assert (digest_of(payload), payload[:-2]) == (digest, old.body[: len(payload) - 2])
    assert_comes_back(held, digest)


def assert_comes_back(held: Held, digest: str) -> None:
    removed = delete(held.service, tag_path("old/app", "1"))
    assert [one["digest"] for one in removed["manifests_removed"]] == [digest]
    assert held.registry.tags("old/app") == {}
    restore(held.service, removed)
    assert inspect_digest(held, "old/app:1") == digest


def inspect_digest(held: Held, reference: str) -> str:
    return str(skopeo_inspect((held.registry, reference))["Digest"])


# Ways in.

USER = ("ada", "s3cr-et")


@dataclass(frozen=True)
class Doors:
    """Registries that ask for something, and one service configured for all of them."""

    registries: Mapping[str, RunningRegistry]
    service: Service


@pytest.fixture(scope="module")
def doors(module_registry: MakeRegistry, module_service: MakeService) -> Doors:
    made = {
        "basic": module_registry(htpasswd=USER),
        "tls": module_registry(tls=True, htpasswd=USER),
        "client": module_registry(tls="client"),
    }
    for registry in made.values():
        with registry.pusher() as pusher:
            pusher.push(APP, IMAGE, "1")
    made |= {"stranger": made["tls"], "no-pair": made["client"], "wrong": made["basic"]}
    made |= {"plain": made["basic"], "in-file": made["basic"]}
    return Doors(made, module_service(settings={"registries": door_tables(made)}, start=False))


def door_tables(made: Mapping[str, RunningRegistry]) -> dict[str, dict[str, Any]]:
    tables = {name: dict(registry_table(registry)) for name, registry in made.items()}
    del tables["stranger"]["ca_file"]
    tables["no-pair"]["certs_dir"] = str(made["client"].folder / "nowhere")
    tables["wrong"] = {"url": made["basic"].url, "username": "ada", "password": "guess-work"}
    tables["plain"] = {"url": made["basic"].url, "username": USER[0], "password": USER[1]}
    login = base64.b64encode(":".join(USER).encode()).decode()
    docker = made["basic"].folder / "config.json"
    docker.write_text(json.dumps({"auths": {made["basic"].host: {"auth": login}}}))
    tables["in-file"] = {"url": made["basic"].url, "docker_config": str(docker)}
    return tables


@pytest.fixture(scope="module")
def opened(doors: Doors) -> Doors:
    pair, registry = doors.registries["client"].client_pair, doors.registries["client"]
    folder = doors.service.data_dir / "certs.d" / registry.host
    folder.mkdir(parents=True)
    assert pair is not None
    shutil.copy(pair.certificate, folder / "client.cert")
    shutil.copy(pair.key, folder / "client.key")
    doors.service.start()
    return doors


def at_door(name: str, rest: str = "") -> str:
    return f"/v1/registries/{name}{rest}"


def image_at(name: str) -> str:
    return at_door(name, f"/repositories/{APP}/-/tags/1")


@pytest.mark.parametrize(
    ("name", "scheme", "username", "source"),
    [
        ("basic", "basic", USER[0], "file "),
        ("tls", "basic", USER[0], "file "),
        ("plain", "basic", USER[0], "settings"),
        ("in-file", "basic", USER[0], "config.json"),
        ("client", "none", None, ""),
    ],
)
def test_a_registry_is_read_through_what_it_asks_for(
    opened: Doors, name: str, scheme: str, username: str | None, source: str
) -> None:
    found = get(opened.service, image_at(name))
    assert (found["digest"], found["size"]) == (IMAGE.digest, IMAGE.size)
    state = get(opened.service, at_door(name))
    assert state["status"] == "up"
    assert (state["auth"]["scheme"], state["auth"]["username"]) == (scheme, username)
    assert source in (state["auth"]["source"] or "")


@pytest.mark.parametrize("name", ["tls", "client", "stranger"])
def test_a_registry_s_certificate_is_told(opened: Doors, name: str) -> None:
    registry, told = opened.registries[name], get(opened.service, at_door(name))["tls"]
    assert told["verified"] == (name != "stranger")
    assert "trustme" in told["issuer"]
    assert told["not_after"].endswith("Z")
    assert told["ca_files"] == ([str(registry.ca_file)] if name != "stranger" else [])
    assert (told["client_cert"] is not None) == (name == "client")


def test_an_untrusted_registry_says_which_file_to_add(opened: Doors) -> None:
    registry = opened.registries["stranger"]
    wanted = opened.service.data_dir / "certs.d" / registry.host / "ca.crt"
    paths = (image_at("stranger"), at_door("stranger", "/repositories"))
    for path in paths:
        told = problem(opened.service.ask(path), 502, "registry-tls-untrusted")
        assert str(wanted) in told["detail"]
    assert get(opened.service, at_door("stranger"))["status"] == "untrusted"


@pytest.mark.parametrize("name", ["wrong", "no-pair"])
def test_a_registry_that_refuses_us_is_told_from_one_that_is_down(opened: Doors, name: str) -> None:
    answer = opened.service.ask(image_at(name))
    problem(answer, 502, "registry-unauthorized")
    assert b"guess-work" not in answer.body
    assert get(opened.service, at_door(name))["status"] == "unauthorized"


def test_no_password_is_ever_shown_or_logged(opened: Doors) -> None:
    told = opened.service.ask("/v1/registries").body + opened.service.ask("/readyz").body
    said = told.decode() + opened.service.log.read_text()
    for secret in (USER[1], "guess-work", opened.service.admin()):
        assert secret not in said


def test_every_registry_is_listed_with_how_it_is(opened: Doors) -> None:
    listed = {one["name"]: one["status"] for one in pages(opened.service, "/v1/registries")}
    assert list(listed) == sorted(opened.registries)
    refused = {"stranger": "untrusted", "wrong": "unauthorized", "no-pair": "unauthorized"}
    assert listed == {name: refused.get(name, "up") for name in listed}


def test_untrusted_becomes_trusted_without_a_restart(opened: Doors) -> None:
    registry = opened.registries["stranger"]
    wanted = opened.service.data_dir / "certs.d" / registry.host / "ca.crt"
    assert registry.ca_file is not None
    wanted.parent.mkdir(parents=True)
    shutil.copy(registry.ca_file, wanted)
    try:
        assert get(opened.service, image_at("stranger"))["digest"] == IMAGE.digest
    finally:
        wanted.unlink()


@pytest.fixture
def token_server(tmp_path: Path) -> Iterator[TokenServer]:
    with contextlib.closing(TokenServer(tmp_path, USER)) as server:
        yield server


def test_a_registry_with_a_token_server_is_read_and_changed(
    registry: MakeRegistry, service: MakeService, token_server: TokenServer
) -> None:
    open_one = registry()
    with open_one.pusher() as pusher:
        pusher.push(APP, IMAGE, "1", "2")
    guarded = registry(seed=open_one, tls=True, env=token_server.environment())
    token_server.signer = guarded.authority
    assert guarded.ask("/v2/").headers["www-authenticate"].startswith("Bearer ")
    login = {"username": USER[0], "password": USER[1], "ca_file": str(token_server.roots())}
    made = service(guarded, table=login)
    assert pages(made, f"{REGISTRY}/repositories") == [{"name": APP}]
    assert get(made, tag_path(APP, "1"))["size"] == IMAGE.size
    auth = get(made, REGISTRY)["auth"]
    assert auth == {"scheme": "bearer", "username": USER[0], "source": "settings"}
    removed = delete(made, tag_path(APP, "1"))
    assert restore(made, removed)["tags_restored"] == ["1"]
    asked = token_server.scopes()
    assert {"registry:catalog:*", f"repository:{APP}:pull"} <= set(asked)
    assert any("delete" in scope for scope in asked)
    assert max(map(asked.count, asked)) <= 2 * WORKERS  # kept while they are good


def test_a_token_server_that_refuses_us_is_told(
    registry: MakeRegistry, service: MakeService, token_server: TokenServer
) -> None:
    guarded = registry(tls=True, env=token_server.environment())
    token_server.signer = guarded.authority
    login = {"username": USER[0], "password": "guess-work", "ca_file": str(token_server.roots())}
    made = service(guarded, table=login)
    answer = made.ask(f"{REGISTRY}/repositories")
    problem(answer, 502, "registry-unauthorized")
    assert b"guess-work" not in answer.body
    assert get(made, REGISTRY)["status"] == "unauthorized"


def test_content_pushed_by_others_is_seen_at_once(held: Held) -> None:
    with Pusher(held.registry.url) as pusher:
        for text in ("first", "second"):
            pusher.push("fresh", sample(text), "1")
            assert get(held.service, tag_path("fresh", "1"))["digest"] == sample(text).digest
