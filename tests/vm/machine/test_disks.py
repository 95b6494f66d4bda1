"""Images and scratches, in and out of a running guest."""

import fcntl
import hashlib
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support.vm import Guest, disk_file

from skerry.errors import EngineError, Error, InitError, KernelError, VmError
from skerry.rpc.loop import Loop
from skerry.vm import disks
from skerry.vm.hardware import Hardware

Clone = Callable[..., Guest]
SMALL = 1 << 26


@pytest.fixture
def guest(clone: Clone, hardware: Hardware) -> Guest:
    """A machine of the test's own."""
    return clone(hardware)


@pytest.fixture
def directory(tmp_path: Path) -> str:
    return str(tmp_path / "disks")


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A layer with everything that must survive."""
    tree = tmp_path / "tree"
    (tree / "sub").mkdir(parents=True)
    (tree / "file").write_text("content")
    os.chown(tree / "file", 1234, 567)
    (tree / "file").chmod(0o4751)
    os.utime(tree / "file", ns=(1_000_000_000, 1_500_000_000_000_000_000))
    os.link(tree / "file", tree / "sub/hard")
    os.symlink("/etc/hostname", tree / "link")
    os.mkfifo(tree / "fifo")
    os.mknod(tree / "whiteout", 0o020000, os.makedev(0, 0))
    os.mkdir(tree / "opaque")
    os.setxattr(tree / "opaque", "trusted.overlay.opaque", b"y")
    os.setxattr(tree / "file", "security.capability", bytes.fromhex("0100000202000000000000000000000000000000"))
    os.chmod(tree / "sub", 0o700)
    return tree


class Attached:
    """Attach disks, and wait in the guest until they are there."""

    def __init__(self, guest: Guest) -> None:
        self.guest, self.machine = guest, guest.machine

    def __call__(self, fd: int, *, read_only: bool) -> tuple[str, str]:
        """(address, device in the guest). Closes the fd."""
        try:
            address = self.machine.attach_disk(fd, read_only=read_only)
        finally:
            os.close(fd)
        path = f"/sys/class/scsi_device/0:0:{address}/device/block"
        self.guest.until(f"test -d {path}")
        name = self.guest.ok(f"ls {path}").strip()
        self.guest.until(f"test -b /dev/{name}")
        return address, f"/dev/{name}"


@pytest.fixture
def attach(guest: Guest) -> Iterator[Attached]:
    yield Attached(guest)


def test_an_image_has_everything(loop: Loop, guest: Guest, attach: Attached, tree: Path, directory: str) -> None:
    fd = loop.complete(disks.image_of(loop, str(tree), directory=directory))
    _, device = attach(fd, read_only=True)
    guest.ok(f"mount -t erofs -o ro {device} /mnt")
    assert guest.ok("cat /mnt/file") == "content"
    shown = guest.ok("stat -c '%a %u %g %Y %h %s' /mnt/file")
    assert shown == "4751 1234 567 1500000000 2 7\n"
    assert guest.ok("readlink /mnt/link") == "/etc/hostname\n"
    assert guest.ok("stat -c '%F %t %T' /mnt/whiteout") == "character special file 0 0\n"
    assert guest.ok("stat -c '%F' /mnt/fifo") == "fifo\n"
    assert guest.ok("stat -c '%a' /mnt/sub") == "700\n"
    # what an overlay makes of it: the whiteout hides, the opaque directory too
    guest.ok("mkdir -p /low/opaque /up; touch /low/whiteout /low/opaque/old /low/shown; mkdir /all")
    guest.ok("mount -t overlay -o ro,lowerdir=/mnt:/low overlay /all")
    assert guest.ok("ls /all/opaque") == ""
    assert "whiteout" not in guest.ok("ls /all") and "shown" in guest.ok("ls /all")


def test_security_v43_a_guest_cannot_write_to_an_image(
    loop: Loop, guest: Guest, attach: Attached, tree: Path, directory: str
) -> None:
    """security V42, V43: QEMU enforces it, and its fd, too."""
    fd = loop.complete(disks.image_of(loop, str(tree), directory=directory))
    copy = os.dup(fd)
    before = hashlib.sha256(os.pread(copy, 1 << 24, 0)).digest()
    _, device = attach(fd, read_only=True)
    write = f"dd if=/dev/zero of={device} bs=4k count=1 conv=fsync"
    assert guest.run(write)[0] != 0
    guest.run(f"blockdev --setrw {device}")  # what root of the guest can say to its own kernel
    assert guest.run(write)[0] != 0
    nodes = guest.machine.qmp.execute("query-named-block-nodes")
    assert nodes and all(node["ro"] for node in nodes)
    assert hashlib.sha256(os.pread(copy, 1 << 24, 0)).digest() == before
    assert fcntl.fcntl(copy, fcntl.F_GETFL) & 0o3 == os.O_RDONLY
    os.close(copy)


def test_a_scratch_takes_what_is_written(loop: Loop, guest: Guest, attach: Attached, directory: str) -> None:
    for _ in range(2):  # formatted, then copied
        fd = loop.complete(disks.scratch(loop, SMALL, directory=directory))
        keep = os.dup(fd)
        address, device = attach(fd, read_only=False)
        guest.ok(f"mount -t ext4 {device} /mnt; echo hello > /mnt/file; umount /mnt; sync")
        loop.complete(guest.machine.detach_disk(address))
        assert os.fstat(keep).st_nlink == 0
        done = subprocess.run(
            ["/usr/sbin/debugfs", "-R", "cat /file", f"/proc/self/fd/{keep}"], pass_fds=[keep], capture_output=True, check=True
        )
        assert done.stdout == b"hello\n"
        os.close(keep)
    assert os.listdir(directory) == [f"empty-{SMALL}.ext4"]


def test_fifty_times_in_and_out(loop: Loop, guest: Guest, tmp_path: Path) -> None:
    fds = len(os.listdir(f"/proc/{guest.machine.pid}/fd"))
    slowest = 0.0
    for _ in range(50):
        fd = disk_file(tmp_path / "disk", SMALL)
        begun = time.monotonic()
        address = guest.machine.attach_disk(fd, read_only=False)
        slowest = max(slowest, time.monotonic() - begun)
        os.close(fd)
        assert address == "0:0"
        loop.complete(guest.machine.detach_disk(address))
    assert slowest < 1, "attaching waits for something"
    assert len(os.listdir(f"/proc/{guest.machine.pid}/fd")) <= fds + 1
    guest.until("test -z \"$(ls /sys/class/scsi_device)\"")


def test_lifecycle_127(loop: Loop, guest: Guest, tmp_path: Path) -> None:
    """A disk used by several containers is attached once and detached with its last user."""
    fd = disk_file(tmp_path / "disk", SMALL)
    attach = guest.machine.attach_disk
    first, second = attach(fd, read_only=False), attach(fd, read_only=False)
    assert first == second
    with pytest.raises(VmError, match="not open for reading only"):
        attach(fd, read_only=True)
    reader = os.open(tmp_path / "disk", os.O_RDONLY)
    with pytest.raises(VmError, match="both read-only and writable"):
        attach(reader, read_only=True)
    guest.until("ls /sys/class/scsi_device/0:0:0:0")
    loop.complete(guest.machine.detach_disk(first))
    guest.ok("ls /sys/class/scsi_device/0:0:0:0")
    loop.complete(guest.machine.detach_disk(second))
    guest.until("! ls /sys/class/scsi_device/0:0:0:0")
    with pytest.raises(VmError, match="there is none"):
        loop.complete(guest.machine.detach_disk(first))
    os.close(fd)
    os.close(reader)


def test_many_disks_at_once(guest: Guest, tmp_path: Path) -> None:
    for number in range(20):
        fd = disk_file(tmp_path / str(number), SMALL)
        assert guest.machine.attach_disk(fd, read_only=False) == f"{number}:0"
        os.close(fd)
    guest.until("test $(ls /sys/class/scsi_device | wc -l) = 20")


@pytest.mark.parametrize("kind", ["directory", "pipe", "null", "writable"])
def test_security_v49_only_disks_and_files(guest: Guest, tmp_path: Path, kind: str) -> None:
    """security V49"""
    if kind == "pipe":
        fd, other = os.pipe()
        os.close(other)
    else:
        path = {"directory": tmp_path, "null": "/dev/null", "writable": tmp_path / "file"}[kind]
        (tmp_path / "file").write_text("x")
        fd = os.open(path, os.O_RDWR if kind == "writable" else os.O_RDONLY)
    with pytest.raises(VmError, match="cannot attach a disk"):
        guest.machine.attach_disk(fd, read_only=True)
    os.close(fd)
    assert guest.ok("ls /sys/class/scsi_device") == ""


def test_no_link_of_a_layer_is_followed(loop: Loop, tmp_path: Path, directory: str) -> None:
    tree, outside = tmp_path / "tree", tmp_path / "outside"
    tree.mkdir()
    outside.mkdir()
    (outside / "secret").write_text("top secret text")
    os.symlink(outside, tree / "link")
    os.symlink(outside, tmp_path / "linked-tree")
    fd = loop.complete(disks.image_of(loop, str(tree), directory=directory))
    assert b"top secret text" not in os.pread(fd, 1 << 24, 0)
    os.close(fd)


def test_an_image_leaves_the_directory_alone(loop: Loop, tree: Path, directory: str) -> None:
    """security V24"""
    before = [(p, os.lstat(p)) for p in sorted(tree.rglob("*"))]
    os.close(loop.complete(disks.image_of(loop, str(tree), directory=directory)))
    after = [(p, os.lstat(p)) for p in sorted(tree.rglob("*"))]
    assert [(p, s.st_mtime_ns, s.st_ctime_ns) for p, s in before] == [(p, s.st_mtime_ns, s.st_ctime_ns) for p, s in after]
    assert os.listdir(directory) == []


def test_what_cannot_be_made_is_told(
    loop: Loop, tmp_path: Path, directory: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(InitError, match="there is none"):
        loop.complete(disks.image_of(loop, str(tmp_path / "nothing"), directory=directory))
    monkeypatch.setattr(disks, "EROFS_PROGRAMS", ("/bin/false",))
    with pytest.raises(EngineError, match="cannot run false: no word"):
        loop.complete(disks.image_of(loop, str(tmp_path), directory=directory))
    monkeypatch.setattr(disks, "EROFS_PROGRAMS", ("/nowhere/mkfs.erofs",))
    with pytest.raises(VmError, match="install erofs-utils"):
        loop.complete(disks.image_of(loop, str(tmp_path), directory=directory))
    monkeypatch.setenv("SKERRY_TIMEOUT_COMMAND", "1")
    slow = tmp_path / "slow"
    slow.write_text("#!/bin/sh\nexec sleep 60\n")
    slow.chmod(0o755)
    monkeypatch.setattr(disks, "EROFS_PROGRAMS", (str(slow),))
    with pytest.raises(EngineError, match="no end after 1 s"):
        loop.complete(disks.image_of(loop, str(tmp_path), directory=directory))


def test_a_disk_of_another_machine_is_refused(tmp_path: Path) -> None:
    disk_path = tmp_path / "disk"
    os.close(disk_file(disk_path, SMALL))
    first = disks.open_disk(str(disk_path), read_only=False)
    for read_only in (False, True):
        with pytest.raises(KernelError, match="another machine uses it"):
            disks.open_disk(str(disk_path), read_only=read_only)
    os.close(first)
    readers = [disks.open_disk(str(disk_path), read_only=True) for _ in range(2)]
    with pytest.raises(KernelError, match="another machine uses it"):
        disks.open_disk(str(disk_path), read_only=False)
    for fd in readers:
        os.close(fd)
    with pytest.raises(EngineError, match="neither a disk nor a file"):
        disks.open_disk("/dev/null", read_only=True)


def test_the_directory_must_be_ours(loop: Loop, tmp_path: Path) -> None:
    directory = tmp_path / "open"
    directory.mkdir()
    directory.chmod(0o777)
    with pytest.raises(Error, match="others may write there"):
        loop.complete(disks.scratch(loop, SMALL, directory=str(directory)))
