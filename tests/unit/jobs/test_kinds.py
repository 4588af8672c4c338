"""The table of kinds, and what does them."""

from __future__ import annotations

import pytest

from service.domain.access import SCOPES
from service.domain.job import JobKind, Work
from service.jobs.kinds import KINDS, by_name


def work(name: str, *compensators: str) -> Work:
    return Work(
        JobKind(name, "gc:run"),
        lambda _: {},
        {one: lambda _job, _data, _tell: None for one in compensators},
    )


def test_a_kind_or_a_compensator_is_there_once() -> None:
    assert list(by_name([work("a", "x"), work("b", "y")])) == ["a", "b"]
    for twice in ([work("a"), work("a")], [work("a", "x"), work("b", "x")]):
        with pytest.raises(ValueError, match="twice"):
            by_name(twice)


def test_every_kind_takes_a_scope_that_there_is() -> None:
    assert {kind.scope for kind in KINDS} <= set(SCOPES)
    assert len({kind.name for kind in KINDS}) == len(KINDS)
