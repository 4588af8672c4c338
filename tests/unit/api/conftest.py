"""The application over fakes, and a client that asks it."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from werkzeug.test import TestResponse

from service.api.base import Application
from service.api.context import Services
from service.app import create_app
from service.domain.access import Caller, Token, hash_secret
from service.domain.audit import Attempt, AuditEvent, AuditTrail
from service.domain.errors import RegistryUnknown
from service.domain.health import Readiness
from service.domain.identity import new_id
from service.domain.ports import AuditQuery
from service.settings import Settings
from tests.fakes import Behaviour, FakeRegistry
from tests.fakes_store import FakeStore

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

    def names(self) -> Sequence[str]:
        return sorted(self.registries)

    def get(self, name: str) -> FakeRegistry:
        if name not in self.registries:
            raise RegistryUnknown(f"No registry named '{name}' is configured.")
        return self.registries[name]

    def container(self, name: str) -> str | None:
        return self.containers.get(name)

    def version(self, name: str) -> str | None:
        return self.versions.get(name)


def settings(**changed: Any) -> Settings:
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


class Bed:
    """An application with everything behind it, and ways to ask it."""

    def __init__(self, **changed: Any) -> None:
        self.clock = ManualClock()
        self.store = FakeStore(self.clock)
        self.registry = FakeRegistry()
        self.registries = FakeRegistries({"default": self.registry})
        self.trail = AuditTrail(self.store.audit)
        self.app = self.create(**changed)
        self.client = self.app.test_client()
        self.token("admin", secret=ADMIN, name="root")

    def create(self, **changed: Any) -> Application:
        readiness = Readiness(
            self.store, self.store.workers, self.registries, {"local": lambda: "up"}, self.clock
        )
        services = Services(
            registries=self.registries,
            store=self.store,
            trail=self.trail,
            clock=self.clock,
            readiness=readiness,
            settings=settings(**changed),
            started_at=NOW,
        )
        return create_app(services)

    def token(
        self, *scopes: str, secret: str | None = None, name: str = "someone", **limits: Any
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
        body: Any = None,
        headers: Mapping[str, str] | None = None,
        **options: Any,
    ) -> TestResponse:
        """Send a request; a body that is no bytes goes as JSON."""
        sent = {"Authorization": f"Bearer {token}"} if token else {}
        if body is not None:
            packed = body if isinstance(body, bytes) else json.dumps(body).encode()
            options = {"content_type": "application/json", "data": packed, **options}
        return self.client.open(path, method=method, headers={**sent, **(headers or {})}, **options)

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
