"""What a user does with a deployment through its API, whatever it is made of.

A module that has one gives it as the fixture `place`, and derives a class from `Acceptance`.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from demo import images
from demo.images import Manifest, cosign_tag, digest_of, sample, signature
from tests.e2e.bed.api import (
    REGISTRY,
    Asked,
    delete,
    get,
    manifest_path,
    pages,
    problem,
    query,
    repository_path,
    restore,
    tag_path,
    try_restore,
)
from tests.e2e.bed.collecting import RUNS, succeeded
from tests.e2e.bed.site import Place

DOCUMENT = Path(__file__).parents[2] / "openapi" / "openapi.json"
A, B = sample("a"), sample("b", flavour=images.DOCKER)
INDEX = images.multi_arch("index", attested=True)
AMD64, *OTHERS = INDEX.children
WAIT = {"Prefer": "wait=60"}
REQUESTS = itertools.count(1)
REPLICAS = 6
"""So many requests one after the other reach each of two replicas."""

BAD_INPUT = (
    ("GET", f"{REGISTRY}/repositories/Team/-/tags", None, 400, "invalid-repository-name"),
    ("GET", tag_path("team/app", ".x"), None, 400, "invalid-tag"),
    ("GET", manifest_path("team/app", "sha256:1"), None, 400, "invalid-digest"),
    ("GET", "/v1/registries/other", None, 404, "registry-unknown"),
    ("GET", tag_path("no/such", "1"), None, 404, "repository-unknown"),
    ("GET", f"{REGISTRY}/repositories?limit=1", None, 422, "validation-failed"),
    ("GET", f"{REGISTRY}/repositories?n=1001", None, 422, "validation-failed"),
    ("POST", RUNS, {"mode": "fast"}, 422, "validation-failed"),
    ("POST", RUNS, {"mode": "live"}, 422, "validation-failed"),
    ("POST", RUNS, {"color": "red"}, 422, "validation-failed"),
    ("PUT", f"{REGISTRY}/gc-schedule", {"cron": "every day"}, 422, "validation-failed"),
    ("GET", "/v1/containers/nobody-knows-it", None, 404, "container-unknown"),
    ("GET", "/v1/jobs/0123456789abcdef0123456789abcdef", None, 404, "job-unknown"),
)


def told(document: Mapping[str, Any]) -> dict[str, Any]:
    """What a dry run tells as the change does."""
    own = {"id", "created_at", "dry_run"}
    return {name: value for name, value in document.items() if name not in own}


def owned(place: Place) -> str:
    """Name the registry's container."""
    return str(get(place.service, REGISTRY)["container"])


def post(service: Asked, path: str, body: object, **headers: str) -> Any:  # noqa: ANN401 - JSON
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    return service.ask(path, "POST", body=body, headers=sent)


def events(body: bytes) -> list[str]:
    """Name the events of a stream."""
    lines = body.decode().splitlines()
    return [line.removeprefix("event: ") for line in lines if line.startswith("event: ")]


def scope_of(service: Asked, token: str) -> Any:  # noqa: ANN401 - JSON
    return json.loads(service.ask("/v1/me", token=token).body)


