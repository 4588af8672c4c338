"""Every error of the rules has its status; nothing falls through to 500 by being forgotten."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from service.domain import errors
from service.domain.problem import TABLE, document, row_of

Kind = type[errors.RegistryAdminError]


def leaves(kind: Kind) -> Iterator[Kind]:
    below = [one for one in kind.__subclasses__() if one.__module__ == errors.__name__]
    if not below:
        yield kind
    for one in below:
        yield from leaves(one)


@pytest.mark.parametrize(
    "kind", list(leaves(errors.RegistryAdminError)), ids=lambda kind: kind.code
)
def test_each_error_has_a_row_of_its_own(kind: Kind) -> None:
    assert kind in TABLE


def test_a_document_has_the_members_of_the_error() -> None:
    error = errors.ManifestTagged("It has tags.", {"tags": ["1.2"]})
    made = document(error, row_of(errors.ManifestTagged), "/v1/jobs/1", "r1")
    assert made == {
        "type": "/docs/problems/manifest-tagged",
        "title": "Manifest tagged",
        "status": 409,
        "detail": "It has tags.",
        "instance": "/v1/jobs/1",
        "code": "manifest-tagged",
        "request_id": "r1",
        "tags": ["1.2"],
    }
