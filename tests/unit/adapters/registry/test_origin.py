from __future__ import annotations

import pytest

from service.adapters.registry.origin import Origin, target_of


@pytest.mark.parametrize(
    ("url", "text", "authority", "aliases"),
    [
        ("http://r.example", "http://r.example", "r.example:80", ("r.example:80", "r.example")),
        ("https://R.example:443/p", "https://r.example", "r.example:443",
         ("r.example:443", "r.example")),
        ("https://r.example:5000", "https://r.example:5000", "r.example:5000",
         ("r.example:5000",)),
        ("http://[::1]:5000/", "http://[::1]:5000", "[::1]:5000", ("[::1]:5000",)),
    ],
)  # fmt: skip
def test_origins_have_a_name_for_each_use(
    url: str, text: str, authority: str, aliases: tuple[str, ...]
) -> None:
    origin = Origin.of(url)
    assert str(origin) == text
    assert origin.authority == authority
    assert origin.aliases == aliases


def test_credentials_are_no_part_of_an_origin() -> None:
    assert str(Origin.of("https://user:secret@r.example/v2/")) == "https://r.example"


@pytest.mark.parametrize("url", ["", "/v2/", "ftp://r.example", "https://", "http://r:99999", "x"])
def test_anything_but_http_has_no_origin(url: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        Origin.of(url)


def test_the_target_is_path_and_query() -> None:
    assert target_of("https://r.example/a/b?c=d&e#f") == "/a/b?c=d&e"
    assert target_of("https://r.example") == "/"
