"""Kinds of jobs for tests: they do what their params say."""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from collections.abc import Mapping
from typing import Any

from service.domain.errors import EngineUnreachable
from service.domain.job import Cancelled, Job, JobContext, JobKind, Tell, Work

PATIENCE = 60.0
"""Seconds after which a job that waits for its test goes on: the test has failed by then."""


class World:
    """What the jobs of a test meet, and what they did."""

    def __init__(self) -> None:
        self.events: list[str] = []
        self.gates: defaultdict[str, threading.Event] = defaultdict(threading.Event)
        self.inside: defaultdict[str, int] = defaultdict(int)
        self.overlaps: list[str] = []
        self.put_back: list[tuple[str, Mapping[str, Any]]] = []
        self.engine_is_down = threading.Event()
        self._lock = threading.Lock()

    def note(self, event: str) -> None:
        with self._lock:
            self.events.append(event)

    def enter(self, what: str) -> None:
        with self._lock:
            self.inside[what] += 1
            if self.inside[what] > 1:
                self.overlaps.append(what)

    def leave(self, what: str) -> None:
        with self._lock:
            self.inside[what] -= 1

    def works(self) -> list[Work]:
        compensators = {"start-again": self._start_again, "remove": self._start_again}
        return [
            Work(JobKind("plain", "registry:read"), self._run, compensators),
            Work(JobKind("single", "gc:run", single=True), self._run),
            Work(JobKind("bulk", "registry:delete", bulk=True), self._run),
        ]

    def _start_again(self, job: Job, data: Mapping[str, Any], tell: Tell) -> None:
        if self.engine_is_down.is_set():
            raise EngineUnreachable("The engine does not answer.")
        self.put_back.append((job.id, data))
        tell("info", f"started {data['container']} again")

    def _run(self, context: JobContext) -> Mapping[str, Any]:
        params = context.job.params
        name = params.get("name", context.job.id)
        self.note(f"begin {name}")
        self.enter(params.get("thing", name))
        try:
            return self._do(context, params, name)
        finally:
            self.leave(params.get("thing", name))
            self.note(f"end {name}")

    def _do(self, context: JobContext, params: Mapping[str, Any], name: str) -> Mapping[str, Any]:
        context.step("first")
        for kind, data in params.get("compensate", ()):
            context.compensate(kind, data)
        for kinds in params.get("settle", ()):
            context.settled(*kinds)
        for number in range(params.get("lines", 0)):
            context.log("debug", f"line {number}")
        if params.get("beyond"):
            context.beyond_return()
            self.note(f"beyond {name}")
        self._linger(context, params)
        if "fail" in params:
            raise FAILURES[params["fail"]]
        context.step("last")
        context.progress(2, 2)
        result: Mapping[str, Any] = params.get("result", {"done": True})
        return result

    def _linger(self, context: JobContext, params: Mapping[str, Any]) -> None:
        if "gate" in params:
            self.gates[params["gate"]].wait(PATIENCE)
        time.sleep(params.get("sleep", 0))
        deadline = time.monotonic() + params.get("cancellable", 0)
        while time.monotonic() < deadline:
            if context.cancel_requested():
                raise Cancelled({"stopped": "in time"})
            time.sleep(0.01)


FAILURES: Mapping[str, Exception] = {
    "known": EngineUnreachable("The engine does not answer.", {"engine": "local"}),
    "unforeseen": ValueError("secret words"),
}
