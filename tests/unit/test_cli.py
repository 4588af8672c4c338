from __future__ import annotations

import os
import pwd
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

import service
from service import cli, log, wiring
from service.domain.access import SCOPES, Token, hash_secret
from service.domain.audit import AuditEvent
from service.domain.ports import AuditQuery
from service.settings import load

Run = Callable[..., int]
Output = pytest.CaptureFixture[str]
SECRET = re.compile(r"radm_[A-Za-z0-9_-]{43}")


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in list(os.environ):
        if name.startswith("REGISTRY_ADMIN_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("REGISTRY_ADMIN_DATA_DIR", str(tmp_path / "data"))


def run(*arguments: str) -> int:
    return cli.run(list(arguments))


def parts() -> wiring.Parts:
    return wiring.build_prepared(load(None, os.environ))


def tokens() -> list[Token]:
    return list(parts().store.tokens.page(100, None))


def events() -> list[AuditEvent]:
    return list(parts().store.audit.page(AuditQuery(), 100, None))


def user() -> str:
    return f"cli:{pwd.getpwuid(os.getuid()).pw_name}"


def test_the_secret_is_alone_on_stdout(capsys: Output) -> None:
    assert run("token", "create", "--name", "ann", "--scope", "registry:read") == 0
    said = capsys.readouterr()
    assert SECRET.fullmatch(said.out.removesuffix("\n"))
    assert not SECRET.search(said.err)
    found = parts().store.tokens.find(hash_secret(said.out.strip()))
    assert found is not None
    assert found.caller.name == "ann"
    assert found.caller.scopes == {"registry:read"}
    assert found.caller.expires_at is None
    assert found.created_by == user()


def test_the_first_start_tells_what_is_missing(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log, "configure", lambda *_arguments: None)
    assert run("prepare", "--prepared", str(os.open(os.devnull, os.O_WRONLY))) == 0
    assert "set REGISTRY_ADMIN_REGISTRY_URL" in caplog.text
    assert "registry-admin token create" in caplog.text
    assert run("token", "create", "--name", "ann", "--scope", "admin") == 0
    monkeypatch.setenv("REGISTRY_ADMIN_REGISTRY_URL", "http://127.0.0.1:1")
    caplog.clear()
    assert run("prepare", "--prepared", str(os.open(os.devnull, os.O_WRONLY))) == 0
    assert "registry is configured" not in caplog.text
    assert "token create" not in caplog.text


@pytest.mark.parametrize(
    "scopes",
    [
        ["--scope", "registry:read", "--scope", "gc:run"],
        ["--scope", "registry:read,gc:run"],
        ["--scope", "registry:read", "gc:run"],
    ],
)
def test_scopes_may_be_given_in_any_way(scopes: list[str]) -> None:
    assert run("token", "create", "--name", "ann", *scopes) == 0
    assert tokens()[0].caller.scopes == {"registry:read", "gc:run"}


def test_limits_are_kept() -> None:
    limits = ["--registry", "a", "--registry", "b", "--repository", "team/*"]
    assert run("token", "create", "--name", "ann", "--scope", "admin", *limits) == 0
    caller = tokens()[0].caller
    assert caller.registries == ("a", "b")
    assert caller.repositories == ("team/*",)


def test_a_registry_that_is_not_configured_is_told_of(capsys: Output) -> None:
    assert run("token", "create", "--name", "a", "--scope", "admin", "--registry", "nope") == 0
    assert "no registry named 'nope'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "lifetime"),
    [
        ("90d", timedelta(days=90)),
        ("12h", timedelta(hours=12)),
        ("30m", timedelta(minutes=30)),
        ("2w", timedelta(weeks=2)),
    ],
)
def test_a_token_may_expire(text: str, lifetime: timedelta) -> None:
    before = datetime.now(UTC)
    assert run("token", "create", "--name", "a", "--scope", "admin", "--expires", text) == 0
    expires_at = tokens()[0].caller.expires_at
    assert expires_at is not None
    assert before + lifetime <= expires_at <= datetime.now(UTC) + lifetime


@pytest.mark.parametrize("text", ["0d", "d", "90", "-1d", "1y", "1.5d", "9999999w", ""])
def test_a_lifetime_that_makes_no_sense(text: str, capsys: Output) -> None:
    assert run("token", "create", "--name", "a", "--scope", "admin", "--expires", text) == 2
    assert "90d" in one_line(capsys)


def test_unknown_scopes_are_refused_naming_all(capsys: Output) -> None:
    assert run("token", "create", "--name", "a", "--scope", "nope", "--scope", "admin,foo") == 2
    said = one_line(capsys)
    assert "no such scope: foo, nope" in said
    assert all(scope in said for scope in SCOPES)
    assert tokens() == []


@pytest.mark.parametrize("glob", ["Team/*", "a b", "", "team/app:1", "team/[", "a[]", "/a"])
def test_a_glob_that_matches_nothing_is_refused(glob: str, capsys: Output) -> None:
    assert run("token", "create", "--name", "a", "--scope", "admin", "--repository", glob) == 2
    one_line(capsys)


