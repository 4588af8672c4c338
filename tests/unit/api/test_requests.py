"""What every request goes through: its id, where it comes from, headers, log line, CORS."""

import json
import logging
from collections.abc import Iterator
from datetime import datetime

import pytest

from service import log
from service.log import JsonFormatter
from tests.fakes import image
from tests.unit.api.conftest import Bed, MakeBed

TAG = "/v1/registries/default/repositories/team/app/-/tags/1.0"
ORIGIN = "https://portal.example.com"


@pytest.fixture(autouse=True)
def no_request_before() -> Iterator[None]:
    log.REQUEST_ID.set(None)
    yield
    log.REQUEST_ID.set(None)


@pytest.mark.parametrize("sent", ["a", "x" * 128, "trace/1:2.3_4=+@-"])
def test_a_sane_id_is_kept(bed: Bed, sent: str) -> None:
    answer = bed.ask("/v1/me", headers={"X-Request-Id": sent})
    assert answer.headers["X-Request-Id"] == sent


@pytest.mark.parametrize("sent", ["", "x" * 129, "a b", "a\x7fb", "a\tb", "<script>", "é", '"'])
def test_any_other_is_replaced(bed: Bed, sent: str) -> None:
    made = bed.ask("/v1/me", headers={"X-Request-Id": sent}).headers["X-Request-Id"]
    assert len(made) == 32
    assert bed.ask("/v1/me").headers["X-Request-Id"] != made


@pytest.mark.parametrize("path", ["/healthz", "/nope", "/docs", "/v1/registries/none", "/v1/me"])
def test_every_answer_has_an_id_and_the_headers_of_safety(bed: Bed, path: str) -> None:
    for method in ("GET", "HEAD", "POST", "OPTIONS"):
        headers = bed.ask(path, method, headers={"X-Request-Id": "mine"}).headers
        assert headers["X-Request-Id"] == "mine"
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["Content-Security-Policy"].startswith("default-src 'none'")
        assert headers["Referrer-Policy"] == "no-referrer"
        assert headers["Cache-Control"] == "no-store"


def test_each_request_is_one_line(bed: Bed, caplog: pytest.LogCaptureFixture) -> None:
    bed.registry.push("team/app", image("a"), "1.0")
    with caplog.at_level(logging.INFO, "service.access"):
        bed.ask(TAG, headers={"X-Request-Id": "mine"})
    (record,) = caplog.records
    line = json.loads(JsonFormatter().format(record))
    assert line["request_id"] == "mine"
    assert line["actor"] == "root"
    assert line["method"] == "GET"
    assert line["route"] == "/v1/registries/{registry}/repositories/{repository}/-/tags/{tag}"
    assert line["status"] == 200
    assert line["duration_ms"] >= 0
    assert line["source_ip"] == "127.0.0.1"
    assert datetime.fromisoformat(line["time"]).tzinfo is not None
    assert line["message"] == f"GET {TAG} 200"


