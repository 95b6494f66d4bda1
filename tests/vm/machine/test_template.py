"""Templates and their clones."""

import fcntl
import hashlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from support import host
from support.vm import Guest

from skerry import disk
from skerry.errors import NotFound
from skerry.log import open_log
from skerry.native import keeper
from skerry.rpc.loop import Loop
from skerry.vm import machine as machines
from skerry.vm import shelf, template
from skerry.vm.hardware import Hardware

TOP = Path(__file__).parents[3]
Clone = Callable[..., Guest]


def memory_hash(found: template.Template) -> str:
    digest = hashlib.sha256()
    for offset in range(0, os.fstat(found.memory_fd).st_size, 1 << 20):
        digest.update(os.pread(found.memory_fd, 1 << 20, offset))
    return digest.hexdigest()


@pytest.mark.parametrize("profile", ["microvm", "q35"])
def test_clones_answer_and_have_their_own_memory(clone: Clone, files: tuple[str, str], profile: str) -> None:
    first, second = (clone(Hardware(*files, profile=profile)) for _ in range(2))
    first.ok("echo one > /mnt/mine")
    assert second.run("cat /mnt/mine")[0] != 0
    assert first.ok("cat /mnt/mine") == "one\n"
    assert first.shut_down() == (0, 0)
    assert second.ok("echo still here") == "still here\n"


def test_a_clone_cannot_change_the_template(clone: Clone, loop: Loop, root: str, hardware: Hardware) -> None:
    guest = clone(hardware)
    found = loop.complete(template.obtain(loop, root, hardware))
    try:
        before = memory_hash(found)
        guest.ok("dd if=/dev/zero of=/mnt/much bs=64k count=1000 2>/dev/null; sync")
        assert memory_hash(found) == before
        # Not even QEMU itself, were it taken over: it has the file open for writing.
        fd = next(
            f"/proc/{guest.machine.pid}/fd/{name}"
            for name in os.listdir(f"/proc/{guest.machine.pid}/fd")
            if "memfd" in os.readlink(f"/proc/{guest.machine.pid}/fd/{name}")
        )
        with open(fd, "r+b") as file, pytest.raises(PermissionError):
            os.pwrite(file.fileno(), b"x", 0)
        assert fcntl.fcntl(found.memory_fd, fcntl.F_GET_SEALS) & 0xF == 0xF
    finally:
        found.close()


def test_ten_clones_at_once(clone: Clone, loop: Loop, hardware: Hardware, root: str) -> None:
    tasks = [loop.spawn(template.start(loop, root, hardware, log=open_log())) for _ in range(10)]
    while not all(task.done for task in tasks):
        loop.turn()
    guests = [Guest(loop, task.result()) for task in tasks]
    try:
        assert all(guest.machine.cloned for guest in guests)
        assert [guest.ok(f"echo {n}") for n, guest in enumerate(guests)] == [f"{n}\n" for n in range(10)]
        assert len({host.status_of(guest.machine.pid)["Uid"] for guest in guests}) == 10
    finally:
        for guest in guests:
            guest.end()


MAKER = """
import sys
sys.path[:0] = sys.argv[1:3]
from support import guest
from skerry.rpc.loop import Loop
from skerry.vm import template, shelf
from skerry.vm.hardware import Hardware
loop = Loop()
hardware = Hardware(*guest.build(), words=sys.argv[4:])
made = []
old = template._make
template._make = lambda *a: made.append(1) or old(*a)
loop.complete(template.obtain(loop, sys.argv[3], hardware)).close()
print(len(made))
"""


def maker(root: str, *words: str) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-B", "-c", MAKER, TOP / "src", TOP / "tests", root, *words], stdout=subprocess.PIPE, text=True
    )


def test_two_at_once_make_one(files: tuple[str, str], tmp_path: Path) -> None:
    makers = [maker(str(tmp_path)) for _ in range(2)]
    assert sorted(process.communicate(timeout=120)[0] for process in makers) == ["0\n", "1\n"]
    rows = template.list_all(str(tmp_path))
    assert [row["alive"] for row in rows] == [True]
    template.destroy(str(tmp_path), rows[0]["key"])
    assert not shelf.is_alive(rows[0])
    with pytest.raises(NotFound):
        template.destroy(str(tmp_path), rows[0]["key"])


def test_a_maker_that_is_killed_leaves_nothing_in_the_way(files: tuple[str, str], tmp_path: Path) -> None:
    killed = maker(str(tmp_path))
    deadline = time.monotonic() + 30
    while not (qemu := [p for p in host.descendants(killed.pid) if host.status_of(p)["Name"].startswith("qemu")]):
        assert time.monotonic() < deadline
    pidfd = os.pidfd_open(qemu[0])
    killed.send_signal(signal.SIGKILL)
    killed.communicate()
    host.wait_exit(qemu[0], 5)
    os.close(pidfd)
    assert maker(str(tmp_path)).communicate(timeout=120)[0] == "1\n"
    for row in template.list_all(str(tmp_path)):
        template.destroy(str(tmp_path), row["key"])


