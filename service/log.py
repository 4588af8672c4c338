"""Logs, one line an event on stderr, as JSON objects or as text; without secrets."""

from __future__ import annotations

import json
import logging
import re
import sys
from collections.abc import Mapping
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any

STANDARD = frozenset(logging.makeLogRecord({}).__dict__) | {"message", "asctime", "taskName"}
"""What every record has; the rest was given as ``extra`` and is logged beside the message."""

QUIET = ("alembic", "docker", "gunicorn", "requests", "urllib3")
"""Libraries that tell more than an operator wants to know."""

REQUEST_ID: ContextVar[str | None] = ContextVar("request_id", default=None)
"""The id of the request that is being answered; it is in every line logged meanwhile."""

HIDDEN = "***"
_SECRETS = (
    (re.compile(r"\bradm_[A-Za-z0-9_-]+"), f"radm_{HIDDEN}"),
    (re.compile(r"(?i)\b(basic|bearer)\s+[A-Za-z0-9._~+/-]{8,}=*"), rf"\1 {HIDDEN}"),
    (re.compile(r"(?<=://)([^\s/@:\"']*):[^\s/@\"']+@"), rf"\1:{HIDDEN}@"),
)


def configure(level: str, form: str = "json") -> None:
    """Log to stderr from ``level`` (``debug`` to ``error``) on, warnings of Python as well.

    ``form`` is one of FORMATS.
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(FORMATS[form]())
    logging.basicConfig(handlers=[handler], level=level.upper(), force=True)
    logging.captureWarnings(capture=True)
    least = max(logging.getLogger().level, logging.WARNING)
    for name in QUIET:
        logging.getLogger(name).setLevel(least)


class JsonFormatter(logging.Formatter):
    """``time`` (RFC 3339), ``level``, ``logger``, ``message``, what ``extra`` had, ``error``."""

    def format(self, record: logging.LogRecord) -> str:
        """Make one line of a record."""
        return redact(json.dumps(self.fields(record), default=str))

    def fields(self, record: logging.LogRecord) -> dict[str, Any]:
        """Tell what there is to say of a record."""
        line: dict[str, Any] = {
            "time": _time(record.created),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        line |= {"request_id": request_id} if (request_id := REQUEST_ID.get()) else {}
        line |= {key: value for key, value in vars(record).items() if key not in STANDARD}
        if record.exc_info:
            line["error"] = self.formatException(record.exc_info)
        return line


class TextFormatter(JsonFormatter):
    """The same for people: time, level and message, then the rest as ``name=value``."""

    def format(self, record: logging.LogRecord) -> str:
        """Make one line of a record, and more of a traceback."""
        line = self.fields(record)
        error = line.pop("error", "")
        said = [line.pop(name) for name in ("time", "level", "message")]
        rest = [f"{name}={_word(value)}" for name, value in line.items()]
        return redact("\n".join(filter(None, [" ".join([*said, *rest]), error])))


FORMATS: Mapping[str, type[JsonFormatter]] = {"json": JsonFormatter, "text": TextFormatter}


def _word(value: object) -> str:
    """``value`` as one word, quoted where it would be several."""
    text = str(value)
    return text if re.fullmatch(r"[^\s\"=]+", text) else json.dumps(text)


def milliseconds(seconds: float) -> float:
    """Return a duration as it is logged."""
    return round(seconds * 1000, 3)


def redact(text: str) -> str:
    """``text`` without tokens, ``Authorization`` values and passwords of URLs."""
    for pattern, replacement in _SECRETS:
        text = pattern.sub(replacement, text)
    return text


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")[:-6] + "Z"
