"""What is made of the OpenAPI document, in use: clients, the reference, a file of requests."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from demo.images import cosign_tag, sample, signature
from demo.processes import wait_until
from service.api.samples import operations, samples, variables
from tests.e2e.bed.api import REGISTRY, delete, get, tag_path
from tests.e2e.bed.clients import DockerCommand
from tests.e2e.bed.collecting import RESTARTS, ended, start
from tests.e2e.bed.documents import DOCS, Terminal, blocks
from tests.e2e.bed.engine import Engine
from tests.e2e.bed.http import Answer
from tests.e2e.bed.proxy import Exchange, Proxy, Reply
from tests.e2e.bed.registry import MakeRegistry, RunningRegistry
from tests.e2e.bed.service import MakeService, Service
from tests.unit.api.conformance import document, validator

MODULES = Path(__file__).parent / "typescript" / "node_modules"
HTTPYAC = Path(__file__).parent / "httpyac" / "node_modules" / ".bin" / "httpyac"
REQUESTS = DOCS.parent / "openapi" / "registry-admin.http"
APP = "library/alpine"
IMAGE, CONTAINER = "team/app:1.2", "registry"
EXAMPLE = re.compile(r"^### (\w+)\n(?:(?!### ).*\n)*?```sh\n((?:.*\n)*?)```$", re.MULTILINE)
EXAMPLES: dict[str, str] = dict(EXAMPLE.findall((DOCS / "reference.md").read_text()))
OPERATIONS = {one["operationId"]: (path, method, one)
              for path, method, one in operations(document())}  # fmt: skip


@pytest.fixture(scope="module")
def filled(module_registry: MakeRegistry) -> RunningRegistry:
    """A registry that holds what the document's examples name, and garbage."""
    made = module_registry(run=RESTARTS)
    with made.pusher() as pusher:
        pusher.push(APP, sample("alpine"), "3.20", "3.20.1")
        pusher.push(APP, sample("doomed"), "doomed")
        pusher.push(APP, sample("signed"))
        pusher.push(APP, signature(sample("signed")), cosign_tag(sample("signed")))
        pusher.blob(APP, b"a layer whose image never came")
    return made


@pytest.fixture(scope="module")
def shop(engine: Engine, docker_command: DockerCommand) -> Iterator[None]:
    """The image and the container of the document's examples."""
    docker_command("tag", engine.busybox_image(), IMAGE)
    made = engine.client.containers.run(
        IMAGE, ["sleep", "3600"], name=CONTAINER, detach=True, network_mode="host",
        init=True, labels=engine.labels,
    )  # fmt: skip
    yield
    made.remove(force=True)
    docker_command("rmi", IMAGE)


@pytest.fixture(scope="module")
def service(
    engine: Engine, module_service: MakeService, filled: RunningRegistry, shop: None
) -> Service:
    del shop
    tables = {"engines": {"local": {"url": engine.gate(), "containers": [CONTAINER]}}}
    return module_service(filled, settings=tables)


@pytest.fixture
def terminal(service: Service, tmp_path: Path) -> Terminal:
    """Where the sessions are, with the programs that the page has one install."""
    shutil.copytree(DOCS / "clients", tmp_path, dirs_exist_ok=True)
    (tmp_path / "node_modules").symlink_to(MODULES)
    return Terminal(service, tmp_path)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("language", [0, 1], ids=["python", "typescript"])
def test_a_client_is_generated_and_has_a_session(
    terminal: Terminal, filled: RunningRegistry, language: int
) -> None:
    before = filled.tags(APP)
    programs = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    said = terminal.run(blocks("clients.md")[language], PATH=programs).splitlines()
    session = said[next(n for n, line in enumerate(said) if line.startswith("repositories:")) :]
    assert session[:5] == [
        f"repositories: {APP}",
        f"tags: {' '.join(sorted(before))}",
        "deleted: 3.20 with 0 manifests",
        "a problem: tag-unknown 404",
        "restored: 3.20",
    ]
    assert re.fullmatch(r"collection succeeded freed \d+ bytes", session[5])
    assert filled.tags(APP) == before
    job = get(terminal.service, f"{REGISTRY}/gc-runs")["items"][0]
    assert f"freed {job['result']['bytes_freed']} bytes" in session[5]
    deletion = get(terminal.service, f"{REGISTRY}/deletions")["items"][0]
    assert deletion["requested"] == {"tag": "3.20"}


def test_each_operation_has_an_example() -> None:
    assert EXAMPLES.keys() == OPERATIONS.keys()


