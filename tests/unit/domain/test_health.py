from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import cast

import pytest

from service.domain import health
from service.domain.engine import Engine
from service.domain.errors import RegistryUnknown
from service.domain.health import PartStatus, Readiness
from service.domain.ports import AuthState, BlobCache, Registry, RegistryState, RegistryStatus
from tests.fakes_store import FakeStore

START = datetime(2026, 1, 2, tzinfo=UTC)
Ask = Callable[[], RegistryStatus]


class HandClock:
    def __init__(self) -> None:
        self.time = START

    def now(self) -> datetime:
        return self.time


class OneRegistry:
    """Only tells how it is."""

    def __init__(self, ask: Ask) -> None:
        self.ask = ask

    def state(self) -> RegistryState:
        return RegistryState(self.ask(), None, None, AuthState(None), None, START)


class SomeRegistries:
    def __init__(self, asks: Mapping[str, Ask]) -> None:
        self.asks = asks

    def names(self) -> Sequence[str]:
        return sorted(self.asks)

    def get(self, name: str) -> Registry:
        if name not in self.asks:
            raise RegistryUnknown(name)
        return cast("Registry", OneRegistry(self.asks[name]))

    def container(self, name: str) -> str | None:
        raise NotImplementedError(name)

    def blob_cache(self, name: str) -> BlobCache | None:
        raise NotImplementedError(name)

    def engine(self, name: str) -> Engine:
        raise NotImplementedError(name)

    def version(self, name: str) -> str | None:
        raise NotImplementedError(name)


class World:
    def __init__(self) -> None:
        self.clock = HandClock()
        self.store = FakeStore(self.clock)
        self.registries: dict[str, Ask] = {}
        self.engines: dict[str, Callable[[], PartStatus]] = {}

    def readiness(self) -> Readiness:
        registries = SomeRegistries(self.registries)
        return Readiness(self.store, self.store.workers, registries, self.engines, self.clock)


@pytest.fixture
def world() -> World:
    return World()


def fail() -> RegistryStatus:
    raise ConnectionError


def test_a_service_with_nothing_configured_is_ready(world: World) -> None:
    found = world.readiness().health()
    assert found.ready
    assert (found.database, found.worker) == ("up", "none")
    assert (found.registries, found.engines) == ({}, {})
    assert found.checked_at == START


def test_without_its_database_it_is_not_ready(world: World) -> None:
    world.store.broken = True
    found = world.readiness().health()
    assert not found.ready
    assert (found.database, found.worker) == ("down", "down")


def test_each_part_is_told(world: World) -> None:
    world.registries = {"a": lambda: "up", "b": lambda: "read-only", "c": fail}
    world.engines = {"local": lambda: "up", "far": lambda: "down"}
    found = world.readiness().health()
    assert found.registries == {"a": "up", "b": "read-only", "c": "down"}
    assert found.engines == {"local": "up", "far": "down"}
    assert found.ready


def test_a_worker_is_up_while_it_was_heard_of_lately(world: World) -> None:
    world.store.workers.join("w")
    world.clock.time += health.WORKER_LIMIT - timedelta(seconds=1)
    assert world.readiness().health().worker == "up"
    world.clock.time += timedelta(seconds=1)
    assert world.readiness().health().worker == "down"
    assert world.readiness().health().ready


def test_who_does_not_answer_in_time_is_down(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "PATIENCE_SECONDS", 0.05)
    done = threading.Event()

    def hang() -> RegistryStatus:
        done.wait()
        return "up"

    world.registries = {"slow": hang, "up": lambda: "up"}
    assert world.readiness().health().registries == {"slow": "down", "up": "up"}
    done.set()


def test_parts_are_not_asked_each_time(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def ask() -> RegistryStatus:
        asked.append(1)
        return "up"

    world.registries = {"a": ask}
    readiness = world.readiness()
    for _ in range(3):
        readiness.health()
    assert len(asked) == 1
    monkeypatch.setattr(health, "FRESH_SECONDS", 0)
    readiness.health()
    assert len(asked) == 2


def test_while_one_asks_others_are_given_what_was_found_last(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(health, "FRESH_SECONDS", 0)
    asking, go_on = threading.Event(), threading.Event()
    calls = []

    def ask() -> RegistryStatus:
        calls.append(1)
        if len(calls) > 1:
            asking.set()
            go_on.wait()
        return "up"

    world.registries = {"a": ask}
    readiness = world.readiness()
    first = readiness.health()
    thread = threading.Thread(target=readiness.health)
    thread.start()
    asking.wait()
    assert readiness.health() is first
    go_on.set()
    thread.join()
    assert len(calls) == 2
