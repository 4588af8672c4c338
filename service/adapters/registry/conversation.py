"""Talking to one registry: logged in, repeated as far as makes sense, not too much at once."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from contextlib import closing
from http import HTTPStatus

from service.adapters.registry.auth import Authenticator
from service.adapters.registry.retry import Retrier, most_tries
from service.adapters.registry.transport import Answer, Request, Transport
from service.adapters.registry.turns import Turns
from service.adapters.registry.volley import Volley
from service.domain.concurrency import spread
from service.domain.errors import UpstreamFailed

LOGIN_ROUNDS = 3
"""Without a token, with one that has expired meanwhile, and with the scope that was named."""

VOLLEYS = 3
"""Without a token, with one, and another where something passed by; then each for itself."""

log = logging.getLogger(__name__)


class Conversation:
    """Sends requests to one registry. Safe to share between threads."""

    def __init__(
        self, transport: Transport, auth: Authenticator, retrier: Retrier, concurrency: int
    ) -> None:
        """Have at most ``concurrency`` requests under way at a time."""
        self.origin = transport.origin
        self._transport = transport
        self._auth = auth
        self._retrier = retrier
        self._turns = Turns(transport.origin, concurrency)

    def ask(self, request: Request) -> Answer:
        """Send, a GET or HEAD several times if need be; any status but 401 is an answer.

        Raise UpstreamFailed, RegistryUnauthorized for a 401.
        """
        return self._retrier.run(request.method, lambda: self.ask_once(request))

    def ask_once(self, request: Request) -> Answer:
        """Send, and log in if asked to."""
        for _ in range(LOGIN_ROUNDS):
            authorization = self._auth.authorization(request.scope)
            self._turns.take()
            try:
                answer = self._transport.send(request, authorization)
            finally:
                self._turns.give_back()
            if answer.status != HTTPStatus.UNAUTHORIZED:
                return answer
            self._auth.learn(answer, request.scope, authorization)
        raise self._auth.refused()

    def ask_each(self, requests: Sequence[Request], take: Callable[[int, Answer], None]) -> None:
        """Ask many reads, several at a time; ``take`` gets each answer with its request's index.

        Raise what :meth:`ask` does for one of them, or what ``take`` does; then some are not asked.
        """
        waiting = dict(enumerate(requests))
        for _ in range(VOLLEYS):
            index = self._volley(waiting, take)
            if index is None:
                return
            # It logs in, or waits as long as it takes, for the others too.
            take(index, self.ask(waiting.pop(index)))
        self._one_by_one(waiting, take)

    def close(self) -> None:
        """Close idle connections."""
        self._transport.close()

    def _volley(
        self, waiting: dict[int, Request], take: Callable[[int, Answer], None]
    ) -> int | None:
        """Hand answers over, and take their requests off ``waiting``, as long as all goes well.

        Return which request stopped it, None when all are answered.
        """
        volley = Volley(self._transport, self._auth.authorization, self._turns)
        with closing(volley.run(dict(waiting))) as answers:
            while waiting:
                try:
                    index, answer = next(answers)
                except UpstreamFailed as error:
                    log.debug("asking with patience: %s", error)
                    return next(iter(waiting))
                if answer.status == HTTPStatus.UNAUTHORIZED or most_tries(answer) > 1:
                    return index
                del waiting[index]
                take(index, answer)
        return None

    def _one_by_one(self, waiting: dict[int, Request], take: Callable[[int, Answer], None]) -> None:
        mutex = threading.Lock()

        def ask(index: int) -> None:
            answer = self.ask(waiting[index])
            with mutex:
                take(index, answer)

        spread(ask, list(waiting))
