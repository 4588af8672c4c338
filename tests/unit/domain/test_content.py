"""Manifests parsed: every format that is about, and what is no manifest refused as such."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.domain.content import (
    ACCEPTED,
    DOCKER_LIST,
    DOCKER_MANIFEST,
    OCI_INDEX,
    OCI_MANIFEST,
    SCHEMA1,
    SCHEMA1_SIGNED,
    SCHEMA1_TYPES,
    Manifest,
    Platform,
    media_type_of,
    parse_manifest,
)
from service.domain.errors import RegistryAnswerInvalid
from service.domain.reference import Digest
from tests.fakes import OCI_CONFIG, OCI_EMPTY, OCI_LAYER, described, image, index
from tests.unit.domain.documents import (
    DOCKER_CONFIG,
    DOCKER_LAYER,
    FOREIGN_LAYER,
    LAYER,
    LONG,
    Document,
    can_be_sent,
    child,
    docker_document,
    image_document,
    index_document,
    json_values,
    raw,
    schema1,
)

ARTIFACT_MANIFEST = "application/vnd.oci.artifact.manifest.v1+json"
HELM_CONFIG = "application/vnd.cncf.helm.config.v1+json"
DEEP = 200_000


def parsed(document: object, media_type: str = OCI_MANIFEST) -> Manifest:
    return parse_manifest(raw(document, media_type))


# What there is.


@pytest.mark.parametrize(
    ("document", "media_type", "config", "layer"),
    [
        (image_document(b"c", b"1", b"22"), OCI_MANIFEST, OCI_CONFIG, OCI_LAYER),
        (docker_document(b"c", b"1", b"22"), DOCKER_MANIFEST, DOCKER_CONFIG, DOCKER_LAYER),
    ],
)
def test_images_have_a_config_and_layers_in_order(
    document: Document, media_type: str, config: str, layer: str
) -> None:
    manifest = parsed(document, media_type)
    assert manifest.kind == "image"
    assert manifest.size == len(json.dumps(document))
    assert manifest.digest == Digest.of(json.dumps(document).encode())
    seen = [(blob.digest, blob.media_type, blob.size) for blob in manifest.blobs]
    assert seen == [
        (Digest.of(b"c"), config, 1),
        (Digest.of(b"1"), layer, 1),
        (Digest.of(b"22"), layer, 2),
    ]
    assert not manifest.children


@pytest.mark.parametrize("media_type", [OCI_INDEX, DOCKER_LIST])
def test_indexes_and_lists_have_children_with_platforms(media_type: str) -> None:
    arm, nested = image("arm"), index(image("inner"))
    listed = (child(arm, "linux/arm/v7"), child(nested))
    manifest = parsed(index_document(*listed), media_type)
    assert manifest.kind == "index"
    first, second = manifest.children
    assert (first.digest, first.platform) == (arm.digest, Platform("linux", "arm", "v7"))
    assert (second.digest, second.platform) == (nested.digest, None)
    assert first.size == len(arm.raw.body)
    assert (first.may_have_children, second.may_have_children) == (False, True)
    assert not manifest.blobs


@pytest.mark.parametrize(
    ("document", "kind"),
    [
        (image_document(), "image"),
        (image_document(artifactType="application/spdx+json"), "artifact"),
        (image_document(artifactType=""), "image"),
        ({"config": described(b"{}", OCI_EMPTY), "layers": []}, "artifact"),
        ({"config": described(b"{}", HELM_CONFIG), "layers": []}, "artifact"),
        ({"config": {"digest": LAYER, "size": 2}, "layers": []}, "artifact"),
        ({"mediaType": ARTIFACT_MANIFEST, "blobs": [described(b"x", OCI_LAYER)]}, "artifact"),
    ],
)
def test_an_artifact_says_so_or_has_no_image_config(document: Document, kind: str) -> None:
    assert parsed(document).kind == kind


def test_an_index_stays_one_whatever_its_artifact_type() -> None:
    assert parsed(index_document(artifactType="text/sbom"), OCI_INDEX).kind == "index"


@pytest.mark.parametrize(
    ("document", "expected"),
    [
        (image_document(artifactType="text/sbom"), "text/sbom"),
        (image_document(), OCI_CONFIG),
        ({"layers": []}, None),
    ],
)
def test_the_artifact_type_of_a_referrer_falls_back_to_its_config(
    document: Document, expected: str | None
) -> None:
    assert parsed(document).effective_artifact_type == expected


def test_the_blobs_of_an_artifact_manifest_are_its_layers() -> None:
    manifest = parsed({"blobs": [described(b"x", OCI_LAYER)]}, ARTIFACT_MANIFEST)
    assert [layer.digest for layer in manifest.layers] == [Digest.of(b"x")]
    assert manifest.config is None


def test_subject_and_annotations_are_read() -> None:
    subject = image("subject")
    document = image_document(subject=subject.descriptor(), annotations={"a": "b", "": ""})
    manifest = parsed(document)
    assert manifest.subject is not None
    assert manifest.subject.digest == subject.digest
    assert manifest.annotations == {"a": "b", "": ""}
    assert parsed(image_document(subject=None)).subject is None


@pytest.mark.parametrize("signed", [False, True])
def test_schema1_is_an_image_turned_base_first_without_sizes(*, signed: bool) -> None:
    manifest = parse_manifest(schema1([{"os": "base"}, {"os": "top"}], signed=signed))
    assert manifest.kind == "image"
    assert manifest.config is None
    assert [layer.digest for layer in manifest.layers] == [
        Digest.of(b"layer 0"),
        Digest.of(b"layer 1"),
    ]
    assert [layer.size for layer in manifest.layers] == [None, None]
    assert [step["os"] for step in manifest.history] == ["base", "top"]


def test_layers_may_be_foreign_or_of_sha512() -> None:
    layers = [
        {"mediaType": FOREIGN_LAYER, "digest": LAYER, "size": 1, "urls": ["https://x"]},
        {"mediaType": OCI_LAYER, "digest": LONG, "size": 2},
    ]
    foreign, long = parsed({**image_document(), "layers": layers}).layers
    assert (foreign.is_foreign, long.is_foreign) == (True, False)
    assert long.digest == LONG


@pytest.mark.parametrize(
    ("platform", "expected", "known"),
    [
        ({"os": "linux", "architecture": "amd64"}, Platform("linux", "amd64"), True),
        ({"os": "unknown", "architecture": "unknown"}, Platform("unknown", "unknown"), False),
        ({"os": "linux", "architecture": "unknown"}, Platform("linux", "unknown"), False),
        ({"os": "a" * 128, "architecture": "x"}, Platform("a" * 128, "x"), True),
        (
            {"os": "linux", "architecture": "arm", "variant": "v" * 129},
            Platform("linux", "arm"),
            True,
        ),
        ({"os": "a" * 129, "architecture": "x"}, None, False),
        ({"os": "linux"}, None, False),
        ({"os": "linux", "architecture": 64}, None, False),
        ({}, None, False),
        (None, None, False),
        ("linux/amd64", None, False),
        ([], None, False),
    ],
)
def test_a_platform_names_system_and_processor_or_is_none(
    platform: object, expected: Platform | None, *, known: bool
) -> None:
    listed = {"digest": LAYER, "size": 1, "platform": platform}
    (descriptor,) = parsed(index_document(listed), OCI_INDEX).children
    assert descriptor.platform == expected
    assert bool(expected and expected.known) == known


# What a registry may serve instead.


def without(name: str, document: Document) -> Document:
    return {key: value for key, value in document.items() if key != name}


HOSTILE: list[tuple[str, object]] = [
    (OCI_MANIFEST, b""),
    (OCI_MANIFEST, b"<html>"),
    (OCI_MANIFEST, b"\xff\xfe\xff"),
    (OCI_MANIFEST, json.dumps(image_document()).encode()[:-9]),
    (OCI_MANIFEST, b"[" * DEEP),
    (OCI_MANIFEST, b'{"config":' * DEEP),
    (OCI_MANIFEST, b'{"layers":[],"annotations":' + b"[" * DEEP + b"]" * DEEP + b"}"),
    (OCI_MANIFEST, b'{"layers":[],"x":' + b"9" * 5000 + b"}"),
    (OCI_MANIFEST, None),
    (OCI_MANIFEST, True),
    (OCI_MANIFEST, 7),
    (OCI_MANIFEST, "manifest"),
    (OCI_MANIFEST, []),
    (OCI_MANIFEST, {}),
    (OCI_MANIFEST, {"errors": [{"code": "UNKNOWN"}]}),
    ("application/json", {"message": "please log in"}),
    (OCI_MANIFEST, {**image_document(), "manifests": [child(image("a"))]}),
    (OCI_INDEX, {**index_document(), "layers": [described(b"x", OCI_LAYER)]}),
    (OCI_INDEX, {**index_document(), "config": described(b"x", OCI_CONFIG)}),
    (OCI_INDEX, {}),
    (OCI_INDEX, image_document()),
    (OCI_INDEX, {"manifests": {}}),
    (OCI_INDEX, {"manifests": ""}),
    (OCI_INDEX, {"manifests": 0}),
    (OCI_INDEX, {"manifests": {"digest": LAYER}}),
    (OCI_INDEX, {"manifests": [None]}),
    (OCI_INDEX, {"manifests": ["x"]}),
    (OCI_INDEX, {"manifests": [{}]}),
    (OCI_INDEX, {"manifests": [{"digest": None}]}),
    (OCI_INDEX, {"manifests": [{"digest": [LAYER]}]}),
    (OCI_INDEX, {"manifests": [{"digest": f"{LAYER}\n"}]}),
    (OCI_INDEX, {"manifests": [{"digest": LAYER.upper()}]}),
    (OCI_INDEX, {"manifests": [{"digest": "../../x"}]}),
    (DOCKER_LIST, {"manifests": [{"size": 1}]}),
    (DOCKER_MANIFEST, {**docker_document(), "layers": {}}),
    (DOCKER_MANIFEST, {**docker_document(), "layers": "layers"}),
    (DOCKER_MANIFEST, {**docker_document(), "layers": [[]]}),
    (DOCKER_MANIFEST, {**docker_document(), "layers": [{"digest": "sha256:x"}]}),
    (DOCKER_MANIFEST, {**docker_document(), "config": "config"}),
    (DOCKER_MANIFEST, {**docker_document(), "config": [1]}),
    (DOCKER_MANIFEST, {**docker_document(), "config": {"size": 1}}),
    (SCHEMA1, {}),
    (SCHEMA1, {"fsLayers": [], "history": 5}),
    (SCHEMA1, {"fsLayers": 5, "history": []}),
    (SCHEMA1, {"fsLayers": [{}], "history": []}),
    (SCHEMA1, {"fsLayers": ["x"], "history": []}),
    (SCHEMA1, {"fsLayers": [{"blobSum": "x"}], "history": []}),
    (SCHEMA1, {"fsLayers": [], "history": [{}]}),
    (SCHEMA1, {"fsLayers": [], "history": [{"v1Compatibility": {}}]}),
    (SCHEMA1_SIGNED, {"fsLayers": [], "history": [{"v1Compatibility": "{"}]}),
    (SCHEMA1_SIGNED, {"fsLayers": [], "history": [{"v1Compatibility": "[" * DEEP}]}),
]


@pytest.mark.parametrize("subject", ["x", {"size": 1}, {"digest": "sha256:abc"}, [], 7])
def test_a_subject_that_can_be_nothing_is_none(subject: object) -> None:
    found = parsed({**image_document(), "subject": subject}, OCI_MANIFEST)
    assert found.subject is None
    assert found.config


@pytest.mark.parametrize("media_type", [OCI_MANIFEST, OCI_INDEX, DOCKER_LIST])
def test_what_points_at_nothing_hides_nothing(media_type: str) -> None:
    found = parsed({"schemaVersion": 2, "mediaType": media_type}, media_type)
    assert (found.config, found.layers, found.children) == (None, (), ())


@pytest.mark.parametrize(
    ("media_type", "document"), HOSTILE, ids=[str(number) for number in range(len(HOSTILE))]
)
def test_what_is_no_manifest_of_its_type_is_an_invalid_answer(
    media_type: str, document: object
) -> None:
    with pytest.raises(RegistryAnswerInvalid) as caught:
        parsed(document, media_type)
    assert Digest.of(raw(document).body) in str(caught.value)


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        (0, 0),
        (5, 5),
        (2**63 - 1, 2**63 - 1),
        (2**63, None),
        (10**4000, None),
        (-1, None),
        (1.5, None),
        (float("nan"), None),
        (float("inf"), None),
        (True, None),
        ("5", None),
        ([], None),
        (None, None),
    ],
)
def test_what_is_no_size_is_left_out(size: object, expected: int | None) -> None:
    document = {**image_document(), "layers": [{"digest": LAYER, "size": size}]}
    (layer,) = parsed(document).layers
    assert layer.size == expected


def test_missing_and_wrong_descriptions_are_left_out() -> None:
    listed = {"digest": LAYER, "mediaType": 5, "annotations": {"a": 1, "b": "c"}}
    document = {**image_document(), "layers": [listed], "annotations": [1], "artifactType": {}}
    manifest = parsed(document)
    assert (manifest.annotations, manifest.kind) == ({}, "image")
    (layer,) = manifest.layers
    assert (layer.media_type, layer.size) == ("application/octet-stream", None)
    assert layer.annotations == {"b": "c"}


@pytest.mark.parametrize("name", ["layers", "manifests"])
def test_null_is_an_empty_list(name: str) -> None:
    media_type = OCI_INDEX if name == "manifests" else OCI_MANIFEST
    manifest = parsed({name: None, "config": None}, media_type)
    assert (manifest.layers, manifest.children) == ((), ())


def test_texts_can_be_encoded_whatever_was_escaped() -> None:
    document = image_document(annotations={"\ud800": "\udfff", "é": "é"}, artifactType="\ud800")
    manifest = parsed(document)
    assert manifest.annotations == {"?": "?", "é": "é"}
    assert manifest.artifact_type == "?"


fields = st.fixed_dictionaries(
    {},
    optional=dict.fromkeys(
        (
            "config",
            "layers",
            "blobs",
            "manifests",
            "subject",
            "annotations",
            "artifactType",
            "fsLayers",
            "history",
        ),
        json_values,
    ),
)


@given(st.one_of(fields, json_values), st.sampled_from(ACCEPTED))
def test_any_document_is_a_manifest_or_an_invalid_answer(document: object, kind: str) -> None:
    try:
        manifest = parsed(document, kind)
    except RegistryAnswerInvalid:
        return
    pointers = (*manifest.blobs, *manifest.children)
    assert all(Digest.listed(one.digest) for one in pointers)
    assert all(one.size is None or 0 <= one.size < 2**63 for one in pointers)
    assert isinstance(document, dict)
    if kind not in SCHEMA1_TYPES:
        assert manifest.is_index or not document.get("manifests")
    assert can_be_sent(replace(manifest, history=()))


@given(st.binary(max_size=40), st.sampled_from(ACCEPTED))
def test_any_bytes_are_an_invalid_answer(body: bytes, kind: str) -> None:
    with pytest.raises(RegistryAnswerInvalid):
        parsed(body, kind)


# The type.


@pytest.mark.parametrize(
    ("document", "declared", "expected"),
    [
        (image_document(), OCI_MANIFEST, OCI_MANIFEST),
        ({}, f" {OCI_MANIFEST.upper()} ; charset=utf-8", OCI_MANIFEST),
        (image_document(), None, OCI_MANIFEST),
        (image_document(), "application/json", OCI_MANIFEST),
        (index_document(), None, OCI_INDEX),
        (index_document(), "text/plain", OCI_INDEX),
        (docker_document(), None, DOCKER_MANIFEST),
        (index_document(mediaType=DOCKER_LIST), "application/json", DOCKER_LIST),
        ({"schemaVersion": 1}, "application/json", SCHEMA1),
        ({"schemaVersion": 1, "signatures": [{}]}, None, SCHEMA1_SIGNED),
        ({"schemaVersion": 1}, SCHEMA1_SIGNED, SCHEMA1_SIGNED),
        ({"mediaType": ARTIFACT_MANIFEST}, "application/json", ARTIFACT_MANIFEST),
        ({"mediaType": ARTIFACT_MANIFEST}, OCI_MANIFEST, OCI_MANIFEST),
        ({}, ARTIFACT_MANIFEST, ARTIFACT_MANIFEST),
        ({}, None, "application/octet-stream"),
        ({}, "", "application/octet-stream"),
        ({"mediaType": 5}, None, "application/octet-stream"),
        ([], "text/html", "text/html"),
        (b"<html>", "text/html; charset=utf-8", "text/html"),
        (b"\xff", None, "application/octet-stream"),
        (b"[" * DEEP, None, "application/octet-stream"),
    ],
)
def test_the_type_is_the_documents_own_or_the_declared_or_guessed(
    document: object, declared: str | None, expected: str
) -> None:
    assert media_type_of(raw(document).body, declared) == expected


def test_the_document_is_believed_before_the_registry() -> None:
    body = raw(index_document(mediaType=DOCKER_LIST)).body
    assert media_type_of(body, DOCKER_MANIFEST) == DOCKER_LIST


@pytest.mark.parametrize(
    "named", ["x/y\r\nSet-Cookie: a=b", "x/y\nz", "x", "/", "x/", "é/x", "x/y z", "a" * 200 + "/b"]
)
def test_a_type_is_fit_for_a_header(named: str) -> None:
    assert media_type_of(raw({"mediaType": named}).body, None) == "application/octet-stream"
    assert media_type_of(b"", named) == "application/octet-stream"
