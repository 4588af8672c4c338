from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.domain.access import Caller
from service.domain.errors import InsufficientScope
from service.domain.granting import require_grantable, within_limits

SOON, LATER = datetime(2026, 1, 1, tzinfo=UTC), datetime(2027, 1, 1, tzinfo=UTC)

globs = st.text("ab/*?[]!", min_size=1, max_size=6)
names = st.text("ab/", min_size=1, max_size=8)


def caller(*scopes: str, **limits: object) -> Caller:
    return Caller("someone", frozenset(scopes), **limits)  # type: ignore[arg-type]


@given(st.lists(globs, max_size=3), st.lists(globs, max_size=3), names)
def test_what_is_within_never_reaches_further(
    outer: list[str], inner: list[str], name: str
) -> None:
    giver, taker = caller(repositories=tuple(outer)), caller(repositories=tuple(inner))
    if within_limits(giver, taker) and taker.sees_repository(name):
        assert giver.sees_repository(name)


@pytest.mark.parametrize(
    ("outer", "inner", "expected"),
    [
        ((), (), True),
        ((), ("a",), True),
        (("a",), (), False),
        (("a",), ("a",), True),
        (("a", "b"), ("b",), True),
        (("a",), ("a", "b"), False),
    ],
)
def test_registries(outer: tuple[str, ...], inner: tuple[str, ...], expected: object) -> None:
    assert within_limits(caller(registries=outer), caller(registries=inner)) is expected


@pytest.mark.parametrize(
    ("outer", "inner", "expected"),
    [
        (("team/*",), ("team/app",), True),
        (("team/*",), ("team/*",), True),
        (("team/*",), ("team/a*",), True),
        (("team/*",), ("team/?",), True),
        (("*",), ("anything/*",), True),
        (("team/*",), ("team",), False),
        (("team/*",), ("tea*",), False),
        (("team/*",), ("[t]eam/a",), False),
        (("team/?",), ("team/?",), True),
        (("team/?",), ("team/a",), False),
        (("team/app",), ("team/app",), True),
        (("team/app",), ("team/*",), False),
        (("a*", "b*"), ("b1", "a1"), True),
    ],
)
def test_repositories(outer: tuple[str, ...], inner: tuple[str, ...], expected: object) -> None:
    assert within_limits(caller(repositories=outer), caller(repositories=inner)) is expected


@pytest.mark.parametrize(
    ("has", "wants"),
    [(SOON, None), (SOON, LATER)],
)
def test_nobody_gives_more_time(has: datetime, wants: datetime | None) -> None:
    with pytest.raises(InsufficientScope):
        require_grantable(caller("admin", expires_at=has), caller(expires_at=wants))


@pytest.mark.parametrize(
    ("has", "wants"), [(None, None), (None, SOON), (LATER, SOON), (SOON, SOON)]
)
def test_time_within_ones_own_is_given(has: datetime | None, wants: datetime | None) -> None:
    require_grantable(caller("admin", expires_at=has), caller("gc:run", expires_at=wants))


def test_only_admin_gives_admin() -> None:
    require_grantable(caller("admin"), caller("admin", "gc:run"))
    with pytest.raises(InsufficientScope) as raised:
        require_grantable(caller("token:admin", "gc:run"), caller("gc:run", "admin"))
    assert raised.value.members["required_scope"] == "admin"
