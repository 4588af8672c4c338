from __future__ import annotations

import base64
import hashlib
import json

import pytest

from service.adapters.registry.schema1 import schema1_digest
from service.domain.audit import Change
from service.domain.content import (
    ACCEPTED,
    DOCKER_MANIFEST,
    MANIFEST_LIMIT,
    OCI_INDEX,
    OCI_MANIFEST,
    SCHEMA1,
    SCHEMA1_SIGNED,
)
from service.domain.errors import (
    ManifestUnknown,
    RegistryAnswerInvalid,
    RegistryRateLimited,
    RegistryTimeout,
    RegistryUnauthorized,
    RegistryUnreachable,
    RepositoryUnknown,
    UpstreamFailed,
)
from service.domain.reference import Digest, Repository, Tag
from tests.fakes import FakeRegistry, image, index
from tests.standin import Reply, StandIn, oci_error, plain, replies, says
from tests.unit.adapters.registry.support import Connect, Play, Serve

APP = Repository("team/app")
V1 = Tag("1")
ONE, TWO = image("one"), image("two")
OTHER = Digest("sha256:" + "5" * 64)


@pytest.fixture
def server(fake: FakeRegistry, play: Play) -> StandIn:
    fake.push(APP, ONE, "1")
    return play()


def served(body: bytes, media_type: str | None = OCI_MANIFEST, digest: str | None = None) -> Reply:
    headers = [("Content-Type", media_type)] if media_type else []
    headers += [("Docker-Content-Digest", digest)] if digest else []
    return Reply(200, headers, body)


def methods(server: StandIn) -> list[str]:
    return [one.method for one in server.seen]


# What is asked for.


def test_every_manifest_type_is_accepted_always_and_schema1_last(
    server: StandIn, connect: Connect
) -> None:
    registry = connect(server)
    registry.resolve(APP, V1)
    registry.resolve(APP, V1)
    registry.manifest(APP, V1)
    registry.manifest(APP, ONE.digest)
    accepted = [one.headers["accept"].split(", ") for one in server.requests(path="manifests")]
    assert accepted == [list(ACCEPTED)] * 4
    assert ACCEPTED[-2:] == (SCHEMA1_SIGNED, SCHEMA1)


def test_if_none_match_is_never_sent(server: StandIn, connect: Connect) -> None:
    registry = connect(server)
    for _ in range(3):
        registry.resolve(APP, V1)
    assert all("if-none-match" not in one.headers for one in server.seen)


# Resolving.


def test_a_new_tag_is_fetched_and_a_known_one_only_looked_at(
    server: StandIn, connect: Connect
) -> None:
    registry = connect(server)
    assert registry.resolve(APP, V1) == ONE.digest
    assert registry.content(APP, ONE.digest) == ONE.raw
    assert registry.resolve(APP, V1) == ONE.digest
    assert methods(server) == ["GET", "HEAD"]


def test_a_known_tag_whose_content_is_not_cached_is_fetched(
    server: StandIn, connect: Connect, fake: FakeRegistry
) -> None:
    registry = connect(server)
    registry.resolve(APP, V1)
    fake.push(APP, TWO, "1")
    assert registry.resolve(APP, V1) == TWO.digest
    assert registry.resolve(APP, V1) == TWO.digest
    assert methods(server) == ["GET", "HEAD", "GET"]


@pytest.mark.parametrize("reply", [Reply(404), Reply(405), Reply(501), Reply(400), Reply(200)])
def test_where_head_does_not_tell_get_does(server: StandIn, connect: Connect, reply: Reply) -> None:
    server.rule(says(reply), method="HEAD")
    registry = connect(server)
    for _ in range(3):
        assert registry.resolve(APP, V1) == ONE.digest
    assert methods(server) == ["GET", "HEAD", "GET", "HEAD", "GET"]


@pytest.mark.parametrize("digest", ["", "sha256:short", "sha512:" + "a" * 128, "garbage"])
def test_where_head_names_no_digest_get_does(
    server: StandIn, connect: Connect, digest: str
) -> None:
    server.rule(replies(200, {"Docker-Content-Digest": digest}), method="HEAD")
    registry = connect(server)
    for _ in range(2):
        assert registry.resolve(APP, V1) == ONE.digest


def test_a_tag_that_dangles_since_is_unknown(
    server: StandIn, connect: Connect, fake: FakeRegistry
) -> None:
    registry = connect(server)
    registry.resolve(APP, V1)
    fake.dangle(APP, "1")
    with pytest.raises(ManifestUnknown):
        registry.resolve(APP, V1)


