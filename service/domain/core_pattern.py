"""The kernel's ``core_pattern``: where it writes cores, and what they are called (core(5))."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Literal

NUMBERS = frozenset("pPiIugdstcC")
WORDS = frozenset("hefE")
"""Specifiers, by what they become; a slash in a word becomes ``!``."""

_PART = re.compile(r"%(.)|([^%]+)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class CorePattern:
    """The pattern, and whether ``core_uses_pid`` is on."""

    text: str
    uses_pid: bool = False

    @property
    def kind(self) -> Literal["none", "pipe", "absolute", "relative"]:
        """What the kernel does by it."""
        if self.text.startswith("|"):
            return "pipe"
        if not self.text and not self.uses_pid:
            return "none"
        return "absolute" if self.text.startswith("/") else "relative"

    def directory(self, working_directory: str, known: Mapping[str, str]) -> str | None:
        """Where cores go; None where it depends on who crashes.

        ``known`` has the values of those specifiers that are the same for every process.
        """
        folder = self.text.rpartition("/")[0]
        parts = [(one[1], one[2]) for one in _PART.finditer(folder)]
        if any(specifier not in {None, "%", *known} and specifier for specifier, _ in parts):
            return None
        plain = "".join(text or {"%": "%", **known}[specifier] for specifier, text in parts)
        joined = PurePosixPath("/" if self.kind == "absolute" else working_directory) / plain
        return _normal(joined)

    def matches(self, name: str) -> bool:
        """Tell whether a file of that name can be a core that the kernel wrote."""
        parts = _PART.finditer(self.text.rpartition("/")[2])
        pattern = "".join(_expression(one[1], one[2]) for one in parts)
        if self.uses_pid and "%p" not in self.text:
            pattern += r"\.\d+"
        return bool(pattern) and bool(re.fullmatch(pattern, name, re.DOTALL))


def _expression(specifier: str | None, text: str | None) -> str:
    if text is not None:
        return re.escape(text)
    if specifier == "%":
        return "%"
    if specifier in NUMBERS:
        return r"-?\d+"
    # The kernel drops those that it does not know.
    return ".*" if specifier in WORDS else ""


def _normal(path: PurePosixPath) -> str:
    """Without ``..``; links are resolved by whoever looks at it."""
    parts: list[str] = []
    for part in path.parts[1:]:
        parts = parts[:-1] if part == ".." else [*parts, part]
    return "/" + "/".join(parts)
