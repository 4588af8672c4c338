from __future__ import annotations

import ssl
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import trustme

from service.adapters.registry import HttpRegistry
from service.adapters.registry.origin import Origin
from service.adapters.registry.tls import Trust
from service.domain.errors import (
    RegistryAnswerInvalid,
    RegistryTlsUntrusted,
    RegistryUnauthorized,
    RegistryUnreachable,
)
from tests.fakes import FakeRegistry, image
from tests.standin import StandIn, replies
from tests.standin_registry import PlayedRegistry, TokenServer
from tests.unit.adapters.registry.support import Connect, Play, Serve


@dataclass
class Authority:
    """A CA, and servers it vouches for."""

    ca: trustme.CA
    serve: Serve
    fake: FakeRegistry

    def server(
        self, *names: str, clients: bool = False, not_after: datetime | None = None
    ) -> StandIn:
        leaf = self.ca.issue_cert(*(names or ("127.0.0.1",)), not_after=not_after)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        leaf.configure_cert(context)
        if clients:
            context.verify_mode = ssl.CERT_REQUIRED
            self.ca.configure_trust(context)
        return self.serve(PlayedRegistry(self.fake), context)

    def write(self, path: Path) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.ca.cert_pem.write_to_path(str(path))
        return path

    def write_pair(self, folder: Path, name: str) -> Path:
        leaf = self.ca.issue_cert("client@example.test")
        folder.mkdir(parents=True, exist_ok=True)
        leaf.private_key_pem.write_to_path(str(folder / f"{name}.key"))
        leaf.cert_chain_pems[0].write_to_path(str(folder / f"{name}.cert"))
        return folder / f"{name}.cert"


@pytest.fixture
def authority(serve: Serve, fake: FakeRegistry) -> Authority:
    fake.push("app", image("one"), "1")
    return Authority(trustme.CA(organization_name="Test House"), serve, fake)


def names(registry: HttpRegistry) -> list[str]:
    return list(registry.repositories())


def test_an_unknown_ca_is_untrusted_and_the_file_to_add_is_named(
    authority: Authority, connect: Connect, tmp_path: Path
) -> None:
    server = authority.server()
    with pytest.raises(RegistryTlsUntrusted) as caught:
        names(connect(server))
    assert str(tmp_path / "certs.d" / server.host / "ca.crt") in str(caught.value)
    assert "ca_file" in str(caught.value)
    assert len(server.seen) == 0


@pytest.mark.parametrize("file", ["ca.crt", "house-root.crt"])
def test_every_crt_of_the_registry_s_folder_is_trusted(
    authority: Authority, connect: Connect, tmp_path: Path, file: str
) -> None:
    server = authority.server()
    path = authority.write(tmp_path / "certs.d" / server.host / file)
    registry = connect(server)
    assert names(registry) == ["app"]
    tls = registry.state().tls
    assert tls is not None
    assert tls.verified
    assert tls.ca_files == (str(path),)
    assert "Test House" in str(tls.issuer)


def test_the_ca_file_of_the_settings_is_trusted(
    authority: Authority, connect: Connect, tmp_path: Path
) -> None:
    ca_file = authority.write(tmp_path / "elsewhere" / "root.pem")
    assert names(connect(authority.server(), ca_file=ca_file)) == ["app"]


def test_a_file_put_down_later_is_in_force_at_once_and_one_removed_no_more(
    authority: Authority, connect: Connect, tmp_path: Path
) -> None:
    server = authority.server()
    registry = connect(server)
    with pytest.raises(RegistryTlsUntrusted):
        names(registry)
    path = authority.write(tmp_path / "certs.d" / server.host / "ca.crt")
    assert names(registry) == ["app"]
    path.unlink()
    with pytest.raises(RegistryTlsUntrusted):
        names(registry)


def test_a_folder_without_port_counts_where_the_port_is_the_default(tmp_path: Path) -> None:
    root = trustme.CA()
    for folder in ("r.example", "r.example:443", "r.example:5000"):
        (tmp_path / folder).mkdir()
        root.cert_pem.write_to_path(str(tmp_path / folder / "ca.crt"))

    def trusted(url: str) -> list[str]:
        files = Trust(Origin.of(url), tmp_path, None).ca_files()
        return [path.parent.name for path in files]

    assert trusted("https://r.example") == ["r.example:443", "r.example"]
    assert trusted("https://r.example:5000") == ["r.example:5000"]


