"""A hostile neighbour swaps names back and forth while containers start. Counted are the bad outcomes: 0 is the only good
number. SKERRY_ROUNDS starts each; 2000 for a figure to publish."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from support import host
from support.box import Box
from support.spec import add_mount, drop_mount, fresh_spec, shell

ROUNDS = int(os.environ.get("SKERRY_ROUNDS", "12"))

pytestmark = pytest.mark.slow


@pytest.fixture(scope="session")
def racer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    program = tmp_path_factory.mktemp("racer") / "racer"
    source = Path(__file__).parents[1] / "support/racer.c"
    subprocess.run(["gcc", "-static", "-O1", "-Wall", "-Werror", "-o", program, source], check=True)
    return program


@contextmanager
def swapping(racer: Path, one: Path, other: Path) -> Iterator[None]:
    process = subprocess.Popen([racer, one, other])
    try:
        yield
        assert process.poll() is None, "the racer could not swap: nothing was tested"
    finally:
        process.kill()
        process.wait()


def outside(box: Box) -> Path:
    path = box.dir / "outside"
    path.mkdir()
    (path / "marker").write_text("")
    return path


def host_mounts() -> list[tuple[str, str]]:
    return sorted((row["point"], row["kind"]) for row in host.mountinfo())


@pytest.mark.parametrize("place", ["/vol/m", "/vol/m/b/c"])
def test_mount_point_that_becomes_a_link(box: Box, racer: Path, place: str) -> None:
    """V08, V13: a mount, or the directories made for it, never end up on the host."""
    target, volume = outside(box), box.dir / "volume"
    (volume / "m").mkdir(parents=True)
    (volume / "link").symlink_to("../" * 20 + str(target)[1:])
    spec = fresh_spec("true")
    add_mount(spec, "/vol", "bind", volume, "bind")
    add_mount(spec, place, "tmpfs", "tmpfs")
    box.run(spec).ok()
    where = box.bundle(spec)
    before = host_mounts()
    with swapping(racer, volume / "m", volume / "link"):
        for _ in range(ROUNDS):
            box.run(None, bundle=where)
            assert host_mounts() == before
            assert os.listdir(target) == ["marker"]


def test_read_only_path_that_becomes_a_link(box: Box, racer: Path) -> None:
    """V33: whatever the name was when it was looked up is read-only, in one piece."""
    volume = box.dir / "volume"
    for name in ("ro", "other"):
        (volume / name).mkdir(parents=True)
    (volume / "link").symlink_to("other")
    spec = fresh_spec("cat", "/proc/self/mountinfo")
    add_mount(spec, "/vol", "bind", volume, "bind")
    spec["linux"]["readonlyPaths"].append("/vol/ro")
    where = box.bundle(spec)
    with swapping(racer, volume / "ro", volume / "link"):
        for _ in range(ROUNDS):
            rows = [host.mount_line(line) for line in box.run(None, bundle=where).ok().lines]
            below = [row for row in rows if row["point"].startswith("/vol/")]
            assert [row["options"][0] for row in below] == ["ro"]


def test_dev_null_that_becomes_a_link(box: Box, racer: Path) -> None:
    """V14: what masks is the null device, whatever the container's /dev/null is at that moment."""
    devices = box.dir / "dev"
    devices.mkdir()
    os.mknod(devices / "null", 0o020666, os.makedev(1, 3))
    (devices / "link").symlink_to("/proc/sys/kernel/domainname")
    spec = shell("stat -c '%t:%T' /proc/keys")
    drop_mount(spec, "/dev", "/dev/pts", "/dev/shm", "/dev/mqueue")
    add_mount(spec, "/dev", "bind", devices, "bind")
    where = box.bundle(spec)
    with swapping(racer, devices / "null", devices / "link"):
        for _ in range(ROUNDS):
            result = box.run(None, bundle=where)
            assert result.code != 0 or result.out == "1:3\n", result


def test_dev_that_becomes_a_link(box: Box, racer: Path) -> None:
    """V17, V26: device nodes and links are made below the root."""
    target = outside(box)
    spec = fresh_spec("true")
    spec["root"]["readonly"] = False
    drop_mount(spec, "/dev", "/dev/pts", "/dev/shm", "/dev/mqueue")
    where = box.bundle(spec)
    box.run(None, bundle=where).ok()
    (where / "rootfs/link").symlink_to("../" * 20 + str(target)[1:])
    with swapping(racer, where / "rootfs/dev", where / "rootfs/link"):
        for _ in range(ROUNDS):
            box.run(None, bundle=where)
            assert os.listdir(target) == ["marker"]


@pytest.mark.skerry_only("V06: who shares the root directory can move what is mounted in it; the masks go along")
@pytest.mark.parametrize("kind", ["link", "directory"])
def test_proc_that_is_moved(box: Box, racer: Path, kind: str) -> None:
    """V06: whatever happens to its name, the procfs of the container has all its masks and its read-only paths."""
    spec = fresh_spec("probe", "park")
    spec["root"]["readonly"] = False
    where = box.bundle(spec)
    first = box.start(None, bundle=where)
    expected = below_proc(first.pid)
    assert expected["keys"] == "mask"
    assert expected["sys"] == "ro"
    if kind == "link":
        (where / "rootfs/fake").symlink_to("vol")
    else:
        (where / "rootfs/fake").mkdir()
    with swapping(racer, where / "rootfs/proc", where / "rootfs/fake"):
        for _ in range(ROUNDS):
            created = box.try_create(None, bundle=where)
            if created.code == 0:
                pid = int((where / "pid").read_text())
                assert below_proc(pid) == expected
                box.runtime.call("delete", "--force", box.ids[-1]).ok()


def below_proc(pid: int) -> dict[str, str]:
    """What lies on the procfs of a process: path in it -> `ro` or `rw`, or `mask`.

    Its mount point may have another name from line to line.
    """
    rows = host.mountinfo(pid)
    proc = next(row for row in rows if row["kind"] == "proc" and row["root"] == "/")
    below = [row for row in rows if row["parent"] == proc["id"]]
    return {row["point"].split("/", 2)[2]: row["options"][0] if row["kind"] == "proc" else "mask" for row in below}
