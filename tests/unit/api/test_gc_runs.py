"""Starting collections, verifications and bulk deletions over HTTP, and what they exclude."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from service.api.bulk_deletions import ITEMS_LIMIT
from service.domain.engine import Engine
from service.domain.job import Work
from service.domain.reference import REPOSITORY_LIMIT, Digest
from service.jobs.collecting import collection
from service.jobs.deleting import bulk_deletion
from service.jobs.verifying import verification
from tests.fakes import FakeRegistry, image, index
from tests.unit.api.conftest import Bed, FakeRegistries, Reply
from tests.unit.domain.collecting import Place, parse

REGISTRY = "/v1/registries/default"
RUNS = f"{REGISTRY}/gc-runs"
DELETIONS = f"{REGISTRY}/deletions"
TAG = f"{REGISTRY}/repositories/team/app/-/tags/1"
WAIT = {"Prefer": "wait=5"}


class PlaceRegistries(FakeRegistries):
    """The registry of a place, on its engine."""

    place: Place

    def engine(self, name: str) -> Engine:
        return self.place.engine(name)


class GcBed(Bed):
    def __init__(self) -> None:
        self.place = Place()
        super().__init__()
        self.registry: FakeRegistry = self.place.registry
        self.registries.registries["default"] = self.registry
        self.registries.containers["default"] = "registry"
        self.registries.versions["default"] = "2.8.2"

    def wire(self) -> Sequence[Work]:
        self.registries = PlaceRegistries({})
        self.registries.place = self.place
        return (
            collection(self.registries, self.store.deletions, self.trail, parse),
            verification(self.registries),
            bulk_deletion(self.registries, self.store, self.trail, self.clock),
        )

    def start(self, path: str = RUNS, /, **body: object) -> Reply:
        return self.ask(path, "POST", body=body)

    def ended(self, path: str = RUNS, /, **body: object) -> Any:  # noqa: ANN401 - JSON
        """Start a job, and give it when it has ended."""
        answer = self.start(path, **body)
        assert answer.status == 202, answer.text
        self.jobs.run_all()
        return self.ask(answer.headers["Location"]).json


@pytest.fixture
def bed() -> GcBed:
    return GcBed()


# Collections.


def test_a_collection_is_a_job(bed: GcBed) -> None:
    answer = bed.ask(RUNS, "POST")
    assert answer.status == 202
    job = answer.json
    assert answer.headers["Location"] == f"/v1/jobs/{job['id']}"
    assert (job["kind"], job["registry"], job["container"]) == ("gc", "default", "registry")
    assert job["params"] == {"mode": "read-only", "dry_run": False, "delete_untagged": False}
    bed.jobs.run_all()
    done = bed.ask(f"{RUNS}/{job['id']}").json
    assert done["state"] == "succeeded"
    assert done["result"]["blobs_deleted"] == 2
    bed.place.jobs = bed.jobs
    bed.place.require_as_it_was()


def test_collections_are_listed_newest_first(bed: GcBed) -> None:
    ids = [bed.ended(dry_run=True)["id"] for _ in range(3)]
    bed.ended(f"{REGISTRY}/verifications")
    page = bed.ask(f"{RUNS}?n=2").json
    assert [one["id"] for one in page["items"]] == ids[:0:-1]
    rest = bed.ask(page["next"]).json
    assert ([one["id"] for one in rest["items"]], rest["next"]) == (ids[:1], None)


def test_what_is_no_collection_of_this_registry_is_unknown(bed: GcBed) -> None:
    other = bed.ended(f"{REGISTRY}/verifications")
    assert bed.ask(f"{RUNS}/{other['id']}").problem == (404, "job-unknown")
    bed.registries.registries["other"] = FakeRegistry("other")
    run = bed.ended(dry_run=True)
    assert bed.ask(f"/v1/registries/other/gc-runs/{run['id']}").problem == (404, "job-unknown")
    assert bed.ask("/v1/registries/other/gc-runs").json["items"] == []


def test_a_run_is_answered_304_while_it_does_not_change(bed: GcBed) -> None:
    path = f"{RUNS}/{bed.start().json['id']}"
    tag = bed.ask(path).headers["ETag"]
    assert bed.ask(path, headers={"If-None-Match": tag}).status == 304


@pytest.mark.parametrize("body", [{}, {"accept_risk": False}, {"dry_run": True}])
def test_live_needs_the_risk_accepted(bed: GcBed, body: dict[str, bool]) -> None:
    answer = bed.start(mode="live", **body)
    assert answer.problem == (422, "validation-failed")
    assert answer.json["errors"][0]["pointer"] == "/accept_risk"
    assert bed.start(mode="live", accept_risk=True).status == 202


@pytest.mark.parametrize(
    "body", [{"mode": "fast"}, {"mode": None}, {"dry_run": "yes"}, {"dryrun": True}]
)
def test_bad_options_are_422(bed: GcBed, body: dict[str, object]) -> None:
    assert bed.start(**body).problem == (422, "validation-failed")


def test_a_second_one_is_409_with_the_job(bed: GcBed) -> None:
    first = bed.start().json["id"]
    bed.place.original.status = "exited"  # as while it runs
    second = bed.start(mode="stopped")
    assert second.problem == (409, "gc-already-active")
    assert second.json["job"] == first
    assert int(second.headers["Retry-After"]) > 0


# The same request again.

KEY = {"Idempotency-Key": "once"}
ITEMS = {"items": [{"repository": "team/app", "tag": "1"}]}
STARTS: tuple[tuple[str, dict[str, Any], dict[str, Any]], ...] = (
    (RUNS, {}, {"mode": "stopped"}),
    (f"{REGISTRY}/verifications", {}, {"deep": True}),
    (DELETIONS, ITEMS, {**ITEMS, "cascade": False}),
)


def stop_container(bed: GcBed) -> None:
    bed.place.original.status = "exited"


def collect(bed: GcBed) -> None:
    bed.start()


def collect_to_the_end(bed: GcBed) -> None:
    bed.start()
    bed.jobs.run_all()


def lose_container(bed: GcBed) -> None:
    del bed.registries.containers["default"]


def rename_container(bed: GcBed) -> None:
    bed.registries.containers["default"] = "other"


SINCE = (stop_container, collect, collect_to_the_end, lose_container, rename_container)


@pytest.mark.parametrize("since", SINCE)
@pytest.mark.parametrize(("path", "body", "other"), STARTS)
def test_the_same_key_gives_the_same_job_whatever_has_changed(
    bed: GcBed,
    path: str,
    body: dict[str, Any],
    other: dict[str, Any],
    since: Callable[[GcBed], None],
) -> None:
    first = bed.ask(path, "POST", body=body, headers=KEY).json["id"]
    since(bed)
    again = bed.ask(path, "POST", body=body, headers=KEY)
    assert (again.status, again.json["id"]) == (202, first)
    assert again.headers["Location"] == f"/v1/jobs/{first}"
    assert bed.ask(path, "POST", body=other, headers=KEY).problem == (422, "idempotency-key-reused")
    bed.jobs.run_all()
    ended = bed.ask(path, "POST", body=body, headers={**KEY, **WAIT})
    assert (ended.status, ended.json["id"]) == (200, first)


def test_a_key_is_good_for_one_kind_of_job(bed: GcBed) -> None:
    bed.ask(RUNS, "POST", headers=KEY)
    answer = bed.ask(f"{REGISTRY}/verifications", "POST", headers=KEY)
    assert answer.problem == (422, "idempotency-key-reused")


def test_a_key_lets_nobody_in(bed: GcBed) -> None:
    bed.ask(RUNS, "POST", headers=KEY)
    weak = bed.token("registry:read", name="weak")
    answer = bed.ask(RUNS, "POST", headers=KEY, token=weak)
    assert answer.problem == (403, "insufficient-scope")


def test_what_was_refused_is_looked_at_again(bed: GcBed) -> None:
    stop_container(bed)
    assert bed.ask(RUNS, "POST", headers=KEY).problem == (409, "registry-not-collectable")
    bed.place.original.status = "running"
    assert bed.ask(RUNS, "POST", headers=KEY).status == 202


# What is told at once.


def test_problems_come_at_once(bed: GcBed) -> None:
    bed.place.original.status = "exited"
    assert bed.start().problem == (409, "registry-not-collectable")
    bed.place.original.status = "running"
    bed.registries.containers["default"] = "other"
    assert bed.start().problem == (404, "container-unknown")
    del bed.registries.containers["default"]
    answer = bed.start()
    assert answer.problem == (409, "registry-not-collectable")
    assert "[registries.default]" in answer.json["detail"]
    assert bed.ask("/v1/jobs").json["items"] == []


def test_untagged_manifests_beside_an_index_are_409(bed: GcBed) -> None:
    one = image("one")
    bed.registry.push("team/app", one)
    bed.registry.push("team/app", index(one), "all")
    answer = bed.start(delete_untagged=True)
    assert answer.problem == (409, "delete-untagged-unsafe")
    assert answer.json["repositories"] == ["team/app"]
    bed.registries.versions["default"] = "3.0.0"
    assert bed.start(delete_untagged=True).status == 202


def test_it_takes_the_scope_and_all_of_the_registry(bed: GcBed) -> None:
    reader = bed.token("registry:read", "job:read")
    assert bed.ask(RUNS, "POST", token=reader).problem == (403, "insufficient-scope")
    limited = bed.token("gc:run", "registry:read", repositories=("team/*",))
    for path in (RUNS, f"{REGISTRY}/verifications"):
        assert bed.ask(path, "POST", token=limited).problem == (403, "insufficient-scope")
    assert bed.ask(RUNS, "POST", token=bed.token("gc:run")).status == 202


# What a collection excludes.


def changes(bed: GcBed) -> list[tuple[str, str, object]]:
    """Every change of a registry's content that there is."""
    bed.registry.push("team/app", image("gone"), "gone")
    gone = bed.ask(TAG.replace("tags/1", "tags/gone"), "DELETE").json["id"]
    digest = bed.registry.resolved("team/app")["1"]  # type: ignore[index]
    manifest = f"{REGISTRY}/repositories/team/app/-/manifests/{digest}"
    item = {"repository": "team/app", "tag": "1"}
    return [
        (TAG.replace("tags/1", "tags/2"), "PUT", {"tag": "1"}),
        (TAG, "DELETE", None),
        (f"{manifest}?force=true", "DELETE", None),
        (f"{DELETIONS}/{gone}/restore", "POST", {}),
        (DELETIONS, "POST", {"items": [item]}),
    ]


