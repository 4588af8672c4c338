"""The one place where what an engine refuses, or does not answer, becomes an error of the rules."""

from __future__ import annotations

import errno
import re
from collections.abc import Iterator

from service.domain.errors import (
    ContainerNameTaken,
    ContainerNotRunning,
    ContainerUnknown,
    EngineRefused,
    EngineUnreachable,
    ImageUnknown,
    PushFailed,
    RegistryAdminError,
    RegistryReadOnly,
    RegistryTlsUntrusted,
    RegistryUnauthorized,
    RegistryUnreachable,
    shown,
)

REASON_LIMIT = 300
"""Most characters that are passed on of what an engine says."""

REFUSALS: tuple[tuple[int, str, type[RegistryAdminError]], ...] = (
    (404, "no such container", ContainerUnknown),
    (404, "no such image", ImageUnknown),
    (409, "already in use by container", ContainerNameTaken),
    (409, "is not running", ContainerNotRunning),
    (409, "is paused", ContainerNotRunning),
    (409, "is restarting", ContainerNotRunning),
)
"""Status, words of the message, what it means. Engine 20.10 to 29; all else is EngineRefused."""

PUSH_FAILURES: tuple[tuple[str, type[RegistryAdminError], str], ...] = (
    (
        r"server gave HTTP response to HTTPS client",
        RegistryTlsUntrusted,
        (
            "The registry speaks plain HTTP. Allow it on the engine's host: add "
            '"insecure-registries": ["{host}"] to /etc/docker/daemon.json, and restart the engine.'
        ),
    ),
    (
        r"x509:|tls: ",
        RegistryTlsUntrusted,
        (
            "The engine itself must trust the registry: put its CA root, as PEM, on the engine's "
            "host at /etc/docker/certs.d/{host}/ca.crt. No restart is needed."
        ),
    ),
    (
        r"unauthorized|authentication required|no basic auth|access.*denied|\b401\b|\b403\b",
        RegistryUnauthorized,
        (
            "The registry refuses the service's credentials for it. Check username and password, "
            "or docker_config, of the registry in the settings, and that they allow to push."
        ),
    ),
    (
        r"\b405\b|operation is unsupported",
        RegistryReadOnly,
        "The registry takes no pushes: it runs read-only, or is a mirror.",
    ),
    (
        r"dial tcp|connection refused|no such host|i/o timeout|connection reset|\bEOF\b",
        RegistryUnreachable,
        "The engine must reach the registry as {host}, from its own host.",
    ),
)
"""Words of an engine whose push failed, what they mean, what to do; all else is PushFailed."""

FILTERED = frozenset({403, 405})
"""How filters in front of an engine refuse a call."""

GATEWAY = frozenset({502, 503, 504})
"""How they say that the engine itself does not answer."""

HINTS = {
    errno.ENOENT: "Is Docker running, and its socket there for the service?",
    errno.ECONNREFUSED: "Is Docker running, and listening there?",
    errno.EACCES: "May the service's user use the socket, as the group docker may?",
}


def refusal(engine: str, status: int, message: str) -> RegistryAdminError:
    """What an error answer means."""
    if status in GATEWAY and "<html" in message.lower():
        return EngineUnreachable(
            f"The engine '{engine}' does not answer the proxy in front of it: status {status}."
        )
    kinds = (k for code, words, k in REFUSALS if code == status and words in message.lower())
    reason = trimmed(message) or f"status {status} without a reason"
    return next(kinds, EngineRefused)(f"The engine '{engine}' refuses: {reason}.")


def filtered(engine: str, call: str, message: str) -> RegistryAdminError:
    """What it means that somebody in front of an engine forbids a call: it forbids none itself."""
    reason = trimmed(message) or "no reason given"
    return EngineRefused(
        f"What is in front of the engine '{engine}' forbids {call}: {reason}. Nothing was changed "
        "by this call. A socket proxy must allow it: deploy/socket-proxy lists what is needed."
    )


def push_failure(engine: str, host: str, message: str) -> RegistryAdminError:
    """What it means that an engine could not push to ``host``."""
    rows = ((k, hint) for words, k, hint in PUSH_FAILURES if re.search(words, message))
    kind, hint = next(rows, (PushFailed, "Its log may tell more."))
    reason = trimmed(message) or "no reason given"
    return kind(
        f"The engine '{engine}' could not push to {host}: {reason}. {hint.format(host=host)} "
        "No tag was changed."
    )


def unreachable(engine: str, url: str, error: BaseException) -> EngineUnreachable:
    """What a call that got no answer means."""
    causes = [one for one in _chain(error) if isinstance(one, OSError) and one.errno]
    hint = HINTS.get(causes[0].errno or 0, "") if causes else ""
    reason = causes[0].strerror if causes else trimmed(str(error)) or type(error).__name__
    sentence = f"The engine '{engine}' at {url} does not answer: {reason}."
    return EngineUnreachable(f"{sentence} {hint}".strip())


def trimmed(message: str) -> str:
    """An engine's message on one line, printable, at most REASON_LIMIT characters."""
    return shown(re.sub(r"\s+", " ", message).strip(" ."), REASON_LIMIT)


def _chain(error: BaseException) -> Iterator[BaseException]:
    """An error and what it came from, the innermost first."""
    inner = error.__cause__ or error.__context__
    if inner is not None:
        yield from _chain(inner)
    yield from (one for one in error.args if isinstance(one, BaseException))
    yield error
