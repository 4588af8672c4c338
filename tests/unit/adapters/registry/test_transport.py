from __future__ import annotations

import base64
import logging
import socket
import ssl
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path

import pytest
import trustme

from service.adapters.registry.failures import AnswerBrokenOff
from service.adapters.registry.origin import Origin
from service.adapters.registry.pools import ANSWER_TIMEOUTS
from service.adapters.registry.tls import Trust
from service.adapters.registry.transport import ERROR_LIMIT, Limits, Request, Transport
from service.domain.errors import (
    RegistryAnswerInvalid,
    RegistryTimeout,
    RegistryUnreachable,
)
from tests.standin import Reply, Seen, StandIn, replies, says
from tests.unit.adapters.registry.support import Serve

GET = Request("GET", "/v2/", limit=1000)
PUT = Request("PUT", "/v2/a/manifests/1", body=b"{}")
SHORT = 0.2
Send = Callable[..., Transport]


@pytest.fixture
def noted() -> list[tuple[str, str]]:
    """Methods and outcomes of the requests that have ended."""
    return []


@pytest.fixture
def transport(noted: list[tuple[str, str]]) -> Iterator[Send]:
    with ExitStack() as stack:

        def make(server: StandIn | str, timeout: float = 5.0) -> Transport:
            url = server if isinstance(server, str) else server.url
            limits = Limits(timeout, 4)
            made = Transport(Origin.of(url), None, limits, lambda *said: noted.append(said[:2]))
            stack.callback(made.close)
            return made

        yield make


def test_an_answer_has_status_headers_and_bytes(serve: Serve, transport: Send) -> None:
    server = serve(replies(418, {"X-Odd": "a", "x-odd": "b"} | {"Link": "<x>"}, b"\x00\xff"))
    answer = transport(server).send(GET)
    assert (answer.status, answer.body) == (418, b"\x00\xff")
    assert answer.headers["x-ODD"] == "a, b"
    assert not answer.succeeded


def test_headers_are_ours_and_no_cookie_comes_back(serve: Serve, transport: Send) -> None:
    server = serve(replies(200, {"Set-Cookie": "session=1"}))
    client = transport(server)
    client.send(Request("GET", "/v2/", headers={"Accept": "a/b"}))
    client.send(Request("GET", "/v2/"), "Bearer t")
    first, second = server.seen
    assert first.headers["accept"] == "a/b"
    assert first.headers["accept-encoding"] == "identity"
    assert first.headers["user-agent"].startswith("registry-admin/")
    assert "authorization" not in first.headers
    assert second.headers["authorization"] == "Bearer t"
    assert "cookie" not in second.headers


def test_reads_share_a_connection(serve: Serve, transport: Send) -> None:
    server = serve(replies(200, body=b"body"))
    client = transport(server)
    for method in ("GET", "HEAD", "GET", "GET"):
        client.send(Request(method, "/v2/", limit=10))
    assert {one.connection for one in server.seen} == {1}


def test_an_error_s_body_leaves_the_connection_usable(serve: Serve, transport: Send) -> None:
    server = serve(replies(404, body=b"x" * 5000))
    client = transport(server)
    client.send(GET)
    client.send(GET)
    assert {one.connection for one in server.seen} == {1}


def test_each_write_has_a_connection_of_its_own(serve: Serve, transport: Send) -> None:
    server = serve(replies(201))
    client = transport(server)
    client.send(GET)
    client.send(PUT)
    client.send(PUT)
    client.send(GET)
    connections = [one.connection for one in server.seen]
    assert connections == [1, 2, 3, 1]
    assert server.requests("PUT")[0].headers["connection"] == "close"


def test_connections_dropped_while_idle_fail_no_write(serve: Serve, transport: Send) -> None:
    server = serve(replies(201))
    client = transport(server)
    for _ in range(20):
        client.send(PUT)
        server.hang_up()
    assert len(server.requests("PUT")) == 20