def test_nothing_is_changed_while_garbage_is_collected(bed: GcBed) -> None:
    asked = changes(bed)
    job = bed.start().json["id"]
    writes = list(bed.registry.writes)
    for path, method, body in asked:
        answer = bed.ask(path, method, body=body)
        assert answer.problem == (409, "gc-already-active"), path
        assert answer.json["job"] == job
        assert "Retry-After" in answer.headers
    assert bed.registry.writes == writes
    bed.jobs.run_all()
    put = asked[0]
    assert bed.ask(put[0], put[1], body=put[2]).status == 201


def test_a_dry_run_excludes_no_change(bed: GcBed) -> None:
    asked = changes(bed)
    bed.start(dry_run=True)
    for path, method, body in asked[:1]:
        assert bed.ask(path, method, body=body).status == 201


# Verifications.


def test_a_verification_tells_what_is_missing(bed: GcBed) -> None:
    contents = next(iter(bed.registry.contents.values()))
    lost = Digest.of(b"layer of kept")
    contents.blobs.pop(lost)
    job = bed.ended(f"{REGISTRY}/verifications", deep=True)
    assert (job["kind"], job["params"]) == ("verification", {"deep": True})
    hurt = [{"repository": "team/app", "tag": "1"}]
    assert job["result"]["missing_blobs"] == [{"digest": lost, "tags": hurt}]
    assert (job["result"]["corrupt_blobs"], job["result"]["dangling_tags"]) == ([], [])
    assert bed.start(f"{REGISTRY}/verifications", deep=1).problem == (422, "validation-failed")


