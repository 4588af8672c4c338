"""The processes of the service: each may die in any way, and the service goes on or ends whole."""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from demo.processes import registry_admin, wait_until
from service.adapters.store import SqlStore
from service.domain.audit import Attempt, AuditTrail
from service.domain.deletion_record import Deletion, RemovedTag, Requested
from service.domain.identity import new_id
from service.domain.reference import Repository, Tag
from tests.e2e.bed.http import Answer
from tests.e2e.bed.postgres import Postgres
from tests.e2e.bed.service import Service
from tests.e2e.bed.workspace import Child, Workspace, family, is_alive
from tests.fakes_store import WallClock

MAKER = Callable[..., Service]
PATIENCE = 60  # seconds, for what must happen sooner or later
MEBIBYTE = 1024 * 1024
WORKERS = 2


class Spoilt(Service):
    """A service whose environment a test spoils."""

    extra: Mapping[str, str]

    def environment(self) -> dict[str, str]:
        return super().environment() | dict(getattr(self, "extra", {}))


@pytest.fixture
def make(workspace: Workspace) -> Iterator[MAKER]:
    """Make a service that needs no engine; started unless told otherwise."""
    made: list[Service] = []

    def build(*arguments: str, start: bool = True, **settings: Any) -> Service:  # noqa: ANN401
        service = Spoilt(workspace, {"workers": WORKERS, **settings})
        made.append(service)
        if start:
            service.start(*arguments)
        return service

    yield build
    for service in made:
        service.close()


