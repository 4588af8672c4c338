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
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

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


def wait_until(condition: Callable[[], bool], seconds: float, what: str) -> None:
    """Poll every 20 ms; raises TimeoutError naming `what`."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what}: not so after {seconds:g} s")
        time.sleep(0.02)


def free_port() -> int:
    """Give a port of 127.0.0.1 that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


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


class Child:
    """A process of the bed: ends when the test run does, however that ends.

    Start it in the main thread: the kernel ends it with the thread that started it.
    """

    def __init__(
        self,
        workspace: Workspace,
        argv: Sequence[str],
        log: Path,
        environment: Mapping[str, str] | None = None,
        user: str | None = None,
    ) -> None:
        self.log = log
        with log.open("ab") as output:
            self.process = subprocess.Popen(
                [*guard(user), *argv],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=None if environment is None else dict(environment),
                start_new_session=True,  # a Ctrl-C at the terminal is for the tests alone
            )
        self.note = workspace.path / PIDS / owner_name(self.process.pid)
        self.note.touch()

    @property
    def pid(self) -> int:
        return self.process.pid

    def is_running(self) -> bool:
        return self.process.poll() is None

    def stop(self, how: signal.Signals = signal.SIGTERM, seconds: float = 20) -> int:
        """Ask it to end, then force its whole tree; gives the exit code."""
        tree = family(self.pid)
        if self.is_running():
            self.process.send_signal(how)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(seconds)
        kill(tree)
        self.note.unlink(missing_ok=True)
        return self.process.wait()

    def kill(self) -> None:
        """SIGKILL the process and all below it at once, as a power cut would."""
        kill(family(self.pid))
        self.process.wait()
        self.note.unlink(missing_ok=True)

    def tail(self, lines: int = 30) -> str:
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])


def guard(user: str | None = None) -> list[str]:
    """Begin a command that gets SIGTERM when the test run dies, and runs as another user."""
    identity = ["--reuid", user, "--regid", user, "--init-groups"] if user else []
    return ["setpriv", *identity, "--pdeathsig", "TERM", "--"]


def family(pid: int) -> list[str]:
    """Name the process and all its descendants, youngest last; nothing for one that is gone."""
    children: dict[int, list[int]] = {}
    for one in processes():
        with contextlib.suppress(OSError):
            fields = Path(f"/proc/{one}/stat").read_text().rpartition(")")[2].split()
            children.setdefault(int(fields[1]), []).append(one)
    found = [pid]
    for one in found:
        found.extend(children.get(one, []))
    return [owner_name(one) for one in found if start_time(one)]


def processes() -> Iterator[int]:
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
    for pid in processes():
        with contextlib.suppress(OSError):
            command = Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace")
            program, _, rest = command.partition("\0")
            if "containerd-shim" in program and f"{folder}/" in rest:
                found.append(pid)
    return found


def mounts(folder: Path) -> list[Path]:
    """List the mount points below the folder, deepest first."""
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    points = [Path(line.split()[4].replace("\\040", " ")) for line in lines]
    return sorted((one for one in points if folder in one.parents), reverse=True)


def unmount(place: Path) -> None:
    detach = 2  # MNT_DETACH: also when a dying process still has a file open there
    ctypes.CDLL(None).umount2(os.fsencode(place), detach)
