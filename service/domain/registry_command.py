"""What a registry's container runs: its program, and the configuration that is given to it.

The official images run ``/entrypoint.sh CONFIG``, which puts ``registry serve`` before whatever
ends like YAML, and ``registry`` before a command of the registry. Others run the program itself, or
a shell that runs it.
"""

from __future__ import annotations

import posixpath
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from string import Template

from service.domain.engine import Inspected

DEFAULT_PROGRAM = "registry"
PROGRAMS = frozenset({DEFAULT_PROGRAM, "docker-registry"})
SERVE = "serve"
CONFIG_ENDINGS = (".yml", ".yaml")
CONFIG_VARIABLE = "REGISTRY_CONFIGURATION_PATH"
"""Where the registry looks when no file is in its command."""


@dataclass(frozen=True, slots=True)
class RegistryCommand:
    """``program`` is found by its path or by ``PATH``; ``config_path`` is absolute, or None."""

    program: str
    config_path: str | None


def registry_command(container: Inspected) -> RegistryCommand:
    """Read the command of an inspected container."""
    words, environment = list(_words(container)), environment_of(container)
    place = words.index(SERVE) if SERVE in words else None
    if place is None:
        program, files = words[0], [word for word in words if word.endswith(CONFIG_ENDINGS)]
    else:
        program, files = words[max(place - 1, 0)], _served(words[place + 1 :], environment)
    path = files[-1] if files else environment.get(CONFIG_VARIABLE)
    folder = container["Config"].get("WorkingDir") or "/"
    return RegistryCommand(
        program if posixpath.basename(program) in PROGRAMS else DEFAULT_PROGRAM,
        posixpath.join(folder, path) if path else None,
    )


def environment_of(container: Inspected) -> dict[str, str]:
    """The environment of an inspected container."""
    pairs = (str(entry).partition("=") for entry in container["Config"].get("Env") or [])
    return {name: value for name, _, value in pairs}


def _words(container: Inspected) -> Iterator[str]:
    """Yield the words of its command; those of a script as well, where a shell is given one."""
    for word in (str(container.get("Path") or ""), *map(str, container.get("Args") or ())):
        yield from _split(word) if " " in word else [word]


def _split(script: str) -> list[str]:
    lexer = shlex.shlex(script, posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    try:
        return list(lexer)
    except ValueError:  # a quote that is not closed
        return script.split()


def _served(words: Sequence[str], environment: Mapping[str, str]) -> list[str]:
    """What follows ``serve``; nothing where a shell takes it from who knows where."""
    given = [Template(word).safe_substitute(environment) for word in words]
    files = [word for word in given if not word.startswith("-")][:1]
    return [word for word in files if "$" not in word]
