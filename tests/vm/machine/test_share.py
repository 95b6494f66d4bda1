"""Directories of the host in a guest."""

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support import host
from support.vm import Guest

from skerry.errors import VmError
from skerry.rpc.loop import Loop
from skerry.vm.hardware import Hardware
from skerry.vm.share import PROGRAMS, Share

Clone = Callable[..., Guest]
pytestmark = pytest.mark.skipif(not any(map(os.path.exists, PROGRAMS)), reason="no virtiofsd (package qemu-system-common)")


@pytest.fixture
def guest(clone: Clone, files: tuple[str, str]) -> Guest:
    return clone(Hardware(*files, profile="q35", shares=True))


@pytest.fixture
def volume(tmp_path: Path) -> Path:
    """A directory with something in it."""
    volume = tmp_path / "volume"
    volume.mkdir()
    (volume / "file").write_text("of the host")
    return volume


@pytest.fixture
def serve(loop: Loop, guest: Guest, tmp_path: Path) -> Iterator[Callable[..., Share]]:
    started: list[Share] = []

    def start(source: Path, tag: str = "share1", *, read_only: bool = False, file: bool = False) -> Share:
        share = Share(loop, guest.machine, tag)
        started.append(share)
        share.start(str(source), read_only=read_only, directory=str(tmp_path), file=file)
        guest.until(f"mkdir -p /mnt/{tag} && mount -t virtiofs {tag} /mnt/{tag}")
        return share

    yield start
    for share in started:
        share.close()


def test_both_sides_see_what_the_other_writes(loop: Loop, guest: Guest, serve: Callable[..., Share], volume: Path) -> None:
    share = serve(volume)
    assert guest.ok("cat /mnt/share1/file") == "of the host"
    guest.ok("echo of the guest > /mnt/share1/new; chown 12:34 /mnt/share1/new; chmod 751 /mnt/share1/new")
    assert (volume / "new").read_text() == "of the guest\n"
    status = os.stat(volume / "new")
    assert (status.st_uid, status.st_gid, status.st_mode & 0o7777) == (12, 34, 0o751)
    guest.ok("umount /mnt/share1")
    loop.complete(share.stop())
    assert share.ended.value == (0, 0)
    assert sorted(os.listdir(volume.parent)) == ["volume"]


def test_security_v47_read_only_is_the_hosts_word(guest: Guest, serve: Callable[..., Share], volume: Path) -> None:
    """security V47: whatever root of the guest says to its own kernel."""
    share = serve(volume, read_only=True)
    for command in ("echo x > /mnt/share1/file", "touch /mnt/share1/new", "rm /mnt/share1/file"):
        guest.run("mount -o remount,rw /mnt/share1")
        code, said = guest.run(command)
        assert code != 0 and "Read-only file system" in said
    assert (volume / "file").read_text() == "of the host" and os.listdir(volume) == ["file"]
    served = [
        line for pid in (share.pid, *host.descendants(share.pid))
        for line in Path(f"/proc/{pid}/mountinfo").read_text().splitlines() if line.split()[3].endswith("/volume")
    ]  # fmt: skip
    assert served and all("ro" in line.split()[5].split(",") for line in served)


def test_security_v48_virtiofsd_is_confined(guest: Guest, serve: Callable[..., Share], volume: Path) -> None:
    """security V48"""
    share = serve(volume)
    (worker,) = host.descendants(share.pid)
    found = host.status_of(worker)
    assert (found["NoNewPrivs"], found["Seccomp"]) == ("1", "2")
    serves = sum(1 << number for number in (0, 1, 3, 4, 6, 7, 27, 31))
    assert int(found["CapEff"], 16) & ~serves == 0 and int(found["CapPrm"], 16) & ~serves == 0
    ours, its = host.namespaces_of("self"), host.namespaces_of(worker)
    assert all(ours[name] != its[name] for name in ("mnt", "net", "pid"))
    assert os.readlink(f"/proc/{worker}/root") == "/"
    assert os.stat(f"/proc/{worker}/root").st_ino == os.stat(volume).st_ino


def test_security_v44_v45_no_link_leads_out(guest: Guest, serve: Callable[..., Share], volume: Path, tmp_path: Path) -> None:
    """security V44, V45"""
    outside = tmp_path / "outside"
    outside.mkdir()
    serve(volume)
    guest.ok(f"ln -s {outside} /mnt/share1/link; ln -s / /mnt/share1/root")
    assert guest.run("touch /mnt/share1/link/planted")[0] != 0
    assert os.listdir(outside) == []
    assert os.readlink(volume / "root") == "/"
    guest.ok("mkdir /mnt/share1/a")
    assert guest.run("ls /mnt/share1/root/volume")[0] != 0


def test_a_single_file(guest: Guest, serve: Callable[..., Share], volume: Path) -> None:
    (volume / "secret").write_text("of nobody else")
    serve(volume / "file", file=True)
    assert guest.ok("ls /mnt/share1") == "file\n"
    guest.ok("echo changed > /mnt/share1/file")
    assert (volume / "file").read_text() == "changed\n"
    assert guest.run("touch /mnt/share1/new")[0] != 0


def test_a_single_file_read_only(guest: Guest, serve: Callable[..., Share], volume: Path) -> None:
    serve(volume / "file", file=True, read_only=True)
    code, said = guest.run("echo changed > /mnt/share1/file")
    assert code != 0 and "Read-only" in said
    assert (volume / "file").read_text() == "of the host"


def test_several_at_once(guest: Guest, serve: Callable[..., Share], tmp_path: Path) -> None:
    for number in range(5):
        directory = tmp_path / f"v{number}"
        directory.mkdir()
        (directory / "name").write_text(str(number))
        serve(directory, f"share{number}")
    assert guest.ok("cat /mnt/share?/name") == "01234"


def test_virtiofsd_ends_with_qemu(guest: Guest, serve: Callable[..., Share], volume: Path, loop: Loop) -> None:
    share = serve(volume)
    guest.machine.kill()
    deadline = time.monotonic() + 5
    loop.call_later(5, lambda: None)
    while not share.ended.done:
        loop.turn()
        assert time.monotonic() < deadline


def test_the_worker_ends_with_virtiofsd(guest: Guest, serve: Callable[..., Share], volume: Path) -> None:
    """What our death does to the process that we started goes on to the one that serves."""
    share = serve(volume)
    (worker,) = host.descendants(share.pid)
    os.kill(share.pid, 9)
    host.wait_exit(worker, 5)


def test_what_cannot_be_shared_leaves_nothing(
    loop: Loop, guest: Guest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    share = Share(loop, guest.machine, "share1")
    with pytest.raises(VmError, match="there is none"):
        share.start("/nowhere", read_only=True, directory=str(tmp_path))
    monkeypatch.setattr("skerry.vm.share.PROGRAMS", ("/nowhere/virtiofsd",))
    with pytest.raises(VmError, match="/nowhere/virtiofsd .*install virtiofsd"):
        share.start("/", read_only=True, directory=str(tmp_path))
    assert os.listdir(tmp_path) == []
    assert host.descendants(os.getpid()).count(guest.machine.pid) == 1


def test_a_machine_that_was_not_started_for_shares_refuses(clone: Clone, files: tuple[str, str], loop: Loop, tmp_path: Path) -> None:
    guest = clone(Hardware(*files, profile="q35"))
    share = Share(loop, guest.machine, "share1")
    with pytest.raises(VmError, match="started for none"):
        share.start(str(tmp_path), read_only=True, directory=str(tmp_path))
