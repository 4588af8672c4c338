"""The application over fakes, and a client that asks it."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from werkzeug.test import TestResponse

from service.api import context
from service.api.base import Application
from service.api.context import Services
from service.app import create_app
from service.domain.access import Caller, Token, hash_secret
from service.domain.audit import Attempt, AuditEvent, AuditTrail
from service.domain.containers import Containers, Rules
from service.domain.engine import Engine
from service.domain.errors import EngineUnreachable, RegistryUnknown
from service.domain.health import Readiness
from service.domain.identity import new_id
from service.domain.job import Work
from service.domain.ports import AuditQuery, BlobCache
from service.jobs.schedules import CronSchedules
from service.settings import Settings
from tests.fakes import Behaviour, FakeRegistry
from tests.fakes_engine import FakeEngine
from tests.fakes_jobs import FakeJobs, FakeScheduleRecords
from tests.fakes_store import FakeStore
from tests.unit.api.conformance import require_conforming

NOW = datetime(2026, 1, 31, 12, tzinfo=UTC)
ADMIN = "radm_admin"


@dataclass
class ManualClock:
    """Stands still until it is told to go on."""

    time: datetime = NOW

    def now(self) -> datetime:
        return self.time

    def advance(self, **parts: float) -> None:
        self.time += timedelta(**parts)


@dataclass
class FakeRegistries:
    """The configured registries, in memory."""

    registries: dict[str, FakeRegistry] = field(default_factory=dict)
    containers: dict[str, str] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    caches: dict[str, BlobCache] = field(default_factory=dict)

    def names(self) -> Sequence[str]:
        return sorted(self.registries)

    def get(self, name: str) -> FakeRegistry:
        if name not in self.registries:
            raise RegistryUnknown(f"No registry named '{name}' is configured.")
        return self.registries[name]

    def container(self, name: str) -> str | None:
        return self.containers.get(name)

    def engine(self, name: str) -> Engine:
        raise EngineUnreachable(f"The registry {name} is on no engine here.")

    def blob_cache(self, name: str) -> BlobCache | None:
        return self.caches.get(name)

    def version(self, name: str) -> str | None:
        return self.versions.get(name)


def settings(**changed: object) -> Settings:
    """Settings of which the application reads next to nothing."""
    plain: dict[str, Any] = {
        "bind": "127.0.0.1:0",
        "data_dir": Path("unused"),
        "database_url": "sqlite:///unused",
        "certs_dir": Path("unused"),
        "workers": 1,
        "threads": 1,
        "cors_origins": (),
        "trusted_proxies": (),
        "cache_bytes": 1,
        "log_level": "info",
        "registries": {},
        "engines": {},
    }
    return Settings(**{**plain, **changed})


@cache
def _shared() -> list[Application]:
    return []


def application(services: Services) -> Application:
    """The one application of the run, since making it describes it, with other services."""
    if not _shared():
        _shared().append(create_app(services))
    context.install(_shared()[0], services)
    return _shared()[0]


class Reply:
    """An answer, read."""

    def __init__(self, response: TestResponse) -> None:
        self.status = response.status_code
        self.headers = response.headers
        self.data = response.data
        self.text = response.data.decode(errors="replace")
        self.mimetype = response.mimetype
        self.json: Any = response.get_json(silent=True)
        response.close()

    @property
    def problem(self) -> tuple[int, str]:
        """Status and code of the problem that it is."""
        assert self.mimetype == "application/problem+json", self.text
        assert self.json["status"] == self.status
        return self.status, self.json["code"]


class Bed:
    """An application with everything behind it, and ways to ask it."""

    works: Sequence[Work] = ()
    """What jobs there are."""

    def __init__(self, **changed: object) -> None:
        self.clock = ManualClock()
        self.store = FakeStore(self.clock)
        self.registry = FakeRegistry()
        self.registries = FakeRegistries({"default": self.registry})
        self.trail = AuditTrail(self.store.audit)
        self.engine = FakeEngine()
        self.containers = Containers(
            [Rules(self.engine, ["web-*"], {"registry": "default"}), *self.more_rules()]
        )
        self.jobs = FakeJobs(self.wire(), self.clock)
        self.schedule_records = FakeScheduleRecords()
        self.app = self.create(**changed)
        self.client = self.app.test_client()
        self.token("admin", secret=ADMIN, name="root")

    def more_rules(self) -> Sequence[Rules]:
        """What other engines there are, and which of their containers are allowed."""
        return ()

    def wire(self) -> Sequence[Work]:
        """What jobs there are, on all that is there by now."""
        return self.works

    def create(self, **changed: object) -> Application:
        readiness = Readiness(
            self.store, self.store.workers, self.registries, {"local": lambda: "up"}, self.clock
        )
        services = Services(
            registries=self.registries,
            engines=[self.engine, *(rules.engine for rules in self.more_rules())],
            containers=self.containers,
            store=self.store,
            trail=self.trail,
            jobs=self.jobs,
            schedules=CronSchedules(self.schedule_records, self.clock),
            clock=self.clock,
            readiness=readiness,
            parse=json.loads,
            settings=settings(**changed),
            started_at=NOW,
        )
        return application(services)

    def token(
        self,
        *scopes: str,
        secret: str | None = None,
        name: str = "someone",
        **limits: Any,  # noqa: ANN401 - the fields of Caller
    ) -> str:
        """Store a token and give its secret."""
        chosen = secret or f"radm_{new_id()}"
        caller = Caller(name, frozenset(scopes), **limits)
        token = Token(new_id(), caller, self.clock.now(), "tests")
        with self.trail.attempt(Attempt("arrange", "tests")) as change:
            self.store.tokens.create(change, token, hash_secret(chosen))
        return chosen

    def ask(
        self,
        path: str,
        method: str = "GET",
        *,
        token: str | None = ADMIN,
        body: object = None,
        headers: Mapping[str, str] | None = None,
        **options: Any,  # noqa: ANN401 - what werkzeug's client takes
    ) -> Reply:
        """Send a request; a body that is no bytes goes as JSON.

        Whatever is answered must be what the document promises.
        """
        sent = {"Authorization": f"Bearer {token}"} if token else {}
        if body is not None:
            packed = body if isinstance(body, bytes) else json.dumps(body).encode()
            options = {"content_type": "application/json", "data": packed, **options}
        answer = self.client.open(
            path, method=method, headers={**sent, **(headers or {})}, **options
        )
        require_conforming(answer)
        return Reply(answer)

    def events(self) -> list[AuditEvent]:
        """What stands in the trail of what was asked over HTTP, oldest first."""
        found = self.store.audit.page(AuditQuery(), 1000, None)
        return [event for event in reversed(found) if event.attempt.action != "arrange"]


MakeBed = Callable[..., Bed]


@pytest.fixture
def bed() -> Bed:
    return Bed()


@pytest.fixture
def make_bed() -> MakeBed:
    return Bed


@pytest.fixture
def locked() -> Behaviour:
    return Behaviour(delete_enabled=False)
