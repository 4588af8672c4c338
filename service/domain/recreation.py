"""A container made once more: all that is needed to create it, and the proof that it is the same.

What an inspect tells is nearly what a create takes, and the rest is lost without a word: anonymous
volumes come back empty, an emptied entrypoint becomes the image's, a link cannot be read, and so
on. Each such field has a row in :data:`CONFIG` or :data:`HOST_CONFIG`. A field without a row is
carried as it is, those of engines yet to come included.

Facts are those of Docker Engine 20.10 (API 1.41), and of the API's history up to 1.54 where it
tells of another behaviour.
"""

from __future__ import annotations

import ipaddress
import posixpath
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from service.domain.engine import Creation, Inspected, NetworkAttachment

ENABLE_LABEL = "registry-admin.enable"
JOB_LABEL = "registry-admin.job"
ORIGINAL_LABEL = "registry-admin.original"
"""On what stands in for a container or works beside it: the job it is for, the original's id."""

FOREIGN_LABELS = ("com.docker.compose.", "com.docker.stack.", "com.docker.swarm.", ENABLE_LABEL)
"""Labels by which others (or this service) would take a stand-in for a container of theirs."""

UNLIMITED_LOG: Mapping[str, Any] = {
    "Type": "json-file",
    "Config": {"max-size": "1t", "max-file": "2", "mode": "blocking"},
}
"""A log that can be read back to its first line, whatever the engine's defaults cut or drop."""

NO_HEALTHCHECK: Mapping[str, Any] = {"Test": ["NONE"]}
DEFAULT_NETWORKS = frozenset({"bridge", "host", "none"})
SHORT_ID = 12


@dataclass(frozen=True, slots=True)
class Changes:
    """Fields that the new container has otherwise; None leaves a field to the engine's default."""

    config: Mapping[str, Any] = field(default_factory=dict)
    host_config: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Original:
    """A container as inspected, its image, and what of its ``VolumesFrom`` is still there."""

    container: Inspected
    image: Inspected
    sources: Sequence[Inspected] = ()

    @property
    def config(self) -> Inspected:
        """What it was told about its process."""
        config: Inspected = self.container["Config"]
        return config

    @property
    def host_config(self) -> Inspected:
        """What it was told about its surroundings."""
        host_config: Inspected = self.container["HostConfig"]
        return host_config

    @property
    def short_id(self) -> str:
        """Its host name and an alias in each network, unless told otherwise."""
        return str(self.container["Id"])[:SHORT_ID]

    @property
    def joins_network(self) -> bool:
        """Tell whether it lives in another container's network, which then rules all of it."""
        return str(self.host_config.get("NetworkMode")).startswith("container:")

    @cached_property
    def points(self) -> Mapping[str, Inspected]:
        """What is mounted where."""
        return {point["Destination"]: point for point in self.container.get("Mounts") or ()}

    @cached_property
    def declared(self) -> frozenset[str]:
        """Places whose mounts the host config names, so that they come back by themselves."""
        binds = (bind.split(":")[1] for bind in _named_binds(self, self.host_config.get("Binds")))
        entries = (entry["Target"] for entry in self.named_entries)
        return frozenset(map(posixpath.normpath, (*binds, *entries)))

    @property
    def named_entries(self) -> Iterator[Inspected]:
        """Its ``--mount`` entries but those for anonymous volumes."""
        for entry in self.host_config.get("Mounts") or ():
            if entry["Type"] != "volume" or entry.get("Source"):
                yield entry

    def inherits(self, place: str) -> bool:
        """Tell whether a container of its VolumesFrom brings just that mount."""
        mounts = (mount for source in self.sources for mount in source.get("Mounts") or ())
        return any(_same_point(self.points[place], mount) for mount in mounts)


Rule = Callable[[Original, Any], Any]


def creation_of(
    container: Inspected,
    image: Inspected,
    *,
    name: str,
    sources: Sequence[Inspected] = (),
    changes: Changes | None = None,
) -> Creation:
    """A container that is the same in all but its id, its name and ``changes``.

    ``image`` is the container's image, inspected by the id that ``container["Image"]`` holds.
    ``sources`` are those containers of :func:`volume_sources` that are still there: the others are
    left out, and what came from them is mounted by name.
    """
    original = Original(container, image, sources)
    wanted = changes or Changes()
    host_config = _carried(original, original.host_config, HOST_CONFIG)
    body = _carried(original, original.config, CONFIG) | dict(wanted.config)
    body["HostConfig"] = _given(host_config | dict(wanted.host_config))
    return Creation(name, _given(body), tuple(_attachments(original)), _platform(container))