def test_a_wrong_host_name_is_untrusted(
    authority: Authority, connect: Connect, tmp_path: Path
) -> None:
    server = authority.server("other.example")
    authority.write(tmp_path / "certs.d" / server.host / "ca.crt")
    with pytest.raises(RegistryTlsUntrusted, match=r"127\.0\.0\.1") as caught:
        names(connect(server))
    assert "ca.crt" not in str(caught.value)


def test_an_expired_certificate_is_untrusted_and_shown_all_the_same(
    authority: Authority, connect: Connect, tmp_path: Path
) -> None:
    yesterday = datetime.now(UTC).replace(microsecond=0) - timedelta(days=1)
    server = authority.server(not_after=yesterday)
    authority.write(tmp_path / "certs.d" / server.host / "ca.crt")
    registry = connect(server)
    with pytest.raises(RegistryTlsUntrusted, match="Renew"):
        names(registry)
    state = registry.state()
    assert state.status == "untrusted"
    assert state.tls is not None
    assert state.tls.verified is False
    assert state.tls.not_after == yesterday
    assert "Test House" in str(state.tls.issuer)


def test_a_client_pair_is_presented(authority: Authority, connect: Connect, tmp_path: Path) -> None:
    server = authority.server(clients=True)
    folder = tmp_path / "certs.d" / server.host
    authority.write(folder / "ca.crt")
    registry = connect(server)
    with pytest.raises(RegistryUnauthorized, match=r"NAME\.cert"):
        names(registry)
    pair = authority.write_pair(folder, "house")
    assert names(registry) == ["app"]
    tls = registry.state().tls
    assert tls is not None
    assert tls.client_cert == str(pair)


def test_a_certificate_without_its_key_is_not_presented(
    authority: Authority, connect: Connect, tmp_path: Path
) -> None:
    server = authority.server()
    folder = tmp_path / "certs.d" / server.host
    authority.write(folder / "ca.crt")
    authority.write_pair(folder, "house").with_suffix(".key").unlink()
    registry = connect(server)
    assert names(registry) == ["app"]
    tls = registry.state().tls
    assert tls is not None
    assert tls.client_cert is None


@pytest.mark.parametrize("file", ["ca.crt", "house.cert"])
def test_a_file_that_is_no_certificate_is_named(
    authority: Authority, connect: Connect, tmp_path: Path, file: str
) -> None:
    server = authority.server()
    path = tmp_path / "certs.d" / server.host / file
    authority.write(path.with_name("good.crt"))
    path.write_text("no certificate")
    path.with_suffix(".key").write_text("no key")
    with pytest.raises(RegistryTlsUntrusted, match="cannot be used") as caught:
        names(connect(server))
    assert str(path) in str(caught.value)
    assert connect(server).state().status == "untrusted"


def test_plain_http_on_a_tls_port_is_no_registry(authority: Authority, connect: Connect) -> None:
    server = authority.server()
    with pytest.raises(RegistryUnreachable):
        names(connect(server.url.replace("https", "http")))


def test_tls_on_a_plain_port_is_unreachable_and_never_falls_back(
    serve: Serve, connect: Connect
) -> None:
    server = serve(replies(200))
    registry = connect(server.url.replace("http", "https"))
    with pytest.raises(RegistryUnreachable):
        names(registry)
    state = registry.state()
    assert state.status == "down"
    assert state.tls is not None
    assert state.tls.verified is None
    assert server.seen == []


def test_there_is_no_tls_to_tell_of_on_plain_http(play: Play, connect: Connect) -> None:
    assert connect(play()).state().tls is None


def test_the_token_server_is_trusted_by_the_registry_s_roots(
    authority: Authority, connect: Connect, tmp_path: Path
) -> None:
    tokens = TokenServer()
    guarded = authority.server()
    guarded.handler = tokens.guard(guarded.handler)
    token_server = authority.server()
    token_server.handler = tokens
    tokens.realm = f"{token_server.url}/token"
    authority.write(tmp_path / "certs.d" / guarded.host / "ca.crt")
    assert names(connect(guarded)) == ["app"]


def test_no_credentials_go_to_a_token_server_without_tls(
    authority: Authority, connect: Connect, tmp_path: Path, serve: Serve
) -> None:
    tokens = TokenServer(users={"keeper": "secret"})
    guarded = authority.server()
    guarded.handler = tokens.guard(guarded.handler)
    plain_server = serve(tokens)
    tokens.realm = f"{plain_server.url}/token"
    authority.write(tmp_path / "certs.d" / guarded.host / "ca.crt")
    with pytest.raises(RegistryAnswerInvalid, match="without TLS"):
        names(connect(guarded, username="keeper", password="secret"))
    assert plain_server.seen == []
