"""What a confined helper gets, and does not get, whatever its caller had."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from support import host

from skerry.errors import EngineError, InitError, KernelError
from skerry.linux import process
from skerry.native.cgroup.group import Cgroup
from skerry.rpc.loop import Loop
from skerry.vm import command, confine
from skerry.vm.confine import Confinement

TOP = Path(__file__).parents[3]
SLEEP = ["/bin/sleep", "60"]


class Helper:
    """One that runs until the test is over."""

    def __init__(self, confinement: Confinement, argv: list[str] = SLEEP, fds: tuple = ()) -> None:
        self.said, said_fd = os.pipe2(os.O_CLOEXEC)
        try:
            self.running = confine.start(argv, fds, confinement, said_fd=said_fd)
        except BaseException:
            os.close(self.said)
            raise
        finally:
            os.close(said_fd)
        self.pid = self.running.pid

    def end(self) -> None:
        process.send_signal(self.running.pidfd, 9)
        process.wait_exit(self.running.pidfd, 5)
        os.close(self.running.pidfd)
        os.close(self.said)

    def fds(self) -> dict[int, str]:
        return {int(n): os.readlink(f"/proc/{self.pid}/fd/{n}") for n in os.listdir(f"/proc/{self.pid}/fd")}


@pytest.fixture
def slot() -> Iterator[confine.Slot]:
    slot = confine.take_slot()
    yield slot
    slot.close()


def test_security_v27_only_absolute_programs(slot: confine.Slot, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """security V27: nothing of a helper's name is looked for anywhere."""
    trap = tmp_path / "qemu-system-x86_64"
    trap.write_text(f"#!/bin/sh\ntouch {tmp_path}/sprung\n")
    trap.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    for name in ("qemu-system-x86_64", "./qemu-system-x86_64", "../qemu-system-x86_64", ""):
        with pytest.raises(EngineError, match="not an absolute path"):
            Helper(Confinement(slot.uid), [name])
    with pytest.raises(KernelError, match="EACCES"):
        Helper(Confinement(slot.uid), [str(tmp_path)])
    assert not (tmp_path / "sprung").exists()


def test_nothing_of_the_caller_comes_along(slot: confine.Slot, monkeypatch: pytest.MonkeyPatch) -> None:
    leaked = os.open("/", os.O_RDONLY)
    os.set_inheritable(leaked, True)
    monkeypatch.setenv("SECRET", "x")
    old = signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    given = os.open("/dev/zero", os.O_RDONLY | os.O_CLOEXEC)
    helper = Helper(Confinement(slot.uid), fds=((given, "zero"), (slot.fd, "lock")))
    try:
        fds = helper.fds()
        assert sorted(fds) == [0, 1, 2, 3, 4]
        assert (fds[0], fds[3]) == ("/dev/null", "/dev/zero") and fds[1] == fds[2]
        found = host.status_of(helper.pid)
        assert {found[name] for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")} == {"0" * 16}
        assert (found["NoNewPrivs"], found["SigIgn"], found["SigBlk"], found["Umask"]) == ("1", "0" * 16, "0" * 16, "0077")
        assert Path(f"/proc/{helper.pid}/environ").read_bytes() == b""
        assert os.getsid(helper.pid) == helper.pid
    finally:
        helper.end()
        signal.signal(signal.SIGPIPE, old)
        os.close(leaked)
        os.close(given)


def test_a_slot_is_one_user_s(slot: confine.Slot) -> None:
    other = confine.take_slot()
    assert other.uid != slot.uid
    uid = other.uid
    # The helper holds the lock as well: while it lives the user is taken.
    helper = Helper(Confinement(uid), fds=((other.fd, "lock"),))
    other.close()
    third = confine.take_slot()
    assert third.uid != uid
    helper.end()
    fourth = confine.take_slot()
    assert fourth.uid == uid
    third.close()
    fourth.close()


def test_what_fails_is_told(slot: confine.Slot, tmp_path: Path) -> None:
    script = tmp_path / "script"
    script.write_text("#!/nowhere/interpreter\n")
    script.chmod(0o755)
    os.chmod(tmp_path, 0o755)
    with pytest.raises((InitError, KernelError), match="cannot execute"):
        Helper(Confinement(0), [str(script)])
    with pytest.raises(KernelError, match="install nothing"):
        Helper(Confinement(slot.uid), ["/usr/bin/nothing"])


OWNER = """
import sys, os
sys.path[:0] = sys.argv[1:2]
from skerry.vm import confine
said, said_fd = os.pipe()
started = confine.start(["/bin/sleep", "60"], [], confine.Confinement(confine.BASE_UID + 9), said_fd=said_fd)
print(started.pid, flush=True)
sys.stdin.read()
"""


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM, None])
def test_it_ends_with_its_owner(how: "signal.Signals | None") -> None:
    words = [sys.executable, "-B", "-c", OWNER, TOP / "src"]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as owner:
        pid = int(owner.stdout.readline())
        assert host.status_of(pid)["Name"] == "sleep"
        if how:
            owner.send_signal(how)
        else:
            owner.stdin.close()
    host.wait_exit(pid, 2)


def v2_cgroup() -> "Cgroup | None":
    mounts = host.cgroup_mounts()
    top = mounts.get("unified") or mounts.get("")
    if top is None:
        return None
    path = f"{top}/skerry-test-{os.getpid()}"
    return Cgroup("v2", {"": path}, [path], str(top))


def test_born_in_a_cgroup_of_v2(slot: confine.Slot) -> None:
    cgroup = v2_cgroup()
    if cgroup is None:
        pytest.skip("no cgroup2 is mounted")
    cgroup.create()
    try:
        helper = Helper(Confinement(slot.uid, cgroup=cgroup))
        try:
            assert cgroup.processes() == [helper.pid]
            assert host.status_of(helper.pid)["CapEff"] == "0" * 16
            assert sorted(helper.fds()) == [0, 1, 2]
            assert int(host.status_of(helper.pid)["PPid"]) == os.getpid()
        finally:
            helper.end()
    finally:
        cgroup.remove()


def test_a_command_is_awaited_and_judged(monkeypatch: pytest.MonkeyPatch) -> None:
    loop = Loop()
    root = Confinement(0)
    loop.complete(command.run(loop, ["/bin/true"], [], root))
    with pytest.raises(EngineError, match=r"cannot run ls: .*No such file.* \(exit status 2\)"):
        loop.complete(command.run(loop, ["/bin/ls", "/nowhere"], [], root))
    monkeypatch.setenv("SKERRY_TIMEOUT_COMMAND", "1")
    with pytest.raises(EngineError, match="cannot run sleep: no end after 1 s"):
        loop.complete(command.run(loop, SLEEP, [], root))
    assert host.descendants() == [] or all(host.status_of(p)["Name"] != "sleep" for p in host.descendants())
