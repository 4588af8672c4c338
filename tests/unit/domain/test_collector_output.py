"""The collector's output, as registries 2.8.2 and 3.1.1 print it."""

from __future__ import annotations

import pytest

from service.domain.collector_output import CollectorOutput

A, B, C = ("sha256:" + letter * 64 for letter in "abc")


def fed(text: str) -> CollectorOutput:
    output = CollectorOutput()
    for line in text.splitlines():
        output.feed(line.encode())
    return output


V2 = f"""team/app
manifest eligible for deletion: {C}
team/app: marking manifest {A}\x20
team/app: marking blob {B}

2 blobs marked, 2 blobs and 1 manifests eligible for deletion
blob eligible for deletion: {B}
level=info msg="Deleting blob: /docker/registry/v2/blobs/sha256/bb/{B[7:]}"
blob eligible for deletion: {C}
"""

V3 = f"""team/app
manifest eligible for deletion: {{team/app {C} [one two]}}
team/app: marking manifest {A}
team/app: marking blob {B}
\x1b[36m2 blobs marked, 1 blobs and 1 manifests eligible for deletion\x1b[0m
blob eligible for deletion: {C}
team/app: layer link eligible for deletion: {B}
"""


def test_a_run_of_2_8_is_read() -> None:
    output = fed(V2)
    assert (output.blobs_marked, output.blobs_eligible, output.manifests_eligible) == (2, 2, 1)
    assert output.eligible == [B, C]
    assert output.deleted == {B}
    assert output.marks == 2
    assert output.verdict(0) is None


def test_a_run_of_3_is_read() -> None:
    output = fed(V3)
    assert (output.blobs_marked, output.blobs_eligible, output.manifests_eligible) == (2, 1, 1)
    assert output.eligible == [C]
    assert output.verdict(0) is None


def test_the_summary_line_divides_marking_from_sweeping() -> None:
    lines = V2.splitlines()
    assert fed("\n".join(lines[:5])).phase == "marking"
    assert fed("\n".join(lines[:6])).phase == "sweeping"


def test_exit_0_without_the_summary_is_no_success() -> None:
    verdict = fed("Usage: registry garbage-collect [flags]\nunknown flag: --x").verdict(0)
    assert verdict is not None
    assert "without its summary" in verdict


def test_a_failure_is_told_in_the_collectors_words() -> None:
    output = fed("team/app\nfailed to garbage collect: failed to mark: no space left on device")
    assert output.verdict(1) == "failed to mark: no space left on device"


@pytest.mark.parametrize(
    "where", ["failed to mark: {}/repositories", "error enumerating blobs: {}/blobs"]
)
def test_a_registry_that_nobody_pushed_to_is_a_success(where: str) -> None:
    place = "filesystem: Path not found: /docker/registry/v2"
    output = fed(f"failed to garbage collect: {where.format(place)}")
    assert output.verdict(1) is None
    assert output.eligible == []


def test_a_repository_that_cannot_be_marked_is_a_failure() -> None:
    """As 3.x has it of one without layers: nothing is collected then."""
    said = "failed to mark: filesystem: Path not found: /docker/registry/v2/repositories/a/_layers"
    assert fed(f"failed to garbage collect: {said}").verdict(1) == said


def test_a_run_of_2_6_is_read() -> None:
    output = fed("\n3 blobs marked, 2 blobs eligible for deletion")
    assert (output.blobs_marked, output.blobs_eligible, output.manifests_eligible) == (3, 2, 0)
    assert output.verdict(0) is None


@pytest.mark.parametrize(("code", "words"), [(2, "exit code 2"), (None, "in time")])
def test_other_ends_are_told(code: int | None, words: str) -> None:
    verdict = fed("").verdict(code)
    assert verdict is not None
    assert words in verdict


@pytest.mark.parametrize("line", [b"", b"\xff\xfe", b"blob eligible for deletion: md5:1", b"x" * 9])
def test_unknown_lines_are_left_out(line: bytes) -> None:
    output = CollectorOutput()
    output.feed(line)
    assert output == CollectorOutput()
