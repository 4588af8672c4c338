"""Changes as they are sent, and what engines of several versions are asked for."""

from __future__ import annotations

from typing import Any

import pytest

from service.adapters.engine import controller as module
from service.adapters.engine.controller import STOP_LIMIT
from service.adapters.engine.transport import CHANGE_SECONDS, Call, Transport
from service.domain.engine import Creation, EngineController, NetworkAttachment
from service.domain.errors import ContainerStartFailed, EngineRefused
from tests.unit.adapters.engine.conftest import StandIn

CREATE = "POST /containers/create"
FRONT = NetworkAttachment("front", {"Aliases": ["a"], "GwPriority": 2, "MacAddress": "02:00:01"})
BACK = NetworkAttachment("back", {"IPAMConfig": {"IPv4Address": "10.0.0.2"}, "GwPriority": 1})


@pytest.fixture
def creating(stand_in: StandIn) -> StandIn:
    stand_in.on(CREATE, {"Id": "c1", "Warnings": []}, status=201)
    stand_in.on("POST /networks/back/connect", b"")
    return stand_in


def creation(**body: object) -> Creation:
    return Creation("web", {"Image": "i", **body}, (FRONT, BACK), "linux/arm64")


def test_before_1_44_one_network_is_created_with_and_the_others_connected(
    controller: EngineController, creating: StandIn
) -> None:
    assert controller.create(creation(MacAddress="02:00:02")) == "c1"
    asked = creating.last(CREATE)
    assert asked.query == {"name": "web", "platform": "linux/arm64"}
    assert asked.body == {
        "Image": "i",
        "MacAddress": "02:00:02",
        "NetworkingConfig": {"EndpointsConfig": {"front": {"Aliases": ["a"]}}},
    }
    endpoint = {"IPAMConfig": {"IPv4Address": "10.0.0.2"}}
    connected = creating.last("POST /networks/back/connect").body
    assert connected == {"Container": "c1", "EndpointConfig": endpoint}


def test_from_1_44_on_all_networks_are_created_with(
    controller: EngineController, creating: StandIn
) -> None:
    creating.api_version = "1.47"
    controller.create(creation())
    endpoints = {"front": FRONT.endpoint, "back": BACK.endpoint}
    assert creating.last(CREATE).body["NetworkingConfig"] == {"EndpointsConfig": endpoints}
    assert not creating.count("POST /networks/back/connect")


def test_from_1_44_on_a_mac_address_belongs_to_the_first_network(
    controller: EngineController, creating: StandIn
) -> None:
    creating.api_version = "1.44"
    controller.create(creation(MacAddress="02:00:02"))
    body = creating.last(CREATE).body
    assert "MacAddress" not in body
    assert body["NetworkingConfig"]["EndpointsConfig"]["front"]["MacAddress"] == "02:00:02"


def test_without_networks_and_platform_none_are_named(
    controller: EngineController, creating: StandIn
) -> None:
    for creating.api_version in ("1.41", "1.47"):
        controller.create(Creation("web", {"Image": "i"}))
        asked = creating.last(CREATE)
        assert asked.query == {"name": "web"}
        assert asked.body["NetworkingConfig"] == {"EndpointsConfig": {}}


def test_what_cannot_be_connected_is_removed_again(
    controller: EngineController, creating: StandIn
) -> None:
    creating.on("POST /networks/back/connect", {"message": "no room"}, status=403)
    creating.on("DELETE /containers/c1", status=204)
    with pytest.raises(EngineRefused, match="no room"):
        controller.create(creation())
    assert creating.last("DELETE /containers/c1").query == {"v": "0", "force": "0"}


def test_a_change_is_never_tried_twice(controller: EngineController, stand_in: StandIn) -> None:
    stand_in.on(CREATE, {"message": "busy"}, status=503)
    with pytest.raises(EngineRefused, match="busy"):
        controller.create(Creation("web", {"Image": "i"}))
    assert stand_in.count(CREATE) == 1


@pytest.mark.parametrize(
    "refused",
    [(400, "OCI runtime create failed"), (404, "network front not found"), (409, "is paused")],
)
@pytest.mark.parametrize("what", ["start", "restart"])
def test_whatever_hinders_a_start_is_its_reason(
    controller: EngineController, stand_in: StandIn, what: str, refused: tuple[int, str]
) -> None:
    status, message = refused
    stand_in.on("GET /containers/c1/json", {"Config": {}})
    stand_in.on(f"POST /containers/c1/{what}", {"message": message}, status=status)
    with pytest.raises(ContainerStartFailed, match=message):
        getattr(controller, what)("c1")


class Times:
    """Notes what time each call was given."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.given: dict[str, float] = {}
        ask = Transport.ask

        def noting(transport: Transport, call: Call) -> Any:  # noqa: ANN401 - as there
            self.given[call.path] = call.seconds
            return ask(transport, call)

        monkeypatch.setattr(Transport, "ask", noting)


@pytest.fixture
def times(monkeypatch: pytest.MonkeyPatch) -> Times:
    return Times(monkeypatch)


@pytest.mark.parametrize("what", ["stop", "restart"])
@pytest.mark.parametrize(
    "row",
    [
        # its own time, ours, what is sent, what is waited for
        (None, None, None, 10),
        (300, None, None, 300),
        (0, None, None, 0),
        (300, 5, "5", 5),
        (None, 0, "0", 0),
        (-1, None, None, STOP_LIMIT),
        (10**9, None, None, STOP_LIMIT),
    ],
)
def test_a_stop_takes_its_own_time_and_a_little_more(
    controller: EngineController,
    stand_in: StandIn,
    times: Times,
    what: str,
    row: tuple[int | None, int | None, str | None, int],
) -> None:
    own, ours, sent, seconds = row
    stand_in.on("GET /containers/c1/json", {"Config": {"StopTimeout": own}})
    stand_in.on(f"POST /containers/c1/{what}", status=204)
    getattr(controller, what)("c1", ours)
    assert stand_in.last(f"POST /containers/c1/{what}").query.get("t") == sent
    assert times.given[f"/containers/c1/{what}"] == seconds + CHANGE_SECONDS


def test_a_removal_that_is_under_way_is_waited_for(
    controller: EngineController, stand_in: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand_in.on("GET /containers/c1/json", {"Id": "c1"})
    message = "removal of container c1 is already in progress"
    stand_in.on("DELETE /containers/c1", {"message": message}, status=409)

    def sleep(_seconds: float) -> None:
        stand_in.on("GET /containers/c1/json", {"message": "No such container: c1"}, status=404)

    monkeypatch.setattr("service.adapters.engine.controller.time.sleep", sleep)
    controller.remove("c1")
    assert stand_in.count("GET /containers/c1/json") == 2
    assert stand_in.count("DELETE /containers/c1") == 1


def test_a_removal_that_never_ends_is_told(
    controller: EngineController, stand_in: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "REMOVAL_SECONDS", 0.05)
    stand_in.on("GET /containers/c1/json", {"Id": "c1"})
    message = "removal of container c1 is already in progress"
    stand_in.on("DELETE /containers/c1", {"message": message}, status=409)
    with pytest.raises(EngineRefused, match="already in progress"):
        controller.remove("c1")
