"""The port ``EngineController`` over the Docker Engine API. No call is made twice."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any
from urllib.parse import quote

from service.adapters.engine.processes import Processes
from service.adapters.engine.pushing import push
from service.adapters.engine.transport import (
    CHANGE_SECONDS,
    Call,
    Transport,
    container_path,
    image_path,
)
from service.domain.audit import Change
from service.domain.engine import (
    Creation,
    Inspected,
    NetworkAttachment,
    Output,
    PushName,
    RegistryLogin,
    RestartPolicy,
)
from service.domain.errors import (
    ContainerNotRunning,
    ContainerStartFailed,
    ContainerUnknown,
    EngineRefused,
    ImageUnknown,
    RegistryAdminError,
)

STOP_SECONDS = 10
"""How long an engine lets a container end that was not told otherwise."""

STOP_LIMIT = 3600
"""The longest that a stop is waited for, where a container may take for ever."""

REMOVAL_SECONDS = 30.0
LOOK_SECONDS = 0.1
ALREADY = "already in progress"

ALL_NETWORKS_AT_CREATE = (1, 44)
"""From this version of the API on a create takes all networks, and a MAC address for each."""

ENDPOINT_FIELDS_BEFORE = frozenset({"IPAMConfig", "Aliases", "Links", "DriverOpts"})
"""What an endpoint can be asked for before that."""


class DockerController:
    """Changes one engine's containers and names of images, as long as its change is open."""

    def __init__(self, transport: Transport, change: Change) -> None:
        """Change by ``transport`` what ``change`` allows."""
        self._transport = transport
        self._change = change

    def create(self, creation: Creation) -> str:
        """See the port."""
        body, later = self._body(creation)
        query = {"name": creation.name, "platform": creation.platform}
        container_id = str(self._do("POST", "/containers/create", query, body)["Id"])
        try:
            for network in later:
                self._connect(network, container_id)
        except RegistryAdminError:
            # Half a container would only be in the way.
            with suppress(RegistryAdminError):
                self.remove(container_id)
            raise
        return container_id

    def start(self, container_id: str) -> None:
        """See the port."""
        with _start_failures():
            self._do("POST", container_path(container_id, "/start"))

    def stop(self, container_id: str, timeout_seconds: int | None = None) -> None:
        """See the port."""
        self._end(container_id, "/stop", timeout_seconds)

    def restart(self, container_id: str, timeout_seconds: int | None = None) -> None:
        """See the port; raise ContainerStartFailed as ``start`` does."""
        with _start_failures():
            self._end(container_id, "/restart", timeout_seconds)

    def rename(self, container_id: str, name: str) -> None:
        """See the port."""
        self._do("POST", container_path(container_id, "/rename"), {"name": name})

    def remove(self, container_id: str) -> None:
        """See the port."""
        self._remove(container_id, volumes=0)

    def discard(self, container_id: str) -> None:
        """See the port."""
        self._remove(container_id, volumes=1)

    def _remove(self, container_id: str, volumes: int) -> None:
        try:
            self._do("DELETE", container_path(container_id), {"v": volumes, "force": 0})
        except ContainerUnknown:
            return
        except EngineRefused as error:
            if ALREADY not in error.detail:
                raise
            self._await_removal(container_id, error)

    def set_restart_policy(self, container_id: str, policy: RestartPolicy) -> None:
        """See the port."""
        count = policy.maximum_retry_count
        body = {"RestartPolicy": {"Name": policy.name, "MaximumRetryCount": count}}
        self._do("POST", container_path(container_id, "/update"), body=body)

    def execute(
        self,
        container_id: str,
        command: Sequence[str],
        output: Output,
        stop: Callable[[], bool],
        timeout_seconds: float,
    ) -> int | None:
        """See the port; raise ContainerNotRunning."""
        self._change.require_open()
        run = Processes(self._transport).execute
        return run(container_id, command, output, stop, timeout_seconds)

    def wait(
        self, container_id: str, output: Output, stop: Callable[[], bool], timeout_seconds: float
    ) -> int | None:
        """See the port."""
        self._change.require_open()
        return Processes(self._transport).wait(container_id, output, stop, timeout_seconds)

    def tag(self, image_id: str, name: PushName) -> None:
        """See the port."""
        query = {"repo": name.repository, "tag": name.tag}
        self._do("POST", image_path(image_id, "/tag"), query)

    def untag(self, name: PushName) -> None:
        """See the port."""
        with suppress(ImageUnknown):
            self._do("DELETE", image_path(str(name)), {"noprune": 1, "force": 0})

    def push(
        self,
        name: PushName,
        login: RegistryLogin | None,
        hear: Callable[[Mapping[str, Any]], None],
        stop: Callable[[], bool],
    ) -> bool:
        """See the port."""
        self._change.require_open()
        return push(self._transport, name, login, hear, stop)

    def _do(
        self,
        method: str,
        path: str,
        query: Mapping[str, Any] | None = None,
        body: Mapping[str, Any] | None = None,
        seconds: float = CHANGE_SECONDS,
    ) -> Any:  # noqa: ANN401 - whatever JSON the engine answers
        self._change.require_open()
        return self._transport.ask(Call(method, path, query, body, seconds))

    def _end(self, container_id: str, how: str, timeout_seconds: int | None) -> None:
        seconds = self._patience(container_id, timeout_seconds)
        path = container_path(container_id, how)
        self._do("POST", path, {"t": timeout_seconds}, seconds=seconds)

    def _patience(self, container_id: str, timeout_seconds: int | None) -> float:
        """Seconds that a stop may take: the container's own, or ours, and the engine's work."""
        if timeout_seconds is None:
            own = self._transport.inspect(container_id)["Config"].get("StopTimeout")
            timeout_seconds = STOP_SECONDS if own is None else int(own)
        longest = timeout_seconds if 0 <= timeout_seconds < STOP_LIMIT else STOP_LIMIT
        return longest + CHANGE_SECONDS

    def _body(self, creation: Creation) -> tuple[Inspected, Sequence[NetworkAttachment]]:
        """What to create, and the networks that it must be connected to afterwards."""
        body, networks = dict(creation.body), list(creation.networks)
        if self._transport.api_version >= ALL_NETWORKS_AT_CREATE:
            first, later = networks, []
            mac_address = body.pop("MacAddress", None)
            if networks and mac_address:
                first[0] = _with_mac_address(first[0], mac_address)
        else:
            networks = [_before(network) for network in networks]
            first, later = networks[:1], networks[1:]
        endpoints = {network.network: network.endpoint for network in first}
        return {**body, "NetworkingConfig": {"EndpointsConfig": endpoints}}, later

    def _connect(self, network: NetworkAttachment, container_id: str) -> None:
        body = {"Container": container_id, "EndpointConfig": network.endpoint}
        self._do("POST", f"/networks/{quote(network.network, safe='')}/connect", body=body)

    def _await_removal(self, container_id: str, error: EngineRefused) -> None:
        deadline = time.monotonic() + REMOVAL_SECONDS
        while time.monotonic() < deadline:
            try:
                self._transport.inspect(container_id)
            except ContainerUnknown:
                return
            time.sleep(LOOK_SECONDS)
        raise error


@contextmanager
def _start_failures() -> Iterator[None]:
    """Whatever the engine refuses while it starts a container is the reason of a failed start."""
    try:
        yield
    except (EngineRefused, ContainerNotRunning) as error:
        raise ContainerStartFailed(error.detail) from error


def _with_mac_address(network: NetworkAttachment, mac_address: str) -> NetworkAttachment:
    return NetworkAttachment(network.network, {**network.endpoint, "MacAddress": mac_address})


def _before(network: NetworkAttachment) -> NetworkAttachment:
    kept = {
        name: network.endpoint[name] for name in network.endpoint if name in ENDPOINT_FIELDS_BEFORE
    }
    return NetworkAttachment(network.network, kept)
