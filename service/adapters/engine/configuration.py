"""A registry's configuration file, as it is read out of its container."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import yaml

BYTES_LIMIT = 1024 * 1024


def parse_configuration(body: bytes) -> Mapping[str, Any]:
    """Read YAML that is a mapping; raise ValueError for anything else, or more of it.

    Nothing in it makes objects of any kind but plain ones.
    """
    if len(body) > BYTES_LIMIT:
        raise ValueError(f"longer than {BYTES_LIMIT} bytes")
    try:
        document = yaml.safe_load(body)
    except (yaml.YAMLError, UnicodeError, RecursionError) as error:
        raise ValueError("no YAML") from error
    if not isinstance(document, Mapping):
        raise ValueError("no mapping")  # noqa: TRY004 - what is wrong is the file
    return document
