"""The one place where adapters are built and handed to what uses them as ports.

Nothing here connects to anything: adapters connect when first asked, so that what is built before
a fork shares no connection. What only some processes need is imported where it is used.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import cache, partial
from typing import TYPE_CHECKING, Any, NamedTuple

from service.adapters.cache import ContentCache
from service.adapters.engine import DockerEngine
from service.adapters.engine.own import own_container_id
from service.adapters.store import SqlStore
from service.domain.audit import AuditTrail
from service.domain.containers import Containers, Rules
from service.domain.errors import RegistryUnknown
from service.domain.health import Readiness
from service.domain.ports import BlobCache, Registry
from service.domain.recovery import recover
from service.jobs.client import DurableJobs
from service.jobs.kinds import KINDS
from service.jobs.schedules import CronSchedules, Ticker, collection_of
from service.settings import Settings

if TYPE_CHECKING:
    from service.api.context import Services
    from service.domain.job import JobKind, Work
    from service.jobs.queue import Queue
    from service.jobs.worker import Plan, Worker

QUEUE_SECONDS = 60.0
"""How long another process may be at preparing the queue."""

PREDECESSOR_SECONDS = 20.0
"""How long a worker waits for an earlier one to end, where there may be one alone."""


class SystemClock:
    """The port ``Clock``."""

    def now(self) -> datetime:
        """See the port."""
        return datetime.now(UTC)


class ConfiguredRegistries:
    """The port ``Registries`` over the settings; each registry is built when first asked for."""

    def __init__(self, settings: Settings, engines: Mapping[str, DockerEngine]) -> None:
        """Ask ``engines`` for what only they know of a registry."""
        self._settings = settings.registries
        self._engines = engines
        self._cache = ContentCache(settings.data_dir / "cache", settings.cache_bytes)
        self._built: dict[str, Registry] = {}
        self._lock = threading.Lock()

    def names(self) -> Sequence[str]:
        """See the port."""
        return sorted(self._settings)

    def get(self, name: str) -> Registry:
        """See the port."""
        from service.adapters.registry import build_registry  # noqa: PLC0415 - not for tokens

        settings = self._settings.get(name)
        if settings is None:
            raise _unknown(name)
        with self._lock:
            if name not in self._built:
                observe = partial(_observe_call, name)
                self._built[name] = build_registry(settings, self._cache, observe=observe)
            return self._built[name]

    def container(self, name: str) -> str | None:
        """See the port."""
        return self._settings[name].container if name in self._settings else None

    def engine(self, name: str) -> DockerEngine:
        """See the port."""
        if name not in self._settings:
            raise _unknown(name)
        return self._engines[self._settings[name].engine]

    def blob_cache(self, name: str) -> BlobCache | None:
        """See the port."""
        url = self._settings[name].redis_url if name in self._settings else None
        if url is None:
            return None
        from service.adapters.redis_cache import RedisCache  # noqa: PLC0415 - seldom needed

        return RedisCache(url)

    def version(self, name: str) -> str | None:
        """See the port."""
        container = self.container(name)
        if container is None:
            return None
        return self._engines[self._settings[name].engine].registry_version(container)


class Parts(NamedTuple):
    """What every process works with."""

    store: SqlStore
    registries: ConfiguredRegistries
    engines: Mapping[str, DockerEngine]
    containers: Containers
    trail: AuditTrail
    clock: SystemClock

    def recover(self) -> int:
        """Finish what dead processes left; return how many deletions."""
        return recover(self.registries, self.store, self.trail, self.clock)


def parse_configuration(body: bytes) -> Mapping[str, Any]:
    """Read a registry's configuration file; raise ValueError."""
    from service.adapters.engine import configuration  # noqa: PLC0415 - few requests need YAML

    return configuration.parse_configuration(body)


def build(settings: Settings) -> Services:
    """Everything a request may need."""
    from service.api.context import Services  # noqa: PLC0415 - a worker needs no web framework

    parts = _parts(settings)
    asked = {name: parts.engines[name].status for name in _used_engines(settings)}
    return Services(
        registries=parts.registries,
        engines=[parts.engines[name] for name in sorted(parts.engines)],
        containers=parts.containers,
        store=parts.store,
        trail=parts.trail,
        jobs=jobs_of(settings, parts, KINDS),
        schedules=CronSchedules(parts.store.schedules, parts.clock),
        clock=parts.clock,
        readiness=Readiness(parts.store, parts.store.workers, parts.registries, asked, parts.clock),
        parse=parse_configuration,
        settings=settings,
        started_at=parts.clock.now(),
    )


