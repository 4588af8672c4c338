"""Containers of a real engine: which there are, how they are, restarts and restart policies."""

from __future__ import annotations

import itertools
import os
import sqlite3
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import pytest
from docker.models.containers import Container
from docker.types import Ulimit

from demo.processes import free_port, wait_until
from service.adapters.engine.transport import CHANGE_SECONDS
from service.domain.ulimits import read_limits
from tests.e2e.bed.api import at_once, get, pages, problem
from tests.e2e.bed.clients import DockerCommand
from tests.e2e.bed.collecting import RESTARTS, await_step, database, ended, start
from tests.e2e.bed.engine import Engine
from tests.e2e.bed.http import Answer
from tests.e2e.bed.registry import MakeRegistry
from tests.e2e.bed.relay import SocketRelay
from tests.e2e.bed.service import MakeService, Service, engine_table

CONTAINERS = "/v1/containers"
NUMBERS = itertools.count(1)
SLEEP = ("sleep", "600")
SLOW = "rm -f /ready; trap 'sleep SECONDS; exit 0' TERM; touch /ready; while :; do sleep 0.1; done"
"""Takes its time to stop: an engine that does not give it kills it."""

ENDED = {"succeeded", "failed", "cancelled"}
SECOND = 1_000_000_000  # nanoseconds, as health checks are told

Make = Callable[..., Container]


@pytest.fixture(scope="module")
def make(engine: Engine) -> Iterator[Make]:
    """Run containers: `make("web", *command, **run)`; names begin so."""
    with ExitStack() as stack:

        def run(kind: str, *command: str, **options: Any) -> Container:  # noqa: ANN401
            labels = {**engine.labels, **options.pop("labels", {})}
            made = engine.client.containers.create(
                options.pop("image", None) or engine.busybox_image(),
                list(command or SLEEP),
                name=f"{kind}-{engine.workspace.owner}-{next(NUMBERS)}",
                labels=labels,
                **{"network_mode": "none", "stop_signal": "SIGKILL", **options},
            )
            stack.callback(made.remove, force=True)
            made.start()
            return made

        yield run


@pytest.fixture
def make_slow(engine: Engine, docker_command: DockerCommand) -> Iterator[Make]:
    """Run containers that take `seconds` to stop, and may take `patience`."""
    with ExitStack() as stack:

        def run(patience: int, seconds: int = 4) -> Container:
            name = f"web-{engine.workspace.owner}-{next(NUMBERS)}"
            label = next(f"{key}={value}" for key, value in engine.labels.items())
            flags = ["--name", name, "--label", label, "--stop-timeout", str(patience)]
            script = SLOW.replace("SECONDS", str(seconds))
            image = engine.busybox_image()
            docker_command("run", "-d", "--net=none", *flags, image, "sh", "-c", script)
            made = engine.client.containers.get(name)
            stack.callback(made.remove, force=True)
            await_ready(made)
            return made

        yield run


def await_ready(slow: Container) -> None:
    wait_until(lambda: slow.exec_run(["ls", "/ready"]).exit_code == 0, 30, "it can be stopped")


@pytest.fixture(scope="module")
def bed(module_service: MakeService, engine: Engine) -> Service:
    """A service that may see whatever is named `web-*`."""
    return module_service(settings={"engines": {"local": engine_table(engine, "web-*")}})


def path(container: Container, what: str = "") -> str:
    return f"{CONTAINERS}/{container.name}{what}"


def state(container: Container) -> Mapping[str, Any]:
    container.reload()
    found: Mapping[str, Any] = container.attrs
    return found


def restart(bed: Service, container: Container, **body: object) -> Any:  # noqa: ANN401 - JSON
    """Restart it; give the job when it has ended."""
    return ended(bed, path(container, "/restart"), **body)


def set_policy(bed: Service, container: Container, **body: object) -> Answer:
    return bed.ask(path(container, "/restart-policy"), "PUT", body=body)


# Which there are.


