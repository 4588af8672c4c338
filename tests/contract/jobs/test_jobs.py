"""What every engine of jobs promises."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from service.domain.errors import (
    IdempotencyKeyReused,
    JobAlreadyActive,
    JobNotCancellable,
    JobUnknown,
    ValidationFailed,
)
from service.domain.job import STATES, Figures, Job, JobQuery, JobRequest, JobState, Progress
from tests.contract.jobs.conftest import Bench, wait_for

HERE = {"container": "registry"}


def test_a_job_is_accepted_as_it_was_asked_for(bench: Bench) -> None:
    with bench.change() as change:
        request = JobRequest("plain", {"a": [1, None, "ü"]}, "ann", "r", "c", "q1")
        job = bench.jobs.submit(change, request)
        assert change.details["job"] == job.id
    assert (job.kind, job.params, job.requested_by) == ("plain", {"a": [1, None, "ü"]}, "ann")
    assert (job.registry, job.container, job.request_id) == ("r", "c", "q1")
    assert (datetime.now(UTC) - job.created_at) < timedelta(minutes=1)
    assert bench.ended(job).params == {"a": [1, None, "ü"]}


def test_a_job_is_run_to_its_end(bench: Bench) -> None:
    job = bench.ended(bench.submit(lines=3, result={"size": 2**40}))
    assert (job.state, job.result, job.error) == ("succeeded", {"size": 2**40}, None)
    assert job.progress == Progress("last", 2, 2)
    assert job.started_at is not None
    assert job.finished_at is not None
    assert job.created_at <= job.started_at <= job.finished_at
    lines = bench.jobs.log(job.id, 0, 100)
    assert [line.seq for line in lines] == [1, 2, 3, 4, 5]
    assert [line.message for line in lines] == ["first", "line 0", "line 1", "line 2", "last"]
    assert [line.level for line in lines] == ["info", "debug", "debug", "debug", "info"]


def test_a_job_that_nobody_would_run_is_not_accepted(bench: Bench) -> None:
    with pytest.raises(ValueError, match="nonsense"):
        bench.submit("nonsense")
    with pytest.raises(ValueError, match="nonsense"):
        bench.jobs.kind("nonsense")
    assert bench.jobs.kind("single").scope == "gc:run"


def test_a_change_that_has_ended_accepts_nothing(bench: Bench) -> None:
    with bench.change() as change:
        pass
    count = len(bench.jobs.page(JobQuery(), 1000, None))
    with pytest.raises(RuntimeError):
        bench.jobs.submit(change, JobRequest("plain", {}, "ann"))
    assert len(bench.jobs.page(JobQuery(), 1000, None)) == count


def test_params_have_a_limit(bench: Bench) -> None:
    with pytest.raises(ValidationFailed):
        bench.submit(text="x" * 5_000_000)


def test_a_known_error_is_the_problem_a_job_ends_by(bench: Bench) -> None:
    job = bench.ended(bench.submit(fail="known"))
    assert (job.state, job.result) == ("failed", None)
    assert job.error is not None
    assert job.error["code"] == "engine-unreachable"
    assert job.error["status"] == 502
    assert job.error["engine"] == "local"
    assert bench.messages(job) == ["first", "The engine does not answer."]


def test_an_unforeseen_error_tells_nothing_of_the_inside(bench: Bench) -> None:
    job = bench.ended(bench.submit(fail="unforeseen"))
    assert job.error is not None
    assert job.error["code"] == "internal-error"
    assert "secret words" not in str(job.error) + str(bench.messages(job))


def test_a_job_that_is_not_there(bench: Bench) -> None:
    for ask in (
        lambda: bench.jobs.get("0" * 32),
        lambda: bench.jobs.log("0" * 32, 0, 10),
        lambda: bench.cancel(Job("0" * 32, *([None] * 9))),  # type: ignore[arg-type]
    ):
        with pytest.raises(JobUnknown):
            ask()


def test_the_log_is_read_from_anywhere(bench: Bench) -> None:
    job = bench.ended(bench.submit(lines=5))
    assert [line.seq for line in bench.jobs.log(job.id, 2, 3)] == [3, 4, 5]
    assert bench.jobs.log(job.id, 7, 3) == []


def test_the_same_key_gives_the_same_job(bench: Bench) -> None:
    first = bench.submit(idempotency_key="same", a=1)
    assert bench.submit(idempotency_key="same", a=1).id == first.id
    assert bench.ended(first).state == "succeeded"
    again = bench.submit(idempotency_key="same", a=1)
    assert (again.id, again.state) == (first.id, "succeeded")
    assert bench.submit(idempotency_key="other", a=1).id != first.id
    assert bench.submit(idempotency_key="same", a=1, requested_by="ann").id != first.id


@pytest.mark.parametrize(
    "other", [{"a": 2}, {"a": 1, "registry": "r"}, {"a": 1, "container": "c"}, {"kind": "bulk"}]
)
def test_the_same_key_with_another_request(bench: Bench, other: dict[str, object]) -> None:
    first = bench.submit(idempotency_key=f"reused {other}", a=1)
    with pytest.raises(IdempotencyKeyReused) as caught:
        bench.submit(**{"idempotency_key": f"reused {other}", "a": 1, **other})  # type: ignore[arg-type]
    assert caught.value.members == {"job": first.id}


def test_a_request_that_was_accepted_is_known(bench: Bench) -> None:
    request = JobRequest("plain", {"a": 3}, "ann", "r", "c", idempotency_key="known")
    assert bench.jobs.known(request) is None
    with bench.change() as change:
        job = bench.jobs.submit(change, request)
    # The container of a registry is what its settings say, which may change.
    for same in (request, replace(request, container="other", request_id="q2")):
        found = bench.jobs.known(same)
        assert found is not None
        assert found.id == job.id
    with pytest.raises(IdempotencyKeyReused):
        bench.jobs.known(replace(request, params={"a": 4}))
    assert bench.jobs.known(replace(request, idempotency_key=None)) is None
    bench.ended(job)


def test_many_with_one_key_at_once_are_one_job(bench: Bench) -> None:
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda _: bench.submit(idempotency_key="at once", name="x"), range(8)))
    assert len({job.id for job in made}) == 1
    bench.ended(made[0])
    assert bench.world.events.count("begin x") == 1


def test_a_single_job_stands_in_the_way_of_a_second_one(bench: Bench) -> None:
    first = bench.submit("single", exclusive="registry/a", registry="a", gate="single")
    for begun in (False, True):
        if begun:
            bench.begun(first.id)
        with pytest.raises(JobAlreadyActive) as caught:
            bench.submit("single", exclusive="registry/a")
        assert caught.value.members == {"job": first.id}
    assert bench.submit("single", exclusive="registry/b").state == "queued"
    assert bench.submit(exclusive="registry/a").state == "queued"
    active = bench.jobs.active("single", "a")
    assert active is not None
    assert active.id == first.id
    bench.world.gates["single"].set()
    bench.ended(first)
    assert bench.jobs.active("single", "a") is None
    bench.ended(bench.submit("single", exclusive="registry/a"))


def test_of_many_single_jobs_at_once_one_is_accepted(bench: Bench) -> None:
    def submit(_: int) -> Job | None:
        try:
            return bench.submit("single", exclusive="registry/c", gate="crowd")
        except JobAlreadyActive:
            return None

    with ThreadPoolExecutor(8) as pool:
        accepted = [job for job in pool.map(submit, range(8)) if job]
    assert len(accepted) == 1
    bench.world.gates["crowd"].set()
    bench.ended(*accepted)


def test_a_single_job_must_say_of_what(bench: Bench) -> None:
    with pytest.raises(ValueError, match="excludes"):
        bench.submit("single")


def test_jobs_that_exclude_one_another_run_in_order_and_never_at_once(bench: Bench) -> None:
    names = [f"turn {number}" for number in range(5)]
    made = [
        bench.submit(exclusive="registry/x", thing="x", name=name, sleep=0.05) for name in names
    ]
    bench.ended(*made)
    assert bench.world.overlaps == []
    assert bench.world.events == [f"{what} {name}" for name in names for what in ("begin", "end")]


def test_a_queued_job_is_cancelled_at_once_and_never_begun(bench: Bench) -> None:
    blocking = bench.submit(exclusive="registry/y", gate="y")
    bench.begun(blocking.id)
    waiting = bench.submit(exclusive="registry/y", name="cancelled")
    cancelled = bench.cancel(waiting)
    assert (cancelled.state, cancelled.cancel_requested) == ("cancelled", True)
    assert cancelled.finished_at is not None
    assert (cancelled.started_at, cancelled.result, cancelled.error) == (None, None, None)
    bench.world.gates["y"].set()
    last = bench.submit(exclusive="registry/y", name="last")
    bench.ended(blocking, last)
    assert "begin cancelled" not in bench.world.events


def test_a_running_job_ends_cancelled_with_what_it_had_done(bench: Bench) -> None:
    job = bench.submit(cancellable=60, name="stop me")
    bench.begun("stop me")
    asked = bench.cancel(job)
    assert (asked.state, asked.cancel_requested) == ("running", True)
    ended = bench.ended(job)
    assert (ended.state, ended.result, ended.error) == ("cancelled", {"stopped": "in time"}, None)
    assert bench.messages(job)[-1] == "cancelled"


def test_a_cancelled_job_ends_so_although_it_did_not_look(bench: Bench) -> None:
    job = bench.submit(gate="blind", name="blind")
    bench.begun("blind")
    bench.cancel(job)
    bench.world.gates["blind"].set()
    assert bench.ended(job).state == "cancelled"


def test_a_cancelled_job_that_fails_on_the_way_ends_cancelled(bench: Bench) -> None:
    job = bench.submit(gate="both", name="both", fail="known")
    bench.begun("both")
    bench.cancel(job)
    bench.world.gates["both"].set()
    ended = bench.ended(job)
    assert (ended.state, ended.error) == ("cancelled", None)
    assert "The engine does not answer." in bench.messages(job)


def test_cancelling_twice_is_no_mistake(bench: Bench) -> None:
    job = bench.submit(gate="twice", cancellable=60, name="twice")
    bench.begun("twice")
    bench.cancel(job)
    bench.cancel(job)
    bench.world.gates["twice"].set()
    assert bench.ended(job).state == "cancelled"


def test_past_the_point_of_no_return_nothing_is_cancelled(bench: Bench) -> None:
    job = bench.submit(beyond=True, gate="beyond", name="far")
    bench.go()
    wait_for(lambda: "beyond far" in bench.world.events)
    with pytest.raises(JobNotCancellable) as caught:
        bench.cancel(job)
    assert caught.value.members == {"state": "running"}
    bench.world.gates["beyond"].set()
    assert bench.ended(job).state == "succeeded"
    with pytest.raises(JobNotCancellable) as caught:
        bench.cancel(job)
    assert caught.value.members == {"state": "succeeded"}


def test_cancelling_and_the_point_of_no_return_agree(bench: Bench) -> None:
    """Whoever comes first: a job whose cancelling was accepted never goes beyond."""
    for number in range(10):
        job = bench.submit(beyond=True, name=f"race {number}")
        runner = threading.Thread(target=bench.go)
        runner.start()
        accepted = True
        try:
            bench.cancel(job)
        except JobNotCancellable:
            accepted = False
        runner.join()
        ended = bench.ended(job)
        assert ended.state == ("cancelled" if accepted else "succeeded")
        assert (f"beyond race {number}" in bench.world.events) is not accepted


def test_what_was_not_settled_is_put_back(bench: Bench) -> None:
    job = bench.ended(bench.submit(compensate=[["start-again", HERE]], fail="known"))
    assert job.state == "failed"
    assert bench.world.put_back == [(job.id, HERE)]
    assert bench.messages(job)[-2:] == ["started registry again", "start-again done"]
    assert bench.records.compensations_of(job.id) == []


def test_what_was_settled_is_left_alone(bench: Bench) -> None:
    params: Any = {"compensate": [["start-again", HERE], ["remove", HERE]], "settle": [[]]}
    bench.ended(bench.submit(**params), bench.submit(**params, fail="known"))
    assert bench.world.put_back == []


def test_some_is_settled_and_some_is_not(bench: Bench) -> None:
    left = {"container": "stand-in"}
    job = bench.submit(
        compensate=[["start-again", HERE], ["remove", {"container": "x"}], ["remove", left]],
        settle=[["start-again"]],
        fail="unforeseen",
    )
    bench.ended(job)
    assert bench.world.put_back == [(job.id, left)]


def test_the_newest_is_put_back_first(bench: Bench) -> None:
    first, second = {"container": "first"}, {"container": "second"}
    job = bench.submit(compensate=[["start-again", first], ["remove", second]], fail="known")
    bench.ended(job)
    assert [data for _, data in bench.world.put_back] == [second, first]


def test_what_cannot_be_put_back_makes_a_job_fail(bench: Bench) -> None:
    bench.world.engine_is_down.set()
    job = bench.submit(compensate=[["start-again", HERE]], cancellable=60, name="stuck")
    bench.begun("stuck")
    bench.cancel(job)
    ended = bench.ended(job)
    assert ended.state == "failed"
    assert ended.error is not None
    assert ended.error["code"] == "engine-unreachable"
    assert [left.data for left in bench.records.compensations_of(job.id)] == [HERE]
    bench.world.engine_is_down.clear()
    bench.ended(bench.submit(exclusive="unrelated"))


def test_the_next_job_puts_back_first_what_an_earlier_one_left(bench: Bench) -> None:
    bench.world.engine_is_down.set()
    left = {"container": "left"}
    job = bench.submit(exclusive="registry/z", compensate=[["start-again", left]], fail="known")
    bench.ended(job)
    refused = bench.ended(bench.submit(exclusive="registry/z", name="too soon"))
    assert refused.error is not None
    assert refused.error["code"] == "engine-unreachable"
    assert "begin too soon" not in bench.world.events
    bench.world.engine_is_down.clear()
    bench.ended(bench.submit(exclusive="registry/z", name="later"))
    assert (job.id, left) in bench.world.put_back
    assert bench.messages(job)[-1] == "start-again done"


def test_the_list_is_newest_first_by_pages(bench: Bench) -> None:
    made = [bench.submit(registry="paged").id for _ in range(5)]
    query = JobQuery(registry="paged")
    first = bench.jobs.page(query, 2, None)
    assert [job.id for job in first] == made[:2:-1]
    rest = bench.jobs.page(query, 10, first[-1].id)
    assert [job.id for job in rest] == made[2::-1]
    bench.ended(*rest)


def test_the_list_is_filtered(bench: Bench) -> None:
    one = bench.submit(registry="f1", container="c1")
    two = bench.submit("bulk", registry="f2")
    bench.ended(one, two)
    for query, expected in (
        (JobQuery(registry="f1"), [one]),
        (JobQuery(container="c1"), [one]),
        (JobQuery(registries=("f1", "f2")), [two, one]),
        (JobQuery(kind="bulk", registries=("f1", "f2")), [two]),
        (JobQuery(state="queued", registries=("f1", "f2")), []),
        (JobQuery(state="succeeded", registries=("f1",)), [one]),
    ):
        found = bench.jobs.page(query, 10, None)
        assert [job.id for job in found] == [job.id for job in expected]


def test_large_results_are_left_out_of_lists(bench: Bench) -> None:
    job = bench.ended(bench.submit(registry="large", result={"text": "x" * 70_000}))
    assert job.result == {"text": "x" * 70_000}
    small = bench.ended(bench.submit(registry="large", result={"text": "y"}))
    found = bench.jobs.page(JobQuery(registry="large"), 10, None)
    assert [one.result for one in found] == [small.result, None]


def test_old_jobs_are_found_and_forgotten(bench: Bench) -> None:
    bench.world.engine_is_down.set()
    left = bench.ended(bench.submit(compensate=[["start-again", HERE]], fail="known"))
    gone = bench.ended(bench.submit(lines=1))
    waiting = bench.submit(gate="old", exclusive="old")
    soon = datetime.now(UTC) + timedelta(minutes=1)
    found = bench.records.expired(soon, 1000)
    assert gone.id in found
    assert left.id not in found
    assert waiting.id not in found
    assert bench.records.expired(gone.created_at - timedelta(days=1), 1000) == []
    bench.records.forget([gone.id])
    with pytest.raises(JobUnknown):
        bench.jobs.log(gone.id, 0, 10)
    assert bench.jobs.get(left.id) == left
    bench.world.gates["old"].set()
    bench.ended(waiting)


def test_who_has_waited_longest(bench: Bench) -> None:
    blocking = bench.submit(exclusive="oldest", gate="oldest")
    bench.begun(blocking.id)
    assert bench.jobs.figures().oldest_queued is None
    waiting = bench.submit(exclusive="oldest")
    bench.submit(exclusive="oldest")
    assert bench.jobs.figures().oldest_queued == waiting.created_at
    bench.world.gates["oldest"].set()
    bench.ended(blocking, waiting)


def quiet(bench: Bench) -> Figures:
    """The figures once all that earlier tests began has ended."""
    unended: tuple[JobState, ...] = ("queued", "running")
    bench.go()
    wait_for(lambda: not any(bench.records.unended(state, 1) for state in unended), "quiet")
    return bench.jobs.figures()


def more(before: Figures, after: Figures) -> dict[tuple[str, JobState], int]:
    change = {key: count - before.counts[key] for key, count in after.counts.items()}
    return {key: count for key, count in change.items() if count}


def test_jobs_are_counted_by_kind_and_state(bench: Bench) -> None:
    before = quiet(bench)
    kinds = ("plain", "single", "bulk")
    assert {(kind, state) for kind in kinds for state in STATES} == set(before.counts)
    running = bench.submit(exclusive="counted", gate="counted")
    bench.begun(running.id)
    waiting = bench.submit("single", exclusive="counted")
    bench.cancel(bench.submit(exclusive="counted"))
    expected = {("plain", "running"): 1, ("single", "queued"): 1, ("plain", "cancelled"): 1}
    assert more(before, bench.jobs.figures()) == expected
    bench.world.gates["counted"].set()
    bench.ended(running, waiting, bench.submit("bulk", fail="known"))
    ends = {("plain", "cancelled"), ("plain", "succeeded"), ("single", "succeeded")}
    assert more(before, bench.jobs.figures()) == dict.fromkeys(ends | {("bulk", "failed")}, 1)


def test_what_has_ended_is_counted_though_it_is_forgotten(bench: Bench) -> None:
    before = quiet(bench)
    freed = bench.ended(bench.submit(registry="counted", result={"bytes_freed": 2**40}))
    for result in (
        {"bytes_freed": 2**40},
        {"bytes_freed": None},
        {"bytes_freed": 9, "dry_run": True},
    ):
        bench.ended(bench.submit(registry="counted", result=result))
    bench.records.forget([freed.id])
    after = bench.jobs.figures()
    assert more(before, after) == {("plain", "succeeded"): 4}
    assert after.bytes_freed == {**before.bytes_freed, "counted": 2**41}
