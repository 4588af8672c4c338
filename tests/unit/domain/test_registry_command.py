"""What a registry's container runs, however it is started."""

from __future__ import annotations

from typing import Any

import pytest

from service.domain.registry_command import RegistryCommand, registry_command

V2, V3 = "/etc/docker/registry/config.yml", "/etc/distribution/config.yml"


def container(*words: str, folder: str = "", **environment: str) -> dict[str, Any]:
    path, *arguments = words
    entries = [f"{name}={value}" for name, value in environment.items()]
    return {"Path": path, "Args": arguments, "Config": {"Env": entries, "WorkingDir": folder}}


@pytest.mark.parametrize(
    ("words", "program", "config"),
    [
        (["/entrypoint.sh", V2], "registry", V2),
        (["/entrypoint.sh", V3], "registry", V3),
        (["/entrypoint.sh", "serve", V3], "registry", V3),
        (["/entrypoint.sh", "serve", "/conf"], "registry", "/conf"),
        (["registry", "serve", V3], "registry", V3),
        (["/bin/registry", "serve", V2], "/bin/registry", V2),
        (["/usr/bin/docker-registry", "serve", "/x.yaml"], "/usr/bin/docker-registry", "/x.yaml"),
        (["/sbin/tini", "--", "/bin/registry", "serve", V2], "/bin/registry", V2),
        (["sh", "-c", f"umask 2; exec /bin/registry serve {V2} 2>&1"], "/bin/registry", V2),
        (["sh", "-c", f"registry serve '{V2}'; sleep 1"], "registry", V2),
        (["sh", "-c", f"it's not closed; registry serve {V2}"], "registry", V2),
        (["registry", "serve", "conf/x.yml"], "registry", "/srv/conf/x.yml"),
        (["registry", "serve", "--flag", "/var/lib/registry"], "registry", "/var/lib/registry"),
        (["serve"], "registry", None),
        (["/docker-entrypoint.sh", "postgres"], "registry", None),
    ],
)
def test_the_program_and_its_configuration(
    words: list[str], program: str, config: str | None
) -> None:
    assert registry_command(container(*words, folder="/srv")) == RegistryCommand(program, config)


@pytest.mark.parametrize(
    "words",
    [
        ["registry", "serve"],
        ["sh", "-c", 'exec registry serve "$REGISTRY_CONFIGURATION_PATH"'],
        ["sh", "-c", "exec registry serve ${CONF}"],
        ["sh", "-c", "exec registry serve $(cat /where)"],
    ],
)
def test_a_configuration_that_the_environment_names(words: list[str]) -> None:
    environment = {"REGISTRY_CONFIGURATION_PATH": V3, "CONF": V3}
    assert registry_command(container(*words, **environment)).config_path == V3
