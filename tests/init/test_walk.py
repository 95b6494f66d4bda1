"""WALK: a path below a root, made where it is missing, never left."""

import ctypes
import errno
import os
import signal
import stat

import pytest
from assembler import Plan, Reg

from skerry.plan import ops

O_PATH = 0o10000000
D, F, P, E, N = ops.WALK_DIRECTORY, ops.WALK_FILE, ops.WALK_PARENT, ops.WALK_EXISTING, ops.WALK_NOFOLLOW
STARTS = 40  # of the raced form; the long form is of the OCI suite


class Place:
    """A root, what is outside of it, and a marker there that must not change."""

    def __init__(self, folder, perform, start) -> None:
        self.root = folder / "root"
        self.outside = folder / "outside"
        self.perform, self.start = perform, start
        self.root.mkdir()
        self.outside.mkdir()
        (self.outside / "marker").write_text("untouched")

    def plan(self, path: str, flags: int, mode: int = 0o750, proc: bool = False) -> Plan:
        plan = Plan()
        if proc:
            plan.mount("proc", str(self.root / "proc"))
        root, found = plan.register(), plan.register()
        plan.call("umask", 0)
        plan.call("openat", -100, plan.blob(str(self.root)), O_PATH, 0, to=root)
        plan.op("WALK", root, plan.blob(path), flags, mode, to=found)
        return plan

    def walk(self, path: str, flags: int, mode: int = 0o750, proc: bool = False) -> str | int:
        """Walk: where the fd leads, as a path below the root, or the errno."""
        plan = self.plan(path, flags, mode, proc)
        plan.op("SEND", ops.FD, 0, Reg(plan.registers - 1))
        run = self.start(plan)
        record, fds = run.record_with_fds()
        run.wait()
        if record.kind == ops.FAILED:
            assert not fds
            return record.errno
        (fd,) = fds
        try:
            with open(f"/proc/self/fdinfo/{fd}") as info:
                opened = int(info.read().split("flags:")[1].split()[0], 8)
            assert opened & O_PATH
            where = os.readlink(f"/proc/self/fd/{fd}")
        finally:
            os.close(fd)
        assert where == str(self.root) or where.startswith(f"{self.root}/")
        return where[len(str(self.root)) :] or "/"

    def check_outside(self) -> None:
        assert sorted(path.name for path in self.outside.rglob("*")) == ["marker"]
        assert (self.outside / "marker").read_text() == "untouched"

    def mode(self, path: str) -> int:
        return stat.S_IMODE((self.root / path).lstat().st_mode)


@pytest.fixture
def place(tmp_path, perform, start):
    made = Place(tmp_path, perform, start)
    yield made
    made.check_outside()


# what is there


@pytest.mark.parametrize(
    ("path", "flags", "expected"),
    [
        ("dir", D, "/dir"),
        ("/dir", D | E, "/dir"),
        ("dir/", P, "/dir"),
        ("//dir//.//", D, "/dir"),
        ("", D, "/"),
        ("/", P | E, "/"),
        (".", D, "/"),
        ("..", D, "/"),
        ("../../../dir", D, "/dir"),
        ("dir/../file", F, "/file"),
        ("file", F | E, "/file"),
        ("file", E, "/file"),
        ("dir", E, "/dir"),
        ("fifo", F, "/fifo"),
        ("file", D, errno.ENOTDIR),
        ("file", P, errno.ENOTDIR),
        ("dir", F, errno.EISDIR),
        ("/", F, errno.EISDIR),
        ("file/x", F, errno.ENOTDIR),
        ("file/x/y", D, errno.ENOTDIR),
        ("file/../dir", D, errno.ENOTDIR),
        ("dir", D | P, "/dir"),
        ("file", F | P, "/file"),
    ],
)
def test_what_is_there(place, path, flags, expected):
    (place.root / "dir").mkdir(mode=0o700)
    (place.root / "file").write_text("as it was")
    os.mkfifo(place.root / "fifo")
    assert place.walk(path, flags) == expected
    assert (place.root / "file").read_text() == "as it was"
    assert place.mode("dir") == 0o700
    assert len(os.listdir(place.root)) == 3


# what is missing


