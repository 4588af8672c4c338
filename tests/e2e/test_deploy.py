"""The image and the compose files of deploy/, as an operator would run them."""

from __future__ import annotations

import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from docker.models.containers import Container

from bench.memory import MEBIBYTE, used
from bench.report import Table
from bench.scale import measure
from demo.images import sample
from demo.processes import wait_until
from tests.e2e.acceptance import Acceptance
from tests.e2e.bed.api import REGISTRY, delete, get, problem
from tests.e2e.bed.collecting import succeeded
from tests.e2e.bed.engine import Engine
from tests.e2e.bed.fuzzing import LENIENCE, schemathesis
from tests.e2e.bed.http import Answer, ask
from tests.e2e.bed.site import Place
from tests.e2e.bed.stack import Images, Stack, build_images, open_stack, running

pytestmark = pytest.mark.timeout(600)

BEYOND_THE_BASE = 120 * MEBIBYTE
IDLE_MEMORY = 250 * MEBIBYTE
APP = f"{REGISTRY}/repositories/team/app"
A, B, C = sample("a"), sample("b"), sample("c")
ROOT_CERTIFICATE = "/data/caddy/pki/authorities/local/root.crt"
HANDS = 3
"""Clients that ask without pause."""


@pytest.fixture(scope="module")
def images(engine: Engine) -> Images:
    return build_images(engine)


@pytest.fixture(scope="module")
def single(engine: Engine, images: Images) -> Iterator[Stack]:
    """One machine, and then TLS in front: as the guide says."""
    files = ("compose.yaml", "compose.tls.yaml")

    def begin(stack: Stack) -> None:
        stack.secret = last_line(stack.type("One machine"))

    with open_stack(engine, images, files, ("registry-admin",), begin) as stack:
        yield stack


@pytest.fixture(scope="module")
def scale(single: Stack) -> Iterator[Stack]:
    """What was one machine, now with PostgreSQL, two replicas of the API, two workers, a proxy."""
    stack = replace(single, files=("compose.scale.yaml",), replicas=("api-1", "api-2"))

    def begin(stack: Stack) -> None:
        stack.secret = last_line(stack.type("Many"))

    with running(stack, begin):
        yield stack


def last_line(said: str) -> str:
    """Give the secret of a token that was created last."""
    return said.strip().splitlines()[-1]


def push(stack: Stack, *tags: str) -> None:
    with stack.registry.pusher() as pusher:
        for manifest, tag in zip((A, B, C), tags, strict=False):
            pusher.push("team/app", manifest, tag)


# The image.


def test_the_image_is_small_and_says_what_it_is(engine: Engine, images: Images) -> None:
    base, built = (engine.client.images.get(name) for name in (images.base, images.service))
    assert built.attrs["Size"] - base.attrs["Size"] < BEYOND_THE_BASE
    config = built.attrs["Config"]
    labels = config["Labels"]
    assert labels["org.opencontainers.image.title"] == "registry-admin"
    assert labels["org.opencontainers.image.version"] == "1.2.3"
    assert labels["org.opencontainers.image.revision"] == "abc"
    assert config["User"] == "10001:10001"
    assert config["Healthcheck"]["Test"][0] == "CMD"


def test_the_image_runs_as_nobody_on_a_root_that_is_read_only(
    engine: Engine, single: Stack
) -> None:
    served = container(engine, single, "registry-admin")
    assert served.attrs["HostConfig"]["ReadonlyRootfs"]
    said = content(served, "/proc/1/status").splitlines()
    assert {
        "Name:\ttini",
        "Uid:\t10001\t10001\t10001\t10001",
        "CapEff:\t0000000000000000",
    } <= set(said)
    wait_until(lambda: health(engine, served.id) == "healthy", 60, "it is healthy")


def content(place: Container, path: str) -> str:
    """Read a file in a container."""
    ended = place.exec_run(["cat", path])
    assert ended.exit_code == 0, ended.output
    assert isinstance(ended.output, bytes)
    return ended.output.decode()


def health(engine: Engine, container_id: str | None) -> str:
    found: str = engine.client.containers.get(str(container_id)).attrs["State"]["Health"]["Status"]
    return found