# Bulk deletions.


def test_many_are_deleted_and_one_failure_stops_nothing(bed: GcBed) -> None:
    for name in ("a", "b", "c"):
        bed.registry.push("team/app", image(name), name)
    items = [
        {"repository": "team/app", "tag": "a"},
        {"repository": "team/app", "tag": "nope"},
        {"repository": "team/app", "digest": image("b").digest},
        {"repository": "team/none", "tag": "c"},
        {"repository": "team/app", "tag": "c"},
    ]
    result = bed.ended(DELETIONS, items=items)["result"]
    assert (result["deleted"], result["failed"]) == (2, 3)
    kinds = [one.get("problem", {}).get("code") for one in result["items"]]
    assert kinds == [None, "tag-unknown", "manifest-tagged", "repository-unknown", None]
    first = result["items"][0]["deletion"]
    assert bed.ask(f"{DELETIONS}/{first['id']}").json == first
    assert set(bed.registry.resolved("team/app")) == {"1", "b"}
    told = {
        (event.attempt.action, event.attempt.target, event.completion and event.completion.code)
        for event in bed.events()
        if event.attempt.action in {"tag.delete", "manifest.delete"}
    }
    assert told == {
        ("tag.delete", "team/app:a", None),
        ("tag.delete", "team/app:nope", "tag-unknown"),
        ("manifest.delete", f"team/app@{image('b').digest}", "manifest-tagged"),
        ("tag.delete", "team/none:c", "repository-unknown"),
        ("tag.delete", "team/app:c", None),
    }


