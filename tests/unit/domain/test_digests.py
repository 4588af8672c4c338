"""A compact set is a set."""

from __future__ import annotations

import tracemalloc

from hypothesis import given
from hypothesis import strategies as st

from service.domain.digests import Digests
from service.domain.reference import Digest

MEBIBYTE = 1024 * 1024
RAW = st.binary(min_size=32, max_size=32) | st.binary(min_size=64, max_size=64)
ALIKE = st.text("01", min_size=64, max_size=64)  # which are found across two others


def digest(raw: bytes) -> Digest:
    algorithm = "sha256" if len(raw) == 32 else "sha512"
    return Digest.listed(f"{algorithm}:{raw.hex()}")


@given(st.sets(RAW.map(digest) | ALIKE.map(lambda text: Digest(f"sha256:{text}"))), RAW | ALIKE)
def test_it_holds_what_was_added_and_nothing_else(held: set[Digest], other: bytes | str) -> None:
    made = Digests()
    for one in held:
        assert one not in made
        made.add(one)
    assert all(one in made for one in held)
    stranger = digest(other) if isinstance(other, bytes) else Digest(f"sha256:{other}")
    assert (stranger in made) == (stranger in held)


def test_one_is_not_found_across_two_others() -> None:
    made = Digests()
    made.add(Digest(f"sha256:0000{'00' * 10}{'11' * 20}"))
    made.add(Digest(f"sha256:0000{'22' * 20}{'00' * 10}"))
    assert Digest(f"sha256:0000{'11' * 20}{'22' * 10}") not in made


def test_it_is_small() -> None:
    made, count = Digests(), 200_000
    tracemalloc.start()
    try:
        for number in range(count):
            made.add(Digest.of(str(number).encode()))
        size, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert size < 16 * MEBIBYTE + 40 * count
