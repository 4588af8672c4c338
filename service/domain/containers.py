"""The containers that the API may see, and what it tells of them.

Any other container does not exist: what is forbidden and what is absent is answered in the same
words. Where several engines have a container of one name, ``engine:name`` tells them apart.
"""

from __future__ import annotations

import fnmatch
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

from service.domain.collectable import restart_policy
from service.domain.engine import Engine, Inspected
from service.domain.errors import (
    ContainerAmbiguous,
    ContainerIsSelf,
    ContainerUnknown,
    shown,
)
from service.domain.recreation import ENABLE_LABEL, JOB_LABEL
from service.domain.ulimits import configured, read_limits

COMPOSE_PROJECT = "com.docker.compose.project"
NEVER = "0001-"
"""How the time begins that an engine tells for none."""

SHORT_ID = 12
"""Fewer digits of an id could be a name."""

SWAP_SECONDS = 5.0
"""How long a container may be without its name while another takes its place."""

LOOK_SECONDS = 0.05
_PUT_ASIDE = re.compile(r"(.+)-(?:old|new)-[0-9a-f]{12}")


def aside(name: str, which: Literal["old", "new"], job_id: str) -> str:
    """Name one of the two containers of a recreation that does not have the name just then."""
    return f"{name}-{which}-{job_id[-12:]}"


@dataclass(frozen=True, slots=True)
class Allowed:
    """A container that exists for the API. ``registry`` is the one whose own it is, if any."""

    engine: Engine
    container_id: str
    name: str
    registry: str | None = None


@dataclass(frozen=True, slots=True)
class Rules:
    """What is allowed on an engine: name patterns, a label, and the registries' own containers.

    ``registries`` names the registry of each of the latter, which is given by its name or id.
    """

    engine: Engine
    patterns: Sequence[str] = ()
    registries: Mapping[str, str] = field(default_factory=dict)

    def all(self) -> Iterator[Allowed]:
        """Yield what is allowed, stopped ones too; raise EngineUnreachable."""
        for summary in self.engine.containers():
            if found := self.allowed(summary):
                yield found

    def allowed(self, summary: Inspected) -> Allowed | None:
        """Give a container that the engine lists, if it is allowed."""
        found = Allowed(self.engine, summary["Id"], _name(summary), self._registry(summary))
        return found if self._allows(found, summary.get("Labels") or {}) else None

    def _registry(self, summary: Inspected) -> str | None:
        name, container_id = _name(summary), str(summary["Id"])
        for reference, registry in self.registries.items():
            is_id = len(reference) >= SHORT_ID and container_id.startswith(reference)
            if reference == name or is_id:
                return registry
        return None

    def _allows(self, found: Allowed, labels: Mapping[str, str]) -> bool:
        if JOB_LABEL in labels or _PUT_ASIDE.fullmatch(found.name):
            return False  # ours, made for a job: it goes by itself
        if found.registry is not None or labels.get(ENABLE_LABEL) == "true":
            return True
        return any(fnmatch.fnmatchcase(found.name, pattern) for pattern in self.patterns)


def _name(summary: Inspected) -> str:
    """The container's own name: links give it others, such as ``/other/alias``."""
    names = (name.lstrip("/") for name in summary.get("Names") or ())
    return next((name for name in names if "/" not in name), "")


