"""The world that the tests' containerd lives in, and the parent of all that it abandons.

Runs in: a process of its own, started by containerd_driver inside new mount and network namespaces.
Never:   touches the host's /run and /var/lib: it and its children see empty ones.

It is a child subreaper, so shims and containers whose parents die become its children: what is left
after a test is found below it. When its input ends, however that came about, it kills them all.

A request is a line of JSON, `{"argv": [...], "env": {...}, "output": path}`, the answer `{"pid": N}`.
"""

import json
import os
import select
import signal
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from support import host

# Sockets, fifos, network namespaces and the states of runtimes; the addresses that CNI has given out.
FRESH = ("/run", "/var/lib")


def main() -> None:
    arrange(Path(sys.argv[1]), v1_only=sys.argv[2] == "v1")
    host.prctl(host.PR_SET_CHILD_SUBREAPER, 1)
    ended, wakeup = os.pipe()
    for fd in (ended, wakeup):
        os.set_blocking(fd, False)
    signal.set_wakeup_fd(wakeup)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the keyboard's is for the tests, which tell us
    print("ready", flush=True)
    while True:
        ready, _, _ = select.select([0, ended], [], [])
        if ended in ready:
            os.read(ended, 4096)
            reap()
        if 0 in ready:
            line = sys.stdin.readline()
            if not line:
                break
            print(json.dumps({"pid": spawn(**json.loads(line))}), flush=True)
    end_all()


def arrange(top: Path, *, v1_only: bool) -> None:
    """Fresh directories; `/` shared with nobody outside, but shared inside, as systemd has it."""
    for directory in FRESH:
        host.mount("tmpfs", directory, "tmpfs", data="mode=755")
    if v1_only:
        hide_unified(top)
    host.mount("none", "/", flags=host.MS_SHARED | host.MS_REC)
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)


def hide_unified(top: Path) -> None:
    """Show the v1 hierarchies alone: crun refuses hosts that have cgroup v2 beside them.

    The old tree is covered, not changed: removing a mount point of it would take the mount from the
    whole host.
    """
    mounts = {row["point"] for row in host.mountinfo() if row["kind"] == "cgroup"}
    new = top / "cgroup"
    new.mkdir()
    host.mount("cgroups", new, "tmpfs", data="mode=755")
    for point in sorted(mounts):
        there = new / Path(point).name
        there.mkdir()
        host.mount(point, there, flags=host.MS_BIND)
    host.mount(new, "/sys/fs/cgroup", flags=host.MS_BIND | host.MS_REC)


def spawn(argv: list[str], env: dict[str, str], output: str) -> int:
    with open(output, "ab") as log:
        # Not a Popen: whoever ends is reaped here, in one place.
        moves = [
            (os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY, 0),
            (os.POSIX_SPAWN_DUP2, log.fileno(), 1),
            (os.POSIX_SPAWN_DUP2, log.fileno(), 2),
        ]
        return os.posix_spawnp(
            argv[0], argv, env, file_actions=moves, setsid=True, setsigdef=[signal.SIGINT]
        )


def reap() -> None:
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        pass


def end_all() -> None:
    """Kill until nobody is left; a frozen one would never hear of it."""
    for _ in host.ticks(20):
        left = host.descendants()
        if not left:
            return
        for pid in left:
            thaw(pid)
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        reap()


def thaw(pid: int) -> None:
    try:
        state = host.cgroup_of(pid, "freezer") / "freezer.state"
        if state.is_file() and state.read_text().strip() != "THAWED":
            state.write_text("THAWED")
    except (OSError, LookupError):
        pass


if __name__ == "__main__":
    main()
