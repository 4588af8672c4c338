"""The shell blocks of the operations guide, run as they are printed against a live service."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from demo.images import Pusher, multi_arch, sample
from tests.e2e.bed.clients import DockerCommand
from tests.e2e.bed.documents import DOCS, Terminal, blocks
from tests.e2e.bed.engine import Engine
from tests.e2e.bed.programs import need
from tests.e2e.bed.registry import MakeRegistry
from tests.e2e.bed.service import MakeService, registry_table

LINK = re.compile(r"\]\(([^)#:]+)(?:#([^)]*))?\)")
HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)
TASKS = (
    "connect", "delete", "undo", "collect", "timetable", "restart", "ulimits", "core dump",
    "scale out", "back up", "upgrade",
)  # fmt: skip


@pytest.fixture(scope="module")
def terminal(
    engine: Engine,
    docker_command: DockerCommand,
    module_registry: MakeRegistry,
    module_service: MakeService,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Terminal]:
    need("jq", "jq")
    registry = module_registry()
    with Pusher(registry.url) as pusher:
        for tag in ("1.0", "nightly-1", "nightly-2"):
            pusher.push("team/app", sample(tag), tag)
        pusher.push("team/app", multi_arch("2.0"), "2.0")
    docker_command("tag", engine.busybox_image(), "shop:1")
    shop = engine.client.containers.run(
        "shop:1", ["sleep", "3600"], name="shop-api", detach=True, network_mode="host",
        init=True, labels=engine.labels,
    )  # fmt: skip
    tables = {"engines": {"local": {"url": engine.gate(), "containers": ["shop-api"]}}}
    service = module_service(registry, settings=tables)
    yield Terminal(service, tmp_path_factory.mktemp("terminal"))
    engine.client.containers.get("shop-api").remove(force=True)
    docker_command("rmi", "shop:1")
    assert shop.id


def test_connecting(
    module_registry: MakeRegistry, module_service: MakeService, tmp_path: Path
) -> None:
    registry = module_registry(tls=True, htpasswd=("ada", "s3cret"))
    table = {name: value for name, value in registry_table(registry).items() if name != "ca_file"}
    service = module_service(settings={"registries": {"default": table}})
    said = Terminal(service, tmp_path).type(
        "connect.md",
        REGISTRY_HOST=registry.url.removeprefix("https://"),
        AUTHORITY=str(registry.ca_file),
    )
    before, after, status, auth = values(said)
    assert before["status"] == "untrusted"
    assert (after["status"], after["problem"], after["tls"]["verified"]) == ("up", None, True)
    assert (status, auth["scheme"], auth["username"]) == ("up", "basic", "ada")


def values(said: str) -> list[Any]:
    """All JSON values of an output."""
    found, rest = [], said.strip()
    while rest:
        value, end = json.JSONDecoder().raw_decode(rest)
        found.append(value)
        rest = rest[end:].strip()
    return found


def test_a_narrow_token(terminal: Terminal) -> None:
    secret = terminal.type("settings.md").strip().splitlines()[-1]
    me = terminal.service.ask("/v1/me", token=secret).json()
    assert me["scopes"] == ["registry:delete", "registry:read"]
    assert (me["registries"], me["repositories"]) == (["default"], ["team/*"])
    assert me["expires_at"]


def test_deleting_and_undoing(terminal: Terminal) -> None:
    said = terminal.type("delete.md")
    assert '"1.0"' in said
    assert said.rstrip().endswith("succeeded")
    names = terminal.service.ask(
        "/v1/registries/default/repositories/team/app/-/tags"
    ).json()["items"]  # fmt: skip
    assert [one["name"] for one in names] == ["1.0", "2.0"]


def test_collecting_and_verifying(terminal: Terminal) -> None:
    said = terminal.type("collect.md")
    assert said.count('"succeeded"') == 3  # the dry run, what the stream ends with, the run
    assert '"corrupt_blobs": []' in said


def test_containers(terminal: Terminal) -> None:
    said = terminal.type("containers.md")
    assert '"soft":4096' in said
    assert "failed" not in said
    assert said.count("succeeded") == 4


def test_backing_up(terminal: Terminal) -> None:
    first, *_ = blocks("backup.md")
    assert first
    terminal.service.stop()
    terminal.type("backup.md")
    terminal.service.start()
    assert terminal.service.ask("/v1/registries/default/deletions").json()["items"]


PAGES = sorted(page.relative_to(DOCS).as_posix() for page in DOCS.rglob("*.md"))


@pytest.mark.parametrize("page", [*PAGES, "../README.md", "../CONTRIBUTING.md", "../CHANGELOG.md"])
def test_links_lead_somewhere(page: str) -> None:
    path = DOCS / page
    for target, anchor in LINK.findall(path.read_text()):
        assert (path.parent / target).exists(), f"{page} links to {target}"
        if anchor:
            assert anchor in anchors(path.parent / target), f"{page} links to {target}#{anchor}"


def anchors(page: Path) -> set[str]:
    """Where links into a page may lead, as forges name its headings."""
    headings = HEADING.findall(page.read_text())
    return {re.sub(r"[^\w -]", "", one.lower()).replace(" ", "-") for one in headings}


def test_the_guide_names_every_task_at_a_glance() -> None:
    table = [line for line in (DOCS / "README.md").read_text().splitlines() if line.startswith("|")]
    assert [task for task in TASKS if task not in "".join(table)] == []