@pytest.fixture(scope="module")
def living(service: Service, filled: RunningRegistry) -> dict[str, str]:
    """What the reference's examples name by variables."""
    timetable = {"cron": "0 3 * * 0", "enabled": False}
    assert service.ask(f"{REGISTRY}/gc-schedule", "PUT", body=timetable).status == 200
    token = {"name": "seen", "scopes": ["job:read"]}
    digest = sample("signed").digest
    assert filled.digest(APP, digest) == digest
    return {
        "DIGEST": digest,
        "DELETION_ID": delete(service, tag_path(APP, "doomed"))["id"],
        "JOB_ID": ended(service, dry_run=True)["id"],
        "TOKEN_ID": service.ask("/v1/tokens", "POST", body=token).json()["id"],
    }


@pytest.mark.parametrize("name", OPERATIONS)
def test_the_example_of(
    name: str, service: Service, living: dict[str, str], tmp_path: Path
) -> None:
    if name == "cancelJob":
        with job_that_waits(service) as job_id:
            answer = typed(service, EXAMPLES[name], tmp_path, living | {"JOB_ID": job_id})
    else:
        answer = typed(service, EXAMPLES[name], tmp_path, living)
    require_promised(name, answer)
    if answer.status == 202:
        job = finished(service, answer.json()["id"])
        assert job["state"] == ("cancelled" if name == "cancelJob" else "succeeded"), job


def typed(service: Service, example: str, folder: Path, living: dict[str, str]) -> Answer:
    """Run an example as it is printed; curl is told elsewhere to show the answer's head."""
    (folder / ".curlrc").write_text(f'dump-header = "{folder}/head"\n')
    body = Terminal(service, folder).run(example, CURL_HOME=str(folder), **living)
    status, *lines = (folder / "head").read_text().strip().splitlines()
    headers = (line.partition(": ") for line in lines)
    return Answer(
        int(status.split()[1]), {key.lower(): text for key, _, text in headers}, body.encode()
    )


def require_promised(name: str, answer: Answer) -> None:
    """Raise AssertionError unless the document promises such an answer, a good one."""
    path, method, operation = OPERATIONS[name]
    assert 200 <= answer.status < 300
    contents = operation["responses"][str(answer.status)].get("content", {})
    if not contents:
        assert answer.body == b""
        return
    media = answer.headers["content-type"].partition(";")[0]
    assert media in contents
    if media.endswith("json"):
        parts = ("paths", path, method.lower(), "responses", answer.status, "content", media)
        escaped = (str(part).replace("~", "~0").replace("/", "~1") for part in parts)
        validator(f"/{'/'.join(escaped)}/schema").validate(json.loads(answer.body))


def test_a_client_for_files_of_requests_sends_what_the_examples_do(tmp_path: Path) -> None:
    sent: list[Exchange] = []

    def note(exchange: Exchange) -> Reply:
        sent.append(exchange)
        return Reply(200)

    with closing(Proxy("http://127.0.0.1:1")) as proxy:
        proxy.rule(note)
        file = tmp_path / "filled-in.http"
        lines = REQUESTS.read_text().replace("@token = radm_\n", "@token = radm_secret\n")
        file.write_text(re.sub(r"^@api = .*", f"@api = {proxy.url}", lines, flags=re.MULTILINE))
        command = [str(HTTPYAC), "send", file.name, "--all", "--output", "none"]
        subprocess.run(command, cwd=tmp_path, capture_output=True, timeout=100, check=True)
    named = {name: one["schema"]["examples"][0] for name, one in variables(document()).items()}
    expected = {
        (one.method, one.target(named.__getitem__)): (
            None if one.public else "Bearer radm_secret",
            None if one.body is None else "application/json",
            one.body,
        )
        for one in samples(document())
    }
    assert {(one.method, one.path): essence(one) for one in sent} == expected
    assert len(sent) == len(expected)


def essence(exchange: Exchange) -> tuple[str | None, str | None, Any]:
    headers = {name.lower(): text for name, text in exchange.headers}
    body = json.loads(exchange.body) if exchange.body else None
    return headers.get("authorization"), headers.get("content-type"), body


@contextmanager
def job_that_waits(service: Service) -> Iterator[str]:
    """A job that no worker takes up while the block runs."""
    workers = service.processes("worker")
    for process in workers:
        os.kill(process, signal.SIGSTOP)
    try:
        yield start(service, f"{REGISTRY}/verifications").json()["id"]
    finally:
        for process in workers:
            os.kill(process, signal.SIGCONT)


def finished(service: Service, job_id: str) -> Any:  # noqa: ANN401 - JSON
    """Wait for a job's end; gives the job."""

    def job() -> Any:  # noqa: ANN401 - JSON
        return get(service, f"/v1/jobs/{job_id}")

    wait_until(lambda: job()["state"] not in {"queued", "running"}, 60, "the job's end")
    return job()
