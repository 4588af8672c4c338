"""The socket proxy of deploy/ in front of an engine: HAProxy with our rules."""

import os
import socket
from contextlib import suppress
from pathlib import Path

from demo.processes import wait_until
from tests.e2e.bed.programs import need
from tests.e2e.bed.workspace import Child, Workspace

DEPLOY = Path(__file__).parents[3] / "deploy" / "socket-proxy"


class Gate:
    """A running filter; `url` is where clients reach the engine through it."""

    def __init__(self, workspace: Workspace, host: str, profile: str) -> None:
        folder = workspace.folder("gate")
        self.socket = folder / "docker.sock"
        self.url = f"unix://{self.socket}"
        environment = os.environ | {
            "ENGINE": host.removeprefix("unix://"),
            "LISTEN": str(self.socket),
            "MODE": "600",
            "RULES": str(DEPLOY / f"{profile}.rules"),
        }
        argv = [str(need("haproxy", "haproxy")), "-db", "-f", str(DEPLOY / "haproxy.cfg")]
        self.child = Child(workspace, argv, folder / "log", environment)
        wait_until(self._listens, 20, f"haproxy listens: {self.child.tail()}")

    def _listens(self) -> bool:
        with suppress(OSError), socket.socket(socket.AF_UNIX) as connection:
            connection.connect(str(self.socket))
            return True
        return False
