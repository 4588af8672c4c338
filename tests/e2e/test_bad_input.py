"""Bad input is refused with its problem, after 401 and 403, and never reaches the registry."""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest

from demo.images import digest_of, sample
from tests.e2e.bed.api import REGISTRY, ZEROS, delete, problem, restore, tag_path
from tests.e2e.bed.http import TIMEOUT, Answer
from tests.e2e.bed.registry import MakeRegistry
from tests.e2e.bed.service import MakeService, Service
from tests.e2e.bed.site import Site, open_site

APP = "app"
A, B = sample("a"), sample("b")
JSON = {"Content-Type": "application/json"}
HERE = f"{REGISTRY}/repositories"
MEBIBYTE = 1024 * 1024
ID = "0" * 32


@pytest.fixture(scope="module")
def site(module_registry: MakeRegistry, module_service: MakeService) -> Iterator[Site]:
    with open_site(module_registry, module_service) as opened:
        opened.fill({"1": A, "2": A, "3": B}, repository=APP)
        opened.service.secrets["poor"] = opened.service.token("job:read")
        yield opened


def send(
    service: Service,
    method: str,
    target: str,
    body: bytes | None = None,
    headers: Mapping[str, str] | None = None,
    *,
    token: str | None = "",
) -> Answer:
    """Send the target as it is: no client here puts a path in order."""
    sent = dict(headers or {})
    if token is not None:
        sent["Authorization"] = f"Bearer {token or service.admin()}"
    connection = http.client.HTTPConnection(service.host, timeout=TIMEOUT)
    with contextlib.closing(connection):
        connection.request(method, target, body, sent)
        answer = connection.getresponse()
        found = {name.lower(): value for name, value in answer.getheaders()}
        return Answer(answer.status, found, answer.read())


@dataclass(frozen=True)
class Bad:
    """A request that is wrong, and what it is told; ``upstream`` where one must look to know."""

    method: str
    target: str
    status: int
    code: str
    body: bytes | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    upstream: bool = False

    def __str__(self) -> str:
        shown = "" if self.body is None else f" {self.body[:30]!r}"
        return f"{self.method} {self.target[-60:]}{shown}{dict(self.headers) or ''}"


def hold(site: Site, bad: Bad) -> Any:  # noqa: ANN401 - JSON
    """Hold that it is refused so, changes nothing, and that who asks is looked at first."""
    with site.untouched():
        answer = send(site.service, bad.method, bad.target, bad.body, bad.headers)
        told = problem(answer, bad.status, bad.code)
        assert bad.upstream or site.proxy.seen == []
        site.proxy.reset()
        nobody = send(site.service, bad.method, bad.target, bad.body, bad.headers, token=None)
        problem(nobody, 401, "unauthenticated")
        assert nobody.headers["www-authenticate"].startswith("Bearer")
        poor = site.service.secrets["poor"]
        other = send(site.service, bad.method, bad.target, bad.body, bad.headers, token=poor)
        assert problem(other, 403, "insufficient-scope")["required_scope"]
        assert site.proxy.seen == []
    return told


PUT_BODY = b'{"tag": "1"}'

# Names.

