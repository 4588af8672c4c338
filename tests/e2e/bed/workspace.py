"""A folder for one run of the tests, and the processes that live in it.

Whatever a run makes is found through its folder, whose name holds the run's process, so that the
next run can clear up after one that was killed.
"""

import atexit
import contextlib
import ctypes
import os
import shutil
import signal
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from demo import processes
from demo.processes import wait_until

PREFIX = "registry-admin-bed-"
PIDS = "pids"


def owner_name(pid: int) -> str:
    """Name a process so that a later one with the same number is told apart."""
    return f"{pid}-{start_time(pid)}"


def start_time(pid: int) -> str | None:
    """Ticks since boot, or None when the process is gone or a zombie."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] == "Z" else fields[19]


def is_alive(name: str) -> bool:
    """Tell whether the process of `owner_name` still runs."""
    pid, _, started = name.partition("-")
    return start_time(int(pid)) == started


class Workspace:
    """The run's folder: made on construction, gone with all that lives in it after `close`."""

    def __init__(self, owner: int | None = None) -> None:
        self.owner = owner_name(owner or os.getpid())
        self.path = Path(tempfile.mkdtemp(prefix=f"{PREFIX}{self.owner}-"))
        self.path.chmod(0o711)  # another user's server passes through, and sees nothing
        (self.path / PIDS).mkdir()
        atexit.register(self.close)

    def folder(self, name: str) -> Path:
        """Make a fresh folder whose name begins so."""
        made = Path(tempfile.mkdtemp(prefix=f"{name}-", dir=self.path))
        made.chmod(0o711)
        return made

    def close(self) -> None:
        """End every process of the folder and remove it."""
        atexit.unregister(self.close)
        erase(self.path)


class Child(processes.Child):
    """A process of the bed: known by the run's folder, and ended with all that it started."""

    log: Path

    def __init__(
        self,
        workspace: Workspace,
        argv: Sequence[str],
        log: Path,
        environment: Mapping[str, str] | None = None,
        user: str | None = None,
    ) -> None:
        super().__init__(argv, log, environment, user)
        self.note = workspace.path / PIDS / owner_name(self.pid)
        self.note.touch()

    def stop(self, how: signal.Signals = signal.SIGTERM, seconds: float = 20) -> int:
        """Ask it to end, then force its whole tree; gives the exit code."""
        tree = family(self.pid)
        super().stop(how, seconds)
        kill(tree)
        return self.process.returncode

    def kill(self) -> None:
        """SIGKILL the process and all below it at once, as a power cut would."""
        tree = family(self.pid)
        super().kill()
        kill(tree)
        self.note.unlink(missing_ok=True)


def family(pid: int) -> list[str]:
    """Name the process and all its descendants, youngest last; nothing for one that is gone."""
    children: dict[int, list[int]] = {}
    for one in pids():
        with contextlib.suppress(OSError):
            fields = Path(f"/proc/{one}/stat").read_text().rpartition(")")[2].split()
            children.setdefault(int(fields[1]), []).append(one)
    found = [pid]
    for one in found:
        found.extend(children.get(one, []))
    return [owner_name(one) for one in found if start_time(one)]


def command_line(pid: int) -> list[bytes]:
    """Give what a process was started as; nothing for one that is gone."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    return []


def pids() -> Iterator[int]:
    for entry in os.scandir("/proc"):
        if entry.name.isdigit():
            yield int(entry.name)


def kill(tree: Sequence[str]) -> None:
    """SIGKILL processes that still are the ones named, and wait until they are gone."""
    for name in tree:
        if is_alive(name):
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(name.partition("-")[0]), signal.SIGKILL)
    wait_until(lambda: not any(map(is_alive, tree)), 10, f"processes {tree} gone")


def sweep() -> None:
    """Remove what runs left that were killed; those still running are not touched."""
    for folder in Path(tempfile.gettempdir()).glob(f"{PREFIX}*-*-*"):
        owner = folder.name.removeprefix(PREFIX).rpartition("-")[0]
        if folder.stat().st_uid == os.getuid() and not is_alive(owner):
            erase(folder)


def erase(folder: Path) -> None:
    """End the processes of a run's folder, take its mounts down, remove it."""
    for name in recorded(folder):
        end(name)
    for pid in shims(folder):
        kill(family(pid))
    for place in sockets(folder):
        place.unlink(missing_ok=True)
    for place in mounts(folder):
        unmount(place)
    shutil.rmtree(folder, ignore_errors=True)


def recorded(folder: Path) -> list[str]:
    notes = folder / PIDS
    return [note.name for note in notes.iterdir()] if notes.is_dir() else []


def end(name: str) -> None:
    """Let a process clear up, then SIGKILL what is left of its tree."""
    if not is_alive(name):
        return
    pid = int(name.partition("-")[0])
    tree = family(pid)
    os.kill(pid, signal.SIGTERM)
    with contextlib.suppress(TimeoutError):
        wait_until(lambda: not is_alive(name), 20, f"process {name} gone")
    kill(tree)


def shims(folder: Path) -> list[int]:
    """Find the parents of the folder's containers: they outlive a killed engine."""
    found = []
    for pid in pids():
        with contextlib.suppress(OSError):
            command = Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace")
            program, _, rest = command.partition("\0")
            if "containerd-shim" in program and f"{folder}/" in rest:
                found.append(pid)
    return found


def sockets(folder: Path) -> list[Path]:
    """List what killed shims leave outside the folder."""
    notes = folder.glob("engine-*/exec/containerd/daemon/*/*/*/address")
    return [Path(note.read_text().removeprefix("unix://")) for note in notes]


def mounts(folder: Path) -> list[Path]:
    """List the mount points below the folder, deepest first."""
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    points = [Path(line.split()[4].replace("\\040", " ")) for line in lines]
    return sorted((one for one in points if folder in one.parents), reverse=True)


def unmount(place: Path) -> None:
    detach = 2  # MNT_DETACH: also when a dying process still has a file open there
    ctypes.CDLL(None).umount2(os.fsencode(place), detach)