@pytest.mark.parametrize(
    ("path", "flags", "modes"),
    [
        ("a", D, {"a": 0o750}),
        ("a", P, {"a": 0o755}),
        ("a", D | P, {"a": 0o750}),
        ("a/b/c", D, {"a": 0o755, "a/b": 0o755, "a/b/c": 0o750}),
        ("/a/b/c/", P, {"a": 0o755, "a/b": 0o755, "a/b/c": 0o755}),
        ("a/./b//c", F, {"a": 0o755, "a/b": 0o755, "a/b/c": 0o750}),
        ("a/b", F | P, {"a": 0o755, "a/b": 0o750}),
        ("a", F | N, {"a": 0o750}),
        ("a/b", D | N, {"a": 0o755, "a/b": 0o750}),
        ("a/../b", D, {"a": 0o755, "b": 0o750}),
        ("../a", D, {"a": 0o750}),
    ],
)
def test_what_is_missing_is_made(place, path, flags, modes):
    last = max(modes, key=lambda made: (made.count("/"), made))
    assert place.walk(path, flags) == f"/{last}"
    assert {str(p.relative_to(place.root)) for p in place.root.rglob("*")} == set(modes)
    assert {made: place.mode(made) for made in modes} == modes
    assert (place.root / last).is_file() == bool(flags & F)


@pytest.mark.parametrize("flags", [E, E | D, E | F, E | P, E | N])
def test_existing_makes_nothing(place, flags):
    assert place.walk("a/b", flags) == errno.ENOENT
    assert place.walk("a", flags) == errno.ENOENT
    assert os.listdir(place.root) == []


def test_sticky_mode(place):
    assert place.walk("tmp", D, 0o1777) == "/tmp"
    assert place.mode("tmp") == 0o1777


def test_a_path_of_many_components(place):
    path = "/".join(["d"] * 500)
    assert place.walk(path, D) == f"/{path}"


def test_paths_that_are_too_long(place):
    assert place.walk("x" * 256, D) == errno.ENAMETOOLONG
    assert place.walk("a/" * 2048 + "a", D) == errno.ENAMETOOLONG
    assert not (place.root / "a/a").exists()


def test_in_a_directory_that_allows_nothing(place):
    plan = place.plan("a", D)
    place.root.chmod(0o555)
    plan.ops.insert(2, plan.ops[0] | {"number": 117 if plan.column == 0 else 147, "args": (1000,) * 3})
    place.root.parent.chmod(0o755)
    status, record = place.perform(plan)
    assert (status, record.errno) == (1, errno.EACCES)


# links


@pytest.mark.parametrize(
    ("link", "path", "flags", "expected"),
    [
        ("dir", "link", D, "/dir"),
        ("/dir", "link", D, "/dir"),
        ("../../../../dir", "link/x", D, "/dir/x"),
        ("file", "link", F, "/file"),
        ("/file", "link", E, "/file"),
        ("file", "link", D, errno.ENOTDIR),
        ("dir", "link", F, errno.EISDIR),
        ("dir", "link", D | N, errno.ELOOP),
        ("file", "link", F | N, errno.ELOOP),
        ("file", "link", E | N, errno.ELOOP),
        ("nowhere", "link", F | N, errno.ELOOP),
        ("dir", "link/x", D | N, "/dir/x"),
        ("link", "link", D, errno.ELOOP),
        ("link/x", "link", D, errno.ELOOP),
        ("/proc/self/cwd", "link", E, errno.ENOENT),
    ],
)
def test_links_are_followed_in_the_root(place, link, path, flags, expected):
    """V08, V13, V23: links to outside, absolute or by .., end below the root, the last component too."""
    (place.root / "dir").mkdir()
    (place.root / "file").write_text("")
    (place.root / "link").symlink_to(link)
    assert place.walk(path, flags) == expected
    assert (place.root / "link").is_symlink()


@pytest.mark.parametrize("target", ["{outside}", "{outside}/", "../outside", "../../..{outside}"])
@pytest.mark.parametrize("flags", [D, P, F])
@pytest.mark.parametrize("path", ["link/a/b", "link/marker2", "sub/link/x"])
def test_links_to_outside(place, target, flags, path):
    """V13: the outside directory stays as it is; what the link names is made below the root instead."""
    text = target.format(outside=place.outside)
    (place.root / "sub").mkdir()
    (place.root / "link").symlink_to(text)
    (place.root / "sub/link").symlink_to(text)
    found = place.walk(path, flags)
    assert isinstance(found, str)
    assert (place.root / found[1:]).is_file() == (flags == F)
    place.check_outside()