@pytest.mark.parametrize(
    ("status", "error"),
    [(403, RegistryUnauthorized), (429, RegistryRateLimited), (503, RegistryUnreachable),
     (504, RegistryTimeout), (500, RegistryAnswerInvalid)],
)  # fmt: skip
def test_a_head_that_is_refused_is_not_repeated_as_a_get(
    server: StandIn, connect: Connect, status: int, error: type[UpstreamFailed]
) -> None:
    registry = connect(server)
    registry.resolve(APP, V1)
    server.rule(replies(status), method="HEAD")
    with pytest.raises(error):
        registry.resolve(APP, V1)
    assert methods(server).count("GET") == 1


# Checking.


def test_a_missing_digest_header_is_made_up_for(server: StandIn, connect: Connect) -> None:
    server.rule(says(served(ONE.raw.body)))
    registry = connect(server)
    assert registry.resolve(APP, V1) == ONE.digest
    assert registry.manifest(APP, V1) == ONE.raw


@pytest.mark.parametrize("digest", [OTHER, "garbage", "sha256:", "sha512:" + "a" * 128])
def test_a_digest_that_is_not_that_of_the_bytes_is_refused(
    server: StandIn, connect: Connect, digest: str
) -> None:
    server.rule(says(served(ONE.raw.body, digest=digest)))
    registry = connect(server)
    for reference in (V1, ONE.digest):
        with pytest.raises(RegistryAnswerInvalid):
            registry.manifest(APP, reference)


def test_a_digest_of_another_algorithm_may_agree(server: StandIn, connect: Connect) -> None:
    digest = "sha512:" + hashlib.sha512(ONE.raw.body).hexdigest()
    server.rule(says(served(ONE.raw.body, digest=digest)))
    assert connect(server).manifest(APP, V1) == ONE.raw


def test_other_bytes_than_those_asked_for_are_refused(server: StandIn, connect: Connect) -> None:
    server.rule(says(served(TWO.raw.body, digest=TWO.digest)))
    registry = connect(server)
    with pytest.raises(RegistryAnswerInvalid, match="not asked for"):
        registry.manifest(APP, ONE.digest)
    with pytest.raises(RegistryAnswerInvalid):
        registry.content(APP, ONE.digest)
    assert registry.manifest(APP, V1) == TWO.raw


def test_bytes_that_were_refused_are_not_cached(server: StandIn, connect: Connect) -> None:
    server.rule(says(served(TWO.raw.body, digest=TWO.digest)), times=1)
    registry = connect(server)
    with pytest.raises(RegistryAnswerInvalid):
        registry.content(APP, ONE.digest)
    assert registry.content(APP, ONE.digest) == ONE.raw


