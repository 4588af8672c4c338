"""Whatever a registry answers, the service tells it in its own words, in time, and changes nothing.

Every way to answer badly is a registry of its own, all configured in one service and asked at
once, since some take their time.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from itertools import count, product
from typing import Any

import pytest

from service.domain.content import RawManifest
from service.domain.reference import Digest, Repository, Tag
from tests.e2e.bed.api import ZEROS, at_once, get, pages, problem
from tests.e2e.bed.http import Answer
from tests.e2e.bed.proxy import WRITES
from tests.e2e.bed.service import MakeService, Service
from tests.fakes import Behaviour, FakeRegistry, image, index
from tests.standin import Handler, Reply, Seen, StandIn, json_reply, oci_error, plain, replies, says
from tests.standin_registry import V3_MANNERS, Manners, PlayedRegistry

APP = "team/app"
ONE, TWO, OLD = image("one"), image("two"), image("old")
TIMEOUT = 0.5  # seconds that the service gives a registry
PATIENCE = 25  # seconds: whatever a registry does, the caller is answered
SECRET = "not-to-be-told"
MEBIBYTE = 1024 * 1024

HTML = f"<html><title>{SECRET}</title><body>It works!</body></html>".encode()
DEEP = b'{"repositories":' + b"[" * 100_000


def body(content: bytes, media_type: str = "application/json", **more: Any) -> Handler:  # noqa: ANN401
    return says(Reply(200, [("Content-Type", media_type)], content, **more))


def at_the_wrong_address(location: str) -> Handler:
    return replies(307, {"Location": location})


def raw(content: bytes) -> Handler:
    return says(Reply(raw=content))


@dataclass(frozen=True)
class Way:
    """A way to answer badly, and the code of the problem it becomes; ``but`` by operation."""

    handler: Handler
    code: str
    status: int = 502
    but: Mapping[str, str] = field(default_factory=dict)

    def expected(self, operation: str) -> tuple[int, str]:
        code = self.but.get(operation, self.code)
        return STATUSES.get(code, self.status), code


STATUSES = {"registry-timeout": 504, "repository-unknown": 404, "tag-unknown": 404}
INVALID, UNREACHABLE = "registry-answer-invalid", "registry-unreachable"
LIMITED, REFUSED = "registry-rate-limited", "registry-unauthorized"
TIMED_OUT = "registry-timeout"
CHALLENGE = {"WWW-Authenticate": f'Basic realm="{SECRET}"'}

WAYS = {
    "garbage": Way(raw(b"\x16\x03\x01\x02\x00" + SECRET.encode() + b"\r\n\r\n"), INVALID),
    "no-status": Way(raw(b"HTTP/1.1 OK fine\r\n\r\n{}"), INVALID),
    "text": Way(body(SECRET.encode(), "text/plain"), INVALID),
    "html": Way(body(HTML, "text/html"), INVALID),
    "nothing": Way(body(b""), INVALID),
    "a-list": Way(body(b"[1, 2]"), INVALID),
    "a-number": Way(body(b"7"), INVALID),
    "deep": Way(body(DEEP), INVALID),
    "not-utf-8": Way(body(b'{"tags": ["\xff\xfe"]}'), INVALID),
    "strange-members": Way(body(b'{"tags": {"a": 1}, "repositories": 7, "layers": 1}'), INVALID),
    "huge": Way(body(b'{"a": "' + b"x" * (17 * MEBIBYTE) + b'"}'), INVALID),
    "half": Way(body(b'{"tags": ["1"', length=1000), INVALID),
    "redirect": Way(at_the_wrong_address("ELSEWHERE"), INVALID),
    "not-modified": Way(replies(304), INVALID),
    "no-content": Way(replies(204), INVALID),
    "odd-status": Way(replies(299, body=HTML), INVALID),
    "teapot": Way(replies(418, body=HTML), INVALID),
    "500": Way(replies(500, body=HTML), INVALID),
    "500-json": Way(says(oci_error(500, "UNKNOWN", SECRET)), INVALID),
    "502": Way(replies(502, body=HTML), UNREACHABLE),
    "503": Way(replies(503, body=HTML), UNREACHABLE),
    "504": Way(replies(504, body=HTML), TIMED_OUT),
    "401": Way(replies(401, body=HTML), REFUSED),
    "401-basic": Way(replies(401, CHALLENGE, HTML), REFUSED),
    "401-nonsense": Way(replies(401, {"WWW-Authenticate": ',,"=Bearer realm'}), REFUSED),
    "403": Way(replies(403, body=HTML), REFUSED, but={"repositories": "catalog-unsupported"}),
    "429": Way(replies(429, body=HTML), LIMITED),
    "429-a-second": Way(replies(429, {"Retry-After": "1"}), LIMITED),
    "429-an-hour": Way(replies(429, {"Retry-After": "3600"}), LIMITED),
    "429-nonsense": Way(replies(429, {"Retry-After": "soon"}), LIMITED),
    "silence": Way(says(Reply(silent=True)), TIMED_OUT),
    "drip": Way(says(Reply(200, body=HTML * 9, drip=TIMEOUT / 3)), TIMED_OUT),
    "hang-up": Way(raw(b""), UNREACHABLE),
}

Operation = Callable[[Service, str], Answer]


def asking(rest: str) -> Operation:
    return lambda service, base: service.ask(f"{base}/{rest}", timeout=PATIENCE)


def sending(method: str, rest: str, document: object = None) -> Operation:
    return lambda service, base: service.ask(
        f"{base}/{rest}", method, body=document, timeout=PATIENCE
    )


HERE = f"repositories/{APP}"
READS = {
    "repositories": asking("repositories"),
    "tags": asking(f"{HERE}/-/tags"),
    "details": asking(f"{HERE}/-/tags?detail=true"),
    "tag": asking(f"{HERE}/-/tags/1"),
    "manifest": asking(f"{HERE}/-/manifests/1"),
    "raw": asking(f"{HERE}/-/manifests/{ONE.digest}/raw"),
}
# Each in a repository of its own: changes of the same one wait for each other.
CHANGES = {
    "delete-tag": sending("DELETE", f"{HERE}/-/tags/1"),
    "delete-manifest": sending("DELETE", f"{HERE}/b/-/manifests/{ONE.digest}?force=true"),
    "put-tag": sending("PUT", f"{HERE}/c/-/tags/new", {"tag": "1"}),
}
OPERATIONS = {**READS, **CHANGES}


@dataclass(frozen=True)
class Played:
    """A registry in memory behind a stand-in, where every reply can be spoiled."""

    server: StandIn
    fake: FakeRegistry

    def writes(self) -> list[Seen]:
        """What could have changed it: not the harmless question."""
        return [one for one in self.server.requests(WRITES) if not one.path.endswith(ZEROS)]


def fill(fake: FakeRegistry) -> None:
    for built, tag in ((ONE, "1"), (TWO, "2"), (OLD, "old")):
        fake.push(APP, built, tag)


def play(
    stack: ExitStack, behaviour: Behaviour | None = None, manners: Manners | None = None
) -> Played:
    fake = FakeRegistry(behaviour=behaviour or Behaviour())
    fill(fake)
    played = PlayedRegistry(fake, manners or Manners())
    return Played(stack.enter_context(StandIn(played)), fake)


def table(played: Played) -> dict[str, object]:
    return {"url": played.server.url, "timeout_seconds": TIMEOUT}


@dataclass(frozen=True)
class Told:
    """What the service answered of each bad registry, by way and operation."""

    answers: Mapping[tuple[str, str], Answer]
    registries: Mapping[str, Played]
    elsewhere: StandIn
    service: Service


@pytest.fixture(scope="module")
def told(module_service: MakeService) -> Iterator[Told]:
    with ExitStack() as stack:
        elsewhere = stack.enter_context(StandIn(replies(200, body=b"{}")))
        registries = {name: play(stack) for name in WAYS}
        tables = {name: table(played) for name, played in registries.items()}
        service = module_service(settings={"registries": tables, "threads": 200})
        for name, played in registries.items():
            played.server.rule(redirected(WAYS[name].handler, elsewhere))
        calls = list(product(WAYS, OPERATIONS))
        service.admin()
        found = at_once(
            partial(OPERATIONS[operation], service, f"/v1/registries/{name}")
            for name, operation in calls
        )
        yield Told(dict(zip(calls, found, strict=True)), registries, elsewhere, service)


def redirected(handler: Handler, elsewhere: StandIn) -> Handler:
    """Let a redirect lead to the other host."""

    def act(seen: Seen) -> Reply:
        reply = handler(seen)
        headers = [(name, value.replace("ELSEWHERE", elsewhere.url + seen.target))
                   for name, value in reply.headers]  # fmt: skip
        return Reply(**{**vars(reply), "headers": headers})

    return act


@pytest.mark.parametrize("way", WAYS)
def test_each_way_to_answer_badly_is_told_as_what_it_is(told: Told, way: str) -> None:
    found = {name: told.answers[way, name] for name in OPERATIONS}
    codes = {name: (one.status, one.json()["code"]) for name, one in found.items()}
    assert codes == {name: WAYS[way].expected(name) for name in OPERATIONS}
    for name, answer in found.items():
        document = problem(answer, *WAYS[way].expected(name))
        named = told.registries[way].server.host, "The registry serves sha256:"
        assert any(name in document["detail"] for name in named)


@pytest.mark.parametrize("way", WAYS)
def test_nothing_is_written_to_a_registry_that_answers_badly(told: Told, way: str) -> None:
    assert told.registries[way].server.requests()
    assert told.registries[way].writes() == []


def test_no_redirect_is_followed(told: Told) -> None:
    assert told.registries["redirect"].server.requests()
    assert told.elsewhere.requests() == []


def test_what_a_registry_says_is_never_repeated(told: Told) -> None:
    for answer in told.answers.values():
        assert SECRET.encode() not in answer.body
        assert SECRET not in str(answer.headers)
        assert len(answer.body) < 2000


def test_a_registry_is_not_asked_for_ever(told: Told) -> None:
    for played in told.registries.values():
        seen = [(one.method, one.target) for one in played.server.requests()]
        assert max(map(seen.count, seen)) <= 4 * len(OPERATIONS)


def test_the_service_still_works_with_the_good_ones(told: Told) -> None:
    assert told.service.ask("/healthz", token=None).status == 200
    states = pages(told.service, "/v1/registries", n=3)
    assert len(states) == len(WAYS)
    assert {one["status"] for one in states} <= {"up", "down", "unauthorized"}


# Registries that are well-behaved but for one thing.


FRESH = count()
BASE = "/v1/registries/default"
TAG = f"{BASE}/{HERE}/-/tags/1"
OTHER = f"{BASE}/{HERE}/-/tags/2"


@dataclass(frozen=True)
class Place:
    """A registry in memory, and a service for it."""

    played: Played
    service: Service

    @property
    def server(self) -> StandIn:
        return self.played.server

    def fresh(self) -> str:
        """Push a tag that the service has not seen; gives its name."""
        tag = f"fresh-{next(FRESH)}"
        self.played.fake.push(APP, ONE, tag)
        return tag

    def refuses(self, tag: str, code: str) -> None:
        """Hold that neither reading nor deleting a tag goes beyond a problem."""
        path = f"{BASE}/{HERE}/-/tags/{tag}"
        manifest = f"{BASE}/{HERE}/-/manifests/{tag}"
        for found in (path, manifest, f"{manifest}/raw"):
            problem(self.service.ask(found), 502, code)
        problem(self.service.ask(path, "DELETE"), 502, code)
        problem(self.service.ask(OTHER, "PUT", body={"tag": tag}), 502, code)

    def spoil(self, handler: Handler, path: str, method: str = ".*", **more: int) -> None:
        self.server.rule(handler, method=method, path=path, **more)


@pytest.fixture(scope="module")
def shared(module_service: MakeService) -> Iterator[Place]:
    with ExitStack() as stack:
        played = play(stack)
        yield Place(played, module_service(settings={"registries": {"default": table(played)}}))


@pytest.fixture
def place(shared: Place) -> Iterator[Place]:
    shared.server.rules.clear()
    shared.server.forget()
    yield shared
    assert shared.played.writes() == []


@pytest.mark.parametrize("path", [f"{BASE}/repositories", f"{BASE}/{HERE}/-/tags"])
@pytest.mark.parametrize("relation", ['rel="next"', "rel=next", 'REL="prev next"'])
def test_pages_on_another_host_are_not_followed(place: Place, path: str, relation: str) -> None:
    with StandIn(replies(200, body=b"{}")) as elsewhere:
        link = {"Link": f"<{elsewhere.url}/v2/_catalog?last=a>; {relation}"}
        names = json.dumps({"repositories": [APP], "tags": ["1"]}).encode()
        place.spoil(replies(200, link, names), "_catalog|tags/list")
        problem(place.service.ask(path), 502, INVALID)
        assert elsewhere.requests() == []


@pytest.mark.parametrize(("path", "listing"), [
    (f"{BASE}/repositories", "_catalog"), (f"{BASE}/{HERE}/-/tags", "tags/list"),
])  # fmt: skip
@pytest.mark.parametrize("endless", [False, True])
def test_pages_without_end_come_to_one(
    place: Place, path: str, listing: str, *, endless: bool
) -> None:
    numbers = count()

    def page(seen: Seen) -> Reply:
        number = next(numbers) if endless else "same"
        link = f'<{seen.path}?last={number}>; rel="next"'
        return json_reply({"repositories": [APP], "tags": ["1"]}, Link=link)

    place.spoil(page, listing)
    problem(place.service.ask(path, timeout=100), 502, INVALID)


@pytest.mark.parametrize("digest", [TWO.digest, "sha256:nonsense", "sha512:" + "0" * 128])
def test_a_digest_that_is_not_that_of_the_bytes_is_refused(place: Place, digest: str) -> None:
    tag = place.fresh()
    headers = {"Content-Type": ONE.raw.media_type, "Docker-Content-Digest": digest}
    place.spoil(replies(200, headers, ONE.raw.body), f"/manifests/{tag}")
    place.refuses(tag, INVALID)


def test_bytes_that_are_not_those_of_the_digest_are_refused(place: Place) -> None:
    headers = {"Content-Type": TWO.raw.media_type}
    place.spoil(replies(200, headers, TWO.raw.body), f"/manifests/{ONE.digest}")
    path = f"{BASE}/{HERE}/-/manifests/{ONE.digest}"
    for rest in ("", "/raw"):
        problem(place.service.ask(path + rest), 502, INVALID)
    problem(place.service.ask(f"{path}?force=true", "DELETE"), 502, INVALID)


def test_a_manifest_over_four_mebibytes_is_refused(place: Place) -> None:
    tag = place.fresh()
    document = json.loads(ONE.raw.body) | {"annotations": {"a": "x" * 4 * MEBIBYTE}}
    huge = json.dumps(document).encode()
    place.spoil(replies(200, {"Content-Type": ONE.raw.media_type}, huge), f"/manifests/{tag}")
    place.refuses(tag, INVALID)


def keep(place: Place, **members: object) -> str:
    """Let the registry hold a manifest whose config's descriptor is strange; gives its tag."""
    document = json.loads(ONE.raw.body)
    document["config"] |= members
    content = json.dumps(document).encode()
    contents, tag = place.played.fake.contents[Repository(APP)], Tag(f"fresh-{next(FRESH)}")
    contents.tags[tag] = Digest.of(content)
    contents.manifests[Digest.of(content)] = RawManifest(
        Digest.of(content), ONE.raw.media_type, content
    )
    return tag


