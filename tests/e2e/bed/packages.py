"""Root file systems of the Debian packages that this machine has: nothing is fetched or unpacked.

What maintainer scripts make is not there: no compiled Python, no caches, no users.
"""

import io
import os
import subprocess
import tarfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

LEFT_OUT = ("/usr/share/doc/", "/usr/share/man/", "/usr/share/locale/", "/usr/share/icons/")
MERGED = ("bin", "lib", "lib64", "sbin")
BUNDLE = Path("/etc/ssl/certs/ca-certificates.crt")
PASSWD = b"root:x:0:0::/:/bin/sh\npostgres:x:70:70::/:/bin/sh\nnobody:x:65534:65534::/:/bin/sh\n"
PASSED_OVER = frozenset({"debconf", "dpkg", "libllvm14", "perl", "postgresql-common"})
"""Of use to maintainer scripts, or to PostgreSQL's compiler, which is off."""


def root_file_system(packages: Iterable[str], files: Mapping[str, bytes]) -> bytes:
    """Pack packages, with all they depend on, and some files as a tar; raises RuntimeError."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name in MERGED:
            link = tarfile.TarInfo(name)
            link.type, link.linkname = tarfile.SYMTYPE, f"usr/{name}"
            archive.addfile(link)
        for path in sorted(_paths(closure(packages))):
            archive.add(path, path.lstrip("/"), recursive=False)
        archive.add(BUNDLE, str(BUNDLE).lstrip("/"))
        for name, content in {"etc/passwd": PASSWD, **files}.items():
            _add(archive, name, content)
    return buffer.getvalue()


def closure(packages: Iterable[str]) -> set[str]:
    """Name packages and all they depend on, of those that are installed; raises RuntimeError."""
    needs = dict(_installed())
    found, waiting = set[str](), list(packages)
    if missing := [name for name in waiting if name not in needs]:
        raise RuntimeError(f"missing: apt-get install {' '.join(missing)}")
    while waiting:
        name = waiting.pop()
        if name in needs and name not in found | PASSED_OVER:
            found.add(name)
            waiting += needs[name]
    return found


def _installed() -> Iterator[tuple[str, list[str]]]:
    """Give every package with what it depends on: of alternatives all."""
    shown = "${db:Status-Status}|${Package}|${Pre-Depends}, ${Depends}\\n"
    said = subprocess.run(
        ["dpkg-query", "-W", "-f", shown], capture_output=True, text=True, check=True
    )
    for line in said.stdout.splitlines():
        status, name, depends = line.split("|", 2)
        if status == "installed":
            words = depends.replace("|", ",").split(",")
            yield name, [word.split()[0].partition(":")[0] for word in words if word.strip()]


def _paths(packages: Iterable[str]) -> set[str]:
    """Give what packages have put on this machine, by its real path."""
    listed = subprocess.run(["dpkg", "-L", *packages], capture_output=True, text=True, check=True)
    paths = {Path(path) for path in listed.stdout.splitlines() if path.startswith("/")}
    real = {str(path.parent.resolve() / path.name) for path in paths}
    return {path for path in real if not path.startswith(LEFT_OUT) and _is_of_use(path)}


def _is_of_use(path: str) -> bool:
    return os.path.lexists(path) and path.lstrip("/") not in {"", ".", *MERGED}


def _add(archive: tarfile.TarFile, name: str, content: bytes) -> None:
    entry = tarfile.TarInfo(name)
    entry.mode, entry.size = 0o755, len(content)
    archive.addfile(entry, io.BytesIO(content))
