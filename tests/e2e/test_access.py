"""Who may do what, at once and everywhere; and every attempt stands in the audit trail."""

from __future__ import annotations

import contextlib
import http.client
import re
import sqlite3
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import pytest

from demo.images import cosign_tag, sample, signature
from demo.processes import wait_until
from service.domain.access import SCOPES
from tests.e2e.bed.api import (
    REGISTRY,
    ZEROS,
    at_once,
    delete,
    each_page,
    get,
    manifest_path,
    pages,
    problem,
    repository_path,
    tag_path,
    try_restore,
)
from tests.e2e.bed.http import Answer
from tests.e2e.bed.postgres import Postgres
from tests.e2e.bed.proxy import WRITES, Exchange, Reply
from tests.e2e.bed.registry import MakeRegistry
from tests.e2e.bed.service import MakeService, Service
from tests.e2e.bed.site import Site, open_site

PATIENCE = 30  # seconds, for what must happen sooner or later
A, B = sample("a"), sample("b")
ORIGIN = "https://portal.example.com"
OTHER = "/v1/registries/other"
PUBLIC = {"/healthz", "/readyz", "/openapi.json"}
TOKENS = "/v1/tokens"
EVENTS = "/v1/audit-events"


@pytest.fixture(scope="module")
def site(module_registry: MakeRegistry, module_service: MakeService) -> Iterator[Site]:
    """Two registries by configuration, the same one behind both; two processes of the API."""

    def serve(*given: Any, **options: Any) -> Service:  # noqa: ANN401
        own = {"workers": 2, "cors_origins": [ORIGIN]}
        made = module_service(*given, **options, settings=own, start=False)
        text = made.config.read_text()
        made.config.write_text(f'{text}\n[registries.other]\nurl = "{options["url"]}"\n')
        made.start()
        return made

    with open_site(module_registry, serve) as opened:
        for name in ("team/app", "team/deep/app", "else/app"):
            opened.fill({"1": A, "2": A, "3": B}, repository=name)
        yield opened


def create(service: Service, token: str = "", **members: Any) -> Answer:  # noqa: ANN401
    asked = {"name": "made", "scopes": ["registry:read"], **members}
    return service.ask(TOKENS, "POST", body=asked, token=token)


def made(service: Service, **members: Any) -> Any:  # noqa: ANN401 - JSON
    """Create a token; gives all that is told of it, its secret too."""
    answer = create(service, **members)
    assert answer.status == 201, answer.body
    return answer.json()


def secret(service: Service, **members: Any) -> str:  # noqa: ANN401
    return str(made(service, **members)["secret"])


# Scopes.


def operations(service: Service) -> list[tuple[str, str, str | None]]:
    """List method, path and scope of every operation, as the service's own document has them."""
    document = service.ask("/openapi.json", token=None).json()
    found = []
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            if isinstance(operation, dict) and "operationId" in operation:
                scope = re.search("Needs the scope `([a-z:]+)`", operation.get("description", ""))
                assert (operation["security"] == []) == (path in PUBLIC)
                found.append((method.upper(), filled_in(path), scope[1] if scope else None))
    return found


def filled_in(path: str) -> str:
    values = {"registry": "default", "repository": "team/none", "tag": "1"}
    values |= {"digest": ZEROS, "reference": ZEROS}
    return re.sub(r"\{(\w+)\}", lambda name: values.get(name[1], "0" * 32), path)


def try_badly(service: Service, method: str, path: str, token: str | None) -> Answer:
    """Ask so that, once let in, nothing happens: the body of a change is broken."""
    if method == "GET":
        return service.ask(path, token=token)
    return service.ask(path, method, token=token, body=b"{")