@pytest.mark.parametrize("digest", [None, 7, "sha256:../../../../etc/passwd", "sha256:" + "G" * 64])
def test_a_manifest_that_names_no_digest_is_refused(place: Place, digest: object) -> None:
    tag = keep(place, digest=digest)
    for path in (f"tags/{tag}", f"manifests/{tag}"):
        problem(place.service.ask(f"{BASE}/{HERE}/-/{path}"), 502, INVALID)
    problem(place.service.ask(f"{BASE}/{HERE}/-/tags/{tag}", "DELETE"), 502, INVALID)
    del place.played.fake.contents[Repository(APP)].tags[Tag(tag)]


@pytest.mark.parametrize("size", [-1, "1", 1.5, True, None])
def test_a_size_that_is_none_is_left_out(place: Place, size: object) -> None:
    whole = get(place.service, TAG)["size"]
    tag = keep(place, size=size, annotations={"a": "b"})
    found = get(place.service, f"{BASE}/{HERE}/-/tags/{tag}")
    assert 0 < found["size"] < whole + 100
    assert found["kind"] == "image"
    del place.played.fake.contents[Repository(APP)].tags[Tag(tag)]


def test_a_config_of_other_bytes_is_refused(place: Place) -> None:
    fresh = image("with a config nobody has read yet")
    place.played.fake.push(APP, fresh, "fresh")
    place.spoil(replies(200, body=b"{}"), "/blobs/")
    problem(place.service.ask(f"{BASE}/{HERE}/-/tags/fresh"), 502, INVALID)
    place.server.rules.clear()
    assert get(place.service, f"{BASE}/{HERE}/-/tags/fresh")["digest"] == fresh.digest


