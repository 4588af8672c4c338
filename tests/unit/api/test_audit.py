"""No change without a record, and nothing is asked of anybody before it stands."""

import logging

import pytest
from flask import Blueprint as PlainBlueprint
from flask import Response

from service.api.base import Api, Application, Blueprint
from service.domain.audit import Attempt, Completion
from tests.fakes import image
from tests.unit.api.conftest import ADMIN, Bed

REPOSITORY = "/v1/registries/default/repositories/team/app"
TAG = f"{REPOSITORY}/-/tags/1.0"


def outcomes(bed: Bed) -> list[tuple[object, ...]]:
    return [
        (
            event.attempt.actor,
            event.attempt.action,
            event.completion and event.completion.outcome,
            event.completion and event.completion.status,
            event.completion and event.completion.code,
        )
        for event in bed.events()
    ]


def view() -> Response:
    return Response()


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "TRACE", "ANYTHING"])
def test_an_unsafe_route_outside_change_is_refused(bed: Bed, method: str) -> None:
    app = Application()
    with pytest.raises(RuntimeError, match="without an audit record"):
        app.route("/direct", methods=[method])(view)
    with pytest.raises(RuntimeError, match="without an audit record"):
        bed.app.add_url_rule("/later", "later", view, methods=[method])


def test_an_unsafe_route_of_a_blueprint_is_refused() -> None:
    plain = PlainBlueprint("plain", __name__)
    plain.add_url_rule("/plain", "plain", view, methods=["POST"])
    with pytest.raises(RuntimeError, match="without an audit record"):
        Application().register_blueprint(plain)


def test_an_unsafe_route_of_one_of_our_blueprints_fails_the_making_of_the_application() -> None:
    ours = Blueprint("ours", "Ours.")
    ours.route("/ours", methods=["DELETE"])(view)
    with pytest.raises(RuntimeError, match="without an audit record"):
        Api(Application()).register_blueprint(ours)


