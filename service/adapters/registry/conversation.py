"""Talking to one registry: logged in, repeated as far as makes sense, not too much at once."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus

from service.adapters.registry.auth import Authenticator
from service.adapters.registry.retry import Retrier
from service.adapters.registry.transport import Answer, Request, Transport
from service.domain.errors import RegistryTimeout

LOGIN_ROUNDS = 3
"""Without a token, with one that has expired meanwhile, and with the scope that was named."""

TURN_SECONDS = 60.0
"""How long a request waits for others to the same registry to end."""


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
        self._turns = threading.BoundedSemaphore(concurrency)

    def ask(self, request: Request) -> Answer:
        """Send, a GET or HEAD several times if need be; any status but 401 is an answer.

        Raise UpstreamFailed, RegistryUnauthorized for a 401.
        """
        return self._retrier.run(request.method, lambda: self.ask_once(request))

    def ask_once(self, request: Request) -> Answer:
        """Send, and log in if asked to."""
        for _ in range(LOGIN_ROUNDS):
            authorization = self._auth.authorization(request.scope)
            with self._turn():
                answer = self._transport.send(request, authorization)
            if answer.status != HTTPStatus.UNAUTHORIZED:
                return answer
            self._auth.learn(answer, request.scope, authorization)
        raise self._auth.refused()

    def close(self) -> None:
        """Close idle connections."""
        self._transport.close()

    @contextmanager
    def _turn(self) -> Iterator[None]:
        if not self._turns.acquire(timeout=TURN_SECONDS):
            raise RegistryTimeout(
                f"Too many requests to {self.origin} are under way already. Nothing was changed. "
                "Try again, or raise the registry's setting concurrency."
            )
        try:
            yield
        finally:
            self._turns.release()
