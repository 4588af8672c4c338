"""Bearer tokens of a token server: fetched once for each scope, kept until shortly before the end.

Protocol: https://distribution.github.io/distribution/spec/auth/token/, and for identity tokens
https://distribution.github.io/distribution/spec/auth/oauth/.
"""

from __future__ import annotations

import json
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple
from urllib.parse import urlencode

from service.adapters.registry.credentials import Credentials, Login
from service.adapters.registry.origin import Origin, target_of
from service.adapters.registry.transport import Answer, Request
from service.domain.errors import RegistryAnswerInvalid, RegistryUnauthorized

TOKEN_LIMIT = 256 * 1024
DEFAULT_LIFETIME = 60.0
LONGEST_LIFETIME = 3600.0
KEPT_TOKENS = 2000
CLIENT_ID = "registry-admin"

Send = Callable[[str, Request, str | None], Answer]
"""Sends a request to a URL, with an ``Authorization``; repeats a GET as far as makes sense."""


class Wanted(NamedTuple):
    """What a token is for: the challenge's realm and service, and our scope."""

    realm: str
    service: str
    scope: str


@dataclass(frozen=True, slots=True)
class Token:
    """A token and the moment (monotonic seconds) from which a new one is fetched instead."""

    value: str = field(repr=False)
    renew_at: float


@dataclass(slots=True)
class _Slot:
    """The place of one token: whoever holds the mutex fetches, the others wait for it."""

    mutex: threading.Lock = field(default_factory=threading.Lock)
    token: Token | None = None


class TokenSource:
    """Tokens by what they are for. Safe to share between threads."""

    def __init__(
        self,
        send: Send,
        credentials: Credentials,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """Fetch with ``send``, as the user of ``credentials``."""
        self._send = send
        self._credentials = credentials
        self._monotonic = monotonic
        self._mutex = threading.Lock()
        self._slots: OrderedDict[Wanted, _Slot] = OrderedDict()

    def token(self, wanted: Wanted) -> str:
        """Return a token that is good for a while.

        Raise RegistryUnauthorized when the token server refuses us, other UpstreamFailed when
        it does not answer, or senselessly.
        """
        slot = self._slot(wanted)
        token = slot.token
        if token and self._monotonic() < token.renew_at:
            return token.value
        with slot.mutex:
            token = slot.token
            if token is None or self._monotonic() >= token.renew_at:
                token = slot.token = self._fetch(wanted)
            return token.value

    def drop(self, wanted: Wanted, refused: str) -> None:
        """Forget a token that the registry refused, unless another has replaced it already."""
        slot = self._slot(wanted)
        with slot.mutex:
            if slot.token and slot.token.value == refused:
                slot.token = None

    def _slot(self, wanted: Wanted) -> _Slot:
        with self._mutex:
            slot = self._slots.pop(wanted, None) or _Slot()
            self._slots[wanted] = slot
            while len(self._slots) > KEPT_TOKENS:
                self._slots.popitem(last=False)
            return slot

    def _fetch(self, wanted: Wanted) -> Token:
        login = self._credentials.login()
        asked_at = self._monotonic()
        if login and login.identity_token:
            answer = self._send(wanted.realm, _oauth_request(wanted, login), None)
        else:
            answer = self._send(
                wanted.realm, _token_request(wanted, login), login.basic if login else None
            )
        document = _document(answer, wanted.realm, login)
        return Token(_value(document, wanted.realm), asked_at + _usable_seconds(document))


def _token_request(wanted: Wanted, login: Login | None) -> Request:
    query = {"service": wanted.service, "scope": wanted.scope}
    if login:
        query |= {"account": login.username, "client_id": CLIENT_ID}
    target = target_of(wanted.realm)
    joint = "&" if "?" in target else "?"
    text = urlencode([(key, value) for key, value in query.items() if value])
    return Request("GET", f"{target}{joint}{text}" if text else target, limit=TOKEN_LIMIT)


def _oauth_request(wanted: Wanted, login: Login) -> Request:
    form = {
        "grant_type": "refresh_token",
        "service": wanted.service,
        "client_id": CLIENT_ID,
        "scope": wanted.scope,
        "refresh_token": login.secret,
    }
    return Request(
        "POST",
        target_of(wanted.realm),
        headers={"Content-Type": "application/x-www-form-urlencoded"},
        body=urlencode(form).encode(),
        limit=TOKEN_LIMIT,
    )


def _document(answer: Answer, realm: str, login: Login | None) -> Mapping[str, Any]:
    server = Origin.of(realm)
    if answer.status in {400, 401, 403}:
        who = f"the user {login.username} ({login.source})" if login else "anonymous access"
        raise RegistryUnauthorized(
            f"The token server {server} refuses {who}: status {answer.status}. "
            "Nothing was changed. Check the registry's credentials in the settings."
        )
    if not answer.succeeded:
        raise _senseless(server, f"status {answer.status}")
    try:
        document = json.loads(answer.body)
    except (ValueError, RecursionError):
        raise _senseless(server, "no JSON") from None
    return document if isinstance(document, dict) else {}


def _value(document: Mapping[str, Any], realm: str) -> str:
    value = document.get("token") or document.get("access_token")
    # A token goes into a header: whatever could end that header is no token.
    if isinstance(value, str) and value.isascii() and value.isprintable():
        return value
    raise _senseless(Origin.of(realm), "no token")


def _usable_seconds(document: Mapping[str, Any]) -> float:
    """Return the lifetime less what a request with the token may take at most."""
    stated = document.get("expires_in")
    lifetime = DEFAULT_LIFETIME
    if isinstance(stated, int | float) and not isinstance(stated, bool) and stated > 0:
        lifetime = min(float(stated), LONGEST_LIFETIME)
    return lifetime - min(10.0, lifetime / 4)


def _senseless(server: Origin, what: str) -> RegistryAnswerInvalid:
    return RegistryAnswerInvalid(
        f"The token server {server} answers {what} where a token was asked for. "
        "Nothing was changed."
    )