def test_no_line_holds_the_query_or_a_token(bed: Bed, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        bed.ask("/v1/me?token=radm_secret", token="radm_secret")
    assert "radm_secret" not in caplog.text


def test_whatever_is_logged_meanwhile_has_the_id(bed: Bed) -> None:
    bed.ask("/v1/me", headers={"X-Request-Id": "mine"})
    record = logging.makeLogRecord({"name": "elsewhere", "msg": "something"})
    assert json.loads(JsonFormatter().format(record))["request_id"] == "mine"


@pytest.mark.parametrize(
    ("proxies", "peer", "forwarded", "source"),
    [
        ((), "192.0.2.1", "", "192.0.2.1"),
        ((), "192.0.2.1", "198.51.100.1", "192.0.2.1"),
        (("192.0.2.1",), "192.0.2.1", "198.51.100.1", "198.51.100.1"),
        (("192.0.2.0/24",), "192.0.2.1", "203.0.113.9, 198.51.100.1", "198.51.100.1"),
        (("192.0.2.0/24",), "192.0.2.1", "203.0.113.9, 192.0.2.2", "203.0.113.9"),
        (("192.0.2.1",), "192.0.2.1", "nonsense", "192.0.2.1"),
        (("192.0.2.1",), "192.0.2.1", "", "192.0.2.1"),
        (("192.0.2.1",), "198.51.100.7", "203.0.113.9", "198.51.100.7"),
        (("::1",), "::1", "2001:db8::1", "2001:db8::1"),
        ((), "", "203.0.113.9", None),
    ],
)
def test_the_source_is_what_trusted_proxies_tell(
    make_bed: MakeBed, proxies: tuple[str, ...], peer: str, forwarded: str, source: str | None
) -> None:
    bed = make_bed(trusted_proxies=proxies)
    headers = {"X-Forwarded-For": forwarded} if forwarded else {}
    bed.ask(TAG, "DELETE", headers=headers, environ_overrides={"REMOTE_ADDR": peer})
    assert bed.events()[-1].attempt.source_ip == source


def test_by_default_no_origin_may_read(bed: Bed) -> None:
    for method in ("GET", "OPTIONS"):
        headers = bed.ask("/v1/me", method, headers={"Origin": ORIGIN}).headers
        assert not [name for name, _ in headers if name.startswith("Access-Control-")]


def test_configured_origins_may_read(make_bed: MakeBed) -> None:
    bed = make_bed(cors_origins=(ORIGIN,))
    headers = bed.ask("/v1/me", headers={"Origin": ORIGIN}).headers
    assert headers["Access-Control-Allow-Origin"] == ORIGIN
    assert headers["Vary"] == "Origin"
    assert "ETag" in headers["Access-Control-Expose-Headers"]
    assert "Access-Control-Allow-Credentials" not in headers


def test_problems_are_for_configured_origins_too(make_bed: MakeBed) -> None:
    bed = make_bed(cors_origins=(ORIGIN,))
    answer = bed.ask("/v1/me", token=None, headers={"Origin": ORIGIN})
    assert answer.problem == (401, "unauthenticated")
    assert answer.headers["Access-Control-Allow-Origin"] == ORIGIN


@pytest.mark.parametrize("origin", ["https://evil.example.com", "null", ORIGIN + ".evil.com"])
def test_other_origins_may_not(make_bed: MakeBed, origin: str) -> None:
    bed = make_bed(cors_origins=(ORIGIN,))
    headers = bed.ask("/v1/me", headers={"Origin": origin}).headers
    assert "Access-Control-Allow-Origin" not in headers
    assert headers["Vary"] == "Origin"


def test_a_preflight_is_answered_without_a_token(make_bed: MakeBed) -> None:
    bed = make_bed(cors_origins=(ORIGIN,))
    asked = {"Origin": ORIGIN, "Access-Control-Request-Method": "DELETE"}
    answer = bed.ask(TAG, "OPTIONS", token=None, headers=asked)
    assert (answer.status, answer.data) == (204, b"")
    assert "DELETE" in answer.headers["Access-Control-Allow-Methods"]
    assert "Authorization" in answer.headers["Access-Control-Allow-Headers"]
    assert bed.events() == []


def test_options_names_the_methods(bed: Bed) -> None:
    answer = bed.ask(TAG, "OPTIONS", token=None)
    assert answer.status == 204
    assert set(answer.headers["Allow"].split(", ")) == {"GET", "HEAD", "OPTIONS", "PUT", "DELETE"}


@pytest.mark.parametrize("path", ["/v1/me", TAG, "/healthz", "/openapi.json", "/docs"])
def test_head_is_get_without_the_body(bed: Bed, path: str) -> None:
    bed.registry.push("team/app", image("a"), "1.0")
    get, head = bed.ask(path), bed.ask(path, "HEAD")
    assert (get.status, head.status, head.data) == (200, 200, b"")
    for name in ("Content-Type", "Content-Length", "ETag"):
        assert head.headers.get(name) == get.headers.get(name)
