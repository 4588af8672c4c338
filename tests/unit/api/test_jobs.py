"""Jobs over HTTP: seeing, following and cancelling them, and the answer of what starts one."""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping
from typing import Any

import pytest
from flask import Blueprint as PlainBlueprint
from flask import Response

from service.api import guard, job_answers, waiting
from service.api.base import Application
from service.domain.audit import Attempt, Change
from service.domain.job import Job, JobContext, JobKind, JobRequest, Work
from service.jobs.recreating import ULIMITS
from service.jobs.restarting import RESTART
from tests.unit.api.conftest import Bed, Reply

EVENTS = {"Accept": "text/event-stream"}
TEXT = {"Accept": "text/plain"}


def run(context: JobContext) -> Mapping[str, Any]:
    context.step("first")
    for line in context.job.params.get("lines", ()):
        context.log("warning", line)
    context.progress(1, 2)
    if context.job.params.get("fail"):
        raise ValueError("a mistake")
    context.step("second")
    return {"answer": 42}


COLLECT = JobKind("gc", "gc:run", single=True)
PUSH = JobKind("image-push", "image:push")


class JobBed(Bed):
    works = (Work(COLLECT, run), Work(PUSH, run), Work(RESTART, run), Work(ULIMITS, run))

    def submit(self, kind: str = "image-push", **about: Any) -> Job:  # noqa: ANN401 - a request's
        params = about.pop("params", {})
        with self.trail.attempt(Attempt("arrange", "tests")) as change:
            return self.jobs.submit(change, JobRequest(kind, params, "ann", **about))

    def ran(self, **about: Any) -> Job:  # noqa: ANN401 - as above
        job = self.submit(**about)
        self.jobs.run_all()
        return self.jobs.get(job.id)


@pytest.fixture
def bed() -> JobBed:
    return JobBed()


def ids(answer: Reply) -> list[str]:
    return [item["id"] for item in answer.json["items"]]


def test_a_job_that_waits(bed: JobBed) -> None:
    job = bed.submit(params={"a": 1}, registry="default", request_id="mine")
    answer = bed.ask(f"/v1/jobs/{job.id}")
    assert answer.status == 200
    assert answer.json == {
        "id": job.id,
        "kind": "image-push",
        "state": "queued",
        "registry": "default",
        "container": None,
        "params": {"a": 1},
        "requested_by": "ann",
        "request_id": "mine",
        "created_at": "2026-01-31T12:00:00Z",
        "started_at": None,
        "finished_at": None,
        "progress": None,
        "cancel_requested": False,
        "result": None,
        "error": None,
    }


def test_a_job_that_succeeded(bed: JobBed) -> None:
    shown = bed.ask(f"/v1/jobs/{bed.ran().id}").json
    assert (shown["state"], shown["result"], shown["error"]) == ("succeeded", {"answer": 42}, None)
    assert shown["progress"] == {"phase": "second", "done": None, "total": None}
    assert shown["finished_at"] == "2026-01-31T12:00:00Z"


def test_a_job_that_failed_has_a_problem(bed: JobBed) -> None:
    job = bed.ran(params={"fail": True}, request_id="mine")
    shown = bed.ask(f"/v1/jobs/{job.id}").json
    assert (shown["state"], shown["result"]) == ("failed", None)
    error = shown["error"]
    assert (error["code"], error["status"], error["request_id"]) == ("internal-error", 500, "mine")
    assert error["instance"] == f"/v1/jobs/{job.id}"
    assert "mistake" not in error["detail"].replace("made a mistake", "")
    assert shown["progress"] == {"phase": "first", "done": 1, "total": 2}


def test_asking_again_costs_little_while_nothing_changes(bed: JobBed) -> None:
    path = f"/v1/jobs/{bed.submit().id}"
    tag = bed.ask(path).headers["ETag"]
    again = bed.ask(path, headers={"If-None-Match": tag})
    assert (again.status, again.headers["ETag"], again.data) == (304, tag, b"")
    bed.jobs.run_all()
    changed = bed.ask(path, headers={"If-None-Match": tag})
    assert changed.status == 200
    assert changed.headers["ETag"] != tag