REPOSITORIES = [
    "UPPER", "a//b", "/a", "a/", "..", "../..", "a/../b", "a/..", ".", "a/./b", "-a", "a-", "a..b",
    "a___b", "_", "a/_b", "%00", "a%00b", "%2e%2e", "%2e%2e%2f%2e%2e%2fetc", "a%252fb",
    "%252e%252e%252f", "a%0ab", "a%0d%0aX-Evil:%201", "a%20b", "a%3fb", "a%23b", "%c3%a9",
    "%f0%9f%98%80", "%ff%fe", "%ef%bc%8f", "a%5cb", "a:b", "a@b", "a;b=c", "a%09", "a*", "a%25",
    "-/-/-", "a/-/b", "a" * 256, "a/" * 200 + "a", "library/..%2f..%2fother", "a%2f%2fb", "%2f",
    "sha256:" + "0" * 64, "~", "a b".replace(" ", "+"), "a'\"b".replace('"', "%22"), "${a}", "{a}",
]  # fmt: skip
TAGS = [
    ".a", "-a", "..", ".", "%00", "1%00", "%2e%2e", "%252e", "a%20b", "a+b", "%c3%a9", "a%0a",
    "a%0d", "a:b", "a@b", "*", "a" * 129, "%ff", "a%3f", "a%25", "%f0%9f%98%80", "1%e2%80%8b",
]  # fmt: skip
DIGESTS = [
    "sha256:xyz", "sha256:" + "A" * 64, "sha256:" + "0" * 63, "sha256:" + "0" * 65, "sha256:",
    "sha512:" + "0" * 128, "md5:" + "0" * 32, ":", "sha256:" + "0" * 64 + "%00",
    "sha256:" + "0" * 64 + "%0a", "%00:" + "0" * 64, "sha256%253A" + "0" * 64 + ":",
]  # fmt: skip


@pytest.mark.parametrize("name", REPOSITORIES)
def test_repository_names(site: Site, name: str) -> None:
    code = "invalid-repository-name"
    for method, rest, body in (
        ("GET", "", None),
        ("GET", "/-/tags", None),
        ("GET", "/-/tags/1", None),
        ("GET", f"/-/manifests/{ZEROS}/raw", None),
        ("GET", f"/-/manifests/{ZEROS}/referrers", None),
        ("DELETE", "/-/tags/1", None),
        ("DELETE", f"/-/manifests/{ZEROS}?force=true", None),
        ("PUT", "/-/tags/1", PUT_BODY),
    ):
        hold(site, Bad(method, f"{HERE}/{name}{rest}", 400, code, body, JSON if body else {}))


@pytest.mark.parametrize("tag", TAGS)
def test_tags(site: Site, tag: str) -> None:
    for method, rest, body in (
        ("GET", f"tags/{tag}", None),
        ("GET", f"manifests/{tag}", None) if ":" not in tag else ("GET", f"tags/{tag}", None),
        ("DELETE", f"tags/{tag}?dry_run=false", None),
        ("PUT", f"tags/{tag}", PUT_BODY),
    ):
        target = f"{HERE}/{APP}/-/{rest}"
        hold(site, Bad(method, target, 400, "invalid-tag", body, JSON if body else {}))


@pytest.mark.parametrize("digest", DIGESTS)
def test_digests(site: Site, digest: str) -> None:
    for method, rest in (
        ("GET", ""),
        ("GET", "/raw"),
        ("GET", "/tags"),
        ("GET", "/referrers"),
        ("DELETE", "?force=true"),
    ):
        target = f"{HERE}/{APP}/-/manifests/{digest}{rest}"
        hold(site, Bad(method, target, 400, "invalid-digest"))


@pytest.mark.parametrize("method", ["GET", "DELETE"])
def test_a_blob_is_no_manifest(site: Site, method: str) -> None:
    """Distribution 2.8 answers 500 for the first, and 202 for the second."""
    for blob in A.blobs:
        target = f"{HERE}/{APP}/-/manifests/{digest_of(blob)}"
        with site.untouched():
            told = problem(site.service.ask(target, method), 404, "manifest-unknown")
        assert "blob" in told["detail"]


def test_a_manifest_of_an_unknown_repository(site: Site) -> None:
    for method in ("GET", "DELETE"):
        target = f"{HERE}/team/nobody/-/manifests/{ZEROS}"
        hold(site, Bad(method, target, 404, "repository-unknown", upstream=True))


def test_a_manifest_is_deleted_by_its_digest_alone(site: Site) -> None:
    hold(site, Bad("DELETE", f"{HERE}/{APP}/-/manifests/1?force=true", 400, "invalid-digest"))
    hold(site, Bad("GET", f"{HERE}/{APP}/-/manifests/1/tags", 400, "invalid-digest"))


