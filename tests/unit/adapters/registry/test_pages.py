from __future__ import annotations

import pytest

from service.adapters.registry.origin import Origin
from service.adapters.registry.pages import follow, next_page
from service.adapters.registry.transport import Answer, Request
from service.domain.errors import RegistryAnswerInvalid

ORIGIN = Origin.of("https://r.example:5000")
HERE = "/v2/_catalog?n=2"


def linked(link: str) -> Answer:
    return Answer(200, {"Link": link}, b"")


@pytest.mark.parametrize(
    ("link", "target"),
    [
        ('</v2/_catalog?n=2&last=b>; rel="next"', "/v2/_catalog?n=2&last=b"),
        ('<_catalog?last=b>; rel="next"', "/v2/_catalog?last=b"),
        ("<?last=b>; rel=next", "/v2/_catalog?last=b"),
        ('<https://r.example:5000/v2/_catalog?last=b>; rel="next"', "/v2/_catalog?last=b"),
        ('<https://R.EXAMPLE:5000/v2/_catalog?last=b>;rel="next"', "/v2/_catalog?last=b"),
        ('<//r.example:5000/v2/_catalog?last=b>; rel="next"', "/v2/_catalog?last=b"),
        ('</a>; rel="prev", </b>; title="a, b"; rel="last next"', "/b"),
        ("</b>; REL=NEXT", "/b"),
    ],
)
def test_links_are_relative_or_absolute(link: str, target: str) -> None:
    assert next_page(linked(link), HERE, ORIGIN) == target


@pytest.mark.parametrize("link", ["", "nonsense", "</b>", '</b>; rel="prev"', '</b>; rel="nexts"'])
def test_without_a_next_link_a_page_is_the_last(link: str) -> None:
    assert next_page(linked(link), HERE, ORIGIN) is None


@pytest.mark.parametrize(
    "url",
    [
        "https://evil.example/v2/_catalog",
        "https://r.example:5001/v2/_catalog",
        "https://r.example/v2/_catalog",
        "http://r.example:5000/v2/_catalog",
        "//evil.example:5000/v2/_catalog",
        "https://r.example:5000@evil.example/v2/_catalog",
        "https://[::1/v2/",
        "https://r.example:port/",
        "file:///etc/passwd",
        "gopher://r.example:5000/",
    ],
)
def test_a_link_to_another_server_is_refused(url: str) -> None:
    with pytest.raises(RegistryAnswerInvalid, match="another server"):
        next_page(linked(f'<{url}>; rel="next"'), HERE, ORIGIN)


def test_a_link_with_the_default_port_spelled_out_is_the_same_server() -> None:
    origin = Origin.of("http://r.example")
    link = linked('<http://r.example:80/v2/_catalog?last=b>; rel="next"')
    assert next_page(link, HERE, origin) == "/v2/_catalog?last=b"


class Pages:
    """Answers by target; counts."""

    def __init__(self, links: dict[str, str]) -> None:
        self.links = links
        self.asked: list[str] = []

    def __call__(self, request: Request) -> Answer:
        self.asked.append(request.target)
        link = self.links.get(request.target)
        return Answer(200, {"Link": f'<{link}>; rel="next"'} if link else {}, b"")


def first(n: int | None) -> Request:
    return Request("GET", f"/p?n={n}")


def test_pages_are_followed_to_the_last() -> None:
    pages = Pages({"/p?n=1000": "/p?2", "/p?2": "/p?3"})
    assert len(list(follow(pages, first, ORIGIN))) == 3
    assert pages.asked == ["/p?n=1000", "/p?2", "/p?3"]


@pytest.mark.parametrize("back", ["/p?n=1000", "/p?2"])
def test_a_circle_of_pages_is_no_answer(back: str) -> None:
    pages = Pages({"/p?n=1000": "/p?2", "/p?2": back})
    with pytest.raises(RegistryAnswerInvalid, match="come to an end"):
        list(follow(pages, first, ORIGIN))
    assert len(pages.asked) == 2


def test_an_endless_chain_of_pages_is_no_answer() -> None:
    links = {f"/p?{number}": f"/p?{number + 1}" for number in range(100)}
    pages = Pages({"/p?n=1000": "/p?0"} | links)
    with pytest.raises(RegistryAnswerInvalid, match="come to an end"):
        list(follow(pages, first, ORIGIN, limit=10))
    assert len(pages.asked) == 10


def test_a_page_that_fails_is_the_last() -> None:
    answers = iter([Answer(200, {"Link": '</p?2>; rel="next"'}, b""), Answer(500, {}, b"")])
    assert [one.status for one in follow(lambda _: next(answers), first, ORIGIN)] == [200, 500]


def test_a_smaller_page_is_asked_for_where_1000_is_too_much() -> None:
    asked: list[str] = []

    def ask(request: Request) -> Answer:
        asked.append(request.target)
        return Answer(200 if "None" in request.target else 400, {}, b"")

    assert len(list(follow(ask, first, ORIGIN))) == 1
    assert asked == ["/p?n=1000", "/p?n=100", "/p?n=None"]
