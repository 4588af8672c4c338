from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path

import pytest

from service import settings
from service.settings import (
    ENGINE,
    REGISTRY,
    SERVICE,
    Settings,
    SettingsError,
    example,
    load,
    strange_variables,
    summary,
)

URL = {"REGISTRY_ADMIN_REGISTRY_URL": "http://127.0.0.1:5000"}


def read(tmp_path: Path, toml: str, environ: Mapping[str, str] | None = None) -> Settings:
    file = tmp_path / "config.toml"
    file.write_text(toml)
    return load(file, environ or {})


def refusal(tmp_path: Path, toml: str, environ: Mapping[str, str] | None = None) -> str:
    with pytest.raises(SettingsError) as caught:
        read(tmp_path, toml, environ)
    return str(caught.value)


def test_nothing_need_be_set() -> None:
    found = load(None, {})
    assert found.bind == "127.0.0.1:8080"
    assert found.address == ("127.0.0.1", 8080)
    assert found.registries == {}
    assert found.engines["local"].url == "unix:///var/run/docker.sock"
    assert found.database_url == f"sqlite:///{found.data_dir}/registry-admin.db"
    assert found.certs_dir == found.data_dir / "certs.d"
    assert found.workers == 1
    assert found.threads == 16
    assert found.cache_bytes == 256 * 1024 * 1024


def test_a_checkout_keeps_its_data_beside_the_code() -> None:
    assert load(None, {}).data_dir == Path(__file__).parents[2] / "data"


@pytest.mark.parametrize(
    ("user", "environ", "expected"),
    [
        (0, {}, "/var/lib/registry-admin"),
        (1000, {"XDG_STATE_HOME": "/state"}, "/state/registry-admin"),
        (1000, {}, "/home/ann/.local/state/registry-admin"),
    ],
)
def test_a_package_keeps_its_data_where_the_system_does(
    monkeypatch: pytest.MonkeyPatch, user: int, environ: dict[str, str], expected: str
) -> None:
    monkeypatch.setattr(settings, "__file__", "/usr/lib/python3/service/settings.py")
    monkeypatch.setattr(os, "geteuid", lambda: user)
    monkeypatch.setenv("HOME", "/home/ann")
    assert settings.default_data_dir(environ) == Path(expected)


def test_the_contract_s_example(tmp_path: Path) -> None:
    found = read(
        tmp_path,
        """
        bind = "127.0.0.1:8081"
        data_dir = "state"
        database_url = "postgresql://me:secret@db/admin"
        [registries.default]
        url = "http://127.0.0.1:5000/"
        container = "registry"
        engine = "local"
        username = "ann"
        password = "hunter2"
        [registries."other.one"]
        url = "https://registry.example.com"
        timeout_seconds = 3
        [engines.local]
        url = "unix:///run/docker.sock"
        containers = ["registry", "web-*"]
        """,
    )
    default = found.registries["default"]
    assert default.url == "http://127.0.0.1:5000"
    assert (default.container, default.engine) == ("registry", "local")
    assert (default.username, default.password) == ("ann", "hunter2")
    assert (default.timeout_seconds, default.concurrency) == (10.0, 16)
    assert default.certs_dir == found.certs_dir
    assert found.registries["other.one"].timeout_seconds == 3.0
    assert found.engines["local"].containers == ("registry", "web-*")
    assert found.data_dir == tmp_path / "state"


def test_the_environment_wins_over_the_file(tmp_path: Path) -> None:
    found = read(
        tmp_path,
        'bind = "127.0.0.1:1"\n[registries.default]\nurl = "http://file:5000"\nconcurrency = 3',
        {"REGISTRY_ADMIN_BIND": "[::1]:2", "REGISTRY_ADMIN_REGISTRY_URL": "http://variable:5000"},
    )
    assert found.address == ("::1", 2)
    assert found.registries["default"].url == "http://variable:5000"
    assert found.registries["default"].concurrency == 3


