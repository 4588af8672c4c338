"""The command ``registry-admin``.

Errors are one line on stderr: exit code 2 for what was typed or configured wrong, 1 for the rest.
Each command imports what it needs when it runs: the supervisor stays small, and ``--help`` quick.
"""

from __future__ import annotations

import logging
import os
import pwd
import re
import sys
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

import service
from service import log
from service.settings import Settings, SettingsError, load, strange_variables, summary

if TYPE_CHECKING:
    from service.domain.access import Token
    from service.wiring import Parts

Command = TypeVar("Command", bound=Callable[..., Any])

USAGE = 2
OURS_ALONE = 0o077
"""The umask: what the service keeps is nobody else's business."""

SCOPES_HELP = (
    "What it may do, once for each: registry:read, registry:write, registry:delete, gc:run, "
    "container:read, container:write, image:push, job:read, audit:read, token:admin, trust:write, "
    "metrics:read, or admin for all."
)
LOGGER = "service.cli"
"""However it is started: the name of a module that is run is ``__main__``."""

NAME_LIMIT = 100
PAGE = 500
RECOVERY_SECONDS = 20.0
"""How long interrupted deletions may keep the API from starting: a registry may be down."""

DAYS_LIMIT = 36500
HEADINGS: tuple[str, ...] = (
    "ID",
    "NAME",
    "SCOPES",
    "REGISTRIES",
    "REPOSITORIES",
    "EXPIRES",
    "LAST USED",
)
UNITS = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
MADE = {
    "json": Path("openapi") / "openapi.json",
    "http": Path("openapi") / "registry-admin.http",
    "markdown": Path("docs") / "reference.md",
}
"""Where the OpenAPI document is, and what is made of it."""

_LIFETIME = re.compile(r"([1-9][0-9]{0,6})([mhdw])")


class WrongSettings(click.ClickException):
    """Settings that cannot be used."""

    exit_code = USAGE
    problems: tuple[str, ...] = ()


def with_config(command: Command) -> Command:
    """Let a command take ``--config``; the one nearest to it counts."""
    option = click.option(
        "--config",
        type=click.Path(path_type=Path, dir_okay=False),
        help="Settings in TOML. Default: the file that REGISTRY_ADMIN_CONFIG names.",
    )
    return option(command)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@with_config
@click.version_option(service.__version__, prog_name="registry-admin")
@click.pass_context
def cli(context: click.Context, config: Path | None) -> None:
    """See, safely delete and maintain what a container registry holds."""
    context.obj = config


@cli.command()
@with_config
@click.option("--no-worker", is_flag=True, help="Only the API; start `worker` elsewhere.")
@click.pass_context
def serve(context: click.Context, config: Path | None, *, no_worker: bool) -> None:
    """Run the API and a worker."""
    from service import supervisor  # noqa: PLC0415

    settings = _logging(context, config)
    try:
        code = supervisor.serve(settings, _file(context, config), worker=not no_worker)
    except supervisor.CannotServe as error:
        raise click.ClickException(str(error)) from error
    context.exit(code)


@cli.command()
@with_config
@click.option("--lifeline", type=int, hidden=True)
@click.option("--prepared", type=int, hidden=True)
@click.pass_context
def worker(
    context: click.Context, config: Path | None, lifeline: int | None, prepared: int | None
) -> None:
    """Run a worker alone."""
    import signal  # noqa: PLC0415

    from service import tracing  # noqa: PLC0415
    from service.jobs.worker import AnotherWorker  # noqa: PLC0415
    from service.wiring import build_worker  # noqa: PLC0415

    settings = _logging(context, config, child=lifeline is not None)
    tracing.begin()
    ending = _Ending(lifeline)
    parts = _prepare(settings)
    if prepared is not None:
        _finish_preparing(settings, parts, prepared)
    built = build_worker(settings, parts, supervised=lifeline is not None)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: built.stop())
    ending.politely(built.hurry)
    try:
        built.run()
    except AnotherWorker as error:
        raise click.ClickException(str(error)) from error
    tracing.end()
    # Jobs that outlast the grace are ended in the middle, and begin anew elsewhere.
    os._exit(0)


