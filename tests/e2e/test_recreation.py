"""Containers of every shape are made again on a real engine: nothing differs, no byte is lost.

A shape is a row. What this engine cannot start is compared as created, what it cannot even create
is left out; either is said by name in the output of the tests.
"""

from __future__ import annotations

import copy
import subprocess
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from docker.errors import APIError

from service.adapters.engine.controller import DockerController
from service.domain.audit import Attempt, AuditTrail
from service.domain.containers import Containers, Rules
from service.domain.engine import Inspected
from service.domain.job import Job, JobRequest
from service.domain.recreation import Changes, creation_of, differences
from service.jobs.recreating import ULIMITS, recreating
from tests.e2e.bed.shapes import NUMBERS, PLAIN, SHAPES, Shape, Workshop
from tests.fakes_jobs import FakeJobs
from tests.fakes_store import FakeStore

Report = Callable[[str], None]


@pytest.fixture(autouse=True)
def haste(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let nobody wait for programs that heed no signal, nor for those to end that will not."""
    stop = DockerController.stop
    monkeypatch.setattr(DockerController, "stop", lambda one, name, _=None: stop(one, name, 0))
    monkeypatch.setattr("service.domain.restarting.PROOF_SECONDS", 0.1)


@pytest.fixture
def report(capsys: pytest.CaptureFixture[str]) -> Report:
    """Say something that is to be read though the test passes."""

    def say(text: str) -> None:
        with capsys.disabled():
            print(f"\n{text}")  # noqa: T201

    return say


def otherwise(before: Inspected, after: Inspected) -> set[str]:
    """What differs between two inspects, found without the rules that are to be proven."""
    parts = [(f"{part}.", before[part], after[part]) for part in ("Config", "HostConfig")]
    parts += [("", top(before), top(after)), ("", seen(before), seen(after))]
    return {
        prefix + key
        for prefix, one, other in parts
        for key in one.keys() | other.keys()
        if something(one.get(key)) != something(other.get(key))
    }


def something(value: object) -> object:
    return value if value or isinstance(value, bool | int) else None


def top(container: Inspected) -> dict[str, Any]:
    return {key: container[key] for key in ("Path", "Args", "Image", "Driver", "Platform")}


def seen(container: Inspected) -> dict[str, Any]:
    """Its mounts and networks, as far as somebody asked for them."""
    found: dict[str, Any] = {}
    for mount in container["Mounts"]:
        found |= {f"{mount['Destination']} {k}": v for k, v in mount.items() if k != "Mode"}
    for name, endpoint in container["NetworkSettings"]["Networks"].items():
        own = container["Id"][:12]
        aliases = [alias for alias in endpoint["Aliases"] or () if alias != own]
        asked = {key: something(endpoint[key]) for key in ("IPAMConfig", "Links", "DriverOpts")}
        found[f"network {name}"] = {**asked, "Aliases": aliases}
    return found


def expected(before: Inspected, after: Inspected) -> set[str]:
    """What is to differ: a name made of the id, volumes that now have a name, what links say."""
    found = {"Config.NetworkDisabled"} if is_without_bridge(before) else set()
    names = [container["Config"]["Hostname"] for container in (before, after)]
    ids = [container["Id"][:12] for container in (before, after)]
    joins = before["HostConfig"]["NetworkMode"].startswith("container:")
    if names == ids or (joins and after["State"]["Status"] == "created"):
        found.add("Config.Hostname")
    if any(len(mount.get("Name", "")) == 64 for mount in before["Mounts"]):
        found.add("HostConfig.Mounts")
    if any(":" not in bind for bind in before["HostConfig"]["Binds"] or ()):
        found.add("HostConfig.Binds")
    if before["HostConfig"]["Links"]:
        found.add("HostConfig.Links")
    return found


def is_without_bridge(container: Inspected) -> bool:
    """Tell whether its engine has no default network: it then says so when a container starts."""
    endpoint = container["NetworkSettings"]["Networks"].get("bridge")
    return endpoint is not None and not endpoint["NetworkID"]


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.name)
def test_a_container_made_again_is_the_same(shop: Workshop, report: Report, shape: Shape) -> None:
    try:
        name = shop.create(shape)
    except subprocess.CalledProcessError as error:
        report(f"LEFT OUT, cannot be created here: {shape.name}: {error.stderr.decode()[:200]}")
        return
    require_seen(shop, shape, shop.port.container(name))
    if refused := shop.start(name):
        before = shop.port.container(name)
        require_same(before, shop.port.container(shop.twin(before)))
        report(f"COMPARED AS CREATED, cannot be started here: {shape.name}: {refused[:200]}")
        return
    require_recreated(shop, name)


def require_recreated(shop: Workshop, name: str) -> None:
    """Give it other limits by the job that does so: all else is the same, to the last byte."""
    written, before = shop.fill(name), shop.port.container(name)
    job, after = recreated(shop, name), shop.port.container(name)
    if before["HostConfig"]["AutoRemove"]:
        assert (job.error or {})["code"] == "container-auto-remove"
        assert after["Id"] == before["Id"]
        return
    assert job.state == "succeeded", job.error
    assert after["Id"] != before["Id"]
    assert after["HostConfig"]["Ulimits"] == [{"Name": "nofile", "Soft": 500, "Hard": 1000}]
    require_same(before, after, "HostConfig.Ulimits")
    assert {path: shop.port.read_file(name, path, 1000) for path in written} == written


def recreated(
    shop: Workshop,
    name: str,
    watch: Callable[[Job, str], None] = lambda _job, _step: None,
    afterwards: Callable[[], None] = lambda: None,
) -> Job:
    """Recreate a container as the job does that gives it other limits; ``watch`` its steps.

    What it could not put back is tried again after ``afterwards``.
    """
    trail = AuditTrail(FakeStore().audit)
    jobs = FakeJobs([recreating(Containers([Rules(shop.port, ["*"])]), trail)])
    jobs.watch = watch
    params = {
        "container": f"{shop.port.name}:{name}",
        "ulimits": [{"name": "nofile", "soft": 500, "hard": 1000}],
        "on_writable_layer": "refuse",
        "dry_run": False,
    }
    with trail.attempt(Attempt("container.ulimits", "tests")) as change:
        job = jobs.submit(change, JobRequest(ULIMITS.name, params, "tests", exclusive=name))
    jobs.run_all()
    afterwards()
    jobs.aftermath.sweep()
    return jobs.get(job.id)


def require_same(before: Inspected, after: Inspected, *allowed: str) -> None:
    assert differences(before, after, allowed) == []
    assert otherwise(before, after) - set(allowed) <= expected(before, after)


def require_seen(shop: Workshop, shape: Shape, before: Inspected) -> None:
    """Whatever was asked for is a difference from a container of which nothing was asked."""
    if shape.image not in plains:
        plains[shape.image] = shop.port.container(shop.create(PLAIN[shape.image]))
    plain = plains[shape.image]
    asked = otherwise(plain, before) - expected(plain, before)
    asked = {one for one in asked if not one.startswith(VOLUMES_OF_THE_IMAGE)}
    allowed = [f"Mounts.{place.strip()}" for place in VOLUMES_OF_THE_IMAGE]
    assert bool(differences(plain, before, allowed)) is bool(asked), asked


plains: dict[str, Inspected] = {}
"""Such a one of each image, as it was inspected."""

VOLUMES_OF_THE_IMAGE = ("/data ", "/etc/seeded ")
"""Each container has new ones."""


def remade(shop: Workshop, name: str) -> tuple[Inspected, Inspected]:
    """Make a running container once more and start that instead; gives both as inspected."""
    before = shop.port.container(name)
    twin = shop.twin(before)
    shop.controller().stop(before["Id"], 0)
    shop.controller().start(twin)
    return before, shop.port.container(twin)


def test_an_image_whose_name_has_moved_is_used_by_its_id(shop: Workshop) -> None:
    name = f"{shop.engine.busybox.replace('busybox:', 'moving:')}-{next(NUMBERS)}"
    shop.docker("tag", shop.words["box"], name)
    shop.words["moving"] = name
    one = shop.running("", "moving")
    shop.docker("tag", shop.words["full"], name)
    before, after = remade(shop, one)
    shop.docker("rmi", name)
    assert differences(before, after) == []
    assert after["Image"] == before["Image"]
    assert after["Config"]["Image"] == before["Image"]


def test_an_image_named_by_its_id_stays_so(shop: Workshop) -> None:
    image_id = str(shop.port.image(shop.words["box"])["Id"])
    for reference in (image_id, image_id.removeprefix("sha256:")[:12]):
        shop.words["by id"] = reference
        before, after = remade(shop, shop.running("", "by id"))
        assert after["Config"]["Image"] == before["Config"]["Image"] == reference


def test_a_volume_that_was_emptied_stays_empty(shop: Workshop) -> None:
    name = shop.running("", "full", "")
    shop.container(name).exec_run(["rm", "/etc/seeded/file"], user="0")
    before, after = remade(shop, name)
    assert differences(before, after) == []
    assert shop.port.read_file(before["Id"], "/etc/seeded/file", 1000) is None
    assert shop.port.read_file(after["Id"], "/etc/seeded/file", 1000) is None


def test_volumes_of_a_container_that_is_gone_are_kept(shop: Workshop) -> None:
    source = shop.running("-v /shared -v {folder}:/bound:ro --tmpfs /t")
    shop.words["gone"] = source
    name = shop.running("--volumes-from {gone} -v /own")
    written = shop.fill(name)
    shop.container(source).remove(force=True)
    before, after = remade(shop, name)
    assert differences(before, after) == ["HostConfig.VolumesFrom"]
    assert differences(before, after, {"HostConfig.VolumesFrom"}) == []
    assert {path: shop.port.read_file(after["Id"], path, 1000) for path in written} == written


def test_a_container_is_made_again_as_often_as_one_likes(shop: Workshop) -> None:
    name = shop.running("-v /data --network {front} --ip {front_ip}", "full", "")
    shop.write(name, "/data/file", "kept")
    before = shop.port.container(name)
    for _ in range(3):
        _, after = remade(shop, name)
        name = after["Name"].lstrip("/")
        assert differences(before, after) == []
    assert shop.port.read_file(name, "/data/file", 10) == b"kept"


def test_changes_are_made_and_nothing_else(shop: Workshop) -> None:
    name = shop.running("--ulimit nofile=100:200 -v /data")
    before = shop.port.container(name)
    limits = [{"Name": "core", "Soft": 0, "Hard": 1000}]
    changes = Changes(host_config={"Ulimits": limits})
    image = shop.port.image(before["Image"])
    twin = shop.controller().create(
        creation_of(before, image, name=shop.name(), sources=(), changes=changes)
    )
    after = shop.port.container(twin)
    assert after["HostConfig"]["Ulimits"] == limits
    assert differences(before, after) == ["HostConfig.Ulimits"]
    assert differences(before, after, {"HostConfig.Ulimits"}) == []


# What others do meanwhile.


def test_a_name_that_is_taken_meanwhile_comes_back(shop: Workshop) -> None:
    """Until its own is free again, the old one runs under the name it was put aside with."""
    name = shop.running("--network {front} -v /data --restart always")
    written, before = shop.fill(name), shop.port.container(name)

    def take(_job: Job, step: str) -> None:
        if step == "rename-new":
            shop.docker("create", f"--name={name}", shop.words["box"], "true")

    def leave() -> None:
        assert shop.port.container(before["Id"])["State"]["Running"]
        assert shop.container(name).id != before["Id"]
        shop.container(name).remove()

    job = recreated(shop, name, take, leave)
    assert (job.error or {})["code"] == "recreation-failed"
    assert "already in use" in (job.error or {})["detail"]
    after = shop.port.container(name)
    assert after["Id"] == before["Id"]
    assert after["HostConfig"] == before["HostConfig"]
    assert after["State"]["Running"]
    assert {path: shop.port.read_file(name, path, 1000) for path in written} == written


def test_one_without_a_network_comes_back_under_its_name(shop: Workshop) -> None:
    """An engine that has no default network does not rename those in it while they run."""
    name = shop.running("", command="sh -c '[ $(ulimit -n) -gt 500 ] && sleep 600'")
    before = shop.port.container(name)
    assert (recreated(shop, name).error or {})["code"] == "recreation-failed"
    after = shop.port.container(name)
    assert (after["Id"], after["State"]["Running"]) == (before["Id"], True)


def test_an_image_whose_name_somebody_removes_meanwhile_changes_nothing(shop: Workshop) -> None:
    """An engine lets nothing but its name go while a container runs on it."""
    image = f"{shop.engine.busybox.replace('busybox:', 'going:')}-{next(NUMBERS)}"
    shop.docker("tag", shop.words["full"], image)
    shop.words["going"] = image
    name = shop.running("", "going", "400")
    before = shop.port.container(name)

    def remove(_job: Job, step: str) -> None:
        if step == "create":
            shop.engine.client.images.remove(image, force=True)
            with pytest.raises(APIError, match="cannot be forced"):
                shop.engine.client.images.remove(before["Image"], force=True)

    job = recreated(shop, name, remove)
    assert (job.error or {})["code"] == "recreation-failed"
    assert "No such image" in (job.error or {})["detail"]
    assert shop.port.container(name)["State"] == before["State"]
    assert recreated(shop, name).state == "succeeded"  # by the id


# Whatever differs is seen.

EVERYTHING = Shape(
    "everything",
    "-v /data -v {named}:/n -v {folder}:/b:ro --mount type=tmpfs,dst=/t --tmpfs /u "
    "--network {front} --ip {front_ip} --network-alias a --link {neighbour}:aka -e A=1 --label l=1 "
    "-p 127.0.0.1:{port}:80 --dns 127.0.0.1 --add-host a:127.0.0.2 --sysctl net.core.somaxconn=99 "
    "--ulimit nofile=100 --log-opt max-size=1m --device /dev/null:/dev/other -m 64m -h box.example",
    "full",
    "400",
    connect=("--alias c {back}",),
)


OF_THE_PROCESS = {
    *("Id", "Name", "Created", "State", "RestartCount", "ExecIDs", "GraphDriver"),
    *("ResolvConfPath", "HostnamePath", "HostsPath", "LogPath"),
    *("AppArmorProfile", "MountLabel", "ProcessLabel"),
}
OF_THE_ENDPOINT = {
    *("NetworkID", "EndpointID", "Gateway", "IPAddress", "IPPrefixLen", "MacAddress"),
    *("IPv6Gateway", "GlobalIPv6Address", "GlobalIPv6PrefixLen"),
}


def leaves(tree: object, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Paths of all values in an inspect, into lists of objects, too."""
    if isinstance(tree, dict) and tree:
        pairs = list(tree.items())
    elif isinstance(tree, list) and tree and isinstance(tree[0], dict):
        pairs = [(str(place), one) for place, one in enumerate(tree)]
    else:
        yield path
        return
    for key, value in pairs:
        yield from leaves(value, (*path, key))


def altered(container: Inspected, path: tuple[str, ...]) -> Inspected:
    """A copy in which the value at a path is another."""
    made = copy.deepcopy(dict(container))
    inner: Any = made
    for key in path[:-1]:
        inner = inner[int(key)] if isinstance(inner, list) else inner[key]
    inner[path[-1]] = another(inner[path[-1]])
    return made


def another(value: object) -> object:
    match value:
        case bool():
            return not value
        case int():
            return value + 1
        case list():
            return [*value, "altered:/altered"]
        case dict():
            return {**value, "altered": {}}
        case _:
            return f"{value or ''}altered"


def is_seen(container: Inspected, path: tuple[str, ...]) -> bool:
    """Tell whether another value there is a difference."""
    if path[0] == "NetworkSettings":
        return path[1] == "Networks" and path[3] not in OF_THE_ENDPOINT
    if path[0] == "Mounts" and path[2] == "Mode":
        return len(container["Mounts"][int(path[1])].get("Name", "")) != 64  # anonymous
    return path[0] not in OF_THE_PROCESS


def test_whatever_differs_is_seen(shop: Workshop) -> None:
    before = shop.port.container(shop.create(EVERYTHING))
    paths = [path for path in leaves(before) if is_seen(before, path)]
    assert len(paths) > 100
    for path in paths:
        found = differences(before, altered(before, path))
        assert found, path
        assert all(one.startswith(".".join(path[:1])) for one in found), (path, found)


def test_what_is_missing_or_new_is_seen(shop: Workshop) -> None:
    before = shop.port.container(shop.create(EVERYTHING))
    for part in (("HostConfig",), ("Config",), ("NetworkSettings", "Networks")):
        new = copy.deepcopy(dict(before))
        inner = new
        for key in part:
            inner = inner[key]
        inner["FromTheFuture"] = {"Some": "thing"}
        for found in (differences(before, new), differences(new, before)):
            assert found
            assert all("FromTheFuture" in one for one in found)


def test_what_may_differ_is_none(shop: Workshop) -> None:
    before = shop.port.container(shop.create(EVERYTHING))
    paths = [path for path in leaves(before) if not is_seen(before, path)]
    assert len(paths) > 40
    for path in paths:
        assert differences(before, altered(before, path)) == [], path
