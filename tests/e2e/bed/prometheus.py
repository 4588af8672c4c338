"""A private Prometheus on 127.0.0.1, by the configuration of deploy/."""

import shutil
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from demo.processes import free_port, wait_until
from tests.e2e.bed.http import ask
from tests.e2e.bed.programs import need
from tests.e2e.bed.service import Service
from tests.e2e.bed.workspace import Child, Workspace

DEPLOY = Path(__file__).parents[3] / "deploy" / "prometheus"
TARGET = "127.0.0.1:8080"
INTERVAL = "15s"


class Prometheus:
    """Asks a service each second, with `token`; ends with `close`."""

    def __init__(self, workspace: Workspace, service: Service, token: str) -> None:
        self.home = workspace.folder("prometheus")
        self.host = f"127.0.0.1:{free_port()}"
        config = configured(self.home / "etc", service.host, token)
        argv = [
            str(need("prometheus", "prometheus")),
            f"--config.file={config}",
            f"--storage.tsdb.path={self.home / 'data'}",
            f"--web.listen-address={self.host}",
        ]
        self.server = Child(workspace, argv, self.home / "log")

    def close(self) -> None:
        self.server.stop()

    def query(self, expression: str) -> list[dict[str, Any]]:
        """Give the series of an expression now."""
        found = self._get("query", query=expression)
        return list(found["result"])

    def rules(self) -> list[dict[str, Any]]:
        """Give every alert rule, with its health and state."""
        return [rule for group in self._get("rules")["groups"] for rule in group["rules"]]

    def await_samples(self, seconds: float) -> None:
        """Wait until the service was asked three times, with success."""
        expression = 'count_over_time(registry_admin_build_info{job="registry-admin"}[1h]) >= 3'
        wait_until(lambda: bool(self._query_or_nothing(expression)), seconds, "samples")

    def _query_or_nothing(self, expression: str) -> list[dict[str, Any]]:
        try:
            return self.query(expression)
        except (OSError, AssertionError, ValueError):
            return []

    def _get(self, what: str, **parameters: str) -> Any:  # noqa: ANN401 - JSON
        answer = ask(f"http://{self.host}/api/v1/{what}?{urlencode(parameters)}")
        assert answer.status == 200, answer.body
        return answer.json()["data"]


def configured(folder: Path, host: str, token: str) -> Path:
    """Copy the example, with another target and token, and asking each second."""
    shutil.copytree(DEPLOY, folder)
    config = folder / "prometheus.yml"
    text = config.read_text()
    assert TARGET in text
    assert INTERVAL in text
    config.write_text(text.replace(TARGET, host).replace(INTERVAL, "1s"))
    (folder / "registry-admin.token").write_text(f"{token}\n")
    return config
