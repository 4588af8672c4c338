"""A kernel of its own, as a process of ours: what is set in it is set nowhere else.

User-mode Linux, whose root is this machine's file system, read-only. Only there may a test set
what belongs to a host.
"""

import os
import sys
from pathlib import Path

from demo.processes import wait_until
from tests.e2e.bed.programs import need
from tests.e2e.bed.workspace import Child, Workspace

HERE = Path(__file__).parents[3]
SECONDS = 240
GROUPS = "cpu cpuacct blkio memory devices freezer pids"
FIRST = """\
#!/bin/sh
export PATH={path}:/usr/sbin:/sbin PYTHONPATH={here} TMPDIR=/run/tmp HOME=/run
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t tmpfs -o mode=755 tmpfs /run
mkdir /run/tmp /run/out
mount -t hostfs -o {folder} none /run/out
mount -t tmpfs tmpfs /sys/fs/cgroup
for group in {groups}; do
  mkdir /sys/fs/cgroup/$group
  mount -t cgroup -o $group cgroup /sys/fs/cgroup/$group
done
ip link set lo up
{python} -m {module} /run/out/result >/run/out/log 2>&1
busybox poweroff -f
"""
"""What it starts first. Should /proc not be mounted, that of the host is behind it: read-only."""


def run_in_own_kernel(workspace: Workspace, module: str) -> str:
    """Run a module of ours, as root; give what it wrote to the file that its argument names."""
    folder = workspace.folder("kernel")
    first = folder / "first"
    words = {"path": os.environ["PATH"], "here": HERE, "folder": folder, "groups": GROUPS}
    first.write_text(FIRST.format(python=sys.executable, module=module, **words))
    first.chmod(0o755)
    argv = [str(need("linux.uml", "user-mode-linux")), "mem=1G", "quiet", f"uml_dir={folder}/"]
    argv += ["rootfstype=hostfs", "rootflags=/", "root=/dev/root", "ro", f"init={first}"]
    argv += ["con=null", "con0=null,fd:1"]
    child = Child(workspace, argv, folder / "console")
    try:
        wait_until(lambda: not child.is_running(), SECONDS, f"{module} in a kernel of its own")
    finally:
        child.stop()
    result, log = folder / "result", folder / "log"
    if not result.exists():
        raise RuntimeError(log.read_text() if log.exists() else child.tail())
    return result.read_text()
