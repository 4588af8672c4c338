"""Collections that cannot go well: each is told clearly, and the registry is as it was."""

from __future__ import annotations

import os
import socket
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from demo.images import digest_of
from demo.processes import wait_until
from service.domain.collectable import MODES, Mode
from tests.e2e.bed.api import problem
from tests.e2e.bed.collecting import (
    LIVE,
    RESTARTS,
    Site,
    await_step,
    ended,
    inspected,
    is_writable,
    leftovers,
    start,
)
from tests.e2e.bed.engine import REGISTRY_CONFIG, Engine
from tests.e2e.bed.registry import MakeRegistry, RunningRegistry, Shape, open_registry
from tests.e2e.bed.relay import SocketRelay
from tests.e2e.bed.service import MakeService
from tests.e2e.bed.workspace import Workspace, unmount

BACK_SECONDS = 15.0
ENDED = {"succeeded", "failed", "cancelled"}
POWERLESS = ("setpriv", "--bounding-set", "-dac_override,-dac_read_search", "--")
"""How root is made to heed the modes of files."""


@contextmanager
def odd_registry(engine: Engine, **shape: Any) -> Iterator[RunningRegistry]:  # noqa: ANN401
    """A registry whose collector does what a test wants."""
    image = engine.odd_registry_image()
    with removing(open_registry(engine, image, Shape(**{"run": RESTARTS, **shape}))) as made:
        yield made


@contextmanager
def removing(made: RunningRegistry) -> Iterator[RunningRegistry]:
    """Remove a registry in the end."""
    try:
        yield made
    finally:
        made.remove()


@pytest.fixture
def odd(engine: Engine, service: MakeService) -> Iterator[Site]:
    with odd_registry(engine) as made:
        yield Site(made, service(made))


def require_told(site: Site, mode: Mode, *words: str) -> None:
    """Hold that a collection fails, says why, and leaves all as it was."""
    before = inspected(site.registry)
    job = ended(site.service, mode=mode, **LIVE.get(mode, {}))
    assert (job["state"], job["result"]) == ("failed", None)
    assert job["error"]["code"] == "collection-failed"
    for word in (*words, "runs again as before"):
        assert word in job["error"]["detail"]
    site.require_as_before(before)


# What the image's registry says.

REAL = 'case "$*" in *--dry-run*) ;; *) {} ;; esac'
UNKNOWN = "echo 'Usage: registry [flags]'; exit 0"
NOISE = "head -c 100000 /dev/urandom; exit 3"
FULL = "echo 'failed to garbage collect: write /x: no space left on device' >&2; exit 1"
SAID: tuple[tuple[str, tuple[Mode, ...], str], ...] = (
    (REAL.format(UNKNOWN), MODES, "without its summary line"),
    (UNKNOWN, ("live",), "without its summary line"),
    (NOISE, ("read-only",), "exit code 3"),
    (REAL.format(NOISE), ("stopped",), "exit code 3"),
    (REAL.format(FULL), ("stopped",), "no space left on device"),
    (REAL.format("kill -9 $$"), ("read-only",), "exit code 137"),
)


def test_a_collector_that_says_something_unknown(odd: Site) -> None:
    for script, modes, words in SAID:
        for mode in modes:
            (odd.registry.folder / "collect").write_text(script)
            require_told(odd, mode, words)
    (odd.registry.folder / "collect").unlink()
    assert odd.collect("read-only")["blobs_deleted"] > 0


# A disk that is full.


@contextmanager
def small(registry: RunningRegistry, mebibytes: int) -> Iterator[Path]:
    """Have a registry store on a disk of that size."""
    registry.stop()
    place = registry.storage()
    subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={mebibytes}m", "bed", str(place)], check=True
    )
    try:
        registry.start()
        yield place
        registry.stop()
    finally:
        unmount(place)


def fill(place: Path) -> None:
    """Leave not a byte."""
    with (place / "filler").open("wb", buffering=0) as filler, suppress(OSError):
        while filler.write(b"x" * 4096):
            pass


def test_a_disk_that_is_full_is_what_a_collection_is_for(
    registry: MakeRegistry, service: MakeService
) -> None:
    made = registry(run=RESTARTS)
    site = Site(made, service(made))
    for mode in MODES:
        with small(made, 4) as place:
            site.fill()
            fill(place)
            assert not is_writable(made)
            before = inspected(made)
            assert site.collect(mode)["bytes_freed"] > 0
            site.require_as_before(before)


# The engine's socket.


def test_a_socket_that_may_not_be_used(
    registry: MakeRegistry, service: MakeService, workspace: Workspace
) -> None:
    made = registry(run=RESTARTS)
    path = workspace.folder("refused") / "docker.sock"
    with closing(socket.socket(socket.AF_UNIX)) as listener:
        listener.bind(str(path))
        listener.listen()
        path.chmod(0)
        engines = {"engines": {"local": {"url": f"unix://{path}"}}}
        refused = service(made, settings=engines, start=False)
        refused.prefix = POWERLESS if os.geteuid() == 0 else ()
        refused.start()
        before = inspected(made)
        for mode in MODES:
            answer = start(refused, mode=mode, **LIVE.get(mode, {}))
            told = problem(answer, 502, "engine-unreachable")["detail"]
            assert "May the service's user use the socket" in told
        assert inspected(made) == before


def test_a_socket_that_goes_away_meanwhile(
    registry: MakeRegistry, service: MakeService, workspace: Workspace
) -> None:
    made = registry(run=RESTARTS)
    folder = workspace.folder("relay")
    relay = SocketRelay(folder / "docker.sock", made.engine.host.removeprefix("unix://"))
    with closing(relay):
        site = Site(made, service(made, settings={"engines": {"local": {"url": relay.url}}}))
        for mode in MODES:
            require_back_after_a_cut(site, relay, mode)


