"""The port ``BlobCache`` over Redis, as registries of distribution 2.x and 3.x use it.

They keep what they know of blobs under ``blobs::<digest>`` and ``repository::<name>::blobs...``.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

from redis import Redis, RedisError
from redis import exceptions as failures
from redis.backoff import NoBackoff
from redis.retry import Retry

from service.domain.errors import CacheUnreachable
from service.domain.reference import Digest, Repository

CONNECT_SECONDS = 5.0
READ_SECONDS = 10.0
FORGET_SECONDS = 600.0
"""How long all of it may take: a registry is down meanwhile."""

BATCH = 1000
FAMILIES = ("blobs::*", "repository::*")
NO_KEY = "blobs::registry-admin"
"""No registry has a key of this name, since it is no digest."""

REASONS: tuple[tuple[type[Exception], str], ...] = (
    (failures.AuthenticationError, "refuses the credentials of redis_url"),
    (failures.NoPermissionError, "does not let the user of redis_url remove keys"),
    (failures.ReadOnlyError, "is a replica, from which nothing can be removed"),
    (failures.TimeoutError, "does not answer in time"),
    (failures.ConnectionError, "cannot be reached"),
)
"""The first one that fits: some are of the kinds below them."""


class RedisCache:
    """What a registry keeps in one database of a Redis. Nothing is connected before it is asked."""

    def __init__(self, url: str) -> None:
        """Reach it at ``url``: ``redis://[user:password@]host[:port][/database]``."""
        self._place = urlsplit(url).netloc.rpartition("@")[2]
        self._url = url

    def check(self) -> None:
        """See the port: it is asked to remove what is not there."""
        with self._client() as client:
            client.scan(match=NO_KEY, count=1)
            client.unlink(NO_KEY)

    def holds(self, repository: Repository, digest: Digest) -> bool:
        """See the port."""
        with self._client() as client:
            keys = (f"blobs::{digest}", f"repository::{repository}::blobs::{digest}")
            return client.exists(*keys) > 0

    def forget(self) -> int:
        """See the port."""
        deadline = time.monotonic() + FORGET_SECONDS
        with self._client() as client:
            return sum(_remove(client, family, deadline) for family in FAMILIES)

    @contextmanager
    def _client(self) -> Iterator[Redis]:
        # An attempt that fails is not made again here: whoever asks knows whether there is time.
        client = Redis.from_url(
            self._url,
            socket_connect_timeout=CONNECT_SECONDS,
            socket_timeout=READ_SECONDS,
            retry=Retry(NoBackoff(), 0),
        )
        try:
            with client:
                yield client
        except RedisError as error:
            raise CacheUnreachable(
                f"The Redis at {self._place}, in which the registry caches what it knows of blobs, "
                f"{_reason(error)}. Look at it, and at the registry's setting redis_url."
            ) from error


def _remove(client: Redis, pattern: str, deadline: float) -> int:
    """Remove keys; give how many. UNLINK frees their memory aside, so that others are served."""
    removed, cursor = 0, 0
    while True:
        cursor, keys = client.scan(cursor, match=pattern, count=BATCH)
        if keys:
            removed += client.unlink(*keys)
        if cursor == 0:
            return removed
        if time.monotonic() > deadline:
            raise failures.TimeoutError


def _reason(error: RedisError) -> str:
    return next((words for kind, words in REASONS if isinstance(error, kind)), "refuses to do so")