@pytest.mark.parametrize(
    "name", ["other", "DEFAULT", "..", "%2e%2e", "%00", "x" * 300, "default%20"]
)
def test_registries(site: Site, name: str) -> None:
    for method, rest in (("GET", ""), ("GET", "/repositories"), ("GET", "/deletions"),
                         ("DELETE", "/repositories/app/-/tags/1")):  # fmt: skip
        hold(site, Bad(method, f"/v1/registries/{name}{rest}", 404, "registry-unknown"))


STRAYS = [
    "/v1", "/v1/", "/v2/", "/v1/registries/", "/v1/registries/default/", "/v1/repositories",
    f"{HERE}/", "/v1//registries", "/v1/registries//repositories",
    "/v1/../v1/me", "/%2e%2e/v1/me", "/v1/me/", "/docs/../v1/me/x",
    "/openapi.json/", "/healthz/..", "/.env", "/etc/passwd", "/static/..%2f..%2fetc/passwd",
    "/docs/..%2f..%2f..%2fetc/passwd", "/docs/%2e%2e/%2e%2e/service/app.py",
]  # fmt: skip


@pytest.mark.parametrize("target", STRAYS)
def test_paths_that_lead_nowhere(site: Site, target: str) -> None:
    with site.untouched():
        for token in ("", None):
            problem(send(site.service, "GET", target, token=token), 404, "not-found")
        assert site.proxy.seen == []


# Query parameters.

PATHS = (
    "/v1/registries",
    REGISTRY,
    HERE,
    f"{HERE}/{APP}",
    f"{HERE}/{APP}/-/tags",
    f"{HERE}/{APP}/-/tags/1",
    f"{HERE}/{APP}/-/manifests/1",
    f"{HERE}/{APP}/-/manifests/1/raw",
    f"{HERE}/{APP}/-/manifests/{ZEROS}/tags",
    f"{HERE}/{APP}/-/manifests/{ZEROS}/referrers",
    f"{REGISTRY}/deletions",
    f"{REGISTRY}/deletions/{ID}",
    "/v1/audit-events",
    "/v1/tokens",
)
PAGED = [path for path in PATHS if path.endswith(("s", "repositories"))]


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("parameter", ["x", "N", "page", "dry_run", "%00", "detail[]", "tags"])
def test_unknown_parameters(site: Site, path: str, parameter: str) -> None:
    told = hold(site, Bad("GET", f"{path}?{parameter}=true", 422, "validation-failed"))
    assert len(told["errors"]) == 1
    assert set(told["errors"][0]) == {"parameter", "detail"}


COUNTS = [
    "0",
    "1001",
    "-1",
    "ten",
    "1.0",
    "%2b1",
    "",
    "%ef%bc%91",
    "1e2",
    "0x10",
    "9" * 30,
    "1&n=2",
]
POSITIONS = ["zz", "%00", "6", "", "%c3%a9", "00", "0a", "7f", "6" * 3000, "31&last=32"]


@pytest.mark.parametrize("path", PAGED)
def test_paging(site: Site, path: str) -> None:
    for name, values in (("n", COUNTS), ("last", POSITIONS)):
        for value in values:
            told = hold(site, Bad("GET", f"{path}?{name}={value}", 422, "validation-failed"))
            assert told["errors"][0]["parameter"] == name


FLAGS = ["yes", "1", "0", "TRUE", "", "null", "true&{}=true", "true,true", "%00", "tru%65%00"]


@pytest.mark.parametrize("value", FLAGS)
@pytest.mark.parametrize(
    ("method", "path", "names"),
    [
        ("GET", HERE, ("include_empty",)),
        ("GET", f"{HERE}/{APP}/-/tags", ("detail",)),
        ("DELETE", f"{HERE}/{APP}/-/tags/1", ("dry_run", "keep_manifest", "cascade")),
        ("DELETE", f"{HERE}/{APP}/-/manifests/{A.digest}", ("force", "cascade", "dry_run")),
    ],
)
def test_flags(site: Site, method: str, path: str, names: tuple[str, ...], value: str) -> None:
    for name in names:
        target = f"{path}?{name}={value.replace('{}', name)}"
        told = hold(site, Bad(method, target, 422, "validation-failed"))
        assert [error["parameter"] for error in told["errors"]] == [name]


