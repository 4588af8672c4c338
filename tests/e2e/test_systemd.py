"""The units of deploy/systemd, as systemd itself reads and judges them."""

from __future__ import annotations

import configparser
import re
import subprocess
import sys
from pathlib import Path

import pytest

from service import supervisor
from service.jobs import worker
from service.settings import load
from tests.e2e.bed.programs import need

FOLDER = Path(__file__).parents[2] / "deploy" / "systemd"
UNITS = sorted(FOLDER.glob("*.service"))
PROGRAM = "/opt/registry-admin/bin/registry-admin"
SETTINGS = "/etc/registry-admin/registry-admin.toml"
EXPOSURE = 1.5
"""Of 10: the network, which it must reach, the group of the engine's socket, and its own user."""

DIFFERENT = {"ExecStart"}
each_unit = pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)


def analyze(*arguments: str) -> str:
    ended = subprocess.run(
        [need("systemd-analyze", "systemd"), *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout + ended.stderr


def section(unit: Path) -> dict[str, str]:
    """What a unit says of its service; of lines with one name the last."""
    read = configparser.ConfigParser(interpolation=None, strict=False, delimiters="=")
    read.optionxform = str  # type: ignore[assignment,method-assign] # systemd tells capitals apart
    read.read(unit)
    return dict(read["Service"])


def seconds(text: str) -> float:
    match = re.fullmatch(r"(\d+)s", text)
    assert match, text
    return float(match[1])


def test_there_is_one_for_each_way_to_run_it() -> None:
    names = [unit.name for unit in UNITS]
    assert names == [
        "registry-admin-api.service", "registry-admin-worker@.service", "registry-admin.service",
    ]  # fmt: skip


@each_unit
def test_systemd_finds_nothing_wrong(unit: Path, tmp_path: Path) -> None:
    # Here the program is elsewhere; there must be one, or nothing else is looked at.
    script = Path(sys.executable)
    copies = [tmp_path / one.name for one in UNITS]
    for copy in copies:
        copy.write_text((FOLDER / copy.name).read_text().replace(PROGRAM, str(script)))
    instance = tmp_path / unit.name.replace("@.", "@1.")
    instance.write_text((tmp_path / unit.name).read_text())
    assert analyze("verify", "--man=no", str(instance)) == ""


@each_unit
def test_little_of_the_system_is_open_to_it(unit: Path) -> None:
    analyze("security", "--offline=yes", f"--threshold={EXPOSURE * 10:g}", str(unit))


@each_unit
def test_it_has_the_time_that_it_takes_to_stop(unit: Path) -> None:
    said = section(unit)
    longest = max(supervisor.STOP_SECONDS, worker.GRACE_SECONDS + worker.TASK_SECONDS)
    assert longest < seconds(said["TimeoutStopSec"]) < 2 * longest
    assert said["KillMode"] == "mixed"  # the children are the supervisor's to end
    assert said["Type"] == "notify"
    assert said["Restart"] == "on-failure"


def test_they_differ_in_what_they_start_alone() -> None:
    said = [section(unit) for unit in UNITS]
    for other in said[1:]:
        assert {name for name in other if other[name] != said[0].get(name)} <= DIFFERENT
        assert other.keys() == said[0].keys()


@each_unit
def test_it_starts_a_command_there_is(unit: Path) -> None:
    program, *arguments = section(unit)["ExecStart"].split()
    assert program == PROGRAM
    assert arguments[-2:] == ["--config", SETTINGS]
    command = [sys.executable, "-m", "service.cli", *arguments[:-2], "--help"]
    subprocess.run(command, check=True, capture_output=True, timeout=60)


def test_its_settings_are_settings_and_its_state_is_where_it_may_write(tmp_path: Path) -> None:
    all_of_them = re.sub(
        r"^# (\w+ = )", r"\1", (FOLDER / "registry-admin.toml").read_text(), flags=re.MULTILINE
    )
    (tmp_path / "settings.toml").write_text(all_of_them)
    settings = load(tmp_path / "settings.toml", {})
    said = section(FOLDER / "registry-admin.service")
    assert settings.data_dir == Path("/var/lib") / said["StateDirectory"]
    assert said["ProtectSystem"] == "strict"
    assert settings.database_url.startswith("postgresql://")


def test_its_user_is_made_before(tmp_path: Path) -> None:
    said = section(FOLDER / "registry-admin.service")
    sysusers = str(FOLDER / "sysusers.conf")
    ended = subprocess.run(
        [need("systemd-sysusers", "systemd"), "--dry-run", f"--root={tmp_path}", sysusers],
        capture_output=True, text=True, check=True, timeout=60,
    )  # fmt: skip
    assert f"Creating user '{said['User']}'" in ended.stderr + ended.stdout
