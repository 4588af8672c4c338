"""Names of things in a registry: parsed once at the door, typed from then on.

The grammars are those of the OCI Distribution Specification 1.1, "Pulling manifests".
"""

from __future__ import annotations

import hashlib
import re
from typing import Self

from service.domain.errors import InvalidDigest, InvalidRepositoryName, InvalidTag

_COMPONENT = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_REPOSITORY = re.compile(rf"{_COMPONENT}(?:/{_COMPONENT})*")
_TAG = re.compile(r"[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}")
_SHA256 = re.compile(r"sha256:[a-f0-9]{64}")
_LISTED = re.compile(r"sha256:[a-f0-9]{64}|sha512:[a-f0-9]{128}")
REPOSITORY_LIMIT = 255
"""Most characters of a repository name; the limit of the reference implementation."""


class Repository(str):
    """A repository name, such as ``team/app``: at most 255 characters, OCI grammar."""

    __slots__ = ()

    @classmethod
    def parse(cls, text: str) -> Self:
        """Return ``text`` as a repository name; raise InvalidRepositoryName."""
        if len(text) > REPOSITORY_LIMIT or not _REPOSITORY.fullmatch(text):
            raise InvalidRepositoryName(text)
        return cls(text)


class Tag(str):
    """A tag, such as ``1.2``: at most 128 characters."""

    __slots__ = ()

    @classmethod
    def parse(cls, text: str) -> Self:
        """Return ``text`` as a tag; raise InvalidTag."""
        if not _TAG.fullmatch(text):
            raise InvalidTag(text)
        return cls(text)


class Digest(str):
    """A content digest, ``sha256:`` and 64 hexadecimal digits."""

    __slots__ = ()

    @classmethod
    def parse(cls, text: str) -> Self:
        """Return ``text`` as a digest; raise InvalidDigest. Only sha256 is addressable here."""
        if not _SHA256.fullmatch(text):
            raise InvalidDigest(text)
        return cls(text)

    @classmethod
    def listed(cls, text: str) -> Self:
        """Return a digest named inside a manifest, where sha512 is allowed as well."""
        if not _LISTED.fullmatch(text):
            raise InvalidDigest(text)
        return cls(text)

    @classmethod
    def of(cls, body: bytes) -> Self:
        """Return the sha256 digest of ``body``."""
        return cls("sha256:" + hashlib.sha256(body).hexdigest())

    @property
    def hex(self) -> str:
        """The hexadecimal digits without the algorithm."""
        return self.partition(":")[2]

    def matches(self, body: bytes) -> bool:
        """Tell whether ``body`` hashes to this digest."""
        return hashlib.new(self.partition(":")[0], body).hexdigest() == self.hex


def parse_reference(text: str) -> Tag | Digest:
    """Return a tag or a digest; raise InvalidTag or InvalidDigest. A tag holds no colon."""
    return Digest.parse(text) if ":" in text else Tag.parse(text)
