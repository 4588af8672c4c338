"""The command registry-admin as a person types it, and what the running service makes of it."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from demo.processes import registry_admin
from tests.e2e.bed.postgres import Postgres
from tests.e2e.bed.service import Service
from tests.e2e.bed.workspace import Workspace

SECRET = re.compile(r"radm_[A-Za-z0-9_-]{43}")
ROOT = Path(__file__).parents[2]
CREATE = ("token", "create", "--name", "ann")
MAKER = Callable[..., Service]


@pytest.fixture(params=["sqlite", "postgresql"])
def running(workspace: Workspace, request: pytest.FixtureRequest) -> Iterator[Service]:
    """A service on each database, with two API processes."""
    settings = {"workers": 2}
    server: Postgres | None = None
    if request.param == "postgresql":
        server = request.getfixturevalue("postgres")
        settings["database_url"] = server.create()  # type: ignore[assignment]
    service = Service(workspace, settings)
    service.start()
    yield service
    service.close()
    if server:
        server.drop(str(settings["database_url"]))


@pytest.fixture
def stopped(workspace: Workspace) -> Iterator[Service]:
    service = Service(workspace, {})
    yield service
    service.close()


def typed(service: Service, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        registry_admin(*arguments),
        env=service.environment(),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def statuses(service: Service, secret: str) -> set[int]:
    """What each API process says: enough connections that both have been asked."""
    return {service.ask("/v1/me", token=secret).status for _ in range(20)}


def test_a_token_works_as_it_was_created_and_no_longer_once_revoked(running: Service) -> None:
    limits = ("--registry", "default", "--repository", "team/*", "--expires", "90d")
    created = typed(running, *CREATE, "--scope", "registry:read", "--scope", "gc:run", *limits)
    assert created.returncode == 0
    secret = created.stdout.splitlines()[-1]
    assert created.stdout == f"{secret}\n"
    assert SECRET.fullmatch(secret)
    me = running.ask("/v1/me", token=secret).json()
    assert me["name"] == "ann"
    assert sorted(me["scopes"]) == ["gc:run", "registry:read"]
    assert me["registries"] == ["default"]
    assert me["repositories"] == ["team/*"]
    assert me["kind"] == "token"
    assert statuses(running, secret) == {200}
    listed = typed(running, "token", "list").stdout.splitlines()[1:]
    (row,) = (line for line in listed if " ann " in line)
    assert secret not in row
    assert typed(running, "token", "revoke", row.split()[0]).returncode == 0
    assert statuses(running, secret) == {401}


def test_what_was_done_at_the_terminal_is_in_the_audit_trail(running: Service) -> None:
    running.admin()  # the bed makes its own token in another way
    typed(running, *CREATE, "--scope", "registry:read")
    assert typed(running, "token", "revoke", "nope").returncode == 1
    events = running.ask("/v1/audit-events?n=10").json()["items"]
    said = [(event["action"], event["outcome"], event["actor"]) for event in events]
    assert ("token.create", "succeeded") in [one[:2] for one in said]
    assert ("token.revoke", "failed") in [one[:2] for one in said]
    typed_ones = [one for one in said if one[0].startswith("token.")][:2]
    assert all(actor.startswith("cli:") for _, _, actor in typed_ones)


def test_a_token_can_be_created_before_the_first_start(stopped: Service) -> None:
    secret = typed(stopped, *CREATE, "--scope", "admin").stdout.strip()
    stopped.start()
    assert stopped.ask("/v1/me", token=secret).status == 200


def test_what_is_kept_is_nobody_elses_business(stopped: Service) -> None:
    created = typed(stopped, *CREATE, "--scope", "admin")
    assert created.returncode == 0, created.stderr
    kept = [stopped.data_dir, *stopped.data_dir.iterdir()]
    assert any(path.name.endswith(".db") for path in kept)
    assert {path: oct(path.stat().st_mode & 0o077) for path in kept} == dict.fromkeys(kept, "0o0")


def test_the_module_is_the_command_too(stopped: Service) -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "service.cli", *CREATE, "--scope", "admin"],
        env=stopped.environment(),
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert SECRET.fullmatch(ended.stdout.strip())


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        ((*CREATE, "--scope", "nope"), 2),
        (("token", "create"), 2),
        (("nope",), 2),
        (("serve", "--config", "nowhere.toml"), 2),
        (("config", "check", "--config", "nowhere.toml"), 2),
        (("token", "revoke", "nope"), 1),
        (("openapi", "--check", "--file", "nowhere.json"), 1),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else None,
)
def test_mistakes_are_one_line_and_no_traceback(
    stopped: Service, arguments: tuple[str, ...], code: int
) -> None:
    ended = typed(stopped, *arguments)
    assert ended.returncode == code
    assert ended.stdout == ""
    assert ended.stderr.startswith("registry-admin: ")
    assert ended.stderr.count("\n") == 1


def test_the_settings_are_shown_without_secrets(stopped: Service) -> None:
    registry = {"url": "http://127.0.0.1:5000", "username": "ann", "password": "hunter2"}
    stopped.configure({"registries": {"default": registry}})
    ended = typed(stopped, "config", "check")
    assert ended.returncode == 0
    assert 'username = "ann"' in ended.stdout
    assert "hunter2" not in ended.stdout + ended.stderr


def test_the_document_is_the_one_that_is_served(running: Service) -> None:
    document = typed(running, "openapi").stdout
    assert json.loads(document) == running.ask("/openapi.json", token=None).json()