@cli.command(hidden=True)
@with_config
@click.option("--lifeline", type=int)
@click.option("--prepared", type=int, required=True)
@click.pass_context
def prepare(
    context: click.Context, config: Path | None, lifeline: int | None, prepared: int
) -> None:
    """Bring the database up to date and finish interrupted deletions."""
    settings = _logging(context, config, child=True)
    _Ending(lifeline)
    _finish_preparing(settings, _prepare(settings), prepared)


class _Ending:
    """What is done when the supervisor dies: at first this process ends at once."""

    def __init__(self, lifeline: int | None) -> None:
        from service.lifeline import watch  # noqa: PLC0415

        self._end: Callable[[], object] = partial(os._exit, 1)
        if lifeline is not None:
            watch(lifeline, self._now)

    def _now(self) -> None:
        self._end()

    def politely(self, end: Callable[[], object]) -> None:
        """Call ``end`` from now on."""
        self._end = end


def _prepare(settings: Settings) -> Parts:
    """Bring the database and the queue up to date."""
    from service.wiring import build_prepared, prepare_queue  # noqa: PLC0415

    parts = build_prepared(settings)
    prepare_queue(settings, parts)
    return parts


def _finish_preparing(settings: Settings, parts: Parts, prepared: int) -> None:
    """Do what the first process of a start does for all, and tell the supervisor by a pipe."""
    from service.jobs.tasks import within  # noqa: PLC0415

    _hint(settings, parts)
    within(parts.recover, RECOVERY_SECONDS, "interrupted deletions")
    os.write(prepared, b".")
    os.close(prepared)


def _hint(settings: Settings, parts: Parts) -> None:
    """Tell who starts the service for the first time what is missing before it can be used."""
    hints = logging.getLogger(LOGGER)
    if not settings.registries:
        hints.warning(
            "no registry is configured: set REGISTRY_ADMIN_REGISTRY_URL, or [registries.NAME] "
            "in the file that --config names"
        )
    if not parts.store.tokens.page(1, None):
        hints.warning(
            "nobody has a token yet: registry-admin token create --name NAME --scope admin"
        )


@cli.command(hidden=True)
@with_config
@click.option("--lifeline", type=int)
@click.option("--gate", type=int, required=True)
@click.option("--socket", type=int, required=True)
@click.pass_context
def serve_api(
    context: click.Context, config: Path | None, lifeline: int | None, gate: int, socket: int
) -> None:
    """Run the API on a socket that the supervisor has opened."""
    from service.web import Web  # noqa: PLC0415

    settings = _logging(context, config, child=True)
    Web(settings, socket, lifeline, gate).run()


@cli.group()
@with_config
@click.pass_context
def token(context: click.Context, config: Path | None) -> None:
    """Create, list and revoke bearer tokens."""
    context.obj = config or context.obj


def _expiry(_context: object, _parameter: object, value: str | None) -> datetime | None:
    if value is None:
        return None
    match = _LIFETIME.fullmatch(value)
    lifetime = timedelta(**{UNITS[match[2]]: int(match[1])}) if match else timedelta()
    if not timedelta() < lifetime <= timedelta(days=DAYS_LIMIT):
        units = ", ".join(f"{unit} ({name})" for unit, name in UNITS.items())
        raise click.BadParameter(f"must be a number and one of {units}, such as 90d, not {value!r}")
    return datetime.now(UTC) + lifetime


def _globs(_context: object, _parameter: object, values: tuple[str, ...]) -> tuple[str, ...]:
    from service.domain.access import GLOB  # noqa: PLC0415

    for value in values:
        if not re.fullmatch(GLOB, value):
            raise click.BadParameter(f"{value!r} can match no repository name, such as team/app")
    return values


def _name(_context: object, _parameter: object, value: str) -> str:
    if not value.strip() or len(value) > NAME_LIMIT or not value.isprintable():
        raise click.BadParameter(f"must be 1 to {NAME_LIMIT} printable characters")
    return value