@pytest.mark.parametrize("job_id", ["0" * 32, "nonsense", "..", "0" * 33])
@pytest.mark.parametrize("rest", ["", "/log"])
def test_an_unknown_job(bed: JobBed, job_id: str, rest: str) -> None:
    assert bed.ask(f"/v1/jobs/{job_id}{rest}").problem == (404, "job-unknown")


def test_the_list_is_newest_first_by_pages(bed: JobBed) -> None:
    made = [bed.submit().id for _ in range(5)]
    first = bed.ask("/v1/jobs?n=2")
    assert ids(first) == made[:2:-1]
    assert first.headers["Link"] == f'<{first.json["next"]}>; rel="next"'
    second = bed.ask(first.json["next"])
    third = bed.ask(second.json["next"])
    assert ids(second) + ids(third) == made[2::-1]
    assert third.json["next"] is None


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("kind=gc", ["gc"]),
        ("state=succeeded", ["pushed"]),
        ("state=queued&registry=b", ["gc"]),
        ("container=web", ["web"]),
        ("registry=none", []),
        ("", ["web", "gc", "pushed"]),
    ],
)
def test_the_list_is_filtered(bed: JobBed, query: str, expected: list[str]) -> None:
    names = {bed.ran(registry="a").id: "pushed"}
    names[bed.submit("gc", registry="b", exclusive="registry/b").id] = "gc"
    names[bed.submit(container="web").id] = "web"
    assert [names[one] for one in ids(bed.ask(f"/v1/jobs?{query}"))] == expected


@pytest.mark.parametrize("query", ["state=nonsense", "kind=", "n=0", "nonsense=1", "last=7a7a"])
def test_a_filter_that_makes_no_sense(bed: JobBed, query: str) -> None:
    assert bed.ask(f"/v1/jobs?{query}").problem == (422, "validation-failed")


def test_a_limited_token_sees_the_jobs_of_its_registries(bed: JobBed) -> None:
    seen = bed.submit(registry="a").id
    others = [bed.submit(registry="b").id, bed.submit(container="web").id]
    token = bed.token("job:read", registries=("a",))
    assert ids(bed.ask("/v1/jobs", token=token)) == [seen]
    assert bed.ask(f"/v1/jobs/{seen}", token=token).status == 200
    for other in others:
        for rest in ("", "/log"):
            answer = bed.ask(f"/v1/jobs/{other}{rest}", token=token)
            assert answer.problem == (403, "insufficient-scope")


def test_a_limited_token_sees_the_jobs_of_its_repositories(bed: JobBed) -> None:
    seen = [
        bed.submit(registry="a").id,
        bed.submit(params={"repository": "team/app"}).id,
        bed.submit(params={"items": [{"repository": "team/a"}, {"repository": "team/b"}]}).id,
    ]
    bed.submit(params={"repository": "other/app"})
    bed.submit(params={"items": [{"repository": "team/a"}, {"repository": "other/b"}]})
    token = bed.token("job:read", repositories=("team/*",))
    assert ids(bed.ask("/v1/jobs", token=token)) == seen[::-1]


def test_a_token_limited_to_repositories_sees_no_job_on_containers(bed: JobBed) -> None:
    jobs = [
        bed.submit(kind=kind.name, registry=registry, container="registry")
        for kind in (RESTART, ULIMITS)
        for registry in ("a", None)
    ]
    token = bed.token("job:read", repositories=("*",))
    assert ids(bed.ask("/v1/jobs", token=token)) == []
    for job in jobs:
        answer = bed.ask(f"/v1/jobs/{job.id}/log", token=token)
        assert answer.problem == (403, "insufficient-scope")
    of_registry = bed.token("job:read", registries=("a",))
    assert len(ids(bed.ask("/v1/jobs", token=of_registry))) == 2


def test_the_log_by_pages(bed: JobBed) -> None:
    job = bed.ran(params={"lines": ["a", "b"]})
    first = bed.ask(f"/v1/jobs/{job.id}/log?n=3")
    assert first.mimetype == "application/json"
    assert [(line["seq"], line["level"], line["message"]) for line in first.json["items"]] == [
        (1, "info", "first"),
        (2, "warning", "a"),
        (3, "warning", "b"),
    ]
    assert first.json["items"][0]["time"] == "2026-01-31T12:00:00Z"
    second = bed.ask(first.json["next"])
    assert [line["message"] for line in second.json["items"]] == ["second"]
    assert second.json["next"] is None
    assert bed.ask(f"/v1/jobs/{job.id}/log?after=4").json["items"] == []