def test_redirects_are_answers(serve: Serve, transport: Send) -> None:
    other = serve(replies(200))
    server = serve(replies(307, {"Location": f"{other.url}/v2/"}))
    assert transport(server).send(GET).status == 307
    assert len(server.seen) == 1
    assert other.seen == []


def test_nothing_is_repeated_here(serve: Serve, transport: Send) -> None:
    server = serve(replies(503, {"Retry-After": "0"}))
    assert transport(server).send(GET).status == 503
    assert len(server.seen) == 1


def test_a_body_as_large_as_allowed_is_read(serve: Serve, transport: Send) -> None:
    for length in (None, -1):
        server = serve(says(Reply(body=b"x" * 1000, length=length)))
        assert len(transport(server).send(GET).body) == 1000


@pytest.mark.parametrize("length", [None, -1, 10**12])
def test_a_larger_body_is_refused(serve: Serve, transport: Send, length: int | None) -> None:
    server = serve(says(Reply(body=b"x" * 1001, length=length)))
    with pytest.raises(RegistryAnswerInvalid, match="1000 bytes"):
        transport(server).send(GET)


def test_of_an_endless_body_no_more_is_read_than_allowed(serve: Serve, transport: Send) -> None:
    chunk = b"4\r\naaaa\r\n"
    raw = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunk * 100_000
    server = serve(says(Reply(raw=raw)))
    with pytest.raises(RegistryAnswerInvalid, match="1000 bytes"):
        transport(server).send(GET)


def test_chunked_bodies_are_read(serve: Serve, transport: Send) -> None:
    raw = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"
    server = serve(says(Reply(raw=raw)))
    assert transport(server).send(GET).body == b"abcde"


def test_of_an_error_only_the_start_is_read(serve: Serve, transport: Send) -> None:
    server = serve(replies(500, body=b"x" * (ERROR_LIMIT + 5000)))
    assert len(transport(server).send(GET).body) == ERROR_LIMIT


def test_a_peek_reads_what_was_asked_for_and_hangs_up(serve: Serve, transport: Send) -> None:
    server = serve(replies(200, body=b"x" * 10_000_000))
    client = transport(server)
    for _ in range(2):
        assert client.send(Request("GET", "/v2/", limit=1, peek=True)).body == b"x"
    assert [one.connection for one in server.seen] == [1, 2]


