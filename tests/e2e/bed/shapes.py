"""Containers of many shapes, a row each, made by the docker command on the bed's engine."""

from __future__ import annotations

import io
import itertools
import json
import os
import shlex
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

from docker.errors import NotFound
from docker.models.containers import Container
from docker.types import IPAMConfig, IPAMPool

from demo.processes import free_port
from service.adapters.engine import DockerEngine
from service.domain.audit import Attempt, AuditTrail
from service.domain.engine import EngineController, Inspected
from service.domain.errors import ContainerStartFailed, ContainerUnknown
from service.domain.recreation import creation_of, volume_sources
from service.settings import EngineSettings
from tests.e2e.bed.clients import DockerCommand
from tests.e2e.bed.engine import Engine
from tests.fakes_store import FakeStore

NUMBERS = itertools.count(1)
SLEEP = "sleep 600"

FULL = b"""\
FROM %s
COPY Dockerfile /etc/seeded/file
ENTRYPOINT ["sleep"]
CMD ["500"]
VOLUME /data /etc/seeded
ENV A=1 B=2
LABEL com.docker.compose.project=of-the-image kind=full
EXPOSE 5000
USER 1000
WORKDIR /tmp
STOPSIGNAL SIGKILL
HEALTHCHECK --interval=700ms --retries=9 CMD true
"""
"""An image with everything that a container may inherit."""


@dataclass(frozen=True)
class Shape:
    """Options of `docker run`, then of `docker network connect`, one a network."""

    name: str
    options: str = ""
    image: str = "box"
    command: str = SLEEP
    connect: tuple[str, ...] = ()
    disconnect: str = ""
    body: str = ""
    """Fields of a create (JSON) that the command has no options for."""


STORAGE = (
    Shape("anonymous volume", "-v /data"),
    Shape("anonymous volume, a slash behind", "-v /data/"),
    Shape("anonymous volumes, several", "-v /one -v /two -v /one/inner"),
    Shape("anonymous volume, among the binds", body='{{"HostConfig": {{"Binds": ["/data"]}}}}'),
    Shape("named volume", "-v {named}:/data"),
    Shape("named volume, a slash behind", "-v {named}:/data/"),
    Shape("named volume in place of the image's", "-v {named}:/data", "full", ""),
    Shape("named volume, read-only", "-v {named}:/data:ro"),
    Shape("named volume, nothing copied", "-v {named}:/data:nocopy"),
    Shape("named volume with its driver", "--volume-driver local -v {named}:/data"),
    Shape("bind", "-v {folder}:/bound"),
    Shape("bind, read-only with a propagation", "-v {folder}:/bound:ro,private"),
    Shape("tmpfs", "--tmpfs /t:size=1m,mode=1770 --tmpfs /u"),
    Shape("mount, volume", "--mount type=volume,src={named},dst=/data"),
    Shape("mount, read-only", "--mount type=volume,src={named},dst=/data,readonly"),
    Shape("mount, anonymous", "--mount type=volume,dst=/data"),
    Shape(
        "mount, anonymous with options",
        "--mount type=volume,dst=/data,volume-nocopy,volume-label=a=b",
    ),
    Shape("mount, bind", "--mount type=bind,src={folder},dst=/bound"),
    Shape(
        "mount, bind with options",
        "--mount type=bind,src={folder},dst=/bound,readonly,bind-propagation=private",
    ),
    Shape("mount, tmpfs", "--mount type=tmpfs,dst=/t,tmpfs-size=1048576,tmpfs-mode=1770"),
    Shape("volumes of another container", "--volumes-from {other}"),
    Shape("volumes of another one, read-only", "--volumes-from {other}:ro -v /own"),
    Shape(
        "volumes of each kind",
        "--volumes-from {other} -v /a -v {named}:/n -v {folder}:/b --tmpfs /t "
        "--mount type=volume,dst=/m",
        "full",
        "",
    ),
)

