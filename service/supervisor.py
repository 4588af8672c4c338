"""``registry-admin serve``: the processes of the service, and somebody who looks after them.

    supervisor ─┬─ worker (migrates and finishes interrupted deletions before it works)
                └─ api    (gunicorn, its workers)

Without a worker, a process that prepares and ends takes its place. The supervisor holds the
listening socket, so that a taken port is told at once and a restarted API loses no connection.
Its children watch two pipes that only it holds open: the lifeline, which closes when it dies in
whatever way, and the gate, which closes when the API may accept requests. By a third one the
supervisor learns that all is prepared.
"""

from __future__ import annotations

import errno
import logging
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType

import service
from service import readiness
from service.settings import Settings

BACKLOG = 512
STOP_SECONDS = 15.0
"""How long children may take to end what they are at."""

FIRST_PAUSE_SECONDS = 0.5
LONGEST_PAUSE_SECONDS = 2.0
"""What a worker left in the middle is put back by the next one: a registry may be down until then.
"""

STEADY_SECONDS = 60.0
"""A child that has lived this long begins with a clean slate when it dies."""

TAKEN = "something else listens there; set bind (REGISTRY_ADMIN_BIND) to another port"

METRICS_FOLDER = "PROMETHEUS_MULTIPROC_DIR"
"""As prometheus_client calls it; named again in service.metrics, which this process does without.
"""

HOPELESS = frozenset({3, 4})
"""Exit codes of gunicorn for an application that cannot be loaded: trying again is no use."""

log = logging.getLogger(__name__)


class CannotServe(RuntimeError):
    """The service cannot start; says why."""


@dataclass
class Child:
    """A process: how to start it, and how it has been doing.

    One that is ``kept`` is started again when it dies.
    """

    name: str
    command: Sequence[str]
    kept: bool = True
    process: subprocess.Popen[bytes] | None = None
    started_at: float = 0.0
    pause: float = field(default=FIRST_PAUSE_SECONDS)
    due_at: float = 0.0

    def died(self, now: float) -> None:
        """Note a death, and wait longer each time before the next start."""
        steady = now - self.started_at > STEADY_SECONDS
        self.pause = FIRST_PAUSE_SECONDS if steady else self.pause
        self.due_at = now + self.pause
        self.pause = min(2 * self.pause, LONGEST_PAUSE_SECONDS)
        self.process = None


def serve(settings: Settings, config: Path | None, *, worker: bool) -> int:
    """Run the service until SIGTERM or SIGINT; return the exit code. Raise CannotServe."""
    with ExitStack() as stack:
        listener = stack.enter_context(listen(settings))
        supervisor = Supervisor(stack, listener, config, shared(settings.data_dir / "metrics"))
        return supervisor.run(worker=worker)


def listen(settings: Settings) -> socket.socket:
    """Take the port; raise CannotServe."""
    host, port = settings.address
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind, protocol)
    except OSError as error:
        raise CannotServe(f"cannot listen on {settings.bind}: {error.strerror}") from error
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        taken = error.errno == errno.EADDRINUSE
        hint = TAKEN if taken else error.strerror
        raise CannotServe(f"cannot listen on {settings.bind}: {hint}") from error
    return listener


def shared(folder: Path) -> Mapping[str, str]:
    """Variables by which children add up what they count, in files that begin anew with each start.

    A child that is started again goes on from what the dead one had counted. Raise CannotServe.
    """
    try:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CannotServe(f"cannot write to {folder.parent}: {error.strerror}") from error
    return {METRICS_FOLDER: str(folder)}