@dataclass(frozen=True, slots=True)
class Aside:
    """A container of ours, made for a job, with ``environment`` besides the original's."""

    name: str
    job_id: str
    environment: Mapping[str, str] = field(default_factory=dict)


def stand_in(container: Inspected, image: Inspected, aside: Aside) -> Creation:
    """A container to serve in the place of a stopped one.

    Of the same image id, on the same volumes, networks (where it has the original's name, too)
    and ports, and known by its labels as made for a job. It never restarts by itself.
    """
    changes = _set_aside(Original(container, image), aside)
    creation = creation_of(container, image, name=aside.name, changes=changes)
    alias = str(container["Name"]).lstrip("/")
    networks = tuple(_with_alias(network, alias) for network in creation.networks)
    return replace(creation, networks=networks)


def helper(
    container: Inspected, image: Inspected, aside: Aside, command: Sequence[str]
) -> Creation:
    """A container that runs ``command`` once beside a stopped one, on its volumes and networks.

    As :func:`stand_in`, without ports, and with a log of its own that holds each line.
    """
    common = _set_aside(Original(container, image), aside)
    # With an entrypoint of its own a container does not take the image's command.
    config = {"Entrypoint": list(command), "Cmd": None, "Tty": False, "OpenStdin": False}
    host_config = {"PortBindings": None, "PublishAllPorts": False, "LogConfig": UNLIMITED_LOG}
    changes = Changes({**common.config, **config}, {**common.host_config, **host_config})
    return creation_of(container, image, name=aside.name, changes=changes)


def volume_sources(container: Inspected) -> list[str]:
    """Names or ids of the containers whose volumes it mounts."""
    entries = container["HostConfig"].get("VolumesFrom") or ()
    return [entry.partition(":")[0] for entry in entries]


# What is sent otherwise than it was read.


def _hostname(original: Original, value: str) -> str | None:
    told = value != original.short_id and not original.joins_network
    return value if told and original.host_config.get("UTSMode") != "host" else None


def _outside_joined(original: Original, value: object) -> object:
    return None if original.joins_network else value


def _network_disabled(original: Original, value: object) -> object:
    return None if _networks(original.container) else value


def _entrypoint(original: Original, value: object) -> object:
    inherited = (original.image.get("Config") or {}).get("Entrypoint")
    return [""] if inherited and not value else value


def _image(original: Original, value: str) -> str:
    """The name it was created with while that still is the same image, else the image's id."""
    image_id = str(original.container["Image"])
    names = {*(original.image.get("RepoTags") or ()), *(original.image.get("RepoDigests") or ())}
    is_id = image_id.removeprefix("sha256:").startswith(value.removeprefix("sha256:"))
    return value if is_id or _familiar(value) in names else image_id


def _links(original: Original, links: Sequence[str] | None) -> list[str] | None:
    if original.joins_network:
        return None
    pairs = (link.partition(":") for link in links or ())
    return [f"{source.lstrip('/')}:{posixpath.basename(alias)}" for source, _, alias in pairs]


def _volumes_from(original: Original, entries: Sequence[str] | None) -> list[str]:
    known = [(str(one["Id"]), str(one["Name"]).lstrip("/")) for one in original.sources]
    return [entry for entry in entries or () if _is_known(entry.partition(":")[0], known)]


def _named_binds(_original: Original, binds: Sequence[str] | None) -> list[str]:
    return [bind for bind in binds or () if ":" in bind]


def _mounts(original: Original, _entries: object) -> list[Inspected]:
    """Named ``--mount`` entries, then by its name each mount that nothing else brings back."""
    lost = (
        _restated(point)
        for place, point in original.points.items()
        if place not in original.declared and not original.inherits(place)
    )
    return [*original.named_entries, *lost]


