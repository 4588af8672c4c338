"""Crashes under core patterns of every kind, in containers of a real engine.

To be run in a kernel of its own alone: it sets that kernel's pattern. It writes what the diagnosis
said and what the kernel did of each row, as JSON, to the file that its argument names.
"""

import json
import os
import resource
import signal
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from docker.models.containers import Container
from docker.types import Ulimit

from demo.processes import wait_until
from service.adapters.engine import DockerEngine
from service.domain.containers import Allowed
from service.domain.coredump_facts import core_dumps
from service.settings import EngineSettings
from tests.e2e.bed.engine import Engine, applets, launch, pack
from tests.e2e.bed.programs import need
from tests.e2e.bed.workspace import Workspace

KERNEL = Path("/proc/sys/kernel")
TAKER, TAKEN, DONE = Path("/run/taker"), Path("/run/taken"), Path("/run/done")
PROGRAM = """\
trap 'sleep 100 & kill -SEGV $!; wait $!; echo crashed' USR1
echo ready
while :; do sleep 1 & wait $!; done
"""
USER = 1000
UNLIMITED = resource.RLIM_INFINITY
HIDDEN = ("proc", "sys", "dev")
SECONDS = 60


@dataclass(frozen=True)
class Row:
    """A pattern, and the check that fails by it; None where a core is left."""

    pattern: str
    fails: str | None
    read_only: bool = False
    soft_limit: int = UNLIMITED
    uses_pid: bool = False


ROWS = {
    "absolute": Row("/cores/core.%p", None),
    "absolute, with the pid": Row("/cores/core", None, uses_pid=True),
    "absolute, a folder of the user": Row("/cores/%u/core", None),
    "absolute, limit 0": Row("/cores/core.0", "core-limit", soft_limit=0),
    "absolute, limit below a page": Row("/cores/core.1", "core-limit", soft_limit=4095),
    "absolute, missing directory": Row("/missing/core", "directory-exists"),
    "absolute, a file for a directory": Row("/bin/busybox/core", "directory-exists"),
    "absolute, not writable": Row("/closed/core", "directory-writable"),
    "absolute, not to be gone through": Row("/closed/inner/core", "directory-writable"),
    "absolute, read-only root": Row("/cores/core.%p", "directory-writable", read_only=True),
    "absolute, tmpfs on a read-only root": Row("/t/core.%p", None, read_only=True),
    "relative": Row("core.%e", None),
    "relative, below": Row("1000/core.%e", None),
    "relative, missing directory": Row("missing/core", "directory-exists"),
    "relative, read-only root": Row("core.%e", "directory-writable", read_only=True),
    "pipe": Row(f"|{TAKER}", "core-pattern"),
    "pipe, limit 0": Row(f"|{TAKER}", "core-limit", soft_limit=0),
    "empty": Row("", "core-pattern"),
    "empty, with the pid": Row("", None, uses_pid=True),
}


def main() -> None:
    TAKER.write_text(f"#!/bin/sh\ncat >{TAKEN}\n: >{DONE}\n")
    TAKER.chmod(0o755)
    workspace = Workspace()
    home = workspace.folder("engine")
    engine = Engine(workspace, f"unix://{home}/docker.sock", launch(workspace, home, "vfs"))
    image = load(engine)
    boxes = {read_only: start(engine, image, read_only=read_only) for read_only in (False, True)}
    seen = {name: crash(engine, boxes[row.read_only], row) for name, row in ROWS.items()}
    Path(sys.argv[1]).write_text(json.dumps(seen, default=str))


def load(engine: Engine) -> str:
    folders = dict.fromkeys(("./", "bin/", "cores/", "cores/1000/", "closed/", "closed/inner/"))
    program = {"bin/busybox": need("busybox", "busybox-static")}
    return str(engine.load(pack({**folders, **program}, applets()), "crashes:1").id)


def start(engine: Engine, image: str, *, read_only: bool) -> Container:
    """A container whose first process lets another crash when it gets SIGUSR1."""
    return engine.client.containers.run(
        image,
        ["sh", "-c", PROGRAM],
        detach=True,
        network_mode="none",
        user=str(USER),
        working_dir="/cores",
        read_only=read_only,
        tmpfs={"/t": ""},
        ulimits=[Ulimit(name="core", soft=-1, hard=-1)],
    )


def crash(engine: Engine, container: Container, row: Row) -> dict[str, Any]:
    """Diagnose, let it crash, diagnose again: what was said, and what files came where."""
    container.reload()
    pid = container.attrs["State"]["Pid"]
    prepare(pid, row)
    before = files(pid)
    told = diagnosed(engine, container)
    lines = container.logs().count(b"crashed")
    os.kill(pid, signal.SIGUSR1)
    wait_until(lambda: container.logs().count(b"crashed") > lines, SECONDS, "it has crashed")
    after = files(pid)
    came = {path: size for path, size in after.items() if path not in before}
    listed = diagnosed(engine, container)["files"]
    return {"told": told, "came": came, "taken": taken(row), "listed": listed}


def taken(row: Row) -> int:
    """How much of a core the program at the end of a pipe was given."""
    if row.pattern.startswith("|"):
        wait_until(DONE.exists, SECONDS, "the program has read the core")
    size = TAKEN.stat().st_size if TAKEN.exists() else 0
    for one in (TAKEN, DONE):
        one.unlink(missing_ok=True)
    return size


def prepare(pid: int, row: Row) -> None:
    (KERNEL / "core_pattern").write_text(f"{row.pattern}\n")
    (KERNEL / "core_uses_pid").write_text(f"{int(row.uses_pid)}\n")
    resource.prlimit(pid, resource.RLIMIT_CORE, (row.soft_limit, UNLIMITED))
    root = Path(f"/proc/{pid}/root")
    if not row.read_only:
        for folder, mode in (("cores", 0o1777), ("cores/1000", 0o1777), ("closed", 0o700)):
            (root / folder).mkdir(exist_ok=True)
            (root / folder).chmod(mode)


def diagnosed(engine: Engine, container: Container) -> dict[str, Any]:
    sight = DockerEngine(EngineSettings("local", engine.host))
    return asdict(core_dumps(Allowed(sight, str(container.id), str(container.name))))


def files(pid: int) -> dict[str, int]:
    """Every file that the container sees, with its size."""
    root = f"/proc/{pid}/root"
    found = {}
    for place, folders, names in os.walk(root):
        if place == root:
            folders[:] = [one for one in folders if one not in HIDDEN]
        for name in names:
            path = Path(place, name)
            found[f"/{path.relative_to(root)}"] = path.lstat().st_size
    return found


if __name__ == "__main__":
    main()
