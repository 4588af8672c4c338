"""What every test run needs, whatever it tests."""

import signal
from types import FrameType

import hypothesis
import pytest

# A shared machine is slow at times: only a wrong answer fails a test, never a late one.
hypothesis.settings.register_profile("house", deadline=None)
hypothesis.settings.load_profile("house")


def pytest_configure() -> None:
    """Let SIGTERM end a run as Ctrl-C does, so that fixtures still clear up."""
    signal.signal(signal.SIGTERM, interrupt)


def interrupt(_signal: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


@pytest.fixture(autouse=True)
def machine_settings_out_of_reach(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the person's own engine, logins and settings out of the tests."""
    for name in ("DOCKER_HOST", "DOCKER_CONFIG", "DOCKER_CONTEXT", "REGISTRY_ADMIN_CONFIG"):
        monkeypatch.delenv(name, raising=False)
