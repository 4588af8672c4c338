"""The registry suite over the adapter against real registries, and what only those can show."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from demo.images import Manifest
from service.adapters.cache import ContentCache
from service.adapters.registry import build_registry
from service.domain.audit import Attempt, AuditTrail, Change
from service.domain.content import DOCKER_LIST, DOCKER_MANIFEST, parse_manifest
from service.domain.errors import (
    ManifestUnknown,
    RegistryTlsUntrusted,
    RegistryUnauthorized,
    RepositoryUnknown,
)
from service.domain.ports import Registry
from service.domain.reference import Digest, Repository
from service.settings import RegistrySettings
from tests.contract.registry_suite import (
    APP,
    NOWHERE,
    ONE,
    V1,
    Arrange,
    Arranged,
    RegistrySuite,
    fill,
    resolved,
)
from tests.e2e.bed.registry import MakeRegistry, RunningRegistry
from tests.fakes import Built, index
from tests.fakes_store import FakeStore

MEBIBYTE = 1024 * 1024
REPOSITORIES = "docker/registry/v2/repositories"


@dataclass
class Real:
    """A registry in a container, with its storage in reach."""

    running: RunningRegistry
    registry: Registry
    deletes_tags: bool

    def push(self, repository: str, built: Built, *tags: str) -> Digest:
        with self.running.pusher() as pusher:
            raw = built.raw
            pusher.push(repository, Manifest(raw.media_type, raw.body, built.blobs), *tags)
        return built.digest

    def dangle(self, repository: str, tag: str) -> None:
        folder = self.running.storage() / REPOSITORIES / repository / "_manifests"
        digest = Digest((folder / "tags" / tag / "current/link").read_text())
        shutil.rmtree(folder / "revisions/sha256" / digest.hex)

    def lose_blob(self, repository: str, blob: bytes) -> None:
        assert (self.running.storage() / REPOSITORIES / repository).is_dir()
        self.running.blob_path(Digest.of(blob)).unlink()

    def spoil_blob(self, repository: str, blob: bytes) -> None:
        assert (self.running.storage() / REPOSITORIES / repository).is_dir()
        self.running.blob_path(Digest.of(blob)).write_bytes(bytes(len(blob)))


def major(running: RunningRegistry) -> int:
    told = running.container.exec_run(["registry", "--version"]).output
    assert isinstance(told, bytes)
    return int(told.decode().split()[-1].removeprefix("v").split(".")[0])


Connect = Callable[..., Registry]


@pytest.fixture
def connect(tmp_path: Path) -> Iterator[Connect]:
    """Make adapters for running registries, with settings besides the URL."""
    with ExitStack() as stack:

        def make(running: RunningRegistry, **settings: object) -> Registry:
            cache = ContentCache(tmp_path / "cache" / running.name, 64 * MEBIBYTE)
            stack.callback(cache.close)
            chosen = {"certs_dir": tmp_path / "certs.d"} | settings
            made = build_registry(RegistrySettings("default", running.url, **chosen), cache)  # type: ignore[arg-type]
            stack.callback(made.close)
            return made

        yield make


@pytest.fixture
def change() -> Iterator[Change]:
    with AuditTrail(FakeStore().audit).attempt(Attempt("test", "tester")) as opened:
        yield opened


class TestRealRegistry(RegistrySuite):
    @pytest.fixture
    def arrange(self, registry: MakeRegistry, connect: Connect) -> Arrange:
        def make(
            *,
            delete: bool = True,
            read_only: bool = False,
            filled: Callable[[Arranged], None] | None = None,
        ) -> Arranged:
            seed = None
            if filled:
                seed = registry(delete=delete)
                filled(Real(seed, connect(seed), deletes_tags=False))
            running = registry(seed=seed, delete=delete, read_only=read_only)
            return Real(running, connect(running), deletes_tags=major(running) >= 3)

        return make

    def test_no_registry_here_has_the_referrers_api(self, arrange: Arrange) -> None:
        arranged = arrange()
        fill(arranged)
        assert arranged.registry.referrers(APP, ONE.digest) is None
        assert arranged.registry.referrers(APP, NOWHERE) is None

    def test_catalogs_of_several_pages_are_complete(self, arrange: Arrange) -> None:
        arranged = arrange()
        names = [f"many/{number:04}" for number in range(1003)]
        arranged.push(names[0], ONE, "1")
        assert isinstance(arranged, Real)
        folder = arranged.running.storage() / REPOSITORIES / "many"
        for name in names[1:]:
            shutil.copytree(folder / "0000", folder / name.removeprefix("many/"))
        assert sorted(arranged.registry.repositories()) == names
        assert arranged.registry.tags(Repository(names[-1])) == ["1"]


def test_a_password_is_sent_where_the_registry_asks(
    registry: MakeRegistry, connect: Connect, tmp_path: Path
) -> None:
    running = registry(htpasswd=("keeper", "se:cret"))
    kept = tmp_path / "password"
    kept.write_text("se:cret\n")
    client = connect(running, username="keeper", password_file=kept)
    assert list(client.repositories()) == []
    state = client.state()
    assert state.status == "up"
    assert (state.auth.scheme, state.auth.username) == ("basic", "keeper")
    assert state.auth.source == f"file {kept}"


def test_a_wrong_or_missing_password_is_told_apart_from_a_registry_that_is_down(
    registry: MakeRegistry, connect: Connect
) -> None:
    running = registry(htpasswd=("keeper", "secret"))
    anonymous: dict[str, str] = {}
    for settings in (anonymous, {"username": "keeper", "password": "wrong"}):
        client = connect(running, **settings)
        assert client.state().status == "unauthorized"
        with pytest.raises(RegistryUnauthorized) as caught:
            list(client.repositories())
        assert "wrong" not in str(caught.value)


def test_a_registry_s_own_ca_is_trusted_once_its_file_is_there(
    registry: MakeRegistry, connect: Connect, tmp_path: Path
) -> None:
    running = registry(tls=True)
    client = connect(running)
    with pytest.raises(RegistryTlsUntrusted) as caught:
        client.tags(APP)
    wanted = tmp_path / "certs.d" / running.host / "ca.crt"
    assert str(wanted) in str(caught.value)
    state = client.state()
    assert state.status == "untrusted"
    assert state.tls is not None
    assert not state.tls.verified
    assert state.tls.not_after is not None
    wanted.parent.mkdir(parents=True)
    assert running.ca_file is not None
    shutil.copy(running.ca_file, wanted)
    assert list(client.repositories()) == []
    trusted = client.state()
    assert trusted.tls is not None
    assert trusted.tls.verified
    assert trusted.tls.issuer == state.tls.issuer
    assert trusted.tls.ca_files == (str(wanted),)


def test_a_client_certificate_is_presented_once_its_files_are_there(
    registry: MakeRegistry, connect: Connect, tmp_path: Path
) -> None:
    running = registry(tls="client")
    client = connect(running, ca_file=running.ca_file)
    with pytest.raises(RegistryUnauthorized, match="client certificate"):
        list(client.repositories())
    folder = tmp_path / "certs.d" / running.host
    folder.mkdir(parents=True)
    assert running.client_pair is not None
    shutil.copy(running.client_pair.key, folder / "client.key")
    shutil.copy(running.client_pair.certificate, folder / "client.cert")
    assert list(client.repositories()) == []
    tls = client.state().tls
    assert tls is not None
    assert tls.client_cert == str(folder / "client.cert")


def test_without_all_accept_types_another_manifest_is_answered(
    registry: MakeRegistry, connect: Connect
) -> None:
    running = registry()
    real = Real(running, connect(running), deletes_tags=False)
    real.push(APP, ONE)
    whole = index(ONE, media_type=DOCKER_LIST)
    real.push(APP, whole, "1")
    narrow = running.ask(f"/v2/{APP}/manifests/1", headers={"Accept": DOCKER_MANIFEST})
    assert narrow.headers.get("docker-content-digest") != whole.digest
    assert real.registry.resolve(APP, V1) == whole.digest
    assert resolved(real.registry) == {"1": whole.digest}


def test_deleting_a_config_as_if_it_were_a_manifest_does_nothing(
    registry: MakeRegistry, connect: Connect, change: Change
) -> None:
    running = registry()
    real = Real(running, connect(running), deletes_tags=False)
    fill(real)
    descriptor = parse_manifest(ONE.raw).config
    assert descriptor is not None
    real.registry.writer(change).delete_manifest(APP, descriptor.digest)
    assert set(resolved(real.registry)) == {"1", "latest"}
    assert real.registry.blob_readable(APP, descriptor.digest)


def test_names_too_long_for_the_registry_are_unknown_to_it(
    registry: MakeRegistry, connect: Connect
) -> None:
    client = connect(registry())
    for name in (Repository("a" * 255), Repository("/".join(["b" * 50] * 5))):
        with pytest.raises((RepositoryUnknown, ManifestUnknown)):
            client.manifest(name, V1)
        with pytest.raises(RepositoryUnknown):
            client.tags(name)


def test_requests_share_few_connections_and_survive_a_restart(
    registry: MakeRegistry, connect: Connect, change: Change
) -> None:
    running = registry()
    real = Real(running, connect(running), deletes_tags=False)
    fill(real)
    for _ in range(3):
        assert real.registry.resolve(APP, V1) == ONE.digest
        running.restart()
        real.registry.writer(change).put_manifest(APP, V1, ONE.raw)
        running.restart()
        assert real.registry.manifest(APP, V1) == ONE.raw
