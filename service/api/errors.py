"""What only a request can get wrong, beside the errors of the rules."""

from __future__ import annotations

from service.domain.errors import InvalidInput, RegistryAdminError, Unauthenticated


class NotFound(InvalidInput):
    """No operation has this path."""

    code = "not-found"


class MethodNotAllowed(InvalidInput):
    """The path exists, but not with this method; the header Allow lists those it has."""

    code = "method-not-allowed"


class BadRequest(InvalidInput):
    """The request is no well-formed HTTP request."""

    code = "bad-request"


class MalformedBody(InvalidInput):
    """The body is no JSON: a syntax error, NaN, a name given twice, or nesting without end."""

    code = "malformed-body"


class MalformedHeader(InvalidInput):
    """A header that the operation reads does not follow its grammar; member `header`."""

    code = "malformed-header"

    def __init__(self, header: str, detail: str) -> None:
        """Name the header and what it should look like."""
        super().__init__(detail, {"header": header})


class ContentTooLarge(InvalidInput):
    """The body is larger than the service reads."""

    code = "content-too-large"


class UnsupportedMediaType(InvalidInput):
    """The body is not sent as `application/json`."""

    code = "unsupported-media-type"


class TokenRefused(Unauthenticated):
    """A token was sent, and it is unknown, expired or revoked."""


class TokenInUse(RegistryAdminError):
    """A token cannot revoke itself: nobody is locked out by a slip."""

    code = "token-in-use"


class ExpiryPassed(RegistryAdminError):
    """The token would have expired already."""

    code = "expiry-passed"


class NotReady(RegistryAdminError):
    """The service itself cannot work; the member `health` says what is down."""

    code = "not-ready"

    @property
    def retry_after(self) -> int | None:
        """Its parts are asked anew every few seconds."""
        return 5
