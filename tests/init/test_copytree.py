"""COPYTREE: what tmpcopyup needs, by fds alone."""

import errno
import os
import stat

import pytest
from assembler import Plan

from skerry.plan import ops


def copy(perform, source, target, tmpfs: str = "") -> int:
    """Copy; `tmpfs` are options of one to mount on the target."""
    plan = Plan()
    fds = []
    if tmpfs:
        plan.mount("tmpfs", str(target), tmpfs)
    for path in (source, target):
        fd = plan.register()
        plan.call("openat", -100, plan.blob(str(path)), 0o10000000 | os.O_DIRECTORY, 0, to=fd)
        fds.append(fd)
    plan.op("COPYTREE", *fds)
    status, record = perform(plan)
    return record.errno if status else 0


def listing(folder) -> dict:
    """Type, mode, owner and content of everything below a directory."""
    found = {}
    for path in sorted(folder.rglob("*")):
        status = path.lstat()
        content = b""
        if stat.S_ISLNK(status.st_mode):
            content = os.readlink(path).encode()
        elif stat.S_ISREG(status.st_mode):
            content = path.read_bytes()
        found[str(path.relative_to(folder))] = (status.st_mode, status.st_uid, status.st_gid, content)
    return found


@pytest.fixture
def trees(tmp_path):
    source, target = tmp_path / "source", tmp_path / "target"
    source.mkdir()
    target.mkdir(mode=0o711)
    return source, target


def test_files_directories_links_modes_owners(trees, perform):
    source, target = trees
    (source / "a/b/c").mkdir(parents=True)
    (source / "a/b/c/deep").write_text("deep")
    (source / "a/after").write_text("after the directory")
    (source / "empty").write_bytes(b"")
    (source / "big").write_bytes(os.urandom(3 << 20))
    (source / "suid").write_text("x")
    os.chown(source / "suid", 1000, 1001)
    (source / "suid").chmod(0o6755)
    (source / "sticky").mkdir()
    (source / "sticky").chmod(0o1777)
    (source / "closed").mkdir()
    (source / "closed/in").write_text("in")
    (source / "closed").chmod(0o500)
    os.chown(source / "closed", 5, 6)
    (source / "link").symlink_to("/etc/passwd")
    os.chown(source / "link", 7, 8, follow_symlinks=False)
    (source / "dangling").symlink_to("no/where")
    (source / "-rf").write_text("a name")
    assert copy(perform, source, target) == 0
    assert listing(target) == listing(source)
    assert stat.S_IMODE(target.stat().st_mode) == 0o711


def test_many_entries_with_directories_among_them(trees, perform):
    """More than one buffer of entries, read again after every directory: none is lost, none comes twice."""
    source, target = trees
    for number in range(800):
        name = f"{'n' * 60}{number:05}"
        if number % 50 == 0:
            (source / name).mkdir()
            (source / name / "in").write_text(name)
        else:
            (source / name).write_text(str(number))
    assert copy(perform, source, target) == 0
    assert listing(target) == listing(source)


def test_special_files_are_skipped(trees, perform):
    source, target = trees
    os.mkfifo(source / "fifo")
    os.mknod(source / "null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
    os.mknod(source / "loop", stat.S_IFBLK | 0o666, os.makedev(7, 0))
    (source / "file").write_text("x")
    assert copy(perform, source, target) == 0
    assert list(listing(target)) == ["file"]


def test_links_are_never_followed(trees, perform, tmp_path):
    """A link to a directory outside is copied as a link; one in the target is not written through."""
    source, target = trees
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret").write_text("secret")
    (source / "dir").symlink_to(outside)
    assert copy(perform, source, target) == 0
    assert os.readlink(target / "dir") == str(outside)
    (source / "dir").unlink()
    (source / "dir").mkdir()
    (source / "dir/planted").write_text("planted")
    assert copy(perform, source, target) in (errno.ENOTDIR, errno.ELOOP)
    assert os.listdir(outside) == ["secret"]


def test_a_directory_that_is_there_is_filled(trees, perform):
    source, target = trees
    (source / "dir").mkdir()
    (source / "dir/file").write_text("new")
    (target / "dir").mkdir()
    (target / "dir/other").write_text("old")
    assert copy(perform, source, target) == 0
    assert sorted(os.listdir(target / "dir")) == ["file", "other"]


def test_a_file_that_is_there_is_an_error(trees, perform):
    source, target = trees
    (source / "file").write_text("new")
    (target / "file").write_text("old")
    assert copy(perform, source, target) == errno.EEXIST
    assert (target / "file").read_text() == "old"


@pytest.mark.parametrize(("depth", "expected"), [(100, 0), (127, 0), (128, errno.ELOOP), (600, errno.ELOOP)])
def test_depth_is_bounded(trees, perform, depth, expected):
    """128 levels, the first of which is the source itself."""
    source, target = trees
    path = source.joinpath(*["d"] * depth)
    path.mkdir(parents=True)
    (path / "end").write_text("x")
    assert copy(perform, source, target) == expected


def test_into_a_full_file_system(trees, perform):
    """The error is the kernel's."""
    source, target = trees
    (source / "file").write_bytes(b"x" * (1 << 20))
    assert copy(perform, source, target, "size=64k") == errno.ENOSPC
    assert copy(perform, source, target, "size=2m") == 0


def test_of_what_is_no_directory(trees, perform, tmp_path):
    source, target = trees
    (tmp_path / "file").write_text("")
    plan = Plan()
    fd = plan.register()
    plan.call("openat", -100, plan.blob(str(tmp_path / "file")), os.O_RDONLY, 0, to=fd)
    plan.op("COPYTREE", fd, fd)
    status, record = perform(plan)
    assert (status, record.errno) == (1, errno.ENOTDIR)


def test_no_fd_is_left_open(trees, start):
    """Neither after success nor in the middle of a tree that is too deep."""
    source, target = trees
    source.joinpath(*["d"] * 200).mkdir(parents=True)
    (source / "d/file").write_text("x")
    os.mkfifo(source / "d/fifo")
    plan = Plan()
    fds = []
    for path in (source, target):
        fd = plan.register()
        plan.call("openat", -100, plan.blob(str(path)), 0o10000000, 0, to=fd)
        fds.append(fd)
    plan.op("COPYTREE", *fds, fail="IGNORE", errnos=(errno.ELOOP,))
    plan.op("SEND", ops.READY, 0, -1)
    plan.op("RECV", ops.GO, 0, 0)
    run = start(plan)
    run.record()
    # 0, 1, 2, plan, conversation, source, target
    assert len(os.listdir(f"/proc/{run.process.pid}/fd")) == 7