def test_names_that_no_client_could_use_are_left_out(place: Place) -> None:
    strange = ["../../etc", "UPPER", "a//b", "a b", "x" * 300, 7, None, {"a": 1}, "a\u0000", ""]
    place.spoil(says(json_reply({"repositories": [*strange, APP, "zz"]})), "_catalog")
    place.spoil(says(json_reply({"tags": [*strange, "1", "-x", "2"]})), f"{APP}/tags/list")
    place.spoil(says(json_reply({"tags": ["1"]})), "tags/list")
    listed = pages(place.service, f"{BASE}/repositories")
    assert listed == [{"name": APP}, {"name": "zz"}]
    tags = pages(place.service, f"{BASE}/{HERE}/-/tags")
    assert [one["name"] for one in tags] == ["1", "2", "UPPER"]


def test_one_bad_tag_spoils_no_other(place: Place) -> None:
    place.spoil(replies(500), "/manifests/2")
    assert get(place.service, TAG)["digest"] == ONE.digest
    problem(place.service.ask(OTHER), 502, INVALID)
    listed = get(place.service, f"{BASE}/{HERE}/-/tags?detail=true")["items"]
    assert [one["name"] for one in listed if one["problem"]] == ["2"]
    assert {"1", "old"} <= {one["name"] for one in listed}
    problem(place.service.ask(TAG, "DELETE"), 502, INVALID)


