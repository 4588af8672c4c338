"""A registry that lives in a container of a fake engine, and collections of it."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from service.domain.audit import Attempt, AuditTrail
from service.domain.engine import Engine
from service.domain.errors import CacheUnreachable, RegistryUnreachable
from service.domain.job import Job, JobRequest
from service.domain.ports import Writability
from service.domain.recreation import JOB_LABEL
from service.domain.reference import Digest, Repository
from service.jobs.collecting import GC, collection, exclusive
from tests.fakes import FakeRegistry, image
from tests.fakes_engine import Box, FakeEngine, Ran
from tests.fakes_jobs import FakeJobs
from tests.fakes_store import FakeStore

CONFIG = "/etc/docker/registry/config.yml"
CONFIGURATION: dict[str, Any] = {"version": 0.1, "storage": {"filesystem": {}}}
ROOT = "/var/lib/registry"
STORAGE = "storage"
PROGRAM = "/bin/registry"
REPOSITORY = "team/app"
READ_ONLY = 'REGISTRY_STORAGE_MAINTENANCE_READONLY={"enabled":true}'
HEX = 64


def parse(body: bytes) -> dict[str, Any]:
    """Read a configuration, which is JSON here."""
    document = json.loads(body)
    if not isinstance(document, dict):
        raise ValueError("no mapping")  # noqa: TRY004 - what the port says
    return document


class ServedRegistry(FakeRegistry):
    """Answers while a container serves its storage; read-only where that one is."""

    def __init__(self, engine: FakeEngine) -> None:
        super().__init__()
        self.engine = engine

    def serving(self) -> list[Box]:
        return [
            box
            for box in self.engine.boxes.values()
            if box.running and "serve" in box.command and any(_is_storage(m) for m in box.mounts)
        ]

    def writability(self, repository: Repository | None = None) -> Writability:
        told = super().writability(repository)
        if READ_ONLY in (self.serving()[0].config["Env"] or ()):
            return Writability(delete_enabled=None, read_only=True)
        return told

    def _read(self, *what: str) -> None:
        if not self.serving():
            raise RegistryUnreachable(f"The registry {self.url} refuses the connection.")
        super()._read(*what)


class FakeBlobCache:
    """The port `BlobCache`, in memory; it notes which containers ran when it was emptied."""

    def __init__(self, engine: FakeEngine) -> None:
        self.engine = engine
        self.known: set[Digest] = set()
        self.reachable = True
        self.emptied: list[list[str]] = []

    def check(self) -> None:
        if not self.reachable:
            raise CacheUnreachable("The Redis cannot be reached.")

    def holds(self, repository: Repository, digest: Digest) -> bool:
        assert repository
        self.check()
        return digest in self.known

    def forget(self) -> int:
        self.check()
        self.emptied.append([box.name for box in self.engine.boxes.values() if box.running])
        count = len(self.known)
        self.known.clear()
        return count


def _is_storage(mount: dict[str, Any]) -> bool:
    return mount.get("Name") == STORAGE


class Place:
    """One registry in its container, the service's jobs, and what a test wants to know."""

    def __init__(self, policy: str = "always", version: str | None = "2.8.2") -> None:
        self.docker = FakeEngine()
        self.registry = ServedRegistry(self.docker)
        self.registry_version = version
        self.reference: str | None = "registry"
        self.cache: FakeBlobCache | None = None
        self.store = FakeStore()
        self.trail = AuditTrail(self.store.audit)
        self.jobs = FakeJobs([collection(self, self.store.deletions, self.trail, parse)])
        self.docker.add_image(
            "registry:2", Entrypoint=[PROGRAM], Cmd=["serve", CONFIG], Volumes={ROOT: {}}
        )
        self.original = self.start(policy)
        self.configure(CONFIGURATION)
        self.speaks()
        self.fill()

    def start(self, policy: str = "always", **host_config: object) -> Box:
        binds = {"Binds": [f"{STORAGE}:{ROOT}", "configuration:/etc/docker/registry"]}
        wanted = {"RestartPolicy": {"Name": policy, "MaximumRetryCount": 0}, **binds}
        return self.docker.run("registry", "registry:2", HostConfig={**wanted, **host_config})

    def restart(self, **host_config: object) -> None:
        """Have the registry in a container of another kind."""
        del self.docker.boxes[self.original.id]
        self.original = self.start(**host_config)  # type: ignore[arg-type]

    def configure(self, document: object) -> None:
        self.docker.write_file("registry", CONFIG, json.dumps(document).encode())

    def fill(self) -> None:
        """One image that stays, and blobs that nothing needs, of 5 and 7 bytes."""
        self.registry.push(REPOSITORY, image("kept"), "1")
        for blob in (b"12345", b"1234567"):
            self.put(blob)

    def put(self, blob: bytes) -> None:
        digest = Digest.of(blob)
        self.docker.volumes[STORAGE][_path(digest)] = blob
        self.registry.contents[Repository(REPOSITORY)].blobs[digest] = blob

    # What the collector does and says.

    def speaks(self, says: Callable[[bool], Ran] | None = None) -> None:
        """Have the collector do its work, or say something else."""
        for flags in ((), ("--delete-untagged",)):
            for dry_run in (False, True):
                command = (PROGRAM, "garbage-collect", *("--dry-run",) * dry_run, *flags, CONFIG)
                self.docker.programs[command] = self._collector(says or self.collect, dry_run)

    def _collector(self, says: Callable[[bool], Ran], dry_run: bool) -> Callable[[Box], Ran]:  # noqa: FBT001
        return lambda _box: says(dry_run)

    def collect(self, dry_run: bool) -> Ran:  # noqa: FBT001 - as the command line has it
        volume = self.docker.volumes[STORAGE]
        gone = [Digest(f"sha256:{path[-5 - HEX : -5]}") for path in sorted(volume)]
        lines = [f"2 blobs marked, {len(gone)} blobs and 0 manifests eligible for deletion"]
        lines += [f"blob eligible for deletion: {digest}" for digest in gone]
        if not dry_run:
            volume.clear()
            self.registry.collect()
        return Ran([("stdout", line.encode()) for line in lines])

    # The port Registries.

    def names(self) -> list[str]:
        return ["default"]

    def get(self, name: str) -> FakeRegistry:
        assert name == "default"
        return self.registry

    def container(self, name: str) -> str | None:
        assert name == "default"
        return self.reference

    def engine(self, name: str) -> Engine:
        assert name == "default"
        return self.docker

    def blob_cache(self, name: str) -> FakeBlobCache | None:
        assert name == "default"
        return self.cache

    def version(self, name: str) -> str | None:
        assert name == "default"
        return self.registry_version

    # Jobs.

    def submit(self, **params: object) -> Job:
        asked = {"mode": "read-only", "dry_run": False, "delete_untagged": False, **params}
        request = JobRequest(GC.name, asked, "ann", "default", exclusive=exclusive("default"))
        with self.trail.attempt(Attempt("gc.start", "ann")) as change:
            return self.jobs.submit(change, request)

    def run(self, **params: object) -> Job:
        job = self.submit(**params)
        self.jobs.run_all()
        return self.jobs.get(job.id)

    def run_watched(self, watch: Callable[[Job, str], None], **params: object) -> Job:
        """Run one; ``watch`` is told when a step begins."""
        self.jobs.watch = watch
        return self.run(**params)

    def cancel(self, job_id: str) -> Job:
        with self.trail.attempt(Attempt("job.cancel", "ann")) as change:
            return self.jobs.cancel(change, job_id)

    def require_as_it_was(self) -> None:
        """The registry's own container runs, as before, and nothing of ours is left."""
        assert list(self.docker.boxes.values()) == [self.original]
        assert self.original.status == "running"
        policy = {"Name": "always", "MaximumRetryCount": 0}
        assert self.original.host_config["RestartPolicy"] == policy
        assert not self.docker.containers(JOB_LABEL)
        assert not self.registry.writability().read_only
        assert not self.jobs.records.compensations()


def _path(digest: Digest) -> str:
    return f"/docker/registry/v2/blobs/sha256/{digest.hex[:2]}/{digest.hex}/data"
