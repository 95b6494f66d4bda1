"""create-scratch and prepare-disk: disks that are whole or not there (lifecycle L)."""

import fcntl
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from support import host
from support.runtime import Result, Runtime

BINARY = Path(__file__).resolve().parents[2] / "bin/skerry"
GB = 1 << 30
LOOP_CTL_GET_FREE, LOOP_SET_FD, LOOP_CLR_FD = 0x4C82, 0x4C00, 0x4C01

pytestmark = [
    pytest.mark.skipif(not BINARY.exists(), reason=f"no runtime at {BINARY}: make"),
    pytest.mark.skipif(not os.path.exists("/usr/sbin/mkfs.ext4"), reason="needs e2fsprogs"),
]


@pytest.fixture
def skerry(tmp_path: Path) -> Runtime:
    return Runtime(str(BINARY), tmp_path / "root", Path("/bin/true"))


def scratch(skerry: Runtime, where: object, *words: object, **how: object) -> Result:
    return skerry.call("create-scratch", "--destpath", where, *words, **how)  # type: ignore[arg-type]


def names(directory: Path) -> list[str]:
    return sorted(os.listdir(directory))


def header(path: Path) -> dict[str, str]:
    """Read what dumpe2fs says of a file system."""
    text = subprocess.run(["/usr/sbin/dumpe2fs", "-h", path], capture_output=True, text=True, check=True).stdout
    return host.fields(text)


def insist_on_ext4(path: Path, size: int) -> None:
    found = header(path)
    assert int(found["Block count"]) * int(found["Block size"]) == size
    assert "has_journal" not in found["Filesystem features"].split()
    assert "extent" in found["Filesystem features"].split()
    subprocess.run(["/usr/sbin/e2fsck", "-fn", path], capture_output=True, check=True)


class Loop:
    """A loop device that shows a file."""

    def __init__(self, path: Path) -> None:
        control = os.open("/dev/loop-control", os.O_RDWR)
        number = fcntl.ioctl(control, LOOP_CTL_GET_FREE)
        os.close(control)
        self.path = Path(f"/dev/loop{number}")
        self.fd = os.open(self.path, os.O_RDWR)
        backing = os.open(path, os.O_RDWR)
        fcntl.ioctl(self.fd, LOOP_SET_FD, backing)
        os.close(backing)

    def close(self) -> None:
        fcntl.ioctl(self.fd, LOOP_CLR_FD)
        os.close(self.fd)


@pytest.fixture
def loop(tmp_path: Path) -> Iterator[Loop]:
    if os.geteuid() or not os.path.exists("/dev/loop-control"):
        pytest.skip("needs root and loop devices")
    with open(tmp_path / "backing", "w+b") as file:
        file.truncate(64 << 20)
    loop = Loop(tmp_path / "backing")
    yield loop
    loop.close()


@pytest.mark.parametrize(("words", "gb"), [((), 20), (("--sizeGB", "0"), 20), (("--sizeGB=3",), 3)])
def test_size(skerry: Runtime, tmp_path: Path, words: tuple[str, ...], gb: int) -> None:
    """lifecycle 122, 123: sparse, of the asked size, ext4 without journal."""
    result = scratch(skerry, tmp_path / "disk", *words, "--use-virtual-memory").ok()
    assert (result.out, result.err) == ("", "")
    status = os.stat(tmp_path / "disk")
    assert status.st_size == gb * GB
    assert status.st_blocks * 512 < 32 << 20
    assert status.st_mode & 0o777 == 0o600
    insist_on_ext4(tmp_path / "disk", gb * GB)