@pytest.mark.parametrize("option", ["force=true", "tags=1", "n=1", "keep-manifest=true", "x"])
def test_options_of_another_deletion(site: Site, option: str) -> None:
    hold(site, Bad("DELETE", f"{HERE}/{APP}/-/tags/1?{option}=", 422, "validation-failed"))


@pytest.mark.parametrize("value", ["", ",", "1,", ".bad", "1,%00", "1,2,../x", "1%202", "a" * 129])
def test_names_of_tags_in_a_query(site: Site, value: str) -> None:
    target = f"{HERE}/{APP}/-/manifests/{A.digest}?tags={value}"
    hold(site, Bad("DELETE", target, 400, "invalid-tag"))


@pytest.mark.parametrize(
    "query",
    ["outcome=maybe", "since=yesterday", "since=2026-01-01", "until=2026-13-01T00:00:00Z",
     "actor=", "actor=%00", "action=%0a", "registry=" + "a" * 201, "since=1&since=2"],
)  # fmt: skip
def test_questions_to_the_audit_trail(site: Site, query: str) -> None:
    hold(site, Bad("GET", f"/v1/audit-events?{query}", 422, "validation-failed"))


# Bodies.

NO_JSON = [
    b"{", b"}", b"tag=1", b"{'tag': '1'}", b'{"tag": NaN}', b'{"tag": "1",}', b'{"tag": "1"} x',
    b'\xff\xfe{"tag": "1"}', b'{"tag": "1", "tag": "2"}', b'{"tag": "\xff"}', b'{"tag": "\\ud800"}',
    b"[" * 50_000, b'{"a":' * 50_000, b"\x00", b'{"tag": 01}', b'{"tag": Infinity}', b"<tag/>",
]  # fmt: skip
CHANGES = {
    f"{HERE}/{APP}/-/tags/new": "PUT",
    f"{REGISTRY}/deletions/{ID}/restore": "POST",
    "/v1/tokens": "POST",
}


@pytest.mark.parametrize(("path", "method"), CHANGES.items(), ids=["tag", "restore", "token"])
@pytest.mark.parametrize("body", NO_JSON, ids=[str(body[:20]) for body in NO_JSON])
def test_bodies_that_are_no_json(site: Site, path: str, method: str, body: bytes) -> None:
    hold(site, Bad(method, path, 400, "malformed-body", body, JSON))


@pytest.mark.parametrize(("path", "method"), CHANGES.items(), ids=["tag", "restore", "token"])
@pytest.mark.parametrize("body", [b"[]", b"1", b'"tag"', b"null", b'{"x": 1}', b'{"": 1}'])
def test_bodies_of_another_shape(site: Site, path: str, method: str, body: bytes) -> None:
    hold(site, Bad(method, path, 422, "validation-failed", body, JSON))


@pytest.mark.parametrize(("path", "method"), CHANGES.items(), ids=["tag", "restore", "token"])
@pytest.mark.parametrize(
    "kind",
    ["text/plain", "application/x-www-form-urlencoded", "application/xml", "json", "",
     "application/json-patch+json", "multipart/form-data; boundary=x"],
)  # fmt: skip
def test_bodies_of_another_type(site: Site, path: str, method: str, kind: str) -> None:
    headers = {"Content-Type": kind}
    hold(site, Bad(method, path, 415, "unsupported-media-type", b'{"tag": "1"}', headers))


