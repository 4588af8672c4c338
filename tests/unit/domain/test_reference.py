"""Names: what the OCI grammar allows passes unchanged, everything else is refused at the door."""

from __future__ import annotations

import hashlib
import string
from itertools import groupby

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from service.domain.errors import InvalidDigest, InvalidName, InvalidRepositoryName, InvalidTag
from service.domain.reference import Digest, Repository, Tag, parse_reference

HEX = "0123456789abcdef" * 4
WORD = set(string.ascii_lowercase + string.digits)
TAG_FIRST = set(string.ascii_letters + string.digits + "_")

LONG = "a" * 5000

# Each is refused wherever a name is expected: it looks like one, or steers somewhere else.
TRICKS = (
    "",
    " ",
    ".",
    "..",
    "../etc",
    "a b",
    "a\n",
    "\na",
    "a\r\n",
    "a\t",
    "a\x00",
    "a\x00b",
    "a%2fb",
    "a%2Fb",
    "a%00",
    "%2e%2e",
    "a%252fb",
    "a\\b",
    "a?b",
    "a#b",
    "a;b",
    "a&b",
    "a@b",
    "a,b",
    "*",
    "é",
    "\u0430",  # Cyrillic a
    "\uff41",  # fullwidth a
    "\u0661",  # Arabic 1
    "\u212a",  # Kelvin sign, K when folded
    "\u0131",  # dotless i
    "a\u200b",  # zero width space
    "a\u0301",  # combining accent
    "\u202ea",  # right to left
    "a\u2028",  # line separator
    "a\x85",
    "\ud800",
    LONG,
)


@pytest.mark.parametrize(
    "name",
    [
        "a",
        "0",
        "alpine",
        "library/alpine",
        "one/two/three/four/five",
        "a.b",
        "a_b",
        "a__b",
        "a-b",
        "a-----b",
        "a1.b2_c3__d4-e5/f6",
        "tags/list",
        "manifests/latest",
        "sha256/a",
        "/".join(["a" * 50] * 4 + ["b" * 51]),
        "a" * 255,
    ],
)
def test_repository_names_of_the_grammar_pass_unchanged(name: str) -> None:
    assert Repository.parse(name) == name


@pytest.mark.parametrize(
    "name",
    [
        *TRICKS,
        "A",
        "Library/alpine",
        "/a",
        "a/",
        "a//b",
        "a/../b",
        "a/./b",
        "a/..",
        "./a",
        "a/-/b",
        "a/-/tags/b",
        "-",
        "-a",
        "a-",
        "_a",
        "a_",
        ".a",
        "a.",
        "a..b",
        "a___b",
        "a._b",
        "a_-b",
        "a-/b",
        "a:b",
        "registry:5000/a",
        "a" * 256,
        "/".join(["a" * 50] * 4 + ["b" * 52]),
    ],
)
def test_other_repository_names_are_refused(name: str) -> None:
    with pytest.raises(InvalidRepositoryName):
        Repository.parse(name)


def _is_repository(name: str) -> bool:
    """Say the grammar once more, without a regular expression."""
    return len(name) <= 255 and all(map(_is_component, name.split("/")))


def _is_component(text: str) -> bool:
    runs = [(is_word, "".join(run)) for is_word, run in groupby(text, WORD.__contains__)]
    inside = bool(text) and text[0] in WORD and text[-1] in WORD
    return inside and all(
        is_word or run in {".", "_", "__"} or not run.strip("-") for is_word, run in runs
    )


close_to_names = st.text(st.sampled_from("ab0.__--//A~\n"), max_size=12)


@given(st.one_of(st.text(max_size=20), close_to_names))
@example("a" * 255)
@example("a" * 256)
def test_exactly_the_grammar_of_repositories_passes(name: str) -> None:
    try:
        assert Repository.parse(name) == name
        passed = True
    except InvalidRepositoryName:
        passed = False
    assert passed == _is_repository(name)


