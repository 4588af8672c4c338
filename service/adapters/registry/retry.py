"""Whether and when to try again; sending is none of its business."""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from service.adapters.registry.failures import SAFE_METHODS, AnswerBrokenOff
from service.adapters.registry.transport import Answer
from service.domain.errors import RegistryTimeout, RegistryUnreachable, UpstreamFailed

Outcome = Answer | UpstreamFailed

TRIES = 4
TRIES_BY_STATUS: Mapping[int, int] = {429: TRIES, 500: 2, 502: TRIES, 503: TRIES, 504: TRIES}
"""Most tries of what is answered so; a 500 is rarely better the second time."""

_PASSING = (RegistryUnreachable, RegistryTimeout, AnswerBrokenOff)

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """Seconds: the first pause (doubled each time), the longest, and all of it together.

    No pause begins that would end beyond ``total`` since the first try. A server's
    ``Retry-After`` is heeded up to ``longest``.
    """

    first: float = 0.1
    longest: float = 3.0
    total: float = 8.0

    def pause(
        self, outcome: Outcome, made: int, elapsed: float, jitter: float, now: float
    ) -> float | None:
        """Return the seconds to wait before trying again, None when there is no time left.

        ``made``: tries so far, which took ``elapsed`` seconds. ``jitter``: from 0 to 1, so that
        many clients do not come back at once. ``now``: seconds since 1970, for dates.
        """
        backoff = self.first * 2 ** (made - 1) * (0.5 + jitter)
        asked = retry_after(outcome.headers, now) if isinstance(outcome, Answer) else None
        pause = min(max(backoff, asked or 0.0), self.longest)
        return pause if elapsed + pause <= self.total else None


def most_tries(outcome: Outcome) -> int:
    """Return how often what ended so may be tried in all."""
    if isinstance(outcome, Answer):
        return TRIES_BY_STATUS.get(outcome.status, 1)
    return TRIES if isinstance(outcome, _PASSING) else 1


def retry_after(headers: Mapping[str, str], now: float) -> float | None:
    """Read ``Retry-After``, seconds or a date (RFC 9110, 10.2.3), as seconds from ``now``."""
    text = headers.get("Retry-After", "").strip()
    if text.isascii() and text.isdigit():
        return float(text[:9])
    try:
        date = parsedate_to_datetime(text)
    except ValueError:
        return None
    aware = date if date.tzinfo else date.replace(tzinfo=UTC)
    return max(0.0, (aware - datetime.fromtimestamp(now, UTC)).total_seconds())


class Retrier:
    """Carries a policy out."""

    def __init__(
        self,
        policy: RetryPolicy | None = None,
        sleep: Callable[[float], None] = time.sleep,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """Tests give a ``sleep`` and a clock of their own."""
        self._policy = policy or RetryPolicy()
        self._sleep = sleep
        self._monotonic = monotonic

    def run(self, method: str, attempt: Callable[[], Answer]) -> Answer:
        """Try until content: GET and HEAD several times, anything else once.

        Raise the last try's UpstreamFailed, or return its answer whatever the status.
        """
        if method not in SAFE_METHODS:
            return attempt()
        started, made = self._monotonic(), 1
        outcome = _outcome(attempt)
        while made < most_tries(outcome):
            pause = self._pause(outcome, made, started)
            if pause is None:
                break
            log.info("trying again in %.1f s: %s", pause, _told(outcome))
            self._sleep(pause)
            outcome, made = _outcome(attempt), made + 1
        return _settled(outcome)

    def _pause(self, outcome: Outcome, made: int, started: float) -> float | None:
        elapsed = self._monotonic() - started
        jitter = random.random()  # noqa: S311 - spreads clients, no secret
        return self._policy.pause(outcome, made, elapsed, jitter, time.time())


def _outcome(attempt: Callable[[], Answer]) -> Outcome:
    try:
        return attempt()
    except UpstreamFailed as error:
        return error


def _settled(outcome: Outcome) -> Answer:
    if isinstance(outcome, UpstreamFailed):
        raise outcome
    return outcome


def _told(outcome: Outcome) -> str:
    return f"status {outcome.status}" if isinstance(outcome, Answer) else str(outcome)
