"""What a server says it wants to see: ``WWW-Authenticate``, RFC 9110, 11.6.1."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

_WORD = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_PIECE = re.compile(
    rf"""
    (?P<name>{_WORD}) [ \t]* = [ \t]*
        (?: "(?P<quoted> (?: [^"\\] | \\. )* )" | (?P<bare> [^\s,"]+ ) )
    | (?P<scheme>{_WORD}) (?= [\s,] | $ )
    """,
    re.VERBOSE,
)
_ESCAPED = re.compile(r"\\(.)")


@dataclass(frozen=True, slots=True)
class Challenge:
    """One challenge; scheme and names of parameters in lower case, as both have no case."""

    scheme: str
    parameters: Mapping[str, str] = field(default_factory=dict)


def parse_challenges(header: str) -> list[Challenge]:
    """Read every challenge of one header, or of several joined by commas.

    Commas inside quotes separate nothing, and a value may stand unquoted even where the
    grammar wants quotes (a realm), as some servers send it. What cannot be read is skipped.
    """
    found: list[tuple[str, dict[str, str]]] = []
    for piece in _PIECE.finditer(header):
        if piece["scheme"]:
            found.append((piece["scheme"].lower(), {}))
        elif found:
            found[-1][1].setdefault(piece["name"].lower(), _value(piece))
    return [Challenge(scheme, parameters) for scheme, parameters in found]


def _value(piece: re.Match[str]) -> str:
    quoted = piece["quoted"]
    return _ESCAPED.sub(r"\1", quoted) if quoted is not None else piece["bare"]
