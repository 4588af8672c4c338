from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from http.client import HTTPException, IncompleteRead

import pytest

from service.adapters.registry.wire import Wire, request_bytes

GET = request_bytes("GET", "/", {"Host": "a"}, None)
OK = b"HTTP/1.1 200 OK\r\n"
Connect = Callable[..., tuple[Wire, socket.socket]]


@pytest.fixture
def connect() -> Iterator[Connect]:
    """Make a wire and the other end of it, which has sent ``answer`` already."""
    with ExitStack() as stack:

        def make(answer: bytes = b"", pause: float = 5.0) -> tuple[Wire, socket.socket]:
            ours, theirs = socket.socketpair()
            stack.callback(ours.close)
            stack.callback(theirs.close)
            theirs.sendall(answer)
            return Wire(ours, pause), theirs

        yield make


def ask(wire: Wire, method: str = "GET", most: int = 1000) -> tuple[int, dict[str, str], bytes]:
    wire.send(GET, None)
    head = wire.head(method)
    return head.status, dict(head.headers), wire.body(head, most)


@pytest.mark.parametrize(
    "answer",
    [
        OK + b"Content-Length: 5\r\n\r\nabcde",
        OK + b"Transfer-Encoding: chunked\r\n\r\n2;x=y\r\nab\r\n3 \r\ncde\r\n0\r\nT: x\r\n\r\n",
        OK.replace(b"\r", b"") + b"Content-Length:5\n\nabcde",
        OK + b"Content-Length: 5, 5\r\n\r\nabcde",
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early\r\nA: b\r\n\r\n" + OK
        + b"Content-Length: 5\r\n\r\nabcde",
        b"HTTP/1.0 200 OK\r\nConnection: Keep-Alive\r\nContent-Length: 5\r\n\r\nabcde",
    ],
)  # fmt: skip
def test_what_is_read_to_its_end_leaves_the_connection_usable(
    connect: Connect, answer: bytes
) -> None:
    wire, other = connect(answer)
    for _ in range(2):
        status, _, body = ask(wire)
        assert (status, body) == (200, b"abcde")
        assert wire.reusable
        assert wire.silent
        other.sendall(answer)


@pytest.mark.parametrize(
    "answer",
    [
        OK + b"Connection: close\r\nContent-Length: 5\r\n\r\nabcde",
        OK + b"Connection: x, Close\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nabcde\r\n0\r\n\r\n",
        b"HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\nabcde",
        OK + b"Content-Length: 5\r\n\r\nabcdeHTTP/1.1 200 What nobody asked for\r\n\r\n",
    ],
)
def test_a_connection_that_ends_or_says_too_much_is_not_used_again(
    connect: Connect, answer: bytes
) -> None:
    wire, _ = connect(answer)
    assert ask(wire)[2] == b"abcde"
    assert not wire.reusable


def test_a_body_without_length_ends_with_the_connection(connect: Connect) -> None:
    wire, other = connect(OK + b"\r\nabc")
    other.close()
    assert ask(wire)[2] == b"abc"
    assert not wire.reusable


@pytest.mark.parametrize("status", ["204 No Content", "304 Not Modified"])
def test_what_has_no_body_has_none_whatever_its_length_says(connect: Connect, status: str) -> None:
    wire, _ = connect(f"HTTP/1.1 {status}\r\nContent-Length: 5\r\n\r\n".encode())
    assert ask(wire)[2] == b""
    assert wire.reusable


def test_a_head_s_length_is_that_of_a_body_that_does_not_come(connect: Connect) -> None:
    for framing in (b"Content-Length: 5", b"Transfer-Encoding: chunked"):
        wire, _ = connect(OK + framing + b"\r\n\r\n")
        assert ask(wire, "HEAD")[2] == b""
        assert wire.reusable


@pytest.mark.parametrize(
    "answer",
    [
        OK + b"Content-Length: 8\r\n\r\nabcdefgh",
        OK + b"Transfer-Encoding: chunked\r\n\r\n8\r\nabcdefgh\r\n0\r\n\r\n",
        OK + b"Transfer-Encoding: chunked\r\n\r\n5\r\nabcde\r\n3\r\nfgh\r\n0\r\n\r\n",
        OK + b"\r\nabcdefgh",
    ],
)
def test_no_more_is_read_than_was_asked_for(connect: Connect, answer: bytes) -> None:
    wire, _ = connect(answer)
    assert ask(wire, most=5)[2] == b"abcde"
    assert not wire.reusable


