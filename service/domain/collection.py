"""Collecting garbage without corrupting what is pushed meanwhile.

A registry that runs while its storage is swept goes on to believe in what was swept: its cache
vouches for layers that are gone, the next push skips them, and the image is broken. So nothing is
pushed during a sweep (modes ``read-only`` and ``stopped``), and in every mode the registry is
restarted afterwards, before anybody can push again.

Its own container is only ever stopped and started. What serves or collects in its place is a
container of ours, made by :mod:`service.domain.recreation`, marked with the job's id, and removed
in the end. :func:`service.domain.putting_back.put_back` undoes everything at any point and as often
as one likes: a process that dies leaves a compensation behind, by which another one calls it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from service.domain.collectable import CONFIG_LIMIT, Collectable, Mode
from service.domain.collector_output import CollectorOutput
from service.domain.concurrency import spread
from service.domain.engine import Engine, EngineController
from service.domain.errors import (
    CatalogUnsupported,
    CollectionFailed,
    EngineUnreachable,
    NotCollectable,
    RegistryAdminError,
    UpstreamFailed,
)
from service.domain.job import Cancelled, JobContext
from service.domain.outer_cache import require_filled_by
from service.domain.ports import BlobCache, Registry, Writability
from service.domain.putting_back import COMPENSATION, STAYS_DOWN, compensation, put_back
from service.domain.recreation import Aside, helper, stand_in
from service.domain.reference import Digest
from service.domain.untagged import require_untagged_safe
from service.domain.verification import Verification, verify

INTERRUPTED = (
    "The service was interrupted in the middle of this collection. What was collected by then is "
    "gone, everything else is as it was, and the registry's container is started again. Start "
    "another collection."
)
READ_ONLY = {"REGISTRY_STORAGE_MAINTENANCE_READONLY": '{"enabled":true}'}
LATE = (
    "blobs became garbage after the others were measured, which can happen in mode live alone: "
    "bytes_freed leaves them out."
)
ELIGIBLE_LISTED = 1000
ANSWER_SECONDS = 60.0
"""How long a registry may take to answer after its start."""

COLLECT_SECONDS = 24 * 3600.0
LOOK_SECONDS = 0.02

STEPS: Mapping[Mode, tuple[str, ...]] = {
    "read-only": (
        "create-stand-in",
        "hold-down",
        "stop-registry",
        "start-stand-in",
        "measure",
        "collect",
    ),
    "stopped": ("hold-down", "stop-registry", "measure", "collect"),
    "live": ("measure", "collect"),
}
"""What a real run does, in order."""

AFTERWARDS = ("put-back", "prove")
"""What follows in every mode, whatever became of the run before."""


@dataclass(frozen=True, slots=True)
class Options:
    """What was asked for."""

    mode: Mode = "read-only"
    dry_run: bool = False
    delete_untagged: bool = False

    @property
    def stops(self) -> bool:
        """Tell whether the registry's container is stopped while its garbage is collected."""
        return not self.dry_run and self.mode != "live"


@dataclass(frozen=True, slots=True)
class Parts:
    """What a collection works on."""

    registry: Registry
    engine: Engine
    controller: EngineController
    target: Collectable
    version: str | None
    cache: BlobCache | None = None
    """The one outside of the registry, where it has one."""


