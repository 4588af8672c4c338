from __future__ import annotations

import pytest

from service.adapters.registry.failures import AnswerBrokenOff
from service.adapters.registry.retry import Outcome, Retrier, RetryPolicy, retry_after
from service.adapters.registry.transport import Answer
from service.domain.errors import (
    RegistryAnswerInvalid,
    RegistryTimeout,
    RegistryTlsUntrusted,
    RegistryUnauthorized,
    RegistryUnreachable,
    UpstreamFailed,
)
from tests.unit.adapters.registry.support import Time

DOWN = RegistryUnreachable("down")


def answer(status: int, **headers: str) -> Answer:
    return Answer(status, {name.replace("_", "-"): value for name, value in headers.items()}, b"")


class Script:
    """Ends as scripted, one outcome a try; the last one goes on."""

    def __init__(self, *outcomes: Outcome) -> None:
        self.outcomes = outcomes
        self.tries = 0

    def __call__(self) -> Answer:
        outcome = self.outcomes[min(self.tries, len(self.outcomes) - 1)]
        self.tries += 1
        if isinstance(outcome, UpstreamFailed):
            raise outcome
        return outcome


def test_what_works_is_not_repeated(retrier: Retrier, time: Time) -> None:
    script = Script(answer(200))
    assert retrier.run("GET", script).status == 200
    assert (script.tries, time.slept) == (1, [])


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize(
    "failure",
    [DOWN, RegistryTimeout("slow"), AnswerBrokenOff("half"), *map(answer, (429, 502, 503, 504))],
)
def test_reading_is_tried_again(retrier: Retrier, method: str, failure: Outcome) -> None:
    script = Script(failure, failure, answer(200))
    assert retrier.run(method, script).status == 200
    assert script.tries == 3


@pytest.mark.parametrize("method", ["PUT", "DELETE", "POST", "PATCH"])
@pytest.mark.parametrize("failure", [DOWN, answer(429), answer(503)])
def test_writing_never_is(retrier: Retrier, time: Time, method: str, failure: Outcome) -> None:
    script = Script(failure, answer(200))
    if isinstance(failure, UpstreamFailed):
        with pytest.raises(RegistryUnreachable):
            retrier.run(method, script)
    else:
        assert retrier.run(method, script) == failure
    assert (script.tries, time.slept) == (1, [])


@pytest.mark.parametrize(
    "failure",
    [RegistryAnswerInvalid("odd"), RegistryTlsUntrusted("ca"), RegistryUnauthorized("no")],
)
def test_what_will_not_pass_is_not_tried_again(retrier: Retrier, failure: UpstreamFailed) -> None:
    script = Script(failure)
    with pytest.raises(type(failure)):
        retrier.run("GET", script)
    assert script.tries == 1


@pytest.mark.parametrize("status", [200, 304, 400, 401, 403, 404, 405, 501])
def test_what_was_answered_for_good_is_not_tried_again(retrier: Retrier, status: int) -> None:
    script = Script(answer(status))
    retrier.run("GET", script)
    assert script.tries == 1


def test_a_500_is_tried_twice(retrier: Retrier) -> None:
    script = Script(answer(500))
    assert retrier.run("GET", script).status == 500
    assert script.tries == 2


def test_tries_come_to_an_end(retrier: Retrier, time: Time) -> None:
    script = Script(DOWN)
    with pytest.raises(RegistryUnreachable):
        retrier.run("GET", script)
    assert script.tries == 4
    assert sum(time.slept) <= RetryPolicy().total


def test_pauses_grow_and_are_spread() -> None:
    policy = RetryPolicy(first=0.1, longest=100.0, total=100.0)
    pauses = [policy.pause(DOWN, made, 0.0, jitter, 0.0) for made in (1, 2, 3) for jitter in (0, 1)]
    assert pauses == pytest.approx([0.05, 0.15, 0.1, 0.3, 0.2, 0.6])


def test_retry_after_is_heeded(retrier: Retrier, time: Time) -> None:
    retrier.run("GET", Script(answer(429, Retry_After="2"), answer(200)))
    assert time.slept == [2.0]


def test_retry_after_is_capped(retrier: Retrier, time: Time) -> None:
    retrier.run("GET", Script(answer(429, Retry_After="3600"), answer(200)))
    assert time.slept == [RetryPolicy().longest]


def test_all_pauses_together_are_bounded(retrier: Retrier, time: Time) -> None:
    script = Script(answer(429, Retry_After="3600"))
    assert retrier.run("GET", script).status == 429
    assert sum(time.slept) <= RetryPolicy().total
    assert script.tries == 3


def test_no_pause_begins_when_the_time_is_up(time: Time, retrier: Retrier) -> None:
    def slow() -> Answer:
        time.now += 30
        raise RegistryTimeout("slow")

    with pytest.raises(RegistryTimeout):
        retrier.run("GET", slow)
    assert time.slept == []


NOW = 784111777.0  # Sun, 06 Nov 1994 08:49:37 GMT


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0", 0.0),
        (" 12 ", 12.0),
        ("Sun, 06 Nov 1994 08:49:47 GMT", 10.0),
        ("Sun, 06 Nov 1994 08:49:47 -0000", 10.0),
        ("Sun, 06 Nov 1994 08:49:07 GMT", 0.0),
        ("", None),
        ("-5", None),
        ("soon", None),
        ("1.5", None),
        ("9" * 500, 999999999.0),
    ],
)
def test_retry_after_is_seconds_or_a_date(text: str, seconds: float | None) -> None:
    assert retry_after({"Retry-After": text}, NOW) == seconds