@pytest.mark.parametrize("path", ["tags/list", "/manifests/2", f"/manifests/{ZEROS}"])
def test_a_deletion_begins_only_when_all_is_known(place: Place, path: str) -> None:
    place.spoil(replies(503), path)
    problem(place.service.ask(TAG, "DELETE"), 502, UNREACHABLE)
    assert pages(place.service, f"{BASE}/deletions") == []


def test_a_catalog_that_is_refused_is_told_from_a_registry_that_is(place: Place) -> None:
    for reply in (oci_error(401, "UNAUTHORIZED"), plain(404, "404"), plain(405, "no")):
        place.server.rules.clear()
        place.spoil(says(reply), "_catalog")
        problem(place.service.ask(f"{BASE}/repositories"), 502, "catalog-unsupported")
    assert get(place.service, TAG)["digest"] == ONE.digest


def test_a_registry_that_recovers_is_waited_for(place: Place) -> None:
    place.spoil(replies(503), "tags/list", times=2)
    place.spoil(says(Reply(raw=b"")), "/manifests/1", times=1)
    place.spoil(replies(429, {"Retry-After": "1"}), "/manifests/2", times=1)
    listed = pages(place.service, f"{BASE}/{HERE}/-/tags", detail=True)
    assert {"1", "2"} <= {one["name"] for one in listed}


