"""The page for people: a shell without data, and what it is made of. ADR 0015 tells why."""

from __future__ import annotations

import hashlib
from pathlib import Path

from flask import Blueprint, Response
from flask import send_from_directory as send

from service.api import html
from service.api.errors import NotFound

FOLDER = Path(__file__).parent / "assets" / "page"
TYPES = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
ASSETS = {
    path.name: hashlib.sha256(path.read_bytes()).hexdigest()
    for path in sorted(FOLDER.iterdir())
    if path.suffix in TYPES
}
"""By name, the sha256 that tells a browser whether its copy is still good."""

POLICY = html.POLICY + "; require-trusted-types-for 'script'; trusted-types 'none'"
"""Nor may its scripts read anything as markup: a name out of a registry stays text."""

blueprint = Blueprint("page", __name__, template_folder="templates")


@blueprint.get("/")
def home() -> Response:
    """Show the page."""
    modules = [name for name in ASSETS if name.endswith(".js")]
    return html.render("page.html", POLICY, modules=modules)


@blueprint.get("/assets/<name>")
def asset(name: str) -> Response:
    """Send what the page is made of; raise NotFound.

    A browser asks each time whether its copy is good: parts of two versions do not fit together.
    """
    if name not in ASSETS:
        raise NotFound(f"There is no asset '{name}'.")
    return send(FOLDER, name, mimetype=TYPES[Path(name).suffix], etag=ASSETS[name])