class Containers:
    """The containers of all engines that the API may see."""

    def __init__(self, rules: Sequence[Rules], own_id: str | None = None) -> None:
        """Look at these engines; ``own_id`` is the container that the service runs in, if any."""
        self._rules = rules
        self._own_id = own_id

    def require_not_self(self, one: Allowed) -> None:
        """Raise ContainerIsSelf for the container that the service itself runs in."""
        if one.container_id == self._own_id:
            raise ContainerIsSelf(
                f"The service itself runs in the container '{one.name}': stopping it would stop "
                "whoever is to start it again. Nothing was changed. Do it from outside."
            )

    def all(self) -> list[Allowed]:
        """All of them, by name, then engine; raise EngineUnreachable when one does not answer."""
        found = [one for rules in self._rules for one in rules.all()]
        return sorted(found, key=lambda one: (one.name, one.engine.name))

    def find(self, reference: str, within: Callable[[Allowed], bool] = lambda _: True) -> Allowed:
        """One by its name, ``engine:name`` or whole id; raise ContainerUnknown or -Ambiguous.

        Those that are not ``within`` a caller's limits are as good as absent. All engines are
        asked, since one that does not answer may have a container of that name.
        """
        engine, _, name = reference.rpartition(":")
        rules = [one for one in self._rules if engine in {"", one.engine.name}]
        found = [one for one in _named(rules, name) if within(one)]
        if not found:
            raise ContainerUnknown(
                f"No container '{shown(reference)}' is there that the service may see. Nothing was "
                "changed. It sees the registries' own, those that match 'containers' of an engine "
                "in the settings, and those with the label registry-admin.enable=true."
            )
        if len(found) > 1:
            raise ContainerAmbiguous(
                f"Several engines have a container '{shown(reference)}'. Nothing was changed. Say "
                f"which: {', '.join(f'{one.engine.name}:{one.name}' for one in found)}",
                {"names": [f"{one.engine.name}:{one.name}" for one in found]},
            )
        return found[0]

    def engine_of(self, reference: str) -> Engine:
        """The engine that an ``engine:name`` names; raise ContainerUnknown when there is none."""
        name = reference.rpartition(":")[0]
        for rules in self._rules:
            if rules.engine.name == name:
                return rules.engine
        raise ContainerUnknown(f"No engine '{name}' is configured any more.")


def _named(rules: Sequence[Rules], name: str) -> list[Allowed]:
    """Those of that name; one that is just being recreated is waited for."""
    deadline = time.monotonic() + SWAP_SECONDS
    while True:
        listed = [(each, summary) for each in rules for summary in each.engine.containers()]
        allowed = (each.allowed(summary) for each, summary in listed)
        found = [one for one in allowed if one and name in _references(one)]
        swapped = any(_is_aside(_name(summary), name) for _, summary in listed)
        if found or not swapped or time.monotonic() > deadline:
            return found
        time.sleep(LOOK_SECONDS)


def _is_aside(own_name: str, name: str) -> bool:
    """Tell whether a container of ``own_name`` is one of the two of a recreation of ``name``."""
    found = _PUT_ASIDE.fullmatch(own_name)
    return found is not None and found[1] == name


def _references(one: Allowed) -> set[str]:
    return {one.name, one.container_id}


def described(one: Allowed) -> dict[str, Any]:
    """A container as the contract has it; raise ContainerUnknown when it has gone meanwhile."""
    container = one.engine.container(one.container_id)
    state, config = container["State"], container["Config"]
    policy = restart_policy(container)
    return {
        "name": one.name,
        "engine": one.engine.name,
        "id": container["Id"],
        "image": config["Image"],
        "image_id": container["Image"],
        "state": state["Status"],
        "health": health(container),
        "restart_policy": policy,
        "ulimits": configured(container),
        "effective_ulimits": effective(one.engine, container),
        "restart_count": container.get("RestartCount") or 0,
        "started_at": _moment(state["StartedAt"]),
        "compose_project": (config.get("Labels") or {}).get(COMPOSE_PROJECT),
        "writable_layer_size": one.engine.writable_size(one.container_id),
    }


def _moment(text: str) -> datetime | None:
    return None if text.startswith(NEVER) else datetime.fromisoformat(text)


def health(container: Inspected) -> str | None:
    """What its health check says: starting, healthy or unhealthy; None without one."""
    status = (container["State"].get("Health") or {}).get("Status")
    return None if status in {None, "", "none"} else str(status)


def effective(engine: Engine, container: Inspected) -> list[Any] | None:
    """The limits of its first process; None while it does not run or where they cannot be seen."""
    if not container["State"].get("Running"):
        return None
    limits = engine.process_limits(container["Id"])
    return None if limits is None else list(read_limits(limits))
