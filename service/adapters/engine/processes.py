"""Processes in containers: run beside the first one, or followed to their end."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence

from service.adapters.engine.streams import (
    POLL_SECONDS,
    Feeder,
    Lines,
    Multiplexed,
    Name,
    Patience,
    Stream,
    follow,
)
from service.adapters.engine.transport import Call, Transport, container_path
from service.domain.engine import Inspected, Output
from service.domain.errors import ContainerNotRunning, EngineRefused

SLACK_SECONDS = 30.0
"""How much longer than whoever waits a stream's thread lives, at most."""

FIRST_LOOK_SECONDS = 0.01
LOOK_SECONDS = 5.0
"""How often a container is looked at whose log says nothing."""

TAIL_SECONDS = 10.0

ENDED = frozenset({"exited", "dead"})


class Processes:
    """Processes in an engine's containers."""

    def __init__(self, transport: Transport) -> None:
        """Reach them by ``transport``."""
        self._transport = transport

    def execute(
        self,
        container_id: str,
        command: Sequence[str],
        output: Output,
        stop: Callable[[], bool],
        timeout_seconds: float,
    ) -> int | None:
        """Run a command in a running container, as ``EngineController.execute`` promises.

        A program that cannot be started gives the engine's reason as a line of stdout, and 126 or
        127. Raise ContainerUnknown or ContainerNotRunning.
        """
        patience = Patience(stop, timeout_seconds)
        settings = {"Cmd": list(command), "AttachStdout": True, "AttachStderr": True}
        path = container_path(container_id, "/exec")
        exec_path = f"/exec/{self._transport.ask(Call('POST', path, body=settings))['Id']}"
        # Without an upgrade of the connection the answer is one that ends by closing.
        start = {"Detach": False, "Tty": False}
        call = Call("POST", f"{exec_path}/start", None, start, timeout_seconds + SLACK_SECONDS)
        with Stream(self._transport, call) as stream:
            if not follow(stream, Multiplexed(output), patience):
                return None
        return _until(lambda: self._exec_code(exec_path), patience)

    def last_lines(self, container_id: str, count: int) -> list[bytes]:
        """The last lines of a container's log, oldest first, as ``Engine.last_lines`` promises."""
        found: list[bytes] = []
        config = self._transport.inspect(container_id)["Config"]
        log = _Log(lambda _, line: found.append(line), terminal=bool(config.get("Tty")))
        query = {"stdout": 1, "stderr": 1, "tail": count}
        path = container_path(container_id, "/logs")
        patience = Patience(lambda: False, TAIL_SECONDS)
        with Stream(self._transport, Call("GET", path, query)) as stream:
            follow(stream, log.feeder(), patience)
        return found[-count:]

    def wait(
        self, container_id: str, output: Output, stop: Callable[[], bool], timeout_seconds: float
    ) -> int | None:
        """Follow a container that was started, as ``EngineController.wait`` promises."""
        patience = Patience(stop, timeout_seconds)
        config = self._transport.inspect(container_id)["Config"]
        log = _Log(output, terminal=bool(config.get("Tty")))
        ended = _Seldom(lambda: self._container_code(container_id) is not None)
        self._read(container_id, log, Patience(lambda: stop() or ended(), timeout_seconds), 1)
        code = _until(lambda: self._container_code(container_id), patience)
        # Engine 20.10 may end what it follows before the last lines, others never do.
        whole = code is not None and self._read(container_id, log, patience, 0)
        return code if whole else None

    def _read(self, container_id: str, log: _Log, patience: Patience, following: int) -> bool:
        """Give what is not given yet; tell whether the end was reached."""
        query = {"follow": following, "stdout": 1, "stderr": 1}
        path = container_path(container_id, "/logs")
        call = Call("GET", path, query, seconds=patience.seconds + SLACK_SECONDS)
        with Stream(self._transport, call) as stream:
            return follow(stream, log.feeder(), patience)

    def _exec_code(self, path: str) -> int | None:
        try:
            found: Inspected = self._transport.ask(Call("GET", f"{path}/json"))
        except EngineRefused as error:
            # An engine forgets what ran in a container that was stopped meanwhile.
            raise ContainerNotRunning(
                f"The container was stopped while a command ran in it: {error}"
            ) from error
        return None if found["Running"] else found["ExitCode"]

    def _container_code(self, container_id: str) -> int | None:
        state = self._transport.inspect(container_id)["State"]
        return int(state["ExitCode"]) if state["Status"] in ENDED else None


class _Log:
    """The log of a container, given on line by line, however often it is read."""

    def __init__(self, output: Output, *, terminal: bool) -> None:
        self._output = output
        self._terminal = terminal
        self._given: Counter[str] = Counter()

    def feeder(self) -> Feeder:
        """What takes the log from its beginning; it drops what was given already."""
        read: Counter[str] = Counter()

        def give(name: Name, line: bytes) -> None:
            read[name] += 1
            if read[name] > self._given[name]:
                self._given[name] += 1
                self._output(name, line)

        return Lines("stdout", give) if self._terminal else Multiplexed(give)


class _Seldom:
    """Asks a question every LOOK_SECONDS; the answer is no in between."""

    def __init__(self, question: Callable[[], bool]) -> None:
        self._question = question
        self._next = time.monotonic() + LOOK_SECONDS

    def __call__(self) -> bool:
        if time.monotonic() < self._next:
            return False
        self._next = time.monotonic() + LOOK_SECONDS
        return self._question()


def _until(look: Callable[[], int | None], patience: Patience) -> int | None:
    """The exit code as soon as there is one: it may come a little later than the last line."""
    pause = FIRST_LOOK_SECONDS
    while (code := look()) is None and not patience.is_over():
        time.sleep(pause)
        pause = min(2 * pause, POLL_SECONDS)
    return code
