"""The digest of a schema1 manifest, which leaves out its signatures.

Format: Docker Image Manifest V2, Schema 1, "Signed Manifests": the signatures stand inside the
document, and each names the length of what was signed and the text that closes it.
"""

from __future__ import annotations

import base64
import binascii
import json

from service.domain.reference import Digest


def schema1_digest(body: bytes) -> Digest:
    """Return the digest of the signed payload, or of all bytes when nothing is signed.

    Raise ValueError when the signature does not describe its payload.
    """
    try:
        signatures = json.loads(body).get("signatures")
        if not signatures:
            return Digest.of(body)
        protected = json.loads(_decoded(signatures[0]["protected"]))
        length, tail = protected["formatLength"], _decoded(protected["formatTail"])
    except (LookupError, TypeError, AttributeError, binascii.Error, RecursionError) as error:
        raise ValueError("no signed manifest") from error
    if not isinstance(length, int) or not 0 <= length <= len(body):
        raise ValueError("no length of a payload")
    return Digest.of(body[:length] + tail)


def _decoded(text: str) -> bytes:
    # JWS leaves the padding of base64url out.
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
