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
    RegistryAdminError,
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

HINTS = {
    errno.ENOENT: "Is Docker running, and its socket there for the service?",
    errno.ECONNREFUSED: "Is Docker running, and listening there?",
    errno.EACCES: "May the service's user use the socket, as the group docker may?",
}


def refusal(engine: str, status: int, message: str) -> RegistryAdminError:
    """What an error answer means."""
    kinds = (k for code, words, k in REFUSALS if code == status and words in message.lower())
    reason = trimmed(message) or f"status {status} without a reason"
    return next(kinds, EngineRefused)(f"The engine '{engine}' refuses: {reason}.")


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
