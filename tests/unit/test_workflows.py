"""What a forge runs for contributors and at a release, as far as that can be told without one."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / ".github"
WORKFLOWS = {path.stem: path for path in sorted((FOLDER / "workflows").glob("*.yml"))}
PINNED = re.compile(r"^ *-? ?uses: [\w-]+/[\w-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+$")
TARGET = re.compile(r"^([a-z][a-z-]*):", re.MULTILINE)
MADE = re.compile(r"\bmake ([a-z][a-z-]*)")
READ_ALONE = {"contents": "read"}
MORE = {
    ("release", "image"): {"contents": "read", "packages": "write", "id-token": "write"},
    ("locks", "lock"): {"contents": "write", "pull-requests": "write", "actions": "write"},
}
"""Who may do more than read, and what; each with its reason in the file."""

PUSHERS = {"locks"}

Document = dict[Any, Any]
each_workflow = pytest.mark.parametrize("name", WORKFLOWS)


def document(name: str) -> Document:
    found: Document = yaml.safe_load(WORKFLOWS[name].read_text())
    return found


def steps(name: str, job: str | None = None) -> Iterator[Document]:
    for each, found in document(name)["jobs"].items():
        if job in {None, each}:
            yield from found.get("steps", [])


def step(name: str, job: str, action: str) -> Document:
    [found] = [one for one in steps(name, job) if one.get("uses", "").startswith(f"{action}@")]
    return found


@pytest.mark.parametrize(
    ("schema", "files"),
    [
        ("vendor.github-workflows", list(WORKFLOWS.values())),
        ("vendor.renovate", [FOLDER / "renovate.json"]),
    ],
)
def test_they_are_what_their_schemas_say(schema: str, files: list[Path]) -> None:
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", schema]
    ended = subprocess.run(
        [*command, *map(str, files)], capture_output=True, text=True, timeout=60, check=False
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr


@each_workflow
def test_what_they_make_can_be_made(name: str) -> None:
    targets = set(TARGET.findall((ROOT / "Makefile").read_text()))
    made = {target for one in steps(name) for target in MADE.findall(one.get("run", ""))}
    assert made <= targets
    assert made or name == "release"


@each_workflow
def test_actions_are_pinned_to_what_was_looked_at(name: str) -> None:
    lines = [line for line in WORKFLOWS[name].read_text().splitlines() if "uses: " in line]
    others = [line.split("uses: ")[1] for line in lines if not PINNED.match(line)]
    assert others == (["./.github/workflows/check.yml"] if name == "release" else [])


@each_workflow
def test_they_may_do_what_they_need_alone(name: str) -> None:
    found = document(name)
    assert found["permissions"] == READ_ALONE
    for job, each in found["jobs"].items():
        assert each.get("permissions", READ_ALONE) == MORE.get((name, job), READ_ALONE)
        assert "uses" in each or each["timeout-minutes"] <= 90


@each_workflow
def test_no_step_keeps_credentials_that_it_does_not_need(name: str) -> None:
    checkouts = [one for one in steps(name) if one.get("uses", "").startswith("actions/checkout@")]
    assert checkouts
    kept = [one for one in checkouts if one.get("with", {}).get("persist-credentials") is not False]
    assert bool(kept) == (name in PUSHERS)


@each_workflow
def test_nothing_from_outside_becomes_part_of_a_script(name: str) -> None:
    assert [one["run"] for one in steps(name) if "${{" in one.get("run", "")] == []


def test_a_tag_publishes_what_was_checked() -> None:
    found = document("release")
    assert found[True] == {"push": {"tags": ["v*.*.*"]}}  # YAML 1.1 reads `on` so
    assert found["jobs"]["check"]["uses"] == "./.github/workflows/check.yml"
    assert "workflow_call" in document("check")[True]
    assert found["jobs"]["check"]["needs"] == "named"
    assert found["jobs"]["image"]["needs"] == "check"


@pytest.mark.parametrize("name", ["check", "release"])
def test_the_image_is_built_for_two_architectures(name: str) -> None:
    told = step(name, "image", "docker/build-push-action")["with"]
    assert told["platforms"] == "linux/amd64,linux/arm64"
    assert told["context"] == "."
    assert step(name, "image", "docker/setup-qemu-action")
    assert step(name, "image", "docker/setup-buildx-action")


def test_what_is_published_has_its_materials_and_a_signature() -> None:
    built = step("release", "image", "docker/build-push-action")
    assert built["with"]["push"] is True
    assert built["with"]["sbom"] is True
    assert built["with"]["provenance"] == "mode=max"
    assert not any(name.startswith("cache-") for name in built["with"])
    last = list(steps("release", "image"))[-1]
    assert last["run"].startswith("cosign sign --yes ")
    assert last["run"].endswith('@${DIGEST}"')
    assert last["env"]["DIGEST"] == f"${{{{ steps.{built['id']}.outputs.digest }}}}"
    assert step("release", "image", "sigstore/cosign-installer")


def test_build_arguments_are_those_of_the_dockerfile() -> None:
    told = step("release", "image", "docker/build-push-action")["with"]["build-args"]
    names = {line.partition("=")[0] for line in told.splitlines()}
    known = re.findall(r"^ARG (.+)$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    assert names <= {word.partition("=")[0] for line in known for word in line.split()}


def test_the_tag_is_compared_with_the_version(tmp_path: Path) -> None:
    [check] = [
        one["run"] for one in steps("release", "named") if "__version__" in one.get("run", "")
    ]
    module = tmp_path / "service" / "__init__.py"
    module.parent.mkdir()
    module.write_text('"""Words."""\n\n__version__ = "1.2.3"\n')
    for tag, code in (("v1.2.3", 0), ("v1.2.4", 1), ("v1.2", 1)):
        ended = subprocess.run(
            ["bash", "-e", "-c", check], cwd=tmp_path, env={"GITHUB_REF_NAME": tag}, check=False
        )
        assert ended.returncode == code, tag
