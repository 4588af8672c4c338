"""Settings from a TOML file and the environment, which wins; checked, then frozen.

``SERVICE``, ``REGISTRY`` and ``ENGINE`` are the one table of every setting there is: what reads
them, documents them and names them in messages goes by it.
"""

from __future__ import annotations

import difflib
import ipaddress
import os
import re
import textwrap
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

PREFIX = "REGISTRY_ADMIN_"
CONFIG_VARIABLE = PREFIX + "CONFIG"
DEFAULT_REGISTRY = "default"
DEFAULT_ENGINE = "local"
DOCKER_SOCKET = "unix:///var/run/docker.sock"
HIDDEN = "(hidden)"
MEBIBYTE = 1024 * 1024


class SettingsError(ValueError):
    """Settings that cannot be used: names where each stands, which it is and what is allowed."""

    def __init__(self, *problems: str) -> None:
        """The text is the first problem alone, and how many there are: one line."""
        more = len(problems) - 1
        where = f" ({more} more: registry-admin config check lists them all)" if more else ""
        super().__init__(problems[0] + where)
        self.problems = problems


@dataclass(frozen=True, slots=True)
class RegistrySettings:
    """One registry. ``url`` has no trailing slash and no credentials; times in seconds."""

    name: str
    url: str
    container: str | None = None
    engine: str = DEFAULT_ENGINE
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    password_file: Path | None = None
    docker_config: Path | None = None
    ca_file: Path | None = None
    certs_dir: Path = Path("certs.d")
    redis_url: str | None = field(default=None, repr=False)
    timeout_seconds: float = 10.0
    concurrency: int = 16


@dataclass(frozen=True, slots=True)
class EngineSettings:
    """One Docker engine; ``containers`` are name patterns of those the API may see."""

    name: str
    url: str
    containers: tuple[str, ...] = ()
    certs_dir: Path | None = None
    implied: bool = False
    """Whether nobody has configured it: the local one, which may then well not be there."""


@dataclass(frozen=True, slots=True)
class Settings:
    """The service. ``bind`` is ``host:port``; ``cache_bytes`` the most the content cache takes."""

    bind: str
    data_dir: Path
    database_url: str = field(repr=False)
    certs_dir: Path
    workers: int
    threads: int
    cors_origins: tuple[str, ...]
    trusted_proxies: tuple[str, ...]
    cache_bytes: int
    log_level: str
    registries: Mapping[str, RegistrySettings]
    engines: Mapping[str, EngineSettings]
    job_retention_days: int = 90
    log_format: str = "json"

    @property
    def address(self) -> tuple[str, int]:
        """``bind`` as host and port, an IPv6 host without its brackets."""
        host, _, port = self.bind.rpartition(":")
        return host.strip("[]"), int(port)


class Kind(NamedTuple):
    """A type of setting. ``read`` checks a TOML value, ``parse`` makes one of a variable's text.

    Both raise ValueError: with a sentence where "must be ``allowed``" would not tell enough.
    """

    allowed: str
    read: Callable[[object, Path], object]
    parse: Callable[[str], object] = str
    secret: bool = False


class Setting(NamedTuple):
    """A row of the table. ``default`` is a TOML value, or None where ``doc`` tells the default."""

    name: str
    kind: Kind
    default: object
    variable: str
    doc: str


def _text(value: object, _base: Path) -> str:
    if not isinstance(value, str) or not value.strip():
        raise ValueError
    return value


def _path(value: object, base: Path) -> Path:
    return Path(os.path.normpath(base / _text(value, base)))


def _existing(value: object, base: Path) -> Path:
    path = _path(value, base)
    if not path.exists():
        raise ValueError(f"names {path}, which is not there")
    return path


def _texts(value: object, base: Path) -> tuple[str, ...]:
    if not isinstance(value, list):
        raise ValueError  # noqa: TRY004 - one error for every wrong value
    return tuple(_text(item, base) for item in value)