class Collection:
    """One run of the collector for one registry."""

    def __init__(self, parts: Parts, options: Options, context: JobContext) -> None:
        """Nothing is touched yet."""
        self._parts = parts
        self._target = parts.target
        self._options = options
        self._context = context
        self._data = compensation(context.job.id, parts.target, options.mode)
        self._stand_in: str | None = None
        self._measured = CollectorOutput()
        self._collected = CollectorOutput()
        self._sizes: dict[Digest, int] = {}
        self._down = Downtime()
        self._was_read_only = False

    def run(self) -> dict[str, Any]:
        """Collect; return the result of the contract. Raise CollectionFailed or Cancelled.

        Whatever is raised, the registry's own container runs again as before, or the error says
        that it does not yet, and a compensation is left that goes on trying.
        """
        if self._options.dry_run:
            self._step("measure")
            return self._result(None)
        # One that cannot be asked now could not be proven to be well afterwards either.
        self._was_read_only = self._parts.registry.writability().read_only
        if self._parts.cache is not None and self._target.files.shared_cache:
            require_filled_by(self._parts.registry, self._parts.cache)
        self._context.compensate(COMPENSATION, self._data)
        try:
            for name in STEPS[self._options.mode]:
                self._step(name)
        except (Cancelled, RegistryAdminError) as error:
            self._put_back_after(error)
            self._context.settled(COMPENSATION)
            raise self._told(error) from error
        self._put_back_after(None)
        return self._result(self._prove())

    @property
    def gone(self) -> set[Digest]:
        """The blobs that were collected, manifests among them."""
        return self._collected.deleted or set(self._collected.eligible)

    # The steps, each under the name it has in STEPS.

    def _step(self, name: str) -> None:
        if self._context.cancel_requested():
            raise Cancelled
        self._context.step(name)
        steps: Mapping[str, Callable[[], None]] = {
            "create-stand-in": self._create_stand_in,
            "hold-down": self._hold_down,
            "stop-registry": self._stop_registry,
            "start-stand-in": self._start_stand_in,
            "measure": self._measure,
            "collect": self._collect,
        }
        steps[name]()

    def _create_stand_in(self) -> None:
        container, image = self._inspected()
        aside = Aside(self._name("stand-in"), self._context.job.id, READ_ONLY)
        self._stand_in = self._parts.controller.create(stand_in(container, image, aside))
        self._require_same_configuration(self._stand_in)

    def _hold_down(self) -> None:
        # Else it would come back when the engine restarts, and serve while its storage is swept.
        if self._target.policy != STAYS_DOWN:
            self._parts.controller.set_restart_policy(self._target.container_id, STAYS_DOWN)

    def _stop_registry(self) -> None:
        self._down.pulls.begin()
        self._down.pushes.begin()
        self._parts.controller.stop(self._target.container_id)

    def _start_stand_in(self) -> None:
        self._parts.controller.start(self._stand_in or "")
        answered = self._await_answer(self._stand_in or "")
        self._down.pulls.end()
        if answered.delete_enabled is not None and not answered.read_only:
            raise CollectionFailed(
                "The stand-in is not read-only: what is pushed during the collection could be lost."
            )

    def _measure(self) -> None:
        """Find out what is eligible, and how large it is: the collector prints no sizes."""
        if self._options.delete_untagged and self._stand_in:
            # Nothing is pushed any more: an index that came since the first look would be broken.
            require_untagged_safe(self._parts.registry, self._parts.version)
        self._run(self._measured, dry_run=True)
        self._context.log("info", f"{self._measured.blobs_eligible} blobs are eligible")
        self._sizes = self._sizes_of(self._measured.eligible)

    def _collect(self) -> None:
        self._context.beyond_return()
        if self._target.files.shared_cache:
            self._data["forget"] = True
            self._context.compensate(COMPENSATION, self._data)
        self._run(self._collected, dry_run=False)

    # Running the collector.

    def _run(self, output: CollectorOutput, *, dry_run: bool) -> None:
        command = self._target.command(
            dry_run=dry_run, delete_untagged=self._options.delete_untagged
        )
        exit_code = self._execute(command, self._following(output), dry_run=dry_run)
        if dry_run and self._context.cancel_requested():
            raise Cancelled
        failure = output.verdict(exit_code)
        if failure:
            raise CollectionFailed(f"The collector failed: {failure}.")

    def _execute(
        self, command: Sequence[str], output: Callable[..., None], *, dry_run: bool
    ) -> int | None:
        stop = self._context.cancel_requested if dry_run else lambda: False
        controller = self._parts.controller
        if self._options.mode == "stopped" and not self._options.dry_run:
            container_id = self._create_helper(command, "measure" if dry_run else "collect")
            controller.start(container_id)
            return controller.wait(container_id, output, stop, COLLECT_SECONDS)
        container_id = self._stand_in or self._target.container_id
        return controller.execute(container_id, command, output, stop, COLLECT_SECONDS)

    def _create_helper(self, command: Sequence[str], purpose: str) -> str:
        container, image = self._inspected()
        aside = Aside(self._name(purpose), self._context.job.id)
        container_id = self._parts.controller.create(helper(container, image, aside, command))
        self._require_same_configuration(container_id)
        return container_id

    def _require_same_configuration(self, container_id: str) -> None:
        """Refuse a configuration that was copied into the container: ours have the image's."""
        path, engine = self._target.config_path, self._parts.engine
        own = engine.read_file(self._target.container_id, path, CONFIG_LIMIT)
        if engine.read_file(container_id, path, CONFIG_LIMIT) != own:
            raise NotCollectable(
                f"The file {path} of '{self._target.name}' was changed in the container itself, "
                "so that nothing could serve or collect in its place. Mount it from outside."
            )

    def _following(self, output: CollectorOutput) -> Callable[[str, bytes], None]:
        def take(_: str, line: bytes) -> None:
            output.feed(line)
            if output.phase == "marking":
                self._context.progress(output.marks, None)
            else:
                self._context.progress(len(output.deleted), output.blobs_eligible)

        return take

    def _sizes_of(self, digests: Sequence[Digest]) -> dict[Digest, int]:
        through = self._stand_in or self._target.container_id
        files, engine = self._target.files, self._parts.engine

        def size(digest: Digest) -> int | None:
            path = files.blob_path(digest)
            return engine.file_size(through, path) if path else None

        found = zip(digests, spread(size, digests), strict=True)
        return {digest: size for digest, size in found if size is not None}

    # Before and after.

    def _inspected(self) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
        engine, target = self._parts.engine, self._target
        return engine.container(target.container_id), engine.image(target.image_id)

    def _name(self, purpose: str) -> str:
        return f"{self._target.name}-{purpose}-{self._context.job.id[:12]}"

    def _put_back(self) -> None:
        self._context.step("put-back")
        self._down.pulls.begin()
        self._down.pushes.begin()
        parts = self._parts
        put_back(parts.engine, parts.controller, parts.cache, self._data)

    def _put_back_after(self, error: Exception | None) -> None:
        try:
            self._put_back()
        except RegistryAdminError as second:
            before = f"{error} Besides, the" if error else "Garbage is collected, but the"
            raise CollectionFailed(
                f"{before} registry's container '{self._target.name}' could not be put back: "
                f"{second} This is tried again every few seconds until it is done."
            ) from second

    def _told(self, error: Exception) -> Exception:
        """What to raise for an error, once the registry answers that was put back."""
        cancelled = isinstance(error, Cancelled)
        cause = "The collection was cancelled." if cancelled else str(error)
        try:
            self._await_answer(self._target.container_id)
        except CollectionFailed as second:
            return CollectionFailed(
                f"{cause} The registry's container '{self._target.name}' is as before, but: "
                f"{second}"
            )
        if cancelled:
            return error
        return CollectionFailed(
            f"{cause} The registry's container '{self._target.name}' runs again as before. "
            "Start another collection once the cause is gone."
        )

    def _await_answer(self, container_id: str) -> Writability:
        """Wait until the registry answers that was started in a container."""
        deadline = time.monotonic() + ANSWER_SECONDS
        while True:
            try:
                return self._parts.registry.writability()
            except UpstreamFailed as error:
                self._require_hope(container_id, deadline, error)
            time.sleep(LOOK_SECONDS)

    def _require_hope(self, container_id: str, deadline: float, error: UpstreamFailed) -> None:
        """Raise CollectionFailed where it makes no sense to wait any longer for an answer."""
        if time.monotonic() > deadline:
            raise CollectionFailed(
                f"The registry does not answer {ANSWER_SECONDS:.0f} s after its start: {error}"
            ) from error
        with suppress(EngineUnreachable):  # it may be back in time
            state = self._parts.engine.container(container_id)["State"]
            if not state["Running"]:
                raise CollectionFailed(
                    f"The registry ended with exit code {state.get('ExitCode')} after its start, "
                    f"or the engine with it. {error}"
                )

    def _prove(self) -> Verification | None:
        """Hold that all is well; before that, what puts it back is not forgotten."""
        self._context.step("prove")
        answered = self._await_answer(self._target.container_id)
        self._context.settled(COMPENSATION)
        self._down.pulls.end()
        self._down.pushes.end()
        name = self._parts.registry.name
        if answered.read_only and not self._was_read_only:
            raise CollectionFailed(
                f"The collection is done, but the registry '{name}' answers read-only although its "
                "own container was started again. Look at its storage."
            )
        try:
            return verify(self._parts.registry, self._context.progress)
        except CatalogUnsupported as error:
            self._context.log("warning", f"What it holds is not looked at: {error}")
            return None
        except UpstreamFailed as error:
            raise CollectionFailed(
                f"Garbage is collected, and the registry '{name}' runs again as before. But what "
                f"it holds could not be looked at to the end: {error} Start a verification."
            ) from error

    def _result(self, verification: Verification | None) -> dict[str, Any]:
        options, measured, gone = self._options, self._measured, self.gone
        visible = self._target.files.root is not None
        unmeasured = len(gone - self._sizes.keys()) if visible else len(gone)
        if visible and unmeasured:
            self._context.log("warning", f"{unmeasured} {LATE}")
        counted = measured if options.dry_run else self._collected
        return {
            "mode": options.mode,
            "dry_run": options.dry_run,
            "delete_untagged": options.delete_untagged,
            "registry_version": self._parts.version,
            "blobs_marked": counted.blobs_marked or 0,
            "blobs_eligible": counted.blobs_eligible,
            "manifests_eligible": counted.manifests_eligible,
            "blobs_deleted": len(gone),
            "bytes_eligible": sum(self._sizes.values()) if visible else None,
            "bytes_freed": sum(self._sizes.get(one, 0) for one in gone) if visible else None,
            "blobs_unmeasured": unmeasured,
            "eligible": sorted(counted.eligible)[:ELIGIBLE_LISTED],
            "pulls_down_seconds": round(self._down.pulls.total, 3),
            "pushes_down_seconds": round(self._down.pushes.total, 3),
            "verified": verification.counts() if verification else None,
        }


@dataclass(slots=True)
class Stopwatch:
    """Adds up intervals; beginning one that runs goes on with it."""

    total: float = 0.0
    begun: float | None = None

    def begin(self) -> None:
        """Begin an interval."""
        if self.begun is None:
            self.begun = time.monotonic()

    def end(self) -> None:
        """End it."""
        if self.begun is not None:
            self.total += time.monotonic() - self.begun
            self.begun = None


@dataclass(slots=True)
class Downtime:
    """How long pulls and pushes could not be served."""

    pulls: Stopwatch = field(default_factory=Stopwatch)
    pushes: Stopwatch = field(default_factory=Stopwatch)