def test_a_view_exchanged_later_is_found(bed: Bed, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(bed.app.view_functions, "tags.deleteTag", view)
    with pytest.raises(RuntimeError, match="without an audit record"):
        bed.app.require_audited()


def test_every_unsafe_route_is_audited(bed: Bed) -> None:
    unsafe = {
        f"{method} {rule.rule}"
        for rule in bed.app.url_map.iter_rules()
        for method in rule.methods or ()
        if method not in {"GET", "HEAD", "OPTIONS"}
    }
    bed.app.require_audited()
    assert len(unsafe) == 16


def test_a_change_is_recorded_with_all_that_is_known(bed: Bed) -> None:
    bed.registry.push("team/app", image("a"), "1.0")
    bed.ask(f"{TAG}?dry_run=true", "DELETE", headers={"X-Request-Id": "mine"})
    event = bed.events()[-1]
    assert event.attempt == Attempt(
        action="tag.delete",
        actor="root",
        source_ip="127.0.0.1",
        registry="default",
        target="team/app:1.0",
        request_id="mine",
    )
    assert event.completion == Completion("succeeded", 200, None, {"dry_run": True})


@pytest.mark.parametrize(
    ("path", "target"),
    [
        (f"{REPOSITORY}/-/manifests/sha256:{'a' * 64}", f"team/app@sha256:{'a' * 64}"),
        ("/v1/tokens/" + "0" * 32, "0" * 32),
        ("/v1/tokens/%00%0a", "\\x00\\n"),
        ("/v1/tokens/" + "x" * 3000, "x" * 400 + "…"),
    ],
)
def test_the_target_is_named(bed: Bed, path: str, target: str) -> None:
    bed.ask(path, "DELETE")
    assert bed.events()[-1].attempt.target == target


def test_refused_attempts_are_recorded_in_the_order_of_refusal(bed: Bed) -> None:
    reader = bed.token("registry:read", name="reader")
    limited = bed.token("registry:delete", name="limited", registries=("other",))
    bed.ask(f"{TAG}?nonsense=1", "DELETE", token=None)
    bed.ask(f"{TAG}?nonsense=1", "DELETE", token="radm_unknown")
    bed.ask(f"{TAG}?nonsense=1", "DELETE", token=reader)
    bed.ask(f"{TAG}?nonsense=1", "DELETE", token=limited)
    bed.ask(f"{REPOSITORY}/-/tags/-bad?nonsense=1", "DELETE")
    bed.ask(f"{TAG}?nonsense=1", "DELETE")
    bed.ask(TAG, "DELETE")
    assert outcomes(bed) == [
        (None, "tag.delete", "refused", 401, "unauthenticated"),
        (None, "tag.delete", "refused", 401, "unauthenticated"),
        ("reader", "tag.delete", "refused", 403, "insufficient-scope"),
        ("limited", "tag.delete", "refused", 403, "insufficient-scope"),
        ("root", "tag.delete", "refused", 400, "invalid-tag"),
        ("root", "tag.delete", "refused", 422, "validation-failed"),
        ("root", "tag.delete", "refused", 404, "repository-unknown"),
    ]
    assert bed.registry.writes == []


def test_a_body_that_is_no_json_is_a_recorded_refusal(bed: Bed) -> None:
    bed.ask(TAG, "PUT", body=b"{")
    assert outcomes(bed) == [("root", "tag.put", "refused", 400, "malformed-body")]


def test_what_fails_on_the_way_is_recorded_as_failed(bed: Bed) -> None:
    bed.registry.push("team/app", image("a"), "1.0")
    bed.registry.die(1, "before", ZeroDivisionError("a mistake"), for_good=False)
    answer = bed.ask(TAG, "DELETE")
    assert answer.status == 500
    assert outcomes(bed) == [("root", "tag.delete", "failed", 500, "internal-error")]


def test_a_process_that_is_stopped_leaves_a_failed_attempt(bed: Bed) -> None:
    bed.registry.push("team/app", image("a"), "1.0")
    bed.registry.die(1, "before", SystemExit(1))
    with pytest.raises(SystemExit):
        bed.ask(TAG, "DELETE")
    assert outcomes(bed) == [("root", "tag.delete", "failed", None, None)]


def test_without_a_trail_nothing_is_tried(bed: Bed, monkeypatch: pytest.MonkeyPatch) -> None:
    bed.registry.push("team/app", image("a"), "1.0")

    def broken(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(bed.store.audit, "record_attempt", broken)
    answer = bed.ask(TAG, "DELETE")
    assert answer.problem == (503, "store-unavailable")
    assert "disk full" not in answer.text
    assert bed.registry.writes == []
    assert bed.registry.reads == []


def test_a_change_that_is_done_is_told_though_its_end_is_not_recorded(
    bed: Bed, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    bed.registry.push("team/app", image("a"), "1.0")

    def broken(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(bed.store.audit, "record_completion", broken)
    with caplog.at_level(logging.ERROR):
        assert bed.ask(TAG, "DELETE").status == 200
    assert "cannot be recorded" in caplog.text


def test_reads_leave_no_record(bed: Bed) -> None:
    bed.registry.push("team/app", image("a"), "1.0")
    for path in ("/v1/me", TAG, f"{REPOSITORY}/-/tags", "/v1/tokens", "/v1/audit-events"):
        assert bed.ask(path, token=ADMIN).status == 200
    assert bed.events() == []


def test_the_view_has_no_right_to_change_anything_once_answered(bed: Bed) -> None:
    bed.registry.push("team/app", image("a"), "1.0")
    bed.ask(TAG, "DELETE")
    change = bed.trail.begin(Attempt("later", "tests"))
    change.complete(Completion("succeeded"))
    with pytest.raises(RuntimeError):
        bed.registry.writer(change).delete_tag(None, None)  # type: ignore[arg-type]
