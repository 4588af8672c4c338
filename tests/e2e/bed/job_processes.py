"""Workers and APIs with a kind of job of their own, as processes to be killed.

    python -m tests.e2e.bed.job_processes worker CONFIG [LIFELINE]
    python -m tests.e2e.bed.job_processes api CONFIG PORT

A job of the kind `test` does what its params say, and notes in a folder what it does, so that two
that are at work on the same thing at once give themselves away, whatever process they are in.
"""

import json
import os
import signal
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from flask import Response, request
from werkzeug.serving import make_server

from service import log, wiring
from service.api import guard, job_answers
from service.api.base import Application
from service.app import create_app
from service.domain.audit import Change
from service.domain.job import Job, JobContext, JobKind, Tell, Work
from service.jobs.worker import Worker
from service.lifeline import watch
from service.settings import Settings, load
from tests.e2e.bed.workspace import is_alive, owner_name

KIND = JobKind("test", "gc:run")


def run(context: JobContext) -> Mapping[str, Any]:
    params = context.job.params
    folder = Path(params["folder"])
    with alone_at(folder, params.get("thing", context.job.id)):
        context.step("first")
        note(folder, f"begin {context.job.id} {os.getpid()} {'again' if context.rerun else ''}")
        if "compensate" in params:
            context.compensate("put-back", params["compensate"])
        time.sleep(params.get("seconds", 0))
        while "gate" in params and not (folder / params["gate"]).exists():
            time.sleep(0.02)
        context.settled()
        context.step("last")
        note(folder, f"end {context.job.id} {os.getpid()}")
    return {"by": os.getpid()}


def put_back(job: Job, data: Mapping[str, Any], tell: Tell) -> None:
    note(Path(job.params["folder"]), f"put-back {job.id} {data['what']}")
    tell("info", "put back")


@contextmanager
def alone_at(folder: Path, thing: str) -> Iterator[None]:
    """Note an overlap when a living process is at work on the same thing."""
    mark = folder / f"at-{thing.replace('/', '-')}"
    with suppress(FileNotFoundError):
        other = mark.read_text()
        if other and is_alive(other):
            note(folder, f"overlap {thing}")
    mark.write_text(owner_name(os.getpid()))
    try:
        yield
    finally:
        mark.unlink(missing_ok=True)


def note(folder: Path, event: str) -> None:
    """Append a line at once: that is atomic, and outlasts the process."""
    descriptor = os.open(folder / "events", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.write(descriptor, f"{event}\n".encode())
    os.close(descriptor)


def worker(settings: Settings, lifeline: int | None) -> None:
    parts = wiring.build_prepared(settings)
    wiring.prepare_queue(settings, parts)
    works = [Work(KIND, run, {"put-back": put_back})]
    made = Worker(wiring.plan_of(settings, parts, works, supervised=True))
    signal.signal(signal.SIGTERM, lambda *_: made.stop())
    if lifeline is not None:
        watch(lifeline, made.hurry)
    made.run()
    os._exit(0)


def api(settings: Settings, port: int) -> None:
    parts = wiring.build_prepared(settings)
    wiring.prepare_queue(settings, parts)
    services = replace(wiring.build(settings), jobs=wiring.jobs_of(settings, parts, [KIND]))
    app = create_app(services)
    offer(app)
    make_server("127.0.0.1", port, app, threaded=True).serve_forever()


def offer(app: Application) -> None:
    """Let jobs of the kind be started: POST /test-jobs with their params."""

    def start(change: Change) -> Response:
        asked = request.get_json()
        exclusive = asked.pop("exclusive", None)
        job = job_answers.start_job(change, KIND.name, asked, exclusive=exclusive)
        body, status, headers = job_answers.answer_job(job)
        return Response(json.dumps(body, default=str), status, headers)

    view = guard.audited(start, KIND.scope, "test.start", {})
    app.add_url_rule("/test-jobs", "startTestJob", view, methods=["POST"])


def main() -> None:
    role, config, *rest = sys.argv[1:]
    settings = load(Path(config), os.environ)
    log.configure(settings.log_level, settings.log_format)
    if role == "worker":
        worker(settings, int(rest[0]) if rest else None)
    else:
        api(settings, int(rest[0]))


if __name__ == "__main__":
    main()