def test_without_head_and_digests_a_registry_is_read_as_well(place: Place) -> None:
    def bare(seen: Seen) -> Reply:
        if seen.method == "HEAD":
            return plain(405, "")
        whole = PlayedRegistry(place.played.fake)(seen)
        headers = [row for row in whole.headers if row[0] != "Docker-Content-Digest"]
        return Reply(whole.status, headers, whole.body)

    place.spoil(bare, "/manifests/")
    for _ in range(2):
        assert get(place.service, TAG)["digest"] == ONE.digest


def test_a_registry_that_is_gone_is_unreachable(place: Place, service: MakeService) -> None:
    with StandIn() as gone:
        url = gone.url
    closed = service(settings={"registries": {"default": {"url": url, "timeout_seconds": TIMEOUT}}})
    closed.admin()
    for answer in at_once(partial(ask, closed, BASE) for ask in OPERATIONS.values()):
        problem(answer, 502, UNREACHABLE)
    assert get(closed, BASE)["status"] == "down"
    assert place.server.requests() == []


# Other registries than the one that can be run here.


@pytest.fixture(scope="module")
def newer(module_service: MakeService) -> Iterator[Place]:
    with ExitStack() as stack:
        played = play(stack, Behaviour(delete_by_tag=True, referrers_api=True), V3_MANNERS)
        yield Place(played, module_service(settings={"registries": {"default": table(played)}}))