def test_half_a_body_is_an_answer_broken_off(serve: Serve, transport: Send) -> None:
    for raw in (
        b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf",
        b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n64\r\nhalf",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    ):
        server = serve(says(Reply(raw=raw)))
        with pytest.raises(AnswerBrokenOff):
            transport(server).send(GET)


def test_a_connection_closed_at_once_is_unreachable(serve: Serve, transport: Send) -> None:
    server = serve(says(Reply(raw=b"")))
    with pytest.raises(RegistryUnreachable, match="broke before an answer"):
        transport(server).send(GET)


def test_what_is_not_http_makes_no_sense(serve: Serve, transport: Send) -> None:
    for raw in (
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"HTTP/1.1 banana\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"X: " + b"x" * 70_000 + b"\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"X: x\r\n" * 200 + b"\r\n",
    ):
        server = serve(says(Reply(raw=raw)))
        with pytest.raises(RegistryAnswerInvalid, match="not HTTP"):
            transport(server).send(GET)


def test_odd_headers_do_no_harm(serve: Serve, transport: Send) -> None:
    raw = b"HTTP/1.1 200 OK\r\nX-\xff: \xfe\xff\r\nEmpty:\r\nContent-Length: 2\r\n\r\nok"
    server = serve(says(Reply(raw=raw)))
    assert transport(server).send(GET).body == b"ok"


def test_silence_is_a_time_out(serve: Serve, transport: Send) -> None:
    server = serve(says(Reply(silent=True)))
    with pytest.raises(RegistryTimeout, match="did not answer in time"):
        transport(server, SHORT).send(GET)


def test_silence_in_the_middle_is_a_time_out(transport: Send) -> None:
    listener = socket.create_server(("127.0.0.1", 0))
    ended = threading.Event()

    def work() -> None:
        accepted, _ = listener.accept()
        with accepted:
            accepted.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf")
            ended.wait(10)

    thread = threading.Thread(target=work)
    thread.start()
    with pytest.raises(RegistryTimeout, match="to the end"):
        transport(f"http://127.0.0.1:{listener.getsockname()[1]}", SHORT).send(GET)
    ended.set()
    thread.join()
    listener.close()


@pytest.mark.parametrize(
    "raw",
    [
        b"HTTP/1.1 200 OK\r\nX-Long: " + b"x" * 500,
        b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n" + b"x" * 500,
        b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 500,
    ],
)
def test_dripping_bytes_do_not_hold_us(serve: Serve, transport: Send, raw: bytes) -> None:
    # Each byte comes well within a read time-out; all of them would take minutes.
    server = serve(says(Reply(raw=raw, drip=SHORT / 4)))
    with pytest.raises(RegistryTimeout):
        transport(server, SHORT / 2).send(GET)
    assert ANSWER_TIMEOUTS * SHORT < 2


def test_a_host_without_a_name_is_unreachable(transport: Send) -> None:
    for url in ("http://no-such-host.invalid", f"http://{'x' * 70}.invalid"):
        with pytest.raises(RegistryUnreachable):
            transport(url, 2.0).send(GET)


def test_a_closed_port_is_unreachable_and_nothing_was_changed(transport: Send) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(RegistryUnreachable, match=r"refused.*Nothing was changed"):
        transport(f"http://127.0.0.1:{port}").send(PUT)


def test_a_write_that_got_no_answer_says_that_nobody_knows(serve: Serve, transport: Send) -> None:
    server = serve(says(Reply(raw=b"")))
    with pytest.raises(RegistryUnreachable, match="not known"):
        transport(server).send(PUT)
    assert len(server.seen) == 1


def test_a_proxy_of_the_environment_is_used(
    serve: Serve, transport: Send, monkeypatch: pytest.MonkeyPatch
) -> None:
    proxy = serve(replies(200, body=b"by proxy"))
    monkeypatch.setenv("http_proxy", proxy.url)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    answer = transport("http://registry.invalid:5000").send(GET)
    assert answer.body == b"by proxy"
    assert proxy.seen[0].target == "http://registry.invalid:5000/v2/"
    direct = serve(replies(200, body=b"direct"))
    assert transport(direct).send(GET).body == b"direct"
    assert urllib.request.getproxies()["http"] == proxy.url


def test_a_proxy_that_is_down_is_unreachable(
    transport: Send, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    monkeypatch.setenv("no_proxy", "")
    with pytest.raises(RegistryUnreachable):
        transport("http://registry.invalid:5000").send(GET)


def test_a_proxy_s_credentials_are_for_the_proxy_alone(
    serve: Serve, transport: Send, monkeypatch: pytest.MonkeyPatch
) -> None:
    proxy = serve(replies(200))
    monkeypatch.setenv("http_proxy", proxy.url.replace("//", "//us%40er:p%3Aw@"))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    direct = serve(replies(200))
    for url in ("http://registry.invalid:5000", direct.url):
        transport(url).send(GET)
    sent = proxy.seen[0].headers["proxy-authorization"]
    assert base64.b64decode(sent.removeprefix("Basic ")) == b"us@er:p:w"
    assert "proxy-authorization" not in direct.seen[0].headers


def test_tls_goes_through_a_tunnel_of_the_proxy(
    serve: Serve, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    ca = trustme.CA()
    ca.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ca.issue_cert("registry.invalid").configure_cert(context)
    server = serve(replies(200, body=b"behind"), context)
    monkeypatch.setenv("no_proxy", "")
    with tunnels(server.port) as proxy:
        monkeypatch.setenv("https_proxy", proxy)
        origin = Origin.of("https://registry.invalid")
        client = Transport(origin, Trust(origin, tmp_path, tmp_path / "ca.pem"), Limits(5.0, 4))
        bodies = [client.send(GET).body for _ in range(2)]
        client.close()
    assert bodies == [b"behind", b"behind"]
    assert {one.connection for one in server.seen} == {1}


def test_a_proxy_that_opens_no_tunnel_makes_the_registry_unreachable(
    serve: Serve, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    proxy = serve(replies(403))
    monkeypatch.setenv("https_proxy", proxy.url)
    monkeypatch.setenv("no_proxy", "")
    origin = Origin.of("https://registry.invalid")
    client = Transport(origin, Trust(origin, tmp_path, None), Limits(5.0, 4))
    with pytest.raises(RegistryUnreachable, match="cannot be reached"):
        client.send(PUT)
    assert [one.method for one in proxy.seen] == ["CONNECT"]


@contextmanager
def tunnels(port: int) -> Iterator[str]:
    """Run a proxy that tunnels one connection to a port of this machine, whatever was asked."""

    def work() -> None:
        accepted, _ = listener.accept()
        with accepted, socket.create_connection(("127.0.0.1", port)) as onward:
            while not accepted.recv(65536).endswith(b"\r\n\r\n"):
                pass
            accepted.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
            back = threading.Thread(target=pump, args=(onward, accepted))
            back.start()
            pump(accepted, onward)
            back.join()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=work)
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        thread.join()


def pump(source: socket.socket, target: socket.socket) -> None:
    with suppress(OSError):
        while chunk := source.recv(65536):
            target.sendall(chunk)
        target.shutdown(socket.SHUT_WR)


def test_a_netrc_file_is_none_of_our_business(
    serve: Serve, transport: Send, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login somebody password secret\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    server = serve(replies(200))
    transport(server).send(GET)
    assert "authorization" not in server.seen[0].headers


def test_errors_and_logs_hold_no_authorization(
    serve: Serve, transport: Send, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    server = serve(says(Reply(raw=b"")))
    with pytest.raises(RegistryUnreachable) as caught:
        transport(server).send(GET, "Basic c2VjcmV0")
    assert "c2VjcmV0" not in caplog.text
    assert "c2VjcmV0" not in repr(caught.value)
    assert "c2VjcmV0" not in repr(caught.value.__cause__)


@pytest.mark.parametrize(
    ("status", "outcome"), [(200, "2xx"), (307, "3xx"), (404, "4xx"), (503, "5xx")]
)
def test_each_answer_is_noted_by_its_class(
    serve: Serve, transport: Send, noted: list[tuple[str, str]], status: int, outcome: str
) -> None:
    client = transport(serve(replies(status)))
    client.send(GET)
    client.send(PUT)
    assert noted == [("GET", outcome), ("PUT", outcome)]


def test_each_failure_is_noted_once_by_its_code(
    serve: Serve, transport: Send, noted: list[tuple[str, str]]
) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        with pytest.raises(RegistryTimeout):
            transport(url, SHORT).send(GET)
    with pytest.raises(RegistryUnreachable):
        transport(url).send(PUT)
    with pytest.raises(RegistryAnswerInvalid):
        transport(serve(replies(200, body=b"x" * 2000))).send(GET)
    codes = ["registry-timeout", "registry-unreachable", "registry-answer-invalid"]
    assert noted == list(zip(["GET", "PUT", "GET"], codes, strict=True))


def test_an_answer_that_nobody_waits_for_is_noted(
    serve: Serve, transport: Send, noted: list[tuple[str, str]]
) -> None:
    transport(serve(replies(200))).begin(GET).abandon()
    assert noted == [("GET", "abandoned")]


def test_how_long_it_took_is_noted(serve: Serve) -> None:
    took: list[float] = []

    def slow(_seen: Seen) -> Reply:
        time.sleep(SHORT)
        return Reply(200)

    server = serve(slow)
    limits = Limits(5.0, 4)
    with closing(
        Transport(Origin.of(server.url), None, limits, lambda *said: took.append(said[2]))
    ) as client:
        client.send(GET)
    assert SHORT <= took[0] < 5
