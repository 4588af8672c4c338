"""An engine is reached by each kind of URL, by its real means: sshd, TLS with certificates."""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest
import trustme

from demo.processes import free_port, wait_until
from service.adapters.engine import DockerEngine
from service.domain.audit import Attempt, AuditTrail
from service.domain.engine import Creation
from service.domain.errors import EngineUnreachable
from service.settings import EngineSettings
from tests.e2e.bed.engine import Engine, start_private
from tests.e2e.bed.programs import need
from tests.e2e.bed.workspace import Child, Workspace
from tests.fakes_store import FakeStore

USER = pwd.getpwuid(os.getuid()).pw_name
TALK = ["sh", "-c", "echo out; exit 3"]
HANG = ["sh", "-c", "echo first; exec sleep 600"]


def use(engine: DockerEngine, bed: Engine) -> None:
    """Do a little of everything."""
    body = {"Image": bed.busybox_image(), "Cmd": ["sleep", "600"], "Labels": bed.labels}
    host_config = {"HostConfig": {"NetworkMode": "none"}, "StopSignal": "SIGKILL"}
    controller = engine.controller(AuditTrail(FakeStore().audit).begin(Attempt("test", "t")))
    made = controller.create(Creation(f"access-{bed.workspace.owner}", {**body, **host_config}))
    try:
        controller.start(made)
        lines: list[bytes] = []
        output = lambda _, line: lines.append(line)  # noqa: E731
        assert controller.execute(made, TALK, output, lambda: False, 30) == 3
        assert controller.execute(made, HANG, output, lambda: b"first" in lines, 30) is None
        assert lines == [b"out", b"first"]
        assert engine.read_file(made, "/etc/hostname", 100) == f"{made[:12]}\n".encode()
        controller.stop(made)
        assert engine.container(made)["State"]["Running"] is False
    finally:
        bed.client.containers.get(made).remove(force=True)


def socket_of(bed: Engine) -> str:
    if not bed.host.startswith("unix://"):
        pytest.fail(f"the given engine is at {bed.host}: these tests need one on a socket")
    return bed.host.removeprefix("unix://")


# TLS.


class Relay:
    """Speaks TLS with clients that have a certificate, and passes on to the engine's socket."""

    def __init__(self, context: ssl.SSLContext, target: str) -> None:
        self._target = target
        self._context = context
        self._stack = ExitStack()
        self._listener = self._stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._stack.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with (
            suppress(OSError),
            self._context.wrap_socket(client, server_side=True) as one,
            socket.socket(socket.AF_UNIX) as other,
        ):
            other.connect(self._target)
            back = threading.Thread(target=pump, args=(other, one), daemon=True)
            back.start()
            pump(one, other)
            back.join()


