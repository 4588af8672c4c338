"""Processes in containers: run beside the first one, or followed to their end."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence

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

    def wait(
        self, container_id: str, output: Output, stop: Callable[[], bool], timeout_seconds: float
    ) -> int | None:
        """Follow a container that was started, as ``EngineController.wait`` promises.

        An engine may end the stream before the last of what was said: that is read afterwards.
        """
        patience, seconds = Patience(stop, timeout_seconds), timeout_seconds + SLACK_SECONDS
        tty = bool(self._inspect(container_id)["Config"].get("Tty"))
        heard = _Counted(output)
        if not self._heard(container_id, {"follow": 1}, _feeder(heard, tty=tty), patience, seconds):
            return None
        code = _until(lambda: self._container_code(container_id), patience)
        rest = _feeder(_Counted(output, heard.lines), tty=tty)
        if code is None or not self._heard(container_id, {}, rest, patience, seconds):
            return None
        return code

    def _heard(
        self,
        container_id: str,
        query: Mapping[str, int],
        feeder: Feeder,
        patience: Patience,
        seconds: float,
    ) -> bool:
        path = container_path(container_id, "/logs")
        call = Call("GET", path, {**query, "stdout": 1, "stderr": 1}, seconds=seconds)
        with Stream(self._transport, call) as stream:
            return follow(stream, feeder, patience)

    def _inspect(self, container_id: str) -> Inspected:
        found: Inspected = self._transport.ask(Call("GET", container_path(container_id, "/json")))
        return found

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
        state = self._inspect(container_id)["State"]
        return int(state["ExitCode"]) if state["Status"] in ENDED else None


class _Counted:
    """An output that counts its lines and leaves the first ones out."""

    def __init__(self, output: Output, skipped: int = 0) -> None:
        self._output = output
        self._skipped = skipped
        self.lines = 0

    def __call__(self, name: Name, line: bytes) -> None:
        self.lines += 1
        if self.lines > self._skipped:
            self._output(name, line)


def _feeder(output: Output, *, tty: bool) -> Feeder:
    return Lines("stdout", output) if tty else Multiplexed(output)


def _until(look: Callable[[], int | None], patience: Patience) -> int | None:
    """The exit code as soon as there is one: it may come a little later than the last line."""
    pause = FIRST_LOOK_SECONDS
    while (code := look()) is None and not patience.is_over():
        time.sleep(pause)
        pause = min(2 * pause, POLL_SECONDS)
    return code