CONFIG: Mapping[str, Rule] = {
    # The short id was never asked for; another's network or the host's names rule out one's own.
    "Hostname": _hostname,
    "Domainname": _outside_joined,
    "ExposedPorts": _outside_joined,
    "MacAddress": _outside_joined,
    # Set at the start by an engine without the default bridge: asked for, there are no networks.
    "NetworkDisabled": _network_disabled,
    # Inspected as null when it was emptied: null would bring the image's back.
    "Entrypoint": _entrypoint,
    # A name may have moved to another image since.
    "Image": _image,
}

HOST_CONFIG: Mapping[str, Rule] = {
    # All refused in another container's network.
    "PortBindings": _outside_joined,
    "PublishAllPorts": _outside_joined,
    "Dns": _outside_joined,
    "ExtraHosts": _outside_joined,
    # Inspected as /source:/self/alias.
    "Links": _links,
    # One that is gone would make the create fail.
    "VolumesFrom": _volumes_from,
    # A place alone is a volume without a name.
    "Binds": _named_binds,
    # Volumes without a name would come back empty.
    "Mounts": _mounts,
}


def _carried(original: Original, fields: Inspected, rules: Mapping[str, Rule]) -> dict[str, Any]:
    missing = {name: None for name in rules if name not in fields}
    every = {**fields, **missing}
    return {
        name: rules[name](original, value) if name in rules else value
        for name, value in every.items()
    }