def test_each_operation_needs_its_own_scope(site: Site) -> None:
    listed = operations(site.service)
    assert len(listed) >= 26
    own = {scope: secret(site.service, scopes=[scope]) for _, _, scope in listed if scope}
    all_but = {
        scope: secret(site.service, scopes=[one for one in SCOPES if one not in {scope, "admin"}])
        for scope in own
    }
    for method, path, scope in listed:
        if path in PUBLIC:
            assert site.service.ask(path, token=None).status == 200
            continue
        answer = try_badly(site.service, method, path, None)
        problem(answer, 401, "unauthenticated")
        assert answer.headers["www-authenticate"] == 'Bearer realm="registry-admin"'
        if scope:
            refused = try_badly(site.service, method, path, all_but[scope])
            assert problem(refused, 403, "insufficient-scope")["required_scope"] == scope
            let_in = try_badly(site.service, method, path, own[scope])
            assert let_in.status not in {401, 403}, (method, path)


def test_i_am_told_who_i_am(site: Site) -> None:
    expiry = (datetime.now(UTC) + timedelta(days=1)).isoformat(timespec="seconds")
    token = made(
        site.service,
        name="me",
        scopes=["registry:read", "job:read"],
        registries=["default"],
        repositories=["team/*"],
        expires_at=expiry,
    )
    found = site.service.ask("/v1/me", token=token["secret"]).json()
    assert found == {
        "name": "me",
        "scopes": ["job:read", "registry:read"],
        "registries": ["default"],
        "repositories": ["team/*"],
        "expires_at": expiry.replace("+00:00", "Z"),
        "kind": "token",
    }


# Limits.


@pytest.fixture(scope="module")
def limited(site: Site) -> str:
    """A token that may do everything with team/* on the registry named default."""
    return secret(site.service, scopes=["admin"], registries=["default"], repositories=["team/*"])


def test_lists_leave_out_what_lies_beyond_the_limits(site: Site, limited: str) -> None:
    def names(path: str) -> list[str]:
        answer = site.service.ask(path, token=limited)
        assert answer.status == 200
        return [item["name"] for item in answer.json()["items"]]

    assert names("/v1/registries") == ["default"]
    assert names(f"{REGISTRY}/repositories") == ["team/app", "team/deep/app"]
    assert names(f"{REGISTRY}/repositories?n=1&include_empty=true") == ["team/app"]


BEYOND = (
    ("GET", OTHER, None),
    ("GET", f"{OTHER}/repositories", None),
    ("GET", f"{OTHER}/repositories/team/app", None),
    ("GET", f"{OTHER}/deletions", None),
    ("GET", repository_path("else/app"), None),
    ("GET", repository_path("else/none"), None),
    ("GET", repository_path("team"), None),
    ("GET", repository_path("else%2Fapp", "tags"), None),
    ("GET", tag_path("else/app", "1"), None),
    ("GET", manifest_path("else/app", "1", "raw"), None),
    ("GET", manifest_path("else/app", A.digest, "referrers"), None),
    ("DELETE", tag_path("else/app", "1"), None),
    ("DELETE", tag_path("else/app", "1") + "?dry_run=true", None),
    ("DELETE", manifest_path("else/app", A.digest) + "?force=true", None),
    ("PUT", tag_path("else/app", "new"), {"tag": "1"}),
    ("PUT", f"{OTHER}/repositories/team/app/-/tags/new", {"tag": "1"}),
)


@pytest.mark.parametrize(("method", "path", "body"), BEYOND)
def test_what_lies_beyond_the_limits_is_refused(
    site: Site, limited: str, method: str, path: str, body: object
) -> None:
    with site.untouched("else/app"):
        answer = site.service.ask(path, method, token=limited, body=body)
        told = problem(answer, 403, "insufficient-scope")
        assert told["required_scope"]
        assert site.proxy.seen == []


def test_within_the_limits_all_works(site: Site, limited: str) -> None:
    answer = site.service.ask(tag_path("team/deep/app", "1"), "DELETE", token=limited)
    assert answer.status == 200
    again = f"{REGISTRY}/deletions/{answer.json()['id']}/restore"
    assert site.service.ask(again, "POST", token=limited).status == 200


def test_deletions_beyond_the_limits_are_hidden_and_not_restored(site: Site, limited: str) -> None:
    theirs = delete(site.service, tag_path("else/app", "1"))
    path = f"{REGISTRY}/deletions"
    listed = site.service.ask(path, token=limited).json()["items"]
    assert theirs["id"] not in {one["id"] for one in listed}
    problem(site.service.ask(f"{path}/{theirs['id']}", token=limited), 403, "insufficient-scope")
    with site.untouched("else/app"):
        answer = site.service.ask(f"{path}/{theirs['id']}/restore", "POST", token=limited)
    problem(answer, 403, "insufficient-scope")
    assert try_restore(site.service, theirs).status == 200


