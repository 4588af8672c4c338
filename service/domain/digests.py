"""A set of digests for millions of them."""

from __future__ import annotations

from hashlib import sha256

from service.domain.reference import Digest

PREFIX = 2
SHA256 = "sha256:"


class Digests:
    """A set that only grows: 30 bytes a digest and at most some 8 MiB, where a set takes 240.

    Safe between threads: each is added by one call that the interpreter does at once.
    """

    def __init__(self) -> None:
        """Hold none."""
        self._buckets: dict[bytes, bytearray] = {}

    def add(self, digest: Digest) -> None:
        """Hold a digest; one that is there already is better not added again, and does no harm."""
        raw = _raw(digest)
        self._buckets.setdefault(raw[:PREFIX], bytearray()).extend(raw[PREFIX:])

    def __contains__(self, digest: Digest) -> bool:
        """Tell whether a digest is there."""
        raw = _raw(digest)
        bucket, rest = self._buckets.get(raw[:PREFIX], b""), raw[PREFIX:]
        place = bucket.find(rest)
        while place % len(rest) and place >= 0:  # across two digests
            place = bucket.find(rest, place + 1)
        return place >= 0


def _raw(digest: Digest) -> bytes:
    """Give 32 bytes: those of a sha256, and for a longer one those of its own text's."""
    own = digest.startswith(SHA256)
    return bytes.fromhex(digest.hex) if own else sha256(digest.encode()).digest()