@pytest.mark.parametrize("name", ["", "  ", "a\nb", "x" * 101])
def test_a_name_must_be_legible(name: str, capsys: Output) -> None:
    assert run("token", "create", "--name", name, "--scope", "admin") == 2
    one_line(capsys)


def test_creating_and_revoking_are_in_the_audit_trail() -> None:
    run("token", "create", "--name", "ann", "--scope", "admin", "registry:read")
    (token,) = tokens()
    run("token", "revoke", token.id)
    revoked, created = events()
    assert [each.attempt.action for each in (created, revoked)] == ["token.create", "token.revoke"]
    assert {each.attempt.actor for each in (created, revoked)} == {user()}
    assert {each.attempt.target for each in (created, revoked)} == {token.id}
    assert created.completion is not None
    assert revoked.completion is not None
    assert created.completion.outcome == revoked.completion.outcome == "succeeded"
    assert created.completion.details == {"name": "ann", "scopes": ["admin", "registry:read"]}


def test_a_database_that_is_new_is_told(capsys: Output) -> None:
    """Beside a service in containers there is another one, whose tokens are of no use."""
    for told in (1, 0):
        assert run("token", "create", "--name", "ann", "--scope", "admin") == 0
        assert capsys.readouterr().err.count("is a new database") == told


def test_a_revoked_token_is_gone(capsys: Output) -> None:
    run("token", "create", "--name", "ann", "--scope", "admin")
    secret = capsys.readouterr().out.strip()
    assert run("token", "revoke", tokens()[0].id) == 0
    assert parts().store.tokens.find(hash_secret(secret)) is None


def test_revoking_what_is_not_there_fails_and_is_in_the_trail(capsys: Output) -> None:
    assert run("token", "revoke", "nope") == 1
    assert "'nope'" in one_line(capsys)
    (event,) = events()
    assert event.completion is not None
    assert (event.completion.outcome, event.completion.code) == ("failed", "token-unknown")


def test_tokens_are_listed_without_secrets(capsys: Output, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cli, "PAGE", 2)
    for number in range(5):
        run("token", "create", "--name", f"name-{number}", "--scope", "gc:run", "--expires", "1d")
    capsys.readouterr()
    assert run("token", "list") == 0
    heading, *rows = capsys.readouterr().out.splitlines()
    assert heading.split("  ")[0] == "ID"
    assert [row.split()[1] for row in rows] == [f"name-{number}" for number in range(5)]
    assert all("gc:run" in row and "all" in row and "never" in row for row in rows)
    assert not any("radm_" in row for row in rows)


def test_an_empty_list_has_its_heading(capsys: Output) -> None:
    assert run("token", "list") == 0
    assert len(capsys.readouterr().out.splitlines()) == 1


@pytest.mark.parametrize("before", [True, False])
def test_config_is_taken_before_and_after_the_command(
    tmp_path: Path, capsys: Output, *, before: bool
) -> None:
    file = tmp_path / "c.toml"
    file.write_text('bind = "127.0.0.1:4711"')
    config = ["--config", str(file)]
    for command in (["config", "check"], ["token", "list"]):
        assert run(*(config + command if before else command + config)) == 0
    assert "4711" in capsys.readouterr().out


def test_the_nearest_config_counts(tmp_path: Path, capsys: Output) -> None:
    for number in (1, 2, 3):
        (tmp_path / f"{number}.toml").write_text(f'bind = "127.0.0.1:{number}"')
    one, two, three = (["--config", str(tmp_path / f"{number}.toml")] for number in (1, 2, 3))
    assert run(*one, "config", *two, "check", *three) == 0
    assert 'bind = "127.0.0.1:3"' in capsys.readouterr().out
    assert run(*one, "config", *two, "check") == 0
    assert 'bind = "127.0.0.1:2"' in capsys.readouterr().out


def test_config_check_prints_what_is_in_force(
    monkeypatch: pytest.MonkeyPatch, capsys: Output
) -> None:
    monkeypatch.setenv("REGISTRY_ADMIN_REGISTRY_URL", "http://h:5000")
    monkeypatch.setenv("REGISTRY_ADMIN_REGISTRY_USERNAME", "ann")
    monkeypatch.setenv("REGISTRY_ADMIN_REGISTRY_PASSWORD", "hunter2")
    monkeypatch.setenv("REGISTRY_ADMIN_REGISTRY_URLL", "x")
    assert run("config", "check") == 0
    said = capsys.readouterr()
    assert 'url = "http://h:5000"' in said.out
    assert "hunter2" not in said.out + said.err
    assert "REGISTRY_ADMIN_REGISTRY_URLL is no setting" in said.err


WRONG = """
bind = "nowhere"
data_dir = 1
bindd = 1
[registries."no name"]
[registries.default]
engine = "elsewhere"
password = "hunter2"
[engines]
local = 1
"""


