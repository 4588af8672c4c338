"""Output in pieces: however it was cut, the lines are the same; a stream can always be left."""

from __future__ import annotations

import itertools
import threading

import hypothesis.strategies as st
import pytest
from hypothesis import given

from service.adapters.engine import streams
from service.adapters.engine.streams import LINE_LIMIT, Lines, Multiplexed
from service.domain.engine import EngineController
from service.domain.errors import ContainerNotRunning, EngineRefused, EngineUnreachable
from tests.unit.adapters.engine.conftest import StandIn, frame

Seen = list[tuple[str, bytes]]
START = "POST /exec/e1/start"
LOOK = "GET /exec/e1/json"


def cut(data: bytes, places: list[int]) -> list[bytes]:
    ends = sorted({place % (len(data) + 1) for place in places} | {0, len(data)})
    return [data[start:end] for start, end in itertools.pairwise(ends)]


@given(
    frames=st.lists(
        st.tuples(st.sampled_from([0, 1, 2, 3]), st.text("ab\r\n", max_size=9)), max_size=9
    ),
    places=st.lists(st.integers(0, 300), max_size=9),
)
def test_a_multiplexed_stream_gives_the_lines_of_each(
    frames: list[tuple[int, str]], places: list[int]
) -> None:
    seen: Seen = []
    reader = Multiplexed(lambda *line: seen.append(line))
    for piece in cut(b"".join(frame(number, text.encode()) for number, text in frames), places):
        reader.feed(piece)
    reader.end()
    for number, name in ((1, "stdout"), (2, "stderr")):
        whole = "".join(text for one, text in frames if one == number)
        wanted = whole.removesuffix("\n").split("\n") if whole else []
        found = [line for stream, line in seen if stream == name]
        assert found == [line.removesuffix("\r").encode() for line in wanted]
    assert {name for name, _ in seen} <= {"stdout", "stderr"}


def test_a_line_is_given_as_soon_as_it_is_whole() -> None:
    seen: Seen = []
    lines = Lines("stdout", lambda *line: seen.append(line))
    lines.feed(b"one\ntw")
    assert seen == [("stdout", b"one")]
    lines.feed(b"o\n")
    assert seen[1:] == [("stdout", b"two")]


def test_a_line_without_end_is_cut_and_takes_no_more_memory() -> None:
    seen: Seen = []
    lines = Lines("stdout", lambda *line: seen.append(line))
    for _ in range(100):
        lines.feed(b"x" * LINE_LIMIT)
        assert len(lines._line) == LINE_LIMIT  # noqa: SLF001 - what memory it takes
    lines.feed(b"rest\nnext\n")
    assert seen == [("stdout", b"x" * LINE_LIMIT), ("stdout", b"next")]


@pytest.fixture
def running(stand_in: StandIn) -> StandIn:
    stand_in.on("POST /containers/a/exec", {"Id": "e1"}, status=201)
    stand_in.on(START, stream=[frame(1, b"out\n"), frame(2, b"err\n")])
    stand_in.on(LOOK, {"Running": False, "ExitCode": 3})
    return stand_in


def test_a_command_is_asked_for_without_an_upgrade_and_with_both_streams(
    controller: EngineController, running: StandIn
) -> None:
    seen: Seen = []
    code = controller.execute("a", ["run", "it"], lambda *line: seen.append(line), bool, 5)
    assert (code, seen) == (3, [("stdout", b"out"), ("stderr", b"err")])
    wanted = {"Cmd": ["run", "it"], "AttachStdout": True, "AttachStderr": True}
    assert running.last("POST /containers/a/exec").body == wanted
    assert running.last(START).body == {"Detach": False, "Tty": False}


