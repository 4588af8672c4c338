"""The memory of a process and of all that it started."""

import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

MEBIBYTE = 1024 * 1024
PAUSE_SECONDS = 0.1


@dataclass(frozen=True)
class Used:
    """Bytes. ``rss`` counts pages that processes share in each, ``pss`` once in all."""

    rss: int
    pss: int


def tree(pid: int) -> list[int]:
    """Return the process and all its descendants."""
    found = [pid]
    for each in found:
        with suppress(OSError):
            for task in Path(f"/proc/{each}/task").iterdir():
                found += map(int, (task / "children").read_text().split())
    return found


def used(pid: int) -> Used:
    """Return what a whole tree of processes uses now."""
    rows = [_rollup(each) for each in tree(pid)]
    return Used(sum(row.rss for row in rows), sum(row.pss for row in rows))


def each_used(pid: int) -> dict[str, Used]:
    """Return what each process of a tree uses now, by its command."""
    return {f"{each} {_command(each)}": _rollup(each) for each in tree(pid)}


def _command(pid: int) -> str:
    with suppress(OSError):
        words = Path(f"/proc/{pid}/cmdline").read_text().split("\0")
        return " ".join(words[2:6])
    return ""


def _rollup(pid: int) -> Used:
    rss = pss = 0
    with suppress(OSError):  # it may have ended
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            name, _, rest = line.partition(":")
            if name == "Rss":
                rss = int(rest.split()[0]) * 1024
            elif name == "Pss":
                pss = int(rest.split()[0]) * 1024
    return Used(rss, pss)


class Peak:
    """The most that a tree of processes uses while this is entered."""

    def __init__(self, pid: int, look: Callable[[int], Used] = used) -> None:
        """Look at ``pid`` and below several times a second."""
        self._pid = pid
        self._look = look
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self.rss = self.pss = 0

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._ended.set()
        self._thread.join()

    def _watch(self) -> None:
        while True:
            now = self._look(self._pid)
            self.rss, self.pss = max(self.rss, now.rss), max(self.pss, now.pss)
            if self._ended.wait(PAUSE_SECONDS):
                return
