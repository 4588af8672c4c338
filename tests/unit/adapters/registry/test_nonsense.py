"""Whatever a registry answers: an error of the domain or a result, and never anything else."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from service.adapters.cache import ContentCache
from service.adapters.registry import HttpRegistry, build_registry
from service.adapters.registry.retry import Retrier
from service.domain.audit import Attempt, AuditTrail
from service.domain.content import (
    ACCEPTED,
    OCI_MANIFEST,
    Descriptor,
    RawManifest,
    parse_manifest,
)
from service.domain.errors import Conflict, Unknown, UpstreamFailed
from service.domain.ports import RegistryWriter
from service.domain.reference import Digest, Repository, Tag
from service.settings import RegistrySettings
from tests.fakes_store import FakeStore
from tests.standin import Reply, StandIn, says

APP, V1 = Repository("team/app"), Tag("1")
BLOB = Descriptor(Digest.of(b"{}"), "application/json", 2)
RAW = RawManifest(Digest.of(b"{}"), OCI_MANIFEST, b"{}")
FEW = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)

Call = Callable[[HttpRegistry], object]
READS: dict[str, Call] = {
    "repositories": lambda registry: list(registry.repositories()),
    "tags": lambda registry: registry.tags(APP),
    "resolve": lambda registry: registry.resolve(APP, V1),
    "manifest": lambda registry: registry.manifest(APP, RAW.digest),
    "parsed": lambda registry: parse_manifest(registry.manifest(APP, V1)),
    "config": lambda registry: registry.config(APP, BLOB),
    "readable": lambda registry: registry.blob_readable(APP, BLOB.digest),
    "checked": lambda registry: registry.check_blob(APP, BLOB, deep=True),
    "referrers": lambda registry: registry.referrers(APP, RAW.digest),
    "writability": lambda registry: registry.writability(APP),
}

WRITES: dict[str, Callable[[RegistryWriter], object]] = {
    "put": lambda writer: writer.put_manifest(APP, V1, RAW),
    "delete": lambda writer: writer.delete_manifest(APP, RAW.digest),
    "untag": lambda writer: writer.delete_tag(APP, V1),
}

KEYS = st.sampled_from(
    ["repositories", "tags", "errors", "code", "manifests", "config", "layers", "mediaType",
     "digest", "size", "schemaVersion", "signatures", "fsLayers", "history", "token", "name"]
)  # fmt: skip
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=4),
    max_leaves=12,
)
NAMES = ["Content-Type", "Docker-Content-Digest", "Link", "Location", "Retry-After", "X",
         "WWW-Authenticate", "Content-Range", "Content-Encoding", "Transfer-Encoding"]  # fmt: skip
VALUES = [*ACCEPTED, "text/html", RAW.digest, '</v2/x>; rel="next"', "</v2/a", "/", "http://[",
          "0", "Basic", 'Bearer realm="/"', "bytes 0-0/2", "gzip", "chunked"]  # fmt: skip
values = st.sampled_from(VALUES) | st.text(
    st.characters(min_codepoint=32, max_codepoint=255), max_size=20
)
headers = st.lists(st.tuples(st.sampled_from(NAMES), values), max_size=4)
statuses = st.sampled_from([200, 200, 200, 201, 202, 204, 206, 301, 304, 307, 400, 401, 403, 404,
                            405, 416, 418, 429, 500, 503, 599])  # fmt: skip
bodies = json_values.map(lambda value: json.dumps(value).encode()) | st.binary(max_size=60)
replies = st.builds(
    Reply, status=statuses, headers=headers, body=bodies, hang_up=st.just(value=True)
) | st.binary(max_size=120).map(lambda raw: Reply(raw=raw))


@pytest.fixture(scope="module")
def server() -> Iterator[StandIn]:
    with StandIn() as made:
        yield made


@pytest.fixture
def registry(server: StandIn) -> Iterator[HttpRegistry]:
    with tempfile.TemporaryDirectory() as folder:
        cache = ContentCache(Path(folder), 1024 * 1024)
        told = RegistrySettings("default", server.url, timeout_seconds=2.0)
        made = build_registry(told, cache, Retrier(sleep=lambda _: None))
        yield made
        made.close()
        cache.close()


@pytest.mark.parametrize("name", list(READS))
def test_reading_nonsense_is_an_error_or_nothing(
    server: StandIn, registry: HttpRegistry, name: str
) -> None:
    @FEW
    @given(replies)
    def play(reply: Reply) -> None:
        server.handler = says(reply)
        with suppress(UpstreamFailed, Unknown):
            READS[name](registry)

    play()


def test_the_state_of_nonsense_is_a_state(server: StandIn, registry: HttpRegistry) -> None:
    @FEW
    @given(replies)
    def play(reply: Reply) -> None:
        server.handler = says(reply)
        assert registry.state().status in {"up", "read-only", "unauthorized", "down"}

    play()


def test_writing_to_nonsense_is_an_error_or_done(server: StandIn, registry: HttpRegistry) -> None:
    change = AuditTrail(FakeStore().audit).begin(Attempt("test", "tester"))
    writer = registry.writer(change)

    @FEW
    @given(replies, st.sampled_from(list(WRITES)))
    def play(reply: Reply, which: str) -> None:
        server.handler = says(reply)
        server.forget()
        with suppress(UpstreamFailed, Conflict):
            WRITES[which](writer)
        asked = [one.headers.get("authorization") for one in server.requests("PUT|DELETE")]
        assert len(asked) == 1 or reply.status == 401

    play()