def test_what_is_allowed_is_there_and_nothing_else(bed: Service, make: Make) -> None:
    web, other = make("web"), make("other")
    labelled = make("other", labels={"registry-admin.enable": "true"})
    ours = make("web", labels={"registry-admin.job": "0"})
    names = [one["name"] for one in pages(bed, CONTAINERS, n=1)]
    assert {web.name, labelled.name} <= set(names)
    assert not {other.name, ours.name} & set(names)
    assert names == sorted(set(names))
    hidden = (other.name, ours.name, "absent", other.id, other.short_id)
    for what, method in (("", "GET"), ("/changes", "GET"), ("/core-dumps", "GET"),
                         ("/restart", "POST"), ("/restart-policy", "PUT")):  # fmt: skip
        body = {"POST": {}, "PUT": {"name": "no"}, "GET": None}[method]
        said = {
            problem(bed.ask(f"{CONTAINERS}/{name}{what}", method, body=body), 404,
                    "container-unknown")["detail"].replace(str(name), "NAME")
            for name in hidden
        }  # fmt: skip
        assert len(said) == 1
    assert state(other)["State"]["Running"]


def test_a_registry_s_own_is_there_without_being_named(
    registry: MakeRegistry, service: MakeService
) -> None:
    made = registry()
    bed = service(made)
    assert made.name in [one["name"] for one in pages(bed, CONTAINERS)]
    limited = bed.token("container:read", registry="default")
    listed = bed.ask(CONTAINERS, token=limited).json()["items"]
    assert [one["name"] for one in listed] == [made.name]
    assert bed.ask(f"{CONTAINERS}/{made.name}", token=limited).status == 200
    problem(bed.ask(f"{CONTAINERS}/absent", token=limited), 403, "insufficient-scope")


def test_a_container_is_told_as_it_is(bed: Service, make: Make, engine: Engine) -> None:
    made = make(
        "web",
        ulimits=[Ulimit(name="nofile", soft=100, hard=200), Ulimit(name="core", soft=-1, hard=-1)],
        restart_policy={"Name": "on-failure", "MaximumRetryCount": 3},
        labels={"com.docker.compose.project": "shop"},
    )
    made.exec_run(["sh", "-c", "printf 12345 > /note"])
    told, attrs = get(bed, path(made)), state(made)
    effective = told.pop("effective_ulimits")
    begun = told.pop("started_at")
    assert attrs["State"]["StartedAt"].startswith(begun.removesuffix("Z")[:23])
    assert told == {
        "name": made.name,
        "engine": "local",
        "id": made.id,
        "image": engine.busybox_image(),
        "image_id": attrs["Image"],
        "state": "running",
        "health": None,
        "restart_policy": {"name": "on-failure", "maximum_retry_count": 3},
        "ulimits": [
            {"name": "core", "soft": -1, "hard": -1},
            {"name": "nofile", "soft": 100, "hard": 200},
        ],
        "restart_count": 0,
        "compose_project": "shop",
        "writable_layer_size": 5,
    }
    said = made.exec_run(["cat", "/proc/1/limits"]).output
    assert isinstance(said, bytes)
    assert effective == [
        {"name": one.name, "soft": one.soft, "hard": one.hard} for one in read_limits(said)
    ]
    assert {"name": "nofile", "soft": 100, "hard": 200} in effective
    head = bed.ask(path(made), "HEAD")
    assert (head.status, head.body) == (200, b"")
    made.stop()
    stopped = get(bed, path(made))
    assert (stopped["state"], stopped["effective_ulimits"]) == ("exited", None)


def test_changes_of_the_layer(bed: Service, make: Make) -> None:
    made = make("web")
    said = made.exec_run(["sh", "-c", "rm /bin/vi; echo 1234 > /a\\ b; mkdir /d; touch /d/ümlaut"])
    assert said.exit_code == 0
    found = [(one["path"], one["kind"]) for one in pages(bed, path(made, "/changes"), n=2)]
    assert sorted(found) == [
        ("/a b", "added"),
        ("/bin", "modified"),
        ("/bin/vi", "deleted"),
        ("/d", "added"),
        ("/d/ümlaut", "added"),
    ]
    assert get(bed, path(made, "/changes"))["size"] == 5


