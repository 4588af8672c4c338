"""The interactive documentation, and a page for each code of a problem; all from here, no CDN."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

from flask import Blueprint, Response
from flask import send_from_directory as send

from service.api import html, openapi, problems
from service.api.errors import NotFound

OWN = Path(__file__).parent / "assets"
SWAGGER_UI = Path(str(files("flask_swagger_ui"))) / "dist"
ASSETS = {
    "docs.js": OWN,
    "swagger-ui.css": SWAGGER_UI,
    "swagger-ui-bundle.js": SWAGGER_UI,
    "favicon-32x32.png": SWAGGER_UI,
}
HOUR = 3600

blueprint = Blueprint("docs", __name__, template_folder="templates")


@blueprint.get("/docs")
@blueprint.get("/docs/")
def docs() -> Response:
    """Show the API."""
    return html.render("docs.html")


@blueprint.get("/docs/assets/<name>")
def asset(name: str) -> Response:
    """Send what the page is made of; raise NotFound."""
    if name not in ASSETS:
        raise NotFound(f"There is no asset '{name}'.")
    return send(ASSETS[name], name, max_age=HOUR)


@blueprint.get(f"{problems.PAGES}<code>")
def problem(code: str) -> Response:
    """Explain the code of a problem; raise NotFound."""
    for kind, row in problems.TABLE.items():
        if kind.code == code:
            meaning = openapi.meaning(kind)
            return html.render(
                "problem.html", title=row.title, status=row.status, code=code, meaning=meaning
            )
    raise NotFound(f"There is no problem with the code '{code}'.")
