"""What the views work with: the ports, handed over by whoever builds the application."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import cast

from flask import Flask, current_app

from service.domain.audit import AuditTrail
from service.domain.containers import Containers
from service.domain.engine import Engine
from service.domain.health import Readiness
from service.domain.job import Jobs
from service.domain.ports import Clock, Registries, Registry, Store
from service.domain.reading import Reader
from service.domain.registry_files import ParseConfiguration
from service.domain.schedule import Schedules
from service.settings import Settings

KEY = "registry-admin"


@dataclass(frozen=True)
class Services:
    """Everything a request may need. ``store`` is that which ``trail`` writes to."""

    registries: Registries
    engines: Sequence[Engine]
    containers: Containers
    store: Store
    trail: AuditTrail
    jobs: Jobs
    schedules: Schedules
    clock: Clock
    readiness: Readiness
    parse: ParseConfiguration
    settings: Settings
    started_at: datetime


class Readers:
    """The readers of this process, one a registry: they remember what they described."""

    def __init__(self) -> None:
        self._readers: dict[str, Reader] = {}
        self._lock = threading.Lock()

    def of(self, registry: Registry) -> Reader:
        """Give the reader of a registry, the same one each time."""
        with self._lock:
            if registry.name not in self._readers:
                self._readers[registry.name] = Reader(registry)
            return self._readers[registry.name]


def install(app: Flask, services: Services) -> None:
    """Give an application its services."""
    app.extensions[KEY] = (services, Readers())


def services() -> Services:
    """Give the services of the current application."""
    return cast("tuple[Services, Readers]", current_app.extensions[KEY])[0]


def reader(registry: Registry) -> Reader:
    """Give this process's reader of ``registry``."""
    return cast("tuple[Services, Readers]", current_app.extensions[KEY])[1].of(registry)