@pytest.mark.parametrize(
    "tag", ["a", "A", "_", "0", "1.2", "v1.2.3-rc.1_x86", "latest", "a..b", "a--", "_" * 128]
)
def test_tags_of_the_grammar_pass_unchanged(tag: str) -> None:
    assert Tag.parse(tag) == tag


@pytest.mark.parametrize(
    "tag", [*TRICKS, ".a", "-a", "a/b", "a:b", "a+b", "a~b", "a" * 129, f"sha256:{HEX}"]
)
def test_other_tags_are_refused(tag: str) -> None:
    with pytest.raises(InvalidTag):
        Tag.parse(tag)


@given(st.one_of(st.text(max_size=20), st.text(st.sampled_from("aZ0_.-:/\n"), max_size=6)))
@example("a" * 128)
@example("a" * 129)
def test_exactly_the_grammar_of_tags_passes(tag: str) -> None:
    fits = 0 < len(tag) <= 128 and tag[0] in TAG_FIRST
    try:
        assert Tag.parse(tag) == tag
        passed = True
    except InvalidTag:
        passed = False
    assert passed == (fits and set(tag) <= TAG_FIRST | {".", "-"})


@pytest.mark.parametrize(
    "digest",
    [
        *TRICKS,
        HEX,
        f"sha256:{HEX[:-1]}",
        f"sha256:{HEX}0",
        f"sha256:{HEX}\n",
        f"sha256:{HEX.upper()}",
        f"SHA256:{HEX}",
        f"sha256:{HEX[:-1]}g",
        f"sha256:{HEX[:-1]}\uff11",
        f"sha256:{HEX[:-2]}..",
        f"sha256:{HEX[:-1]}/",
        f"sha256 :{HEX}",
        f"sha512:{HEX}{HEX}",
        f"sha256:{HEX}@sha256:{HEX}",
    ],
)
def test_only_sha256_in_lower_case_is_addressable(digest: str) -> None:
    assert Digest.parse(f"sha256:{HEX}") == f"sha256:{HEX}"
    with pytest.raises(InvalidDigest):
        Digest.parse(digest)


def test_a_manifest_may_list_sha512_besides() -> None:
    long = f"sha512:{HEX}{HEX}"
    assert Digest.listed(long) == long
    assert Digest.listed(f"sha256:{HEX}") == f"sha256:{HEX}"
    for other in (f"sha512:{HEX}", f"{long}\n", long.upper(), f"sha256:{HEX}{HEX}", f"md5:{HEX}"):
        with pytest.raises(InvalidDigest):
            Digest.listed(other)


@given(st.binary(), st.binary())
def test_a_digest_matches_its_bytes_alone(body: bytes, other: bytes) -> None:
    long = Digest.listed("sha512:" + hashlib.sha512(body).hexdigest())
    for digest in (Digest.of(body), long):
        assert digest.matches(body)
        assert digest.matches(other) == (other == body)
    assert Digest.of(body).hex == hashlib.sha256(body).hexdigest()


def test_a_colon_tells_digests_from_tags() -> None:
    assert isinstance(parse_reference("1.2"), Tag)
    assert isinstance(parse_reference(f"sha256-{HEX}"), Tag)
    assert isinstance(parse_reference(f"sha256:{HEX}"), Digest)
    with pytest.raises(InvalidDigest):
        parse_reference("a:b")
    with pytest.raises(InvalidTag):
        parse_reference("a/b")


@pytest.mark.parametrize("kind", [Repository, Tag, Digest])
@pytest.mark.parametrize("text", TRICKS)
def test_a_refusal_shows_what_was_sent_in_one_short_printable_line(
    kind: type[Repository | Tag | Digest], text: str
) -> None:
    with pytest.raises(InvalidName) as caught:
        kind.parse(text)
    assert caught.value.detail.isprintable()
    assert len(caught.value.detail) < 700