@pytest.mark.parametrize(
    ("links", "path", "flags", "expected"),
    [
        # an image without /run, and one whose resolv.conf is systemd's
        ({"var/run": "/run"}, "var/run/lock", D, "/run/lock"),
        ({"var/run": "../run"}, "var/run/lock", D, "/run/lock"),
        ({"etc/resolv.conf": "../run/systemd/resolve/stub"}, "etc/resolv.conf", F, "/run/systemd/resolve/stub"),
        ({"a": "b", "b": "c", "c": "/d/e"}, "a/f", F, "/d/e/f"),
        ({"a": "b/"}, "a", D, "/b"),
        ({"a": "x/../y"}, "a/z", D, "/y/z"),
        ({"a": "../../../../etc/new"}, "a", F, "/etc/new"),
        ({"a": "."}, "a/b", D, "/b"),
        ({"a": "b", "b": "a"}, "a", D, errno.ELOOP),
        ({"a": "b", "b": "a"}, "a/x/y", F, errno.ELOOP),
        ({"a": "b"}, "a", D | E, errno.ENOENT),
        ({"a": "b/c"}, "a/d", D | N, "/b/c/d"),
        ({"a": "b" * 255}, "a/x", D, "/" + "b" * 255 + "/x"),
    ],
)
def test_a_link_to_nowhere_is_made_in_the_root(place, links, path, flags, expected):
    """V17, V23, V28: what such a link names is looked for, and made, where the container would look."""
    for folder in ("var", "etc"):
        (place.root / folder).mkdir()
    for link, target in links.items():
        (place.root / link).symlink_to(target)
    assert place.walk(path, flags) == expected
    for link, target in links.items():
        assert os.readlink(place.root / link) == target


def test_a_chain_of_links_that_is_too_long(place):
    """MAXSYMLINKS, as for every path of the kernel."""
    for number in range(41):
        (place.root / f"l{number}").symlink_to(f"l{number + 1}")
    assert place.walk("l0", D) == errno.ELOOP
    assert place.walk("l2", D) == "/l41"


def test_links_that_grow_too_long(place):
    (place.root / "a").symlink_to("x/" * 2000)
    assert place.walk("a/" + "y/" * 1000, D) == errno.ENAMETOOLONG


def test_magic_links_are_refused(place):
    """V31, V33: proc's own links lead out of every root."""
    (place.root / "proc").mkdir()
    (place.root / "link").symlink_to("/proc/self/cwd/x")
    (place.root / "fd").symlink_to("/proc/self/fd/0")
    for path in ("proc/self/root", "proc/self/cwd/x", "proc/self/fd/0", "proc/thread-self/root/x", "link", "fd"):
        for flags in (D, F, E):
            assert place.walk(path, flags, proc=True) == errno.ELOOP
    assert place.perform(place.plan("proc/self/status", F, proc=True)) == (0, None)


# races


def exchange(first, second) -> None:
    """Swap two names for ever: renameat2(RENAME_EXCHANGE)."""
    renameat2 = ctypes.CDLL(None).renameat2
    old, new = os.fsencode(first), os.fsencode(second)
    while True:
        renameat2(-100, old, -100, new, 2)


@pytest.fixture
def racer():
    """Start a process that swaps two names until the test ends."""
    pids: list[int] = []

    def race(first, second) -> None:
        pid = os.fork()
        if pid == 0:
            try:
                exchange(first, second)
            finally:
                os._exit(1)
        pids.append(pid)

    yield race
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


@pytest.mark.parametrize(
    ("target", "path", "flags"),
    [
        ("{outside}", "vol/m/a/b", D),
        ("{outside}", "vol/m/x", F),
        ("../../outside", "vol/m/../m/deep/er", P),
        ("{outside}/none", "vol/m", D),
    ],
)
def test_a_racer_gains_nothing(place, racer, target, path, flags):
    """V08, V13: a component is a directory one moment and a link to outside the next."""
    vol = place.root / "vol"
    (vol / "m").mkdir(parents=True)
    (vol / "s").symlink_to(target.format(outside=place.outside))
    racer(vol / "m", vol / "s")
    for number in range(STARTS):
        found = place.walk(f"{path}{number}", flags)
        assert isinstance(found, str) or found in (errno.ELOOP, errno.EAGAIN)
        place.check_outside()


def test_a_racer_with_a_parent_that_moves(place, racer):
    """RESOLVE_IN_ROOT says EAGAIN where .. meets a rename; it is tried again, and never resolves outside."""
    for name in ("a", "b"):
        (place.root / name / "c").mkdir(parents=True)
    racer(place.root / "a", place.root / "b")
    for number in range(STARTS):
        found = place.walk(f"a/c/../../a/c/../new{number}", D)
        assert isinstance(found, str) or found == errno.EAGAIN