def test_it_can_be_mounted(skerry: Runtime, tmp_path: Path) -> None:
    """lifecycle 123."""
    if os.geteuid() or not os.path.exists("/dev/loop-control"):
        pytest.skip("needs root and loop devices")
    scratch(skerry, tmp_path / "disk", "--sizeGB", 1).ok()
    (tmp_path / "there").mkdir()
    loop = Loop(tmp_path / "disk")
    try:
        script = f"mount -t ext4 {loop.path} {tmp_path}/there && touch {tmp_path}/there/x && umount {tmp_path}/there"
        subprocess.run(["unshare", "--mount", "sh", "-c", script], check=True, timeout=20)
    finally:
        loop.close()


@pytest.mark.parametrize(
    ("words", "text"),
    [
        ((), "'destpath' is required"),
        (("--destpath", ""), "'destpath' is required"),
        (("--destpath", "x", "--sizeGB", "-1"), "sizeGB must be >= 0"),
        (("--destpath", "x", "--sizeGB", "many"), 'invalid sizeGB "many"'),
        (("--destpath", "."), "EEXIST"),
        (("--destpath", "missing/x"), "ENOENT"),
        (("--destpath", "x", "--sizeGB", "999999999"), "EFBIG"),
        (("x",), '"create-scratch" requires exactly 0 argument(s)'),
    ],
)
def test_refusals(skerry: Runtime, tmp_path: Path, words: tuple[str, ...], text: str) -> None:
    """lifecycle 122, 123: and no file is left."""
    (here := tmp_path / "here").mkdir()
    skerry.call("create-scratch", *words, cwd=here).failed().says(text)
    assert names(here) == []


def test_an_existing_file_is_left_alone(skerry: Runtime, tmp_path: Path) -> None:
    """lifecycle 123."""
    (tmp_path / "disk").write_text("mine")
    scratch(skerry, tmp_path / "disk").failed().says("EEXIST")
    assert (tmp_path / "disk").read_text() == "mine"


def test_cache_is_filled_and_used(skerry: Runtime, tmp_path: Path) -> None:
    """lifecycle 124: the second disk is the first one, byte for byte: its UUID tells that it was not formatted."""
    cache = tmp_path / "cache"
    for name in ("one", "two"):
        scratch(skerry, tmp_path / name, "--cache-path", cache).ok()
    uuids = {header(tmp_path / name)["Filesystem UUID"] for name in ("one", "two", "cache")}
    assert len(uuids) == 1
    insist_on_ext4(tmp_path / "two", 20 * GB)
    assert os.stat(tmp_path / "two").st_blocks * 512 < 32 << 20
    assert names(tmp_path) == ["cache", "one", "two"]


def test_another_size_ignores_the_cache(skerry: Runtime, tmp_path: Path) -> None:
    """lifecycle 124."""
    scratch(skerry, tmp_path / "disk", "--sizeGB", 1, "--cache-path", tmp_path / "cache").ok()
    assert names(tmp_path) == ["disk"]
    (tmp_path / "cache").write_text("no disk")
    scratch(skerry, tmp_path / "other", "--sizeGB", 1, "--cache-path", tmp_path / "cache").ok()
    insist_on_ext4(tmp_path / "other", GB)


def test_what_is_no_cache_is_not_copied(skerry: Runtime, tmp_path: Path) -> None:
    """lifecycle 123, 124: one that somebody wrote half of, for example."""
    (tmp_path / "cache").write_bytes(b"half")
    scratch(skerry, tmp_path / "disk", "--cache-path", tmp_path / "cache").failed().says("is not a disk of 20 GB")
    assert names(tmp_path) == ["cache"]


