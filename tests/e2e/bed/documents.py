"""The shell blocks of the guide, typed as they are printed."""

import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from tests.e2e.bed.service import Service

DOCS = Path(__file__).parents[3] / "docs"
BLOCK = re.compile(r"^```sh\n(.*?)^```$", re.MULTILINE | re.DOTALL)
BLOCK_SECONDS = 100


def blocks(page: str) -> list[str]:
    """The blocks of a page that are to be typed, in order."""
    return BLOCK.findall((DOCS / page).read_text())


@dataclass(frozen=True)
class Terminal:
    """Where blocks are typed: each time in a new shell, which ends at the first that fails."""

    service: Service
    folder: Path

    def type(self, page: str, **variables: str) -> str:
        """Type all blocks of a page, after the guide's beginning; gives what was printed."""
        return self.run(*blocks("README.md"), *blocks(page), **variables)

    def run(self, *typed: str, **variables: str) -> str:
        environment = self.service.environment() | {
            "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
            "API": self.service.url,
            "TOKEN": self.service.admin(),
            "REGISTRY_ADMIN_DATA_DIR": str(self.service.data_dir),
            **variables,
        }
        ended = subprocess.run(
            ["bash", "-c", "\n".join(["set -euo pipefail", *typed])],
            cwd=self.folder, env=environment, capture_output=True, text=True,
            timeout=BLOCK_SECONDS, check=False,
        )  # fmt: skip
        assert ended.returncode == 0, ended.stdout + ended.stderr
        return ended.stdout
