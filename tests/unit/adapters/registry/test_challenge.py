from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.adapters.registry.challenge import Challenge, parse_challenges

BEARER = Challenge(
    "bearer",
    {"realm": "https://auth.example/token", "service": "r", "scope": "repository:a:pull,push"},
)


def test_commas_in_quotes_separate_nothing() -> None:
    header = 'Bearer realm="https://auth.example/token",service="r",scope="repository:a:pull,push"'
    assert parse_challenges(header) == [BEARER]


def test_a_scheme_in_lower_case_is_the_same() -> None:
    header = 'bearer Realm="https://auth.example/token",SERVICE=r,scope="repository:a:pull,push"'
    assert parse_challenges(header) == [BEARER]


def test_a_realm_may_stand_unquoted() -> None:
    header = 'Bearer realm=https://auth.example/token, service=r, scope="repository:a:pull,push"'
    assert parse_challenges(header) == [BEARER]


def test_white_space_around_parameters_is_skipped() -> None:
    header = (
        'Bearer  realm = "https://auth.example/token" ,\tservice="r" , '
        'scope="repository:a:pull,push"'
    )
    assert parse_challenges(header) == [BEARER]


def test_quoted_pairs_are_unescaped() -> None:
    (found,) = parse_challenges(r'Basic realm="a \"b\" \\ c"')
    assert found.parameters["realm"] == 'a "b" \\ c'


@pytest.mark.parametrize(
    "header",
    [
        'Basic realm="r", Bearer realm="https://a/t",service="s"',
        'Basic realm="r",Bearer realm="https://a/t",service="s"',
        'Negotiate, Basic realm="r", Bearer realm="https://a/t",service="s"',
    ],
)
def test_several_challenges_in_one_header_are_told_apart(header: str) -> None:
    found = [one for one in parse_challenges(header) if one.scheme != "negotiate"]
    assert found == [
        Challenge("basic", {"realm": "r"}),
        Challenge("bearer", {"realm": "https://a/t", "service": "s"}),
    ]


def test_a_challenge_without_parameters_is_one() -> None:
    assert parse_challenges("Basic") == [Challenge("basic")]


def test_a_repeated_parameter_counts_once() -> None:
    assert parse_challenges('Bearer realm="a", realm="b"') == [Challenge("bearer", {"realm": "a"})]


@pytest.mark.parametrize("header", ["", '"', "=", ", ,", 'realm="orphan"', 'Bearer realm="open'])
def test_what_cannot_be_read_is_skipped(header: str) -> None:
    assert all(not one.parameters for one in parse_challenges(header))


@given(st.text(max_size=200))
def test_no_header_breaks_the_parser(header: str) -> None:
    parse_challenges(header)
