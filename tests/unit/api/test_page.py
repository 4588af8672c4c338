import re

import pytest

from service.api import page
from tests.unit.api.conftest import Bed

MARKUP = ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "DOMParser", "eval(")
MODULES = sorted(name for name in page.ASSETS if name.endswith(".js"))


def references(text: str) -> list[str]:
    return re.findall(r'(?:src|href)="([^"#]+)"', text)


@pytest.mark.parametrize("token", [None, "wrong"])
def test_the_shell_is_there_for_everybody(bed: Bed, token: str | None) -> None:
    answer = bed.ask("/", token=token)
    assert (answer.status, answer.mimetype) == (200, "text/html")


def test_all_that_it_is_made_of_comes_from_here(bed: Bed) -> None:
    loaded = references(bed.ask("/", token=None).text)
    assert "/assets/main.js" in loaded
    for reference in loaded:
        assert reference.startswith("/")
        assert not reference.startswith("//")
        assert bed.ask(reference, token=None).status == 200


def test_every_module_is_loaded_ahead(bed: Bed) -> None:
    loaded = references(bed.ask("/", token=None).text)
    assert {f"/assets/{name}" for name in MODULES} <= set(loaded)


def test_no_script_or_style_is_in_it(bed: Bed) -> None:
    text = bed.ask("/", token=None).text
    assert not re.search(r"<script(?![^>]*\bsrc=)", text)
    assert not re.search(r"<style|\bstyle=|\bon\w+=|javascript:", text)


def test_the_policy_lets_nothing_in_from_elsewhere(bed: Bed) -> None:
    headers = bed.ask("/", token=None).headers
    rules = dict(rule.split(" ", 1) for rule in headers["Content-Security-Policy"].split("; "))
    assert rules == {
        "default-src": "'none'",
        "script-src": "'self'",
        "style-src": "'self'",
        "img-src": "'self' data:",
        "connect-src": "'self'",
        "base-uri": "'none'",
        "form-action": "'none'",
        "frame-ancestors": "'none'",
        "require-trusted-types-for": "'script'",
        "trusted-types": "'none'",
    }
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Referrer-Policy"] == "no-referrer"


def test_it_knows_the_prefix_it_is_mounted_under(bed: Bed) -> None:
    loaded = references(bed.ask("/", environ_overrides={"SCRIPT_NAME": "/admin"}).text)
    assert {reference.split("/")[1] for reference in loaded} == {"admin"}


@pytest.mark.parametrize("name", page.ASSETS)
def test_a_copy_of_an_asset_is_good_until_it_changes(bed: Bed, name: str) -> None:
    answer = bed.ask(f"/assets/{name}", token=None)
    assert answer.headers["Cache-Control"] == "no-cache"
    assert answer.headers["ETag"] == f'"{page.ASSETS[name]}"'
    asked = {"If-None-Match": answer.headers["ETag"]}
    assert bed.ask(f"/assets/{name}", token=None, headers=asked).status == 304


@pytest.mark.parametrize("name", MODULES)
def test_browsers_take_modules_for_what_they_are(bed: Bed, name: str) -> None:
    assert bed.ask(f"/assets/{name}", token=None).mimetype == "text/javascript"


@pytest.mark.parametrize("name", MODULES)
def test_no_module_reads_text_as_markup(name: str) -> None:
    text = (page.FOLDER / name).read_text()
    assert [word for word in MARKUP if word in text] == []


@pytest.mark.parametrize("path", ["/assets/none.js", "/assets/docs.js", "/assets/", "/page"])
def test_other_paths_are_unknown_as_they_were(bed: Bed, path: str) -> None:
    assert bed.ask(path).problem == (404, "not-found")


def test_the_shell_can_only_be_read(bed: Bed) -> None:
    assert bed.ask("/", "POST").problem == (405, "method-not-allowed")