def test_what_is_remembered_of_one_repository_is_not_told_of_another(
    site: Site, limited: str
) -> None:
    hidden = sample("hidden from team")
    site.fill({"secret": hidden}, repository="else/app")
    for rest in ("", "raw"):
        assert site.service.ask(manifest_path("else/app", "secret", rest)).status == 200
    for rest in ("", "raw", "tags", "referrers"):
        answer = site.service.ask(manifest_path("team/app", hidden.digest, rest), token=limited)
        problem(answer, 404, "manifest-unknown")


def test_the_trail_is_seen_as_far_as_the_limits_go(site: Site, limited: str) -> None:
    delete(site.service, tag_path("else/app", "2"))
    events = site.service.ask(f"{EVENTS}?n=1000", token=limited).json()["items"]
    assert {one["registry"] for one in events} == {"default"}
    # A restore's target is an id; its details have the repository.
    about = (one["details"].get("repository") or one["target"] for one in events)
    assert all(re.split("[:@]", one)[0].startswith("team/") for one in about)


# Granting.


def test_nobody_grants_what_they_lack(site: Site, limited: str) -> None:
    soon = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
    giver = secret(site.service, scopes=["token:admin", "registry:read"], expires_at=soon)
    later = (datetime.now(UTC) + timedelta(hours=2)).isoformat()
    for token, members in (
        (giver, {"scopes": ["admin"], "expires_at": soon}),
        (giver, {"scopes": ["registry:read", "registry:delete"], "expires_at": soon}),
        (giver, {"scopes": ["registry:read"], "expires_at": later}),
        (giver, {"scopes": ["registry:read"]}),
        (limited, {"scopes": ["registry:read"]}),
        (limited, {"scopes": ["registry:read"], "registries": ["default"]}),
        (limited, {"registries": ["other"], "repositories": ["team/*"]}),
        (limited, {"registries": ["default", "other"], "repositories": ["team/*"]}),
        (limited, {"registries": ["default"], "repositories": ["*"]}),
        (limited, {"registries": ["default"], "repositories": ["team/*", "else/*"]}),
        (limited, {"registries": ["default"], "repositories": ["t*"]}),
    ):
        before = len(pages(site.service, TOKENS, n=1000))
        problem(create(site.service, token, **members), 403, "insufficient-scope")
        assert len(pages(site.service, TOKENS, n=1000)) == before
    narrower = {"registries": ["default"], "repositories": ["team/deep/*"]}
    assert create(site.service, limited, **narrower).status == 201
    assert create(site.service, giver, expires_at=soon).status == 201


def test_a_secret_is_told_once(site: Site) -> None:
    token = made(site.service, name="told once")
    assert re.fullmatch(r"radm_[A-Za-z0-9_-]{43}", token["secret"])
    path = f"{TOKENS}/{token['id']}"
    without = {name: value for name, value in token.items() if name != "secret"}
    assert get(site.service, path) == without
    for answer in (site.service.ask(path), site.service.ask(f"{TOKENS}?n=1000")):
        assert token["secret"].encode() not in answer.body
    told = pages(site.service, EVENTS, n=1000, action="token.create")
    assert token["secret"] not in str(told)
    assert token["secret"] not in site.service.log.read_text()
    for file in site.service.data_dir.rglob("*"):
        assert not file.is_file() or token["secret"].encode() not in file.read_bytes()


def test_a_token_cannot_revoke_itself(site: Site) -> None:
    token = made(site.service, scopes=["token:admin"])
    path = f"{TOKENS}/{token['id']}"
    problem(site.service.ask(path, "DELETE", token=token["secret"]), 409, "token-in-use")
    assert site.service.ask(path, "DELETE").status == 204
    problem(site.service.ask(path), 404, "token-unknown")
    problem(site.service.ask(path, "DELETE"), 404, "token-unknown")


