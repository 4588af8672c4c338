"""The stores that the contract suite runs over, and the parts that SQL alone has."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Protocol

import pytest

from service.adapters.store import SqlStore
from service.domain.audit import Attempt, AuditTrail, Change
from service.domain.health import Workers
from service.domain.ports import Store
from tests.e2e.bed.postgres import Postgres
from tests.fakes_store import FakeStore

START = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)


class HandClock:
    """Stands still until it is moved."""

    def __init__(self) -> None:
        self.time = START

    def now(self) -> datetime:
        return self.time

    def move(self, **by: float) -> None:
        self.time += timedelta(**by)


class WholeStore(Store, Protocol):
    @property
    def workers(self) -> Workers: ...


@dataclass(frozen=True)
class Place:
    """Where a SQL store keeps things: what another process needs to open the same."""

    url: str
    data_dir: Path


@pytest.fixture
def clock() -> HandClock:
    return HandClock()


@pytest.fixture(params=["sqlite", "postgresql"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    """An empty database."""
    if request.param == "sqlite":
        yield Place(f"sqlite:///{tmp_path}/state/admin.db", tmp_path)
        return
    server: Postgres = request.getfixturevalue("postgres")
    url = server.create()
    yield Place(url, tmp_path)
    server.drop(url)


@pytest.fixture
def sql_store(place: Place, clock: HandClock) -> Iterator[SqlStore]:
    made = SqlStore(place.url, place.data_dir, clock)
    made.migrate()
    yield made
    made.close()


@pytest.fixture(params=["memory", "sqlite", "postgresql"])
def store(request: pytest.FixtureRequest, tmp_path: Path, clock: HandClock) -> Iterator[WholeStore]:
    """Each store in turn, empty."""
    if request.param == "memory":
        yield FakeStore(clock)
        return
    with ExitStack() as stack:
        url = f"sqlite:///{tmp_path}/admin.db"
        if request.param == "postgresql":
            server: Postgres = request.getfixturevalue("postgres")
            url = server.create()
            stack.callback(server.drop, url)
        made = SqlStore(url, tmp_path, clock)
        stack.callback(made.close)
        made.migrate()
        yield made


@pytest.fixture
def change(store: WholeStore) -> Change:
    """The right to change the store."""
    return AuditTrail(store.audit).begin(Attempt("test", "tester"))


@pytest.fixture
def ended(store: WholeStore) -> Change:
    """A right that has ended."""
    with AuditTrail(store.audit).attempt(Attempt("test", "tester")) as change:
        return change


Ids = Callable[[], str]
