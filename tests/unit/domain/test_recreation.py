"""What is sent to make a container again, field by field, and what of two containers differs."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import given

from service.domain.audit import Attempt, AuditTrail
from service.domain.engine import Inspected, NetworkAttachment
from service.domain.recreation import (
    NO_HEALTHCHECK,
    UNLIMITED_LOG,
    Aside,
    Changes,
    creation_of,
    differences,
    helper,
    stand_in,
    volume_sources,
)
from tests.fakes_engine import FakeEngine
from tests.fakes_store import FakeStore

ID = "a1b2c3d4e5f6" + 52 * "0"
SHORT = ID[:12]
IMAGE_ID = "sha256:" + 64 * "1"
VOLUME = 64 * "f"


def container(
    config: Mapping[str, Any] | None = None,
    host_config: Mapping[str, Any] | None = None,
    **more: object,
) -> dict[str, Any]:
    return {
        "Id": ID,
        "Name": "/web",
        "Image": IMAGE_ID,
        "Config": {"Hostname": SHORT, "Image": "app:1", "Cmd": ["run"], **(config or {})},
        "HostConfig": {"NetworkMode": "front", **(host_config or {})},
        "Mounts": [],
        "NetworkSettings": {"Networks": {}},
        **more,
    }


def image(*names: str, **config: object) -> dict[str, Any]:
    return {"Id": IMAGE_ID, "RepoTags": list(names), "RepoDigests": [], "Config": config}


def body(found: Inspected, of: Inspected | None = None, *sources: Inspected) -> dict[str, Any]:
    made = creation_of(found, of or image("app:1"), name="new", sources=sources)
    assert made.name == "new"
    return dict(made.body)


def networks(found: Inspected) -> tuple[NetworkAttachment, ...]:
    return creation_of(found, image(), name="new").networks


def volume(place: str, name: str = VOLUME, **more: object) -> dict[str, Any]:
    common = {"Type": "volume", "Name": name, "Source": f"/volumes/{name}", "Driver": "local"}
    return {**common, "Destination": place, "Mode": "", "RW": True, "Propagation": "", **more}


# Each field.


def test_what_no_rule_names_is_carried_as_it_is() -> None:
    made = body(container({"FromTheFuture": {"a": [1]}}, {"AlsoNew": False, "Zero": 0}))
    assert made["FromTheFuture"] == {"a": [1]}
    assert made["HostConfig"]["AlsoNew"] is False
    assert made["HostConfig"]["Zero"] == 0


def test_what_is_null_is_left_to_the_engine() -> None:
    made = body(container({"OnBuild": None}, {"CapAdd": None, "MaskedPaths": []}))
    assert "OnBuild" not in made
    assert "CapAdd" not in made["HostConfig"]
    assert made["HostConfig"]["MaskedPaths"] == []


@pytest.mark.parametrize(
    ("hostname", "host_config", "sent"),
    [
        (SHORT, {}, None),
        ("box", {}, "box"),
        ("box", {"NetworkMode": "host"}, "box"),
        ("vm", {"NetworkMode": "host", "UTSMode": "host"}, None),
        ("vm", {"UTSMode": "host"}, None),
        ("theirs", {"NetworkMode": "container:other"}, None),
    ],
)
def test_a_host_name_is_sent_where_it_was_asked_for(
    hostname: str, host_config: dict[str, str], sent: str | None
) -> None:
    assert body(container({"Hostname": hostname}, host_config)).get("Hostname") == sent


@pytest.mark.parametrize("field", ["Domainname", "MacAddress", "ExposedPorts"])
def test_another_s_network_leaves_no_settings_of_one_s_own(field: str) -> None:
    config = {field: "x"}
    assert body(container(config))[field] == "x"
    assert field not in body(container(config, {"NetworkMode": "container:other"}))


@pytest.mark.parametrize("field", ["PortBindings", "PublishAllPorts", "Dns", "ExtraHosts", "Links"])
def test_another_s_network_leaves_no_surroundings_of_one_s_own(field: str) -> None:
    host_config = {field: ["/a:/web/b"], "NetworkMode": "container:other"}
    assert field not in body(container(None, host_config))["HostConfig"]


@pytest.mark.parametrize(
    ("entrypoint", "inherited", "sent"),
    [
        (None, ["run"], [""]),
        (None, None, None),
        ([], ["run"], [""]),
        (["run"], ["run"], ["run"]),
        (["mine"], None, ["mine"]),
    ],
)
def test_an_entrypoint_that_was_emptied_stays_so(
    entrypoint: list[str] | None, inherited: list[str] | None, sent: list[str] | None
) -> None:
    made = body(container({"Entrypoint": entrypoint}), image("app:1", Entrypoint=inherited))
    assert made.get("Entrypoint") == sent


def test_an_image_that_tells_nothing_unset_has_no_entrypoint() -> None:
    assert "Entrypoint" not in body(container({"Entrypoint": None}), image("app:1"))


DIGEST = "@sha256:" + 64 * "2"


@pytest.mark.parametrize(
    ("name", "names", "kept"),
    [
        ("app:1", ["app:1"], True),
        ("app", ["app:latest"], True),
        ("docker.io/library/app", ["app:latest"], True),
        ("docker.io/team/app:1", ["team/app:1"], True),
        ("host:5000/app", ["host:5000/app:latest"], True),
        ("host:5000/app:1", ["host:5000/app:1"], True),
        (f"app{DIGEST}", [f"app{DIGEST}"], True),
        (f"app:1{DIGEST}", [f"app{DIGEST}"], True),
        (IMAGE_ID, [], True),
        ("1" * 12, [], True),
        ("app:1", ["app:2"], False),
        ("app", ["app:1"], False),
        ("host:5000/app", ["host:5000/app:1"], False),
        (f"app{DIGEST}", [], False),
    ],
)
def test_an_image_is_named_while_the_name_is_that_image(
    name: str,
    names: list[str],
    kept: bool,  # noqa: FBT001 - a column of a table
) -> None:
    of = image(*[one for one in names if "@" not in one])
    of["RepoDigests"] = [one for one in names if "@" in one]
    assert body(container({"Image": name}), of)["Image"] == (name if kept else IMAGE_ID)


def test_links_are_sent_as_they_are_asked_for() -> None:
    made = body(container(None, {"Links": ["/db:/web/database", "/cache:/web/cache"]}))
    assert made["HostConfig"]["Links"] == ["db:database", "cache:cache"]


def test_a_network_that_is_not_there_is_not_asked_for() -> None:
    disabled = {"NetworkDisabled": True}
    assert body(container(disabled))["NetworkDisabled"] is True
    settings = {"Networks": {"bridge": {"NetworkID": ""}}}
    assert "NetworkDisabled" not in body(container(disabled, NetworkSettings=settings))


def test_a_platform_that_was_chosen_is_chosen_again() -> None:
    chosen = {"platform": {"os": "linux", "architecture": "arm", "variant": "v7"}}
    found = container(ImageManifestDescriptor=chosen)
    assert creation_of(found, image(), name="new").platform == "linux/arm/v7"
    assert creation_of(container(), image(), name="new").platform is None


def test_changes_come_last() -> None:
    changes = Changes({"Tty": True, "Cmd": None}, {"Ulimits": [1], "Memory": None})
    found = container(None, {"Memory": 5})
    made = creation_of(found, image("app:1"), name="new", changes=changes).body
    assert made["Tty"] is True
    assert "Cmd" not in made
    assert made["HostConfig"]["Ulimits"] == [1]
    assert "Memory" not in made["HostConfig"]


# Volumes.


def named(place: str, name: str = VOLUME) -> dict[str, Any]:
    options = {"VolumeOptions": {"NoCopy": True}}
    return {"Type": "volume", "Source": name, "Target": place, **options}


def test_a_volume_without_a_name_is_named() -> None:
    found = container({"Volumes": {"/data/": {}}}, Mounts=[volume("/data")])
    made = body(found)
    assert made["HostConfig"]["Mounts"] == [named("/data")]
    assert made["Volumes"] == {"/data/": {}}


def test_a_mount_without_a_name_is_named_in_its_place() -> None:
    entries = [{"Type": "volume", "Target": "/data"}, {"Type": "tmpfs", "Target": "/t"}]
    tmpfs = {"Type": "tmpfs", "Source": "", "Destination": "/t", "Mode": "", "RW": True}
    found = container(None, {"Mounts": entries}, Mounts=[volume("/data"), tmpfs])
    assert body(found)["HostConfig"]["Mounts"] == [entries[1], named("/data")]


def test_what_has_a_name_is_left_alone() -> None:
    entries = [{"Type": "volume", "Source": "named", "Target": "/m/"}]
    binds = ["named:/n/:ro", "/srv:/b"]
    bind = {"Type": "bind", "Source": "/srv", "Destination": "/b", "Mode": "", "RW": True}
    points = [volume("/n", "named", RW=False), bind, volume("/m", "named")]
    made = body(container(None, {"Binds": binds, "Mounts": entries}, Mounts=points))
    assert made["HostConfig"]["Binds"] == binds
    assert made["HostConfig"]["Mounts"] == entries


def test_a_place_alone_among_the_binds_is_a_volume_without_a_name() -> None:
    found = container(None, {"Binds": ["/data", "named:/n"]}, Mounts=[volume("/data")])
    made = body(found)["HostConfig"]
    assert (made["Binds"], made["Mounts"]) == (["named:/n"], [named("/data")])


SOURCE = {"Id": 64 * "b", "Name": "/source", "Mounts": [volume("/shared", "theirs")]}


@pytest.mark.parametrize("reference", ["source", "source:ro", 64 * "b", "bbbb"])
def test_what_another_container_brings_is_left_to_it(reference: str) -> None:
    points = [volume("/shared", "theirs", RW=False), volume("/own")]
    found = container(None, {"VolumesFrom": [reference]}, Mounts=points)
    assert volume_sources(found) == [reference.partition(":")[0]]
    made = body(found, None, SOURCE)["HostConfig"]
    assert made["VolumesFrom"] == [reference]
    assert made["Mounts"] == [named("/own")]


def test_what_another_container_brings_no_more_is_named() -> None:
    bind = {"Type": "bind", "Source": "/srv", "Destination": "/b", "Mode": "ro", "RW": False}
    points = [volume("/shared", "theirs"), {**bind, "Propagation": "rslave"}]
    found = container(None, {"VolumesFrom": ["gone", "source"]}, Mounts=points)
    made = body(found, None, {**SOURCE, "Mounts": [volume("/shared", "another")]})["HostConfig"]
    assert made["VolumesFrom"] == ["source"]
    assert made["Mounts"] == [
        named("/shared", "theirs"),
        {
            "Type": "bind",
            "Source": "/srv",
            "Target": "/b",
            "ReadOnly": True,
            "BindOptions": {"Propagation": "rslave"},
        },
    ]


# Networks.


def endpoint(**asked: object) -> dict[str, Any]:
    made = {"NetworkID": "n", "EndpointID": "e", "Gateway": "10.0.0.1", "IPAddress": "10.0.0.9"}
    return {
        **made,
        "IPPrefixLen": 24,
        "MacAddress": "02:42:0a:00:00:09",
        "DNSNames": ["x"],
        **asked,
    }


def test_of_an_endpoint_only_what_was_asked_for_is_sent() -> None:
    asked = {
        "IPAMConfig": {"IPv4Address": "10.0.0.9"},
        "Links": ["db:database"],
        "Aliases": ["a", SHORT, "b"],
        "DriverOpts": {"x": "y"},
        "GwPriority": 7,
    }
    settings = {"Networks": {"front": endpoint(**asked)}}
    (made,) = networks(container(NetworkSettings=settings))
    assert made == NetworkAttachment("front", {**asked, "Aliases": ["a", "b"]})


def test_an_endpoint_that_nothing_was_asked_of_is_empty() -> None:
    asked: dict[str, object] = {"IPAMConfig": {}, "Aliases": [SHORT], "Links": None}
    settings = {"Networks": {"front": endpoint(**asked)}}
    assert networks(container(NetworkSettings=settings)) == (NetworkAttachment("front", {}),)


@pytest.mark.parametrize(
    ("address", "sent"),
    [("02:42:0a:00:00:09", False), ("02:00:00:00:00:01", True), ("", False)],
    ids=["made of the IP address", "asked for", "stopped"],
)
def test_a_generated_mac_address_is_not_asked_for(
    address: str,
    sent: bool,  # noqa: FBT001 - a column of a table
) -> None:
    settings = {"Networks": {"front": endpoint(MacAddress=address)}}
    (made,) = networks(container(NetworkSettings=settings))
    assert made.endpoint == ({"MacAddress": address} if sent else {})


@pytest.mark.parametrize(
    ("mode", "first"),
    [("b", "b"), ("a", "a"), ("1d-of-b", "b"), ("default", "bridge"), ("gone", "a")],
)
def test_the_network_of_the_mode_comes_first(mode: str, first: str) -> None:
    found = {"a": "2d-of-a", "b": "1d-of-b", "bridge": "3d-of-bridge"}
    settings = {"Networks": {name: {"NetworkID": one} for name, one in found.items()}}
    made = networks(container(None, {"NetworkMode": mode}, NetworkSettings=settings))
    assert made[0].network == first
    assert {one.network for one in made} == set(found)


@pytest.mark.parametrize("mode", ["host", "none", "container:other"])
def test_where_there_is_no_network_of_its_own_none_is_asked_for(mode: str) -> None:
    settings = {"Networks": {mode: endpoint()}}
    assert networks(container(None, {"NetworkMode": mode}, NetworkSettings=settings)) == ()


# Ours beside it.

LABELS = {
    "com.docker.compose.project": "shop",
    "com.docker.stack.namespace": "s",
    "registry-admin.enable": "true",
    "kept": "1",
}


@pytest.fixture
def original() -> dict[str, Any]:
    config = {
        "Labels": LABELS,
        "Env": ["A=1", "AB=2", "B=x=y"],
        "Healthcheck": {"Test": ["CMD", "true"]},
        "Entrypoint": ["registry"],
        "Tty": True,
        "OpenStdin": True,
        "Volumes": {"/data": {}},
    }
    host_config = {
        "RestartPolicy": {"Name": "always"},
        "AutoRemove": True,
        "ContainerIDFile": "/run/web.cid",
        "PortBindings": {"80/tcp": [{"HostPort": "80"}]},
        "Binds": ["named:/n:Z"],
        "Mounts": [
            {"Type": "volume", "Target": "/m"},
            {"Type": "bind", "Source": "/srv", "Target": "/b"},
        ],
        "VolumesFrom": ["other"],
        "LogConfig": {"Type": "none"},
    }
    ends = {"front": endpoint(Aliases=["a", "web"]), "bridge": endpoint()}
    return container(config, host_config, NetworkSettings={"Networks": ends})


ASIDE = Aside("web-aside", "job-7", {"A": "9", "MORE": "m"})
OF = image("app:1", Entrypoint=["registry"], Cmd=["serve"], Labels={"com.docker.compose.x": "y"})


def test_both_are_set_aside_from_everybody_else(original: dict[str, Any]) -> None:
    for made in (stand_in(original, OF, ASIDE), helper(original, OF, ASIDE, ["true"])):
        assert made.name == "web-aside"
        assert made.body["Image"] == IMAGE_ID
        assert made.body["Env"] == ["AB=2", "B=x=y", "A=9", "MORE=m"]
        assert made.body["Healthcheck"] == NO_HEALTHCHECK
        assert made.body["Labels"] == {
            "kept": "1",
            "com.docker.compose.x": "",
            "registry-admin.job": "job-7",
            "registry-admin.original": ID,
        }
        host_config = made.body["HostConfig"]
        assert host_config["VolumesFrom"] == [ID]
        assert host_config["Binds"] == ["named:/n:Z"]
        assert host_config["Mounts"] == [{"Type": "bind", "Source": "/srv", "Target": "/b"}]
        assert host_config["RestartPolicy"] == {"Name": "no"}
        assert host_config["AutoRemove"] is False
        assert "ContainerIDFile" not in host_config


def test_a_stand_in_serves_as_the_original_does(original: dict[str, Any]) -> None:
    made = stand_in(original, OF, ASIDE)
    assert made.body["Entrypoint"] == ["registry"]
    assert made.body["Cmd"] == ["run"]
    assert made.body["HostConfig"]["PortBindings"] == {"80/tcp": [{"HostPort": "80"}]}
    assert made.body["HostConfig"]["LogConfig"] == {"Type": "none"}
    assert made.networks == (
        NetworkAttachment("front", {"Aliases": ["a", "web"]}),
        NetworkAttachment("bridge", {}),
    )


def test_a_helper_runs_its_command_alone(original: dict[str, Any]) -> None:
    made = helper(original, OF, ASIDE, ["/bin/registry", "garbage-collect", "c.yml"])
    assert made.body["Entrypoint"] == ["/bin/registry", "garbage-collect", "c.yml"]
    assert "Cmd" not in made.body
    assert made.body["Tty"] is False
    assert made.body["HostConfig"]["LogConfig"] == UNLIMITED_LOG
    assert "PortBindings" not in made.body["HostConfig"]
    assert made.networks[0] == NetworkAttachment("front", {"Aliases": ["a", "web"]})


# Differences.


@pytest.fixture
def engine() -> FakeEngine:
    made = FakeEngine()
    made.networks |= {"front", "back"}
    made.add_image(
        "app:1",
        Entrypoint=["run"],
        Cmd=["it"],
        Env=["A=1", "B=2"],
        Labels={"l": "1"},
        ExposedPorts={"80/tcp": {}},
        Volumes={"/image": {}},
        Healthcheck={"Test": ["CMD", "true"]},
    )
    made.run("other", "app:1", Volumes={"/theirs": {}})
    return made


def words(*chosen: str) -> st.SearchStrategy[list[str]]:
    return st.lists(st.sampled_from(chosen), unique=True)


BODIES = st.fixed_dictionaries(
    {
        "Image": st.sampled_from(["app:1", "app"]).map(lambda _: "app:1"),
        "HostConfig": st.fixed_dictionaries(
            {"NetworkMode": st.sampled_from(["front", "host", "none", "container:other"])},
            optional={
                "Binds": words("named:/n", "/srv:/b:ro", "named:/image"),
                "Mounts": st.lists(
                    st.sampled_from([{"Type": "volume", "Target": "/m"}]), max_size=1
                ),
                "VolumesFrom": words("other", "other:ro").filter(lambda one: len(one) < 2),
                "Memory": st.integers(0, 9),
                "CapAdd": words("NET_ADMIN", "SYS_TIME"),
            },
        ),
    },
    optional={
        "Entrypoint": st.sampled_from([[""], ["mine"], ["run"]]),
        "Cmd": words("a", "b"),
        "Hostname": st.sampled_from(["", "box"]),
        "Env": words("A=", "B=3", "C=x=y"),
        "Labels": st.dictionaries(st.sampled_from("lm"), st.sampled_from(["", "2"])),
        "Volumes": st.dictionaries(st.sampled_from(["/v", "/image"]), st.just({})),
        "User": st.sampled_from(["", "7"]),
        "Healthcheck": st.sampled_from([NO_HEALTHCHECK, {"Test": ["CMD", "false"]}]),
    },
)


@given(wanted=BODIES, running=st.booleans())
def test_whatever_is_made_again_is_the_same(
    wanted: dict[str, Any],
    running: bool,  # noqa: FBT001 - drawn
) -> None:
    engine = FakeEngine()
    engine.networks |= {"front", "back"}
    engine.add_image("app:1", Entrypoint=["run"], Cmd=["it"], Env=["A=1"], Volumes={"/image": {}})
    engine.run("other", "app:1", Volumes={"/theirs": {}})
    mode = wanted["HostConfig"]["NetworkMode"]
    if mode.startswith("container:"):
        wanted.pop("Hostname", None)
    engine.networks.add("front")
    ends = {"front": {"Aliases": ["a"]}, "back": {}} if mode == "front" else {}
    first = engine.make("first", wanted, ends)
    if running:
        engine.launch(first)
    before = engine.container("first")
    sources = [engine.container(one) for one in volume_sources(before)]
    creation = creation_of(before, engine.image("app:1"), name="second", sources=sources)
    with AuditTrail(FakeStore().audit).attempt(Attempt("test", "tester")) as change:
        made = engine.controller(change).create(creation)
    assert differences(before, engine.container(made)) == []


def with_(found: Inspected, path: str, value: object) -> Inspected:
    changed = copy.deepcopy(dict(found))
    inner: Any = changed
    *steps, last = path.split("/")
    for step in steps:
        inner = inner[int(step) if step.isdigit() else step]
    inner[last] = value
    return changed


@pytest.fixture
def before(engine: FakeEngine) -> Inspected:
    host_config = {"NetworkMode": "front", "Binds": ["named:/n"], "PortBindings": {}}
    engine.run(
        "first", "app:1", "front", "back", HostConfig=host_config, Volumes={"/v": {}}, Env=["S=s3"]
    )
    return engine.container("first")


@pytest.mark.parametrize(
    ("path", "value", "found"),
    [
        ("Config/Env", ["A=1", "B=2", "S=other"], "Config.Env.S"),
        ("Config/Env", ["A=1", "S=s3"], "Config.Env.B"),
        ("Config/Cmd", ["else"], "Config.Cmd"),
        ("Config/Labels/l", "2", "Config.Labels.l"),
        ("Config/Labels/new", "", "Config.Labels.new"),
        ("Config/ExposedPorts/81~tcp", {}, "Config.ExposedPorts.81~tcp"),
        ("Config/Hostname", "box", "Config.Hostname"),
        ("Config/Image", "app:2", "Config.Image"),
        ("Config/FromTheFuture", 1, "Config.FromTheFuture"),
        ("HostConfig/Memory", 1, "HostConfig.Memory"),
        ("HostConfig/Ulimits", [{"Name": "core"}], "HostConfig.Ulimits"),
        ("HostConfig/RestartPolicy/Name", "always", "HostConfig.RestartPolicy.Name"),
        ("HostConfig/Init", False, "HostConfig.Init"),
        ("HostConfig/Binds", [], "HostConfig.Binds"),
        ("Mounts/0/Name", "another", "Mounts./n.Name"),
        ("Mounts/0/RW", False, "Mounts./n.RW"),
        ("Mounts/0/Mode", "ro", "Mounts./n.Mode"),
        ("NetworkSettings/Networks/front/Aliases", ["x"], "NetworkSettings.Networks.front.Aliases"),
        ("NetworkSettings/Networks/front/New", 1, "NetworkSettings.Networks.front.New"),
        ("NetworkSettings/Networks/third", {}, "NetworkSettings.Networks.third.Connected"),
        ("Image", "sha256:2", "Image"),
        ("Path", "else", "Path"),
        ("FromTheFuture", "x", "FromTheFuture"),
    ],
)
def test_what_differs_is_named(before: Inspected, path: str, value: object, found: str) -> None:
    after = with_(before, path, value)
    assert differences(before, after) == [found]
    assert differences(after, before) == [found]
    assert differences(before, after, {found}) == []
    assert differences(before, after, {found.partition(".")[0]}) == []
    assert differences(before, after, {found[:-1]}) == [found]


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("Id", 64 * "9"),
        ("Name", "/second"),
        ("Created", "2030-01-01T00:00:00Z"),
        ("State/Status", "exited"),
        ("RestartCount", 3),
        ("NetworkSettings/Networks/front/IPAddress", "10.0.0.3"),
        ("NetworkSettings/Networks/front/DNSNames", ["x"]),
        ("NetworkSettings/Ports/80~tcp", None),
        ("Config/Image", "the id"),
        ("HostConfig/CapAdd", []),
        ("HostConfig/CapAdd", None),
    ],
)
def test_what_may_differ_is_not_told(before: Inspected, path: str, value: object) -> None:
    changed = with_(before, path, before["Image"] if value == "the id" else value)
    if path == "Id":  # by which it was called
        changed = with_(changed, "Config/Hostname", 12 * "9")
        for name in ("front", "back"):
            changed = with_(changed, f"NetworkSettings/Networks/{name}/Aliases", [12 * "9"])
    assert differences(before, changed) == []


def test_a_volume_that_has_a_name_now_is_no_difference(before: Inspected) -> None:
    (point,) = [one for one in before["Mounts"] if one["Destination"] == "/v"]
    place = before["Mounts"].index(point)
    entry = named("/v", point["Name"])
    after = with_(with_(before, "HostConfig/Mounts", [entry]), f"Mounts/{place}/Mode", "z")
    assert differences(before, after) == []
    other = with_(before, "HostConfig/Mounts", [{**entry, "Source": "another"}])
    assert differences(before, other) == [
        f"HostConfig.Mounts./v.{key}"
        for key in ("Source", "Target", "Type", "VolumeOptions.NoCopy")
    ]


def test_values_are_never_told(before: Inspected) -> None:
    after = with_(before, "Config/Env", ["S=another-secret"])
    assert "secret" not in " ".join(differences(before, after))


def test_links_come_in_any_order(before: Inspected) -> None:
    links = ["/a:/first/x", "/b:/first/y"]
    after = with_(before, "HostConfig/Links", ["/b:/second/y", "/a:/second/x"])
    assert differences(with_(before, "HostConfig/Links", links), after) == []
