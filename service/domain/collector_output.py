"""What ``registry garbage-collect`` prints, read line by line while it runs.

Formats of distribution 2.4 to 3.1.1. It prints no sizes, exits 0 for an unknown flag without
having run, and fails on a registry that nobody has pushed to yet, or begun to; so success is an
exit code of 0 and the summary line, or one of those failures.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Literal

from service.domain.reference import Digest

_SUMMARY = re.compile(
    # Manifests are counted from 2.7 on.
    r"(\d+) blobs marked, (\d+) blobs(?: and (\d+) manifests)? eligible for deletion\s*"
)
_BLOB = re.compile(r"blob eligible for deletion: (sha256:[0-9a-f]{64})\s*")
_MARKING = re.compile(r".*: marking (?:manifest|blob) sha256:[0-9a-f]{64}\s*|marking blob .*")
_DELETING = re.compile(r"Deleting blob: \S*/blobs/sha256/[0-9a-f]{2}/([0-9a-f]{64})")
_FAILED = re.compile(r"failed to garbage collect: (.*)")
_NEVER_PUSHED = re.compile(
    r"(?:failed to mark: .*Path not found: \S*/repositories"
    r"|error enumerating blobs: .*Path not found: \S*/v2/blobs)\s*"
)
_COLOURED = re.compile(r"\x1b\[[0-9;]*m")

Phase = Literal["marking", "sweeping"]


@dataclass(slots=True)
class CollectorOutput:
    """The run so far. Feed it lines; ask :meth:`verdict` when the process has ended."""

    blobs_marked: int | None = None
    blobs_eligible: int = 0
    manifests_eligible: int = 0
    eligible: list[Digest] = field(default_factory=list)
    deleted: set[Digest] = field(default_factory=set)
    marks: int = 0
    failure: str | None = None
    never_pushed: bool = False

    @property
    def phase(self) -> Phase:
        """Marking ends with the summary line; what is swept was decided by then."""
        return "marking" if self.blobs_marked is None else "sweeping"

    def feed(self, line: bytes) -> None:
        """Take a line of either stream; what is not recognised is left out."""
        text = _COLOURED.sub("", line.decode("utf-8", "replace"))
        if found := _BLOB.fullmatch(text):
            self.eligible.append(Digest(found[1]))
        elif found := _DELETING.search(text):
            self.deleted.add(Digest("sha256:" + found[1]))
        elif found := _SUMMARY.fullmatch(text):
            self.blobs_marked, self.blobs_eligible, self.manifests_eligible = map(
                int, found.groups("0")
            )
        elif found := _FAILED.search(text):
            self.failure = found[1].strip()
            self.never_pushed = bool(_NEVER_PUSHED.fullmatch(self.failure))
        elif _MARKING.fullmatch(text):
            self.marks += 1

    def verdict(self, exit_code: int | None) -> str | None:
        """Return None for a success, else what went wrong, in words for the operator."""
        if exit_code == 0 and self.blobs_marked is not None:
            return None
        if self.never_pushed:
            return None
        if exit_code is None:
            return "the collector did not end in time"
        if exit_code == 0:
            return "the collector ended without its summary line, so it is unknown what it did"
        return self.failure or f"the collector ended with exit code {exit_code}"