@token.command("create")
@with_config
@click.option("--name", required=True, callback=_name, help="Whose it is; need not be unique.")
@click.option("--scope", "scopes", multiple=True, required=True, help=SCOPES_HELP)
@click.argument("more_scopes", nargs=-1, metavar="[SCOPE]...")
@click.option("--registry", "registries", multiple=True, help="Limit it to this registry.")
@click.option(
    "--repository",
    "repositories",
    multiple=True,
    callback=_globs,
    help="Limit it to repositories such as team/*; * also matches /.",
)
@click.option("--expires", callback=_expiry, help="How long it is good for, such as 90d or 12h.")
@click.pass_context
def create_token(  # noqa: PLR0913, PLR0917 - one argument an option
    context: click.Context,
    config: Path | None,
    name: str,
    scopes: tuple[str, ...],
    more_scopes: tuple[str, ...],
    registries: tuple[str, ...],
    repositories: tuple[str, ...],
    expires: datetime | None,
) -> None:
    """Create a token; its secret is the last line, and shown this once."""
    from service.domain.access import Caller, Token, hash_secret, new_secret  # noqa: PLC0415
    from service.domain.identity import new_id  # noqa: PLC0415

    settings = _settings(context, config)
    for unknown in sorted(set(registries) - set(settings.registries)):
        _say(f"note: no registry named '{unknown}' is configured now")
    allowed = _checked(scopes + more_scopes)
    caller = Caller(name, allowed, registries, repositories, expires)
    made = Token(new_id(), caller, datetime.now(UTC), _actor())
    secret = new_secret()
    _note_new(settings)
    parts = _parts(settings)
    with parts.trail.attempt(_attempt("token.create", made.id)) as change:
        change.details.update(name=name, scopes=sorted(allowed))
        parts.store.tokens.create(change, made, hash_secret(secret))
    _say(f"token {made.id} of {name}: keep it, it is not shown again")
    click.echo(secret)


def _note_new(settings: Settings) -> None:
    """Tell of a database that is not there yet: beside containers it is not the service's own."""
    _, is_file, path = settings.database_url.partition("sqlite:///")
    if is_file and not Path(path).exists():
        _say(f"note: {path} is a new database, which no service has used yet")


def _checked(given: Iterable[str]) -> frozenset[str]:
    from service.domain.access import SCOPES  # noqa: PLC0415

    scopes = frozenset(part for value in given for part in value.split(",") if part)
    unknown = ", ".join(sorted(scopes - set(SCOPES)))
    if unknown or not scopes:
        raise click.UsageError(f"no such scope: {unknown}. Scopes are: {', '.join(SCOPES)}")
    return scopes


@token.command("list")
@with_config
@click.pass_context
def list_tokens(context: click.Context, config: Path | None) -> None:
    """List the tokens, without their secrets."""
    parts = _parts(_settings(context, config))
    rows = [HEADINGS, *map(_row, _tokens(parts))]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        click.echo("  ".join(cells).rstrip())


@token.command("revoke")
@with_config
@click.argument("token_id", metavar="ID")
@click.pass_context
def revoke_token(context: click.Context, config: Path | None, token_id: str) -> None:
    """Revoke a token: it is refused from now on, everywhere."""
    parts = _parts(_settings(context, config))
    with parts.trail.attempt(_attempt("token.revoke", token_id)) as change:
        parts.store.tokens.revoke(change, token_id)
    _say(f"token {token_id} is revoked")


@cli.command()
@click.option(
    "--as",
    "form",
    type=click.Choice(list(MADE)),
    help="The document itself, requests for editors, or the reference. Default: json.",
)
@click.option(
    "--check", is_flag=True, help="Fail when the files made of it differ, or that of --as."
)
@click.option("--file", type=click.Path(path_type=Path), help="The one file to check.")
def openapi(*, form: str | None, check: bool, file: Path | None) -> None:
    """Print the OpenAPI document, or what is made of it."""
    from service.app import openapi_document  # noqa: PLC0415

    if not check:
        click.echo(openapi_document(form or "json"), nl=False)
        return
    one = {form or "json": file or MADE[form or "json"]}
    for each, made in (one if form or file else MADE).items():
        if not made.is_file() or made.read_text(encoding="utf-8") != openapi_document(each):
            raise click.ClickException(f"{made} is not what the code says; run: make openapi")