class Registry(ThreadingHTTPServer):
    """An empty registry, which lists its repositories only when it is let.

    So a request is under way for as long as a test needs.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server_address[1]}"
        self.asked = threading.Event()
        self.let = threading.Event()


class Handler(BaseHTTPRequestHandler):
    server: Registry

    def do_GET(self) -> None:
        if self.path.endswith("/v2/"):
            self.answer(200, {})
        elif "_catalog" in self.path:
            self.server.asked.set()
            self.server.let.wait()
            self.answer(200, {"repositories": []})
        elif "/tags/list" in self.path:
            self.answer(200, {"name": "team/app", "tags": None})
        else:
            self.answer(404, {"errors": [{"code": "MANIFEST_UNKNOWN", "message": ""}]})

    def answer(self, status: int, document: object) -> None:
        body = json.dumps(document).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_DELETE = do_GET  # noqa: N815 - the name is the base class's

    def log_message(self, *_arguments: object) -> None:
        pass


@pytest.fixture
def slow_registry() -> Iterator[Registry]:
    with Registry() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.let.set()
        server.shutdown()
        thread.join()


def tree(service: Service) -> list[str]:
    assert service.child is not None
    return family(service.child.pid)


def pid_of(name: str) -> int:
    return int(name.partition("-")[0])


def children(service: Service, command: str) -> list[int]:
    """The processes of a command, parents first."""
    found = []
    for name in tree(service)[1:]:
        line = Path(f"/proc/{pid_of(name)}/cmdline").read_bytes().split(b"\0")
        if command.encode() in line:
            found.append(pid_of(name))
    return found


def complete(service: Service) -> bool:
    """Tell whether the whole tree is there: master, API workers, worker."""
    return len(children(service, "serve-api")) == WORKERS + 1 and bool(children(service, "worker"))


def memory(service: Service) -> int:
    """Resident bytes of all processes, each page that several share counted once."""
    total = 0
    for name in tree(service):
        rollup = Path(f"/proc/{pid_of(name)}/smaps_rollup").read_text()
        match = re.search(r"^Pss:\s+(\d+) kB", rollup, re.MULTILINE)
        total += int(match[1]) * 1024 if match else 0
    return total


def worker_status(service: Service) -> str:
    answer = service.ask("/readyz", token=None).json()
    return str(answer["worker"])


def alive(service: Service) -> bool:
    return service.ask("/healthz", token=None).status == 200


def answers(service: Service) -> bool:
    with suppress(OSError):
        return alive(service)
    return False


def test_a_service_is_whole_small_and_leaves_nothing_behind(make: MAKER) -> None:
    service = make()
    wait_until(lambda: complete(service), PATIENCE, "the tree is complete")
    wait_until(lambda: worker_status(service) == "up", PATIENCE, "the worker is up")
    assert memory(service) < 250 * MEBIBYTE
    processes = tree(service)
    assert len(processes) == WORKERS + 3
    assert service.stop() == 0
    assert not any(map(is_alive, processes))
    assert "Traceback" not in service.log.read_text()


class Systemd:
    """Listens as systemd does: what it is told, and by whom."""

    def __init__(self, folder: Path) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        self._socket.settimeout(PATIENCE)
        self._socket.bind(str(folder / "notify"))
        self.variables = {"NOTIFY_SOCKET": str(folder / "notify")}

    def told(self) -> tuple[str, int]:
        """What it is told next, and by which process."""
        message, credentials, *_ = self._socket.recvmsg(4096, 64)
        return message.decode(), int.from_bytes(credentials[0][2][:4], sys.byteorder)

    def close(self) -> None:
        self._socket.close()


@pytest.fixture
def systemd(workspace: Workspace) -> Iterator[Systemd]:
    made = Systemd(workspace.folder("systemd"))
    yield made
    made.close()


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
def test_it_ends_cleanly_by_signal(make: MAKER, systemd: Systemd, how: signal.Signals) -> None:
    service = make(start=False)
    service.extra = systemd.variables  # type: ignore[attr-defined]
    service.start()
    processes = tree(service)
    assert service.child is not None
    service.child.process.send_signal(how)
    assert service.child.process.wait(PATIENCE) == 0
    assert not any(map(is_alive, processes))
    # Nothing but these, and by nobody else: gunicorn would tell by itself that it is ready.
    supervisor = pid_of(processes[0])
    assert [systemd.told(), systemd.told()] == [
        ("READY=1", supervisor), ("STOPPING=1", supervisor),
    ]  # fmt: skip


def test_a_request_under_way_is_answered_before_the_end(
    make: MAKER, slow_registry: Registry
) -> None:
    service = make(registries={"default": {"url": slow_registry.url}})
    token = service.admin()
    answers: list[Answer] = []

    def ask() -> None:
        answers.append(service.ask("/v1/registries/default/repositories", token=token))

    thread = threading.Thread(target=ask)
    thread.start()
    assert slow_registry.asked.wait(PATIENCE)
    assert service.child is not None
    service.child.process.send_signal(signal.SIGTERM)
    wait_until(lambda: not children(service, "worker"), PATIENCE, "it is ending")
    slow_registry.let.set()
    thread.join()
    assert [answer.status for answer in answers] == [200]
    assert service.child.process.wait(PATIENCE) == 0


def test_a_second_signal_ends_it_at_once(make: MAKER, slow_registry: Registry) -> None:
    service = make(registries={"default": {"url": slow_registry.url}})
    token = service.admin()
    cut: list[Exception] = []

    def ask() -> None:
        try:
            service.ask("/v1/registries/default/repositories", token=token)
        except (OSError, http.client.HTTPException) as error:
            cut.append(error)

    thread = threading.Thread(target=ask)
    thread.start()
    assert slow_registry.asked.wait(PATIENCE)
    processes = tree(service)
    assert service.child is not None
    service.child.process.send_signal(signal.SIGINT)
    wait_until(lambda: not children(service, "worker"), PATIENCE, "it is ending")
    service.child.process.send_signal(signal.SIGINT)
    assert service.child.process.wait(PATIENCE) == 0
    assert not any(map(is_alive, processes))
    thread.join()
    assert len(cut) == 1


@pytest.mark.parametrize("position", [0, 1], ids=["master", "one of its workers"])
def test_a_killed_api_process_is_replaced_and_no_connection_refused(
    make: MAKER, position: int
) -> None:
    service = make()
    wait_until(lambda: complete(service), PATIENCE, "the tree is complete")
    victim = children(service, "serve-api")[position]
    os.kill(victim, signal.SIGKILL)
    for _ in range(50):  # none of these raises: the socket outlives whoever serves it
        with socket.create_connection(("127.0.0.1", int(service.host.partition(":")[2]))):
            pass
    wait_until(
        lambda: victim not in children(service, "serve-api") and complete(service),
        PATIENCE, "the tree is complete again, without the one that was killed",
    )  # fmt: skip
    assert alive(service)


def test_a_killed_worker_is_replaced(make: MAKER) -> None:
    service = make()
    wait_until(lambda: complete(service), PATIENCE, "the tree is complete")
    (victim,) = children(service, "worker")
    os.kill(victim, signal.SIGKILL)
    wait_until(lambda: victim not in children(service, "worker"), PATIENCE, "it is gone")
    wait_until(lambda: complete(service), PATIENCE, "the tree is complete again")
    assert alive(service)


def test_nothing_outlives_a_killed_supervisor(make: MAKER) -> None:
    service = make()
    wait_until(lambda: complete(service), PATIENCE, "the tree is complete")
    processes = tree(service)
    assert service.child is not None
    os.kill(service.child.pid, signal.SIGKILL)
    service.child.process.wait(PATIENCE)
    wait_until(lambda: not any(map(is_alive, processes)), PATIENCE, "all are gone")
    service.start()  # and nothing holds the port or the data
    assert alive(service)


def test_dead_children_do_not_stay_as_zombies(make: MAKER) -> None:
    service = make()
    for _ in range(2):
        wait_until(lambda: complete(service), PATIENCE, "the tree is complete")
        victims = [children(service, "worker")[0], children(service, "serve-api")[0]]
        for victim in victims:
            os.kill(victim, signal.SIGKILL)
        wait_until(
            lambda gone=victims: not any(Path(f"/proc/{pid}").exists() for pid in gone),  # type: ignore[misc]
            PATIENCE,
            "they are gone, and not just dead",
        )


def test_a_taken_port_is_told_in_one_line(make: MAKER, workspace: Workspace) -> None:
    service = make()
    folder = workspace.folder("second")
    command = registry_admin("serve", "--config", str(service.config))
    second = Child(workspace, command, folder / "log", service.environment())
    assert second.process.wait(PATIENCE) == 1
    said = (folder / "log").read_text()
    assert said.count("\n") == 1
    assert f"cannot listen on {service.host}" in said
    assert alive(service)


def test_a_database_that_is_not_there_is_told_in_one_line(make: MAKER) -> None:
    service = make(start=False, database_url="postgresql://ann:hunter2@127.0.0.1:1/admin")
    with pytest.raises(RuntimeError) as caught:
        service.start()
    said = str(caught.value)
    assert "database does not answer" in said
    assert "hunter2" not in said
    assert "Traceback" not in said
    assert service.child is not None
    assert service.child.process.returncode == 1


def test_an_api_that_cannot_be_loaded_ends_the_service(make: MAKER) -> None:
    service = make(start=False)
    broken = service.folder / "broken"
    broken.mkdir()
    (broken / "flask_smorest.py").write_text("raise ImportError('broken on purpose')")
    service.extra = {"PYTHONPATH": str(broken)}  # type: ignore[attr-defined]
    with pytest.raises(RuntimeError):
        service.start()
    assert service.child is not None
    assert service.child.process.returncode == 1
    assert "broken on purpose" in service.log.read_text()


def interrupted(service: Service) -> SqlStore:
    """Leave a deletion behind as a killed process would, in the store that is given back."""
    store = SqlStore(
        f"sqlite:///{service.data_dir}/registry-admin.db", service.data_dir, WallClock()
    )
    store.migrate()
    with AuditTrail(store.audit).attempt(Attempt("test", "tester")) as change:
        left = Deletion(
            id=new_id(),
            registry="default",
            repository=Repository("team/app"),
            requested=Requested(tag=Tag("1.0")),
            digest=None,
            tags=(RemovedTag(Tag("1.0"), None),),
            manifests=(),
            kept=(),
            requested_by="tester",
            created_at=WallClock().now(),
        )
        store.deletions.add(change, left)
    return store


def test_interrupted_deletions_are_finished_before_the_first_request(
    make: MAKER, slow_registry: Registry
) -> None:
    slow_registry.let.set()
    service = make(start=False, registries={"default": {"url": slow_registry.url}})
    store = interrupted(service)
    service.start("--no-worker")
    assert store.deletions.unfinished() == []
    store.close()


def test_a_registry_that_is_down_does_not_keep_the_service_from_starting(make: MAKER) -> None:
    service = make(start=False, registries={"default": {"url": "http://127.0.0.1:1"}})
    store = interrupted(service)
    service.start()
    assert len(store.deletions.unfinished()) == 1
    store.close()


def test_the_worker_finishes_what_its_registry_kept_from_being_finished(
    make: MAKER, slow_registry: Registry
) -> None:
    slow_registry.let.set()
    service = make(registries={"default": {"url": slow_registry.url}})
    store = interrupted(service)
    wait_until(lambda: store.deletions.unfinished() == [], PATIENCE, "it is finished")
    store.close()


def test_the_api_alone_has_no_worker(make: MAKER) -> None:
    service = make("--no-worker")
    assert worker_status(service) == "none"
    assert children(service, "worker") == []
    # What prepared the database is gone, sooner or later.
    wait_until(lambda: len(tree(service)) == WORKERS + 2, PATIENCE, "it is the API alone")
    assert service.stop() == 0
    assert service.log.read_text().splitlines()[-1].count('"message": "stopped"') == 1


def test_a_worker_alone_is_seen_by_the_api(
    make: MAKER, workspace: Workspace, systemd: Systemd
) -> None:
    service = make("--no-worker")
    command = registry_admin("worker", "--config", str(service.config))
    environment = service.environment() | systemd.variables
    worker = Child(workspace, command, service.folder / "worker.log", environment)
    assert systemd.told() == ("READY=1", worker.pid)
    wait_until(lambda: worker_status(service) == "up", PATIENCE, "the worker is up")
    assert worker.stop() == 0
    assert systemd.told() == ("STOPPING=1", worker.pid)
    wait_until(lambda: worker_status(service) == "none", PATIENCE, "the worker has left")


def test_services_that_start_at_once_share_a_new_database(make: MAKER, postgres: Postgres) -> None:
    url = postgres.create()
    both = [make(start=False, database_url=url) for _ in range(2)]
    for service in both:
        command = registry_admin("serve")
        service.child = Child(service.workspace, command, service.log, service.environment())
    for service in both:
        wait_until(partial(answers, service), PATIENCE, "the service answers")
    secret = both[0].token("registry:read")
    assert [service.ask("/v1/me", token=secret).status for service in both] == [200, 200]
    for service in both:
        service.close()
    postgres.drop(url)


def test_a_folder_that_looks_like_the_code_is_not_run(
    make: MAKER, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = workspace.folder("elsewhere")
    (place / "service").mkdir()
    (place / "service" / "__init__.py").write_text("raise SystemExit('not the service')")
    monkeypatch.chdir(place)
    service = make()
    assert alive(service)


def test_the_longest_names_get_through_in_every_spelling(make: MAKER) -> None:
    service = make()
    name = "/".join(["component"] * 25)[:255]
    escaped = "".join(f"%{ord(letter):02X}" for letter in name)
    for spelling in (name, name.replace("/", "%2F"), escaped):
        path = f"/v1/registries/default/repositories/{spelling}/-/tags/{'t' * 128}"
        answer = service.ask(path)
        assert answer.status == 404
        assert answer.json()["code"] == "registry-unknown"


def test_logs_are_json_lines(make: MAKER) -> None:
    service = make(trusted_proxies=["192.0.2.1"])
    secret = service.token("registry:read")
    service.ask("/v1/me", token=secret, headers={"X-Forwarded-For": "203.0.113.9"})
    service.stop()
    said = service.log.read_text()
    assert secret not in said
    lines = [json.loads(line) for line in said.splitlines()]
    [asked] = [line for line in lines if line.get("route") == "/v1/me"]
    assert asked["source_ip"] == "127.0.0.1"  # whoever is no trusted proxy speaks for itself