FIELDS: list[tuple[object, int, str]] = [
    ({}, 422, "validation-failed"),
    ({"tag": "1", "digest": A.digest}, 422, "validation-failed"),
    ({"tag": 1}, 422, "validation-failed"),
    ({"tag": None}, 422, "validation-failed"),
    ({"tag": ["1"]}, 422, "validation-failed"),
    ({"tag": {"tag": "1"}}, 422, "validation-failed"),
    ({"tag": "1", "dry_run": "true"}, 422, "validation-failed"),
    ({"tag": "1", "dry_run": 1}, 422, "validation-failed"),
    ({"tag": "1", "dry_run": None}, 422, "validation-failed"),
    ({"tag": "1", "force": True}, 422, "validation-failed"),
    ({"tag": "1", "x\u0000": 1}, 422, "validation-failed"),
    ({"tag": ""}, 400, "invalid-tag"),
    ({"tag": ".."}, 400, "invalid-tag"),
    ({"tag": "a/b"}, 400, "invalid-tag"),
    ({"tag": "1\n"}, 400, "invalid-tag"),
    ({"tag": "é"}, 400, "invalid-tag"),
    ({"tag": "a" * 129}, 400, "invalid-tag"),
    ({"digest": "1"}, 400, "invalid-digest"),
    ({"digest": A.digest.upper()}, 400, "invalid-digest"),
    ({"digest": A.digest + "\n"}, 400, "invalid-digest"),
    ({"digest": "../../etc"}, 400, "invalid-digest"),
    ({"digest": 7}, 422, "validation-failed"),
]


@pytest.mark.parametrize(("document", "status", "code"), FIELDS)
def test_where_a_tag_is_to_point(site: Site, document: object, status: int, code: str) -> None:
    target = f"{HERE}/{APP}/-/tags/new"
    hold(site, Bad("PUT", target, status, code, json.dumps(document).encode(), JSON))
    hold(site, Bad("PUT", f"{target}?dry_run=true", 422, "validation-failed", PUT_BODY, JSON))


@pytest.mark.parametrize(
    "document",
    [{"force": "yes"}, {"force": 1}, {"dry_run": "true"}, {"dry_run": None}, {"tags": ["1"]}],
)
def test_how_to_restore(site: Site, document: object) -> None:
    deletion = delete(site.service, tag_path(APP, "3"))
    target = f"{REGISTRY}/deletions/{deletion['id']}/restore"
    body = json.dumps(document).encode()
    hold(site, Bad("POST", target, 422, "validation-failed", body, JSON))
    restore(site.service, deletion)


def test_a_deletion_takes_no_body(site: Site) -> None:
    """An option in the wrong place, such as dry_run, must not pass unseen."""
    body = b'{"dry_run": true}'
    for rest in ("tags/1", f"manifests/{A.digest}?force=true"):
        target = f"{HERE}/{APP}/-/{rest}"
        hold(site, Bad("DELETE", target, 422, "validation-failed", body, JSON))


@pytest.mark.parametrize(
    ("document", "pointer"),
    [
        ({}, "/cron"),
        ({"cron": "0 3 * *"}, "/cron"),
        ({"cron": "61 3 * * *"}, "/cron"),
        ({"cron": "@reboot"}, "/cron"),
        ({"cron": "* * * * * *"}, "/cron"),
        ({"cron": 3}, "/cron"),
        ({"cron": "0 3 * * *", "time_zone": "Nowhere/Land"}, "/time_zone"),
        ({"cron": "0 3 * * *", "time_zone": "../etc/passwd"}, "/time_zone"),
        ({"cron": "0 3 * * *", "time_zone": ""}, "/time_zone"),
        ({"cron": "0 3 * * *", "mode": "live"}, "/mode"),
    ],
)
def test_when_to_collect(site: Site, document: object, pointer: str) -> None:
    target, body = f"{REGISTRY}/gc-schedule", json.dumps(document).encode()
    told = hold(site, Bad("PUT", target, 422, "validation-failed", body, JSON))
    assert [error["pointer"] for error in told["errors"]] == [pointer]
    hold(site, Bad("GET", target, 404, "schedule-unknown"))


