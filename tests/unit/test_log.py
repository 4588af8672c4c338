from __future__ import annotations

import json
import logging
import warnings
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

from service import log
from service.domain.access import new_secret

Output = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def logging_as_it_was() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    logging.captureWarnings(capture=False)
    root.handlers[:] = handlers
    root.setLevel(level)
    for name in log.QUIET:
        logging.getLogger(name).setLevel(logging.NOTSET)


def lines(capsys: Output) -> list[dict[str, Any]]:
    said = capsys.readouterr()
    assert said.out == ""
    return [json.loads(line) for line in said.err.splitlines()]


def fail(words: str) -> None:
    raise ValueError(words)


def test_a_line_is_an_object(capsys: Output) -> None:
    log.configure("info")
    logging.getLogger("a.b").info("two %s\nlines", "short", extra={"status": 200, "at": datetime})
    (line,) = lines(capsys)
    assert line["level"] == "info"
    assert line["logger"] == "a.b"
    assert line["message"] == "two short\nlines"
    assert line["status"] == 200
    assert line["time"].endswith("Z")
    assert datetime.fromisoformat(line["time"]) <= datetime.now(UTC)


def test_text_is_for_people(capsys: Output) -> None:
    secret = new_secret()
    log.configure("info", "text")
    logging.getLogger("a.b").info("two %s", "words", extra={"status": 200, "why": "so it is"})
    try:
        fail(secret)
    except ValueError:
        logging.getLogger("a").exception("failed")
    first, second, *traceback = capsys.readouterr().err.splitlines()
    time, rest = first.split(" ", 1)
    assert datetime.fromisoformat(time) <= datetime.now(UTC)
    assert rest == 'info two words logger=a.b status=200 why="so it is"'
    assert second.endswith("error failed logger=a")
    assert traceback[-1] == "ValueError: radm_***"


def test_the_level_is_the_least_that_is_logged(capsys: Output) -> None:
    log.configure("warning")
    for level in (logging.INFO, logging.WARNING):
        logging.getLogger("a").log(level, "word")
    assert [line["level"] for line in lines(capsys)] == ["warning"]


def test_libraries_are_quiet(capsys: Output) -> None:
    log.configure("debug")
    logging.getLogger("urllib3.connectionpool").debug("GET /v2/?token=x")
    logging.getLogger("urllib3.connectionpool").warning("word")
    assert [line["message"] for line in lines(capsys)] == ["word"]


def test_errors_come_with_their_traceback_in_the_same_line(capsys: Output) -> None:
    log.configure("info")
    try:
        fail("wrong")
    except ValueError:
        logging.getLogger("a").exception("failed")
    (line,) = lines(capsys)
    assert "ValueError: wrong" in line["error"]


def test_warnings_are_logged(capsys: Output) -> None:
    log.configure("info")
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        logging.captureWarnings(capture=False)
        logging.captureWarnings(capture=True)
        warnings.warn("beware", stacklevel=1)
    (line,) = lines(capsys)
    assert line["logger"] == "py.warnings"
    assert "beware" in line["message"]


def test_no_secret_is_logged(capsys: Output) -> None:
    secret = new_secret()
    log.configure("info")
    logger = logging.getLogger("a")
    logger.info("token %s", secret)
    logger.info("header", extra={"authorization": "Basic YW5uOmh1bnRlcjI="})
    logger.info("Authorization: Bearer eyJhbGciOiJIUzI1NiJ9.e30.abc_-def")
    logger.info("url", extra={"headers": {"url": "https://ann:hunter2@h:5000/v2/?a=b@c"}})
    try:
        fail(f"postgresql://ann:hunter2@db/admin {secret}")
    except ValueError:
        logger.exception("failed")
    said = capsys.readouterr().err
    for hidden in (secret, secret[5:], "YW5uOmh1bnRlcjI", "eyJhbGciOiJIUzI1NiJ9", "hunter2"):
        assert hidden not in said
    assert "https://ann:***@h:5000/v2/?a=b@c" in said
    assert len(said.splitlines()) == 5
