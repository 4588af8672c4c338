import threading
from datetime import UTC, datetime

import pytest

from service.domain.errors import EngineUnreachable
from service.domain.ports import AuthState, RegistryState, TlsState, Writability
from tests.fakes import Behaviour, FakeRegistry
from tests.unit.api.conftest import NOW, Bed

ONE = "/v1/registries/default"


class Told(FakeRegistry):
    """A registry that is as it was told to be."""

    def __init__(self, name: str, state: RegistryState) -> None:
        super().__init__(name)
        self.told = state

    def state(self) -> RegistryState:
        return self.told


class Hanging(FakeRegistry):
    """A registry that does not answer before it is let go."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.gate = threading.Event()

    def state(self) -> RegistryState:
        assert self.gate.wait(30)
        return super().state()


def test_a_registry_has_every_field(bed: Bed) -> None:
    state = RegistryState(
        status="up",
        api_version="registry/2.0",
        writability=Writability(delete_enabled=True, read_only=False),
        auth=AuthState("basic", "ci", "password_file"),
        tls=TlsState(
            verified=True,
            issuer="CN=Example CA",
            not_after=datetime(2027, 1, 1, tzinfo=UTC),
            ca_files=("ca.crt",),
            client_cert="client.cert",
        ),
        checked_at=NOW,
    )
    bed.registries.registries["default"] = Told("default", state)
    bed.registries.containers["default"] = "registry"
    bed.registries.versions["default"] = "2.8.2"
    assert bed.ask(ONE).json == {
        "name": "default",
        "url": "http://127.0.0.1:5000",
        "status": "up",
        "problem": None,
        "api_version": "registry/2.0",
        "version": "2.8.2",
        "delete_enabled": True,
        "read_only": False,
        "auth": {"scheme": "basic", "username": "ci", "source": "password_file"},
        "tls": {
            "verified": True,
            "issuer": "CN=Example CA",
            "not_after": "2027-01-01T00:00:00Z",
            "ca_files": ["ca.crt"],
            "client_cert": "client.cert",
        },
        "container": "registry",
        "checked_at": "2026-01-31T12:00:00Z",
    }


def test_what_is_not_known_is_null(bed: Bed) -> None:
    state = RegistryState("down", None, None, AuthState(None), None, NOW, "No answer.")
    bed.registries.registries["default"] = Told("default", state)
    found = bed.ask(ONE).json
    assert (found["status"], found["problem"]) == ("down", "No answer.")
    nulls = {name for name, value in found.items() if value is None}
    assert nulls == {"api_version", "version", "delete_enabled", "tls", "container"}
    assert found["auth"] == {"scheme": None, "username": None, "source": None}


def test_read_only_is_told(bed: Bed) -> None:
    bed.registry.behaviour = Behaviour(read_only=True)
    found = bed.ask(ONE).json
    assert (found["status"], found["read_only"]) == ("read-only", True)


def test_deletion_disabled_is_told(bed: Bed, locked: Behaviour) -> None:
    bed.registry.behaviour = locked
    assert bed.ask(ONE).json["delete_enabled"] is False


def test_an_engine_that_is_away_makes_the_version_unknown(
    bed: Bed, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(_: str) -> str:
        raise EngineUnreachable("The engine's socket is absent.")

    monkeypatch.setattr(bed.registries, "version", away)
    assert bed.ask(ONE).json["version"] is None


def test_all_are_listed_by_name(bed: Bed) -> None:
    bed.registries.registries |= {"b": FakeRegistry("b"), "a": FakeRegistry("a")}
    found = bed.ask("/v1/registries").json["items"]
    assert [one["name"] for one in found] == ["a", "b", "default"]
    assert found[2] == {**bed.ask(ONE).json, "checked_at": found[2]["checked_at"]}


def test_those_off_limits_are_left_out(bed: Bed) -> None:
    bed.registries.registries["other"] = FakeRegistry("other")
    limited = bed.token("registry:read", registries=("other",))
    found = bed.ask("/v1/registries", token=limited).json["items"]
    assert [one["name"] for one in found] == ["other"]


def test_no_registry_is_an_empty_list(bed: Bed) -> None:
    bed.registries.registries.clear()
    assert bed.ask("/v1/registries").json == {"items": [], "next": None}


def test_one_that_hangs_is_down_and_holds_nobody_up(
    bed: Bed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.api.registries.PATIENCE_SECONDS", 0.2)
    hanging = Hanging("slow")
    bed.registries.registries["slow"] = hanging
    found = bed.ask("/v1/registries").json["items"]
    hanging.gate.set()
    assert {one["name"]: one["status"] for one in found} == {"default": "up", "slow": "down"}
    assert "has not answered" in found[1]["problem"]
