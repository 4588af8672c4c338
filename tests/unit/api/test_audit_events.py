from urllib.parse import quote

import pytest

from service.domain.audit import Attempt
from tests.fakes import FakeRegistry, image
from tests.unit.api.conftest import ADMIN, Bed

EVENTS = "/v1/audit-events"
TAG = "/v1/registries/default/repositories/team/app/-/tags/1.0"


def asked(bed: Bed, query: str = "", token: str = ADMIN) -> list[dict[str, object]]:
    items = bed.ask(EVENTS + query, token=token).json["items"]
    return [item for item in items if item["action"] != "arrange"]


def test_an_event_has_every_field(bed: Bed) -> None:
    bed.registry.push("team/app", image("a"), "1.0")
    bed.ask(f"{TAG}?dry_run=true", "DELETE", headers={"X-Request-Id": "mine"})
    (event,) = asked(bed)
    assert event == {
        "id": event["id"],
        "time": "2026-01-31T12:00:00Z",
        "actor": "root",
        "source_ip": "127.0.0.1",
        "action": "tag.delete",
        "registry": "default",
        "container": None,
        "target": "team/app:1.0",
        "outcome": "succeeded",
        "status": 200,
        "code": None,
        "request_id": "mine",
        "job": None,
        "details": {"dry_run": True},
    }


def test_one_that_has_not_ended_has_no_outcome(bed: Bed) -> None:
    bed.trail.begin(Attempt("tag.delete", "root"))
    (event,) = asked(bed)
    assert (event["outcome"], event["status"], event["details"]) == (None, None, {})


def test_refusals_are_listed_newest_first(bed: Bed) -> None:
    bed.ask(TAG, "DELETE", token=None)
    bed.ask(TAG, "DELETE")
    assert [event["code"] for event in asked(bed)] == ["repository-unknown", "unauthenticated"]


@pytest.fixture
def eventful(bed: Bed) -> Bed:
    bed.registry.push("team/app", image("a"), "1.0")
    bed.ask(TAG, "DELETE", token=bed.token("registry:read", name="reader"))
    bed.clock.advance(hours=1)
    bed.ask(TAG, "DELETE")
    bed.clock.advance(hours=1)
    bed.ask("/v1/tokens", "POST", body={"name": "x", "scopes": ["admin"]})
    return bed


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("", 3),
        ("?actor=reader", 1),
        ("?actor=nobody", 0),
        ("?action=tag.delete", 2),
        ("?registry=default", 2),
        ("?container=x", 0),
        ("?outcome=refused", 1),
        ("?outcome=succeeded", 2),
        ("?outcome=failed", 0),
        ("?since=2026-01-31T13:00:00Z", 2),
        ("?until=2026-01-31T13:00:00Z", 1),
        ("?since=2026-01-31T13:00:00Z&until=2026-01-31T14:00:00Z", 1),
        ("?since=" + quote("2026-01-31T15:00:00+02:00"), 2),
        ("?action=tag.delete&outcome=succeeded&actor=root", 1),
    ],
)
def test_filters(eventful: Bed, query: str, expected: int) -> None:
    assert len(asked(eventful, query)) == expected


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("outcome", "unknown"),
        ("outcome", ""),
        ("since", "yesterday"),
        ("since", "2026-01-31"),
        ("since", "2026-01-31T12:00:00"),
        ("until", "2026-02-30T12:00:00Z"),
        ("until", "0000-01-01T00:00:00Z"),
        ("until", "0001-01-01T00:00:00%2B23:59"),
        ("actor", ""),
        ("actor", "a%00b"),
        ("actor", "a%0Ab"),
        ("actor", "x" * 201),
        ("status", "200"),
    ],
)
def test_what_is_no_filter_is_422(bed: Bed, name: str, value: str) -> None:
    answer = bed.ask(f"{EVENTS}?{name}={value}")
    assert answer.problem == (422, "validation-failed")
    assert answer.json["errors"][0]["parameter"] == name


def test_a_limited_token_sees_what_was_tried_within_its_limits(bed: Bed) -> None:
    bed.registries.registries["other"] = FakeRegistry("other")
    for registry, repository in (
        ("default", "team/app"),
        ("default", "library/a"),
        ("other", "team/app"),
    ):
        bed.ask(f"/v1/registries/{registry}/repositories/{repository}/-/tags/1", "DELETE")
    bed.ask("/v1/tokens", "POST", body={"name": "x", "scopes": ["admin"]})
    by_registry = bed.token("audit:read", registries=("default",))
    assert {event["target"] for event in asked(bed, token=by_registry)} == {
        "team/app:1",
        "library/a:1",
    }
    by_repository = bed.token("audit:read", registries=("other",), repositories=("team/*",))
    assert [event["registry"] for event in asked(bed, token=by_repository)] == ["other"]


def test_the_trail_is_append_only(bed: Bed) -> None:
    for method in ("POST", "PUT", "DELETE", "PATCH"):
        assert bed.ask(EVENTS, method).problem == (405, "method-not-allowed")


def test_a_limited_token_sees_the_restores_of_its_own_repositories(bed: Bed) -> None:
    for name in ("team/app", "other/app"):
        bed.registry.push(name, image(name), "1")
        path = f"/v1/registries/default/repositories/{name}/-/tags/1"
        made = bed.ask(path, "DELETE").json["id"]
        bed.ask(f"/v1/registries/default/deletions/{made}/restore", "POST", body={})
    limited = bed.token("audit:read", repositories=("team/*",))
    found = bed.ask("/v1/audit-events?action=deletion.restore", token=limited).json["items"]
    assert [one["details"]["repository"] for one in found] == ["team/app"]