# Restarts.


def test_a_restart_runs_again_with_all_as_it_was(bed: Service, make: Make) -> None:
    made = make("web", restart_policy={"Name": "always"})
    made.exec_run(["touch", "/kept"])
    before = state(made)
    job = restart(bed, made)
    after = state(made)
    assert (job["kind"], job["state"]) == ("container-restart", "succeeded"), job["error"]
    assert job["result"]["started_at"] == after["State"]["StartedAt"]
    assert after["State"]["StartedAt"] > before["State"]["StartedAt"]
    assert (after["Id"], after["HostConfig"]) == (before["Id"], before["HostConfig"])
    assert made.exec_run(["ls", "/kept"]).exit_code == 0


def test_its_own_stop_time_out_is_honoured_or_the_one_asked_for(
    bed: Service, engine: Engine, make_slow: Make
) -> None:
    """A time-out of ten seconds that a client sends unasked would be the wrong one for both."""
    patient, hasty, hurried = make_slow(30, seconds=12), make_slow(1), make_slow(30, seconds=12)
    exits = at_once(
        [
            lambda: stop_exit(bed, engine, patient),
            lambda: stop_exit(bed, engine, hasty),
            lambda: stop_exit(bed, engine, hurried, timeout=1),
        ]
    )
    assert exits == ["0", "137", "137"]


def stop_exit(bed: Service, engine: Engine, made: Container, **body: object) -> str:
    """Restart it; give the exit code that the engine saw of what had run before."""
    begun = int(time.time())
    assert restart(bed, made, **body)["state"] == "succeeded"
    await_ready(made)
    mine = {"container": made.id, "event": "die"}
    until = int(time.time()) + 1
    events = engine.client.events(since=begun, until=until, filters=mine, decode=True)
    (died,) = list(events)
    return str(died["Actor"]["Attributes"]["exitCode"])


@pytest.mark.soak
@pytest.mark.timeout(300)
def test_one_that_takes_longer_to_stop_than_any_call_waits_else(
    bed: Service, make_slow: Make
) -> None:
    made = make_slow(200, seconds=int(CHANGE_SECONDS) + 10)
    where = start(bed, path(made, "/restart")).headers["location"]
    wait_until(lambda: get(bed, where)["state"] not in {"queued", "running"}, 200, "it has ended")
    assert get(bed, where)["state"] == "succeeded"


@pytest.mark.parametrize(("check", "verdict"), [("test -e /well", "healthy"), ("exit 1", "failed")])
def test_a_health_check_decides(bed: Service, make: Make, check: str, verdict: str) -> None:
    health = {"test": ["CMD-SHELL", check], "interval": SECOND, "retries": 2, "timeout": SECOND}
    made = make("web", "sh", "-c", "sleep 2; touch /well; sleep 600", healthcheck=health)
    job = restart(bed, made)
    if verdict == "healthy":
        assert (job["state"], job["result"]["health"]) == ("succeeded", "healthy"), job["error"]
    else:
        assert (job["state"], job["error"]["code"]) == ("failed", "restart-failed")
        assert "health check" in job["error"]["detail"]
    assert state(made)["State"]["Running"]


def test_one_that_ends_at_once_fails_with_the_reason_and_its_last_lines(
    bed: Service, make: Make
) -> None:
    once = "if [ -e /once ]; then echo no such host >&2; exit 3; fi; touch /once; sleep 600"
    for policy in ("no", "always"):
        made = make("web", "sh", "-c", once, restart_policy={"Name": policy})
        wait_until(lambda: made.exec_run(["ls", "/once"]).exit_code == 0, 30, "ran once")  # noqa: B023
        job = restart(bed, made)
        assert (job["state"], job["error"]["code"]) == ("failed", "restart-failed")
        assert "ended right after its start" in job["error"]["detail"]
        lines = [one["message"] for one in get(bed, f"/v1/jobs/{job['id']}/log")["items"]]
        assert "no such host" in lines


