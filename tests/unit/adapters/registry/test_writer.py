from __future__ import annotations

import pytest

from service.domain.audit import Change
from service.domain.errors import (
    Conflict,
    DeletionDisabled,
    ManifestRefused,
    RegistryAdminError,
    RegistryAnswerInvalid,
    RegistryRateLimited,
    RegistryReadOnly,
    RegistryTimeout,
    RegistryUnauthorized,
    RegistryUnreachable,
)
from service.domain.ports import RegistryWriter
from service.domain.reference import Digest, Repository, Tag
from tests.fakes import FakeRegistry, image
from tests.standin import Reply, StandIn, oci_error, plain, says
from tests.unit.adapters.registry.support import Connect, Play, Time

APP = Repository("team/app")
V1 = Tag("1")
ONE = image("one")
OTHER = Digest("sha256:" + "5" * 64)
PLAIN_405 = plain(405, "405 method not allowed\n")


@pytest.fixture
def server(fake: FakeRegistry, play: Play) -> StandIn:
    fake.push(APP, ONE, "1")
    return play()


@pytest.fixture
def writer(server: StandIn, connect: Connect, change: Change) -> RegistryWriter:
    return connect(server).writer(change)


def test_a_put_sends_exact_bytes_and_their_type(server: StandIn, writer: RegistryWriter) -> None:
    writer.put_manifest(APP, Tag("2"), ONE.raw)
    (asked,) = server.seen
    assert (asked.method, asked.path) == ("PUT", f"/v2/{APP}/manifests/2")
    assert asked.body == ONE.raw.body
    assert asked.headers["content-type"] == ONE.raw.media_type


@pytest.mark.parametrize(
    ("reply", "error"),
    [
        (PLAIN_405, RegistryReadOnly),
        (oci_error(405, "UNSUPPORTED"), RegistryReadOnly),
        (oci_error(400, "MANIFEST_BLOB_UNKNOWN"), ManifestRefused),
        (oci_error(400, "MANIFEST_INVALID"), ManifestRefused),
        (oci_error(404, "BLOB_UNKNOWN"), ManifestRefused),
        (oci_error(404, "NAME_UNKNOWN"), ManifestRefused),
        (Reply(412), ManifestRefused),
        (Reply(413), ManifestRefused),
        (Reply(415), ManifestRefused),
        (oci_error(403, "DENIED"), RegistryUnauthorized),
        (Reply(429), RegistryRateLimited),
        (Reply(500), RegistryAnswerInvalid),
        (Reply(503), RegistryUnreachable),
        (Reply(504), RegistryTimeout),
        (Reply(200), RegistryAnswerInvalid),
        (Reply(307, [("Location", "http://127.0.0.1:9/")]), RegistryAnswerInvalid),
        (Reply(201, [("Docker-Content-Digest", OTHER)]), RegistryAnswerInvalid),
        (Reply(raw=b""), RegistryUnreachable),
        (Reply(raw=b"HTTP/1.1 201 Created\r\nContent-Length: 9\r\n\r\n{"), RegistryAnswerInvalid),
    ],
)
def test_a_put_that_is_not_taken_is_told_why_and_never_repeated(
    server: StandIn,
    writer: RegistryWriter,
    time: Time,
    reply: Reply,
    error: type[RegistryAdminError],
) -> None:
    server.rule(says(reply))
    with pytest.raises(error) as caught:
        writer.put_manifest(APP, V1, ONE.raw)
    assert len(server.seen) == 1
    assert time.slept == []
    certain = isinstance(caught.value, Conflict)
    assert not certain or "Nothing was changed" in str(caught.value)


def test_a_put_that_names_no_digest_is_taken(server: StandIn, writer: RegistryWriter) -> None:
    server.rule(says(Reply(201)))
    writer.put_manifest(APP, V1, ONE.raw)


@pytest.mark.parametrize(
    "reply",
    [
        Reply(202),
        Reply(200),
        Reply(204),
        Reply(404),
        oci_error(404, "NAME_UNKNOWN"),
        oci_error(404, "MANIFEST_UNKNOWN"),
    ],
)
def test_a_manifest_deleted_or_gone_is_gone(
    server: StandIn, writer: RegistryWriter, reply: Reply
) -> None:
    server.rule(says(reply))
    writer.delete_manifest(APP, ONE.digest)
    (asked,) = server.seen
    assert (asked.method, asked.path) == ("DELETE", f"/v2/{APP}/manifests/{ONE.digest}")


@pytest.mark.parametrize(
    ("reply", "error"),
    [
        (oci_error(405, "UNSUPPORTED"), DeletionDisabled),
        (oci_error(400, "UNSUPPORTED"), DeletionDisabled),
        (PLAIN_405, RegistryReadOnly),
        (oci_error(403, "DENIED"), RegistryUnauthorized),
        (Reply(429), RegistryRateLimited),
        (Reply(500), RegistryAnswerInvalid),
        (Reply(502), RegistryUnreachable),
        (Reply(raw=b""), RegistryUnreachable),
    ],
)
def test_a_deletion_that_is_refused_is_told_why_and_never_repeated(
    server: StandIn, writer: RegistryWriter, reply: Reply, error: type[RegistryAdminError]
) -> None:
    server.rule(says(reply))
    with pytest.raises(error):
        writer.delete_manifest(APP, ONE.digest)
    assert len(server.seen) == 1


def test_both_ways_to_enable_deletion_are_named(server: StandIn, writer: RegistryWriter) -> None:
    server.rule(says(oci_error(405, "UNSUPPORTED")))
    with pytest.raises(DeletionDisabled) as caught:
        writer.delete_manifest(APP, ONE.digest)
    assert "REGISTRY_STORAGE_DELETE_ENABLED=true" in str(caught.value)
    assert "storage: {delete: {enabled: true}}" in str(caught.value)


@pytest.mark.parametrize(
    ("reply", "done"),
    [
        (Reply(202), True),
        (oci_error(404, "MANIFEST_UNKNOWN"), True),
        (oci_error(400, "DIGEST_INVALID"), False),
        (oci_error(400, "UNSUPPORTED"), False),
        (oci_error(405, "UNSUPPORTED"), False),
        (oci_error(400, "TAG_INVALID"), False),
    ],
)
def test_a_tag_is_deleted_alone_or_the_registry_cannot(
    server: StandIn, writer: RegistryWriter, reply: Reply, *, done: bool
) -> None:
    server.rule(says(reply))
    assert writer.delete_tag(APP, V1) is done
    assert server.seen[0].path == f"/v2/{APP}/manifests/1"


@pytest.mark.parametrize(
    ("reply", "error"),
    [
        (PLAIN_405, RegistryReadOnly),
        (Reply(400), RegistryAnswerInvalid),
        (Reply(500), RegistryAnswerInvalid),
        (Reply(429), RegistryRateLimited),
    ],
)
def test_a_tag_that_may_be_gone_or_not_is_no_yes_and_no_no(
    server: StandIn, writer: RegistryWriter, reply: Reply, error: type[RegistryAdminError]
) -> None:
    server.rule(says(reply))
    with pytest.raises(error):
        writer.delete_tag(APP, V1)
    assert len(server.seen) == 1


def test_a_stale_connection_fails_no_write(
    server: StandIn, connect: Connect, change: Change
) -> None:
    registry = connect(server)
    for _ in range(10):
        registry.resolve(APP, V1)
        server.hang_up()
        registry.writer(change).put_manifest(APP, V1, ONE.raw)
    assert len(server.requests("PUT")) == 10