NETWORK = (
    Shape("no network", "--network none"),
    Shape("host network", "--network host"),
    Shape("host network, host name set", "--network host -h elsewhere"),
    Shape("host network and names", "--network host --uts host"),
    Shape("another container's network", "--network container:{other}", "full", "600"),
    Shape("user network", "--network {front}"),
    Shape("user network by its id", "--network {front_id}"),
    Shape(
        "two user networks, static addresses, aliases",
        "--network {front} --ip {front_ip} --network-alias a --network-alias b",
        connect=("--ip {back_ip} --alias c {back}",),
    ),
    Shape("three networks", "--network {back}", connect=("--alias z {front}", "{third}")),
    Shape("static IPv6 address", "--network {third} --ip6 fd00:98:76::77"),
    Shape("link-local address", "--network {front} --link-local-ip 169.254.7.7"),
    Shape(
        "options of an endpoint",
        "--network {front}",
        connect=("--driver-opt com.docker.network.endpoint.test=1 {back}",),
    ),
    Shape("left its first network", "--network {front}", connect=("{back}",), disconnect="{front}"),
    Shape("link in a user network", "--network {front} --link {neighbour}:aka"),
    Shape("link in the default network", "--link {plain}:aka --link {plain}"),
    Shape("MAC address", "--network {front}", body='{{"MacAddress": "02:00:00:00:07:07"}}'),
    Shape("published", "--network {front} -p 127.0.0.1:{port}:80 -p 127.0.0.1::81/udp"),
    Shape("all published", "--network {front} -P --expose 7000-7002", "full", ""),
    Shape(
        "name servers",
        "--network {front} --dns 127.0.0.1 --dns-search a.example --dns-option ndots:2",
    ),
    Shape("extra hosts", "--add-host a:127.0.0.2 --add-host b:127.0.0.3"),
    Shape("host name", "-h box.example"),
    Shape("host and domain name", "-h box --domainname example.com"),
    Shape("domain name alone", "--domainname example.com"),
)

PROCESS = (
    Shape("command overridden", image="full", command="300"),
    Shape("entrypoint emptied", "--entrypoint ''", "full"),
    Shape("entrypoint emptied where there is none", "--entrypoint ''"),
    Shape("entrypoint replaced", "--entrypoint /bin/sleep", "full", "400"),
    Shape("entrypoint replaced, no command", "-i --entrypoint /bin/cat", "full", ""),
    Shape("environment", "-e A=changed -e C= -e 'D=a b' -e E==x", "full", ""),
    Shape("labels", "--label kind=other --label empty= --label 'a.b/c=d e'", "full", ""),
    Shape(
        "labels of compose",
        "--label com.docker.compose.project=shop --label com.docker.compose.service=web "
        "--label com.docker.compose.config-hash=abc --label com.docker.compose.oneoff=False",
    ),
    Shape("health check", "--health-cmd true --health-interval 5s --health-start-period 1s"),
    Shape("health check inherited", "-e X=1", "full", ""),
    Shape("health check inherited in part", "--health-interval 9s", "full", ""),
    Shape("health check off", "--no-healthcheck", "full", ""),
    Shape("terminal", "-t"),
    Shape("standard input", "-i"),
    Shape("terminal and standard input", "-it"),
    Shape("user", "--user 1000:1001"),
    Shape("user over the image's", "--user 0", "full", ""),
    Shape("more groups", "--group-add 44 --group-add 1001"),
    Shape("working directory", "-w /made/for/this"),
    Shape("stop signal and time-out", "--stop-signal SIGUSR1 --stop-timeout 3"),
    Shape("init", "--init"),
    Shape("no init", "--init=false"),
    Shape("read-only root", "--read-only --tmpfs /tmp"),
    Shape("restart always", "--restart always"),
    Shape("restart unless stopped", "--restart unless-stopped"),
    Shape("restart on failure", "--restart on-failure:5"),
    Shape("id file", "--cidfile {folder}/cid-{number}"),
)