def test_headers_are_found_in_any_case_folded_or_repeated(connect: Connect) -> None:
    wire, _ = connect(OK + b"A-b: 1\r\na-B: 2\r\nLong: x\r\n  y\r\nContent-Length: 0\r\n\r\n")
    wire.send(GET, None)
    headers = wire.head("GET").headers
    assert headers["A-B"] == "1, 2"
    assert headers.get("LONG") == "x y"
    assert headers.get("none") is None
    assert len(headers) == 3


@pytest.mark.parametrize(
    "answer",
    [
        OK + b"No colon\r\n\r\n",
        OK + b"Space : x\r\n\r\n",
        OK + b": x\r\n\r\n",
        OK + b" folded: onto nothing\r\n\r\n",
        OK + b"Content-Length: 5, 6\r\n\r\nabcde",
        OK + b"Content-Length: -5\r\n\r\nabcde",
        OK + b"Content-Length: five\r\n\r\nabcde",
        OK + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        b"HTTP/2 200\r\n\r\n",
        b"HTTP/1.1 2000\r\n\r\n",
        b"HTTP/1.1 101 Switching\r\n\r\n",
        b"220 smtp.example\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"x" * 70_000,
    ],
)
def test_what_cannot_be_understood_is_refused(connect: Connect, answer: bytes) -> None:
    wire, _ = connect(answer)
    with pytest.raises(HTTPException):
        ask(wire)
    assert not wire.reusable


@pytest.mark.parametrize(
    "answer",
    [
        OK + b"Content-Length: 5\r\n\r\nabc",
        OK + b"Transfer-Encoding: chunked\r\n\r\n5\r\nabc",
        OK + b"Transfer-Encoding: chunked\r\n\r\n5\r\nabcdeX\r\n0\r\n\r\n",
        OK + b"Transfer-Encoding: chunked\r\n\r\n5\r\nabcde\r\n",
        OK + b"Transfer-Encoding: chunked\r\n\r\n-5\r\n",
        OK + b"Transfer-Encoding: chunked\r\n\r\n0\r\nTrailer: x\r\n",
    ],
)
def test_what_breaks_off_in_the_body_is_incomplete(connect: Connect, answer: bytes) -> None:
    wire, other = connect(answer)
    other.close()
    with pytest.raises(IncompleteRead):
        ask(wire)
    assert not wire.reusable


@pytest.mark.parametrize("answer", [b"", b"HTT", OK + b"Content-Le"])
def test_what_breaks_off_before_the_body_is_a_broken_connection(
    connect: Connect, answer: bytes
) -> None:
    wire, other = connect(answer)
    other.close()
    with pytest.raises(ConnectionError):
        ask(wire)


def test_a_wire_is_not_silent_once_the_other_side_has_hung_up(connect: Connect) -> None:
    wire, other = connect()
    assert wire.silent
    other.close()
    assert not wire.silent


def test_a_refusal_before_the_whole_request_was_taken_is_read(connect: Connect) -> None:
    wire, other = connect(b"HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n\r\n")
    other.shutdown(socket.SHUT_RD)
    wire.send(GET, b"x" * 1_000_000)
    assert wire.head("PUT").status == 413


def test_time_is_given_anew_for_each_answer(connect: Connect) -> None:
    answer = OK + b"Content-Length: 1\r\n\r\nx"
    wire, other = connect(pause=0.2)

    def drip() -> None:
        for each in answer * 2:
            other.sendall(bytes([each]))
            threading.Event().wait(0.01)

    thread = threading.Thread(target=drip)
    thread.start()
    assert [ask(wire)[2] for _ in range(2)] == [b"x", b"x"]
    thread.join()


@pytest.mark.parametrize("value", ["a\r\nb: c", "a\nb", "a\x00"])
def test_a_header_cannot_end_early(value: str) -> None:
    with pytest.raises(HTTPException):
        request_bytes("GET", "/", {"Authorization": value}, None)


def test_a_target_is_spelt_as_a_request_line_has_it() -> None:
    head = request_bytes("GET", "/a b\r\n\u00e4?x=%41&y=[1]", {}, None)
    assert head == b"GET /a%20b%0D%0A%C3%A4?x=%41&y=[1] HTTP/1.1\r\n\r\n"


def test_a_body_is_announced_by_its_length() -> None:
    assert b"Content-Length: 0\r\n" in request_bytes("PUT", "/", {}, 0)
    assert b"Content-Length" not in request_bytes("GET", "/", {}, None)