def pump(source: socket.socket, target: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(65536):
            target.sendall(data)
    for one in (source, target):
        with suppress(OSError):
            one.shutdown(socket.SHUT_RDWR)


@pytest.fixture
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def relay(engine: Engine, authority: trustme.CA) -> Iterator[Relay]:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    authority.configure_trust(context)
    context.verify_mode = ssl.CERT_REQUIRED
    made = Relay(context, socket_of(engine))
    yield made
    made.close()


def certificates(folder: Path, trusted: trustme.CA, issuer: trustme.CA) -> Path:
    """Write what DOCKER_CERT_PATH would hold."""
    folder.mkdir()
    trusted.cert_pem.write_to_path(folder / "ca.pem")
    pair = issuer.issue_cert("client@example.com")
    pair.private_key_pem.write_to_path(folder / "key.pem")
    for pem in pair.cert_chain_pems:
        pem.write_to_path(folder / "cert.pem", append=True)
    return folder


def test_an_engine_behind_tls_is_reached_with_a_client_certificate(
    engine: Engine, relay: Relay, authority: trustme.CA, tmp_path: Path
) -> None:
    folder = certificates(tmp_path / "certs", authority, authority)
    url = f"tcp://127.0.0.1:{relay.port}"
    use(DockerEngine(EngineSettings("far", url, certs_dir=folder)), engine)


def test_the_certificates_of_the_docker_command_are_those_of_docker_host(
    relay: Relay, authority: trustme.CA, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = f"tcp://127.0.0.1:{relay.port}"
    monkeypatch.setenv("DOCKER_HOST", url)
    monkeypatch.setenv("DOCKER_TLS_VERIFY", "1")
    monkeypatch.setenv("DOCKER_CERT_PATH", str(certificates(tmp_path / "c", authority, authority)))
    assert DockerEngine(EngineSettings("far", url)).status() == "up"


def test_an_engine_or_a_client_that_is_not_trusted_is_not_spoken_to(
    relay: Relay, authority: trustme.CA, tmp_path: Path
) -> None:
    stranger = trustme.CA()
    url = f"tcp://127.0.0.1:{relay.port}"
    for name, trusted, issuer in (("a", stranger, authority), ("b", authority, stranger)):
        folder = certificates(tmp_path / name, trusted, issuer)
        engine = DockerEngine(EngineSettings("far", url, certs_dir=folder))
        assert engine.status() == "down"
        with pytest.raises(EngineUnreachable, match=f"'far' at {url} does not answer"):
            engine.containers()


def test_certificates_that_are_not_there_are_named(relay: Relay, tmp_path: Path) -> None:
    url = f"tcp://127.0.0.1:{relay.port}"
    engine = DockerEngine(EngineSettings("far", url, certs_dir=tmp_path))
    with pytest.raises(EngineUnreachable, match="key"):
        engine.containers()


# SSH.


@pytest.fixture
def ssh_url(
    workspace: Workspace, engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[str]:
    """A real sshd for this user, whose docker command speaks to the bed's engine."""
    home = tmp_path / "home"
    (home / ".ssh").mkdir(parents=True, mode=0o700)
    port = free_port()
    for name in ("host", "client"):
        make = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(tmp_path / name)]
        subprocess.run(make, check=True)
    host_key = (tmp_path / "host.pub").read_text()
    (home / ".ssh/known_hosts").write_text(f"[127.0.0.1]:{port} {host_key}")
    (home / ".ssh/config").write_text(f"Host *\n  IdentityFile {tmp_path / 'client'}\n")
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    docker = Path(str(shutil.which("docker"))).parent
    (tmp_path / "sshd_config").write_text(
        f"ListenAddress 127.0.0.1:{port}\nHostKey {tmp_path}/host\nPidFile none\nUsePAM no\n"
        f"AuthorizedKeysFile {tmp_path}/client.pub\nStrictModes no\nPermitRootLogin yes\n"
        f"SetEnv DOCKER_HOST={engine.host} PATH={docker}:/usr/bin:/bin\n"
    )
    if os.getuid() == 0:
        Path("/run/sshd").mkdir(exist_ok=True)  # where it locks a child of it in
    argv = [str(need("sshd", "openssh-server")), "-D", "-e", "-f", str(tmp_path / "sshd_config")]
    child = Child(workspace, argv, tmp_path / "sshd.log")
    wait_until(lambda: "listening" in child.tail(), 10, "sshd listens")
    yield f"ssh://{USER}@127.0.0.1:{port}"
    child.stop()


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # within paramiko
def test_an_engine_is_reached_by_ssh(engine: Engine, ssh_url: str) -> None:
    use(DockerEngine(EngineSettings("far", ssh_url)), engine)


def test_a_host_that_is_not_known_is_not_spoken_to(ssh_url: str, tmp_path: Path) -> None:
    (tmp_path / "home/.ssh/known_hosts").unlink()
    with pytest.raises(EngineUnreachable, match="not found in known_hosts"):
        DockerEngine(EngineSettings("far", ssh_url)).containers()


# The engine's end.


def test_an_engine_that_was_killed_is_told_and_then_found_again(workspace: Workspace) -> None:
    bed = start_private(workspace)
    try:
        engine = DockerEngine(EngineSettings("local", bed.host))
        assert engine.status() == "up"
        assert bed.daemon is not None
        bed.daemon.kill()
        with pytest.raises(EngineUnreachable, match="Is Docker running"):
            engine.containers()
        bed.restart()
        use(engine, bed)
    finally:
        bed.close()


def test_an_engine_that_dies_under_a_command_is_told(workspace: Workspace) -> None:
    bed = start_private(workspace)
    try:
        engine = DockerEngine(EngineSettings("local", bed.host))
        sleeper = bed.client.containers.run(
            bed.busybox_image(), ["sleep", "600"], detach=True, network_mode="none"
        )
        controller = engine.controller(AuditTrail(FakeStore().audit).begin(Attempt("test", "t")))

        def end(_stream: str, _line: bytes) -> None:
            assert bed.daemon is not None
            bed.daemon.kill()

        with pytest.raises(EngineUnreachable):
            controller.execute(str(sleeper.id), HANG, end, lambda: False, 60)
        bed.restart()
    finally:
        bed.close()