def test_the_log_as_lines(bed: JobBed, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.api.job_log.PAGE", 2)
    job = bed.ran(params={"lines": ["one\nline", "radm_secret1234567890"]})
    answer = bed.ask(f"/v1/jobs/{job.id}/log?after=1", headers=TEXT)
    assert answer.headers["Content-Type"] == "text/plain; charset=utf-8"
    assert answer.text == (
        "2026-01-31T12:00:00Z warning one line\n"
        "2026-01-31T12:00:00Z warning radm_***\n"
        "2026-01-31T12:00:00Z info second\n"
    )


def events(answer: Reply) -> list[dict[str, str]]:
    blocks = answer.text.strip().split("\n\n")
    return [dict(line.split(": ", 1) for line in block.splitlines()) for block in blocks]


def test_the_log_of_an_ended_job_as_events(bed: JobBed) -> None:
    job = bed.ran()
    answer = bed.ask(f"/v1/jobs/{job.id}/log", headers=EVENTS)
    assert answer.mimetype == "text/event-stream"
    retry, first, second, end = events(answer)
    assert retry == {"retry": "2000"}
    assert first["id"] == "1"
    assert json.loads(first["data"])["message"] == "first"
    assert json.loads(second["data"])["seq"] == 2
    assert end == {"event": "end", "data": '{"state": "succeeded"}'}


@pytest.mark.parametrize("how", ["?after=1", ""])
def test_a_stream_goes_on_where_it_was_cut(bed: JobBed, how: str) -> None:
    job = bed.ran()
    headers = EVENTS if how else {**EVENTS, "Last-Event-ID": "1"}
    found = events(bed.ask(f"/v1/jobs/{job.id}/log{how}", headers=headers))
    assert [event.get("id") for event in found] == [None, "2", None]


@pytest.mark.parametrize("sent", ["", "-1", "x", "1.0"])
def test_a_last_event_that_makes_no_sense(bed: JobBed, sent: str) -> None:
    headers = {**EVENTS, "Last-Event-ID": sent}
    answer = bed.ask(f"/v1/jobs/{bed.ran().id}/log", headers=headers)
    assert answer.problem == (400, "malformed-header")


def test_a_head_of_a_stream_does_not_wait(bed: JobBed) -> None:
    answer = bed.ask(f"/v1/jobs/{bed.submit().id}/log", "HEAD", headers=EVENTS)
    assert (answer.status, answer.data) == (200, b"")


def test_a_stream_follows_until_the_job_has_ended(bed: JobBed) -> None:
    job = bed.submit(params={"lines": ["late"]})
    answer = bed.client.get(
        f"/v1/jobs/{job.id}/log", headers={**EVENTS, "Authorization": "Bearer radm_admin"}
    )
    pieces = answer.iter_encoded()
    assert next(pieces) == b"retry: 2000\n\n"
    runner = threading.Thread(target=bed.jobs.run_all)
    runner.start()
    text = b"".join(pieces).decode()
    runner.join()
    assert [part.split("\n")[0] for part in text.strip().split("\n\n")] == [
        "id: 1",
        "id: 2",
        "id: 3",
        "event: end",
    ]


def test_a_stream_without_a_thread_to_spare_catches_up_and_asks_to_come_again(
    bed: JobBed,
) -> None:
    job = bed.submit()
    with bed.app.app_context(), waiting.place() as mine:
        assert mine
        answer = bed.ask(f"/v1/jobs/{job.id}/log", headers=EVENTS)
    assert answer.text == "retry: 2000\n\n"


def test_a_stream_ends_when_the_process_is_to_end(
    bed: JobBed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(waiting, "_stopping", threading.Event())
    waiting.stop()
    answer = bed.ask(f"/v1/jobs/{bed.submit().id}/log", headers=EVENTS)
    assert answer.text == "retry: 2000\n\n"


def test_a_stream_ends_when_the_token_is_revoked(
    bed: JobBed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.api.job_log.HEARTBEAT_SECONDS", 0.0)
    job, secret = bed.submit(), bed.token("job:read")
    answer = bed.client.get(
        f"/v1/jobs/{job.id}/log", headers={**EVENTS, "Authorization": f"Bearer {secret}"}
    )
    pieces = answer.iter_encoded()
    assert [next(pieces), next(pieces)] == [b"retry: 2000\n\n", b": the job goes on\n\n"]
    tokens = bed.store.tokens.page(10, None)
    with bed.trail.attempt(Attempt("arrange", "tests")) as change:
        bed.store.tokens.revoke(change, tokens[-1].id)
    assert list(pieces) == []


def test_cancelling_a_job_that_waits(bed: JobBed) -> None:
    job = bed.submit("gc", registry="default", exclusive="registry/default")
    answer = bed.ask(f"/v1/jobs/{job.id}/cancel", "POST")
    assert (answer.status, answer.headers["Location"]) == (202, f"/v1/jobs/{job.id}")
    assert (answer.json["state"], answer.json["cancel_requested"]) == ("cancelled", True)
    (event,) = bed.events()
    assert (event.attempt.action, event.attempt.target) == ("job.cancel", job.id)
    assert event.completion is not None
    assert event.completion.details["job"] == job.id
    assert event.completion.details["registry"] == "default"


def test_cancelling_a_job_that_has_ended(bed: JobBed) -> None:
    job = bed.ran()
    answer = bed.ask(f"/v1/jobs/{job.id}/cancel", "POST")
    assert answer.problem == (409, "job-not-cancellable")
    assert answer.json["state"] == "succeeded"


def test_cancelling_an_unknown_job(bed: JobBed) -> None:
    assert bed.ask(f"/v1/jobs/{'0' * 32}/cancel", "POST").problem == (404, "job-unknown")


def test_cancelling_takes_the_scope_of_the_kind(bed: JobBed) -> None:
    job = bed.submit("gc", registry="a", exclusive="registry/a")
    path = f"/v1/jobs/{job.id}/cancel"
    refused = bed.ask(path, "POST", token=bed.token("job:read", "image:push"))
    assert refused.problem == (403, "insufficient-scope")
    assert refused.json["required_scope"] == "gc:run"
    elsewhere = bed.ask(path, "POST", token=bed.token("gc:run", registries=("b",)))
    assert elsewhere.problem == (403, "insufficient-scope")
    assert bed.jobs.get(job.id).state == "queued"
    assert bed.ask(path, "POST", token=bed.token("gc:run", registries=("a",))).status == 202


def test_cancelling_takes_no_options(bed: JobBed) -> None:
    path = f"/v1/jobs/{bed.submit().id}/cancel"
    assert bed.ask(path, "POST", body={"force": True}).problem == (422, "validation-failed")
    assert bed.ask(f"{path}?force=true", "POST").problem == (422, "validation-failed")


def start(change: Change) -> Response:
    """What another resource does to start a job."""
    job = job_answers.start_job(
        change, "gc", {"dry_run": True}, registry="default", exclusive="registry/default"
    )
    body, status, headers = job_answers.answer_job(job)
    return Response(json.dumps(body, default=str), status, headers, content_type="application/json")


@pytest.fixture
def starting(bed: JobBed) -> JobBed:
    """The application, with one more resource."""
    app = Application()
    app.extensions.update(bed.app.extensions)
    app.after_request_funcs, app.before_request_funcs = {}, {}
    plain = PlainBlueprint("plain", __name__)
    plain.add_url_rule(
        "/v1/start", "start", guard.audited(start, "gc:run", "gc.start", {}), methods=["POST"]
    )
    app.register_blueprint(plain)
    bed.client = app.test_client()
    return bed


def test_a_job_is_answered_with_where_it_is(starting: JobBed) -> None:
    answer = starting.ask("/v1/start", "POST")
    assert (answer.status, answer.json["state"]) == (202, "queued")
    assert answer.headers["Location"] == f"/v1/jobs/{answer.json['id']}"
    assert "Preference-Applied" not in answer.headers
    job = starting.jobs.get(answer.json["id"])
    assert (job.requested_by, job.registry, job.params) == ("root", "default", {"dry_run": True})
    (event,) = starting.events()
    assert event.completion is not None
    assert event.completion.details == {"job": job.id}


@pytest.mark.parametrize(
    "prefer", ["wait=60", "respond-async, wait=7200", "wait=99999999999", 'foo; x, WAIT="50"']
)
def test_the_answer_waits_for_the_end_where_that_is_preferred(
    starting: JobBed, prefer: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def over(_: waiting.Pauses) -> bool:
        starting.jobs.run_all()
        return False

    monkeypatch.setattr(waiting.Pauses, "over", over)
    answer = starting.ask("/v1/start", "POST", headers={"Prefer": prefer})
    assert (answer.status, answer.json["state"]) == (200, "succeeded")
    assert answer.headers["Preference-Applied"] in {"wait=60", "wait=50"}


def test_an_answer_that_has_waited_long_enough(starting: JobBed) -> None:
    answer = starting.ask("/v1/start", "POST", headers={"Prefer": "wait=0"})
    assert (answer.status, answer.json["state"]) == (202, "queued")
    assert answer.headers["Preference-Applied"] == "wait=0"


def test_nobody_waits_without_a_thread_to_spare(starting: JobBed) -> None:
    with starting.app.app_context(), waiting.place():
        answer = starting.ask("/v1/start", "POST", headers={"Prefer": "wait=60"})
    assert answer.status == 202
    assert "Preference-Applied" not in answer.headers


@pytest.mark.parametrize("prefer", ["wait", "wait=x", "wait=-1", "respond-async", ""])
def test_other_preferences_are_ignored(starting: JobBed, prefer: str) -> None:
    assert starting.ask("/v1/start", "POST", headers={"Prefer": prefer}).status == 202


def test_the_same_key_gives_the_same_job(starting: JobBed) -> None:
    headers = {"Idempotency-Key": "release-7"}
    first = starting.ask("/v1/start", "POST", headers=headers)
    assert starting.ask("/v1/start", "POST", headers=headers).json["id"] == first.json["id"]
    starting.jobs.run_all()
    assert starting.ask("/v1/start", "POST", headers=headers).json["state"] == "succeeded"


def test_a_second_one_without_the_key_is_in_the_way(starting: JobBed) -> None:
    first = starting.ask("/v1/start", "POST", headers={"Idempotency-Key": "a"})
    second = starting.ask("/v1/start", "POST", headers={"Idempotency-Key": "b"})
    assert second.problem == (409, "job-already-active")
    assert second.json["job"] == first.json["id"]


@pytest.mark.parametrize("key", ["", "with space", "ü", "x" * 256])
def test_a_key_that_is_none(starting: JobBed, key: str) -> None:
    answer = starting.ask("/v1/start", "POST", headers={"Idempotency-Key": key})
    assert answer.problem == (400, "malformed-header")
    assert starting.jobs.queue.waiting == {}


def test_how_long_jobs_wait_is_measured(bed: JobBed) -> None:
    name = "registry_admin_oldest_queued_job_seconds"
    assert f"\n{name} 0.0\n" in bed.ask("/metrics").text
    bed.submit()
    bed.clock.advance(seconds=90)
    bed.submit()
    assert f"\n{name} 90.0\n" in bed.ask("/metrics").text
    bed.jobs.run_all()
    assert f"\n{name} 0.0\n" in bed.ask("/metrics").text


def test_jobs_are_counted_by_kind_and_state(bed: JobBed) -> None:
    bed.submit()
    bed.submit()
    text = bed.ask("/metrics").text
    assert '\nregistry_admin_jobs{kind="image-push",state="queued"} 2.0\n' in text
    assert '\nregistry_admin_jobs_ended_total{kind="image-push",state="failed"} 0.0\n' in text
    bed.jobs.run_all()
    text = bed.ask("/metrics").text
    assert '\nregistry_admin_jobs{kind="image-push",state="queued"} 0.0\n' in text
    assert '\nregistry_admin_jobs_ended_total{kind="image-push",state="succeeded"} 2.0\n' in text