HUGE = b'{"tag": "' + b"1" * 2 * MEBIBYTE + b'"}'


@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize(("path", "method"), CHANGES.items(), ids=["tag", "restore", "token"])
def test_huge_bodies(site: Site, path: str, method: str, *, chunked: bool) -> None:
    with site.untouched():
        for token, status, code in (
            ("", 413, "content-too-large"),
            (None, 401, "unauthenticated"),
            (site.service.secrets["poor"], 403, "insufficient-scope"),
        ):
            problem(send_huge(site.service, method, path, token, chunked=chunked), status, code)
        assert site.proxy.seen == []


def send_huge(
    service: Service, method: str, path: str, token: str | None, *, chunked: bool
) -> Answer:
    """Send what is too much; the answer may come before all of it is sent."""
    head = [f"{method} {path} HTTP/1.1", f"Host: {service.host}", "Connection: close"]
    head += ["Content-Type: application/json"]
    head += [] if token is None else [f"Authorization: Bearer {token or service.admin()}"]
    head += ["Transfer-Encoding: chunked"] if chunked else [f"Content-Length: {len(HUGE)}"]
    parts = [b"%x\r\n%b\r\n" % (len(HUGE), HUGE), b"0\r\n\r\n"] if chunked else [HUGE]
    return exchange(service, "\r\n".join([*head, "", ""]).encode(), *parts)


def exchange(service: Service, *parts: bytes) -> Answer:
    """Send bytes as they are over a socket, and read the answer."""
    host, _, port = service.host.partition(":")
    with socket.create_connection((host, int(port)), TIMEOUT) as connection:
        with contextlib.suppress(ConnectionError):
            for part in parts:
                connection.sendall(part)
        answer = http.client.HTTPResponse(connection)
        answer.begin()
        found = {name.lower(): value for name, value in answer.getheaders()}
        return Answer(answer.status, found, answer.read())


# Headers.

CONDITIONS = ["abc", '"unclosed', '"a" "b"', A.digest, '"a";', 'w/"a"', '"a",,b', "**", '*, "a"']


@pytest.mark.parametrize("value", CONDITIONS)
def test_conditions(site: Site, value: str) -> None:
    target = f"{HERE}/{APP}/-/tags/1"
    condition = {"If-Match": value}
    for bad in (
        Bad("DELETE", target, 400, "malformed-header", headers=condition),
        Bad("PUT", target, 400, "malformed-header", PUT_BODY, {**JSON, **condition}),
        Bad("DELETE", target, 400, "malformed-header", headers={"If-None-Match": '"a"'}),
    ):
        assert hold(site, bad)["header"].startswith("If-")


@pytest.mark.parametrize("value", CONDITIONS)
def test_conditions_of_reads(site: Site, value: str) -> None:
    headers = {"If-None-Match": value}
    for rest in ("tags/1", "manifests/1/raw"):
        target = f"{HERE}/{APP}/-/{rest}"
        hold(site, Bad("GET", target, 400, "malformed-header", None, headers, upstream=True))


SENT = ["", "Basic YTpi", "Bearer", "Bearer ", "Bearer a b", "bearer", "Token x", "Bearer é",
        "Bearer radm_" + "x" * 43, "radm_" + "x" * 43, "Bearer " + "a" * 5000]  # fmt: skip


@pytest.mark.parametrize("value", SENT)
def test_credentials(site: Site, value: str) -> None:
    with site.untouched():
        headers = {"Authorization": value}
        for method, target in (("GET", "/v1/me"), ("DELETE", f"{HERE}/{APP}/-/tags/1"),
                               ("GET", f"{HERE}/UPPER")):  # fmt: skip
            answer = send(site.service, method, target, None, headers, token=None)
            problem(answer, 401, "unauthenticated")
            assert answer.headers["www-authenticate"].startswith("Bearer")
        assert site.proxy.seen == []