def _split(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def _each(check: Callable[[str], object], allowed: str) -> Kind:
    def read(value: object, base: Path) -> tuple[str, ...]:
        texts = _texts(value, base)
        for text in texts:
            check(text)
        return texts

    return Kind(allowed, read, _split)


def _integer(low: int, high: int) -> Kind:
    def read(value: object, _base: Path) -> int:
        if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
            raise ValueError
        return value

    return Kind(f"a whole number from {low} to {high}", read, int)


def _number(low: float, high: float) -> Kind:
    def read(value: object, _base: Path) -> float:
        if not isinstance(value, int | float) or isinstance(value, bool):
            raise ValueError  # noqa: TRY004 - one error for every wrong value
        if not low <= value <= high:
            raise ValueError
        return float(value)

    return Kind(f"a number from {low:g} to {high:g}", read, float)


def _choice(*choices: str) -> Kind:
    def read(value: object, _base: Path) -> str:
        if value not in choices:
            raise ValueError
        return str(value)

    return Kind("one of " + ", ".join(choices), read)


_BIND = re.compile(r"(?:\[[0-9a-fA-F:.]+\]|[A-Za-z0-9.-]+):(?P<port>[0-9]{1,5})")
_ORIGIN = re.compile(r"https?://[A-Za-z0-9.-]+(?::[0-9]{1,5})?")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
PORT_LIMIT = 65535


def _bind(value: object, base: Path) -> str:
    match = _BIND.fullmatch(_text(value, base))
    if match is None or int(match["port"]) > PORT_LIMIT:
        raise ValueError
    return str(value)


def _origin(text: str) -> None:
    if not _ORIGIN.fullmatch(text):
        raise ValueError


def _registry_url(value: object, base: Path) -> str:
    url = _text(value, base).rstrip("/")
    parts = urlsplit(url)
    if parts.username is not None or parts.password is not None:
        raise ValueError(
            "must not hold credentials: put them into username and password (or password_file)"
        )
    if parts.scheme not in {"http", "https"} or not parts.hostname or parts.query or parts.fragment:
        raise ValueError
    if parts.path.endswith("/v2"):
        raise ValueError("must not end with /v2, which the service adds by itself")
    if parts.port == 0:
        raise ValueError
    return url


def _engine_url(value: object, base: Path) -> str:
    url = _text(value, base)
    parts = urlsplit(url)
    complete = {"unix": parts.path, "tcp": parts.port, "ssh": parts.hostname}
    if not complete.get(parts.scheme) or parts.password is not None:
        raise ValueError
    return url


def _redis_url(value: object, base: Path) -> str:
    url = _text(value, base)
    parts = urlsplit(url)
    database = parts.path.removeprefix("/") or "0"
    if parts.scheme not in {"redis", "rediss"} or not parts.hostname or parts.port == 0:
        raise ValueError
    if not (database.isascii() and database.isdigit()) or parts.query or parts.fragment:
        raise ValueError
    return url


def _database_url(value: object, base: Path) -> str:
    url = _text(value, base)
    scheme, _, rest = url.partition("://")
    if scheme in {"postgresql", "postgres"}:
        return f"postgresql://{rest}"
    if scheme != "sqlite" or not rest.startswith("/") or rest == "/" or ":memory:" in rest:
        raise ValueError
    return f"sqlite:///{_path(rest[1:], base)}"


TEXT = Kind("a text", _text)
SECRET = Kind("a text", _text, secret=True)
PATH = Kind("a path", _path)
EXISTING = Kind("the path of a file", _existing)
PATTERNS = _each(str, "a list of names or patterns")
BIND = Kind("host:port, such as 127.0.0.1:8080 or [::1]:8080", _bind)
ORIGINS = _each(_origin, "a list of origins, such as https://portal.example.com")
ADDRESSES = _each(ipaddress.ip_network, "a list of IP addresses or networks")
LEVEL = _choice("debug", "info", "warning", "error")
FORMAT = _choice("json", "text")
REGISTRY_URL = Kind("http://host[:port] or https://host[:port]", _registry_url, secret=True)
ENGINE_URL = Kind(
    "unix:///path, tcp://host:port or ssh://[user@]host[:port]", _engine_url, secret=True
)
DATABASE_URL = Kind(
    "sqlite:///path of a file, or postgresql://user:password@host/database",
    _database_url,
    secret=True,
)

REDIS_URL = Kind(
    "redis://[user:password@]host[:port][/database], or rediss:// with TLS",
    _redis_url,
    secret=True,
)

SERVICE = (
    Setting("bind", BIND, "127.0.0.1:8080", "BIND", "Where the API listens."),
    Setting(
        "data_dir",
        PATH,
        None,
        "DATA_DIR",
        "Holds the SQLite database, locks, cached content and certificates. Default: data in a "
        "checkout; of a package /var/lib/registry-admin for root, else below ~/.local/state.",
    ),
    Setting(
        "database_url",
        DATABASE_URL,
        None,
        "DATABASE_URL",
        "sqlite:///path or postgresql://... Default: registry-admin.db in data_dir.",
    ),
    Setting(
        "certs_dir",
        PATH,
        None,
        "CERTS_DIR",
        "Certificates by registry, <host>:<port>/*.crt. Default: certs.d in data_dir.",
    ),
    Setting(
        "workers",
        _integer(1, 64),
        1,
        "WORKERS",
        "API processes: more answer more callers at a time, at some 80 MiB each.",
    ),
    Setting("threads", _integer(1, 256), 16, "THREADS", "Requests at a time in each of them."),
    Setting("cors_origins", ORIGINS, [], "CORS_ORIGINS", "Origins whose pages may call the API."),
    Setting(
        "trusted_proxies",
        ADDRESSES,
        ["127.0.0.1", "::1"],
        "TRUSTED_PROXIES",
        "Reverse proxies whose X-Forwarded-For and X-Forwarded-Proto are believed.",
    ),
    Setting(
        "cache_bytes",
        _integer(MEBIBYTE, 1024 * 1024 * MEBIBYTE),
        256 * MEBIBYTE,
        "CACHE_BYTES",
        "Most bytes of manifests and configs kept below data_dir.",
    ),
    Setting(
        "job_retention_days",
        _integer(1, 36500),
        90,
        "JOB_RETENTION_DAYS",
        "How long jobs and their logs are kept after their end.",
    ),
    Setting("log_level", LEVEL, "info", "LOG_LEVEL", "The least that is logged."),
    Setting("log_format", FORMAT, "json", "LOG_FORMAT", "One object a line, or text for people."),
)
"""Top-level settings; their variables begin with ``REGISTRY_ADMIN_``."""

REGISTRY = (
    Setting("url", REGISTRY_URL, None, "REGISTRY_URL", "The registry's base URL, without /v2."),
    Setting(
        "container",
        TEXT,
        None,
        "REGISTRY_CONTAINER",
        "Its container. Default: none, then there is no garbage collection.",
    ),
    Setting("engine", TEXT, DEFAULT_ENGINE, "REGISTRY_ENGINE", "The engine its container runs on."),
    Setting("username", TEXT, None, "REGISTRY_USERNAME", "Who the service is to the registry."),
    Setting("password", SECRET, None, "REGISTRY_PASSWORD", "Its password; password_file is safer."),
    Setting(
        "password_file",
        EXISTING,
        None,
        "REGISTRY_PASSWORD_FILE",
        "A file that holds the password alone.",
    ),
    Setting(
        "docker_config",
        EXISTING,
        None,
        "REGISTRY_DOCKER_CONFIG",
        "A Docker config.json with the credentials, instead of username and password.",
    ),
    Setting(
        "ca_file",
        EXISTING,
        None,
        "REGISTRY_CA_FILE",
        "CA roots (PEM) to trust for it besides the system's and those of certs_dir.",
    ),
    Setting(
        "redis_url",
        REDIS_URL,
        None,
        "REGISTRY_REDIS_URL",
        "The Redis in which the registry caches what it knows of blobs, where it does: garbage "
        "collection removes that (keys blobs::* and repository::*). Default: none, then such a "
        "registry is not collected.",
    ),
    Setting("certs_dir", PATH, None, "REGISTRY_CERTS_DIR", "Default: the service's certs_dir."),
    Setting(
        "timeout_seconds",
        _number(0.1, 600),
        10.0,
        "REGISTRY_TIMEOUT_SECONDS",
        "How long the registry may take to connect, and between two reads.",
    ),
    Setting(
        "concurrency", _integer(1, 256), 16, "REGISTRY_CONCURRENCY", "Most requests at a time."
    ),
)
"""Settings of ``[registries.NAME]``; the variables are those of the registry ``default``."""

ENGINE = (
    Setting(
        "url",
        ENGINE_URL,
        None,
        "ENGINE_URL",
        "The engine. Default: DOCKER_HOST, else the local socket.",
    ),
    Setting(
        "containers",
        PATTERNS,
        [],
        "CONTAINERS",
        "Patterns of the containers the API may see, besides the registries' own and those with "
        "the label registry-admin.enable=true.",
    ),
    Setting(
        "certs_dir",
        PATH,
        None,
        "ENGINE_CERTS_DIR",
        "Of a tcp:// engine with TLS: holds ca.pem, cert.pem and key.pem. Default: none, and for "
        "DOCKER_HOST what DOCKER_CERT_PATH and DOCKER_TLS_VERIFY say.",
    ),
)
"""Settings of ``[engines.NAME]``; the variables are those of the engine ``local``."""

_SECTIONS = {
    "registries": (REGISTRY, DEFAULT_REGISTRY),
    "engines": (ENGINE, DEFAULT_ENGINE),
}


def load(config: Path | None, environ: Mapping[str, str]) -> Settings:
    """Read ``config``, else the file REGISTRY_ADMIN_CONFIG names, and the environment.

    Relative paths in the file start at its folder, those of the environment at the current one.
    Raise SettingsError.
    """
    named = environ.get(CONFIG_VARIABLE)
    file = config or (Path(named) if named else None)
    source = _Source(file, _document(file) if file else {}, environ)
    values = source.table("", source.document, SERVICE, inherits=True)
    source.refuse_unknown("", source.document, [*_names(SERVICE), *_SECTIONS])
    data_dir = values["data_dir"] = values.get("data_dir") or default_data_dir(environ)
    values.setdefault("database_url", f"sqlite:///{data_dir / 'registry-admin.db'}")
    values.setdefault("certs_dir", data_dir / "certs.d")
    engines = _engines(source)
    registries = _registries(source, values["certs_dir"], engines)
    source.require_sound()
    return Settings(**values, registries=registries, engines=engines)


def _document(file: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise SettingsError(f"{file}: cannot be read: {error.strerror}") from error
    except ValueError as error:  # TOML's and UTF-8's own errors
        raise SettingsError(f"{file}: is not TOML: {error}") from error


class _Source:
    """The file and the environment, and how to name a place in them."""

    def __init__(
        self, file: Path | None, document: dict[str, Any], environ: Mapping[str, str]
    ) -> None:
        self.file = file
        self.document = document
        self.environ = environ
        self.problems: list[str] = []

    def require_sound(self) -> None:
        """Raise SettingsError with all that was found wrong."""
        if self.problems:
            raise SettingsError(*dict.fromkeys(self.problems))

    def table(
        self, key: str, found: Mapping[str, Any], rows: Sequence[Setting], *, inherits: bool
    ) -> dict[str, Any]:
        """Values of one table; ``inherits`` when the environment has a word in it."""
        values: dict[str, Any] = {}
        for row in rows:
            text = self.environ.get(PREFIX + row.variable) if inherits else None
            try:
                if text:
                    values[row.name] = self._variable(row, text)
                elif row.name in found:
                    values[row.name] = self._entry(f"{key}{row.name}", row.kind, found[row.name])
                elif row.default is not None:
                    values[row.name] = row.kind.read(row.default, Path())
            except SettingsError as error:
                self.problems += error.problems
                values[row.name] = None
        return values

    def section(self, name: str) -> dict[str, dict[str, Any]]:
        """Values of every table of a section, by name, with what the environment adds."""
        rows, inheritor = _SECTIONS[name]
        tables = self._tables(name, self.document.get(name, {}))
        if any(self.environ.get(PREFIX + row.variable) for row in rows):
            tables.setdefault(inheritor, {})
        found = {}
        for each, table in sorted(tables.items()):
            key = f"{name}.{each}."
            self.refuse_unknown(key, table, _names(rows))
            found[each] = self.table(key, table, rows, inherits=each == inheritor)
        return found

    def refuse_unknown(self, key: str, table: Mapping[str, Any], allowed: Sequence[str]) -> None:
        for name in table:
            if name not in allowed:
                self.note(f"{key}{name}", f"is no setting. Allowed: {', '.join(allowed)}")

    def note(self, key: str, sentence: str) -> None:
        """Remember what is wrong, and go on: there may be more."""
        self.problems.append(self._problem(key, sentence))

    def _problem(self, key: str, sentence: str) -> str:
        return f"{self.file or 'environment'}: {key} {sentence}"

    def _tables(self, name: str, found: object) -> dict[str, dict[str, Any]]:
        if not isinstance(found, dict):
            self.note(name, f"must be tables, as in [{name}.NAME]")
            return {}
        for each, table in found.items():
            if not _NAME.fullmatch(each):
                rule = "letters, digits, '.', '_' and '-', at most 63, a letter or digit first"
                self.note(f"{name}.{each!r}", f"has a name that is not allowed: {rule}")
            if not isinstance(table, dict):
                self.note(f"{name}.{each}", f"must be a table, as in [{name}.{each}]")
        return {each: table for each, table in found.items() if isinstance(table, dict)}

    def _entry(self, key: str, kind: Kind, value: object) -> object:
        base = self.file.absolute().parent if self.file else Path.cwd()
        try:
            return kind.read(value, base)
        except ValueError as error:
            raise SettingsError(self._problem(key, _rule(kind, value, error))) from error

    def _variable(self, row: Setting, text: str) -> object:
        try:
            return row.kind.read(row.kind.parse(text), Path.cwd())
        except ValueError as error:
            rule = _rule(row.kind, text, error)
            raise SettingsError(f"environment: {PREFIX}{row.variable} {rule}") from error


def _rule(kind: Kind, value: object, error: ValueError) -> str:
    sentence = str(error)
    if sentence.startswith(("must ", "names ")):
        return sentence
    return f"must be {kind.allowed}" + ("" if kind.secret else f", not {value!r:.80}")


def _names(rows: Sequence[Setting]) -> list[str]:
    return [row.name for row in rows]


def _engines(source: _Source) -> dict[str, EngineSettings]:
    sections = source.section("engines")
    implied = {} if DEFAULT_ENGINE in sections else {"implied": True}
    sections.setdefault(DEFAULT_ENGINE, {**source.table("", {}, ENGINE, inherits=True), **implied})
    # Whatever DOCKER_HOST holds is not checked: it is not ours, and may never be needed.
    url = source.environ.get("DOCKER_HOST") or DOCKER_SOCKET
    return {
        name: EngineSettings(name, **{"url": url, **values}) for name, values in sections.items()
    }


def _registries(
    source: _Source, certs_dir: Path, engines: Mapping[str, EngineSettings]
) -> dict[str, RegistrySettings]:
    registries = {}
    for name, values in source.section("registries").items():
        _check_registry(source, f"registries.{name}", values, engines)
        if "url" in values:
            registries[name] = RegistrySettings(name, **{"certs_dir": certs_dir, **values})
    return registries


def _check_registry(
    source: _Source, key: str, values: Mapping[str, Any], engines: Mapping[str, EngineSettings]
) -> None:
    """Note what each setting allows alone but not with the others."""
    secrets = [name for name in ("password", "password_file") if name in values]
    if "url" not in values:
        source.note(f"{key}.url", "is missing: a registry needs its URL")
    if len(secrets) > 1:
        source.note(key, "has both password and password_file: keep one")
    if bool(secrets) != ("username" in values):
        source.note(key, "needs username and one of password, password_file, or neither")
    if secrets and "docker_config" in values:
        source.note(key, "has both a password and docker_config: keep one")
    if values["engine"] not in {None, *engines}:
        known = ", ".join(sorted(engines))
        source.note(f"{key}.engine", f"names no configured engine. Allowed: {known}")


def default_data_dir(environ: Mapping[str, str]) -> Path:
    """Where the service keeps its state: beside the code in a checkout, else the system's place."""
    root = Path(__file__).absolute().parents[1]
    if (root / "pyproject.toml").is_file():
        return root / "data"
    if os.geteuid() == 0:
        return Path("/var/lib/registry-admin")
    state = environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(state) / "registry-admin"


_NOT_OURS = re.compile(r"CONFIG|TEST_.*|SERVICE_(HOST|PORT.*)|PORT(_.*)?")
"""Ours, of tests, and what an orchestrator sets for a service that is named registry-admin."""


def strange_variables(environ: Mapping[str, str]) -> list[str]:
    """Sentences about variables that look like settings but are none: probably misspelt."""
    known = [PREFIX + row.variable for row in (*SERVICE, *REGISTRY, *ENGINE)]
    sentences = []
    for name in sorted(set(environ) - set(known)):
        if name.startswith(PREFIX) and not _NOT_OURS.fullmatch(name.removeprefix(PREFIX)):
            near = difflib.get_close_matches(name, known, 1)
            hint = f"; did you mean {near[0]}?" if near else ""
            sentences.append(f"environment: {name} is no setting and is ignored{hint}")
    return sentences


def example() -> str:
    """Every setting with its meaning, variable and default, as a TOML file that changes nothing."""
    lines = ["# Settings of registry-admin: what is commented out is the default, or has none."]
    for heading, rows in (
        ("", SERVICE),
        (f"[registries.{DEFAULT_REGISTRY}]", REGISTRY),
        (f"[engines.{DEFAULT_ENGINE}]", ENGINE),
    ):
        if heading:
            lines += ["", "", f"# {heading}"]
        for row in rows:
            lines += ["", *_commented(f"{row.doc} {PREFIX}{row.variable}")]
            lines.append(f"# {row.name} = {_default(row)}")
    return "\n".join(lines) + "\n"


def _commented(text: str) -> list[str]:
    return textwrap.wrap(text, 98, initial_indent="# ", subsequent_indent="# ")


def _default(row: Setting) -> str:
    if row.default is None:
        return f'"{row.kind.allowed}"'
    return _toml(row, tuple(row.default) if isinstance(row.default, list) else row.default)


def summary(settings: Settings) -> str:
    """The settings in force as TOML, without what is secret."""
    lines = [
        f"{row.name} = {_toml(row, getattr(settings, row.name))}"
        for row in SERVICE
        if getattr(settings, row.name) is not None
    ]
    for section, tables in (("registries", settings.registries), ("engines", settings.engines)):
        rows = _SECTIONS[section][0]
        for name, table in tables.items():
            key = name if "." not in name else f'"{name}"'
            lines += ["", f"[{section}.{key}]"]
            lines += [
                f"{row.name} = {_toml(row, getattr(table, row.name))}"
                for row in rows
                if getattr(table, row.name) is not None
            ]
    return "\n".join(lines)


def _toml(row: Setting, value: object) -> str:
    if row.kind is SECRET:
        return f'"{HIDDEN}"'
    if row.kind in {DATABASE_URL, REDIS_URL}:
        return _quoted(redact_url(str(value)))
    if isinstance(value, tuple):
        return "[" + ", ".join(_quoted(str(item)) for item in value) + "]"
    return str(value) if isinstance(value, int | float) else _quoted(str(value))


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def redact_url(url: str) -> str:
    """``url`` with its password, in the authority or the query, hidden."""
    url = re.sub(r"(?<=://)([^/@:]*):.*@", rf"\1:{HIDDEN}@", url)
    return re.sub(r"((?:^|[?&])password=)[^&]*", rf"\1{HIDDEN}", url)
