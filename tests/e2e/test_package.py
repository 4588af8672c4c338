"""The installed package: what a checkout has by itself must be in the wheel as well."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCES = ("service", "demo", "pyproject.toml", "README.md", "LICENSE")


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the package, installed from a wheel built of a copy of the sources."""
    folder = tmp_path_factory.mktemp("package")
    source = folder / "source"
    source.mkdir()
    for name in SOURCES:
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, source / name)
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet"]
    offline = ["--no-deps", "--no-index", "--no-build-isolation"]
    build = [*pip, "wheel", *offline, "--wheel-dir", str(folder), str(source)]
    subprocess.run(build, check=True, capture_output=True, timeout=110)
    (wheel,) = folder.glob("*.whl")
    target = folder / "installed"
    command = [*pip, "install", *offline, "--target", str(target), str(wheel)]
    subprocess.run(command, check=True, capture_output=True, timeout=110)
    return target


def test_the_package_makes_its_database(installed: Path, tmp_path: Path) -> None:
    environment = os.environ | {
        "PYTHONPATH": str(installed),
        "REGISTRY_ADMIN_DATA_DIR": str(tmp_path / "data"),
    }
    command = [sys.executable, "-P", "-m", "service.cli"]
    create = [*command, "token", "create", "--name", "ann", "--scope", "admin"]
    ended = subprocess.run(
        create, env=environment, cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert ended.stdout.startswith("radm_"), ended.stderr
    where = [sys.executable, "-P", "-c", "import service; print(service.__file__)"]
    said = subprocess.run(where, env=environment, capture_output=True, text=True, check=True)
    assert said.stdout.startswith(str(installed))


def test_the_package_has_all_its_files(installed: Path) -> None:
    ours = {path.relative_to(ROOT) for path in (ROOT / "service").rglob("*") if path.is_file()}
    theirs = {path.relative_to(installed) for path in (installed / "service").rglob("*")}
    missing = {path for path in ours - theirs if "__pycache__" not in path.parts}
    assert missing == set()