@cli.group("config")
@with_config
@click.pass_context
def config_group(context: click.Context, config: Path | None) -> None:
    """Look at the settings."""
    context.obj = config or context.obj


@config_group.command("check")
@with_config
@click.pass_context
def check_config(context: click.Context, config: Path | None) -> None:
    """Check the settings and print those in force, without secrets, or all that is wrong."""
    try:
        click.echo(summary(_settings(context, config)))
    except WrongSettings as error:
        *others, last = error.problems
        for problem in others:
            _say(problem)
        raise WrongSettings(last) from error


@config_group.command("example")
def show_example() -> None:
    """Print a file with every setting, its meaning and its default."""
    from service.settings import example  # noqa: PLC0415

    click.echo(example(), nl=False)


def _file(context: click.Context, config: Path | None) -> Path | None:
    file: Path | None = config or context.obj
    return file


def _settings(context: click.Context, config: Path | None) -> Settings:
    for sentence in strange_variables(os.environ):
        _say(sentence)
    return _loaded(context, config)


def _loaded(context: click.Context, config: Path | None) -> Settings:
    try:
        return load(_file(context, config), os.environ)
    except SettingsError as error:
        wrong = WrongSettings(str(error))
        wrong.problems = error.problems
        raise wrong from error


def _logging(context: click.Context, config: Path | None, *, child: bool = False) -> Settings:
    """Read the settings of a process that goes on, and log from now on.

    What a supervisor's ``child`` could say of its environment has been said.
    """
    settings = _loaded(context, config)
    log.configure(settings.log_level, settings.log_format)
    for sentence in () if child else strange_variables(os.environ):
        logging.getLogger(LOGGER).warning(sentence)
    return settings


def _parts(settings: Settings) -> Parts:
    from service.wiring import build_prepared  # noqa: PLC0415

    return build_prepared(settings)


def _attempt(action: str, target: str) -> Any:  # noqa: ANN401 - an Attempt, imported when needed
    from service.domain.audit import Attempt  # noqa: PLC0415

    return Attempt(action, _actor(), target=target)


def _actor() -> str:
    """Who types: by the system's word, since environment variables can say anything."""
    try:
        return f"cli:{pwd.getpwuid(os.getuid()).pw_name}"
    except KeyError:
        return f"cli:{os.getuid()}"


def _tokens(parts: Parts) -> Iterable[Token]:
    last = None
    while page := parts.store.tokens.page(PAGE, last):
        yield from page
        last = page[-1].id


def _row(each: Token) -> tuple[str, ...]:
    caller = each.caller
    return (
        each.id,
        caller.name,
        ",".join(sorted(caller.scopes)),
        ",".join(caller.registries) or "all",
        ",".join(caller.repositories) or "all",
        _day(caller.expires_at),
        _day(each.last_used_at),
    )


def _day(time: datetime | None) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ") if time else "never"


def _say(sentence: str) -> None:
    click.echo(f"registry-admin: {sentence}", err=True)


def main() -> None:
    """Run the command; the entry point of the script."""
    os.umask(OURS_ALONE)
    sys.exit(run(sys.argv[1:]))


def run(arguments: list[str]) -> int:
    """Run the command and return its exit code."""
    try:
        return cli.main(arguments, "registry-admin", standalone_mode=False) or 0
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        return USAGE
    except click.ClickException as error:
        _say(error.format_message())
        return error.exit_code
    except (KeyboardInterrupt, click.Abort):
        return 130
    except Exception as error:  # noqa: BLE001 - whatever it is, an operator gets one line
        _say(log.redact(_sentence(error)))
        return 1


def _sentence(error: Exception) -> str:
    """One line: our errors as they are, others with their kind; then what caused them."""
    from service.domain.errors import RegistryAdminError  # noqa: PLC0415

    known = isinstance(error, RegistryAdminError)
    words = str(error) if known else f"{type(error).__name__}: {error}"
    if error.__cause__ is not None:
        words = f"{words} ({str(error.__cause__).partition(chr(10))[0]})"
    return words.partition("\n")[0]


if __name__ == "__main__":
    main()
