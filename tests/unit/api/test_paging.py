"""Pages: complete, in order, stable, and refused where the position is no position."""

import re
from urllib.parse import parse_qs, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.api.fields import CURSOR
from service.domain.reference import Repository, Tag
from tests.fakes import image
from tests.unit.api.conftest import ADMIN, Bed, Reply

TAGS = "/v1/registries/default/repositories/team/app/-/tags"
COUNTS = [1, 2, 3, 7, 100, 1000]


def follow(bed: Bed, path: str, token: str = ADMIN) -> list[Reply]:
    """Every page from `path` on."""
    pages = []
    following: str | None = path
    while following:
        pages.append(bed.ask(following, token=token))
        following = pages[-1].json["next"]
        linked = f'<{following}>; rel="next"' if following else None
        assert pages[-1].headers.get("Link") == linked
    return pages


def names(pages: list[Reply]) -> list[str]:
    return [item["name"] for page in pages for item in page.json["items"]]


@pytest.fixture
def tags(bed: Bed) -> list[str]:
    made = [f"{number}.{letter}" for number in range(8) for letter in "aB_-."]
    bed.registry.push("team/app", image("a"), *made)
    return sorted(made)


@pytest.mark.parametrize("n", COUNTS)
@pytest.mark.parametrize("detail", ["true", "false"])
def test_following_next_yields_everything_once_and_in_order(
    bed: Bed, tags: list[str], n: int, detail: str
) -> None:
    pages = follow(bed, f"{TAGS}?n={n}&detail={detail}")
    assert names(pages) == tags
    assert all(len(page.json["items"]) == n for page in pages[:-1])
    assert 1 <= len(pages[-1].json["items"]) <= n


def test_the_default_is_a_hundred(bed: Bed) -> None:
    bed.registry.push("team/app", image("a"), *(f"{number:03}" for number in range(101)))
    assert [len(page.json["items"]) for page in follow(bed, TAGS)] == [100, 1]


def test_next_keeps_the_other_parameters(bed: Bed, tags: list[str]) -> None:
    following = bed.ask(f"{TAGS}?detail=true&n=2").json["next"]
    assert parse_qs(urlsplit(following).query) == {
        "detail": ["true"],
        "n": ["2"],
        "last": [tags[1].encode().hex()],
    }


def test_next_has_the_prefix_the_service_is_mounted_under(bed: Bed, tags: list[str]) -> None:
    answer = bed.ask(f"{TAGS}?n=2", environ_overrides={"SCRIPT_NAME": "/admin"})
    assert answer.json["next"].startswith(f"/admin{TAGS}?n=2&last=")
    assert tags


def test_pages_are_stable_while_tags_come_and_go(bed: Bed, tags: list[str]) -> None:
    first = bed.ask(f"{TAGS}?n=10")
    bed.registry.push("team/app", image("b"), "0.0", "zzz")
    bed.registry.contents[Repository("team/app")].tags.pop(Tag(tags[3]))
    rest = follow(bed, first.json["next"])
    assert names([first]) + names(rest) == [*tags, "zzz"]


@pytest.mark.parametrize(
    "n", ["0", "1001", "-1", "1.0", "", "a", "1_0", "%2B1", "٣", "99999999999"]
)
def test_n_is_from_1_to_1000(bed: Bed, n: str) -> None:
    answer = bed.ask(f"{TAGS}?n={n}")
    assert answer.problem == (422, "validation-failed")
    assert answer.json["errors"][0]["parameter"] == "n"


@pytest.mark.parametrize(
    "last", ["", "x", "!", "garbage", "not-a-cursor", "4", "414", "00", "7f", "ff", "4A", "%00"]
)
def test_a_position_that_is_none_is_422(bed: Bed, last: str) -> None:
    answer = bed.ask(f"{TAGS}?last={last}")
    assert answer.problem == (422, "validation-failed")
    assert answer.json["errors"][0]["parameter"] == "last"


@given(st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), min_size=1, max_size=510))
def test_every_key_makes_a_position_that_is_read_again(key: str) -> None:
    written = key.encode().hex()
    assert re.fullmatch(CURSOR, written)
    assert bytes.fromhex(written).decode() == key


LISTS = [
    "/v1/registries",
    "/v1/registries/default/repositories",
    TAGS,
    f"/v1/registries/default/repositories/team/app/-/manifests/{image('a').digest}/tags",
    f"/v1/registries/default/repositories/team/app/-/manifests/{image('a').digest}/referrers",
    "/v1/registries/default/deletions",
    "/v1/tokens",
    "/v1/audit-events",
]


@pytest.mark.parametrize("path", LISTS)
def test_every_list_is_paged(bed: Bed, tags: list[str], path: str) -> None:
    assert tags
    answer = bed.ask(f"{path}?n=1")
    assert set(answer.json) == {"items", "next"}
    assert len(answer.json["items"]) <= 1
    assert bed.ask(f"{path}?n=0").problem == (422, "validation-failed")
    assert bed.ask(f"{path}?page=2").problem == (422, "validation-failed")


def test_repositories_are_paged_by_bytes(bed: Bed) -> None:
    made = ["a", "a-b", "a/b", "a.b", "a_b", "b"]
    for name in made:
        bed.registry.push(name, image(name), "1")
    pages = follow(bed, "/v1/registries/default/repositories?n=2")
    assert names(pages) == sorted(made)


def test_tokens_are_paged(bed: Bed) -> None:
    for number in range(5):
        bed.token("registry:read", name=f"n{number}")
    assert names(follow(bed, "/v1/tokens?n=2")) == ["root", *(f"n{n}" for n in range(5))]


def test_what_a_caller_may_not_see_takes_no_place(bed: Bed) -> None:
    for number in range(7):
        bed.registry.push(f"team{number % 2}/app{number}", image(str(number)), "1")
        bed.ask(
            f"/v1/registries/default/repositories/team{number % 2}/app{number}/-/tags/1", "DELETE"
        )
    limited = bed.token("registry:read", repositories=("team0/*",))
    pages = follow(bed, "/v1/registries/default/deletions?n=3", limited)
    found = [item["repository"] for page in pages for item in page.json["items"]]
    assert found == [f"team0/app{number}" for number in (6, 4, 2, 0)]
    assert [len(page.json["items"]) for page in pages] == [3, 1]


def test_the_search_for_what_may_be_seen_is_bounded(
    bed: Bed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.api.paging.LENGTH_LIMIT", 2)
    monkeypatch.setattr("service.api.paging.ROUNDS", 2)
    limited = bed.token("token:admin", registries=("default",))
    for number in range(9):
        bed.token("registry:read", name=f"all{number}")
    bed.token("registry:read", name="mine", registries=("default",))
    pages = follow(bed, "/v1/tokens?n=5", limited)
    assert names(pages) == ["someone", "mine"]
    assert len(pages) > 1
