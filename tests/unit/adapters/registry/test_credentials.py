from __future__ import annotations

import base64
import json
import os
from pathlib import Path

import pytest

from service.adapters.registry import credentials_of
from service.adapters.registry.credentials import FixedLogin, NoCredentials, PasswordFile
from service.adapters.registry.docker_config import KEPT_SECONDS, DockerConfig
from service.adapters.registry.origin import Origin
from service.domain.errors import RegistryUnauthorized
from service.settings import RegistrySettings

ORIGIN = Origin.of("https://r.example:5000")
HELPER = """#!/bin/sh
echo "$1" >> {calls}
read -r server
case "$server" in
  r.example:5000) echo '{{"ServerURL": "r.example:5000", "Username": "{user}", "Secret": "s3"}}';;
  broken:1) echo 'no JSON, but a s3cret';;
  failing:1) echo 'something went wrong' >&2; exit 1;;
  *) echo 'credentials not found in native keychain'; exit 1;;
esac
"""


def auth(user: str, password: str) -> str:
    return base64.b64encode(f"{user}:{password}".encode()).decode()


def config(folder: Path, **content: object) -> Path:
    file = folder / "config.json"
    file.write_text(json.dumps(content))
    return file


@pytest.fixture
def helper(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Put ``docker-credential-test`` on the PATH; gives the file in which its calls stand."""
    calls = tmp_path / "calls"
    calls.touch()
    folder = tmp_path / "bin"
    folder.mkdir()
    program = folder / "docker-credential-test"
    program.write_text(HELPER.format(calls=calls, user="helped"))
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    return calls


# Which one.


def test_the_settings_say_where_a_login_comes_from(tmp_path: Path) -> None:
    file = config(tmp_path)

    def chosen(**settings: object) -> type:
        made = RegistrySettings("r", "https://r.example:5000", **settings)  # type: ignore[arg-type]
        return type(credentials_of(made, ORIGIN))

    assert chosen() is NoCredentials
    assert chosen(username="u", password="p") is FixedLogin
    assert chosen(username="u", password_file=file) is PasswordFile
    assert chosen(docker_config=file) is DockerConfig
    assert chosen(username="u", password="p", docker_config=file) is FixedLogin


def test_a_basic_login_is_encoded_as_utf_8() -> None:
    login = FixedLogin("ü", "p:ä").login()
    assert login is not None
    assert base64.b64decode(login.basic.removeprefix("Basic ")).decode() == "ü:p:ä"


# A file with the password.


def test_a_password_file_is_read_without_the_line_break_at_its_end(tmp_path: Path) -> None:
    file = tmp_path / "password"
    file.write_text(" with spaces \r\n")
    login = PasswordFile("u", file).login()
    assert login is not None
    assert login.secret == " with spaces "
    assert login.source == f"file {file}"


def test_a_password_file_is_read_anew_when_it_changes(tmp_path: Path) -> None:
    file = tmp_path / "password"
    file.write_text("one")
    source = PasswordFile("u", file)
    first = source.login()
    assert source.login() is first
    file.with_suffix(".new").write_text("two")
    file.with_suffix(".new").rename(file)
    second = source.login()
    assert second is not None
    assert second.secret == "two"


@pytest.mark.parametrize("content", [None, b"\xff\xfe"])
def test_a_password_file_that_cannot_be_read_is_named(
    tmp_path: Path, content: bytes | None
) -> None:
    file = tmp_path / "password"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(RegistryUnauthorized) as caught:
        PasswordFile("u", file).login()
    assert str(file) in str(caught.value)


# What docker login keeps.


@pytest.mark.parametrize(
    "key", ["r.example:5000", "https://r.example:5000", "https://r.example:5000/v1/"]
)
def test_a_stored_login_is_found_by_host_or_url(tmp_path: Path, key: str) -> None:
    file = config(
        tmp_path, auths={"other": {"auth": auth("x", "y")}, key: {"auth": auth("u", "p:q")}}
    )
    login = DockerConfig(file, ORIGIN).login()
    assert login is not None
    assert (login.username, login.secret) == ("u", "p:q")
    assert login.source == f"file {file}"


def test_a_login_may_be_stored_in_plain_words(tmp_path: Path) -> None:
    file = config(tmp_path, auths={"r.example:5000": {"username": "u", "password": "p"}})
    login = DockerConfig(file, ORIGIN).login()
    assert login is not None
    assert (login.username, login.secret) == ("u", "p")


def test_an_identity_token_is_told_apart(tmp_path: Path) -> None:
    entry = {"auth": auth("u", ""), "identitytoken": "i"}
    login = DockerConfig(config(tmp_path, auths={"r.example:5000": entry}), ORIGIN).login()
    assert login is not None
    assert (login.secret, login.identity_token) == ("i", True)


def test_a_folder_stands_for_the_config_in_it(tmp_path: Path) -> None:
    config(tmp_path, auths={"r.example:5000": {"auth": auth("u", "p")}})
    assert DockerConfig(tmp_path, ORIGIN).login() is not None


def test_another_port_is_another_registry(tmp_path: Path) -> None:
    file = config(tmp_path, auths={"r.example": {"auth": auth("u", "p")}})
    assert DockerConfig(file, ORIGIN).login() is None
    assert DockerConfig(file, Origin.of("https://r.example")).login() is not None


def test_docker_hub_goes_by_its_old_name(tmp_path: Path) -> None:
    file = config(tmp_path, auths={"https://index.docker.io/v1/": {"auth": auth("u", "p")}})
    assert DockerConfig(file, Origin.of("https://registry-1.docker.io")).login() is not None


@pytest.mark.parametrize(
    "content",
    [{}, {"auths": None}, {"auths": []}, {"auths": {"r.example:5000": {}}},
     {"auths": {"r.example:5000": {"auth": "%%%"}}}, {"auths": {"r.example:5000": "x"}}],
)  # fmt: skip
def test_where_nothing_is_stored_there_is_no_login(
    tmp_path: Path, content: dict[str, object]
) -> None:
    assert DockerConfig(config(tmp_path, **content), ORIGIN).login() is None


def test_a_config_that_is_no_json_is_named_and_not_quoted(tmp_path: Path) -> None:
    file = tmp_path / "config.json"
    file.write_text('{"auths": s3cret')
    with pytest.raises(RegistryUnauthorized) as caught:
        DockerConfig(file, ORIGIN).login()
    assert str(file) in str(caught.value)
    assert "s3cret" not in str(caught.value)
    assert caught.value.__cause__ is None


@pytest.mark.parametrize(
    "content", [{"credsStore": "test"}, {"credHelpers": {"r.example:5000": "test"}}]
)
def test_a_helper_is_asked(tmp_path: Path, helper: Path, content: dict[str, object]) -> None:
    source = DockerConfig(config(tmp_path, **content), ORIGIN)
    login = source.login()
    assert login is not None
    assert (login.username, login.secret, login.identity_token) == ("helped", "s3", False)
    assert login.source == "docker-credential-test"
    assert source.login() is login
    assert helper.read_text() == "get\n"
    assert "s3" not in repr(login)


def test_the_helper_for_a_registry_goes_before_the_store(tmp_path: Path, helper: Path) -> None:
    file = config(tmp_path, credsStore="absent", credHelpers={"r.example:5000": "test"})
    assert DockerConfig(file, ORIGIN).login() is not None
    assert helper.read_text() == "get\n"


def test_what_a_helper_does_not_have_may_still_be_stored(tmp_path: Path, helper: Path) -> None:
    file = config(tmp_path, credsStore="test", auths={"other:1": {"auth": auth("u", "p")}})
    login = DockerConfig(file, Origin.of("https://other:1")).login()
    assert login is not None
    assert login.username == "u"
    assert DockerConfig(file, Origin.of("https://nowhere:1")).login() is None
    assert helper.read_text() == "get\nget\n"


def test_a_helper_can_give_an_identity_token(tmp_path: Path, helper: Path) -> None:
    program = tmp_path / "bin/docker-credential-test"
    program.write_text(HELPER.format(calls=helper, user="<token>"))
    login = DockerConfig(config(tmp_path, credsStore="test"), ORIGIN).login()
    assert login is not None
    assert login.identity_token


@pytest.mark.parametrize(
    ("name", "host"),
    [("test", "failing:1"), ("test", "broken:1"), ("absent", "r.example:5000"),
     ("../../bin/sh", "r.example:5000"), ("", "r.example:5000")],
)  # fmt: skip
def test_a_helper_that_does_not_help_is_told_so(
    tmp_path: Path, helper: Path, name: str, host: str
) -> None:
    assert helper.exists()
    file = config(tmp_path, credHelpers={host: name})
    source = DockerConfig(file, Origin.of(f"https://{host}"))
    if not name:
        assert source.login() is None
        return
    with pytest.raises(RegistryUnauthorized) as caught:
        source.login()
    assert "s3" not in str(caught.value)


def test_a_helper_that_hangs_is_given_up(
    tmp_path: Path, helper: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert helper.exists()
    (tmp_path / "bin/docker-credential-test").write_text("#!/bin/sh\nexec sleep 30\n")
    monkeypatch.setattr("service.adapters.registry.docker_config.HELPER_SECONDS", 0.1)
    with pytest.raises(RegistryUnauthorized, match="TimeoutExpired"):
        DockerConfig(config(tmp_path, credsStore="test"), ORIGIN).login()


def test_what_a_helper_said_is_believed_for_a_while() -> None:
    assert 60 <= KEPT_SECONDS <= 600