def test_the_whole_service_is_small_when_idle(engine: Engine, single: Stack) -> None:
    """All its processes: the supervisor, the API, the worker."""
    main = container(engine, single, "registry-admin").attrs["State"]["Pid"]
    found = used(main)
    assert found.pss > 50 * MEBIBYTE  # they were seen
    assert found.pss < IDLE_MEMORY, f"PSS {found.pss / MEBIBYTE:.0f} MiB"


# One machine.


class TestOneMachine(Acceptance):
    """What users do."""

    @pytest.fixture
    def place(self, single: Stack) -> Place:
        return Place(single.registry, single)


@dataclass(frozen=True)
class Seen:
    """When something was asked, on the monotonic clock, and what came of it."""

    begun: float
    status: int
    said: str


@dataclass
class Prober:
    """Asks again and again; what is no answer is kept as status 0 with its error."""

    look: Callable[[], Answer]
    seen: list[Seen] = field(default_factory=list)

    @contextmanager
    def running(self) -> Iterator[None]:
        """Probe while the block runs, and begin it once answers come."""
        ended = threading.Event()
        threads = [threading.Thread(target=self._probe, args=(ended,)) for _ in range(HANDS)]
        for thread in threads:
            thread.start()
        try:
            self.await_answers()
            yield
        finally:
            ended.set()
            for thread in threads:
                thread.join()

    def await_answers(self, count: int = 20) -> None:
        """Return after so many more answers."""
        enough = len(self.seen) + count
        wait_until(lambda: len(self.seen) >= enough, 60, f"{count} answers")

    def failed(self) -> list[Seen]:
        return [one for one in self.seen if one.status != 200]

    def _probe(self, ended: threading.Event) -> None:
        while not ended.is_set():
            begun = time.monotonic()
            self.seen.append(Seen(begun, *self._answer()))
            time.sleep(0.05)

    def _answer(self) -> tuple[int, str]:
        try:
            answer = self.look()
        except OSError as error:
            return 0, str(error)
        return answer.status, answer.body.decode()


def trusting(engine: Engine, stack: Stack) -> ssl.SSLContext:
    """Trust the root that Caddy has made, as an operator is told to."""
    caddy = container(engine, stack, "caddy")
    return ssl.create_default_context(cadata=content(caddy, ROOT_CERTIFICATE))


def test_no_pull_fails_while_garbage_is_collected(engine: Engine, single: Stack) -> None:
    push(single, "1", "2", "3")
    delete(single, f"{APP}/-/tags/3")
    context = trusting(engine, single)
    url = f"https://localhost:{single.environment['HTTPS_PORT']}"

    def pull() -> Answer:
        accept = {"Accept": A.media_type}
        return ask(f"{url}/v2/team/app/manifests/1", headers=accept, context=context)

    assert pull().status == 200
    prober = Prober(pull)
    with prober.running():
        assert succeeded(single, mode="read-only")["blobs_deleted"] > 0
    assert prober.failed() == []


def test_a_narrower_filter_refuses_what_it_says(single: Stack) -> None:
    """Without the right to make containers there are restarts, but no ulimits."""
    path = f"/v1/containers/{single.environment['REGISTRY_CONTAINER']}"
    before = get(single, path)
    with narrowed(single):
        limits = {"ulimits": [{"name": "nofile", "soft": 1025, "hard": 2049}]}
        told = problem(single.ask(f"{path}/ulimits", "PUT", body=limits), 502, "engine-refused")
        assert "deploy/socket-proxy" in told["detail"]
        succeeded(single, f"{path}/restart")
    assert get(single, path)["id"] == before["id"]
    assert get(single, path)["ulimits"] == before["ulimits"]


@contextmanager
def narrowed(stack: Stack) -> Iterator[None]:
    """Have the filter let through what the narrower rules do, while the block runs."""
    stack.compose("up", "--detach", "--no-deps", "socket-proxy", SOCKET_RULES="without-recreation")
    try:
        yield
    finally:
        stack.compose("up", "--detach", "--no-deps", "socket-proxy")


def test_a_back_up_of_one_machine_brings_its_state_back(single: Stack, tmp_path: Path) -> None:
    require_restored(single, "one machine", tmp_path / "backup.db")


