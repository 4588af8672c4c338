"""The registry suite over the fake, and over the adapter against played registries."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from service.adapters.cache import ContentCache
from service.adapters.registry import build_registry
from service.adapters.registry.retry import Retrier
from service.domain.audit import Change
from service.domain.content import parse_manifest
from service.domain.ports import Registry
from service.domain.reference import Digest, Repository
from service.settings import RegistrySettings
from tests.contract.registry_suite import APP, ONE, Arrange, Arranged, RegistrySuite
from tests.fakes import V2, V3, Behaviour, Built, FakeRegistry, image
from tests.standin import StandIn
from tests.standin_registry import V2_MANNERS, V3_MANNERS, Manners, PlayedRegistry

MEBIBYTE = 1024 * 1024
Shape = tuple[Behaviour, Manners]
SHAPES: dict[str, Shape] = {
    "2.8": (V2, V2_MANNERS),
    "3.x": (V3, V3_MANNERS),
    "3.x-with-referrers": (replace(V3, referrers_api=True), Manners(emptied="[]")),
    "absolute-links": (V2, Manners(absolute_links=True, catalog_most=3)),
}


@dataclass
class InMemory:
    """A registry that a FakeRegistry is, or stands behind."""

    fake: FakeRegistry
    registry: Registry

    @property
    def deletes_tags(self) -> bool:
        return self.fake.behaviour.delete_by_tag

    def push(self, repository: str, built: Built, *tags: str) -> Digest:
        return self.fake.push(repository, built, *tags)

    def dangle(self, repository: str, tag: str) -> None:
        self.fake.dangle(repository, tag)

    def lose_blob(self, repository: str, blob: bytes) -> None:
        contents = self.fake.contents[Repository(repository)]
        del contents.blobs[Digest.of(blob)]
        contents.vouched.add(Digest.of(blob))

    def spoil_blob(self, repository: str, blob: bytes) -> None:
        contents = self.fake.contents[Repository(repository)]
        contents.blobs[Digest.of(blob)] = bytes(len(blob))


def behaviour(shape: Shape, *, delete: bool, read_only: bool) -> Behaviour:
    return replace(shape[0], delete_enabled=delete, read_only=read_only)


class TestFakeRegistry(RegistrySuite):
    @pytest.fixture(params=["2.8", "3.x"])
    def arrange(self, request: pytest.FixtureRequest) -> Arrange:
        def make(
            *,
            delete: bool = True,
            read_only: bool = False,
            filled: Callable[[Arranged], None] = lambda _: None,
        ) -> Arranged:
            shape = SHAPES[request.param]
            fake = FakeRegistry(behaviour=behaviour(shape, delete=delete, read_only=read_only))
            made = InMemory(fake, fake)
            filled(made)
            return made

        return make


class TestHttpRegistry(RegistrySuite):
    @pytest.fixture(params=list(SHAPES))
    def arrange(self, request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Arrange]:
        with ExitStack() as stack:

            def make(
                *,
                delete: bool = True,
                read_only: bool = False,
                filled: Callable[[Arranged], None] = lambda _: None,
            ) -> Arranged:
                shape = SHAPES[request.param]
                fake = FakeRegistry(behaviour=behaviour(shape, delete=delete, read_only=read_only))
                server = stack.enter_context(StandIn(PlayedRegistry(fake, shape[1])))
                cache = ContentCache(tmp_path / server.host, 64 * MEBIBYTE)
                stack.callback(cache.close)
                settings = RegistrySettings("default", server.url, timeout_seconds=5.0)
                registry = build_registry(settings, cache, Retrier(sleep=lambda _: None))
                stack.callback(registry.close)
                made = InMemory(fake, registry)
                filled(made)
                return made

            yield make

    def test_referrers_are_those_the_api_lists_or_nothing_is_known(self, arrange: Arrange) -> None:
        arranged = arrange()
        assert isinstance(arranged, InMemory)
        arranged.push(APP, ONE, "1")
        signature = image("signature", subject=ONE, artifact_type="application/vnd.example.sig")
        arranged.push(APP, signature)
        found = arranged.registry.referrers(APP, ONE.digest)
        if not arranged.fake.behaviour.referrers_api:
            assert found is None
            return
        assert found is not None
        (one,) = found
        assert one.digest == signature.digest
        assert one.artifact_type == "application/vnd.example.sig"
        assert one.size == parse_manifest(signature.raw).size

    def test_the_url_and_name_are_those_of_the_settings(
        self, arrange: Arrange, change: Change
    ) -> None:
        registry = arrange().registry
        assert registry.name == "default"
        assert registry.url.startswith("http://127.0.0.1:")
        change.require_open()
