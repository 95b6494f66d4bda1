"""A machine from its start to its end."""

import os
import select
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from support import host
from support.vm import Guest, booted

from skerry.errors import Error, VmError
from skerry.rpc.loop import Loop
from skerry.vm import confine, machine
from skerry.vm.hardware import Hardware

TOP = Path(__file__).parents[3]
Clone = Callable[..., Guest]


def status_of(pid: int) -> dict[str, str]:
    return host.fields(Path(f"/proc/{pid}/status").read_text())


@pytest.mark.parametrize("profile", ["microvm", "q35"])
def test_answers_and_powers_off(clone: Clone, files: tuple[str, str], profile: str) -> None:
    guest = clone(Hardware(*files, profile=profile))
    assert guest.ok("echo $((6 * 7))") == "42\n"
    pid = guest.machine.pid
    assert guest.shut_down() == (0, 0)
    assert not os.path.exists(f"/proc/{pid}")


def test_security_v52_qemu_has_a_user_of_its_own_and_nothing_else(guest: Guest) -> None:
    """security V52"""
    found = status_of(guest.machine.pid)
    uid = int(found["Uid"].split()[0])
    assert confine.BASE_UID <= uid < confine.BASE_UID + confine.SLOTS
    assert set(found["Uid"].split() + found["Gid"].split()) == {str(uid)}
    assert found["Groups"].split() == []
    assert {found[name] for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")} == {"0" * 16}
    assert (found["NoNewPrivs"], found["Seccomp"]) == ("1", "2")
    limits = Path(f"/proc/{guest.machine.pid}/limits").read_text()
    assert [line.split()[4:6] for line in limits.splitlines() if line.startswith("Max core")] == [["0", "0"]]
    proc = Path(f"/proc/{guest.machine.pid}")
    assert (proc / "environ").read_bytes() == b""
    assert os.readlink(proc / "cwd") == "/"
    for name in ("net", "ipc"):
        assert os.readlink(proc / "ns" / name) != os.readlink(f"/proc/self/ns/{name}")


def test_qemu_gets_only_the_fds_it_is_given(guest: Guest) -> None:
    directory = f"/proc/{guest.machine.pid}/fd"
    targets = [os.readlink(f"{directory}/{name}") for name in os.listdir(directory)]
    files = sorted({t for t in targets if t.startswith("/") and not t.startswith("/memfd:")})
    expected = {"/dev/null", guest.machine.hardware.kernel, guest.machine.hardware.initrd}
    assert {name for name in files if "@slots" not in name} == expected
    assert os.readlink(f"{directory}/0") == "/dev/null"


def test_two_machines_have_two_users(guest: Guest, clone: Clone, hardware: Hardware) -> None:
    other = clone(hardware)
    assert len({status_of(g.machine.pid)["Uid"] for g in (guest, other)}) == 2


def test_users_from_where_the_administrator_says(clone: Clone, hardware: Hardware) -> None:
    """/vm/uidBase"""
    hardware.uid_base = 0x5A000000
    uid = int(status_of(clone(hardware).machine.pid)["Uid"].split()[0])
    assert 0x5A000000 <= uid < 0x5A000000 + confine.SLOTS


def test_stop_ends_a_guest_that_does_not_listen(loop: Loop, clone: Clone, hardware: Hardware) -> None:
    guest = clone(hardware)
    loop.complete(guest.machine.stop())
    assert guest.machine.ended.value == (0, 0)


def test_stop_kills_a_qemu_that_does_not_answer(
    loop: Loop, clone: Clone, hardware: Hardware, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SKERRY_TIMEOUT_DEVICE", "3")
    guest = clone(hardware)
    os.kill(guest.machine.pid, signal.SIGSTOP)
    loop.complete(guest.machine.stop())
    assert guest.machine.ended.value == (137, 9)


def test_a_killed_qemu_is_told_at_once(loop: Loop, clone: Clone, hardware: Hardware) -> None:
    guest = clone(hardware)
    os.kill(guest.machine.pid, signal.SIGKILL)
    while not guest.machine.ended.done:
        loop.turn()
    assert guest.machine.ended.value == (137, 9)
    assert "killed by signal 9" in str(guest.machine.failure("the VM is lost", phase="run"))


def test_a_clone_that_panics_ends(loop: Loop, clone: Clone, hardware: Hardware) -> None:
    """lifecycle 143: it has no kernel to start again."""
    guest = clone(hardware)
    guest.send("echo c > /proc/sysrq-trigger")
    loop.within(guest.machine.ended, 20, "the guest")
    while not guest.machine.ended.done:
        loop.turn()
    assert "Kernel panic" in str(guest.machine.failure("the VM is lost", phase="run"))


def test_a_panic_is_told_with_the_last_words(loop: Loop, files: tuple[str, str]) -> None:
    """lifecycle 143"""
    words = ["rdinit=/nothing", "root=/dev/nothing"]
    booting = loop.complete(machine.boot(loop, Hardware(*files, words=words)))
    try:
        loop.within(booting.ended, 60, "the guest")
        while not booting.ended.done:
            loop.turn()
        error = booting.failure("cannot boot", phase="boot")
        assert error.phase == "boot" and "panic" in "".join(booting.console.tail()), booting.console.tail()
        assert "console:" in str(error) and "\n" not in str(error) and len(str(error)) <= 500
    finally:
        loop.complete(booting.stop())


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"parameters": ["-device", "nonsense"]}, "nonsense"),
        ({"memory_mib": 1 << 30}, "cannot"),
        ({"program": "/nowhere/qemu"}, "/nowhere/qemu"),
        ({"program": "qemu-system-x86_64"}, "not an absolute path"),
        ({"kernel": "/nowhere/vmlinux"}, "/nowhere/vmlinux"),
        ({"kernel": "/dev/zero"}, "not a file"),
    ],
)
def test_what_cannot_start_leaves_nothing(loop: Loop, hardware: Hardware, change: dict, words: str) -> None:
    for name, value in change.items():
        setattr(hardware, name, value)
    with pytest.raises((Error, OSError), match=words):
        loop.complete(machine.boot(loop, hardware))


