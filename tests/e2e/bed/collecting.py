"""What tests of collections need: their jobs, a look at the storage, and clients that go on."""

import contextlib
import itertools
import sqlite3
import threading
import time
import tomllib
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg

from demo.images import Manifest, base_layer, digest_of, image, layer, sample
from service.domain.collectable import Mode
from service.domain.collection import AFTERWARDS, STEPS
from tests.e2e.bed.api import REGISTRY, Asked, get
from tests.e2e.bed.http import Answer
from tests.e2e.bed.registry import ACCEPT, RunningRegistry
from tests.e2e.bed.service import Service

RUNS = f"{REGISTRY}/gc-runs"
JOB_LABEL = "registry-admin.job"
OCTETS = {"Content-Type": "application/octet-stream"}
RETRY_SECONDS = 0.02
BLOBS = "docker/registry/v2/blobs"
LIVE: Mapping[str, Mapping[str, object]] = {"live": {"accept_risk": True}}
RESTARTS = {"restart_policy": {"Name": "always"}}


def steps(mode: Mode) -> tuple[str, ...]:
    """Every step of a run, as the product has them."""
    return (*STEPS[mode], *AFTERWARDS)


def start(service: Asked, path: str = RUNS, /, **body: object) -> Answer:
    return service.ask(path, "POST", body=body)


def ended(service: Asked, path: str = RUNS, /, **body: object) -> Any:  # noqa: ANN401 - JSON
    """Start a job and give it when it has ended."""
    prefer = {"Prefer": "wait=60"}
    answer = service.ask(path, "POST", body=body, headers=prefer, timeout=90)
    assert answer.status == 200, answer.body
    return answer.json()


def succeeded(service: Asked, path: str = RUNS, /, **body: object) -> Any:  # noqa: ANN401 - JSON
    """Start a job; give its result."""
    job = ended(service, path, **body)
    assert job["state"] == "succeeded", job["error"]
    return job["result"]


def blob_bytes(registry: RunningRegistry) -> int:
    """Bytes of all that the storage holds as blobs."""
    return sum(path.stat().st_size for path in (registry.storage() / BLOBS).rglob("data"))


def inspected(registry: RunningRegistry) -> dict[str, Any]:
    """The container as the engine tells it, without what a stop and a start must change."""
    found: dict[str, Any] = dict(registry.container.attrs)
    state, network = found.pop("State"), found.pop("NetworkSettings")
    found.pop("ExecIDs")  # which the engine forgets
    # An engine that was killed reads lists that were empty as null.
    found["HostConfig"] = {key: value or None for key, value in found["HostConfig"].items()}
    found["Mounts"].sort(key=lambda mount: mount["Destination"])
    names = sorted(network["Networks"])  # what else it tells is of the process
    return {**found, "Networks": names, **{key: state[key] for key in ("Running", "Restarting")}}


def leftovers(registry: RunningRegistry) -> list[str]:
    """Names of containers that were made for a collection."""
    # Not by the list of docker-py, which inspects each: some may vanish meanwhile.
    found = registry.engine.client.api.containers(all=True, filters={"label": JOB_LABEL})
    return [str(one["Names"][0]).lstrip("/") for one in found]


def is_writable(registry: RunningRegistry) -> bool:
    with contextlib.suppress(OSError):
        return registry.ask("/v2/probe/blobs/uploads/", "POST", timeout=5).status == 202
    return False


def damage(registry: RunningRegistry, manifests: Mapping[Any, Manifest]) -> list[Any]:
    """Give the names of those that the storage does not hold whole, whatever the registry says."""
    return [name for name, one in manifests.items() if not is_whole(registry, one)]


def is_whole(registry: RunningRegistry, manifest: Manifest) -> bool:
    held = [manifest.body, *manifest.blobs]
    paths = [(registry.blob_path(digest_of(content)), content) for content in held]
    return all(path.is_file() and path.read_bytes() == content for path, content in paths)


def database(service: Service) -> Path:
    """Find the service's database."""
    heads = {path: path.read_bytes()[:15] for path in service.data_dir.iterdir() if path.is_file()}
    (found,) = (path for path, head in heads.items() if head == b"SQLite format 3")
    return found


def connected(service: Service) -> sqlite3.Connection | psycopg.Connection[Any]:
    """Connect to the service's database."""
    url = tomllib.loads(service.config.read_text()).get("database_url")
    return psycopg.connect(url, autocommit=True) if url else sqlite3.connect(database(service))


def await_step(service: Service, step: str) -> str:
    """Return when the newest job is at a step, or has ended; gives its state then.

    Out of the database, which is quicker than to ask the service.
    """
    with contextlib.closing(connected(service)) as connection:
        ask = "SELECT state, phase FROM job ORDER BY id DESC LIMIT 1"
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            state, phase = connection.execute(ask).fetchone() or ("", None)
            if phase == step or state in {"succeeded", "failed", "cancelled"}:
                return str(state)
            time.sleep(0.001)
    raise TimeoutError(step)


@dataclass
class Probe:
    """Asks over and over; keeps what was answered, and for how long it went ill."""

    call: Callable[[], int]
    good: Callable[[int], bool]
    statuses: dict[int, int] = field(default_factory=dict)
    down_seconds: float = 0.0

    def run(self, stop: threading.Event) -> None:
        last = time.monotonic()
        while not stop.is_set():
            status = self._status()
            now = time.monotonic()
            self.statuses[status] = self.statuses.get(status, 0) + 1
            self.down_seconds += 0 if self.good(status) else now - last
            last = now

    def _status(self) -> int:
        try:
            return self.call()
        except OSError:
            time.sleep(0.005)
            return 0


