"""The programs that the bed runs."""

import os
import shutil
from pathlib import Path


def need(program: str, package: str) -> Path:
    """Find a program, or say which Debian package has it."""
    found = shutil.which(program, path=f"{os.environ['PATH']}:/usr/sbin:/sbin")
    if found is None:
        raise RuntimeError(f"{program} is missing: apt-get install {package}")
    return Path(found)
