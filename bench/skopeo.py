"""skopeo as a user would loop it: list the tags, then inspect each, several at a time."""

import json
import subprocess
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from typing import Any
from urllib.parse import urlsplit

AT_A_TIME = 8
LIMIT = 120  # seconds that one run may take


def inventory(url: str, names: Sequence[str]) -> list[tuple[str, str]]:
    """Return the digest and the date of every tag of the repositories."""
    host = urlsplit(url).netloc
    with ThreadPoolExecutor(AT_A_TIME) as pool:
        listed = pool.map(lambda name: _list(f"{host}/{name}"), names)
        found = pool.map(_inspect, chain.from_iterable(listed))
        return [(each["Digest"], each["Created"]) for each in found]


def _list(repository: str) -> list[str]:
    tags = _skopeo("list-tags", repository)["Tags"]
    return [f"{repository}:{tag}" for tag in tags]


def _inspect(reference: str) -> dict[str, Any]:
    return _skopeo("inspect", reference)


def _skopeo(command: str, reference: str) -> dict[str, Any]:
    ended = subprocess.run(
        ["skopeo", command, "--tls-verify=false", f"docker://{reference}"],
        stdout=subprocess.PIPE,
        timeout=LIMIT,
        check=True,
    )
    found: dict[str, Any] = json.loads(ended.stdout)
    return found
