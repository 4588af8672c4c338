"""Pushing an image: the engine tells of it in lines of JSON, its errors among them."""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

from service.adapters.engine.failures import push_failure
from service.adapters.engine.streams import Lines, Patience, Stream, follow
from service.adapters.engine.transport import Call, Transport, image_path
from service.domain.engine import PushName, RegistryLogin
from service.domain.errors import EngineRefused

SILENT_SECONDS = 600.0
"""How long a push may tell nothing: a registry may be that long at taking a large layer in."""

Message = Mapping[str, Any]


def push(
    transport: Transport,
    name: PushName,
    login: RegistryLogin | None,
    hear: Callable[[Message], None],
    stop: Callable[[], bool],
) -> bool:
    """Push, as ``EngineController.push`` promises. An engine whose client goes stops pushing."""
    host = name.repository.partition("/")[0]
    headers = {"X-Registry-Auth": authorization(login, host)}
    path = image_path(name.repository, "/push")
    call = Call("POST", path, {"tag": name.tag}, None, SILENT_SECONDS, headers)
    failures: list[str] = []

    def take(message: Message) -> None:
        if message.get("error"):
            failures.append(str(message["error"]))
        else:
            hear(message)

    try:
        ended = _followed(transport, call, take, stop)
    except EngineRefused as error:  # said before the first line
        raise push_failure(transport.name, host, error.detail) from error
    if failures:
        raise push_failure(transport.name, host, failures[0])
    return ended


def _followed(
    transport: Transport, call: Call, take: Callable[[Message], None], stop: Callable[[], bool]
) -> bool:
    def parse(_: object, line: bytes) -> None:
        with suppress(ValueError):
            message = json.loads(line)
            if isinstance(message, dict):
                take(message)

    with Stream(transport, call) as stream:
        return follow(stream, Lines("stdout", parse), Patience(stop, math.inf))


def authorization(login: RegistryLogin | None, host: str) -> str:
    """The value of ``X-Registry-Auth``, which an engine wants from nobody in particular, too."""
    said: dict[str, str] = {}
    if login is not None and login.identity_token:
        said = {"identitytoken": login.secret, "serveraddress": host}
    elif login is not None:
        said = {"username": login.username, "password": login.secret, "serveraddress": host}
    return base64.urlsafe_b64encode(json.dumps(said).encode()).decode()