def test_an_exit_code_is_waited_for(
    controller: EngineController, running: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    running.on(LOOK, {"Running": True, "ExitCode": None})
    looked = iter([None, None])

    def sleep(_seconds: float) -> None:
        if next(looked, "ended") == "ended":
            running.on(LOOK, {"Running": False, "ExitCode": 0})

    monkeypatch.setattr("service.adapters.engine.processes.time.sleep", sleep)
    assert controller.execute("a", ["run"], lambda *_: None, bool, 30) == 0
    assert running.count(LOOK) == 4


def test_a_command_that_closes_its_output_and_runs_on_is_left_in_time(
    controller: EngineController, running: StandIn
) -> None:
    running.on(LOOK, {"Running": True, "ExitCode": None})
    assert controller.execute("a", ["run"], lambda *_: None, bool, 0.2) is None


def test_a_command_whose_container_stopped_has_no_exit_code(
    controller: EngineController, running: StandIn
) -> None:
    running.on(LOOK, {"message": "No such exec instance: e1"}, status=404)
    with pytest.raises(ContainerNotRunning, match="stopped while a command ran"):
        controller.execute("a", ["run"], lambda *_: None, bool, 5)


def test_a_stream_that_is_refused_is_an_error(
    controller: EngineController, running: StandIn
) -> None:
    running.on(START, {"message": "out of everything"}, status=500)
    with pytest.raises(EngineRefused, match="out of everything"):
        controller.execute("a", ["run"], lambda *_: None, bool, 5)


def test_a_stream_that_breaks_is_an_error(controller: EngineController, running: StandIn) -> None:
    running.on(START, stream=[frame(1, b"out\n")], headers={"Content-Length": "1000"})
    with pytest.raises(EngineUnreachable):
        controller.execute("a", ["run"], lambda *_: None, bool, 5)


def test_a_silent_stream_is_left_and_its_thread_ends(
    controller: EngineController, running: StandIn
) -> None:
    running.on(START, stream=[frame(1, b"out\n")], hangs=True)
    seen: Seen = []
    stop = lambda: bool(seen)  # noqa: E731
    assert controller.execute("a", ["x"], lambda *line: seen.append(line), stop, 30) is None
    assert "engine-stream" not in {thread.name for thread in threading.enumerate()}


def test_an_engine_that_does_not_even_begin_is_left(
    controller: EngineController, running: StandIn
) -> None:
    running.on(START, {}, hangs=True)
    assert controller.execute("a", ["run"], lambda *_: None, bool, 0.2) is None


def test_stop_is_not_asked_at_each_piece(
    controller: EngineController, running: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streams, "POLL_SECONDS", 60)
    running.on(START, stream=[frame(1, b"x\n")] * 500)
    asked = []

    def stop() -> bool:
        asked.append(1)
        return False

    assert controller.execute("a", ["run"], lambda *_: None, stop, 30) == 3
    assert len(asked) == 1


# Logs.

LOGS = "GET /containers/a/logs"


@pytest.fixture
def logging(stand_in: StandIn) -> StandIn:
    ended = {"Config": {}, "State": {"Status": "exited", "ExitCode": 4}}
    stand_in.on("GET /containers/a/json", ended)
    return stand_in


def wait(controller: EngineController, timeout_seconds: float = 30) -> tuple[int | None, Seen]:
    seen: Seen = []
    code = controller.wait("a", lambda *line: seen.append(line), bool, timeout_seconds)
    return code, seen


def test_a_log_is_followed_from_its_first_line(
    controller: EngineController, logging: StandIn
) -> None:
    logging.on(LOGS, stream=[frame(1, b"one\n"), frame(2, b"two\n")])
    assert wait(controller) == (4, [("stdout", b"one"), ("stderr", b"two")])
    assert [one.query["follow"] for one in logging.asked if one.what == LOGS] == ["1", "0"]


def test_what_following_left_out_is_read_afterwards_and_nothing_twice(
    controller: EngineController, logging: StandIn
) -> None:
    lines = [frame(1, b"same\n"), frame(2, b"err\n"), frame(1, b"same\n"), frame(1, b"rest")]
    logging.on(f"{LOGS} follow=1", stream=lines[:2])
    logging.on(f"{LOGS} follow=0", stream=lines)
    seen = [("stdout", b"same"), ("stderr", b"err"), ("stdout", b"same"), ("stdout", b"rest")]
    assert wait(controller) == (4, seen)


def test_a_log_that_goes_on_though_its_container_ended_is_left(
    controller: EngineController, logging: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.adapters.engine.processes.LOOK_SECONDS", 0.05)
    logging.on(f"{LOGS} follow=1", stream=[frame(1, b"one\nhal")], hangs=True)
    logging.on(f"{LOGS} follow=0", stream=[frame(1, b"one\nhalf\n")])
    assert wait(controller) == (4, [("stdout", b"one"), ("stdout", b"half")])


def test_a_container_that_was_never_started_has_not_ended(
    controller: EngineController, logging: StandIn
) -> None:
    created = {"Config": {}, "State": {"Status": "created", "ExitCode": 0}}
    logging.on("GET /containers/a/json", created)
    logging.on(LOGS, stream=[])
    assert wait(controller, 0.2) == (None, [])


def test_a_log_that_cannot_be_read_is_an_error(
    controller: EngineController, logging: StandIn
) -> None:
    message = "configured logging driver does not support reading"
    logging.on(LOGS, {"message": message}, status=501)
    with pytest.raises(EngineRefused, match=message):
        wait(controller)
