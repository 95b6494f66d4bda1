"""What the tests of cgroups share: names, a pure v2 view of this host, processes to put into a
cgroup."""

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from .forked import in_child, pure_v2

TOP = "/skerry-test-cgroup"
UNIFIED = Path("/sys/fs/cgroup/unified")

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root to make cgroups")


def hosts_v1() -> bool:
    return " - cgroup " in Path("/proc/self/mountinfo").read_text()


needs_v1 = pytest.mark.skipif(
    os.geteuid() != 0 or not hosts_v1(), reason="needs root and mounted cgroup v1 hierarchies"
)


def name(suffix: str, kind: str = "") -> str:
    """A cgroupsPath nobody else uses."""
    return f"{TOP}-{os.getpid()}{kind}/{suffix}"


def leftovers() -> list[str]:
    """Cgroups of this process's tests that are still there."""
    found = []
    for place, _, _ in os.walk("/sys/fs/cgroup"):
        if os.path.basename(place).startswith(f"{TOP[1:]}-{os.getpid()}"):
            found.append(place)
    return found


def wait_until(condition, what: str, deadline_s: float = 5.0) -> None:
    limit = time.monotonic() + deadline_s
    while not condition():
        assert time.monotonic() < limit, f"{what} did not happen in {deadline_s} s"
        time.sleep(0.005)


class Child:
    """A process that runs shell text once it is let go, so that it can be attached before."""

    def __init__(self, text: str = "exec sleep 1000") -> None:
        self.process = subprocess.Popen(
            ["/bin/sh", "-c", f"read go; {text}"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        self.pid = self.process.pid

    def go(self) -> None:
        self.process.stdin.write(b"\n")
        self.process.stdin.flush()

    def answer(self) -> bytes:
        return self.process.stdout.readline().strip()

    def end(self) -> int:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGKILL)
            self.process.send_signal(signal.SIGCONT)
        code = self.process.wait(20)
        self.process.stdin.close()
        self.process.stdout.close()
        return code


class HugetlbAsBefore:
    """Switch hugetlb off again at the top of v2, if it was off; skip where there is none."""

    def __init__(self, top) -> None:
        self.top = top

    def __enter__(self) -> None:
        controllers = self.top / "cgroup.controllers"
        if not controllers.exists() or "hugetlb" not in controllers.read_text():
            pytest.skip("cgroup v2 offers no hugetlb controller here")
        self.was_on = "hugetlb" in (self.top / "cgroup.subtree_control").read_text()

    def __exit__(self, *_) -> None:
        if not self.was_on:
            (self.top / "cgroup.subtree_control").write_text("-hugetlb")


in_pure_v2 = in_child(pure_v2)
