"""The API's process: gunicorn, told everything here and reading no configuration of its own."""

from __future__ import annotations

import gc
import logging
import os
import select
import signal
from contextlib import suppress
from functools import partial
from http import HTTPStatus
from pathlib import Path
from types import FrameType
from typing import Any

from gunicorn import util
from gunicorn.app.base import BaseApplication
from gunicorn.glogging import Logger
from gunicorn.http import errors
from gunicorn.workers.gthread import ThreadWorker

from service.lifeline import watch
from service.settings import Settings

GRACE_SECONDS = 10
"""How long requests may go on after the service was asked to stop."""

HANG_SECONDS = 30
"""How long a worker may show no sign of life before it is killed, with all that it answers. Its
threads have no such limit: a request that waits for a registry or a job is none that hangs."""

KEEP_ALIVE_SECONDS = 75
"""Longer than what common reverse proxies keep a connection, lest they write into a closed one."""

LINE_LIMIT = 8190
"""Most bytes of a request line; a repository name of 255 characters takes 765 when all escaped."""

FIELDS_LIMIT = 64
FIELD_LIMIT = 8190
"""Header fields, and the bytes of one: an identity provider's token takes some thousand."""

SHARED_MEMORY = Path("/dev/shm")  # noqa: S108 - gunicorn makes its file safely and unlinks it


class Web(BaseApplication):  # type: ignore[misc] # gunicorn has no types
    """The application under gunicorn."""

    def __init__(self, settings: Settings, listener: int, lifeline: int | None, gate: int) -> None:
        """Serve on the socket ``listener`` once the pipe ``gate`` closes, while ``lifeline`` is."""
        self._settings = settings
        self._listener = listener
        self._lifeline = lifeline
        self._gate = gate
        super().__init__()

    def load_config(self) -> None:
        """Set what gunicorn is to do."""
        for name, value in self._options().items():
            self.cfg.set(name, value)

    def load(self) -> Any:  # noqa: ANN401 - a WSGI application
        """Build the application; called in each worker, after the fork."""
        from service import tracing  # noqa: PLC0415 - the master needs none of it
        from service.app import create_app  # noqa: PLC0415
        from service.wiring import build  # noqa: PLC0415

        tracing.begin()
        return create_app(build(self._settings))

    def _options(self) -> dict[str, object]:
        return {
            "bind": f"fd://{self._listener}",
            "workers": self._settings.workers,
            # Requests wait for registries most of the time: threads wait cheaply, and libraries
            # for registries, engines and databases that block are safe in them.
            "worker_class": Worker,
            "threads": self._settings.threads,
            "worker_tmp_dir": str(self._writable_folder()),
            "timeout": HANG_SECONDS,
            "graceful_timeout": GRACE_SECONDS,
            "keepalive": KEEP_ALIVE_SECONDS,
            "limit_request_line": LINE_LIMIT,
            "limit_request_fields": FIELDS_LIMIT,
            "limit_request_field_size": FIELD_LIMIT,
            # What else calls itself forwarded is a stranger's word.
            "forwarded_allow_ips": ",".join(self._settings.trusted_proxies),
            "control_socket_disable": True,
            "proc_name": "registry-admin",
            "logger_class": JsonLogger,
            "loglevel": self._settings.log_level,
            "post_worker_init": partial(_begin, self._lifeline, self._gate),
        }

    def _writable_folder(self) -> Path:
        """Where the workers' heartbeat files go: memory, or our own place where that is closed."""
        if os.access(SHARED_MEMORY, os.W_OK | os.X_OK):
            return SHARED_MEMORY
        return self._settings.data_dir


STATUSES: dict[type[Exception], HTTPStatus] = {
    errors.LimitRequestLine: HTTPStatus.REQUEST_URI_TOO_LONG,
    errors.LimitRequestHeaders: HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE,
    errors.UnsupportedTransferCoding: HTTPStatus.NOT_IMPLEMENTED,
    errors.ExpectationFailed: HTTPStatus.EXPECTATION_FAILED,
}
"""What is answered to a request that cannot be read; 400 for all others."""


class Worker(ThreadWorker):  # type: ignore[misc] # gunicorn has no types
    """Answers what is hardly HTTP as the application answers everything: by a problem document."""

    def handle_error(self, req: Any, client: Any, addr: Any, exc: Exception) -> None:  # noqa: ANN401 - gunicorn's
        """Answer, and log what a caller cannot be blamed for."""
        from service.api import unparsed  # noqa: PLC0415 - the master needs none of it

        del req  # none could be read
        blamed = isinstance(exc, errors.ParseException)
        default = HTTPStatus.BAD_REQUEST if blamed else HTTPStatus.INTERNAL_SERVER_ERROR
        body, request_id = unparsed.answer(STATUSES.get(type(exc), default))
        source = addr[0] if addr else None
        if blamed:
            self.log.warning("unreadable request %s from %s: %s", request_id, source, exc)
        else:
            self.log.error("request %s from %s failed", request_id, source, exc_info=exc)
        with suppress(OSError):
            util.write_nonblock(client, body)


class JsonLogger(Logger):  # type: ignore[misc] # gunicorn has no types
    """Hands everything to the root logger, as all the rest does."""

    def setup(self, cfg: Any) -> None:  # noqa: ANN401 - gunicorn's configuration
        """Take away gunicorn's own handlers; what it tells of each start is for debugging."""
        self.loglevel = logging.DEBUG if cfg.loglevel == "debug" else logging.WARNING
        for logger in (self.error_log, self.access_log):
            logger.handlers = []
            logger.propagate = True
            logger.setLevel(self.loglevel)


def _begin(lifeline: int | None, gate: int, worker: Any) -> None:  # noqa: ANN401 - gunicorn's
    """Run in a worker that is built: watch the lifeline, wait for the gate."""
    gc.freeze()  # what is loaded by now stays: looking through it costs a twentieth of all time
    if lifeline is not None:
        watch(lifeline, partial(_end_master, worker.ppid))
    _let_go_first(worker)
    while worker.alive and not select.select([gate], [], [], 0.5)[0]:
        worker.notify()  # waiting is no hanging


def _let_go_first(worker: Any) -> None:  # noqa: ANN401 - gunicorn's
    """Before a worker ends, let go whoever waits for a job in it: that may take hours."""
    from service.api import waiting  # noqa: PLC0415 - the master needs none of it

    def end(number: int, frame: FrameType | None) -> None:
        waiting.stop()
        worker.handle_exit(number, frame)

    signal.signal(signal.SIGTERM, end)
    signal.siginterrupt(signal.SIGTERM, False)  # noqa: FBT003 - as gunicorn has it


def _end_master(master: int) -> None:
    if os.getppid() == master:
        os.kill(master, signal.SIGTERM)
