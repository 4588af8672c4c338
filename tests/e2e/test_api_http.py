"""What only the wire shows of the API: framing, methods, odd requests, many processes."""

import http.client
import json
import re
import socket
import subprocess
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from demo.images import sample
from tests.e2e.bed.http import ask
from tests.e2e.bed.registry import MakeRegistry, RunningRegistry
from tests.e2e.bed.service import MakeService, Service

APP = "/v1/registries/default/repositories/team/app"
TAG = f"{APP}/-/tags/1.0"


@pytest.fixture(scope="module")
def filled(module_registry: MakeRegistry) -> RunningRegistry:
    made = module_registry()
    with made.pusher() as pusher:
        pusher.push("team/app", sample("one"), "1.0")
    return made


@pytest.fixture(scope="module")
def running(module_service: MakeService, filled: RunningRegistry) -> Service:
    return module_service(filled, settings={"workers": 2, "threads": 4})


@pytest.fixture
def connection(running: Service) -> Iterator[http.client.HTTPConnection]:
    with closing(http.client.HTTPConnection(running.host, timeout=30)) as opened:
        yield opened


def bearer(running: Service) -> dict[str, str]:
    return {"Authorization": f"Bearer {running.admin()}"}


def raw(running: Service, request: bytes) -> bytes:
    """Send bytes as they are; gives everything that comes back until the end."""
    host, port = running.host.split(":")
    with closing(socket.create_connection((host, int(port)), timeout=30)) as opened:
        opened.sendall(request)
        opened.shutdown(socket.SHUT_WR)
        return b"".join(iter(lambda: opened.recv(65536), b""))


def test_no_answer_tells_what_versions_are_behind_it(running: Service) -> None:
    for path in ("/healthz", "/nope", "/docs", "/v1/me"):
        headers = ask(f"{running.url}{path}").headers
        assert not re.search(r"\d", headers.get("server", ""))
        assert "x-powered-by" not in headers


@pytest.mark.parametrize("method", ["TRACE", "PATCH", "POST", "BREW", "CONNECT"])
def test_other_methods_are_405_with_allow(running: Service, method: str) -> None:
    answer = running.ask("/v1/registries", method)
    assert answer.status == 405
    assert "GET" in answer.headers["allow"]
    assert answer.headers["content-type"] == "application/problem+json"


def test_a_connection_goes_on_after_a_refused_body(
    running: Service, connection: http.client.HTTPConnection
) -> None:
    body = json.dumps({"tag": "1.0", "padding": "x" * 40_000})
    for headers, status in (({}, 401), (bearer(running), 422), (bearer(running), 422)):
        connection.request("PUT", TAG, body, {"Content-Type": "application/json", **headers})
        answer = connection.getresponse()
        answer.read()
        assert answer.status == status
    connection.request("GET", TAG, headers=bearer(running))
    answered = connection.getresponse()
    assert (answered.status, json.loads(answered.read())["name"]) == (200, "1.0")


def test_head_sends_no_body_on_the_wire(
    running: Service, connection: http.client.HTTPConnection
) -> None:
    for path in (TAG, f"{APP}/-/manifests/1.0/raw", f"{APP}/-/tags/none"):
        connection.request("HEAD", path, headers=bearer(running))
        head = connection.getresponse()
        assert head.read() == b""
        connection.request("GET", path, headers=bearer(running))
        get = connection.getresponse()
        assert len(get.read()) == int(get.headers["Content-Length"])
        assert (head.status, head.headers["Content-Type"]) == (
            get.status,
            get.headers["Content-Type"],
        )


def test_a_body_without_end_is_refused_whether_its_length_is_told_or_not(
    running: Service, connection: http.client.HTTPConnection
) -> None:
    chunks = (b"x" * 65536 for _ in range(40))
    headers = {"Content-Type": "application/json", **bearer(running)}
    connection.request("PUT", TAG, chunks, headers, encode_chunked=True)
    answer = connection.getresponse()
    assert answer.status == 413
    assert json.loads(answer.read())["code"] == "content-too-large"
    told = running.ask(TAG, "PUT", body=b"x" * 2_500_000)
    assert (told.status, told.json()["code"]) == (413, "content-too-large")


def test_a_body_in_chunks_is_read(running: Service, connection: http.client.HTTPConnection) -> None:
    chunks = iter([b'{"tag": ', b'"1.0", "dry_run": true}'])
    headers = {"Content-Type": "application/json", **bearer(running)}
    connection.request("PUT", TAG, chunks, headers, encode_chunked=True)
    answer = connection.getresponse()
    assert (answer.status, json.loads(answer.read())["dry_run"]) == (200, True)


def test_an_option_sent_in_chunks_where_none_is_read_does_not_pass_unseen(
    running: Service, filled: RunningRegistry, connection: http.client.HTTPConnection
) -> None:
    headers = {"Content-Type": "application/json", **bearer(running)}
    connection.request("DELETE", TAG, iter([b'{"dry_run": true}']), headers, encode_chunked=True)
    answer = connection.getresponse()
    assert (answer.status, json.loads(answer.read())["code"]) == (422, "validation-failed")
    assert filled.digest("team/app", "1.0") is not None