def test_other_hardware_is_another_template(files: tuple[str, str], tmp_path: Path) -> None:
    base = shelf.key_of(Hardware(*files))
    assert base == shelf.key_of(Hardware(*files))
    others = [
        {"memory_mib": 512}, {"vcpus": 2}, {"profile": "q35"}, {"words": ["quiet"]}, {"parameters": ["-name", "x"]},
        {"macs": ["02:00:00:00:00:01"]}, {"accelerator": "kvm"},
    ]  # fmt: skip
    keys = [shelf.key_of(Hardware(*files, **change)) for change in others]
    copy = tmp_path / "initrd"
    copy.write_bytes(b"x")
    keys.append(shelf.key_of(Hardware(files[0], str(copy))))
    copy.write_bytes(b"y")
    os.utime(copy, ns=(1, 1))
    keys.append(shelf.key_of(Hardware(files[0], str(copy))))
    assert len({base, *keys}) == 10


def test_another_user_has_other_templates(files: tuple[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    base = shelf.key_of(Hardware(*files))
    monkeypatch.setattr("posix.geteuid", lambda: 1000)
    assert shelf.key_of(Hardware(*files)) != base


@pytest.mark.parametrize("damage", ["keeper", "state", "facts"])
def test_what_cannot_be_used_is_made_anew_or_booted(
    loop: Loop, files: tuple[str, str], tmp_path: Path, damage: str
) -> None:
    hardware = Hardware(*files)
    root, log_path = str(tmp_path / "root"), tmp_path / "log"
    log = open_log(str(log_path))
    loop.complete(template.obtain(loop, root, hardware)).close()
    place = shelf.Place(root, shelf.key_of(hardware))
    facts = shelf.read(place)
    assert facts is not None
    if damage == "keeper":
        keeper.end(facts["pid"], facts["start"])
    elif damage == "facts":
        keeper.end(facts["pid"], facts["start"])
        Path(place.directory, "facts").write_text("{")
    else:  # a state that QEMU does not take
        memory_fd, old_fd = keeper.fetch(facts["pid"], facts["start"], 2)
        os.close(old_fd)
        state_fd = os.memfd_create("state", os.MFD_ALLOW_SEALING | os.MFD_CLOEXEC)
        os.write(state_fd, b"rubbish" * 1000)
        template.seal(state_fd)
        keeper.end(facts["pid"], facts["start"])
        keeper.keep(
            [(memory_fd, "memory"), (state_fd, "state")],
            lambda pid, start: shelf.write(place, {**facts, "pid": pid, "start": start}),
        )
        os.close(memory_fd)
        os.close(state_fd)
    console_fd = os.open(tmp_path / "console", os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    machine = loop.complete(template.start(loop, root, hardware, log=log, console_log_fd=console_fd))
    guest = Guest(loop, machine)
    try:
        if damage == "state":
            assert not machine.cloned
            assert "its template cannot be used" in log_path.read_text()
            guest.hello()
            guest.ok("echo the console > /dev/console")
            host.eventually(lambda: machine.console.tail() and "the console" in (tmp_path / "console").read_text())
        else:
            assert machine.cloned
        assert guest.ok("echo up") == "up\n"
    finally:
        guest.end()
        log.close()
        for row in template.list_all(root):
            template.destroy(root, row["key"])


def test_without_templates_a_machine_boots(loop: Loop, hardware: Hardware, tmp_path: Path) -> None:
    from skerry.log import SILENT

    machine = loop.complete(template.start(loop, str(tmp_path), hardware, log=SILENT, template=False))
    guest = Guest(loop, machine)
    try:
        assert not machine.cloned and guest.hello()
        assert os.listdir(tmp_path) == []
    finally:
        guest.end()


def test_a_clone_for_shares_has_its_memory_in_a_file_of_its_own(clone: Clone, files: tuple[str, str]) -> None:
    guest = clone(Hardware(*files, profile="q35", shares=True))
    words = Path(f"/proc/{guest.machine.pid}/cmdline").read_bytes()
    assert b"share=on" in words
    assert guest.ok("echo up") == "up\n"


def test_room_is_made_for_one_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shelf, "LIMIT", 2)
    root = str(tmp_path)
    fd = os.open("/dev/null", os.O_RDONLY)
    places = [shelf.Place(root, key) for key in ("a", "b", "c")]
    facts = {**shelf.facts_of(Hardware("/k", "/i")), "memory_mib": 1, "vcpus": 1}
    for number, place in enumerate(places):
        os.close(shelf.open_directory(place))
        shelf.make_room(place)
        keeper.keep([(fd, "x"), (fd, "y")], lambda pid, start, p=place: shelf.write(p, {**facts, "pid": pid, "start": start}))
        os.utime(f"{place.directory}/facts", ns=(number, number))
    os.close(fd)
    assert shelf.keys(root) == ["b", "c"]
    for key in ("b", "c"):
        template.destroy(root, key)


def test_memory_is_copied_without_its_holes() -> None:
    source, target = machines.new_memory(64), machines.new_memory(64)
    os.pwrite(source, b"begin", 0)
    os.pwrite(source, b"end", (64 << 20) - 3)
    os.pwrite(source, b"m" * (3 << 20), 5 << 20)
    disk.copy_sparse(source, target)
    assert os.pread(target, 64 << 20, 0) == os.pread(source, 64 << 20, 0)
    assert os.fstat(target).st_blocks == os.fstat(source).st_blocks
    os.close(source)
    os.close(target)
