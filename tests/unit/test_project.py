import re
import tomllib
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement

import service

ROOT = Path(__file__).parents[2]
LOCKS = sorted((ROOT / "requirements").glob("*.txt"))
PIN = re.compile(r"^([a-z0-9-]+)==\S+( ; .+)? \\$")
HASH = re.compile(r"^    --hash=sha256:[0-9a-f]{64}( \\)?$")


def pins(lock: Path) -> set[str]:
    return {match[0] for line in lock.read_text().splitlines() if (match := PIN.match(line))}


def test_distribution_has_the_package_version() -> None:
    assert metadata.version("registry-admin") == service.__version__


def test_all_locks_are_looked_at() -> None:
    assert [lock.name for lock in LOCKS] == ["build.txt", "dev.txt", "runtime.txt"]


@pytest.mark.parametrize("lock", LOCKS, ids=lambda lock: lock.name)
def test_lock_holds_pins_hashes_and_comments_alone(lock: Path) -> None:
    lines = lock.read_text().splitlines()
    odd = [line for line in lines if not (PIN.match(line) or HASH.match(line))]
    assert [line for line in odd if not line.lstrip().startswith("#")] == []
    assert "://" not in lock.read_text()


def test_development_lock_has_the_other_locks_pins() -> None:
    dev = pins(ROOT / "requirements/dev.txt")
    assert pins(ROOT / "requirements/runtime.txt") <= dev
    assert pins(ROOT / "requirements/build.txt") <= dev


def fits(requirement: Requirement, version: str | None) -> bool:
    return version is not None and requirement.specifier.contains(version)


def unmet(requirements: list[str], lock: Path) -> set[str]:
    versions = dict(pin.split(" ")[0].split("==") for pin in pins(lock))
    wanted = [Requirement(text) for text in requirements]
    return {str(one) for one in wanted if not fits(one, versions.get(one.name))}


def test_locks_are_as_new_as_the_requirements() -> None:
    document = tomllib.loads((ROOT / "pyproject.toml").read_text())
    runtime = document["project"]["dependencies"]
    groups = document["dependency-groups"]
    assert unmet(runtime, ROOT / "requirements/runtime.txt") == set()
    extras = document["project"]["optional-dependencies"]
    assert unmet(extras["otel"], ROOT / "requirements/dev.txt") == set()
    assert unmet(groups["build"], ROOT / "requirements/build.txt") == set()
    assert unmet(groups["dev"], ROOT / "requirements/dev.txt") == set()


@pytest.mark.parametrize("folder", ["accessibility", "httpyac", "openapi-lint", "typescript"])
def test_node_lock_names_no_registry(folder: str) -> None:
    lock = (ROOT / "tests/e2e" / folder / "package-lock.json").read_text()
    packages = lock.count('"node_modules/')
    assert '"resolved"' not in lock
    assert lock.count('"integrity"') == packages > 0
