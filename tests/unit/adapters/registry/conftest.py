"""Adapters against stand-ins, with time that passes only as told."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from service.adapters.cache import ContentCache
from service.adapters.registry import HttpRegistry, build_registry
from service.adapters.registry.retry import Retrier
from service.domain.audit import Attempt, AuditTrail, Change
from service.settings import RegistrySettings
from tests.fakes import FakeRegistry
from tests.fakes_store import FakeStore
from tests.standin import Handler, StandIn
from tests.standin_registry import V2_MANNERS, Manners, PlayedRegistry
from tests.unit.adapters.registry.support import Connect, Play, Serve, Time


@pytest.fixture
def time() -> Time:
    return Time()


@pytest.fixture
def retrier(time: Time) -> Retrier:
    return Retrier(sleep=time.sleep, monotonic=time.monotonic)


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Start stand-ins: ``serve(handler, context)``."""
    with ExitStack() as stack:

        def make(handler: Handler | None = None, context: Any = None) -> StandIn:  # noqa: ANN401 - handed on
            made = StandIn(context=context) if handler is None else StandIn(handler, context)
            return stack.enter_context(made)

        yield make


@pytest.fixture
def connect(tmp_path: Path, retrier: Retrier) -> Iterator[Connect]:
    """Make adapters, each with a cache of its own: ``connect(server, username=...)``."""
    with ExitStack() as stack:
        count = iter(range(1000))

        def make(server: StandIn | str, **settings: Any) -> HttpRegistry:  # noqa: ANN401 - any setting
            url = server if isinstance(server, str) else server.url
            cache = ContentCache(tmp_path / f"cache-{next(count)}", 64 * 1024 * 1024)
            stack.callback(cache.close)
            chosen: dict[str, Any] = {
                "timeout_seconds": 5.0,
                "certs_dir": tmp_path / "certs.d",
            } | settings
            made = build_registry(RegistrySettings("default", url, **chosen), cache, retrier)
            stack.callback(made.close)
            return made

        yield make


@pytest.fixture
def change() -> Iterator[Change]:
    with AuditTrail(FakeStore().audit).attempt(Attempt("test", "tester")) as opened:
        yield opened


@pytest.fixture
def fake() -> FakeRegistry:
    return FakeRegistry()


@pytest.fixture
def play(fake: FakeRegistry, serve: Serve) -> Play:
    """Serve what ``fake`` holds: ``play(manners)``."""

    def make(manners: Manners = V2_MANNERS) -> StandIn:
        return serve(PlayedRegistry(fake, manners))

    return make
