"""A real browser, and a visitor in it who notices whatever a page must not do."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache, partial
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from playwright.sync_api import (
    Browser,
    ConsoleMessage,
    Locator,
    Page,
    Request,
    expect,
    sync_playwright,
)

from tests.e2e.bed.programs import need
from tests.e2e.bed.room import Room
from tests.e2e.bed.workspace import Workspace

DOCUMENT = Path(__file__).parents[3] / "openapi" / "openapi.json"
AXE = Path(__file__).parents[1] / "accessibility" / "node_modules" / "axe-core" / "axe.min.js"
PATIENCE = 60_000  # milliseconds
GO = """address => new Promise(done => {
  addEventListener('hashchange', done, {once: true});
  location.hash = address;
})"""
"""Ends when the page knows of it, and no longer shows the view before as its own."""

TABS = 80
"""Most presses of Tab to reach something."""

FAILED = re.compile(r"Failed to load resource: .*status of (\d+)")


@contextmanager
def open_browser(workspace: Workspace, port: int) -> Iterator[Browser]:
    """Start the system's Chromium where it sees nothing but a port of this machine.

    It has no sandbox of its own when root runs it.
    """
    expect.set_options(timeout=PATIENCE)
    with contextlib.closing(Room(port)) as room, sync_playwright() as playwright:
        program = room.wrapper(workspace.folder("browser"), need("chromium", "chromium"))
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield browser
        browser.close()


@dataclass
class Visitor:
    """One person in one tab, with all that the page did meanwhile."""

    page: Page
    home: str
    console: list[ConsoleMessage] = field(default_factory=list)
    errors: list[Exception] = field(default_factory=list)
    requests: list[Request] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.page.set_default_timeout(PATIENCE)
        # Playwright marks the listeners it is given, which methods of lists cannot bear.
        self.page.on("console", partial(list.append, self.console))
        self.page.on("pageerror", partial(list.append, self.errors))
        self.page.on("request", partial(list.append, self.requests))

    def sign_in(self, secret: str, address: str = "") -> None:
        """Open an address of the page, and give the token it asks for."""
        self.page.goto(f"{self.home}/{address}")
        self.page.get_by_label("Token").fill(secret)
        self.page.get_by_role("button", name="Sign in").click()
        self.page.get_by_text("Signed in as").wait_for()
        self.settled()

    def go(self, address: str) -> None:
        """Go to another address of the page, as a link would."""
        self.page.evaluate(GO, address)
        self.settled()

    def settled(self) -> None:
        """Wait until a view is there."""
        self.page.locator("main:not([aria-busy]) h1").wait_for()

    @property
    def heading(self) -> Locator:
        return self.page.get_by_role("heading", level=1)

    def rows(self) -> list[list[str]]:
        """What the cells of the table say, without its head."""
        found = self.page.locator("tbody tr").all()
        return [[cell.inner_text() for cell in row.locator("th, td").all()] for row in found]

    def press(self, key: str) -> None:
        self.page.keyboard.press(key)

    def tab_to(self, name: str) -> None:
        """Press Tab until what has this name has the focus, which must be seen."""
        for _ in range(TABS):
            self.press("Tab")
            if self._focused() == name:
                assert self._focus_is_seen(), name
                return
        raise AssertionError(f"Tab does not lead to {name}")

    def _focused(self) -> str:
        told = "one => one.ariaLabel || one.labels?.[0]?.innerText || one.innerText"
        return str(self.page.locator(":focus").evaluate(told)).strip()

    def _focus_is_seen(self) -> bool:
        told = "one => getComputedStyle(one).outlineStyle !== 'none'"
        return bool(self.page.locator(":focus").evaluate(told))

    def require_clean(self, *refused: int) -> None:
        """Raise if it erred, broke its policy, or asked what it must not.

        `refused` are the statuses of errors that are foreseen.
        """
        assert self.errors == []
        grave = [one.text for one in self.console if one.type in {"error", "warning"}]
        statuses = [int(found[1]) for found in map(FAILED.match, grave) if found]
        assert [text for text in grave if not FAILED.match(text)] == []
        assert set(statuses) <= set(refused)
        assert [one.url for one in self.requests if not self._allowed(one)] == []

    def _allowed(self, request: Request) -> bool:
        if not request.url.startswith(f"{self.home}/"):
            return False
        parts = urlsplit(request.url)
        if parts.path == "/" or parts.path.startswith("/assets/"):
            return not parts.query
        return is_documented(request.method, parts.path, parts.query)

    def violations(self) -> list[Any]:
        """What axe finds wrong in what is shown; the context must let scripts in."""
        if not self.page.evaluate("'axe' in window"):
            self.page.evaluate(AXE.read_text())
        found = self.page.evaluate("axe.run(document, {resultTypes: ['violations']})")
        return [(one["id"], [node["html"] for node in one["nodes"]]) for one in found["violations"]]


def is_documented(method: str, path: str, query: str) -> bool:
    """Tell whether an operation of the OpenAPI document has this path, and these parameters."""
    names = {name for name, _ in parse_qsl(query, keep_blank_values=True)}
    return any(
        re.fullmatch(pattern, unquote(path)) and names <= parameters
        for known, pattern, parameters in operations()
        if known == method
    )


@cache
def operations() -> list[tuple[str, str, set[str]]]:
    """Give of each operation its method, what its path looks like, and its query parameters."""
    return [
        (method.upper(), path_pattern(path, item.get("parameters", [])), query_names(operation))
        for path, item in json.loads(DOCUMENT.read_text())["paths"].items()
        for method, operation in item.items()
        if method != "parameters"
    ]


def path_pattern(path: str, parameters: list[dict[str, Any]]) -> str:
    pattern = re.escape(path)
    for one in parameters:
        inside = one["schema"]["pattern"].removeprefix("^").removesuffix("$")
        pattern = pattern.replace(re.escape(f"{{{one['name']}}}"), inside)
    return pattern


def query_names(operation: dict[str, Any]) -> set[str]:
    return {one["name"] for one in operation.get("parameters", []) if one.get("in") == "query"}