def require_back_after_a_cut(site: Site, relay: SocketRelay, mode: Mode) -> None:
    """Cut the socket in the middle; hold that it is told, and all is back soon after it is."""
    site.fill()
    made, before = site.registry, inspected(site.registry)
    job = site.start(mode)
    await_step(site.service, "measure")
    relay.close()
    wait_until(lambda: site.state(job) in ENDED, 60, "ended")
    error = site.service.ask(f"/v1/jobs/{job}").json()["error"]
    assert error["code"] == "collection-failed"
    assert "could not be put back" in error["detail"]
    assert "tried again" in error["detail"]
    relay.open()
    wait_until(lambda: leftovers(made) == [], BACK_SECONDS, "nothing left")
    wait_until(lambda: is_writable(made), BACK_SECONDS, "writable")
    wait_until(lambda: inspected(made) == before, BACK_SECONDS, "as before")
    site.require_as_before(before)


# Containers that are none of a registry, or not well.


@contextmanager
def container(engine: Engine, name: str, *command: str, **options: Any) -> Iterator[str]:  # noqa: ANN401
    """A container of busybox, which runs."""
    whole = f"{name}-{engine.workspace.owner}"
    made = engine.client.containers.create(
        engine.busybox_image(),
        list(command),
        name=whole,
        network_mode="none",
        labels=engine.labels,
        **options,
    )
    made.start()
    try:
        yield whole
    finally:
        made.remove(force=True)


def test_what_is_no_registry_or_restarts_in_a_loop(
    engine: Engine, registry: MakeRegistry, service: MakeService
) -> None:
    made = registry(run=RESTARTS)
    with ExitStack() as stack:
        enter = stack.enter_context
        other = enter(container(engine, "other", "sleep", "600"))
        named = enter(container(engine, "named", "sh", "-c", "exec sleep 600", "/config.yml"))
        loop = enter(container(engine, "loop", "sh", "-c", "exit 1", **RESTARTS))
        asked = service(made)
        cases = [
            (other, "REGISTRY_CONFIGURATION_PATH"),
            (named, "missing or no registry configuration"),
            (loop, "restarting"),
        ]
        for name, words in cases:
            table = {"url": made.url, "container": name}
            engines = {"local": {"url": engine.host}}
            asked.configure({"registries": {"default": table}, "engines": engines})
            asked.restart()
            wait_until(lambda: is_settled(engine, name), 60, "running, or long between")  # noqa: B023
            identity = engine.client.containers.get(name).attrs["Config"]
            for mode in MODES:
                answer = start(asked, mode=mode, **LIVE.get(mode, {}))
                assert words in problem(answer, 409, "registry-not-collectable")["detail"]
            assert engine.client.containers.get(name).attrs["Config"] == identity
            assert leftovers(made) == []


def is_settled(engine: Engine, name: str) -> bool:
    """Tell whether a container runs; one that ends over and over must be waiting for long."""
    found = engine.client.containers.get(name).attrs
    loops = found["HostConfig"]["RestartPolicy"]["Name"] == "always"
    return not loops or (found["RestartCount"] > 6 and found["State"]["Restarting"])


# Registries of other shapes.

STARTER = 'exec /bin/registry serve "$REGISTRY_CONFIGURATION_PATH"'


def test_a_registry_that_a_script_starts(engine: Engine, service: MakeService) -> None:
    run = {**RESTARTS, "entrypoint": ["/bin/sh", "-c", STARTER], "command": []}
    path = {"REGISTRY_CONFIGURATION_PATH": "/etc/docker/registry/config.yml"}
    with odd_registry(engine, run=run, env=path) as made:
        require_collected(Site(made, service(made)))


def test_the_official_image_s_script(engine: Engine, service: MakeService) -> None:
    image = engine.scripted_registry_image()
    with removing(open_registry(engine, image, Shape())) as made:  # no policy is spelt two ways
        assert made.container.attrs["Args"] == ["/etc/distribution/config.yml"]
        require_collected(Site(made, service(made)))


def require_collected(site: Site) -> None:
    """Hold that all modes collect, as a dry run tells before."""
    for mode in MODES:
        site.fill()
        before = inspected(site.registry)
        told = site.collect(mode, dry_run=True)
        result = site.collect(mode)
        assert result["blobs_deleted"] == told["blobs_eligible"] > 0
        assert result["bytes_freed"] == told["bytes_eligible"] > 0
        assert result["registry_version"]
        site.require_as_before(before)


SHAPE: dict[str, Any] = {
    "tls": True,
    "htpasswd": ("collector", "of garbage"),
    "env": {"REGISTRY_HTTP_SECRET": "of the bed"},
    "root": "/var/lib/registry/other/root",
    "config": REGISTRY_CONFIG.replace(b"addr: :5000", b"addr: 127.0.0.1:1"),
    "run": RESTARTS,
}


def test_a_guarded_registry_with_a_root_and_a_configuration_of_its_own(
    registry: MakeRegistry, service: MakeService
) -> None:
    made = registry(**SHAPE)
    site = Site(made, service(made))
    for mode in MODES:
        site.fill()
        before = inspected(made)
        result = site.collect(mode)
        assert result["bytes_freed"] == result["bytes_eligible"] > 0
        assert result["blobs_unmeasured"] == 0
        assert not made.blob_path(digest_of(site.doomed.blobs[-1])).exists()
        site.require_as_before(before)