@pytest.mark.parametrize(
    "reply",
    [
        Reply(200, [("Content-Type", "text/html")], b"<html>Welcome</html>"),
        Reply(200, [("Content-Type", OCI_MANIFEST)], b"<html>Welcome</html>"),
        Reply(200, [], b""),
        Reply(200, [], b"garbage \x00\xff"),
        Reply(200, [], b"[1]"),
        Reply(204),
        Reply(206, [], b"{}"),
        Reply(302, [("Location", "http://127.0.0.1:9/")]),
        Reply(304),
        Reply(400),
        Reply(raw=b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{"),
        Reply(raw=b"nonsense\r\n\r\n"),
    ],
)
def test_garbage_is_no_manifest(server: StandIn, connect: Connect, reply: Reply) -> None:
    server.rule(says(reply))
    registry = connect(server)
    for reference in (V1, ONE.digest):
        with pytest.raises(RegistryAnswerInvalid):
            registry.manifest(APP, reference)
    with pytest.raises(RegistryAnswerInvalid):
        registry.resolve(APP, V1)


def test_a_redirect_of_a_manifest_is_never_followed(
    server: StandIn, serve: Serve, connect: Connect
) -> None:
    other = serve(says(served(ONE.raw.body)))
    server.rule(replies(307, {"Location": f"{other.url}/v2/{APP}/manifests/1"}))
    with pytest.raises(RegistryAnswerInvalid, match="not followed"):
        connect(server).manifest(APP, V1)
    assert other.seen == []


def test_a_manifest_of_4_mib_is_read_and_a_larger_one_refused(
    server: StandIn, connect: Connect
) -> None:
    def padded(size: int) -> bytes:
        frame = b'{"schemaVersion":2,"config":{},"pad":""}'
        return frame[:-2] + b"x" * (size - len(frame)) + frame[-2:]

    registry = connect(server)
    body = padded(MANIFEST_LIMIT)
    server.rule(says(served(body)), times=1)
    assert registry.manifest(APP, V1).digest == Digest.of(body)
    server.rule(says(served(padded(MANIFEST_LIMIT + 1))))
    with pytest.raises(RegistryAnswerInvalid, match=f"{MANIFEST_LIMIT} bytes"):
        registry.manifest(APP, V1)


@pytest.mark.parametrize(
    ("media_type", "expected"),
    [
        (OCI_MANIFEST, OCI_MANIFEST),
        (f"{DOCKER_MANIFEST}; charset=utf-8", DOCKER_MANIFEST),
        ("application/json", OCI_MANIFEST),
        (None, OCI_MANIFEST),
    ],
)
def test_a_manifest_that_names_no_type_has_the_one_it_is_served_with(
    server: StandIn, connect: Connect, media_type: str | None, expected: str
) -> None:
    body = b'{"schemaVersion": 2, "config": {}, "layers": []}'
    server.rule(says(served(body, media_type)), times=1)
    server.rule(says(served(ONE.raw.body, media_type)), times=1)
    registry = connect(server)
    assert registry.manifest(APP, V1).media_type == expected
    assert registry.manifest(APP, V1).media_type == OCI_MANIFEST


def test_cached_content_has_the_type_it_was_served_with(server: StandIn, connect: Connect) -> None:
    """A manifest that does not name its type is not cached under another."""
    body = b'{"schemaVersion": 2, "manifests": []}'
    server.rule(says(served(body, DOCKER_MANIFEST)), times=2)
    registry = connect(server)
    assert registry.content(APP, Digest.of(body)).media_type == DOCKER_MANIFEST
    assert registry.content(APP, Digest.of(body)).media_type == DOCKER_MANIFEST
    server.rule(says(served(body, OCI_INDEX)), times=1)
    assert registry.content(APP, Digest.of(body)).media_type == OCI_INDEX
    assert registry.content(APP, Digest.of(body)).media_type == OCI_INDEX
    assert len(server.seen) == 3


def test_content_comes_from_the_cache_when_the_registry_is_gone(
    server: StandIn, connect: Connect, fake: FakeRegistry
) -> None:
    whole = index(ONE)
    fake.push(APP, whole, "2")
    registry = connect(server)
    registry.resolve(APP, Tag("2"))
    server.rule(replies(500))
    assert registry.content(APP, whole.digest) == whole.raw


def test_a_manifest_is_always_asked_for_anew(server: StandIn, connect: Connect) -> None:
    registry = connect(server)
    registry.manifest(APP, ONE.digest)
    registry.manifest(APP, ONE.digest)
    assert methods(server) == ["GET", "GET"]


@pytest.mark.parametrize(
    ("reply", "error"),
    [
        (oci_error(404, "MANIFEST_UNKNOWN"), ManifestUnknown),
        (oci_error(404, "NAME_UNKNOWN"), RepositoryUnknown),
        (plain(404, "404 page not found\n"), ManifestUnknown),
        (Reply(404), ManifestUnknown),
    ],
)
def test_a_404_is_unknown_in_json_and_in_plain_text(
    server: StandIn, connect: Connect, reply: Reply, error: type[Exception]
) -> None:
    server.rule(says(reply))
    with pytest.raises(error):
        connect(server).manifest(APP, V1)


def test_the_longest_names_are_asked_for(fake: FakeRegistry, play: Play, connect: Connect) -> None:
    name = Repository.parse("/".join(["a" * 50] * 4 + ["b" * 51]))
    tag = Tag.parse("T" * 128)
    assert len(name) == 255
    fake.push(name, ONE, tag)
    registry = connect(play())
    assert list(registry.repositories()) == [name]
    assert registry.tags(name) == [tag]
    assert registry.resolve(name, tag) == ONE.digest


def test_only_so_many_tags_are_remembered(
    server: StandIn, connect: Connect, fake: FakeRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.adapters.registry.manifests.REMEMBERED_TAGS", 2)
    fake.push(APP, ONE, "1", "2", "3")
    registry = connect(server)
    for tag in ("1", "2", "3", "1"):
        registry.resolve(APP, Tag(tag))
    assert methods(server) == ["GET"] * 4


# Schema1.


def signed(document: dict[str, object]) -> tuple[bytes, Digest]:
    """Sign as Docker did: the signatures go in before the last brace."""
    payload = json.dumps(document, indent=3).encode()
    cut = payload.rindex(b"\n}")

    def encoded(content: bytes) -> str:
        return base64.urlsafe_b64encode(content).rstrip(b"=").decode()

    protected = {"formatLength": cut, "formatTail": encoded(payload[cut:])}
    signature = {
        "header": {"alg": "ES256"},
        "protected": encoded(json.dumps(protected).encode()),
        "signature": "c2ln",
    }
    inserted = b',\n   "signatures": ' + json.dumps([signature]).encode()
    return payload[:cut] + inserted + payload[cut:], Digest.of(payload)


OLD = {"schemaVersion": 1, "name": APP, "tag": "1", "fsLayers": [], "history": []}


def test_the_digest_of_schema1_leaves_its_signatures_out() -> None:
    body, digest = signed(dict(OLD))
    assert json.loads(body)["signatures"]
    assert schema1_digest(body) == digest != Digest.of(body)


def test_unsigned_schema1_has_the_digest_of_its_bytes() -> None:
    body = json.dumps(OLD).encode()
    assert schema1_digest(body) == Digest.of(body)


@pytest.mark.parametrize(
    "signatures",
    [[{}], [{"protected": "%%%"}], [{"protected": "e30"}], {"a": 1}, "x", [1],
     [{"protected": base64.urlsafe_b64encode(b'{"formatLength": 10000000, "formatTail": ""}')
       .decode()}],
     [{"protected": base64.urlsafe_b64encode(b'{"formatLength": "1", "formatTail": ""}')
       .decode()}]],
)  # fmt: skip
def test_a_signature_that_makes_no_sense_gives_no_digest(signatures: object) -> None:
    with pytest.raises(ValueError, match=r".+"):
        schema1_digest(json.dumps(OLD | {"signatures": signatures}).encode())


@pytest.mark.parametrize("media_type", [SCHEMA1_SIGNED, SCHEMA1, "application/json", None])
@pytest.mark.parametrize("named", [True, False])
def test_schema1_is_recognised_and_named(
    server: StandIn, connect: Connect, media_type: str | None, *, named: bool
) -> None:
    body, digest = signed(dict(OLD))
    server.rule(says(served(body, media_type, digest if named else None)))
    registry = connect(server)
    assert registry.resolve(APP, V1) == digest
    raw = registry.manifest(APP, digest)
    assert raw.digest == digest
    assert raw.body == body
    assert raw.media_type in {SCHEMA1_SIGNED, SCHEMA1}
    assert registry.content(APP, digest) == raw


def test_schema1_without_a_digest_anywhere_is_refused(server: StandIn, connect: Connect) -> None:
    body = json.dumps(OLD | {"signatures": [{}]}).encode()
    server.rule(says(served(body, SCHEMA1_SIGNED)))
    with pytest.raises(RegistryAnswerInvalid):
        connect(server).manifest(APP, V1)


def test_referrers_are_none_where_there_is_no_api(
    server: StandIn, connect: Connect, change: Change
) -> None:
    change.require_open()
    registry = connect(server)
    assert registry.referrers(APP, ONE.digest) is None
    for reply in (plain(404, "404 page not found\n"), oci_error(405, "UNSUPPORTED")):
        server.rule(says(reply), path="referrers", times=1)
        assert registry.referrers(APP, ONE.digest) is None


def test_referrers_come_in_pages_and_each_once(server: StandIn, connect: Connect) -> None:
    def page(*digests: str) -> bytes:
        manifests = [
            {"mediaType": OCI_MANIFEST, "digest": digest, "size": 1, "artifactType": "a/b"}
            for digest in digests
        ]
        return json.dumps({"schemaVersion": 2, "manifests": manifests}).encode()

    following = ("Link", f'</v2/{APP}/referrers/{ONE.digest}?last=x>; rel="next"')
    server.rule(says(Reply(200, [following], page(TWO.digest, OTHER))), path=f"{ONE.digest}$")
    server.rule(says(Reply(200, [], page(OTHER, ONE.digest))), path="last=x")
    found = connect(server).referrers(APP, ONE.digest)
    assert found is not None
    assert [one.digest for one in found] == [TWO.digest, OTHER, ONE.digest]
    assert found[0].artifact_type == "a/b"


def test_an_empty_list_of_referrers_is_not_none(server: StandIn, connect: Connect) -> None:
    body = b'{"schemaVersion": 2, "manifests": []}'
    server.rule(replies(200, {"Content-Type": OCI_INDEX}, body), path="referrers")
    assert connect(server).referrers(APP, ONE.digest) == []


@pytest.mark.parametrize("body", [b"<html>", b"", b"[]", b'{"manifests": [{}]}'])
def test_garbage_is_no_list_of_referrers(server: StandIn, connect: Connect, body: bytes) -> None:
    server.rule(replies(200, {}, body), path="referrers")
    with pytest.raises(RegistryAnswerInvalid):
        connect(server).referrers(APP, ONE.digest)
