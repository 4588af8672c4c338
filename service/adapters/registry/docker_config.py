"""Who we are to a registry, from what ``docker login`` keeps.

Formats: ``auths``, ``credHelpers`` and ``credsStore`` of
https://docs.docker.com/reference/cli/docker/login/ and the protocol of
https://github.com/docker/docker-credential-helpers.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from service.adapters.registry.credentials import Login, WatchedFile
from service.adapters.registry.origin import Origin
from service.domain.errors import RegistryUnauthorized

HELPER_SECONDS = 15.0
KEPT_SECONDS = 60.0
"""How long to believe what the file and the helpers said, while the file stays as it is."""

IDENTITY_TOKEN_USER = "<token>"  # noqa: S105 - marks a secret as an identity token
_HUB_ALIASES = ("index.docker.io", "docker.io", "registry-1.docker.io")
_HELPER_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_NOT_FOUND = "credentials not found"


class DockerConfig:
    """``config.json``, and the helpers it names."""

    def __init__(self, path: Path, origin: Origin) -> None:
        """Look for ``origin`` in ``path``, the file or the folder that holds it."""
        file = path / "config.json" if path.is_dir() else path
        self._file = WatchedFile(file, KEPT_SECONDS)
        self._names = _names_of(origin)

    def login(self) -> Login | None:
        """Return the login; raise RegistryUnauthorized when file or helper do not answer."""
        return self._file.value(self._parse)

    def _parse(self, text: str) -> Login | None:
        config = _mapping(_json(text, f"The file {self._file.path}"))
        helper = self._helper(config)
        found = self._ask_helper(helper) if helper else None
        return found or self._stored(_mapping(config.get("auths")))

    def _helper(self, config: Mapping[str, Any]) -> str | None:
        helpers = _mapping(config.get("credHelpers"))
        named = next((helpers[name] for name in self._names if name in helpers), None)
        return named or config.get("credsStore")

    def _ask_helper(self, helper: object) -> Login | None:
        for name in self._names:
            login = ask_helper(str(helper), name)
            if login:
                return login
        return None

    def _stored(self, auths: Mapping[str, Any]) -> Login | None:
        source = f"file {self._file.path}"
        bare = {_bare(key): _mapping(entry) for key, entry in auths.items()}
        entry = next((bare[name] for name in self._names if bare.get(name)), None)
        return _login_of(entry, source) if entry else None


def _names_of(origin: Origin) -> tuple[str, ...]:
    hub = origin.host in _HUB_ALIASES
    return (*origin.aliases, *_HUB_ALIASES) if hub else origin.aliases


def _bare(key: str) -> str:
    """Return the host of a key, which may be a URL such as ``https://index.docker.io/v1/``."""
    return key.partition("://")[2].partition("/")[0] if "://" in key else key.partition("/")[0]


def _login_of(entry: Mapping[str, Any], source: str) -> Login | None:
    username, _, password = _decoded(entry.get("auth")).partition(":")
    username = username or str(entry.get("username") or "")
    password = password or str(entry.get("password") or "")
    token = entry.get("identitytoken")
    if token:
        return Login(username, str(token), source, identity_token=True)
    return Login(username, password, source) if username else None


def _decoded(text: object) -> str:
    try:
        return base64.b64decode(str(text or ""), validate=True).decode().rstrip("\0")
    except (binascii.Error, UnicodeDecodeError):
        return ""


def ask_helper(helper: str, server: str) -> Login | None:
    """Ask ``docker-credential-<helper>`` for a server's login; None when it has none.

    Raise RegistryUnauthorized when it cannot be run, fails, or takes longer than 15 seconds.
    """
    program = f"docker-credential-{helper}"
    if not _HELPER_NAME.fullmatch(helper):
        raise _no_help("The credential helper named in Docker's config", "it is no program's name")
    try:
        ended = subprocess.run(  # noqa: S603 - the operator's own program, its name checked
            [program, "get"], input=server, text=True, capture_output=True,
            timeout=HELPER_SECONDS, check=False,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired, UnicodeDecodeError) as error:
        raise _no_help(program, type(error).__name__) from None
    return _helped(program, ended)


def _helped(program: str, ended: subprocess.CompletedProcess[str]) -> Login | None:
    if ended.returncode:
        if _NOT_FOUND in ended.stdout + ended.stderr:
            return None
        raise _no_help(program, f"exit status {ended.returncode}")
    answer = _mapping(_json(ended.stdout, program))
    username, secret = str(answer.get("Username") or ""), str(answer.get("Secret") or "")
    return Login(username, secret, program, identity_token=username == IDENTITY_TOKEN_USER)


def _no_help(program: str, reason: str) -> RegistryUnauthorized:
    return RegistryUnauthorized(
        f"{program} gives no credentials for the registry: {reason}. Nothing was changed. "
        "Check that the program is installed and works for the user the service runs as."
    )


def _json(text: str, whose: str) -> object:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        # Without the cause: its text quotes what was parsed.
        raise RegistryUnauthorized(f"{whose} holds no JSON. Nothing was changed.") from None


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}