def test_a_kernel_for_root_alone_is_copied(loop: Loop, files: tuple[str, str], tmp_path: Path) -> None:
    secret = tmp_path / "initrd"
    secret.write_bytes(Path(files[1]).read_bytes())
    secret.chmod(0o600)
    with booted(loop, Hardware(files[0], str(secret))) as guest:
        assert guest.ok("echo here") == "here\n"


def test_security_v55_a_console_without_end(guest: Guest) -> None:
    """security V55: a guest that writes as fast as it can costs nothing but what is kept."""
    before = int(status_of(os.getpid())["VmRSS"].split()[0])
    guest.ok("yes '\x1b[31m hostile' | head -c 500000 > /dev/console")
    assert guest.ok("echo still here") == "still here\n"
    assert int(status_of(os.getpid())["VmRSS"].split()[0]) - before < 16 * 1024
    assert all(line.isprintable() for line in guest.machine.console.tail())
    assert "hostile" in "".join(guest.machine.console.tail())


OWNER = """
import sys
sys.path[:0] = sys.argv[1:3]
from support import guest
from support.vm import Guest
from skerry.rpc.loop import Loop
from skerry.vm import machine
from skerry.vm.hardware import Hardware
loop = Loop()
started = loop.complete(machine.boot(loop, Hardware(*guest.build())))
print(started.pid, flush=True)
loop.run()
"""


def test_qemu_ends_with_its_owner(files: tuple[str, str]) -> None:
    """lifecycle 84: however the owner ends."""
    words = [sys.executable, "-B", "-c", OWNER, TOP / "src", TOP / "tests"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as owner:
        pid = int(owner.stdout.readline())
        pidfd = os.pidfd_open(pid)
        owner.kill()
    try:
        assert select.select([pidfd], [], [], 1.0)[0]
    finally:
        os.close(pidfd)


def test_a_microvm_takes_no_shares(files: tuple[str, str]) -> None:
    with pytest.raises(VmError, match="takes no shares"):
        Hardware(*files, shares=True)