def test_stopped_ones_are_started_and_paused_ones_refused(bed: Service, make: Make) -> None:
    made = make("web")
    made.stop()
    assert restart(bed, made)["state"] == "succeeded"
    assert state(made)["State"]["Running"]
    made.pause()
    answer = problem(start(bed, path(made, "/restart")), 409, "container-not-running")
    assert "paused" in answer["detail"]
    assert state(made)["State"]["Paused"]


def test_killed_in_the_middle_it_runs_afterwards(bed: Service, make_slow: Make) -> None:
    struck = []
    for step in ("restart", "prove"):
        made = make_slow(20, seconds=2)
        begun = state(made)["State"]["StartedAt"]
        struck.append((made, begun, start(bed, path(made, "/restart")).headers["location"]))
        await_step(bed, step)
        bed.kill()
        bed.start()
    for made, begun, where in struck:
        wait_until(lambda: get(bed, where)["state"] in ENDED, 60, "it has ended")  # noqa: B023
        assert get(bed, where)["state"] == "succeeded", get(bed, where)
        require_runs_anew(bed, made, begun)


def test_an_engine_that_dies_in_the_middle_starts_it_once_it_is_back(
    bed: Service, engine: Engine, make_slow: Make
) -> None:
    made = make_slow(30, seconds=20)
    begun = state(made)["State"]["StartedAt"]
    where = start(bed, path(made, "/restart")).headers["location"]
    await_step(bed, "restart")
    engine.restart()
    wait_until(lambda: get(bed, where)["state"] in ENDED, 60, "it has ended")
    job = get(bed, where)
    assert (job["state"], job["error"]["code"]) == ("failed", "engine-unreachable")
    require_runs_anew(bed, made, begun)


def require_runs_anew(bed: Service, made: Container, begun: str) -> None:
    def settled() -> bool:
        with closing(sqlite3.connect(database(bed))) as connection:
            (left,) = connection.execute("SELECT count(*) FROM compensation").fetchone()
        return bool(state(made)["State"]["Running"]) and left == 0

    wait_until(settled, 60, "it runs, and nothing is left to do")
    assert state(made)["State"]["StartedAt"] > begun


def test_a_registry_is_not_restarted_while_it_is_collected(
    registry: MakeRegistry, service: MakeService
) -> None:
    made = registry(run=RESTARTS)
    bed = service(made)
    running = start(bed, mode="stopped")
    assert running.status == 202
    own = f"{CONTAINERS}/{made.name}"
    refused = bed.ask(f"{own}/restart", "POST", body={})
    policy = bed.ask(f"{own}/restart-policy", "PUT", body={"name": "no"})
    where = running.headers["location"]
    wait_until(lambda: get(bed, where)["state"] in {"succeeded", "failed"}, 60, "collected")
    for answer in (refused, policy):
        assert problem(answer, 409, "gc-already-active")["job"] == running.json()["id"]
    assert get(bed, where)["state"] == "succeeded"
    assert ended(bed, f"{own}/restart")["state"] == "succeeded"
    assert get(bed, own)["restart_policy"]["name"] == "always"


# Restart policies.


def test_always_becomes_no_at_once_and_without_a_restart(bed: Service, make: Make) -> None:
    made = make("web", restart_policy={"Name": "always"})
    before = state(made)
    answer = set_policy(bed, made, name="no")
    assert answer.status == 200
    assert answer.json()["restart_policy"] == {"name": "no", "maximum_retry_count": 0}
    after = state(made)
    assert after["HostConfig"]["RestartPolicy"]["Name"] == "no"
    assert after["State"] == before["State"]
    made.kill("KILL")
    made.wait()
    assert state(made)["State"]["Status"] == "exited"
    (event,) = get(bed, "/v1/audit-events", container=made.name)["items"]
    assert (event["action"], event["outcome"]) == ("container.restart-policy", "succeeded")