def test_config_check_lists_all_that_is_wrong(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Output
) -> None:
    monkeypatch.delenv("REGISTRY_ADMIN_DATA_DIR")
    monkeypatch.setenv("REGISTRY_ADMIN_THREADS", "many")
    monkeypatch.setenv("REGISTRY_ADMIN_ENGINE_URL", "ftp://engine")
    file = tmp_path / "c.toml"
    file.write_text(WRONG)
    assert run("config", "check", "--config", str(file)) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert "hunter2" not in said.err
    places = [line.removeprefix("registry-admin: ").split()[1] for line in said.err.splitlines()]
    assert sorted(places) == [
        "REGISTRY_ADMIN_ENGINE_URL", "REGISTRY_ADMIN_THREADS", "bind", "bindd", "data_dir",
        "engines.local", "registries.'no", "registries.default", "registries.default.engine",
        "registries.default.url", "registries.no",
    ]  # fmt: skip
    assert run("token", "list", "--config", str(file)) == 2
    assert "config check lists them all" in one_line(capsys)


@pytest.mark.parametrize(
    "command", [["config", "check"], ["serve"], ["worker"], ["token", "list"]], ids=" ".join
)
def test_wrong_settings_are_one_line_and_exit_code_2(
    tmp_path: Path, capsys: Output, command: list[str]
) -> None:
    file = tmp_path / "c.toml"
    file.write_text("bindd = 1")
    assert run(*command, "--config", str(file)) == 2
    said = one_line(capsys)
    assert str(file) in said
    assert "bindd" in said


@pytest.mark.parametrize(
    "arguments",
    [["nope"], ["token", "create"], ["token", "list", "--nope"], ["token", "revoke"]],
    ids=" ".join,
)
def test_what_was_typed_wrong_is_one_line_and_exit_code_2(
    capsys: Output, arguments: list[str]
) -> None:
    assert run(*arguments) == 2
    one_line(capsys)


def test_help_and_version(capsys: Output) -> None:
    assert run("--help") == 0
    assert "serve" in capsys.readouterr().out
    assert run("--version") == 0
    assert service.__version__ in capsys.readouterr().out
    assert run() == 2
    assert "Usage" in capsys.readouterr().err


def test_a_database_that_does_not_answer_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: Output
) -> None:
    url = "postgresql://ann:hunter2@127.0.0.1:1/admin"
    monkeypatch.setenv("REGISTRY_ADMIN_DATABASE_URL", url)
    assert run("token", "list") == 1
    said = one_line(capsys)
    assert "database does not answer" in said
    assert "hunter2" not in said


def test_a_folder_that_cannot_be_made_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: Output
) -> None:
    monkeypatch.setenv("REGISTRY_ADMIN_DATA_DIR", "/proc/nowhere")
    assert run("token", "list") == 1
    assert "/proc/nowhere" in one_line(capsys)


def test_the_openapi_document_is_checked_against_the_file(tmp_path: Path, capsys: Output) -> None:
    assert run("openapi") == 0
    document = capsys.readouterr().out
    file = tmp_path / "openapi.json"
    assert run("openapi", "--check", "--file", str(file)) == 1
    assert "make openapi" in one_line(capsys)
    file.write_text(document)
    assert run("openapi", "--check", "--file", str(file)) == 0
    file.write_text(document.replace("3.1.0", "3.1.1"))
    assert run("openapi", "--check", "--file", str(file)) == 1
    assert capsys.readouterr().out == ""


def test_what_is_made_of_the_openapi_document_is_checked_as_well(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Output
) -> None:
    monkeypatch.chdir(tmp_path)
    for form, file in cli.MADE.items():
        assert run("openapi", "--as", form) == 0
        file.parent.mkdir(exist_ok=True)
        file.write_text(capsys.readouterr().out)
    assert run("openapi", "--check") == 0
    for form, file in cli.MADE.items():
        written = file.read_text()
        file.write_text(f"{written} ")
        assert run("openapi", "--check") == run("openapi", "--check", "--as", form) == 1
        assert capsys.readouterr().err.count(f"{file} is not what the code says") == 2
        file.write_text(written)
    assert run("openapi", "--check", "--as", "http") == 0


def one_line(capsys: Output) -> str:
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("registry-admin: ")
    assert said.err.count("\n") == 1
    return said.err


def test_every_scope_is_in_the_help() -> None:
    assert all(scope in cli.SCOPES_HELP for scope in SCOPES)


def test_a_process_that_goes_on_logs_what_is_no_setting_unless_another_one_did(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, capsys: Output
) -> None:
    configured: list[tuple[str, str]] = []
    monkeypatch.setattr(log, "configure", lambda *arguments: configured.append(arguments))
    monkeypatch.setattr("service.supervisor.serve", lambda *_, **__: 0)
    monkeypatch.setenv("REGISTRY_ADMIN_LOG_FORMAT", "text")
    monkeypatch.setenv("REGISTRY_ADMIN_LOG_LEVELL", "x")
    assert run("serve") == 0
    (line,) = caplog.messages
    assert "REGISTRY_ADMIN_LOG_LEVELL is no setting" in line
    caplog.clear()
    assert run("prepare", "--prepared", str(os.open(os.devnull, os.O_WRONLY))) == 0
    assert "LOG_LEVELL" not in caplog.text + capsys.readouterr().err
    assert configured == [("info", "text")] * 2
