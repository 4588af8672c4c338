"""A server's certificate as a handshake shows it, trusted or not."""

from __future__ import annotations

import contextlib
import socket
import ssl
from typing import TYPE_CHECKING

from service.adapters.registry.origin import Origin
from service.adapters.registry.tls import Trust
from service.domain.errors import RegistryTlsUntrusted
from service.domain.ports import TlsState

if TYPE_CHECKING:
    from cryptography.x509 import Certificate


def inspect(origin: Origin, trust: Trust, timeout_seconds: float) -> TlsState:
    """Shake hands, once more without checking when not trusted, and tell what was seen.

    Never raises for a server that does not answer: issuer and end are None then.
    """
    pair = trust.client_pair()
    der, verified = _shown_certificate(origin, trust, timeout_seconds)
    certificate = _parsed(der)
    return TlsState(
        verified=verified,
        issuer=certificate.issuer.rfc4514_string() if certificate else None,
        not_after=certificate.not_valid_after_utc if certificate else None,
        ca_files=tuple(str(path) for path in trust.ca_files()),
        client_cert=str(pair.certificate) if pair else None,
    )


def _shown_certificate(
    origin: Origin, trust: Trust, timeout_seconds: float
) -> tuple[bytes | None, bool | None]:
    with contextlib.suppress(OSError, UnicodeError, RegistryTlsUntrusted):
        return _handshake(origin, trust.context(), timeout_seconds), True
    with contextlib.suppress(OSError, UnicodeError):
        return _handshake(origin, _unverifying(), timeout_seconds), False
    return None, None


def _handshake(origin: Origin, context: ssl.SSLContext, timeout_seconds: float) -> bytes | None:
    address = (origin.host, origin.port)
    with (
        socket.create_connection(address, timeout_seconds) as plain,
        context.wrap_socket(plain, server_hostname=origin.host) as secured,
    ):
        return secured.getpeercert(binary_form=True)


def _unverifying() -> ssl.SSLContext:
    """Only to look at the certificate: nothing is sent over such a connection."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def _parsed(der: bytes | None) -> Certificate | None:
    from cryptography import x509  # noqa: PLC0415 - 8 MiB, which plain HTTP does without

    if der is None:
        return None
    try:
        return x509.load_der_x509_certificate(der)
    except ValueError:
        return None