def require_restored(stack: Stack, which: str, backup: Path) -> None:
    """Back up and restore as the guide says: what came after the first is gone, all else there."""
    push(stack, "1", "2")
    kept = delete(stack, f"{APP}/-/tags/1")
    stack.type(f"Back up: {which}", BACKUP=str(backup))
    lost = delete(stack, f"{APP}/-/tags/2")
    stack.type(f"Restore: {which}", BACKUP=str(backup))
    wait_until(stack.ready, 60, "what was restored is ready")
    assert get(stack, f"{REGISTRY}/deletions/{kept['id']}") == kept
    problem(stack.ask(f"{REGISTRY}/deletions/{lost['id']}"), 404, "deletion-unknown")


# Many. From here on there is no single machine any more.


def test_what_the_registry_holds_is_there_when_one_machine_has_become_many(
    single: Stack, request: pytest.FixtureRequest
) -> None:
    push(single, "1", "2")
    held = single.registry.snapshot()
    old = single.admin()
    scale: Stack = request.getfixturevalue("scale")
    assert scale.registry.snapshot() == held
    assert get(scale, f"{APP}/-/tags/1")["digest"] == A.digest
    assert scale.ask("/v1/me", token=old).status == 401


class TestMany(Acceptance):
    """What users do."""

    @pytest.fixture
    def place(self, scale: Stack) -> Place:
        return Place(scale.registry, scale)


@pytest.fixture
def prober(scale: Stack) -> Prober:
    push(scale, "1", "2")
    return Prober(lambda: scale.ask(APP))


def test_jobs_outlive_a_worker_and_requests_either_replica(
    engine: Engine, scale: Stack, prober: Prober
) -> None:
    with prober.running():
        for replica in scale.replicas:  # of a stack that has just begun one may not be there yet
            await_replica(engine, scale, replica)
        jobs = [verification(scale) for _ in range(4)]
        container(engine, scale, "worker-1").kill()
        for replica in scale.replicas:
            container(engine, scale, replica).kill()
            killed = time.monotonic()
            jobs += [verification(scale) for _ in range(4)]
            prober.await_answers()
            # What was under way on the replica as it was killed cannot be answered by another.
            late = [one for one in prober.failed() if one.begun > killed]
            assert late == []
            container(engine, scale, replica).start()
            await_replica(engine, scale, replica)
        ended = [finished(scale, job) for job in jobs]
    assert [one["state"] for one in ended] == ["succeeded"] * len(jobs)
    assert len(prober.failed()) <= HANDS * len(scale.replicas), prober.failed()
    container(engine, scale, "worker-1").start()


def test_a_rolling_restart_is_noticed_by_nobody(
    engine: Engine, scale: Stack, prober: Prober
) -> None:
    with prober.running():
        for replica in scale.replicas:
            await_replica(engine, scale, replica)
        for replica in scale.replicas:
            restart(container(engine, scale, replica))
            await_replica(engine, scale, replica)
            prober.await_answers()
    assert prober.failed() == []


def restart(replica: Container) -> None:
    """Stop it, which it does by itself once nothing is left to be answered, and start it."""
    replica.stop(timeout=20)
    replica.reload()
    assert replica.attrs["State"]["ExitCode"] == 0
    replica.start()


def verification(stack: Stack) -> str:
    answer = stack.ask(f"{REGISTRY}/verifications", "POST", body={})
    assert answer.status == 202, answer.body
    return str(answer.json()["id"])


def container(engine: Engine, stack: Stack, service: str) -> Container:
    return engine.client.containers.get(stack.container(service))


def await_replica(engine: Engine, stack: Stack, replica: str) -> None:
    """Wait until the proxy sends requests of the prober's to a replica that was started."""

    def is_asked() -> bool:
        code, said = replica_asked(engine, stack, replica, "/metrics")
        return code == 0 and any(line.startswith(PROBED) for line in said.splitlines())

    wait_until(is_asked, 90, f"{replica} is asked")


