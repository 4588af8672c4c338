"""Other servers a registry points at: its token server, and the storage of its blobs."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable

from service.adapters.registry.origin import Origin
from service.adapters.registry.retry import Retrier
from service.adapters.registry.transport import Answer, Request, Transport

KEPT_TRANSPORTS = 8


class Elsewhere:
    """Sends requests to any origin, with connections kept to a few. Safe between threads."""

    def __init__(self, make: Callable[[Origin], Transport], retrier: Retrier) -> None:
        """``make`` builds the transport of an origin."""
        self._make = make
        self._retrier = retrier
        self._mutex = threading.Lock()
        self._transports: OrderedDict[Origin, Transport] = OrderedDict()

    def send(self, url: str, request: Request, authorization: str | None = None) -> Answer:
        """Send to the origin of ``url``, a GET several times; raise UpstreamFailed."""
        transport = self._transport(Origin.of(url))
        return self._retrier.run(request.method, lambda: transport.send(request, authorization))

    def close(self) -> None:
        """Close idle connections."""
        with self._mutex:
            for transport in self._transports.values():
                transport.close()

    def _transport(self, origin: Origin) -> Transport:
        with self._mutex:
            transport = self._transports.pop(origin, None) or self._make(origin)
            self._transports[origin] = transport
            while len(self._transports) > KEPT_TRANSPORTS:
                _, oldest = self._transports.popitem(last=False)
                oldest.close()
            return transport