def many(count: int) -> list[dict[str, str]]:
    """As many items, with the longest names there are."""
    name = "a" * REPOSITORY_LIMIT
    return [{"repository": name, "digest": Digest.of(str(n).encode())} for n in range(count)]


def test_thousands_of_items_are_accepted_whatever_their_names(bed: GcBed) -> None:
    body = json.dumps({"items": many(ITEMS_LIMIT)}, indent=4).encode()
    assert len(body) > 3 * 1024 * 1024
    answer = bed.ask(DELETIONS, "POST", body=body)
    assert answer.status == 202, answer.text[:1000]
    assert len(answer.json["params"]["items"]) == ITEMS_LIMIT


def test_there_is_an_end_to_them(bed: GcBed) -> None:
    answer = bed.start(DELETIONS, items=many(ITEMS_LIMIT + 1))
    assert answer.problem == (422, "validation-failed")
    assert answer.json["errors"][0]["pointer"] == "/items"
    body = b" " * 8 * 1024 * 1024 + json.dumps({"items": many(1)}).encode()
    answer = bed.ask(DELETIONS, "POST", body=body)
    assert answer.problem == (413, "content-too-large")
    assert "8 MiB" in answer.json["detail"]


def test_other_operations_take_less(bed: GcBed) -> None:
    body = b" " * 1024 * 1024 + b"{}"
    for path in (RUNS, f"{REGISTRY}/verifications"):
        answer = bed.ask(path, "POST", body=body)
        assert answer.problem == (413, "content-too-large")
        assert "1 MiB" in answer.json["detail"]


def test_a_dry_run_of_many_changes_nothing(bed: GcBed) -> None:
    items = [{"repository": "team/app", "tag": "1"}]
    result = bed.ended(DELETIONS, items=items, dry_run=True)["result"]
    assert result["items"][0]["deletion"]["dry_run"] is True
    assert bed.registry.writes == []


@pytest.mark.parametrize(
    ("items", "pointer"),
    [
        pytest.param([], "/items", id="none"),
        pytest.param([{"repository": "A", "tag": "1"}], "/items/0/repository", id="repository"),
        pytest.param([{"repository": "a", "tag": "."}], "/items/0/tag", id="tag"),
        pytest.param([{"repository": "a", "digest": "x"}], "/items/0/digest", id="digest"),
        pytest.param([{"repository": "a"}], "/items/0", id="neither"),
        pytest.param([{"tag": "a"}], "/items/0/repository", id="no repository"),
        pytest.param([{"repository": "a", "tag": "b", "to": 1}], "/items/0/to", id="unknown"),
        pytest.param([{"repository": "a", "tag": "b"}] * 10_001, "/items", id="many"),
    ],
)
def test_bad_items_are_told_by_their_place(bed: GcBed, items: object, pointer: str) -> None:
    answer = bed.start(DELETIONS, items=items)
    assert answer.problem == (422, "validation-failed")
    assert answer.json["errors"][0]["pointer"] == pointer


def test_items_beyond_a_token_s_limits_are_refused(bed: GcBed) -> None:
    limited = bed.token("registry:delete", repositories=("team/*",))
    items = [{"repository": "team/app", "tag": "1"}, {"repository": "other", "tag": "1"}]
    answer = bed.ask(DELETIONS, "POST", body={"items": items}, token=limited)
    assert answer.problem == (403, "insufficient-scope")
    answer = bed.ask(DELETIONS, "POST", body={"items": items[:1]}, token=limited)
    assert answer.status == 202
