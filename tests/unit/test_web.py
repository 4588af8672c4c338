"""What gunicorn is told: each number with its reason is in service.web."""

from __future__ import annotations

from pathlib import Path

from gunicorn.config import Config
from gunicorn.workers.gthread import ThreadWorker

from service import supervisor, web
from service.settings import load


def told(tmp_path: Path, **variables: str) -> Config:
    own = {"DATA_DIR": str(tmp_path), **variables}
    settings = load(None, {f"REGISTRY_ADMIN_{name}": value for name, value in own.items()})
    return web.Web(settings, 0, None, 0).cfg


def test_threads_wait_for_registries(tmp_path: Path) -> None:
    config = told(tmp_path, WORKERS="3", THREADS="7")
    assert issubclass(config.worker_class, ThreadWorker)
    assert (config.workers, config.threads) == (3, 7)
    assert config.timeout == web.HANG_SECONDS
    assert config.keepalive == web.KEEP_ALIVE_SECONDS


def test_requests_may_end_before_the_supervisor_loses_patience(tmp_path: Path) -> None:
    assert 0 < told(tmp_path).graceful_timeout < supervisor.STOP_SECONDS


def test_the_scheme_is_believed_from_trusted_addresses_alone(tmp_path: Path) -> None:
    assert told(tmp_path).forwarded_allow_ips == ["127.0.0.1", "::1"]
    narrow = told(tmp_path, TRUSTED_PROXIES="192.0.2.0/24")
    assert narrow.forwarded_allow_ips == ["192.0.2.0/24"]
