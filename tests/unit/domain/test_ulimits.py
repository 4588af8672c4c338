"""Limits as the engine is told them, and as the kernel tells them."""

from __future__ import annotations

import pytest

from service.domain.ulimits import Ulimit, configured, faults, read_limits

LIMITS = b"""\
Limit                     Soft Limit           Hard Limit           Units     
Max cpu time              unlimited            unlimited            seconds   
Max core file size        0                    unlimited            bytes     
Max open files            1024                 524288               files     
Max address space         unlimited            unlimited            bytes     
Max nice priority         0                    0                    
Max realtime timeout      unlimited            unlimited            us        
"""  # noqa: W291 - as the kernel writes it


def test_the_kernels_table_is_read_by_the_engines_names() -> None:
    assert read_limits(LIMITS) == [
        Ulimit("core", 0, -1),
        Ulimit("cpu", -1, -1),
        Ulimit("nice", 0, 0),
        Ulimit("nofile", 1024, 524288),
        Ulimit("rttime", -1, -1),
    ]


@pytest.mark.parametrize("text", [b"", b"cat: no such file", b"Max open files\n", b"\xff\xfe"])
def test_what_is_no_such_table_tells_no_limits(text: bytes) -> None:
    assert read_limits(text) == []


@pytest.mark.parametrize("entries", [None, []])
def test_none_may_be_configured(entries: object) -> None:
    assert configured({"HostConfig": {"Ulimits": entries}}) == []


@pytest.mark.parametrize(
    ("limits", "places"),
    [
        ([], []),
        ([Ulimit("nofile", 1, 1), Ulimit("core", -1, -1), Ulimit("nproc", 5, -1)], []),
        ([Ulimit("nofiles", 1, 1)], ["/0/name"]),
        ([Ulimit("as", 1, 1)], ["/0/name"]),
        ([Ulimit("core", 1, 1), Ulimit("core", 2, 2)], ["/1/name"]),
        ([Ulimit("core", 2, 1)], ["/0/soft"]),
        ([Ulimit("core", -1, 1)], ["/0/soft"]),
    ],
)
def test_faults_are_told_by_their_places(limits: list[Ulimit], places: list[str]) -> None:
    assert [place for place, _ in faults(limits)] == places