def _given(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Without what is null: to the engine that is the same as not being there."""
    return {name: value for name, value in fields.items() if value is not None}


def _restated(point: Inspected) -> dict[str, Any]:
    """A ``--mount`` entry that brings just this mount back, nothing copied into it."""
    kind = point["Type"]
    options: Mapping[str, Any] = {
        "volume": {"Source": point.get("Name"), "VolumeOptions": {"NoCopy": True}},
        "bind": {
            "Source": point.get("Source"),
            "BindOptions": {"Propagation": point.get("Propagation") or "rprivate"},
        },
    }.get(kind, {"Source": point.get("Source") or None})
    read_only = {} if point.get("RW", True) else {"ReadOnly": True}
    return _given({"Type": kind, "Target": point["Destination"], **read_only, **options})


def _same_point(one: Inspected, other: Inspected) -> bool:
    origin = "Name" if one["Type"] == "volume" else "Source"
    return all(one.get(key) == other.get(key) for key in ("Destination", "Type", origin))


def _is_known(reference: str, known: Iterable[tuple[str, str]]) -> bool:
    return any(
        reference == name or container_id.startswith(reference) for container_id, name in known
    )


def _familiar(reference: str) -> str:
    """A reference as the engine lists it: without the default registry, with the default tag."""
    short = reference.removeprefix("docker.io/").removeprefix("library/")
    name, at, digest = short.partition("@")
    if at:
        return f"{_untagged(name)}@{digest}"
    return short if _untagged(short) != short else f"{short}:latest"


def _untagged(name: str) -> str:
    head, colon, tag = name.rpartition(":")
    return head if colon and "/" not in tag else name


def _platform(container: Inspected) -> str | None:
    """The platform chosen of an image for several, where the engine tells (API 1.48 and later)."""
    chosen = (container.get("ImageManifestDescriptor") or {}).get("platform") or {}
    parts = (chosen.get("os"), chosen.get("architecture"), chosen.get("variant"))
    return "/".join(part for part in parts if part) or None


# Networks.

ENDPOINT_FIELDS = ("IPAMConfig", "Links", "Aliases", "DriverOpts", "GwPriority", "MacAddress")
"""What of an endpoint somebody may have asked for; the rest is what came of it."""


def _attachments(original: Original) -> Iterator[NetworkAttachment]:
    """Its networks, the one of its network mode first; none where it has none of its own."""
    networks = _networks(original.container)
    mode = str(original.host_config.get("NetworkMode") or "default")
    wanted = "bridge" if mode == "default" else mode
    if original.joins_network:
        return

    def place(name: str) -> tuple[bool, bool]:
        network_id = str(networks[name].get("NetworkID") or "")
        return name != wanted, not network_id.startswith(wanted)

    for name in sorted(networks, key=place):
        if name not in {"host", "none"}:
            yield NetworkAttachment(name, _endpoint(networks[name], original.short_id))


def _networks(container: Inspected) -> Mapping[str, Inspected]:
    return (container.get("NetworkSettings") or {}).get("Networks") or {}


def _endpoint(settings: Inspected, short_id: str) -> dict[str, Any]:
    asked = {name: settings.get(name) for name in ENDPOINT_FIELDS}
    asked["Aliases"] = [alias for alias in asked["Aliases"] or () if alias != short_id]
    if _is_generated(settings):
        asked["MacAddress"] = None
    return {name: value for name, value in asked.items() if value}


def _is_generated(settings: Inspected) -> bool:
    """Tell a MAC address that the engine made of the IP address: another container may get both.

    From API 1.52 on, an address that was asked for cannot be told from a random one, which nobody
    else will get.
    """
    address = settings.get("IPAddress")
    if not address:
        return True
    digits = ipaddress.ip_address(address).packed.hex(":")
    return settings.get("MacAddress") == f"02:42:{digits}"


def _with_alias(network: NetworkAttachment, alias: str) -> NetworkAttachment:
    if network.network in DEFAULT_NETWORKS:  # knows no aliases
        return network
    aliases = [*network.endpoint.get("Aliases", ()), alias]
    endpoint = {**network.endpoint, "Aliases": list(dict.fromkeys(aliases))}
    return NetworkAttachment(network.network, endpoint)


# What stands in for a container or works beside it.


def _set_aside(original: Original, aside: Aside) -> Changes:
    return Changes(
        {
            "Image": original.container["Image"],
            "Env": _environment(original.config.get("Env") or (), aside.environment),
            "Labels": _labels(original, aside.job_id),
            # Nobody is to restart it for being ill, or keep requests from it until it is well.
            "Healthcheck": NO_HEALTHCHECK,
        },
        {
            # Anonymous volumes, too.
            "VolumesFrom": [original.container["Id"]],
            "Mounts": list(original.named_entries),
            "RestartPolicy": {"Name": "no"},
            "AutoRemove": False,
            "ContainerIDFile": None,
        },
    )


def _environment(current: Iterable[str], more: Mapping[str, str]) -> list[str]:
    kept = [entry for entry in current if entry.partition("=")[0] not in more]
    return [*kept, *(f"{name}={value}" for name, value in more.items())]


def _labels(original: Original, job_id: str) -> dict[str, str]:
    own: Mapping[str, str] = original.config.get("Labels") or {}
    inherited = (original.image.get("Config") or {}).get("Labels") or {}
    kept = {name: value for name, value in own.items() if not name.startswith(FOREIGN_LABELS)}
    # Left out, a label of the image would come back.
    emptied = {name: "" for name in inherited if name.startswith(FOREIGN_LABELS)}
    ours = {JOB_LABEL: job_id, ORIGINAL_LABEL: str(original.container["Id"])}
    return {**kept, **emptied, **ours}


# The proof.

NOT_COMPARED: Mapping[str, str] = {
    "Id": "new",
    "Name": "given",
    "Created": "a time",
    "State": "of the process",
    "RestartCount": "of the process",
    "ExecIDs": "of the process",
    "ResolvConfPath": "holds the id",
    "HostnamePath": "holds the id",
    "HostsPath": "holds the id",
    "LogPath": "holds the id",
    "GraphDriver": "holds the id of the writable layer; its name is Driver",
    "Storage": "as GraphDriver",
    "SizeRw": "of the writable layer",
    "SizeRootFs": "of the writable layer",
    "AppArmorProfile": "follows from SecurityOpt at the start",
    "MountLabel": "drawn anew, or follows from SecurityOpt",
    "ProcessLabel": "drawn anew, or follows from SecurityOpt",
}

ENDPOINT_NOT_COMPARED = frozenset(
    {
        *("NetworkID", "EndpointID", "DNSNames", "MacAddress", "Gateway", "IPAddress"),
        *("IPPrefixLen", "IPv6Gateway", "GlobalIPv6Address", "GlobalIPv6PrefixLen"),
    }
)
"""What the engine made of an endpoint when the container started; its static part is IPAMConfig."""


def differences(before: Inspected, after: Inspected, allowed: Iterable[str] = ()) -> list[str]:
    """Names of what is otherwise in ``after``, such as ``Config.Env.PATH``; never values.

    Not told: ids, times, names, what only a running process has, an anonymous volume that is now
    mounted by its name, an image now named by its id; and what is below a name in ``allowed``.
    """
    one, other = _facts(before, before), _facts(after, before)
    found = one.keys() ^ other.keys()
    found |= {path for path in one.keys() & other.keys() if one[path] != other[path]}
    expected = tuple(allowed)
    return sorted(path for path in found if not any(_is_within(path, name) for name in expected))


def _is_within(path: str, name: str) -> bool:
    return path == name or path.startswith(f"{name}.")


def _facts(inspected: Inspected, before: Inspected) -> dict[str, Any]:
    """All that is to be the same, by its name; ``before`` tells what the engine was asked for."""
    tree = {name: value for name, value in inspected.items() if name not in NOT_COMPARED}
    tree["Config"] = _config_facts(inspected, before)
    tree["HostConfig"] = _host_config_facts(inspected, before)
    tree["Mounts"] = _mount_facts(inspected, before)
    tree["NetworkSettings"] = _network_facts(inspected)
    return dict(_leaves(tree, ""))


def _leaves(tree: Mapping[str, Any], path: str) -> Iterator[tuple[str, Any]]:
    for name, value in tree.items():
        if isinstance(value, Mapping) and value:
            yield from _leaves(value, f"{path}{name}.")
        else:
            yield f"{path}{name}", value or _unless_empty(value)


def _unless_empty(value: object) -> object:
    """Nothing in one way: the engine answers null for an empty list, and the other way round."""
    return value if isinstance(value, bool | int) else None


def _filled(fields: Mapping[str, Any]) -> dict[str, Any]:
    return {k: v for k, v in fields.items() if v or _unless_empty(v) is not None}


def _config_facts(inspected: Inspected, before: Inspected) -> dict[str, Any]:
    own = Original(inspected, {})
    told = {name: rule(own, own.config.get(name)) for name, rule in _SAME_WHEN_READ.items()}
    pairs = (entry.partition("=") for entry in own.config.get("Env") or ())
    environment = {name: value for name, _, value in pairs}
    by_id = own.config.get("Image") == before["Image"]
    image = before["Config"].get("Image") if by_id else own.config.get("Image")
    return _filled({**own.config, **told, "Env": environment, "Image": image})


_SAME_WHEN_READ = {name: CONFIG[name] for name in ("Hostname", "Domainname", "NetworkDisabled")}
"""Fields that read otherwise while nothing else was asked for."""


def _host_config_facts(inspected: Inspected, before: Inspected) -> dict[str, Any]:
    own, asked = Original(inspected, {}), Original(before, {})
    entries = {entry["Target"]: entry for entry in own.named_entries if not _restates(entry, asked)}
    links = sorted(_links(own, own.host_config.get("Links")) or ())  # read in any order
    binds = _named_binds(own, own.host_config.get("Binds"))
    return _filled({**own.host_config, "Binds": binds, "Links": links, "Mounts": entries})


def _restates(entry: Inspected, asked: Original) -> bool:
    """Tell an entry that names a mount which was there before without being named."""
    place = posixpath.normpath(entry["Target"])
    if place in asked.declared or place not in asked.points:
        return False
    return entry == _restated(asked.points[place])


def _mount_facts(inspected: Inspected, before: Inspected) -> dict[str, Any]:
    asked = Original(before, {})
    return {
        # A volume without a name has no mode; the others have the engine's default at least.
        place: {k: v for k, v in point.items() if k != "Mode" or place in asked.declared}
        for place, point in Original(inspected, {}).points.items()
    }


def _network_facts(inspected: Inspected) -> dict[str, Any]:
    own = Original(inspected, {})
    return {"Networks": {n: _endpoint_facts(s, own) for n, s in _networks(inspected).items()}}


def _endpoint_facts(settings: Inspected, own: Original) -> dict[str, Any]:
    told = {k: v for k, v in settings.items() if k not in ENDPOINT_NOT_COMPARED}
    aliases = [alias for alias in told.get("Aliases") or () if alias != own.short_id]
    return _filled({**told, "Aliases": aliases, "Connected": True})
