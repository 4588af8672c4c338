"""A network for a browser alone: engines make and remove interfaces on the machine's, and at each
of these changes Chromium drops whatever it is loading."""

import contextlib
import ctypes
import fcntl
import os
import socket
import struct
import threading
from pathlib import Path

from tests.e2e.bed.programs import need
from tests.e2e.bed.relay import pass_on

NEW_NETWORK = 0x40000000  # CLONE_NEWNET of linux/sched.h
GET_FLAGS, SET_FLAGS, UP = 0x8913, 0x8914, 1  # of linux/sockios.h and linux/if.h
LOOPBACK = "127.0.0.1"
CLOSE_SECONDS = 10


class Room:
    """Nothing is in its network but a port, which leads to the same port of the machine."""

    def __init__(self, port: int) -> None:
        self.port = port
        self._ready = threading.Event()
        self._closed = threading.Event()
        # A thread has a network of its own if it wants; so have sockets that it makes.
        self._keeper = threading.Thread(target=self._keep, daemon=True)
        self._keeper.start()
        self._ready.wait()
        self._passages: list[threading.Thread] = []
        self._accepter = threading.Thread(target=self._accept, daemon=True)
        self._accepter.start()

    def wrapper(self, folder: Path, program: Path) -> Path:
        """Write a command that starts a program in here."""
        network = f"/proc/{os.getpid()}/task/{self._keeper.native_id}/ns/net"
        nsenter = need("nsenter", "util-linux")
        command = folder / program.name
        command.write_text(f'#!/bin/sh\nexec {nsenter} --net={network} {program} "$@"\n')
        command.chmod(0o700)
        return command

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._closed.set()
        for thread in (self._keeper, self._accepter, *self._passages):
            thread.join(CLOSE_SECONDS)

    def _keep(self) -> None:
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.unshare(NEW_NETWORK):
            raise OSError(ctypes.get_errno(), "unshare")
        bring_up(b"lo")
        self._listener = socket.create_server((LOOPBACK, self.port), backlog=128)
        self._ready.set()
        self._closed.wait()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                passage = threading.Thread(target=self._lead_out, args=(near,), daemon=True)
                passage.start()
                self._passages.append(passage)

    def _lead_out(self, near: socket.socket) -> None:
        with near, contextlib.suppress(OSError), self._connected() as far:
            back = threading.Thread(target=pass_on, args=(far, near), daemon=True)
            back.start()
            pass_on(near, far)
            back.join()

    def _connected(self) -> socket.socket:
        return socket.create_connection((LOOPBACK, self.port))


def bring_up(interface: bytes) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        asked = struct.pack("16sh14x", interface, 0)
        _, flags = struct.unpack("16sh14x", fcntl.ioctl(any_socket, GET_FLAGS, asked))
        fcntl.ioctl(any_socket, SET_FLAGS, struct.pack("16sh14x", interface, flags | UP))
