"""Programs as children of this one, none of which outlives it."""

import contextlib
import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path


def wait_until(condition: Callable[[], bool], seconds: float, what: str) -> None:
    """Poll every 20 ms, less often where a look takes long; raises TimeoutError naming `what`."""
    deadline = time.monotonic() + seconds
    while not timed(condition):
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what}: not so after {seconds:g} s")


def timed(condition: Callable[[], bool]) -> bool:
    """Look once; pause where it is not so.

    For a while that leaves most of the machine to what is waited for.
    """
    begun = time.monotonic()
    if condition():
        return True
    time.sleep(min(max(0.02, 3 * (time.monotonic() - begun)), 0.5))
    return False


def free_port(preferred: int = 0) -> int:
    """Give the preferred port of 127.0.0.1, or another when something listens on that."""
    for port in (preferred, 0):
        with contextlib.suppress(OSError), socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", port))
            return int(probe.getsockname()[1])
    raise OSError("no free port on 127.0.0.1")


def guard(user: str | None = None) -> list[str]:
    """Begin a command that gets SIGTERM when this program dies, and may run as another user."""
    setpriv = shutil.which("setpriv")
    if setpriv is None:  # a part of Linux
        return []
    identity = []
    if user:
        entry = pwd.getpwnam(user)
        identity = [f"--reuid={entry.pw_uid}", f"--regid={entry.pw_gid}", "--init-groups"]
    return [setpriv, *identity, "--pdeathsig", "TERM", "--"]


def registry_admin(*arguments: str) -> list[str]:
    """Give the command line of registry-admin, by the same interpreter as this."""
    script = Path(sys.executable).with_name("registry-admin")
    program = [str(script)] if script.exists() else [sys.executable, "-m", "service.cli"]
    return [*program, *arguments]


class Child:
    """A program started now; its output goes to a log, or to the terminal when there is none.

    Start it in the main thread: the kernel ends it with the thread that started it.
    """

    def __init__(
        self,
        argv: Sequence[str],
        log: Path | None = None,
        environment: Mapping[str, str] | None = None,
        user: str | None = None,
    ) -> None:
        self.argv = list(argv)
        self.log = log
        with contextlib.ExitStack() as stack:
            output = stack.enter_context(log.open("ab")) if log else None
            self.process = subprocess.Popen(
                [*guard(user), *argv],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=None if environment is None else dict(environment),
                start_new_session=True,  # a Ctrl-C at the terminal is for its parent alone
            )

    @property
    def pid(self) -> int:
        """Its process id, and its session's."""
        return self.process.pid

    def is_running(self) -> bool:
        """Tell whether it still runs; reaps it when it does not."""
        return self.process.poll() is None

    def stop(self, how: signal.Signals = signal.SIGTERM, seconds: float = 20) -> int:
        """Ask it to end, force it when it does not in time; gives the exit code."""
        if self.is_running():
            self.process.send_signal(how)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(seconds)
        self.kill()
        return self.process.returncode

    def kill(self) -> None:
        """SIGKILL it and its process group."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)
        self.process.wait()

    def tail(self, lines: int = 30) -> str:
        """Give the end of its log."""
        text = self.log.read_text(errors="replace") if self.log else ""
        return "\n".join(text.splitlines()[-lines:])
