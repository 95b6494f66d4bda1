"""What a runtime may leave behind: processes, mounts, cgroups, files in its root.

Processes are found as descendants: the session is a child subreaper, so what a runtime abandons becomes its child.
Cgroups and files are found by the session's token, which is part of every id and every cgroup path that the suite uses.
Mounts are those of the session's own mount namespace.
"""

import json
import os
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path

from . import host


def find(token: str, prefix: str, root: Path, directory: str) -> list[str]:
    """List what exists now of the ids that begin with the prefix, and every process and mount of the session's."""
    spared = keepers(root) | keepers(Path(directory) / "root")
    found = [
        f"process {pid} {name_of(pid)}" for pid in host.descendants() if pid not in spared and not is_dead(pid)
    ]
    found += [f"cgroup {path}" for path in cgroups(token, prefix)]
    found += [f"mount {row['point']}" for row in host.mountinfo() if below(row["point"], directory)]
    if root.is_dir():
        found += [f"file {root / name}" for name in os.listdir(root) if prefix in name]
    return found


def keepers(root: Path) -> set[int]:
    """Processes that hold the templates of a root: they are meant to stay."""
    return {json.loads(facts.read_text())["pid"] for facts in root.glob("@templates/*/facts")}


def cgroups(token: str, prefix: str) -> list[Path]:
    """Find cgroups by name, deepest first."""
    found = []
    for mount in set(host.cgroup_mounts().values()):
        for directory, names, _ in os.walk(mount, topdown=False):
            if token in directory:
                found += [Path(directory, name) for name in names if f"{directory}/{name}".find(prefix) > 0]
            else:
                found += [Path(directory, name) for name in names if prefix in name]
    return found


def below(point: str, directory: str) -> bool:
    """Whether a mount point lies in the directory (the directory itself does not)."""
    return point.startswith(directory + "/")


def reap(spare: int = 0) -> None:
    """Take the statuses of all children that have ended, but for one that somebody else waits for."""
    flags = os.WEXITED | os.WNOHANG | os.WNOWAIT
    try:
        while (ended := os.waitid(os.P_ALL, 0, flags)) is not None and ended.si_pid != spare:
            os.waitpid(ended.si_pid, 0)
    except ChildProcessError:
        pass


def settle(question: Callable[[], list[str]], timeout_s: float = 1.5) -> list[str]:
    """Ask what is left until the answer is nothing or time is up: the kernel removes some things a moment later."""
    deadline = time.monotonic() + timeout_s
    while left := question():
        if time.monotonic() > deadline:
            break
        pids = [int(text.split()[1]) for text in left if text.startswith("process ")]
        try:
            host.wait_exit(pids[0] if pids else os.getpid(), 0.02)
        except TimeoutError:
            pass
        reap()
    return left


def remove(token: str, prefix: str, root: Path) -> None:
    """Remove by force what a runtime left, so that the next test starts clean."""
    spared = keepers(root)
    for pid in host.descendants():
        if pid not in spared and not is_dead(pid):
            os.kill(pid, signal.SIGKILL)
    for path in cgroups(token, prefix):
        thaw = path / "freezer.state"
        if thaw.exists():
            thaw.write_text("THAWED")
    for pid in host.descendants():
        if pid not in spared:
            host.wait_exit(pid, 5)
    reap()
    for path in cgroups(token, prefix):
        _rmdir(path)
    for name in os.listdir(root) if root.is_dir() else []:
        if prefix in name:
            shutil.rmtree(root / name, ignore_errors=True)


def remove_parents(token: str) -> None:
    """Remove the cgroups that held those of the session."""
    for path in cgroups(token, token):
        _rmdir(path)


def unmount_below(directory: str) -> None:
    """Detach all mounts below a directory, and insist that none stays: what follows is a recursive delete."""
    for _ in host.ticks():
        rows = [row for row in host.mountinfo() if below(row["point"], directory)]
        if not rows:
            return
        host.umount(rows[-1]["point"])  # shared mounts go in groups, so the table is read anew each time


def _rmdir(path: Path) -> None:
    try:
        path.rmdir()
    except OSError:
        pass


def name_of(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode("utf-8", "replace")[:100]
    except OSError:
        return "?"


def is_dead(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "ZX"
    except OSError:
        return True
