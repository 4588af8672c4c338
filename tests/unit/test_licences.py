"""Whose licences are not in a Python package's metadata: `make licences` looks at those."""

from __future__ import annotations

import json
import tomllib
from importlib import resources
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LOCKS = sorted((ROOT / "tests/e2e").glob("*/package-lock.json"))
OF_TESTS_ALONE = {
    "0BSD",
    "BSD",
    "ISC",
    "Python-2.0",
    "(BSD-3-Clause AND Apache-2.0)",
    "(MIT OR CC0-1.0)",
    "(MPL-2.0 OR Apache-2.0)",
}
"""Besides those of the Python packages; nothing from npm is shipped."""

UNSAID = {"decko", "stickyfill"}
"""Say in words that theirs is MIT."""


def allowed() -> set[str]:
    document = tomllib.loads((ROOT / "pyproject.toml").read_text())
    return {name.strip() for name in document["tool"]["pip-licenses"]["allow-only"].split(";")}


def test_nothing_that_binds_the_whole_is_let_in() -> None:
    binding = {name for name in allowed() if "GPL" in name and not name.startswith("LGPL")}
    assert binding == set()


@pytest.mark.parametrize("lock", LOCKS, ids=lambda lock: lock.parent.name)
def test_what_the_tests_take_from_npm(lock: Path) -> None:
    packages = json.loads(lock.read_text())["packages"]
    said = {
        path.rpartition("node_modules/")[2]: one.get("license") for path, one in packages.items()
    }
    strange = {name: licence for name, licence in said.items() if licence not in allowed()}
    others = {name for name, licence in strange.items() if licence not in OF_TESTS_ALONE}
    assert others - {""} <= UNSAID


def test_what_the_service_hands_to_browsers() -> None:
    """Swagger UI comes in a package that is MIT, and is Apache-2.0 itself; the rest is ours."""
    theirs = resources.files("flask_swagger_ui") / "dist"
    assert "Apache License, Version 2.0" in (theirs / "LICENSE").read_text()
    ours = sorted((ROOT / "service/api/assets").rglob("*"))
    text = "".join(path.read_text() for path in ours if path.is_file()).lower()
    assert "copyright" not in text
    assert "licen" not in text
