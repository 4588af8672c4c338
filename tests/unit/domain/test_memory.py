"""The memory of a process: bounded, and of what was used last."""

from __future__ import annotations

import threading
from collections import OrderedDict

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.domain.memory import Memory


def test_what_was_put_is_found() -> None:
    memory: Memory[str, int] = Memory(2)
    assert memory.get("a") is None
    memory.put("a", 1)
    memory.put("a", 2)
    assert memory.get("a") == 2


def test_what_was_not_asked_for_the_longest_is_forgotten() -> None:
    memory: Memory[str, int] = Memory(2)
    memory.put("a", 1)
    memory.put("b", 2)
    memory.get("a")
    memory.put("c", 3)
    assert [memory.get(key) for key in "abc"] == [1, None, 3]
    memory.put("a", 4)
    memory.put("d", 5)
    assert [memory.get(key) for key in "acd"] == [4, None, 5]


@given(
    st.integers(1, 4),
    st.lists(st.tuples(st.sampled_from("abcdef"), st.none() | st.integers()), max_size=40),
)
def test_it_is_a_map_of_the_last_so_many_keys(
    limit: int, uses: list[tuple[str, int | None]]
) -> None:
    memory: Memory[str, int] = Memory(limit)
    model: OrderedDict[str, int] = OrderedDict()
    for key, value in uses:
        if value is None:
            assert memory.get(key) == model.get(key)
        else:
            memory.put(key, value)
            model[key] = value
        if key in model:
            model.move_to_end(key)
        while len(model) > limit:
            model.popitem(last=False)


def test_threads_share_it() -> None:
    memory: Memory[int, int] = Memory(50)
    errors: list[BaseException] = []

    def use(seed: int) -> None:
        try:
            for number in range(3000):
                key = (number * 7 + seed) % 100
                memory.put(key, key)
                assert memory.get(key) in {key, None}
        except BaseException as error:  # noqa: BLE001 - told by the test's own thread
            errors.append(error)

    threads = [threading.Thread(target=use, args=(seed,)) for seed in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert len([key for key in range(100) if memory.get(key) is not None]) == 50


@pytest.mark.parametrize("falsy", [0, "", (), False])
def test_what_is_empty_is_remembered_as_all_else(falsy: object) -> None:
    memory: Memory[str, object] = Memory(2)
    memory.put("a", falsy)
    memory.put("b", falsy)
    assert memory.get("a") == falsy
    memory.put("c", falsy)
    assert [memory.get(key) for key in "ab"] == [falsy, None]
