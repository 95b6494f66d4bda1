"""What pods and containers leave behind in the world of the tests' containerd."""

import os
from pathlib import Path

from containerd_driver import Containerd
from support import host, leaks

# Each is empty when no pod exists. The patterns are paths in the daemon's own mount namespace.
DIRECTORIES = (
    "/run/netns/*",
    "/run/containerd/s/*",
    "/run/containerd/fifo/*",
    # The roots of runtimes, one for each containerd namespace. Skerry's own entries begin with an @.
    "/run/containerd/runc/*/[!@]*",
    "/run/containerd/skerry/*/[!@]*",
    "/run/containerd/*/*/@tmp/*",
    "/run/skerry/[!@]*",
    "{top}/state/io.containerd.runtime.v2.task/*/*",
    "{top}/state/io.containerd.grpc.v1.cri/*/*",
    "{top}/root/io.containerd.runtime.v2.task/*/*",
)


ZYGOTE = "skerry-zygote-"


def is_zygote(pid: int) -> bool:
    """The process that forks skerry's shims; the shims have its words, but their own names."""
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        return b"zygote" in words and not Path(f"/proc/{pid}/comm").read_text().startswith("shim:")
    except OSError:
        return False


class Leftovers:
    """Remembers what exists with no pod, and finds what came since."""

    def __init__(self, daemon: Containerd) -> None:
        self.daemon = daemon
        self.blamed: set[str] = set()
        self.tolerated = ""
        self.mounts = {row["point"] for row in host.mountinfo(daemon.nursery.pid)}

    def find(self) -> list[str]:
        spared = {pid for root in self.daemon.see("/run/containerd/skerry").glob("*") for pid in leaks.keepers(root)}
        found = [
            f"process {pid} {leaks.name_of(pid)}"
            for pid in host.descendants(self.daemon.nursery.pid)
            if pid not in (self.daemon.pid, *spared) and not leaks.is_dead(pid) and not is_zygote(pid)
        ]
        found += [f"cgroup {path}" for path in cgroups_below(self.daemon.token)]
        found += [
            f"mount {row['point']}"
            for row in host.mountinfo(self.daemon.nursery.pid)
            if row["point"] not in self.mounts
        ]
        root = self.daemon.see("/")
        for pattern in DIRECTORIES:
            found += [
                f"file {path}"
                for path in root.glob(pattern.format(top=self.daemon.top).lstrip("/"))
            ]
        # It outlives pods for a minute, and is the session's.
        found = [text for text in found if ZYGOTE not in text]
        found = [text for text in found if not self.tolerated or self.tolerated not in text]
        return [text for text in found if text not in self.blamed]

    def settle(self) -> list[str]:
        """Give what is left after a while, once: the next test is not to blame for it."""
        left = leaks.settle(self.find, timeout_s=8)
        self.tolerated = ""
        self.blamed.update(self.find())
        return left


def cgroups_below(token: str) -> list[Path]:
    """Find the cgroups of containers, deepest first; the parents of all are not among them."""
    found = []
    for mount in set(host.cgroup_mounts().values()):
        for directory, names, _ in os.walk(mount / token, topdown=False):
            found += [Path(directory, name) for name in names]
    return found