LIMITS = (
    Shape("memory", "-m 64m"),
    Shape("memory and swap", "-m 64m --memory-swap 128m --memory-reservation 32m"),
    Shape("memory without swap", "-m 64m --memory-swap -1 --memory-swappiness 10"),
    Shape("killer of memory hogs", "-m 64m --oom-kill-disable --oom-score-adj 100"),
    Shape("cpus", "--cpus 0.5 --cpu-shares 512 --cpuset-cpus 0 --cpuset-mems 0"),
    Shape("cpu period", "--cpu-period 50000 --cpu-quota 25000"),
    Shape("cpu real-time", "--cpu-rt-runtime 100 --cpu-rt-period 1000000"),
    Shape("pids", "--pids-limit 50"),
    Shape("pids unlimited", "--pids-limit -1"),
    Shape("shared memory", "--shm-size 32m"),
    Shape("ulimits", "--ulimit nofile=100:200 --ulimit core=0 --ulimit nproc=500"),
    Shape("block weight", "--blkio-weight 300"),
    Shape("block devices", "--device-read-bps /dev/null:1mb --device-write-iops /dev/null:10"),
    Shape("control group", "--cgroup-parent /bed --cgroupns private"),
    Shape("writable layer limited", "--storage-opt size=1g"),
    Shape("devices", "--device /dev/null:/dev/other:r --device /dev/zero"),
    Shape("device rules", "--device-cgroup-rule 'c 1:* rmw'"),
    Shape("graphics", "--gpus all"),
    Shape("capabilities", "--cap-add NET_RAW --cap-drop MKNOD --cap-drop SETPCAP"),
    Shape("no capabilities", "--cap-drop ALL"),
    Shape("privileged", "--privileged"),
    Shape("no new privileges", "--security-opt no-new-privileges"),
    Shape("no seccomp", "--security-opt seccomp=unconfined"),
    Shape("seccomp profile", "--security-opt seccomp={folder}/seccomp.json"),
    Shape("no AppArmor", "--security-opt apparmor=unconfined"),
    Shape("no SELinux", "--security-opt label=disable"),
    Shape("system paths", "--security-opt systempaths=unconfined"),
    Shape("sysctls", "--network {front} --sysctl net.core.somaxconn=99"),
    Shape("runtime", "--runtime io.containerd.runc.v2"),
    Shape("ipc of the host", "--ipc host"),
    Shape("ipc shareable", "--ipc shareable"),
    Shape("ipc of another container", "--ipc container:{other}"),
    Shape("pids of the host", "--pid host"),
    Shape("pids of another container", "--pid container:{other}"),
    Shape("names of the host", "--uts host"),
    Shape("users of the host", "--userns host"),
    Shape("log options", "--log-opt max-size=1m --log-opt max-file=3 --log-opt labels=kind"),
    Shape("log driver", "--log-driver local --log-opt max-size=1m"),
    Shape("no log", "--log-driver none"),
    Shape("log by address", "--log-driver syslog --log-opt syslog-address=udp://127.0.0.1:9"),
)

PLAIN = {
    "box": Shape("default network"),
    "full": Shape("image's command", image="full", command=""),
}
"""Of each image one of which nothing was asked."""

SHAPES = (*PLAIN.values(), *STORAGE, *NETWORK, *PROCESS, *LIMITS)


class Workshop:
    """Where shapes are made: the engine, and in ``words`` what their options name."""

    def __init__(
        self, engine: Engine, docker: DockerCommand, words: dict[str, str], stack: ExitStack
    ) -> None:
        self.engine = engine
        self.docker = docker
        self.port = DockerEngine(EngineSettings("local", engine.host))
        self.words = dict(words)
        self.stack = stack

    def controller(self) -> EngineController:
        return self.port.controller(AuditTrail(FakeStore().audit).begin(Attempt("test", "t")))

    def name(self) -> str:
        name = f"shape-{self.engine.workspace.owner}-{next(NUMBERS)}"
        self.stack.callback(self.remove, name)
        return name

    def remove(self, name: str) -> None:
        try:
            self.engine.client.containers.get(name).remove(force=True, v=True)
        except NotFound:
            return

    def container(self, name: str) -> Container:
        return self.engine.client.containers.get(name)

    def create(self, shape: Shape) -> str:
        """Make a container of that shape; gives its name."""
        name = self.name()
        words = {**self.words, "number": str(next(NUMBERS)), "port": str(free_port())}
        labels = [f"--label={key}={value}" for key, value in self.engine.labels.items()]
        options = shlex.split(shape.options.format(**words))
        command = shlex.split(shape.command)
        image = self.words[shape.image]
        self.docker("create", f"--name={name}", *labels, *options, image, *command)
        if shape.body:
            self.create_again(name, json.loads(shape.body.format(**words)))
        for connection in shape.connect:
            self.docker("network", "connect", *shlex.split(connection.format(**words)), name)
        if shape.disconnect:
            self.docker("network", "disconnect", shape.disconnect.format(**words), name)
        return name

    def create_again(self, name: str, fields: Mapping[str, Any]) -> None:
        """Make the container anew with fields that the command has no options for."""
        found = self.container(name).attrs
        self.remove(name)
        host_config = {**found["HostConfig"], **fields.get("HostConfig", {})}
        body = {**found["Config"], **fields, "HostConfig": host_config, "Hostname": ""}
        api = self.engine.client.api
        api.create_container_from_config(body, name)  # type: ignore[no-untyped-call]

    def twin(self, before: Inspected) -> str:
        """Make it once more, as the service does; gives the id."""
        creation = creation_of(
            before, self.port.image(before["Image"]), name=self.name(), sources=self.sources(before)
        )
        return self.controller().create(creation)

    def sources(self, container: Inspected) -> list[Inspected]:
        found = []
        for reference in volume_sources(container):
            try:
                found.append(self.port.container(reference))
            except ContainerUnknown:
                continue
        return found

    def start(self, name: str) -> str | None:
        """Start a container; gives the reason when that cannot be."""
        try:
            self.controller().start(name)
        except ContainerStartFailed as error:
            return error.detail
        return None

    def running(self, options: str, image: str = "box", command: str = SLEEP) -> str:
        """Make a container and start it; gives its name."""
        name = self.create(Shape("special", options, image, command))
        assert self.start(name) is None
        return name

    def fill(self, name: str) -> dict[str, bytes]:
        """Write a file of its own into each place that can be written; gives them by path."""
        written = {}
        for mount in self.container(name).attrs["Mounts"]:
            if mount["Type"] in {"volume", "bind"} and mount["RW"]:
                # Two places may be the same one.
                path = f"{mount['Destination']}/{name}{mount['Destination'].replace('/', '-')}"
                self.write(name, path, f"{name} {path}")
                written[path] = f"{name} {path}".encode()
        return written

    def write(self, name: str, path: str, content: str) -> None:
        code, said = self.container(name).exec_run(
            ["sh", "-c", 'printf %s "$C" > "$P"'], user="0", environment={"C": content, "P": path}
        )
        assert code == 0, said