def test_every_setting_has_its_variable(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    texts = {
        "BIND": "0.0.0.0:80",
        "DATA_DIR": "/d",
        "DATABASE_URL": "postgres://h/d",
        "CERTS_DIR": "/c",
        "WORKERS": "3",
        "THREADS": "4",
        "CORS_ORIGINS": "https://a.example, http://b.example:81",
        "TRUSTED_PROXIES": "10.0.0.0/8,::1",
        "CACHE_BYTES": "1048576",
        "LOG_LEVEL": "debug",
        "LOG_FORMAT": "text",
        "JOB_RETENTION_DAYS": "7",
        "REGISTRY_URL": "https://r.example",
        "REGISTRY_CONTAINER": "registry",
        "REGISTRY_ENGINE": "local",
        "REGISTRY_USERNAME": "ann",
        "REGISTRY_PASSWORD": "hunter2",
        "REGISTRY_PASSWORD_FILE": "",
        "REGISTRY_DOCKER_CONFIG": "",
        "REGISTRY_CA_FILE": str(file),
        "REGISTRY_REDIS_URL": "redis://:hunter3@r.example/1",
        "REGISTRY_CERTS_DIR": "/rc",
        "REGISTRY_TIMEOUT_SECONDS": "2.5",
        "REGISTRY_CONCURRENCY": "5",
        "ENGINE_URL": "tcp://127.0.0.1:2375",
        "CONTAINERS": "a,b-*",
        "ENGINE_CERTS_DIR": "/ec",
    }
    rows = (*settings.SERVICE, *settings.REGISTRY, *settings.ENGINE)
    assert {row.variable for row in rows} == set(texts)
    found = load(None, {f"REGISTRY_ADMIN_{name}": text for name, text in texts.items()})
    assert found == Settings(
        bind="0.0.0.0:80",
        data_dir=Path("/d"),
        database_url="postgresql://h/d",
        certs_dir=Path("/c"),
        workers=3,
        threads=4,
        cors_origins=("https://a.example", "http://b.example:81"),
        trusted_proxies=("10.0.0.0/8", "::1"),
        cache_bytes=1048576,
        job_retention_days=7,
        log_level="debug",
        log_format="text",
        registries=found.registries,
        engines={
            "local": settings.EngineSettings(
                "local", "tcp://127.0.0.1:2375", ("a", "b-*"), Path("/ec")
            )
        },
    )
    assert found.registries == {
        "default": settings.RegistrySettings(
            name="default",
            url="https://r.example",
            container="registry",
            engine="local",
            username="ann",
            password="hunter2",
            ca_file=file,
            redis_url="redis://:hunter3@r.example/1",
            certs_dir=Path("/rc"),
            timeout_seconds=2.5,
            concurrency=5,
        )
    }


def test_every_field_is_in_the_table() -> None:
    tables = (
        (Settings, settings.SERVICE, {"registries", "engines"}),
        (settings.RegistrySettings, settings.REGISTRY, {"name"}),
        (settings.EngineSettings, settings.ENGINE, {"name", "implied"}),
    )
    for kind, rows, others in tables:
        assert set(kind.__annotations__) == {row.name for row in rows} | others
    assert all(row.doc.endswith(".") for _, rows, _ in tables for row in rows)


def test_an_empty_variable_is_none() -> None:
    assert load(None, {"REGISTRY_ADMIN_BIND": "", "REGISTRY_ADMIN_REGISTRY_URL": ""}).bind
    assert load(None, {"REGISTRY_ADMIN_REGISTRY_URL": ""}).registries == {}


def test_the_file_may_be_named_by_the_environment(tmp_path: Path) -> None:
    file = tmp_path / "c.toml"
    file.write_text('bind = "127.0.0.1:1"')
    assert load(None, {"REGISTRY_ADMIN_CONFIG": str(file)}).bind == "127.0.0.1:1"


def test_paths_start_at_the_file_that_names_them(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").touch()
    toml = """
        data_dir = "../data"
        database_url = "sqlite:///db/admin.db"
        [registries.default]
        url = "http://h"
        ca_file = "ca.pem"
    """
    found = read(tmp_path, toml)
    assert found.data_dir == tmp_path.parent / "data"
    assert found.database_url == f"sqlite:///{tmp_path}/db/admin.db"
    assert found.registries["default"].ca_file == tmp_path / "ca.pem"


def test_paths_of_the_environment_start_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert load(None, {"REGISTRY_ADMIN_DATA_DIR": "d"}).data_dir == tmp_path / "d"


def test_docker_host_is_the_default_engine() -> None:
    assert load(None, {"DOCKER_HOST": "ssh://somewhere"}).engines["local"].url == "ssh://somewhere"


@pytest.mark.parametrize(
    ("toml", "words"),
    [
        ("nonsense = 1", ["nonsense is no setting", "bind", "registries"]),
        ("bind = 8080", ["bind must be host:port", "8080"]),
        ('bind = "8080"', ["bind must be host:port"]),
        ('bind = "h:99999"', ["bind must be host:port"]),
        ("workers = true", ["workers must be a whole number from 1 to 64", "True"]),
        ("workers = 0", ["workers must be a whole number"]),
        ('workers = "2"', ["workers must be a whole number"]),
        ("threads = 1.5", ["threads must be a whole number"]),
        ('log_level = "loud"', ["log_level must be one of debug, info, warning, error"]),
        ('log_format = "xml"', ["log_format must be one of json, text"]),
        ('cors_origins = "https://a"', ["cors_origins must be a list"]),
        ('cors_origins = ["*"]', ["cors_origins must be a list of origins"]),
        ('cors_origins = ["https://a/path"]', ["cors_origins"]),
        ('trusted_proxies = ["proxy"]', ["trusted_proxies must be a list of IP addresses"]),
        ('data_dir = ""', ["data_dir must be a path"]),
        ('database_url = "mysql://h/d"', ["database_url must be sqlite:///path", "postgresql"]),
        ('database_url = "sqlite://"', ["database_url must be"]),
        ('database_url = "sqlite:///:memory:"', ["database_url must be"]),
        ("registries = 1", ["registries must be tables, as in [registries.NAME]"]),
        ("[registries]\ndefault = 1", ["registries.default must be a table"]),
        ("[registries.default]", ["registries.default.url is missing"]),
        ("[registries.default]\nurl = 1", ["registries.default.url must be http://"]),
        ('[registries.default]\nurl = "h:5000"', ["registries.default.url must be http://"]),
        ('[registries.default]\nurl = "ftp://h"', ["registries.default.url must be http://"]),
        ('[registries.default]\nurl = "http://h:99999"', ["registries.default.url"]),
        ('[registries.default]\nurl = "http://h?x=1"', ["registries.default.url"]),
        ('[registries.default]\nurl = "http://h/v2/"', ["must not end with /v2"]),
        ('[registries.default]\nurl = "http://h"\nurll = 1', ["registries.default.urll", "url,"]),
        ('[registries."a/b"]\nurl = "http://h"', ["registries.'a/b' has a name"]),
        ('[registries.""]\nurl = "http://h"', ["has a name that is not allowed"]),
        ('[registries.default]\nurl = "http://h"\nca_file = "x"', ["ca_file names", "not there"]),
        ('[registries.default]\nurl = "http://h"\nengine = "e"', ["engine", "Allowed: local"]),
        ('[registries.default]\nurl = "http://h"\nusername = "a"', ["needs username and one of"]),
        ('[registries.default]\nurl = "http://h"\npassword = "a"', ["needs username and one of"]),
        ('[registries.default]\nurl = "http://h"\ntimeout_seconds = 0', ["from 0.1 to 600"]),
        ('[registries.default]\nurl = "http://h"\nredis_url = "h:6379"', ["must be redis://"]),
        ('[registries.default]\nurl = "http://h"\nredis_url = "redis://"', ["must be redis://"]),
        ('[registries.default]\nurl = "http://h"\nredis_url = "redis://h/a"', ["redis_url must"]),
        ('[registries.default]\nurl = "http://h"\nredis_url = "redis://h?db=1"', ["redis_url"]),
        ('[registries.default]\nurl = "http://h"\nredis_url = "redis://h:0"', ["redis_url must"]),
        ('[engines.local]\nurl = "http://h"', ["engines.local.url must be unix:///path, tcp"]),
        ('[engines.local]\nurl = "tcp://h"', ["engines.local.url must be"]),
        ('[engines.local]\nurl = "ssh://u:p@h"', ["engines.local.url must be"]),
        ("[engines.local]\ncontainers = [1]", ["engines.local.containers must be a list"]),
    ],
)
def test_what_cannot_be_used_is_refused_by_name(
    tmp_path: Path, toml: str, words: list[str]
) -> None:
    said = refusal(tmp_path, toml)
    assert said.startswith(f"{tmp_path}/config.toml: ")
    assert "\n" not in said
    for word in words:
        assert word in said


def test_two_secrets_are_one_too_many(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    base = '[registries.default]\nurl = "http://h"\nusername = "a"\npassword = "b"\n'
    assert "keep one" in refusal(tmp_path, base + 'password_file = "file"')
    assert "keep one" in refusal(tmp_path, base + 'docker_config = "file"')


def test_credentials_in_a_url_are_sent_elsewhere_and_not_repeated(tmp_path: Path) -> None:
    said = refusal(tmp_path, '[registries.default]\nurl = "https://ann:hunter2@h"')
    assert "username and password" in said
    assert "hunter2" not in said


def test_no_secret_is_in_a_refusal(tmp_path: Path) -> None:
    said = refusal(tmp_path, 'database_url = "mysql://ann:hunter2@h/d"')
    said += refusal(tmp_path, '[registries.default]\nurl = "http://h"\npassword = ["hunter2"]')
    said += refusal(tmp_path, '[registries.default]\nurl = "http://h"\nredis_url = "h:hunter2"')
    assert "hunter2" not in said


@pytest.mark.parametrize(
    ("name", "text"),
    [("WORKERS", "many"), ("BIND", "8080"), ("REGISTRY_URL", "nowhere"), ("CORS_ORIGINS", "*")],
)
def test_a_variable_is_refused_by_its_name(name: str, text: str) -> None:
    with pytest.raises(SettingsError, match=f"^environment: REGISTRY_ADMIN_{name} must be "):
        load(None, {f"REGISTRY_ADMIN_{name}": text})


def test_a_registry_of_the_environment_needs_its_url() -> None:
    with pytest.raises(SettingsError, match="url is missing"):
        load(None, {"REGISTRY_ADMIN_REGISTRY_USERNAME": "ann"})


def test_a_file_that_is_not_there_or_no_toml(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"nowhere\.toml: cannot be read: No such file"):
        load(tmp_path / "nowhere.toml", {})
    assert "is not TOML" in refusal(tmp_path, "a = = 1")


def test_misspelt_variables_are_told_of() -> None:
    said = strange_variables(
        {
            "REGISTRY_ADMIN_DATADIR": "x",
            "REGISTRY_ADMIN_CONFIG": "x",
            "REGISTRY_ADMIN_BIND": "x",
            "REGISTRY_ADMIN_SERVICE_HOST": "10.0.0.1",
            "REGISTRY_ADMIN_PORT_8080_TCP": "tcp://10.0.0.1:8080",
            "PATH": "x",
        }
    )
    (only,) = said
    assert only.startswith("environment: REGISTRY_ADMIN_DATADIR is no setting and is ignored; ")
    assert only.endswith("did you mean REGISTRY_ADMIN_DATA_DIR?")


def test_the_summary_is_toml_that_means_the_same_but_for_secrets(tmp_path: Path) -> None:
    toml = """
        database_url = "postgresql://me:hun@ter2@db/admin?password=hunter3"
        [registries."other.one"]
        url = "https://h"
        username = "a\\"nn"
        password = "hunter4"
        redis_url = "redis://:hunter5@r:6379/1"
        [engines.local]
        containers = ["web-*"]
    """
    found = read(tmp_path, toml)
    said = summary(found)
    for secret in ("hun@ter2", "ter2", "hunter3", "hunter4", "hunter5"):
        assert secret not in said
    shown = tomllib.loads(said)
    assert shown["registries"]["other.one"]["username"] == 'a"nn'
    assert shown["registries"]["other.one"]["password"] == "(hidden)"
    assert shown["registries"]["other.one"]["redis_url"] == "redis://:(hidden)@r:6379/1"
    assert shown["database_url"] == "postgresql://me:(hidden)@db/admin?password=(hidden)"
    assert shown["engines"]["local"]["containers"] == ["web-*"]
    again = read(tmp_path, said)
    assert again.registries["other.one"].url == "https://h"


def test_secrets_are_not_in_a_repr(tmp_path: Path) -> None:
    found = read(
        tmp_path,
        'database_url = "postgresql://me:hunter2@h/d"\n[registries.default]\n'
        'url = "http://h"\nusername = "a"\npassword = "hunter2"\nredis_url = "redis://:hunter2@h"',
    )
    assert "hunter2" not in repr(found)


EXAMPLE = Path(__file__).parents[2] / "deploy" / "registry-admin.example.toml"


def test_the_example_names_every_setting_and_changes_nothing(tmp_path: Path) -> None:
    """Written by: registry-admin config example > deploy/registry-admin.example.toml."""
    assert EXAMPLE.read_text() == example()
    named = re.findall(r"^# (\w+) = ", EXAMPLE.read_text(), re.MULTILINE)
    assert named == [row.name for row in (*SERVICE, *REGISTRY, *ENGINE)]
    environ = {"REGISTRY_ADMIN_DATA_DIR": str(tmp_path)}
    assert load(EXAMPLE, environ) == load(None, environ)


def test_the_defaults_that_the_example_shows_are_those_in_force(tmp_path: Path) -> None:
    file = tmp_path / "all.toml"
    shown = [line for line in example().splitlines() if " = " in line]
    defaults = {row.name for row in SERVICE if row.default is not None}
    file.write_text("\n".join(
        line.removeprefix("# ") for line in shown[: len(SERVICE)] if line.split()[1] in defaults
    ))  # fmt: skip
    environ = {"REGISTRY_ADMIN_DATA_DIR": str(tmp_path)}
    assert load(file, environ) == load(None, environ)