def build_prepared(settings: Settings) -> Parts:
    """The parts, with the database's tables brought up to date."""
    parts = _parts(settings)
    parts.store.migrate()
    return parts


def prepare_queue(settings: Settings, parts: Parts) -> None:
    """Bring the queue's tables up to date."""
    from service.jobs.engine import migrate  # noqa: PLC0415 - few processes need it

    with parts.store.locks.hold("queue", QUEUE_SECONDS):
        migrate(settings.database_url)


def build_worker(settings: Settings, parts: Parts, *, supervised: bool) -> Worker:
    """A worker, for when all is prepared; ``supervised`` by ``serve``, or alone."""
    from service.jobs.kinds import Tools, works  # noqa: PLC0415 - of no use but to a worker
    from service.jobs.worker import Worker  # noqa: PLC0415

    tools = Tools(
        parts.registries,
        parts.containers,
        parts.store,
        parts.trail,
        parts.clock,
        parse_configuration,
    )
    return Worker(plan_of(settings, parts, works(tools), supervised=supervised))


def plan_of(settings: Settings, parts: Parts, works: Sequence[Work], *, supervised: bool) -> Plan:
    """What a worker does that runs ``works``."""
    from service.jobs.running import Ground  # noqa: PLC0415 - as above
    from service.jobs.worker import Plan  # noqa: PLC0415

    ground = Ground(parts.store.jobs, parts.store.locks, parts.clock)
    jobs = jobs_of(settings, parts, KINDS)
    make = collection_of(parts.registries)
    return Plan(
        ground=ground,
        workers=parts.store.workers,
        url=settings.database_url,
        works=works,
        recover=parts.recover,
        tick=Ticker(parts.store.schedules, jobs, parts.trail, ground, make).tick,
        retention=timedelta(days=settings.job_retention_days),
        alone=parts.store.database.is_sqlite,
        # Its predecessor may still be at its end, when the supervisor itself was killed.
        wait_seconds=PREDECESSOR_SECONDS if supervised else 1.0,
    )


def jobs_of(settings: Settings, parts: Parts, kinds: Iterable[JobKind]) -> DurableJobs:
    """The jobs, of ``kinds`` alone."""

    @cache
    def open_queue() -> Queue:
        from service.jobs.queue import Queue  # noqa: PLC0415 - most processes accept no job

        return Queue(settings.database_url)

    return DurableJobs(parts.store.jobs, open_queue, kinds, parts.clock)


def _unknown(registry: str) -> RegistryUnknown:
    return RegistryUnknown(
        f"No registry named '{registry}' is configured. Nothing was changed. "
        "GET /v1/registries lists those that are."
    )


def _observe_call(registry: str, method: str, outcome: str, seconds: float) -> None:
    from service import metrics, tracing  # noqa: PLC0415 - not for tokens

    metrics.observe_call(registry, outcome, seconds)
    tracing.called(registry, method, outcome, seconds)


def _parts(settings: Settings) -> Parts:
    clock = SystemClock()
    store = SqlStore(settings.database_url, settings.data_dir, clock)
    engines = {name: DockerEngine(engine) for name, engine in settings.engines.items()}
    registries = ConfiguredRegistries(settings, engines)
    containers = _containers(settings, engines)
    return Parts(store, registries, engines, containers, AuditTrail(store.audit), clock)


def _containers(settings: Settings, engines: Mapping[str, DockerEngine]) -> Containers:
    rules = []
    for name, engine in engines.items():
        mine = (one for one in settings.registries.values() if one.engine == name)
        own = {one.container: one.name for one in mine if one.container}
        if own or not settings.engines[name].implied or len(engines) == 1:
            rules.append(Rules(engine, settings.engines[name].containers, own))
    return Containers(rules, own_container_id())


def _used_engines(settings: Settings) -> set[str]:
    """Engines that matter to somebody: those of a registry's container or with containers."""
    of_registries = {one.engine for one in settings.registries.values() if one.container}
    return of_registries | {name for name, one in settings.engines.items() if one.containers}