def test_a_token_is_taken_from_the_header_alone(site: Site) -> None:
    token = site.service.admin()
    for target in (f"/v1/me?access_token={token}", f"/v1/me?token={token}"):
        answer = send(site.service, "GET", target, token=None)
        problem(answer, 401, "unauthenticated")
        assert token.encode() not in answer.body


METHODS = ["POST", "PUT", "PATCH", "DELETE", "TRACE", "PROPFIND", "FOO"]


@pytest.mark.parametrize("method", METHODS)
def test_methods_that_are_not_offered(site: Site, method: str) -> None:
    with site.untouched():
        for target, offered in (
            (f"{HERE}/{APP}", {"GET", "HEAD", "OPTIONS"}),
            ("/v1/audit-events", {"GET", "HEAD", "OPTIONS"}),
            (f"{HERE}/{APP}/-/tags/1", {"GET", "HEAD", "OPTIONS", "PUT", "DELETE"}),
        ):
            if method not in offered:
                answer = send(site.service, method, target, b"{}", JSON)
                problem(answer, 405, "method-not-allowed")
                assert set(answer.headers["allow"].split(", ")) == offered
        assert site.proxy.seen == []


IDS = {"abc-1.2_3:/+=@": True, "x" * 128: True, "x" * 129: False, "a b": False, "": False,
       "<script>": False, "é": False, "a,b": False}  # fmt: skip


@pytest.mark.parametrize(("sent", "kept"), IDS.items())
def test_request_ids(site: Site, sent: str, *, kept: bool) -> None:
    for target, status in (("/v1/me", 200), ("/v1/nothing", 404), (f"{HERE}/UPPER", 400)):
        answer = send(site.service, "GET", target, None, {"X-Request-Id": sent})
        found = answer.headers["x-request-id"]
        assert answer.status == status
        assert (found == sent) == kept
        assert 0 < len(found) <= 128


RAW = {
    "null in path": b"GET /v1/me\x00 HTTP/1.1\r\nHost: a\r\n\r\n",
    "newline in path": b"GET /v1/me\nX: y HTTP/1.1\r\nHost: a\r\n\r\n",
    "no version": b"GET /v1/me\r\n\r\n",
    "absolute form of another host": b"GET http://elsewhere/v1/me HTTP/1.1\r\nHost: a\r\n\r\n",
    "header without colon": b"GET /v1/me HTTP/1.1\r\nHost a\r\n\r\n",
    "two lengths": b"POST /v1/tokens HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n"
    b"Content-Length: 3\r\n\r\n{}",
    "length and chunks": b"POST /v1/tokens HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n"
    b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "negative length": b"POST /v1/tokens HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n",
    "endless line": b"GET /" + b"a" * 9000 + b" HTTP/1.1\r\nHost: a\r\n\r\n",
    "endless header": b"GET /v1/me HTTP/1.1\r\nHost: a\r\nX: " + b"a" * 9000 + b"\r\n\r\n",
    "no http": b"\x16\x03\x01\x00\xa5\x01\x00\x00\r\n\r\n",
}


@pytest.mark.parametrize("sent", RAW.values(), ids=RAW.keys())
def test_what_is_hardly_http(site: Site, sent: bytes) -> None:
    with site.untouched():
        answer = exchange(site.service, sent)
        assert 400 <= answer.status <= 501
        document = problem(answer, answer.status, answer.json()["code"])
        assert document["code"] in {"bad-request", "content-too-large", "unauthenticated"}
        assert answer.headers["x-request-id"] == document["request_id"]
        assert site.proxy.seen == []
    assert site.service.ask("/healthz", token=None).status == 200


def test_after_all_that_the_service_is_as_it_was(site: Site) -> None:
    assert "Traceback" not in site.service.log.read_text()
    assert '"status": 500' not in site.service.log.read_text()
    assert site.registry.tags(APP) == {"1": A.digest, "2": A.digest, "3": B.digest}