@pytest.mark.parametrize(
    ("body", "stored"),
    [
        ({"name": "always"}, ("always", 0)),
        ({"name": "unless-stopped"}, ("unless-stopped", 0)),
        ({"name": "on-failure"}, ("on-failure", 0)),
        ({"name": "on-failure", "maximum_retry_count": 5}, ("on-failure", 5)),
    ],
)
def test_every_policy_is_the_engine_s(
    bed: Service, make: Make, body: dict[str, object], stored: tuple[str, int]
) -> None:
    made = make("web")
    assert set_policy(bed, made, **body).status == 200
    policy = state(made)["HostConfig"]["RestartPolicy"]
    assert (policy["Name"], policy["MaximumRetryCount"]) == stored


@pytest.mark.parametrize(
    "body",
    [
        {"name": "always", "maximum_retry_count": 1},
        {"name": "on-failure", "maximum_retry_count": -1},
        {"name": "sometimes"},
        {},
    ],
)
def test_a_policy_that_means_nothing_changes_nothing(
    bed: Service, make: Make, body: dict[str, object]
) -> None:
    made = make("web", restart_policy={"Name": "always"})
    problem(set_policy(bed, made, **body), 422, "validation-failed")
    assert state(made)["HostConfig"]["RestartPolicy"]["Name"] == "always"


def test_one_that_is_removed_when_it_ends_takes_no_policy(bed: Service, make: Make) -> None:
    made = make("web", auto_remove=True)
    answer = problem(set_policy(bed, made, name="always"), 409, "container-auto-remove")
    assert "--rm" in answer["detail"]
    assert state(made)["State"]["Running"]


# Engines that do not answer.


WITHOUT_POWER = ("setpriv", "--bounding-set=-dac_override,-dac_read_search", "--")
"""Begins a command whose user has no more rights than any other, root neither."""


def test_an_engine_that_is_away_or_may_not_be_asked(
    service: MakeService, engine: Engine, make: Make, tmp_path: Path
) -> None:
    made = make("web")
    before = state(made)
    closed = SocketRelay(tmp_path / "docker.sock", engine.host.removeprefix("unix://"))
    tables = {
        "local": engine_table(engine, "web-*"),
        "far": {"url": f"tcp://127.0.0.1:{free_port()}"},
        "closed": {"url": closed.url, "containers": ["web-*"]},
    }
    bed = service(settings={"engines": tables}, start=False)
    forbid(closed.path)
    bed.prefix = WITHOUT_POWER if os.getuid() == 0 else ()
    bed.start()
    for asked in (CONTAINERS, f"{CONTAINERS}/web-1", f"{CONTAINERS}/far:web-1"):
        told = problem(bed.ask(asked), 502, "engine-unreachable")
        assert "far" in told["detail"] or "closed" in told["detail"]
    problem(bed.ask(f"{CONTAINERS}/local:absent"), 404, "container-unknown")
    mine = f"{CONTAINERS}/closed:{made.name}"
    for what, method, body in CALLS:
        told = problem(bed.ask(f"{mine}{what}", method, body=body), 502, "engine-unreachable")
        assert "Permission denied" in told["detail"]
        assert "the group docker" in told["detail"]
    assert state(made) == before
    os.chown(closed.path, os.getuid(), -1)
    closed.path.chmod(0o600)
    assert get(bed, mine)["id"] == made.id
    closed.close()


CALLS: tuple[tuple[str, str, Any], ...] = (
    ("", "GET", None),
    ("/changes", "GET", None),
    ("/core-dumps", "GET", None),
    ("/restart", "POST", {}),
    ("/restart-policy", "PUT", {"name": "no"}),
    ("/ulimits", "PUT", {"ulimits": []}),
)


def forbid(socket: Path) -> None:
    """Let nobody use a socket but another user."""
    socket.chmod(0o600 if os.getuid() == 0 else 0)
    if os.getuid() == 0:
        os.chown(socket, 1001, -1)