PROBED = (
    'registry_admin_http_requests_total{method="GET",'
    'route="/v1/registries/{registry}/repositories/{repository}",status="200"}'
)
ASK = """
import sys, urllib.request as r
headers = {"Authorization": "Bearer " + sys.argv[2]}
print(r.urlopen(r.Request("http://127.0.0.1:8080" + sys.argv[1], headers=headers)).read().decode())
"""


def replica_asked(engine: Engine, stack: Stack, replica: str, path: str) -> tuple[int, str]:
    """Ask one replica itself, past the proxy; gives an exit code and what was answered."""
    program = ["python3", "-c", ASK, path, stack.admin()]
    ended = container(engine, stack, replica).exec_run(program)
    assert isinstance(ended.output, bytes)
    return ended.exit_code or 0, ended.output.decode()


def test_counts_of_replicas_add_up_and_what_both_know_is_the_same(
    engine: Engine, scale: Stack
) -> None:
    before, asked = counts(engine, scale), list[int]()

    def both_were_asked() -> bool:
        asked.extend(scale.ask("/v1/me").status for _ in range(10))
        after = counts(engine, scale)
        return all(after[replica] > before[replica] for replica in scale.replicas)

    wait_until(both_were_asked, 60, "both replicas are asked")
    after = counts(engine, scale)
    assert sum(after.values()) - sum(before.values()) == len(asked)
    jobs = [samples(engine, scale, replica, "registry_admin_jobs{") for replica in scale.replicas]
    assert jobs[0] == jobs[1] != {}


def counts(engine: Engine, stack: Stack) -> dict[str, float]:
    asked = 'registry_admin_http_requests_total{method="GET",route="/v1/me",status="200"}'
    return {one: sum(samples(engine, stack, one, asked).values()) for one in stack.replicas}


def samples(engine: Engine, stack: Stack, replica: str, start: str) -> dict[str, float]:
    """Scrape one replica, past the proxy."""
    code, said = replica_asked(engine, stack, replica, "/metrics")
    assert code == 0, said
    found = (line.rpartition(" ") for line in said.splitlines() if line.startswith(start))
    return {name: float(value) for name, _, value in found}


@pytest.mark.soak
def test_the_bench_of_scaling_prints_its_table_whatever_the_times(
    engine: Engine, scale: Stack
) -> None:
    table = Table()
    measure(engine, scale, 1, table, requests=50)
    (judged,) = [line for line in table.lines if line.target]
    assert (judged.what, judged.target) == ("two replicas / one", 1.7)


def test_it_does_what_the_document_says_through_the_proxy(scale: Stack, tmp_path: Path) -> None:
    # A collection, once begun, would have the registry away while the rest is tried.
    phases = ("--phases", "fuzzing", "--exclude-operation-id", "createGcRun")
    found = schemathesis(scale.url, scale.admin(), tmp_path, LENIENCE, *phases, cases=1)
    found.require_success()
    assert found.report["operations"]["tested"] >= 25


def finished(stack: Stack, job: str) -> Any:  # noqa: ANN401 - JSON
    found: dict[str, Any] = {}

    def is_done() -> bool:
        with suppress(OSError):
            found.update(stack.ask(f"/v1/jobs/{job}").json())
        return found.get("state") in {"succeeded", "failed", "cancelled"}

    wait_until(is_done, 90, f"job {job} ends: {found}")
    return found


def test_a_back_up_of_many_brings_their_state_back(scale: Stack, tmp_path: Path) -> None:
    require_restored(scale, "many", tmp_path / "backup.dump")


def test_a_certificate_is_given_and_a_new_version_taken_as_the_guide_says(
    scale: Stack, tmp_path: Path
) -> None:
    authority = tmp_path / "authority.crt"
    authority.write_text("a certificate\n")
    push(scale, "1", "2")
    done = delete(scale, f"{APP}/-/tags/1")
    scale.type("A registry behind TLS", HOST="registry.example:5000", CA=str(authority))
    for service in (*scale.replicas, "worker-1", "worker-2"):
        held = "certs.d/registry.example:5000/ca.crt"
        assert scale.compose("exec", "-T", service, "cat", held) == authority.read_text()
    scale.type("A new version")
    wait_until(scale.ready, 60, "the new version is ready")
    assert get(scale, f"{REGISTRY}/deletions/{done['id']}") == done