@pytest.mark.parametrize(
    "path",
    [
        "/v1/registries/default/repositories/../../../etc/passwd",
        "/v1/registries/default/repositories/..%2f..%2fetc/-/tags",
        "/v1/registries/default/repositories/%2e%2e/-/tags",
        "/v1/registries/default/repositories/team%00/-/tags",
        "/v1/registries/default/repositories/team%252fapp/-/tags",
        "/v1/registries/default/repositories/team/-/app/-/tags",
        "/v1/registries/default/repositories//-/tags",
        "/v1/registries/default/repositories/team//app/-/tags",
        "/v1/registries/default/repositories/%ff%fe/-/tags",
        "/v1/registries/default/repositories/" + "a" * 300 + "/-/tags",
        "/v1/registries/default/repositories/team/app/-/tags/%2e%2e",
        "/v1/registries/default/repositories/team/app/-/tags/..%2f..%2fv2",
        "/v1/registries/default/repositories/team/app/-/manifests/sha256:%00",
    ],
)
def test_path_tricks_are_problems_and_ask_nothing_of_the_registry(
    running: Service, filled: RunningRegistry, path: str
) -> None:
    before = filled.container.logs().count(b"http.request.method")
    head = f"Host: {running.host}\r\nAuthorization: Bearer {running.admin()}\r\n"
    answer = raw(running, f"GET {path} HTTP/1.1\r\n{head}Connection: close\r\n\r\n".encode())
    assert re.match(rb"HTTP/1\.1 40[04] ", answer), answer
    assert b"Content-Type: application/problem+json\r\n" in answer
    assert filled.container.logs().count(b"http.request.method") == before


@pytest.mark.parametrize("written", ["team/app", "team%2Fapp", "team%2fapp"])
def test_slashes_may_be_escaped(running: Service, written: str) -> None:
    answer = running.ask(f"/v1/registries/default/repositories/{written}/-/tags/1.0")
    assert (answer.status, answer.json()["name"]) == (200, "1.0")


def test_a_longest_name_fits_into_a_request_when_all_of_it_is_escaped(running: Service) -> None:
    escaped = "".join(f"%{ord(letter):02X}" for letter in "a/" * 127 + "a")
    answer = running.ask(f"/v1/registries/default/repositories/{escaped}")
    assert (answer.status, answer.json()["code"]) == (404, "repository-unknown")


def test_a_request_id_goes_through_to_the_log_and_the_trail(running: Service) -> None:
    asked = running.ask(
        f"{TAG}?dry_run=true", "DELETE", headers={"X-Request-Id": "through-and-through"}
    )
    assert asked.headers["x-request-id"] == "through-and-through"
    events = running.ask("/v1/audit-events?action=tag.delete&n=1").json()["items"]
    assert events[0]["request_id"] == "through-and-through"
    lines = [json.loads(line) for line in running.log.read_text().splitlines()]
    (line,) = [one for one in lines if one.get("request_id") == "through-and-through"]
    assert line["route"] == "/v1/registries/{registry}/repositories/{repository}/-/tags/{tag}"


def test_no_secret_is_in_the_log(running: Service) -> None:
    made = running.ask("/v1/tokens", "POST", body={"name": "x", "scopes": ["job:read"]}).json()
    running.ask("/v1/me", token=made["secret"])
    running.ask("/v1/me", token="radm_nobody")
    logged = running.log.read_text()
    assert made["secret"] not in logged
    assert "radm_nobody" not in logged


def test_a_revoked_token_is_refused_at_once_in_every_process(running: Service) -> None:
    for _ in range(20):
        made = running.ask("/v1/tokens", "POST", body={"name": "x", "scopes": ["admin"]}).json()
        for _ in range(8):
            assert running.ask("/v1/me", token=made["secret"]).status == 200
        assert running.ask(f"/v1/tokens/{made['id']}", "DELETE").status == 204
        for _ in range(8):
            assert running.ask("/v1/me", token=made["secret"]).status == 401


def test_counts_are_those_of_all_processes(running: Service) -> None:
    sample_of = 'registry_admin_http_requests_total{method="GET",route="/v1/me",status="200"}'

    def count() -> float:
        text = running.ask("/metrics").body.decode()
        found = [line for line in text.splitlines() if line.startswith(sample_of)]
        return float(found[0].split()[-1]) if found else 0

    before = count()
    for _ in range(40):
        assert running.ask("/v1/me").status == 200
    assert [count() for _ in range(6)] == [before + 40] * 6


def test_metrics_are_what_prometheus_reads(running: Service) -> None:
    text = running.ask("/metrics").body.decode()
    assert 'registry_admin_registry_up{registry="default"} 1.0' in text
    for line in text.splitlines():
        assert re.fullmatch(r"# (HELP|TYPE) .+|[a-z_]+(\{.*\})? [-+0-9.eInf]+", line), line


def test_curl_shows_the_documentation_with_and_without_a_slash(
    running: Service, tmp_path: Path
) -> None:
    for path in ("/docs", "/docs/"):
        page = tmp_path / "page.html"
        told = subprocess.run(
            [
                "curl",
                "-sS",
                "-o",
                str(page),
                "-w",
                "%{http_code} %{redirect_url}",
                running.url + path,
            ],
            capture_output=True,
            text=True,
            timeout=30,
            check=True,
        )
        assert told.stdout.split() == ["200"]
        assert "swagger-ui" in page.read_text()
