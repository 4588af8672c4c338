"""What can go wrong between us and a server, as errors of the domain: one function for all."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http.client import HTTPException, IncompleteRead

from urllib3 import exceptions as urllib3

from service.adapters.registry.origin import Origin
from service.domain.errors import (
    RegistryAnswerInvalid,
    RegistryTimeout,
    RegistryTlsUntrusted,
    RegistryUnauthorized,
    RegistryUnreachable,
    UpstreamFailed,
)

SAFE_METHODS = frozenset({"GET", "HEAD"})
FAILURES = (urllib3.HTTPError, HTTPException, OSError, UnicodeError)
"""Everything urllib3, http.client and the socket raise; a host's name, UnicodeError."""

UNSENT = "Nothing was changed."

_OTHER_NAME = "Use a URL with a name that the certificate has, or a certificate with this name."
_TLS_ADVICE = {
    9: "Check the clocks of both machines.",
    10: "Renew the registry's certificate.",
    62: _OTHER_NAME,
    64: _OTHER_NAME,
}
"""What to do by OpenSSL's X509_V_ERR_*: not yet valid, expired, other host, other address."""


class AnswerBrokenOff(RegistryAnswerInvalid):
    """The connection ended in the middle of an answer."""


@dataclass(frozen=True, slots=True)
class Attempted:
    """What was being tried: ``advice`` is the file to add where TLS is not trusted.

    ``answering``: the status and headers had come already.
    """

    origin: Origin
    method: str
    advice: str = ""
    answering: bool = False

    @property
    def outcome(self) -> str:
        """What is known of the effect once the request may have arrived."""
        if self.method in SAFE_METHODS:
            return UNSENT
        return "Whether the change was made is not known: look before trying again."


def convert(error: Exception, tried: Attempted) -> UpstreamFailed:
    """Return the domain's error for whatever sending or receiving raised."""
    causes = tuple(_causes(error))
    for kinds, tell in _TABLE:
        found = next((cause for cause in causes if isinstance(cause, kinds)), None)
        if found is not None:
            return tell(found, tried)
    return _unreachable(error, tried)


def _causes(error: BaseException) -> Iterator[BaseException]:
    """Yield the error and what it wraps, as urllib3 wraps: among the arguments."""
    yield error
    for argument in error.args:
        if isinstance(argument, BaseException):
            yield from _causes(argument)


def _untrusted(error: BaseException, tried: Attempted) -> UpstreamFailed:
    reason = getattr(error, "verify_message", None) or "certificate verify failed"
    advice = _TLS_ADVICE.get(getattr(error, "verify_code", 0), tried.advice)
    return RegistryTlsUntrusted(
        f"The certificate of {tried.origin} is not trusted: {reason.rstrip('.')}. {UNSENT} {advice}"
    )


def _tls_failed(error: BaseException, tried: Attempted) -> UpstreamFailed:
    reason = str(getattr(error, "reason", None) or "handshake failed").replace("_", " ").lower()
    if "certificate required" in reason or "bad certificate" in reason:
        return RegistryUnauthorized(
            f"{tried.origin} wants a client certificate that it trusts ({reason}). "
            f"{UNSENT} Put NAME.cert and NAME.key beside its ca.crt. {tried.advice}"
        )
    return RegistryUnreachable(
        f"No TLS connection to {tried.origin}: {reason}. {UNSENT} "
        "Check that the URL's scheme and port are those the registry serves."
    )


def _not_connected(error: BaseException, tried: Attempted) -> UpstreamFailed:
    reason = next((cause for cause in _contexts(error) if isinstance(cause, OSError)), None)
    told = reason.strerror if reason is not None and reason.strerror else "no connection"
    return RegistryUnreachable(
        f"{tried.origin} cannot be reached: {told}. {UNSENT} "
        "Check that the registry runs and that its URL is right."
    )


def _contexts(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _connecting_took_too_long(_error: BaseException, tried: Attempted) -> UpstreamFailed:
    return RegistryTimeout(f"{tried.origin} did not take a connection in time. {UNSENT}")


def _answering_took_too_long(_error: BaseException, tried: Attempted) -> UpstreamFailed:
    whole = " to the end" if tried.answering else ""
    return RegistryTimeout(f"{tried.origin} did not answer{whole} in time. {tried.outcome}")


def _senseless(_error: BaseException, tried: Attempted) -> UpstreamFailed:
    return RegistryAnswerInvalid(f"What {tried.origin} answers is not HTTP. {tried.outcome}")


def _unreachable(_error: BaseException, tried: Attempted) -> UpstreamFailed:
    if tried.answering:
        return AnswerBrokenOff(
            f"{tried.origin} broke off in the middle of its answer. {tried.outcome}"
        )
    return RegistryUnreachable(
        f"The connection to {tried.origin} broke before an answer came. {tried.outcome}"
    )


_Tell = Callable[[BaseException, Attempted], UpstreamFailed]
_TABLE: tuple[tuple[tuple[type[BaseException], ...], _Tell], ...] = (
    ((ssl.SSLCertVerificationError,), _untrusted),
    ((ssl.SSLEOFError, ssl.SSLZeroReturnError), _unreachable),
    ((ssl.SSLError,), _tls_failed),
    ((urllib3.ProxyError, urllib3.NewConnectionError), _not_connected),
    ((urllib3.ConnectTimeoutError,), _connecting_took_too_long),
    ((urllib3.TimeoutError, TimeoutError), _answering_took_too_long),
    # A connection that is closed at once is a status line that never came, to http.client.
    ((IncompleteRead, ConnectionError), _unreachable),
    ((HTTPException,), _senseless),
)
"""The first row that fits decides, so what is special stands before what is general."""
