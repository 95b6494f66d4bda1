"""The black-box session: one runtime, one private mount namespace, one check that nothing is left.

tests/conftest.py makes its fixtures known to all suites that drive the installed program: there is one session.
"""

import os
import shutil
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from . import host, leaks
from .box import Box
from .rootfs import build_template
from .runtime import ISOLATION, Runtime

CHECKOUT = Path(__file__).resolve().parents[2]
BINARY = os.path.abspath(os.environ.get("RUNTIME", CHECKOUT / "bin/skerry"))


def kind_of(binary: str) -> str:
    """Which runtime it is, by its name: the words before asking it cost nothing."""
    name = os.path.basename(os.path.realpath(binary))
    return next((kind for kind in ("skerry", "runc", "crun") if kind in name), name)


@pytest.hookimpl(wrapper=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> Iterator[None]:
    """End a test with the question whether anything is left; a leak is a failure of that test."""
    result = yield
    box = pyfuncitem.funcargs.get("box")
    if box is not None:
        left = box.clean()
        assert not left, f"left behind: {left}"
    return result


class Session:
    """What all tests share."""

    def __init__(self, runtime: Runtime, template: Path, work: Path, token: str) -> None:
        self.runtime, self.template, self.work, self.token, self.tests = runtime, template, work, token, 0

    def box(self) -> Box:
        self.tests += 1
        return Box(self.runtime, self.template, self.work, self.token, self.tests)


@pytest.fixture(scope="session")
def session() -> Iterator[Session]:
    token = f"oci{os.urandom(3).hex()}"
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # a session that is stopped cleans up as well
    host.prctl(host.PR_SET_CHILD_SUBREAPER, 1)
    work = Path(tempfile.mkdtemp(prefix=f"{token}-"))
    enter_private_mounts(work, hide_unified=kind_of(BINARY) == "crun" and host.is_hybrid())
    try:
        os.mkdir(work / "root", 0o700)
        before = snapshot()
        template = build_template(work)
        runtime = Runtime(BINARY, work / "root", template / "bin/probe", isolation=ISOLATION)
        yield Session(runtime, template, work, token)
        for pid in leaks.keepers(work / "root"):
            os.kill(pid, signal.SIGKILL)
        shutil.rmtree(work / "root/@templates", ignore_errors=True)
        left = leaks.settle(lambda: leaks.find(token, token + "-", work / "root", str(work)))
        leaks.remove(token, token + "-", work / "root")
        assert not left, f"the session leaves: {left}"
        after = snapshot()
        gone = {row for row in before["mounts"] - after["mounts"] if not row[0].startswith(("/proc", "/sys", "/dev"))}
        changed = {key: before[key] ^ after[key] for key in before}
        changed["mounts"] -= gone  # a directory that somebody removes on the machine takes its mounts along, here too
        assert not any(changed.values()), f"the session changed the host: {changed}"
    finally:
        leaks.remove_parents(token)
        host.umount("/dev/null")
        leaks.unmount_below(str(work))
        host.umount(work)
        work.rmdir()


def enter_private_mounts(work: Path, *, hide_unified: bool) -> None:
    """Give the session mounts of its own, shared among each other as on a host with systemd.

    A runtime that lets a mount travel to its host is seen in this table; the machine's own is never touched. /dev/null is
    a copy, for some runtimes change the owner of the one they are given (V20). A runtime that refuses hybrid hosts gets a
    new /sys/fs/cgroup with the v1 hierarchies only.
    """
    v1 = [point for name, point in host.cgroup_mounts().items() if name != "unified"]
    host.unshare(host.CLONE_NEWNS)
    host.mount("none", "/", flags=host.MS_REC | host.MS_PRIVATE)
    host.mount("none", "/", flags=host.MS_REC | host.MS_SHARED)
    host.mount("tmpfs", work, "tmpfs", 0, "mode=0755")
    os.mknod(work / "null", 0o020666, os.makedev(1, 3))
    os.chmod(work / "null", 0o666)
    host.mount(work / "null", "/dev/null", flags=host.MS_BIND)
    if hide_unified:
        fds = {point.name: os.open(point, os.O_PATH | os.O_DIRECTORY) for point in v1}
        host.mount("tmpfs", "/sys/fs/cgroup", "tmpfs", 0, "mode=0755")
        for name, fd in fds.items():
            os.mkdir(f"/sys/fs/cgroup/{name}")
            host.mount(f"/proc/self/fd/{fd}", f"/sys/fs/cgroup/{name}", flags=host.MS_BIND)
            os.close(fd)


def snapshot() -> dict[str, set[object]]:
    """Facts of the host that no test may change; /dev/null is a copy, and has tests of its own (V20)."""
    nodes = ("zero", "full", "random", "urandom", "tty", "ptmx")
    return {
        "mounts": {(row["point"], row["kind"], row["root"]) for row in host.mountinfo()},
        "nodes": {(n, s.st_mode, s.st_uid, s.st_gid, s.st_rdev) for n in nodes for s in [os.lstat(f"/dev/{n}")]},
        "namespaces": set(host.namespaces_of("self").items()),
        "hostname": {os.uname().nodename},
    }


@pytest.fixture
def box(session: Session) -> Iterator[Box]:
    """Give a test its workbench; the clean-up of a test that failed happens here, silently.

    As long as it lasts, runtimes are started as from a shell; other suites in this process write to sockets that close.
    """
    before = signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    box = session.box()
    yield box
    if box.dir.exists():
        box.clean()
    signal.signal(signal.SIGPIPE, before)


@pytest.fixture
def runtime(session: Session) -> Runtime:
    return session.runtime


@pytest.fixture
def null(session: Session) -> Iterator[int]:
    """Give /dev/null as a caller's stdio; some runtimes change its owner, so that is put back (V20)."""
    fd = os.open("/dev/null", os.O_RDWR)
    yield fd
    os.fchown(fd, 0, 0)
    os.close(fd)