def test_tokens_are_listed_by_pages(site: Site) -> None:
    names = [f"page {number}" for number in range(5)]
    for name in names:
        made(site.service, name=name)
    walked = [one for page in each_page(site.service, TOKENS, n=2) for one in page]
    assert walked == pages(site.service, TOKENS, n=1000)
    assert [one["name"] for one in walked if one["name"].startswith("page ")] == names


# Ends of tokens.


def statuses(service: Service, token: str, times: int = 50) -> set[int]:
    """Ask so often over several connections that every process has had a turn."""
    return set().union(*at_once(partial(ask_on_one, service, token) for _ in range(times // 5)))


def ask_on_one(service: Service, token: str) -> set[int]:
    connection = http.client.HTTPConnection(service.host, timeout=PATIENCE)
    found = set()
    with contextlib.closing(connection):
        for _ in range(5):
            connection.request("GET", "/v1/me", headers={"Authorization": f"Bearer {token}"})
            answer = connection.getresponse()
            answer.read()
            found.add(answer.status)
    return found


@pytest.mark.parametrize("by", ["api", "command"])
def test_a_revoked_token_is_refused_at_once_everywhere(site: Site, by: str) -> None:
    token = made(site.service)
    assert statuses(site.service, token["secret"]) == {200}
    if by == "api":
        assert site.service.ask(f"{TOKENS}/{token['id']}", "DELETE").status == 204
    else:
        site.service.run("token", "revoke", token["id"])
    assert statuses(site.service, token["secret"]) == {401}
    answer = site.service.ask("/v1/me", token=token["secret"])
    problem(answer, 401, "unauthenticated")
    assert 'error="invalid_token"' in answer.headers["www-authenticate"]


def test_a_token_ends_when_it_says(site: Site) -> None:
    ends = datetime.now(UTC) + timedelta(seconds=3)
    token = made(site.service, expires_at=ends.isoformat())
    assert statuses(site.service, token["secret"], 5) == {200}
    wait_until(lambda: datetime.now(UTC) > ends, PATIENCE, "the token's end")
    assert statuses(site.service, token["secret"]) == {401}
    past = datetime.now(UTC) - timedelta(seconds=1)
    problem(create(site.service, expires_at=past.isoformat()), 409, "expiry-passed")


def test_a_token_of_the_command_line_has_what_was_asked_for(site: Site) -> None:
    token = site.service.token("registry:read", registry="default", repository="team/*")
    me = site.service.ask("/v1/me", token=token).json()
    assert (me["scopes"], me["registries"], me["repositories"]) == (
        ["registry:read"], ["default"], ["team/*"],
    )  # fmt: skip
    assert me["name"] in site.service.run("token", "list")
    problem(site.service.ask(tag_path("else/app", "3"), token=token), 403, "insufficient-scope")


# The audit trail.


def last_event(service: Service, request_id: str) -> Any:  # noqa: ANN401 - JSON
    events = pages(service, EVENTS, n=1000)
    [event] = [one for one in events if one["request_id"] == request_id]
    return event


HERE = tag_path("team/app", "1")
RESTORE = f"{REGISTRY}/deletions/{'0' * 32}/restore"


@dataclass(frozen=True)
class Attempt:
    """A request to change something, who sends it, and how it ends."""

    method: str
    path: str
    action: str
    status: int
    token: str | None = ""
    body: object = None

    @property
    def outcome(self) -> str:
        return "succeeded" if self.status < 400 else "refused"


ATTEMPTS = {
    "done": Attempt("DELETE", f"{HERE}?dry_run=true", "tag.delete", 200),
    "unknown": Attempt("DELETE", tag_path("team/app", "none"), "tag.delete", 404),
    "malformed": Attempt("DELETE", tag_path("team/app", ".x"), "tag.delete", 400),
    "invalid": Attempt("DELETE", f"{HERE}?x=1", "tag.delete", 422),
    "nobody": Attempt("DELETE", HERE, "tag.delete", 401, token=None),
    "stranger": Attempt("DELETE", HERE, "tag.delete", 401, token="radm_" + "x" * 43),
    "beyond": Attempt("DELETE", HERE, "tag.delete", 403, token="limited"),
    "conflict": Attempt("DELETE", manifest_path("team/app", A.digest), "manifest.delete", 409),
    "nowhere": Attempt("DELETE", HERE.replace("default", "gone"), "tag.delete", 404),
    "point": Attempt("PUT", HERE, "tag.put", 404, body={"tag": "none"}),
    "no-json": Attempt("PUT", HERE, "tag.put", 400, body=b"{"),
    "restore": Attempt("POST", RESTORE, "deletion.restore", 404),
    "create": Attempt("POST", TOKENS, "token.create", 422, body={"name": "x"}),
    "revoke": Attempt("DELETE", f"{TOKENS}/{'0' * 32}", "token.revoke", 404),
}


@pytest.mark.parametrize("name", ATTEMPTS)
def test_every_attempt_is_recorded(site: Site, name: str) -> None:
    attempt = ATTEMPTS[name]
    answer = carry_out(site, attempt, {"X-Request-Id": f"attempt-{name}"})
    assert answer.status == attempt.status, answer.body
    event = last_event(site.service, f"attempt-{name}")
    found = (event["outcome"], event["status"], event["action"])
    assert found == (attempt.outcome, attempt.status, attempt.action)
    assert event["code"] == (answer.json()["code"] if attempt.status >= 400 else None)
    assert event["source_ip"] == "127.0.0.1"
    assert (event["registry"] is None) == (not attempt.path.startswith("/v1/registries"))
    assert (event["actor"] is None) == (attempt.status == 401)
    assert event["time"].endswith("Z")


def carry_out(site: Site, attempt: Attempt, headers: dict[str, str]) -> Answer:
    token = attempt.token
    if token == "limited":
        token = secret(site.service, name="else", scopes=["admin"], repositories=["else/*"])
    return site.service.ask(
        attempt.path, attempt.method, body=attempt.body, token=token, headers=headers
    )


def test_what_was_done_can_be_read_from_the_trail(site: Site) -> None:
    repository = site.fill({"1": A, cosign_tag(A): signature(A), "2": B})
    path = tag_path(repository, "1")
    answer = site.service.ask(path, "DELETE", headers={"X-Request-Id": "done"})
    event = last_event(site.service, "done")
    assert event["target"] == f"{repository}:1"
    assert event["actor"].startswith("bed-")
    assert event["details"]["dry_run"] is False
    assert answer.json()["requested_by"] == event["actor"]
    digest = manifest_path(repository, B.digest) + "?force=true"
    site.service.ask(digest, "DELETE", headers={"X-Request-Id": "done-too"})
    assert last_event(site.service, "done-too")["target"] == f"{repository}@{B.digest}"


def test_an_attempt_is_written_before_it_is_tried(site: Site) -> None:
    repository = site.fill({"1": A, "2": A})
    reached, go_on = threading.Event(), threading.Event()

    def hold(exchange: Exchange) -> Reply:
        reached.set()
        assert go_on.wait(PATIENCE)
        return exchange.forward()

    site.proxy.rule(hold, method=WRITES, path=f"/{repository}/", times=1)
    headers = {"X-Request-Id": "under-way"}
    done: list[Answer] = []
    path = tag_path(repository, "1")
    thread = threading.Thread(
        target=lambda: done.append(site.service.ask(path, "DELETE", headers=headers))
    )
    thread.start()
    assert reached.wait(PATIENCE)
    event = last_event(site.service, "under-way")
    assert (event["outcome"], event["status"], event["code"]) == (None, None, None)
    go_on.set()
    thread.join()
    assert done[0].status == 200
    assert last_event(site.service, "under-way")["outcome"] == "succeeded"
    site.proxy.reset()


def test_the_trail_cannot_be_changed(site: Site) -> None:
    before = pages(site.service, EVENTS, n=1000)
    database = sqlite3.connect(site.service.data_dir / "registry-admin.db", timeout=PATIENCE)
    tables = [row[0] for row in database.execute(
        "SELECT name FROM sqlite_master WHERE type = 'table' AND name LIKE 'audit%'"
    )]  # fmt: skip
    assert len(tables) == 2
    with contextlib.closing(database):
        for table in tables:
            column = database.execute(f"SELECT * FROM {table}").description[0][0]  # noqa: S608
            for statement in (
                f"DELETE FROM {table}",  # noqa: S608
                f"UPDATE {table} SET {column} = 'x'",  # noqa: S608
                f"INSERT OR REPLACE INTO {table} SELECT * FROM {table}",  # noqa: S608
            ):
                with pytest.raises(sqlite3.DatabaseError):
                    database.execute(statement)
                database.rollback()
    for method in ("POST", "PUT", "PATCH", "DELETE"):
        problem(site.service.ask(EVENTS, method), 405, "method-not-allowed")
        problem(site.service.ask(f"{EVENTS}/{before[0]['id']}", method), 404, "not-found")
    assert pages(site.service, EVENTS, n=1000) == before


def test_without_a_trail_nothing_changes(site: Site) -> None:
    repository = site.fill({"1": A, "2": A})
    database = sqlite3.connect(site.service.data_dir / "registry-admin.db", timeout=PATIENCE)
    with contextlib.closing(database), site.untouched(repository):
        database.execute("ALTER TABLE audit_attempt RENAME TO away")
        try:
            answer = site.service.ask(tag_path(repository, "1"), "DELETE")
            problem(answer, 503, "store-unavailable")
            problem(create(site.service), 503, "store-unavailable")
            assert site.proxy.seen == []
        finally:
            database.execute("ALTER TABLE away RENAME TO audit_attempt")
    delete(site.service, tag_path(repository, "1"))


def test_the_trail_is_asked_by_what_one_knows(site: Site) -> None:
    actor = made(site.service, name="asker", scopes=["admin"])["secret"]
    begun = datetime.now(UTC)
    for path in (tag_path("team/app", "none"), tag_path("team/app", "1") + "?dry_run=true"):
        site.service.ask(path, "DELETE", token=actor)
    ended = datetime.now(UTC)
    site.service.ask(tag_path("team/app", "none"), "DELETE", token=actor)

    def found(**options: object) -> list[tuple[str, str]]:
        events = pages(site.service, EVENTS, **options)
        return [(one["target"], one["outcome"]) for one in events]

    refused, done = ("team/app:none", "refused"), ("team/app:1", "succeeded")
    between = {"since": begun.isoformat(), "until": ended.isoformat()}
    assert found(actor="asker") == [refused, done, refused]
    assert found(actor="asker", n=1) == [refused, done, refused]
    assert found(actor="asker", outcome="succeeded") == [done]
    assert found(actor="asker", **between) == [done, refused]
    assert found(actor="asker", action="tag.put") == []
    assert found(actor="asker", registry="other") == []
    assert found(actor="asker", registry="default", action="tag.delete") == [refused, done, refused]
    assert found(container="none") == []


def test_pages_of_the_trail_are_complete(site: Site) -> None:
    walked = [one["id"] for page in each_page(site.service, EVENTS, n=7) for one in page]
    assert walked == [one["id"] for one in pages(site.service, EVENTS, n=1000)]
    assert walked == sorted(set(walked), reverse=True)


def test_the_caller_s_address_is_told_by_proxies_that_are_trusted(site: Site) -> None:
    headers = {"X-Forwarded-For": "203.0.113.9, 192.0.2.7", "X-Request-Id": "forwarded"}
    site.service.ask(tag_path("team/app", "none"), "DELETE", headers=headers)
    assert last_event(site.service, "forwarded")["source_ip"] == "192.0.2.7"


# What every answer has, and what anybody may see.


def test_every_answer_has_a_request_id(site: Site) -> None:
    seen = set()
    for path, method, token in (
        ("/healthz", "GET", None),
        ("/readyz", "HEAD", None),
        ("/docs", "GET", None),
        ("/docs/assets/docs.js", "GET", None),
        ("/openapi.json", "GET", None),
        ("/v1/me", "GET", ""),
        ("/v1/me", "GET", None),
        ("/v1/nothing", "GET", ""),
        ("/v1/me", "PATCH", ""),
        ("/v1/me", "OPTIONS", None),
        ("/metrics", "GET", ""),
        (tag_path("team/app", "1"), "DELETE", None),
    ):
        answer = site.service.ask(path, method, token=token)
        seen.add(answer.headers["x-request-id"])
        assert answer.headers["x-content-type-options"] == "nosniff"
        sent = site.service.ask(path, method, token=token, headers={"X-Request-Id": "mine"})
        assert sent.headers["x-request-id"] == "mine"
    assert len(seen) == 12
    assert '"request_id": "mine"' in site.service.log.read_text()


def test_the_documentation_needs_nobody_else(site: Site) -> None:
    page = site.service.ask("/docs", token=None)
    assert (page.status, page.headers["content-type"]) == (200, "text/html; charset=utf-8")
    parts = re.findall(r'(?:src|href)="([^"]+)"', page.body.decode())
    assert parts
    for part in parts:
        assert part.startswith("/"), part
        assert site.service.ask(part, token=None).status == 200
    assert "'unsafe" not in page.headers["content-security-policy"]
    told = problem(site.service.ask("/v1/nothing", token=None), 404, "not-found")
    assert site.service.ask(told["type"], token=None).status == 200


def test_readiness_names_each_part(site: Site) -> None:
    def ready() -> Any:  # noqa: ANN401 - JSON
        return site.service.ask("/readyz", token=None).json()

    wait_until(lambda: ready()["worker"] == "up", PATIENCE, "a worker")
    found = ready()
    assert (found["status"], found["database"]) == ("ready", "up")
    assert found["registries"] == {"default": "up", "other": "up"}
    assert found["engines"]["local"] == "up"
    assert site.service.ask("/healthz", token=None).json() == {"status": "alive"}


def test_metrics_count_what_was_asked(site: Site) -> None:
    site.service.ask("/v1/me")
    answer = site.service.ask("/metrics")
    assert answer.headers["content-type"].startswith("text/plain")
    text = answer.body.decode()
    assert 'route="/v1/me"' in text
    assert "team/app" not in text


def test_pages_of_allowed_origins_alone_may_ask(site: Site) -> None:
    for origin, allowed in ((ORIGIN, True), ("https://evil.example", False), ("null", False)):
        for method in ("GET", "OPTIONS"):
            headers = {"Origin": origin, "Access-Control-Request-Method": "DELETE"}
            answer = site.service.ask(tag_path("team/app", "1"), method, headers=headers)
            assert answer.status == (200 if method == "GET" else 204)
            told = answer.headers.get("access-control-allow-origin")
            assert told == (origin if allowed else None)
            assert "access-control-allow-credentials" not in answer.headers


# The same over PostgreSQL, where locks and the closed trail are made otherwise.


def test_with_postgresql_it_is_the_same(
    registry: MakeRegistry, service: MakeService, postgres: Postgres, database_url: str
) -> None:
    def serve(*given: Any, **options: Any) -> Service:  # noqa: ANN401
        own = {"workers": 2, "database_url": database_url}
        return service(*given, **options, settings=own)

    with open_site(registry, serve) as site:
        repository = site.fill({f"{number}": A for number in range(8)} | {"keep": A})
        before = site.look(repository)
        removed = at_once(
            partial(delete, site.service, tag_path(repository, f"{number}")) for number in range(8)
        )
        assert site.registry.tags(repository) == {"keep": A.digest}
        for answer in at_once(partial(try_restore, site.service, one) for one in removed):
            assert answer.status == 200
        assert site.look(repository) == before
        token = made(site.service)
        assert statuses(site.service, token["secret"]) == {200}
        assert site.service.ask(f"{TOKENS}/{token['id']}", "DELETE").status == 204
        assert statuses(site.service, token["secret"]) == {401}
        assert len(pages(site.service, EVENTS, action="tag.delete")) == 8
    name = database_url.rpartition("/")[2]
    for statement in ("DELETE FROM audit_attempt", "UPDATE audit_completion SET outcome = 'x'",
                      "TRUNCATE audit_attempt CASCADE"):  # fmt: skip
        with pytest.raises(subprocess.CalledProcessError):
            postgres.sql(statement, name)