@pytest.fixture
def modern(newer: Place) -> Place:
    """Plays distribution 3: deletes a tag alone, pages its tags; with the referrers API."""
    newer.played.fake.contents.clear()
    fill(newer.played.fake)
    newer.server.forget()
    return newer


LONGEST = "/".join(["a" * 127, "b" * 127])


def test_a_registry_of_the_next_version_is_read_and_changed(modern: Place) -> None:
    fake, service = modern.played.fake, modern.service
    fake.push(APP, ONE, "same")
    removed = service.ask(TAG, "DELETE").json()
    assert (removed["tags_removed"], removed["manifests_removed"]) == (["1"], [])
    assert [one.path for one in modern.played.writes()] == [f"/v2/{APP}/manifests/1"]
    assert service.ask(f"{BASE}/deletions/{removed['id']}/restore", "POST").status == 200
    assert fake.resolve(Repository(APP), Tag("1")) == ONE.digest
    for tag in ("1", "2", "old", "same"):
        assert service.ask(f"{BASE}/{HERE}/-/tags/{tag}", "DELETE").status == 200
    assert get(service, f"{BASE}/{HERE}") == {"name": APP, "tag_count": 0}


def test_referrers_are_found_by_their_api(modern: Place) -> None:
    about = image("about", subject=ONE, artifact_type="application/vnd.example.note")
    modern.played.fake.push(APP, about)
    [found] = pages(modern.service, f"{BASE}/{HERE}/-/manifests/{ONE.digest}/referrers")
    assert (found["digest"], found["source"]) == (about.digest, "api")
    assert found["artifact_type"] == "application/vnd.example.note"
    removed = modern.service.ask(TAG, "DELETE").json()
    gone = [one["digest"] for one in removed["manifests_removed"]]
    assert gone == [ONE.digest, about.digest]


def test_names_may_have_255_characters(modern: Place) -> None:
    assert len(LONGEST) == 255
    modern.played.fake.push(LONGEST, ONE, "1")
    listed = pages(modern.service, f"{BASE}/repositories")
    assert {"name": LONGEST} in listed
    path = f"{BASE}/repositories/{LONGEST}/-/tags/1"
    assert get(modern.service, path)["digest"] == ONE.digest
    escaped = path.replace(LONGEST, re.sub("[ab/]", lambda found: f"%{ord(found[0]):02X}", LONGEST))
    assert get(modern.service, escaped)["digest"] == ONE.digest
    assert modern.service.ask(path, "DELETE").status == 200


def test_an_index_may_list_what_was_never_pushed(modern: Place) -> None:
    sparse = index(ONE, image("nowhere"))
    modern.played.fake.contents[Repository(APP)].manifests[sparse.digest] = sparse.raw
    modern.played.fake.contents[Repository(APP)].tags[Tag("sparse")] = sparse.digest
    found = get(modern.service, f"{BASE}/{HERE}/-/tags/sparse")
    assert (found["digest"], found["kind"]) == (sparse.digest, "index")
    removed = modern.service.ask(f"{BASE}/{HERE}/-/tags/sparse", "DELETE").json()
    assert [one["digest"] for one in removed["manifests_removed"]] == [sparse.digest]
