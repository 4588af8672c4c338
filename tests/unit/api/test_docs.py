import re

import pytest

from service.api import docs
from tests.unit.api.conftest import Bed


@pytest.mark.parametrize("path", ["/docs", "/docs/"])
def test_the_page_loads_from_here_alone(bed: Bed, path: str) -> None:
    answer = bed.ask(path, token=None)
    assert (answer.status, answer.mimetype) == (200, "text/html")
    loaded = re.findall(r'(?:src|href|data-document)="([^"]*)"', answer.text)
    assert "/openapi.json" in loaded
    for reference in loaded:
        assert reference.startswith("/")
        assert not reference.startswith("//")
        assert bed.ask(reference, token=None).status == 200


@pytest.mark.parametrize("path", ["/docs", "/docs/problems/tag-unknown"])
def test_the_pages_have_no_script_or_style_in_them(bed: Bed, path: str) -> None:
    answer = bed.ask(path, token=None)
    assert not re.search(r"<script(?![^>]*\bsrc=)", answer.text)
    assert not re.search(r"<style|\bstyle=|\bon\w+=|javascript:", answer.text)
    policy = answer.headers["Content-Security-Policy"]
    assert "unsafe" not in policy
    assert "default-src 'none'" in policy
    assert "frame-ancestors 'none'" in policy


def test_the_pages_know_the_prefix_they_are_mounted_under(bed: Bed) -> None:
    prefix = {"SCRIPT_NAME": "/admin"}
    page = bed.ask("/docs", environ_overrides=prefix).text
    assert 'data-document="/admin/openapi.json"' in page
    assert 'src="/admin/docs/assets/docs.js"' in page


@pytest.mark.parametrize("name", docs.ASSETS)
def test_assets_may_be_kept_a_while(bed: Bed, name: str) -> None:
    answer = bed.ask(f"/docs/assets/{name}", token=None)
    assert "max-age=3600" in answer.headers["Cache-Control"]
    again = bed.ask(
        f"/docs/assets/{name}", token=None, headers={"If-None-Match": answer.headers["ETag"]}
    )
    assert again.status == 304


@pytest.mark.parametrize("name", ["none.js", "LICENSE", "index.css", "swagger-ui.js"])
def test_nothing_else_is_sent(bed: Bed, name: str) -> None:
    assert bed.ask(f"/docs/assets/{name}").problem == (404, "not-found")


def test_a_code_that_there_is_not_has_no_page(bed: Bed) -> None:
    assert bed.ask("/docs/problems/%3Cscript%3E").problem == (404, "not-found")
