"""The image and the compose files of deploy/, as an operator would run them."""

from __future__ import annotations

import ssl
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import pytest
from docker.models.containers import Container

from demo.images import Pusher, sample
from demo.processes import wait_until
from tests.e2e.bed.engine import Engine
from tests.e2e.bed.http import ask
from tests.e2e.bed.stack import Images, Stack, build_images, open_stack

pytestmark = pytest.mark.timeout(600)

MEBIBYTE = 1024 * 1024
BEYOND_THE_BASE = 120 * MEBIBYTE
REGISTRY = "/v1/registries/default"
A, B, C = sample("a"), sample("b"), sample("c")
ROOT_CERTIFICATE = "/data/caddy/pki/authorities/local/root.crt"


@pytest.fixture(scope="module")
def images(engine: Engine) -> Images:
    return build_images(engine)


@pytest.fixture(scope="module")
def single(engine: Engine, images: Images) -> Iterator[Stack]:
    """One machine, with TLS in front."""
    with open_stack(engine, images, "single", ("compose.yaml", "compose.tls.yaml")) as stack:
        stack.token = create_token(stack, "registry-admin")
        yield stack


@pytest.fixture(scope="module")
def scale(engine: Engine, images: Images) -> Iterator[Stack]:
    """PostgreSQL, two replicas of the API, two workers, a proxy."""
    with open_stack(engine, images, "scale", ("compose.scale.yaml",)) as stack:
        stack.token = create_token(stack, "api-1")
        yield stack


def create_token(stack: Stack, service: str) -> str:
    command = ("registry-admin", "token", "create", "--name", "me", "--scope", "admin")
    return stack.compose("exec", "-T", service, *command).strip().splitlines()[-1]


def push(stack: Stack, *tags: str) -> None:
    with Pusher(f"http://127.0.0.1:{stack.environment['REGISTRY_PORT']}") as pusher:
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
    container = engine.client.containers.get(f"{single.project}_registry-admin_1")
    assert container.attrs["HostConfig"]["ReadonlyRootfs"]
    said = content(container, "/proc/1/status").splitlines()
    assert {
        "Name:\ttini",
        "Uid:\t10001\t10001\t10001\t10001",
        "CapEff:\t0000000000000000",
    } <= set(said)
    wait_until(lambda: health(engine, container.id) == "healthy", 60, "it is healthy")


def content(container: Container, path: str) -> str:
    """Read a file in a container."""
    ended = container.exec_run(["cat", path])
    assert ended.exit_code == 0, ended.output
    assert isinstance(ended.output, bytes)
    return ended.output.decode()


def health(engine: Engine, container_id: str | None) -> str:
    found: str = engine.client.containers.get(str(container_id)).attrs["State"]["Health"]["Status"]
    return found


# One machine.


def test_what_is_deleted_through_the_stack_can_be_restored(single: Stack) -> None:
    push(single, "1", "2")
    done = single.ask(f"{REGISTRY}/repositories/team/app/-/tags/1", "DELETE").json()
    assert done["tags_removed"] == ["1"]
    names = single.get(f"{REGISTRY}/repositories/team/app/-/tags")["items"]
    assert [one["name"] for one in names] == ["2"]
    assert single.ask(f"{REGISTRY}/deletions/{done['id']}/restore", "POST").status == 200
    names = single.get(f"{REGISTRY}/repositories/team/app/-/tags")["items"]
    assert [one["name"] for one in names] == ["1", "2"]


@dataclass
class Prober:
    """Asks again and again; what is answered by status, and what was no answer."""

    look: Callable[[], int]
    seen: Counter[int | str] = field(default_factory=Counter)

    @contextmanager
    def running(self, hands: int = 3) -> Iterator[None]:
        """Probe while the block runs."""
        ended = threading.Event()
        threads = [threading.Thread(target=self._probe, args=(ended,)) for _ in range(hands)]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            ended.set()
            for thread in threads:
                thread.join()

    def _probe(self, ended: threading.Event) -> None:
        while not ended.is_set():
            try:
                self.seen[self.look()] += 1
            except OSError as error:
                self.seen[type(error).__name__] += 1
            time.sleep(0.01)


def trusting(engine: Engine, stack: Stack) -> ssl.SSLContext:
    """Trust the root that Caddy has made, as an operator is told to."""
    container = engine.client.containers.get(f"{stack.project}_caddy_1")
    return ssl.create_default_context(cadata=content(container, ROOT_CERTIFICATE))


def test_no_pull_fails_while_garbage_is_collected(engine: Engine, single: Stack) -> None:
    push(single, "1", "2", "3")
    assert single.ask(f"{REGISTRY}/repositories/team/app/-/tags/3", "DELETE").status == 200
    context = trusting(engine, single)
    url = f"https://localhost:{single.environment['HTTPS_PORT']}"

    def pull() -> int:
        accept = {"Accept": A.media_type}
        return ask(f"{url}/v2/team/app/manifests/1", headers=accept, context=context).status

    assert pull() == 200
    prober = Prober(pull)
    with prober.running():
        job = single.ask(f"{REGISTRY}/gc-runs", "POST", {"mode": "read-only"}, Prefer="wait=60")
    done = job.json()
    assert done["state"] == "succeeded", done["error"]
    assert done["result"]["blobs_deleted"] > 0
    assert prober.seen.keys() == {200}, prober.seen
    assert prober.seen[200] > 10


# Many.


def test_replicas_share_the_work_and_may_die(engine: Engine, scale: Stack) -> None:
    push(scale, "1", "2")
    prober = Prober(lambda: scale.ask(f"{REGISTRY}/repositories/team/app").status)
    jobs = []
    with prober.running():
        for number in range(12):
            jobs.append(scale.ask(f"{REGISTRY}/verifications", "POST", {}).json()["id"])
            if number == 4:
                killed(engine, scale, "worker-1")
            if number == 8:
                killed(engine, scale, "api-2")
        ended = [finished(scale, job) for job in jobs]
    assert [one["state"] for one in ended] == ["succeeded"] * len(jobs)
    failed = {status: n for status, n in prober.seen.items() if status != 200}
    # What was under way on the replica as it was killed cannot be answered by another.
    assert sum(failed.values()) <= 3, prober.seen
    assert prober.seen[200] > 10


def killed(engine: Engine, stack: Stack, service: str) -> None:
    engine.client.containers.get(f"{stack.project}_{service}_1").kill()


def finished(stack: Stack, job: str) -> Any:  # noqa: ANN401 - JSON
    found: dict[str, Any] = {}

    def is_done() -> bool:
        with suppress(OSError):
            found.update(stack.ask(f"/v1/jobs/{job}").json())
        return found.get("state") in {"succeeded", "failed", "cancelled"}

    wait_until(is_done, 90, f"job {job} ends: {found}")
    return found
