"""What Prometheus scrapes: true over all processes, whichever of them dies."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
from collections.abc import Callable
from contextlib import closing
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
import yaml

from demo.images import sample
from demo.processes import wait_until
from tests.e2e.bed.programs import need
from tests.e2e.bed.prometheus import Prometheus, configured
from tests.e2e.bed.registry import MakeRegistry
from tests.e2e.bed.service import MakeService, Service
from tests.e2e.bed.workspace import Workspace

PATIENCE = 60
APP = "/v1/registries/default/repositories/team/app"

ROOT = Path(__file__).parents[2]
RULES = ROOT / "deploy" / "prometheus" / "alerts.yml"
RULE_TESTS = Path(__file__).parent / "prometheus" / "alerts.test.yml"
DASHBOARD = ROOT / "deploy" / "grafana" / "registry-admin.json"
SELECTOR = re.compile(r"\b(registry_admin_\w+)(?:\{([^}]*)\})?")
LABEL = re.compile(r"(\w+)\s*(?:=~|!~|!=|=)")


@pytest.fixture(scope="module")
def running(module_registry: MakeRegistry, module_service: MakeService) -> Service:
    registry = module_registry()
    with registry.pusher() as pusher:
        pusher.push("team/app", sample("one"), "1.0")
    return module_service(registry, settings={"workers": 2, "threads": 4})


def scrape(service: Service) -> dict[str, float]:
    """All samples, by name and labels as they are written."""
    answer = service.ask("/metrics")
    assert answer.status == 200, answer.body
    lines = [line for line in answer.body.decode().splitlines() if not line.startswith("#")]
    return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines)}


def calls(service: Service) -> float:
    start = "registry_admin_upstream_calls_total{"
    return sum(value for name, value in scrape(service).items() if name.startswith(start))


def token(service: Service, scope: str) -> str:
    made = service.ask("/v1/tokens", "POST", body={"name": "bed", "scopes": [scope]})
    return str(made.json()["secret"])


def ask_often(service: Service, path: str, times: int = 20) -> None:
    for _ in range(times):
        service.ask(path)


def test_calls_to_a_registry_are_counted_in_the_worker_too(running: Service) -> None:
    wait_until(lambda: bool(running.processes("worker")), PATIENCE, "the worker")
    before = calls(running)
    ended = running.ask(
        "/v1/registries/default/verifications",
        "POST",
        body={},
        headers={"Prefer": "wait=60"},
    ).json()
    assert ended["state"] == "succeeded"
    # The tags, the tag itself, its manifest, and its blobs, all of which the worker asks for.
    assert calls(running) - before >= 4
    found = scrape(running)
    assert found['registry_admin_upstream_calls_total{outcome="2xx",registry="default"}'] > 0
    assert found['registry_admin_upstream_call_duration_seconds_count{registry="default"}'] > 0


@pytest.mark.parametrize(
    "victim",
    [
        lambda service: service.processes("serve-api")[1],
        lambda service: service.processes("serve-api")[0],
        lambda service: service.processes("worker")[0],
    ],
    ids=["api process", "api", "worker"],
)
def test_no_count_is_lost_when_a_process_dies(
    running: Service, victim: Callable[[Service], int]
) -> None:
    ask_often(running, "/v1/me")
    before = scrape(running)
    processes = [*running.processes("serve-api"), *running.processes("worker")]
    os.kill(victim(running), signal.SIGKILL)

    def whole() -> bool:
        now = [*running.processes("serve-api"), *running.processes("worker")]
        return len(now) == len(processes) and now != processes

    wait_until(whole, PATIENCE, "all processes")
    wait_until(lambda: running.ask("/readyz").json()["worker"] == "up", PATIENCE, "the worker")
    after = scrape(running)
    for name, value in before.items():
        if "_total" in name or "_count" in name:
            assert after[name] >= value, name
    assert {name for name in before if "_total" in name} <= set(after)
    # A counter's and a histogram's file for each process that lives, not for all that ever did;
    # and one more where a process begins while the one before it still ends.
    files = list((running.data_dir / "metrics").glob("*.db"))
    assert len(files) <= 2 * (len(processes) + 1)


def test_what_the_store_knows_is_counted(running: Service) -> None:
    reader = token(running, "registry:read")
    refused = 'registry_admin_audit_refusals_total{code="insufficient-scope"}'
    ended = 'registry_admin_jobs_ended_total{kind="verification",state="succeeded"}'
    before = scrape(running)
    for _ in range(6):
        assert running.ask(f"{APP}/-/tags/1.0", "DELETE", token=reader).status == 403
    running.ask(
        "/v1/registries/default/verifications", "POST", body={}, headers={"Prefer": "wait=60"}
    )
    seen = [scrape(running) for _ in range(4)]  # whichever process answers
    assert {one[refused] for one in seen} == {before.get(refused, 0) + 6}
    assert {one[ended] for one in seen} == {before[ended] + 1}
    assert {one['registry_admin_jobs{kind="verification",state="running"}'] for one in seen} == {0}
    assert seen[0]['registry_admin_registry_up{registry="default"}'] == 1
    assert seen[0]["registry_admin_worker_up"] == 1


def test_each_request_and_each_job_is_a_line_of_the_log(running: Service) -> None:
    running.ask(f"{APP}/-/tags/1.0?detail=1&secret=radm_hidden", headers={"X-Request-Id": "in-log"})
    job = running.ask(
        "/v1/registries/default/verifications", "POST", body={}, headers={"Prefer": "wait=60"}
    ).json()
    lines = [json.loads(line) for line in running.log.read_text().splitlines()]
    assert all({"time", "level", "logger", "message"} <= set(line) for line in lines)
    (asked,) = [line for line in lines if line.get("request_id") == "in-log"]
    assert datetime.fromisoformat(asked["time"]).tzinfo is not None
    route = "/v1/registries/{registry}/repositories/{repository}/-/tags/{tag}"
    told = {"method": "GET", "route": route, "status": 422, "source_ip": "127.0.0.1"}
    assert told.items() <= asked.items()
    assert asked["actor"].startswith("bed-")
    assert asked["duration_ms"] > 0
    of_job = [line for line in lines if line.get("job") == job["id"]]
    assert [line["message"] for line in of_job] == ["job begins", "job ended"]
    assert {line["request_id"] for line in of_job} == {job["request_id"]}
    assert {line["actor"] for line in of_job} == {asked["actor"]}
    assert of_job[1]["state"] == "succeeded"
    assert "radm_" not in running.log.read_text()


def test_no_label_comes_from_who_asks(running: Service) -> None:
    running.ask("/nothing/there", "BREW")
    running.ask(f"{APP}/-/tags/none")
    running.ask("/v1/registries/elsewhere/repositories/team/app/-/tags")
    text = running.ask("/metrics").body.decode()
    for word in ("team/app", "BREW", "nothing", "elsewhere", "radm_"):
        assert word not in text


def test_a_token_needs_the_scope(running: Service) -> None:
    assert running.ask("/metrics", token=token(running, "metrics:read")).status == 200
    refused = running.ask("/metrics", token=token(running, "registry:read"))
    assert (refused.status, refused.json()["required_scope"]) == (403, "metrics:read")
    assert running.ask("/metrics", token=None).status == 401


def promtool(*arguments: str, given: bytes = b"") -> None:
    ended = subprocess.run(
        [need("promtool", "prometheus"), *arguments], input=given, capture_output=True, check=False
    )
    said = (ended.stdout + ended.stderr).decode()
    assert ended.returncode == 0, said
    assert "WARNING" not in said


def test_promtool_finds_nothing_wrong_with_what_is_exposed(running: Service) -> None:
    promtool("check", "metrics", given=running.ask("/metrics").body)


def test_promtool_takes_the_example_and_its_rules(tmp_path: Path) -> None:
    promtool("check", "config", str(configured(tmp_path / "etc", "127.0.0.1:1", "radm_x")))


def test_each_alert_comes_when_it_should_and_not_before() -> None:
    promtool("test", "rules", str(RULE_TESTS))
    rules = yaml.safe_load(RULES.read_text())["groups"][0]["rules"]
    tested = RULE_TESTS.read_text()
    for rule in rules:
        assert f'alertname="{rule["alert"]}"' in tested
        assert set(rule["annotations"]) == {"summary", "description"}
        assert rule["labels"]["severity"] in {"critical", "warning"}


def panels() -> list[dict[str, Any]]:
    document: dict[str, Any] = json.loads(DASHBOARD.read_text())
    return [panel for panel in document["panels"] if panel["type"] != "row"]


def questions() -> list[str]:
    """Every expression of the dashboard and of the alerts."""
    shown = [target["expr"] for panel in panels() for target in panel["targets"]]
    rules = yaml.safe_load(RULES.read_text())["groups"][0]["rules"]
    return shown + [rule["expr"] for rule in rules]


def test_dashboard_and_alerts_ask_for_what_there_is(running: Service) -> None:
    running.ask(f"{APP}/-/tags/1.0", "DELETE", token=None)
    exposed: dict[str, set[str]] = {}
    for sample_of in scrape(running):
        name, _, labels = sample_of.partition("{")
        exposed.setdefault(name, {"job", "instance"}).update(LABEL.findall(labels))
    asked = [found for expression in questions() for found in SELECTOR.findall(expression)]
    assert len(asked) > 20
    for name, matchers in asked:
        assert name in exposed
        assert set(LABEL.findall(matchers)) <= exposed[name], name


def test_the_dashboard_is_laid_out() -> None:
    document = json.loads(DASHBOARD.read_text())
    places = [panel["gridPos"] for panel in document["panels"]]
    taken = [
        (x, y)
        for place in places
        for x in range(place["x"], place["x"] + place["w"])
        for y in range(place["y"], place["y"] + place["h"])
    ]
    assert len(taken) == len(set(taken))
    assert max(x for x, _ in taken) == 23
    ids = [panel["id"] for panel in document["panels"]]
    assert len(ids) == len(set(ids))
    for panel in panels():
        assert panel["description"]
        assert {target["datasource"]["uid"] for target in panel["targets"]} == {"${datasource}"}


def test_a_real_prometheus_shows_each_panel_and_raises_no_alert(
    running: Service, workspace: Workspace
) -> None:
    running.ask(f"{APP}/-/tags/1.0", "DELETE", token=None)
    with closing(Prometheus(workspace, running, token(running, "metrics:read"))) as prometheus:
        prometheus.await_samples(PATIENCE)
        assert [series["value"][1] for series in prometheus.query("up")] == ["1"]
        for panel in panels():
            for target in panel["targets"]:
                asked = target["expr"].replace("$__rate_interval", "1m").removesuffix(" > 0")
                found = prometheus.query(asked.replace("$job", "registry-admin"))
                assert found, panel["title"]
        rules = prometheus.rules()
        assert len(rules) == len(yaml.safe_load(RULES.read_text())["groups"][0]["rules"])
        assert {(rule["health"], rule["state"]) for rule in rules} == {("ok", "inactive")}
