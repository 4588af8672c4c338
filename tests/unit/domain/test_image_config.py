"""Image configs: what they tell is told, and what makes no sense in them is left out."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta, timezone
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.domain.content import Platform, parse_manifest
from service.domain.image_config import (
    ImageConfig,
    normalised_time,
    parse_config,
    schema1_config,
    time_key,
)
from tests.unit.domain.documents import can_be_sent, json_values, schema1


def config(**document: object) -> ImageConfig:
    return parse_config(json.dumps(document).encode())


# Times.


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2024-02-29T01:02:03Z", "2024-02-29T01:02:03Z"),
        ("2024-02-29t01:02:03z", "2024-02-29T01:02:03Z"),
        ("2024-02-29 01:02:03Z", "2024-02-29T01:02:03Z"),
        ("2024-01-01T00:00:00+01:30", "2023-12-31T22:30:00Z"),
        ("2024-01-01T00:00:00-00:00", "2024-01-01T00:00:00Z"),
        ("2024-12-31T23:59:59-23:59", "2025-01-01T23:58:59Z"),
        ("2024-01-01T00:00:00.5+00:01", "2023-12-31T23:59:00.5Z"),
        ("2024-01-01T00:00:00.120000Z", "2024-01-01T00:00:00.120000Z"),
        ("2024-01-01T00:00:00.123456789Z", "2024-01-01T00:00:00.123456789Z"),
        ("2024-01-01T00:00:00.1234567899Z", "2024-01-01T00:00:00.123456789Z"),
        (f"2024-01-01T00:00:00.{'1' * 100_000}Z", "2024-01-01T00:00:00.111111111Z"),
        ("0001-01-01T00:00:00Z", "0001-01-01T00:00:00Z"),  # Go's zero time
        ("1970-01-01T00:00:00Z", "1970-01-01T00:00:00Z"),
        ("9999-12-31T23:59:59Z", "9999-12-31T23:59:59Z"),
        ("0001-01-01T00:00:00-00:01", "0001-01-01T00:01:00Z"),
    ],
)
def test_times_come_in_utc_with_the_digits_of_the_source(text: str, expected: str) -> None:
    assert normalised_time(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        None,
        5,
        1700000000.5,
        True,
        [],
        {},
        "",
        "yesterday",
        "2024-01-01",
        "2024-01-01T00:00Z",
        "2024-01-01T00:00:00",
        "2024-01-01T00:00:00Z\n",
        " 2024-01-01T00:00:00Z",
        "2024-01-01T00:00:00 Z",
        "2024-01-01T00:00:00.Z",
        "2024-01-01T00:00:0012Z",
        "2024-01-01T00:00:00,5Z",
        "2024-02-30T00:00:00Z",
        "2023-02-29T00:00:00Z",
        "2024-13-01T00:00:00Z",
        "2024-00-01T00:00:00Z",
        "0000-01-01T00:00:00Z",
        "2024-01-01T24:00:00Z",
        "2024-01-01T00:60:00Z",
        "2024-01-01T23:59:60Z",
        "2024-01-01T00:00:00+24:00",
        "2024-01-01T00:00:00+01:60",
        "2024-01-01T00:00:00+99:99",
        "2024-01-01T00:00:00+0100",
        "0001-01-01T00:00:00+00:01",
        "9999-12-31T23:59:59-00:01",
        "12024-01-01T00:00:00Z",
        "-2024-01-01T00:00:00Z",
        "２０２４-01-01T00:00:00Z",  # noqa: RUF001 - the look-alikes are the point
        "2024-01-01T00:00:00.１Z",  # noqa: RUF001
        "2024-01-01T00:00:00.\u0661Z",
        "2024-01-01T00:00:00.5\ud800Z",
    ],
)
def test_what_is_no_time_is_none(text: object) -> None:
    assert normalised_time(text) is None


zones = st.integers(-1439, 1439).map(lambda minutes: timezone(timedelta(minutes=minutes)))
moments = st.datetimes(datetime(2, 1, 1), datetime(9998, 12, 31), timezones=zones)  # noqa: DTZ001


@given(moments)
def test_a_normalised_time_is_the_same_moment(moment: datetime) -> None:
    text = normalised_time(moment.isoformat())
    assert text is not None
    assert text.endswith("Z")
    assert datetime.fromisoformat(text) == moment
    assert normalised_time(text) == text


@given(st.lists(moments, min_size=2))
def test_normalised_times_sort_as_the_moments_do(times: list[datetime]) -> None:
    texts = {normalised_time(moment.isoformat()) or "" for moment in times}
    for first, second in pairwise(sorted(texts, key=time_key)):
        assert datetime.fromisoformat(first) <= datetime.fromisoformat(second)


def test_a_longer_fraction_sorts_after_the_whole_second() -> None:
    assert time_key("2024-01-01T00:00:00Z") < time_key("2024-01-01T00:00:00.1Z")
    assert time_key("2024-01-01T00:00:00.1Z") < time_key("2024-01-01T00:00:00.11Z")


@given(
    st.one_of(st.text(), st.from_regex(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)"))
)
def test_any_text_is_a_time_or_none(text: str) -> None:
    found = normalised_time(text)
    assert found is None or datetime.fromisoformat(found).tzinfo == UTC


# Fields.


def test_every_field_is_read() -> None:
    found = config(
        created="2024-01-01T00:00:00+01:00",
        os="linux",
        architecture="arm64",
        variant="v8",
        config={
            "Labels": {"b": "2", "a": "1"},
            "Entrypoint": ["/init", ""],
            "Cmd": ["run"],
            "Env": ["A=1", "B="],
            "User": "1000:1000",
            "WorkingDir": "/app",
            "ExposedPorts": {"8080/tcp": {}, "443/tcp": {}},
        },
    )
    assert found == ImageConfig(
        created="2023-12-31T23:00:00Z",
        architecture="arm64",
        os="linux",
        variant="v8",
        labels={"a": "1", "b": "2"},
        entrypoint=("/init", ""),
        cmd=("run",),
        env=("A=1", "B="),
        user="1000:1000",
        working_dir="/app",
        exposed_ports=("443/tcp", "8080/tcp"),
    )
    assert found.platform == Platform("linux", "arm64", "v8")


@pytest.mark.parametrize(
    "body",
    [b"", b"{}", b"[]", b"null", b"5", b'"x"', b"{", b"<html>", b"\xff\xfe", b"[" * 200_000],
)
def test_what_is_no_config_says_nothing(body: bytes) -> None:
    assert parse_config(body) == ImageConfig()
    assert not parse_config(body).platform.known


def test_fields_of_the_wrong_type_are_left_out_and_the_others_stay() -> None:
    found = config(
        created=5,
        os=["linux"],
        architecture="a" * 129,
        variant={},
        history="x",
        config={
            "Labels": {"a": 1, "b": "2"},
            "Entrypoint": {"a": 1},
            "Cmd": ["run", 5, None],
            "Env": "A=1",
            "User": 0,
            "WorkingDir": "",
            "ExposedPorts": ["80/tcp"],
        },
    )
    assert found == ImageConfig(labels={"b": "2"}, cmd=("run",), env=("A=1",))
    assert config(config=[], os="linux") == ImageConfig(os="linux")


def test_a_command_may_be_one_text() -> None:
    assert config(config={"Cmd": "run it"}).cmd == ("run it",)


def test_texts_can_be_encoded_whatever_was_escaped() -> None:
    found = config(config={"Cmd": ["\ud800"], "Labels": {"\ud800": "é"}, "User": "\ud800"})
    assert (found.cmd, found.labels, found.user) == (("?",), {"?": "é"}, "?")


def test_none_and_no_arguments_are_two_things() -> None:
    found = config(config={"Entrypoint": [], "Cmd": None})
    assert (found.entrypoint, found.cmd) == ((), None)


def test_steps_without_a_layer_are_skipped() -> None:
    found = config(
        history=[
            {"created_by": "ADD rootfs"},
            {"created_by": "ENV A=1", "empty_layer": True},
            {"created_by": "RUN make", "empty_layer": False},
            {"comment": "imported"},
            "garbage",
        ]
    )
    assert found.layer_steps == ("ADD rootfs", "RUN make", None, None)


def test_schema1_is_described_by_its_top_image_and_each_step_by_its_own() -> None:
    manifest = parse_manifest(
        schema1(
            [
                {"created": "2015-01-01T00:00:00Z", "container_config": {"Cmd": ["/bin/sh", "-c"]}},
                {"container_config": {"Cmd": None}},
                {
                    "created": "2016-01-01T00:00:00Z",
                    "os": "linux",
                    "architecture": "amd64",
                    "config": {"Cmd": ["top"]},
                    "container_config": {"Cmd": ["#(nop)", "CMD top"]},
                },
            ]
        )
    )
    found = schema1_config(manifest.history)
    assert found.created == "2016-01-01T00:00:00Z"
    assert found.platform == Platform("linux", "amd64")
    assert found.cmd == ("top",)
    assert found.layer_steps == ("/bin/sh -c", None, "#(nop) CMD top")


@given(json_values)
def test_any_config_can_be_described_and_encoded(document: object) -> None:
    fields = ("created", "os", "history", "config")
    for body in (dict.fromkeys(fields, document), {"config": {"Labels": document}}, document):
        assert can_be_sent(parse_config(json.dumps(body).encode()))
    steps = document if isinstance(document, list) and document else [document]
    assert can_be_sent(schema1_config(steps))