@contextmanager
def probing(*probes: Probe) -> Iterator[None]:
    """Probe, each in a thread of its own, while the block runs."""
    with at_work(probe.run for probe in probes):
        yield


@contextmanager
def at_work(runs: Iterable[Callable[[threading.Event], None]]) -> Iterator[None]:
    """Run each in a thread of its own while the block runs; each ends when its event is set."""
    stop = threading.Event()
    threads = [threading.Thread(target=run, args=(stop,)) for run in runs]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stop.set()
        for thread in threads:
            thread.join()


class Client:
    """Pushes as docker does it: asks for each layer, skips it if it is there, tries again.

    Deletes images as well, and pushes them again later, so that layers come and go.
    """

    def __init__(self, registry: RunningRegistry, name: str, pool: int) -> None:
        self.registry = registry
        self.repository = f"churn/{name}"
        self.layers = [layer({f"{name}/{number}": bytes([number % 256])}) for number in range(pool)]
        self.acknowledged: dict[tuple[str, str], Manifest] = {}
        self.pushed = 0

    def run(self, stop: threading.Event) -> None:
        """Push one after the other, and delete the one that is half a pool older."""
        for number in itertools.count():
            if stop.is_set():
                return
            place = number % len(self.layers)
            settings = {"Labels": {"push": str(number)}}  # a new image each time, of old layers
            made = image([base_layer(), self.layers[place]], settings=settings)
            self.push(made, f"t{place}", stop)
            self._delete(f"t{(place + len(self.layers) // 2) % len(self.layers)}", stop)

    def push(self, manifest: Manifest, tag: str, stop: threading.Event) -> None:
        """Push one until it is acknowledged, or it is time to stop."""
        self._insisting(lambda: self._pushed(manifest, tag), stop)

    def _insisting(self, attempt: Callable[[], bool], stop: threading.Event) -> None:
        while True:
            with contextlib.suppress(OSError):
                if attempt():
                    return
            if stop.is_set():
                return
            time.sleep(RETRY_SECONDS)

    def _pushed(self, manifest: Manifest, tag: str) -> bool:
        if not all(self._blob(content) for content in manifest.blobs):
            return False
        headers = {"Content-Type": manifest.media_type}
        path = f"/v2/{self.repository}/manifests/{tag}"
        done = self.registry.ask(path, "PUT", headers=headers, body=manifest.body).status == 201
        if done:
            self.pushed += 1
            self.acknowledged[self.repository, tag] = manifest
        return done

    def _blob(self, content: bytes) -> bool:
        path = f"/v2/{self.repository}/blobs/{digest_of(content)}"
        if self.registry.ask(path, "HEAD").status == 200:
            return True
        begun = self.registry.ask(f"/v2/{self.repository}/blobs/uploads/", "POST")
        if begun.status != 202:
            return False
        place = begun.headers["location"]
        target = f"{place}{'&' if '?' in place else '?'}digest={digest_of(content)}"
        return self.registry.ask(target, "PUT", headers=OCTETS, body=content).status == 201

    def _delete(self, tag: str, stop: threading.Event) -> None:
        manifest = self.acknowledged.pop((self.repository, tag), None)
        if manifest is not None:
            path = f"/v2/{self.repository}/manifests/{manifest.digest}"
            self._insisting(lambda: self._deleted(path), stop)

    def _deleted(self, path: str) -> bool:
        return self.registry.ask(path, "DELETE", headers={"Accept": ACCEPT}).status in {202, 404}


@contextmanager
def churning(clients: list[Client]) -> Iterator[None]:
    """Have clients push and delete without pause while the block runs."""
    with at_work(client.run for client in clients):
        yield


class Site:
    """A registry with an image that stays and garbage, and a service that may collect it."""

    def __init__(self, registry: RunningRegistry, service: Service) -> None:
        self.registry = registry
        self.service = service
        self.kept, self.doomed = sample("kept"), sample("doomed")
        self.fill()

    def fill(self) -> None:
        with self.registry.pusher() as pusher:
            pusher.push("app", self.kept, "kept")
            pusher.push("app", self.doomed, "doomed")
            pusher.delete("app", self.doomed.digest)
            pusher.blob("app", b"a layer whose image never came")

    def require_as_before(self, before: dict[str, Any]) -> None:
        after = inspected(self.registry)
        differing = {
            (key, str(before[key]), str(after[key])) for key in before if before[key] != after[key]
        }
        assert differing == set()
        assert leftovers(self.registry) == []
        assert is_writable(self.registry)
        assert self.registry.digest("app", "kept") == self.kept.digest
        assert damage(self.registry, {"kept": self.kept}) == []

    def start(self, mode: Mode, **options: object) -> str:
        """Start a collection; gives its job's id."""
        answer = start(self.service, mode=mode, **LIVE.get(mode, {}), **options)
        assert answer.status == 202, answer.body
        return str(answer.json()["id"])

    def is_at_rest(self) -> bool:
        """Tell whether no job is under way."""
        states = ("queued", "running")
        return not any(get(self.service, "/v1/jobs", state=one)["items"] for one in states)

    def state(self, job_id: str) -> str:
        return str(get(self.service, f"/v1/jobs/{job_id}")["state"])

    def collect(self, mode: Mode, **options: object) -> Any:  # noqa: ANN401 - JSON
        return succeeded(self.service, mode=mode, **LIVE.get(mode, {}), **options)