class Supervisor:
    """Starts the children, restarts those that die, ends them all."""

    def __init__(
        self,
        stack: ExitStack,
        listener: socket.socket,
        config: Path | None,
        variables: Mapping[str, str],
    ) -> None:
        """Serve on ``listener``; what is opened is closed with ``stack``.

        The children get ``variables`` besides the supervisor's own.
        """
        self._config = config
        self._variables = variables
        self._lifeline = _Pipe(stack)
        self._gate = _Pipe(stack)
        self._prepared = _Pipe(stack)
        self._listener = listener
        self._wakeup = _Wakeup(stack)
        self._children: list[Child] = []

    def run(self, *, worker: bool) -> int:
        """Serve until a signal says to stop, or nothing can be served."""
        gate = ("--gate", str(self._gate.reader), "--socket", str(self._listener.fileno()))
        first = self._first("worker" if worker else "prepare")
        self._children = [first, Child("api", self._command("serve-api", *gate))]
        for child in self._children:
            self._start(child)
        code = self._wait_until_prepared(first)
        if code is None:
            first.command, first.kept = self._command("worker"), worker
            code = self._serve()
        readiness.tell(readiness.STOPPING)
        self._stop()
        return code

    def _serve(self) -> int:
        """Open the gate, and go on until a signal says to stop; return the exit code."""
        self._gate.close_writer()
        host, port = self._listener.getsockname()[:2]
        page = f"http://{_in_url(host)}:{port}/docs"
        log.info("serving", extra={"host": host, "port": port, "docs": page})
        readiness.tell(readiness.READY)  # connections wait for the API, if it is not there yet
        return self._look_after()

    def _first(self, name: str) -> Child:
        """The child that prepares: without that there is no service."""
        prepared = ("--prepared", str(self._prepared.writer))
        return Child(name, self._command(name, *prepared), kept=False)

    def _command(self, *arguments: str) -> list[str]:
        config = ["--config", str(self._config)] if self._config else []
        lifeline = ["--lifeline", str(self._lifeline.reader)]
        # -P: whatever folder the service is started in, its modules are not ours.
        return [sys.executable, "-P", "-m", "service.cli", *arguments, *config, *lifeline]

    def _wait_until_prepared(self, first: Child) -> int | None:
        """Wait for the preparation; an exit code when the service must not go on."""
        while not self._prepared.was_written():
            if first.process is None:
                return 1
            self._wakeup.wait(None, self._prepared.reader)
            if self._wakeup.stopping:
                return 0
            if HOPELESS & set(self._reap().values()):
                return 1
        return None

    def _look_after(self) -> int:
        while not self._wakeup.stopping:
            now = time.monotonic()
            for child in self._missing():
                if child.due_at <= now:
                    self._start(child)
            waiting = [child.due_at - now for child in self._missing()]
            self._wakeup.wait(min(waiting, default=None))
            if HOPELESS & set(self._reap().values()):
                log.error("the API cannot be loaded")
                return 1
        return 0

    def _missing(self) -> list[Child]:
        return [child for child in self._children if child.kept and child.process is None]

    def _start(self, child: Child) -> None:
        child.process = subprocess.Popen(  # noqa: S603 - our own command
            child.command,
            stdin=subprocess.DEVNULL,
            env={**_environment(os.environ), **self._variables},
            pass_fds=self._inherited(),
            start_new_session=True,  # Ctrl-C is for the supervisor, which asks them politely
        )
        child.started_at = time.monotonic()
        log.info("started", extra={"child": child.name, "child_pid": child.process.pid})

    def _inherited(self) -> tuple[int, ...]:
        pipes = (self._lifeline.reader, self._gate.reader, self._prepared.writer)
        return (*pipes, self._listener.fileno())

    def _reap(self) -> dict[str, int]:
        """Collect what has died, orphans as well (as process 1 of a container we get them)."""
        found = {}
        for pid, code in _dead():
            for child in self._children:
                if child.process is not None and child.process.pid == pid:
                    child.process.returncode = code
                    found[child.name] = code
                    self._note_death(child, code)
        return found

    def _note_death(self, child: Child, code: int) -> None:
        child.died(time.monotonic())
        if child.kept and not self._wakeup.stopping:
            extra = {"child": child.name, "exit_code": code}
            log.error("a child died and is started again", extra=extra)

    def _stop(self) -> None:
        """End the children: politely, after STOP_SECONDS or a second signal by force."""
        asked = self._wakeup.signals
        # Held open, it would take connections that nobody is left to answer: a proxy in front
        # could not tell that another replica is to be asked.
        self._listener.close()
        _signal(self._children, os.kill, signal.SIGTERM)
        deadline = time.monotonic() + STOP_SECONDS
        while any(child.process for child in self._children):
            self._wakeup.wait(min(1.0, deadline - time.monotonic()))
            self._reap()
            if time.monotonic() > deadline or self._wakeup.signals > asked:
                _signal(self._children, os.killpg, signal.SIGKILL)  # with all that they started
        log.info("stopped")


def _signal(
    children: Sequence[Child], send: Callable[[int, int], None], number: signal.Signals
) -> None:
    for child in children:
        if child.process is not None:
            with suppress(ProcessLookupError):
                send(child.process.pid, number)


class _Pipe:
    """A pipe between this process and its children."""

    def __init__(self, stack: ExitStack) -> None:
        self.reader, self.writer = os.pipe()
        stack.callback(os.close, self.reader)
        stack.callback(self.close_writer)

    def close_writer(self) -> None:
        """Let the children that read know, by the end of the file."""
        if self.writer >= 0:
            os.close(self.writer)
        self.writer = -1

    def was_written(self) -> bool:
        """Tell whether a child has written."""
        return bool(select.select([self.reader], [], [], 0)[0])


class _Wakeup:
    """Waits for signals: of children that died, and of operators."""

    def __init__(self, stack: ExitStack) -> None:
        self.signals = 0
        self._reader, writer = socket.socketpair()
        stack.enter_context(self._reader)
        stack.enter_context(writer)
        self._reader.settimeout(0)
        writer.settimeout(0)
        stack.callback(signal.set_wakeup_fd, signal.set_wakeup_fd(writer.fileno()))
        for number, handler in (
            (signal.SIGTERM, self._stop),
            (signal.SIGINT, self._stop),
            (signal.SIGCHLD, _ignore),
        ):
            stack.callback(signal.signal, number, signal.signal(number, handler))

    @property
    def stopping(self) -> bool:
        """Tell whether somebody wants the service to stop."""
        return self.signals > 0

    def wait(self, seconds: float | None, *readers: int) -> None:
        """Return after a signal, after ``seconds``, or when one of ``readers`` can be read."""
        left = None if seconds is None else max(0.0, seconds)
        select.select([self._reader.fileno(), *readers], [], [], left)
        with suppress(BlockingIOError):
            self._reader.recv(4096)

    def _stop(self, _signal: int, _frame: FrameType | None) -> None:
        self.signals += 1


def _ignore(_signal: int, _frame: FrameType | None) -> None:
    """Handle what only has to wake up."""


def _dead() -> list[tuple[int, int]]:
    found = []
    with suppress(ChildProcessError):
        while True:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                break
            found.append((pid, os.waitstatus_to_exitcode(status)))
    return found


def _environment(own: Mapping[str, str]) -> dict[str, str]:
    """The children's environment: with fewer memory arenas, and this very code on the path.

    None of them is to tell systemd that all are ready, as gunicorn would.
    """
    environment = {"MALLOC_ARENA_MAX": "2", **own}
    environment.pop(readiness.PLACE, None)
    root = Path(service.__file__).parents[1]
    if (root / "pyproject.toml").is_file():  # a checkout, which may not be installed
        paths = [str(root), *filter(None, [own.get("PYTHONPATH")])]
        environment["PYTHONPATH"] = os.pathsep.join(paths)
    return environment


def _in_url(host: str) -> str:
    return f"[{host}]" if ":" in host else host
