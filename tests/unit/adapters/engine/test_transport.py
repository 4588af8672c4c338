"""Conversation with an engine that is away, slow, or answers what nobody should believe."""

from __future__ import annotations

import errno
import json
import re
import threading

import pytest

from service.adapters.engine import DockerEngine, transport
from service.adapters.engine.failures import REASON_LIMIT, unreachable
from service.adapters.engine.transport import Call, Transport
from service.domain.errors import (
    ContainerNameTaken,
    ContainerNotRunning,
    ContainerUnknown,
    EngineRefused,
    EngineUnreachable,
    ImageUnknown,
)
from service.settings import EngineSettings
from tests.unit.adapters.engine.conftest import StandIn

INSPECT = "GET /containers/a/json"


def test_an_engine_that_answers_is_up(engine: DockerEngine, stand_in: StandIn) -> None:
    stand_in.on("GET /_ping", b"OK")
    assert engine.status() == "up"
    assert engine.api_version == (1, 41)
    assert engine.name == "local"


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("unix:///nowhere/docker.sock", "No such file or directory. Is Docker running"),
        ("tcp://127.0.0.1:1", "Connection refused. Is Docker running"),
        ("ssh://127.0.0.1:1", "does not answer"),
    ],
)
def test_an_engine_that_is_not_there_is_down(url: str, words: str) -> None:
    engine = DockerEngine(EngineSettings("far", url))
    assert engine.status() == "down"
    assert engine.registry_version("registry") is None
    with pytest.raises(EngineUnreachable, match=f"The engine 'far' at {url} .*{re.escape(words)}"):
        engine.container("a")


def test_a_socket_that_is_not_for_us_is_said_to_be_so() -> None:
    denied = OSError("Connection aborted.", PermissionError(errno.EACCES, "Permission denied"))
    error = unreachable("local", "unix:///some.sock", denied)
    assert "Permission denied. May the service's user use the socket" in error.detail


def test_an_engine_that_is_silent_is_given_up(stand_in: StandIn) -> None:
    stand_in.on(INSPECT, {}, hangs=True)
    asked = Transport(EngineSettings("local", stand_in.url))
    with pytest.raises(EngineUnreachable, match="timed out"):
        asked.ask(Call("GET", "/containers/a/json", seconds=0.1))


def test_an_engine_that_answers_drop_by_drop_is_given_up(stand_in: StandIn) -> None:
    stand_in.on(INSPECT, stream=[b" "] * 1000, pause=0.02)
    asked = Transport(EngineSettings("local", stand_in.url))
    with pytest.raises(EngineUnreachable, match="no whole answer in"):
        asked.ask(Call("GET", "/containers/a/json", seconds=0.1))


def test_a_connection_that_broke_is_made_anew(engine: DockerEngine, stand_in: StandIn) -> None:
    stand_in.on(INSPECT, stream=[], headers={"Content-Length": "100"})
    with pytest.raises(EngineUnreachable):
        engine.container("a")
    stand_in.on(INSPECT, {"Id": "a"})
    assert engine.container("a") == {"Id": "a"}


@pytest.mark.parametrize(
    ("reply", "kind"),
    [
        ({"status": 404, "body": {"message": "No such container: a"}}, ContainerUnknown),
        ({"status": 404, "body": {"message": "No such image: a:1"}}, ImageUnknown),
        ({"status": 404, "body": {"message": "page not found"}}, EngineRefused),
        (
            {"status": 409, "body": {"message": 'The name "/a" is already in use by container b'}},
            ContainerNameTaken,
        ),
        ({"status": 409, "body": {"message": "Container a is not running"}}, ContainerNotRunning),
        ({"status": 409, "body": {"message": "Container a is paused"}}, ContainerNotRunning),
        ({"status": 409, "body": {"message": "something else"}}, EngineRefused),
        ({"status": 500, "body": {"message": "No such container: a"}}, EngineRefused),
        ({"status": 500, "body": b"<html>oops"}, EngineRefused),
        ({"status": 500, "body": []}, EngineRefused),
        ({"status": 403, "body": b""}, EngineRefused),
        ({"status": 301, "headers": {"Location": "http://elsewhere.example/"}}, EngineRefused),
        ({"status": 200, "body": b"<html>hello"}, EngineRefused),
        ({"status": 200, "body": b'{"Id": '}, EngineRefused),
    ],
)
def test_an_error_answer_is_an_error_of_the_rules(
    engine: DockerEngine, stand_in: StandIn, reply: dict[str, object], kind: type[Exception]
) -> None:
    stand_in.on(INSPECT, **reply)
    with pytest.raises(kind) as caught:
        engine.container("a")
    assert type(caught.value) is kind
    assert stand_in.count(INSPECT) == 1


def test_an_engine_s_message_is_one_line_printable_and_short(
    engine: DockerEngine, stand_in: StandIn
) -> None:
    stand_in.on(INSPECT, {"message": "one\n two\x1b[31m" + 5000 * "x"}, status=500)
    with pytest.raises(EngineRefused) as caught:
        engine.container("a")
    assert caught.value.detail.startswith("The engine 'local' refuses: one two\\x1b[31m")
    assert len(caught.value.detail) < REASON_LIMIT + 60


def test_an_answer_without_end_is_cut_off(
    engine: DockerEngine, stand_in: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transport, "JSON_LIMIT", 100_000)
    stand_in.on(INSPECT, stream=[b" " * 65536] * 1000, hangs=True)
    with pytest.raises(EngineRefused, match="more than 100000 bytes"):
        engine.container("a")


def test_a_connection_is_used_again(engine: DockerEngine, stand_in: StandIn) -> None:
    stand_in.on(INSPECT, {"Id": "a"})
    engine.container("a")
    before = stand_in.connections
    for _ in range(5):
        engine.container("a")
        with pytest.raises(ContainerUnknown):
            engine.container("b")
    assert engine.file_size("a", "/nowhere") is None
    assert stand_in.connections == before


def test_names_go_whole_into_a_path(engine: DockerEngine, stand_in: StandIn) -> None:
    stand_in.on("GET /images/team/app:1.2/json", {"Id": "i"})
    assert engine.image("team/app:1.2") == {"Id": "i"}
    stand_in.on("GET /containers/a_b.c-d/json", {"Id": "c"})
    assert engine.container("/a_b.c-d") == {"Id": "c"}


def test_a_label_is_a_filter(engine: DockerEngine, stand_in: StandIn) -> None:
    stand_in.on("GET /containers/json", [])
    assert engine.containers("a=b") == []
    query = stand_in.last("GET /containers/json").query
    assert query["all"] == "1"
    assert json.loads(query["filters"]) == {"label": ["a=b"]}


def test_each_thread_has_a_client_of_its_own(engine: DockerEngine, stand_in: StandIn) -> None:
    stand_in.on("GET /_ping", b"OK")
    for _ in range(2):
        thread = threading.Thread(target=lambda: [engine.status(), engine.status()])
        thread.start()
        thread.join()
    assert stand_in.count("GET /version") == 2