def test_a_cache_is_never_half_there(skerry: Runtime, tmp_path: Path) -> None:
    """lifecycle 124: several fill it at once, and whoever finds it finds it whole."""
    cache = tmp_path / "cache"
    several = [skerry.spawn("create-scratch", "--destpath", tmp_path / str(n), "--cache-path", cache) for n in range(6)]
    for running in several:
        running.finish().ok()
    for n in range(6):
        insist_on_ext4(tmp_path / str(n), 20 * GB)
    insist_on_ext4(cache, 20 * GB)
    assert names(tmp_path) == sorted(["cache", *map(str, range(6))])


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_leaves_no_file(skerry: Runtime, tmp_path: Path, number: int) -> None:
    """lifecycle 123, 126: whenever it comes."""
    for step in range(8):
        running = skerry.spawn("create-scratch", "--destpath", tmp_path / "disk")
        try:
            host.wait_exit(running.pid, 0.005 * step)
        except TimeoutError:
            running.signal(number)
        code = running.finish().code
        assert names(tmp_path) == (["disk"] if code == 0 else []), step
        (tmp_path / "disk").unlink(missing_ok=True)


# --- prepare-disk

def prepare(skerry: Runtime, where: object, **how: object) -> Result:
    return skerry.call("prepare-disk", "--destpath", where, **how)  # type: ignore[arg-type]


def test_image_file(skerry: Runtime, tmp_path: Path) -> None:
    """lifecycle 125: its size stays, what was on it goes."""
    with open(tmp_path / "disk", "w+b") as file:
        file.truncate(64 << 20)
        file.write(b"old" * 1000)
    prepare(skerry, "disk", cwd=tmp_path).ok()
    insist_on_ext4(tmp_path / "disk", 64 << 20)


def test_disk(skerry: Runtime, loop: Loop) -> None:
    """lifecycle 125."""
    prepare(skerry, loop.path).ok()
    insist_on_ext4(loop.path, 64 << 20)


def test_bad_disks(skerry: Runtime, tmp_path: Path) -> None:
    """lifecycle 125."""
    skerry.call("prepare-disk").failed().says("'destpath' is required")
    prepare(skerry, tmp_path / "missing").failed().says("ENOENT")
    prepare(skerry, tmp_path).failed().says("EISDIR")
    prepare(skerry, "/dev/null").failed().says("neither a disk nor a file")
    assert names(tmp_path) == []


def test_image_that_a_loop_device_shows(skerry: Runtime, loop: Loop, tmp_path: Path) -> None:
    """lifecycle 125: untouched."""
    prepare(skerry, tmp_path / "backing").failed().says(f"{loop.path} shows it")
    assert (tmp_path / "backing").read_bytes() == bytes(64 << 20)


def test_image_that_is_locked(skerry: Runtime, tmp_path: Path) -> None:
    """lifecycle 125: as QEMU does it."""
    with open(tmp_path / "disk", "w+b") as file:
        file.truncate(1 << 20)
        fcntl.lockf(file, fcntl.LOCK_EX)
        prepare(skerry, tmp_path / "disk").failed().says("cannot lock")
        assert (tmp_path / "disk").read_bytes() == bytes(1 << 20)


def test_disk_in_use(skerry: Runtime, loop: Loop, tmp_path: Path) -> None:
    """lifecycle 125: mounted, in any mount namespace, or held by somebody."""
    fd = os.open(loop.path, os.O_RDWR | os.O_EXCL)
    prepare(skerry, loop.path).failed().says("EBUSY")
    os.close(fd)
    prepare(skerry, loop.path).ok()
    (there := tmp_path / "there").mkdir()
    before = header(loop.path)["Filesystem UUID"]
    line = ["unshare", "--mount", "sh", "-c", f"mount {loop.path} {there} && echo up && cat"]
    with subprocess.Popen(line, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as mounted:
        assert mounted.stdout is not None and mounted.stdout.readline() == b"up\n"
        prepare(skerry, loop.path).failed().says("EBUSY")
        mounted.communicate(b"", timeout=20)
    assert header(loop.path)["Filesystem UUID"] == before


def test_format_that_fails(skerry: Runtime, tmp_path: Path) -> None:
    """lifecycle 123, 125: mkfs's own word."""
    (tmp_path / "disk").write_bytes(bytes(100))
    prepare(skerry, tmp_path / "disk").failed().says("cannot format a disk: ")
