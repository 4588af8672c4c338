"""A socket in front of an engine's, which can go away and come back while the engine runs on."""

import contextlib
import socket
import threading
from pathlib import Path


class SocketRelay:
    """Passes on what comes to `path`, while it is open."""

    def __init__(self, path: Path, target: str) -> None:
        self.path = path
        self.url = f"unix://{path}"
        self._target = target
        self._sockets: set[socket.socket] = set()
        self._lock = threading.Lock()
        self.open()

    def open(self) -> None:
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(str(self.path))
        listener.listen(64)
        self._sockets.add(listener)
        threading.Thread(target=self._accept, args=(listener,), daemon=True).start()

    def close(self) -> None:
        """Refuse connections, and cut those that there are."""
        self.path.unlink(missing_ok=True)
        with self._lock:
            for one in self._sockets:
                with contextlib.suppress(OSError):
                    one.shutdown(socket.SHUT_RDWR)
                one.close()
            self._sockets.clear()

    def _accept(self, listener: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = listener.accept()
                far = socket.socket(socket.AF_UNIX)
                far.connect(self._target)
                with self._lock:
                    if not self.path.exists():
                        near.close()
                        far.close()
                        return
                    self._sockets |= {near, far}
                for pair in ((near, far), (far, near)):
                    threading.Thread(target=pass_on, args=pair, daemon=True).start()


def pass_on(source: socket.socket, target: socket.socket) -> None:
    """Send on what comes, until there is no more."""
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            target.sendall(data)
    with contextlib.suppress(OSError):
        target.shutdown(socket.SHUT_WR)
