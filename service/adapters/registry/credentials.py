"""Who we are to a registry, from the settings or a file."""

from __future__ import annotations

import base64
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from service.domain.errors import RegistryUnauthorized


@dataclass(frozen=True, slots=True)
class Login:
    """A user name with its password, or with an identity token in the password's place."""

    username: str
    secret: str = field(repr=False)
    source: str
    identity_token: bool = False

    @property
    def basic(self) -> str:
        """The value of ``Authorization`` for the basic scheme (RFC 7617, in UTF-8)."""
        pair = f"{self.username}:{self.secret}".encode()
        return "Basic " + base64.b64encode(pair).decode()


class Credentials(Protocol):
    """Where a login comes from."""

    def login(self) -> Login | None:
        """Return the login as it is now, None for nobody; raise RegistryUnauthorized."""


class NoCredentials:
    """Nobody in particular."""

    def login(self) -> Login | None:
        """Return None."""
        return None


class FixedLogin:
    """What the settings say."""

    def __init__(self, username: str, password: str) -> None:
        """Keep both."""
        self._login = Login(username, password, "settings")

    def login(self) -> Login | None:
        """Return it."""
        return self._login


class PasswordFile:
    """A password alone in a file, read anew when the file changes."""

    def __init__(self, username: str, path: Path) -> None:
        """Take the password of ``username`` from ``path``, without the line break at its end."""
        self._username = username
        self._file = WatchedFile(path)

    def login(self) -> Login | None:
        """Return the login; raise RegistryUnauthorized when the file cannot be read."""
        return self._file.value(self._parse)

    def _parse(self, text: str) -> Login:
        return Login(self._username, text.rstrip("\r\n"), f"file {self._file.path}")


class WatchedFile:
    """A file's parsed content, parsed again when the file changes or after ``kept`` seconds."""

    def __init__(
        self,
        path: Path,
        kept: float = float("inf"),
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """Watch ``path``."""
        self.path = path
        self._kept = kept
        self._monotonic = monotonic
        self._mutex = threading.Lock()
        self._parsed: tuple[tuple[int, int, int], float, Login | None] | None = None

    def value(self, parse: Callable[[str], Login | None]) -> Login | None:
        """Return what ``parse`` makes of the file; raise RegistryUnauthorized."""
        with self._mutex:
            version = self._version()
            kept = self._parsed
            if kept is None or kept[0] != version or self._monotonic() >= kept[1]:
                login = parse(self._text())
                kept = self._parsed = (version, self._monotonic() + self._kept, login)
            return kept[2]

    def _version(self) -> tuple[int, int, int]:
        try:
            found = self.path.stat()
        except OSError as error:
            raise _unreadable(self.path, error) from error
        return found.st_mtime_ns, found.st_size, found.st_ino

    def _text(self) -> str:
        try:
            return self.path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise _unreadable(self.path, error) from error


def _unreadable(path: Path, error: Exception) -> RegistryUnauthorized:
    reason = getattr(error, "strerror", None) or "it is no text"
    return RegistryUnauthorized(
        f"The file {path} with the registry's credentials cannot be read: {reason}. "
        "Nothing was changed."
    )
