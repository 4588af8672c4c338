from __future__ import annotations

import pytest

from service.adapters.engine.configuration import BYTES_LIMIT, parse_configuration


def test_a_configuration_is_a_mapping() -> None:
    body = b"version: 0.1\nstorage:\n  filesystem: {rootdirectory: /data}\n  delete: *none\n"
    assert parse_configuration(body.replace(b"*none", b"{enabled: true}")) == {
        "version": 0.1,
        "storage": {"filesystem": {"rootdirectory": "/data"}, "delete": {"enabled": True}},
    }
    with pytest.raises(ValueError, match="no YAML"):
        parse_configuration(body)  # an alias of nothing


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b"- a\n- b\n", id="a list"),
        pytest.param(b"a: [1, 2", id="cut off"),
        pytest.param(b"\xff\xfe\x00\xd8", id="no text"),
        pytest.param(b"a: !!python/object/apply:os.getpid []", id="an object"),
        pytest.param(b"? [a]\n: b\n", id="a list for a name"),
        pytest.param(b"a: 2001-99-99", id="no date"),
        pytest.param(b"[" * 5000, id="deep"),
        pytest.param(b"a: " + b"b" * BYTES_LIMIT, id="long"),
    ],
)
def test_anything_else_is_refused(body: bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - whichever it is
        parse_configuration(body)