class Acceptance:
    """The tests need no order: each works in a repository of its own."""

    # Reading.

    def test_lists_are_whole_whatever_the_size_of_a_page(self, place: Place) -> None:
        repository = place.fill({f"{number}": A for number in range(5)})
        path = repository_path(repository, "tags")
        assert [one["name"] for one in pages(place.service, path, n=2)] == list("01234")
        assert {"name": repository} in pages(place.service, f"{REGISTRY}/repositories", n=1)
        named = pages(place.service, manifest_path(repository, A.digest, "tags"), n=1)
        assert [one["name"] for one in named] == list("01234")

    def test_a_tag_is_told_as_the_registry_has_it(self, place: Place) -> None:
        repository = place.fill({"1": A, "idx": INDEX, "docker": B})
        found = {
            one["name"]: one
            for one in pages(place.service, repository_path(repository, "tags"), detail=True)
        }
        for tag, digest in place.registry.tags(repository).items():
            assert found[tag]["digest"] == digest
            assert get(place.service, tag_path(repository, tag)) == found[tag]
        assert found["1"]["size"] == len(A.body) + sum(map(len, A.blobs))
        assert (found["idx"]["kind"], found["1"]["kind"]) == ("index", "image")
        machines = {one["architecture"] for one in found["idx"]["platforms"]}
        assert {"amd64", "arm64"} <= machines

    def test_a_manifest_is_told_to_its_layers(self, place: Place) -> None:
        repository = place.fill({"1": A, "idx": INDEX, cosign_tag(A): signature(A)})
        one = get(place.service, manifest_path(repository, "1"))
        assert [layer["digest"] for layer in one["layers"]] == [
            digest_of(blob) for blob in A.blobs if digest_of(blob) != one["config"]["digest"]
        ]
        children = get(place.service, manifest_path(repository, "idx"))["children"]
        assert {child["digest"] for child in children} >= {AMD64.digest}
        raw = place.service.ask(manifest_path(repository, "idx", "raw"))
        assert (raw.body, raw.headers["docker-content-digest"]) == (INDEX.body, INDEX.digest)
        referrers = get(place.service, manifest_path(repository, A.digest, "referrers"))["items"]
        assert [row["digest"] for row in referrers] == [signature(A).digest]

    # Deleting and undoing.

    @pytest.mark.parametrize(
        ("tag", "gone"),
        [("1", ()), ("idx", (INDEX, *OTHERS)), ("last", (B,))],
        ids=["sibling", "index", "last"],
    )
    def test_a_tag_goes_and_nothing_else(
        self, place: Place, tag: str, gone: tuple[Manifest, ...]
    ) -> None:
        repository = place.fill({"1": A, "2": A, "idx": INDEX, "amd64": AMD64, "last": B})
        before = place.look(repository)
        dry = delete(place.service, tag_path(repository, tag), dry_run=True)
        assert place.look(repository) == before
        done = delete(place.service, tag_path(repository, tag))
        assert told(dry) == told(done)
        assert place.look(repository) == before.without({tag}, {one.digest for one in gone})
        for other in before.tags.keys() - {tag}:
            place.pull(repository, other)
        restore(place.service, done)
        assert place.look(repository) == before

    def test_a_manifest_goes_with_its_tags_when_they_are_named(self, place: Place) -> None:
        repository = place.fill({"1": A, "2": A, "other": B})
        before, path = place.look(repository), manifest_path(repository, A.digest)
        refused = problem(place.service.ask(path, "DELETE"), 409, "manifest-tagged")
        assert refused["tags"] == ["1", "2"]
        assert place.look(repository) == before
        done = delete(place.service, path, tags="1,2")
        assert place.look(repository) == before.without({"1", "2"}, {A.digest})
        restore(place.service, done)
        assert place.look(repository) == before

    def test_deletions_are_undone_in_another_order(self, place: Place) -> None:
        repository = place.fill({"1": INDEX, "2": INDEX, "amd64": AMD64, "3": A, "4": A})
        before = place.look(repository)
        order = ("1", "4", "amd64", "2", "3")
        done = [delete(place.service, tag_path(repository, tag)) for tag in order]
        assert place.look(repository).tags == {}
        for number in (3, 0, 4, 2, 1):
            restore(place.service, done[number])
        assert place.look(repository) == before

    def test_many_are_deleted_by_one_job_and_one_failure_stops_none(self, place: Place) -> None:
        repository = place.fill({"1": A, "2": B, "3": A})
        asked = [{"repository": repository, "tag": tag} for tag in ("1", "none", "2")]
        found = succeeded(place.service, f"{REGISTRY}/deletions", items=asked)
        assert place.registry.tags(repository) == {"3": A.digest}
        codes = [(row.get("problem") or {}).get("code") for row in found["items"]]
        assert codes == [None, "tag-unknown", None], found

    def test_a_tag_is_pointed_elsewhere_unless_it_has_moved(self, place: Place) -> None:
        repository = place.fill({"1": A, "2": B})
        path = tag_path(repository, "1")
        stale = {"If-Match": f'"{B.digest}"'}
        answer = place.service.ask(path, "PUT", body={"tag": "2"}, headers=stale)
        assert problem(answer, 412, "digest-mismatch")["current"] == A.digest
        moved = place.service.ask(path, "PUT", body={"tag": "2"})
        assert (moved.status, moved.json()["previous_digest"]) == (200, A.digest)
        made = place.service.ask(tag_path(repository, "3"), "PUT", body={"digest": A.digest})
        assert made.status == 201
        assert place.registry.tags(repository) == {"1": B.digest, "2": B.digest, "3": A.digest}

    # Jobs.

    def test_garbage_goes_and_the_rest_is_verified(self, place: Place) -> None:
        doomed = sample(f"doomed {next(REQUESTS)}")
        repository = place.fill({"1": doomed, "2": A})
        done = delete(place.service, tag_path(repository, "1"))
        dry = succeeded(place.service, dry_run=True)
        assert doomed.digest in dry["eligible"]
        assert place.registry.digest(repository, "2") == A.digest
        real = succeeded(place.service, mode="read-only")
        assert real["blobs_deleted"] == dry["blobs_eligible"]
        assert real["bytes_freed"] == dry["bytes_eligible"]
        place.pull(repository, "2")
        place.fill({"3": B}, repository=repository)  # it takes pushes again
        gone = problem(try_restore(place.service, done), 410, "blobs-collected")
        assert digest_of(doomed.blobs[0]) in gone["blobs"]
        found = succeeded(place.service, f"{REGISTRY}/verifications", deep=True)
        assert (found["missing_blobs"], found["corrupt_blobs"]) == ([], [])

    def test_collections_have_a_timetable(self, place: Place) -> None:
        path = f"{REGISTRY}/gc-schedule"
        problem(place.service.ask(path), 404, "schedule-unknown")
        wanted = {"cron": "0 3 * * 0", "time_zone": "Europe/Berlin", "mode": "read-only"}
        kept = place.service.ask(path, "PUT", body=wanted).json()
        assert kept.items() >= wanted.items()
        for _ in range(REPLICAS):
            assert get(place.service, path) == kept
        assert place.service.ask(path, "DELETE").status == 204
        problem(place.service.ask(path), 404, "schedule-unknown")

    def test_a_log_is_followed_until_its_job_has_ended(self, place: Place) -> None:
        place.fill({"1": A})
        job = post(place.service, f"{REGISTRY}/verifications", {}).json()
        path, accept = f"/v1/jobs/{job['id']}/log", {"Accept": "text/event-stream"}
        stream = place.service.ask(path, headers=accept)
        assert stream.headers["content-type"].startswith("text/event-stream")
        assert events(stream.body)[-1] == "end"
        lines = get(place.service, path)["items"]
        assert lines
        assert all(line["message"] in stream.body.decode() for line in lines)

    def test_the_same_key_gives_the_same_job(self, place: Place) -> None:
        key, path = f"key-{next(REQUESTS)}-{owned(place)}", f"{REGISTRY}/verifications"
        ids = {
            post(place.service, path, {}, Idempotency_Key=key).json()["id"] for _ in range(REPLICAS)
        }
        assert len(ids) == 1
        other = post(place.service, path, {"deep": True}, Idempotency_Key=key)
        problem(other, 422, "idempotency-key-reused")

    # Containers.

    def test_allowed_containers_alone_are_there(self, place: Place) -> None:
        name = owned(place)
        listed = get(place.service, "/v1/containers")["items"]
        assert [one["name"] for one in listed] == [name]
        assert get(place.service, f"/v1/containers/{name}")["state"] == "running"
        assert get(place.service, f"/v1/containers/{name}/changes")["size"] == 0

    def test_a_container_is_restarted(self, place: Place) -> None:
        name = owned(place)
        before = get(place.service, f"/v1/containers/{name}")
        succeeded(place.service, f"/v1/containers/{name}/restart", timeout=20)
        after = get(place.service, f"/v1/containers/{name}")
        assert after["started_at"] > before["started_at"]
        assert after["id"] == before["id"]

    def test_a_container_gets_ulimits_that_apply(self, place: Place) -> None:
        path = f"/v1/containers/{owned(place)}"
        limit = {"name": "core", "soft": 4096, "hard": 8192}
        body = {"ulimits": [limit]}
        dry = place.service.ask(
            f"{path}/ulimits", "PUT", body={**body, "dry_run": True}, headers=WAIT
        )
        assert dry.json()["result"]["plan"]
        before = get(place.service, path)
        done = place.service.ask(f"{path}/ulimits", "PUT", body=body, headers=WAIT, timeout=90)
        assert done.json()["state"] == "succeeded", done.body
        after = get(place.service, path)
        assert limit in after["effective_ulimits"]
        assert (before["restart_policy"], before["image"], before["compose_project"]) == (
            after["restart_policy"], after["image"], after["compose_project"]
        )  # fmt: skip
        assert get(place.service, f"{REGISTRY}")["status"] == "up"

    # Access.

    def test_a_token_has_what_it_was_given_and_no_more(self, place: Place) -> None:
        inside, outside = place.fill({"1": A}), place.fill({"1": A})
        wanted = {"name": "narrow", "scopes": ["registry:read"], "repositories": [inside]}
        made = post(place.service, "/v1/tokens", wanted).json()
        secret = made["secret"]
        assert scope_of(place.service, secret)["scopes"] == ["registry:read"]
        assert place.service.ask(tag_path(inside, "1"), token=secret).status == 200
        refused = place.service.ask(tag_path(inside, "1"), "DELETE", token=secret)
        told = problem(refused, 403, "insufficient-scope")
        assert told["required_scope"] == "registry:delete"
        problem(place.service.ask(tag_path(outside, "1"), token=secret), 403, "insufficient-scope")
        assert place.service.ask(f"/v1/tokens/{made['id']}", "DELETE").status == 204
        for _ in range(REPLICAS):
            answer = place.service.ask("/v1/me", token=secret)
            assert answer.status == 401
            assert answer.headers["www-authenticate"].startswith("Bearer")

    def test_every_attempt_is_in_the_trail(self, place: Place) -> None:
        repository = place.fill({"1": A})
        done = f"acceptance-{next(REQUESTS)}-{owned(place)}"
        answer = place.service.ask(
            tag_path(repository, "1"), "DELETE", headers={"X-Request-Id": done}
        )
        assert answer.headers["x-request-id"] == done
        refused = problem(
            place.service.ask(tag_path(repository, "1"), "DELETE"), 404, "tag-unknown"
        )
        found = {
            one["request_id"]: one
            for one in get(place.service, f"/v1/audit-events{query(n=50)}")["items"]
        }
        assert (found[done]["outcome"], found[done]["action"]) == ("succeeded", "tag.delete")
        assert found[refused["request_id"]]["code"] == "tag-unknown"

    def test_bad_input_is_named(self, place: Place) -> None:
        place.fill({"1": A}, repository="team/app")
        for method, path, body, status, code in BAD_INPUT:
            problem(place.service.ask(path, method, body=body), status, code)

    def test_what_is_asked_wrongly_keeps_its_headers(self, place: Place) -> None:
        wrong = place.service.ask(f"{REGISTRY}/repositories", "DELETE")
        assert (wrong.status, "GET" in wrong.headers["allow"]) == (405, True)
        nobody = place.service.ask("/v1/me", token=None)
        assert nobody.status == 401
        assert nobody.headers["www-authenticate"].startswith("Bearer")

    # The service.

    def test_it_says_what_it_is(self, place: Place) -> None:
        assert place.service.ask("/openapi.json", token=None).body == DOCUMENT.read_bytes()
        assert place.service.ask("/healthz", token=None).status == 200
        ready = place.service.ask("/readyz", token=None).json()
        assert (ready["database"], ready["worker"]) == ("up", "up")
        assert place.service.ask("/docs", token=None).status in {200, 301, 308}

    def test_the_page_is_there_with_all_it_needs(self, place: Place) -> None:
        page = place.service.ask("/", token=None)
        assert (page.status, page.headers["content-type"].split(";")[0]) == (200, "text/html")
        assert "default-src" in page.headers["content-security-policy"]
        needed = [word for word in page.body.decode().split('"') if word.endswith((".js", ".css"))]
        assert needed
        for path in needed:
            absolute = path if path.startswith("/") else f"/{path}"
            assert place.service.ask(absolute, token=None).status == 200, path