@contextmanager
def named_things(engine: Engine, docker: DockerCommand) -> Iterator[dict[str, str]]:
    """What options name, made once for all shapes."""
    with ExitStack() as stack:
        made = {"box": engine.busybox_image(), **networks(engine, stack)}
        made["full"] = full_image(engine, stack)
        folder = engine.workspace.folder("shapes")
        (folder / "seccomp.json").write_text('{"defaultAction": "SCMP_ACT_ALLOW"}')
        made |= {"folder": str(folder), "named": volume(engine, stack)}
        options = {
            "other": f"-v /shared -v {folder}:/bound --network none --ipc shareable",
            "neighbour": f"--network {made['front']}",
            "plain": "",
        }
        for role, text in options.items():
            made[role] = f"shape-{role}-{engine.workspace.owner}"
            labels = [f"--label={key}={value}" for key, value in engine.labels.items()]
            command = [f"--name={made[role]}", *labels, *shlex.split(text), made["box"]]
            docker("run", "-d", *command, *shlex.split(SLEEP))
            container = engine.client.containers.get(made[role])
            stack.callback(container.remove, force=True, v=True)
        yield made


def networks(engine: Engine, stack: ExitStack) -> dict[str, str]:
    """Three networks of addresses that are for tests alone (RFC 2544)."""
    made: dict[str, Any] = {}
    for number, role in enumerate(("front", "back", "third")):
        subnet = f"198.{18 + number % 2}.{os.getpid() % 200 + number}"
        pools = [IPAMPool(subnet=f"{subnet}.0/24")]
        if role == "third":
            pools.append(IPAMPool(subnet="fd00:98:76::/64"))
        network = engine.client.networks.create(
            f"shape-{role}-{engine.workspace.owner}",
            ipam=IPAMConfig(pool_configs=pools),
            enable_ipv6=role == "third",
            labels=engine.labels,
        )
        stack.callback(network.remove)
        made |= {role: network.name, f"{role}_id": network.id, f"{role}_ip": f"{subnet}.77"}
    return {key: str(value) for key, value in made.items()}


def volume(engine: Engine, stack: ExitStack) -> str:
    made = engine.client.volumes.create(
        f"shape-{engine.workspace.owner}-{next(NUMBERS)}", labels=engine.labels
    )
    stack.callback(made.remove, force=True)
    return str(made.name)


def full_image(engine: Engine, stack: ExitStack) -> str:
    name = engine.busybox.replace("busybox:", "full:")
    steps = engine.client.api.build(
        fileobj=io.BytesIO(FULL % engine.busybox_image().encode()),
        tag=name,
        rm=True,
    )
    said = b"".join(steps)
    assert b"Successfully tagged" in said, said
    stack.callback(engine.client.images.remove, name, force=True)
    return name
