"""Many reads by one thread: sent over several connections, received as the answers come.

With a thread for each read, the threads hinder each other: each waits for the interpreter's lock
after every system call, which doubles what an inventory costs the processor.
"""

from __future__ import annotations

import select
from collections import deque
from collections.abc import Callable, Generator, Mapping

from service.adapters.registry.transport import Answer, Exchange, Request, Transport
from service.adapters.registry.turns import Turns
from service.domain.errors import RegistryTimeout

MOST = 16
"""Reads of one volley under way at a time."""


class Volley:
    """Sends each of many reads once."""

    def __init__(
        self, transport: Transport, authorization: Callable[[str], str | None], turns: Turns
    ) -> None:
        """Take a turn for each read under way; ``authorization`` tells that of a scope."""
        self._transport = transport
        self._authorization = authorization
        self._turns = turns
        self._under_way: dict[int, tuple[int, Exchange]] = {}
        self._poll = select.poll()

    def run(self, requests: Mapping[int, Request]) -> Generator[tuple[int, Answer]]:
        """Yield answers by the keys of their requests, as they come; raise UpstreamFailed.

        When this is closed or raises, what is under way is abandoned.
        """
        waiting = deque(requests.items())
        try:
            while waiting or self._under_way:
                self._send(waiting)
                for descriptor in self._answered():
                    yield self._received(descriptor)
        finally:
            for descriptor in list(self._under_way):
                self._taken(descriptor)[1].abandon()

    def _send(self, waiting: deque[tuple[int, Request]]) -> None:
        """Send until an answer has come: its connection serves again, and none need be opened."""
        while waiting and len(self._under_way) < MOST and self._turn():
            self._begin(*waiting.popleft())
            if self._poll.poll(0):
                return

    def _turn(self) -> bool:
        if self._under_way:  # waiting for others while some wait for us could last
            return self._turns.take_free()
        self._turns.take()
        return True

    def _begin(self, key: int, request: Request) -> None:
        try:
            exchange = self._transport.begin(request, self._authorization(request.scope))
        except BaseException:
            self._turns.give_back()
            raise
        descriptor = exchange.fileno()
        self._under_way[descriptor] = key, exchange
        self._poll.register(descriptor, select.POLLIN)

    def _answered(self) -> list[int]:
        found = self._poll.poll(1000 * self._transport.limits.timeout_seconds)
        if not found:
            raise RegistryTimeout(
                f"{self._transport.origin} did not answer in time. Nothing was changed."
            )
        return [descriptor for descriptor, _ in found]

    def _received(self, descriptor: int) -> tuple[int, Answer]:
        key, exchange = self._taken(descriptor)
        return key, exchange.finish()

    def _taken(self, descriptor: int) -> tuple[int, Exchange]:
        self._poll.unregister(descriptor)
        self._turns.give_back()
        return self._under_way.pop(descriptor)
