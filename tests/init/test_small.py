"""The small operations: WRITE, CHECK, CHECKCWD, SIGNALS, FIND, CLOSE, PARK."""

import errno
import os
import signal
import stat
import subprocess
from pathlib import Path

import pytest
from assembler import Label, Plan, eventually

from skerry.linux import abi
from skerry.plan import ops


def failure(perform, plan, **options) -> int:
    """The errno that ended the plan, 0 if it went well."""
    status, record = perform(plan, **options)
    return record.errno if status == 1 else 0


# WRITE


def test_write_writes_all(start):
    plan = Plan()
    plan.write(1, b"a line\n")
    plan.write(1, b"")
    assert start(plan, stdout=-1).process.stdout.read() == b"a line\n"


def test_write_is_one_call_and_a_short_one_is_an_error(perform, tmp_path):
    """A file may not grow past RLIMIT_FSIZE: 10 of the 20 bytes arrive."""
    plan = Plan()
    limit = plan.blob((10).to_bytes(8, "little") * 2, 8)
    plan.call("prlimit64", 0, 1, limit, 0)
    fd = plan.register()
    path = plan.blob(str(tmp_path / "file"))
    plan.call("openat", -100, path, os.O_WRONLY | os.O_CREAT, 0o600, to=fd)
    plan.write(fd, b"x" * 20)
    assert failure(perform, plan) == errno.EIO
    assert (tmp_path / "file").read_bytes() == b"x" * 10


@pytest.mark.parametrize(("length", "expected"), [(4, 0), (5, 0), (6, errno.EFAULT), (-1, errno.EFAULT)])
def test_write_of_a_length_in_a_register(perform, length, expected):
    """V09: a length that only the run knows is checked when it is known."""
    plan = Plan()
    register = plan.register()
    plan.op("LOAD", plan.blob((length % 2**64).to_bytes(8, "little"), 8), 8, to=register)
    plan.op("WRITE", 1, plan.blob(b"1234"), register)
    assert failure(perform, plan, stdout=subprocess.DEVNULL) == expected


# CHECK


@pytest.mark.parametrize(
    ("path", "check", "expected"),
    [
        ("/dev/null", (stat.S_IFCHR, os.makedev(1, 3), 0, 0), 0),
        ("/dev/null", (0, 0, 0, 0), 0),
        ("/dev/null", (stat.S_IFCHR, os.makedev(1, 5), 0, 0), errno.ENOTSUP),
        ("/dev/null", (stat.S_IFBLK, 0, 0, 0), errno.ENOTSUP),
        ("/dev/null", (stat.S_IFREG, 0, 0, 0), errno.ENOTSUP),
        ("/proc", (stat.S_IFDIR, 0, 0x9FA0, 1), 0),
        ("/proc", (0, 0, 0x01021994, 0), errno.ENOTSUP),
        ("/proc", (0, 0, 0x9FA0, 2), errno.ENOTSUP),
        ("/proc/self/status", (stat.S_IFREG, 0, 0x9FA0, 0), 0),
    ],
)
@pytest.mark.parametrize("flags", [os.O_RDONLY, 0o10000000])
def test_check(perform, path, check, expected, flags):
    """V14, V16: what an fd is, is asked of the fd; an O_PATH one will do."""
    plan = Plan()
    fd = plan.register()
    plan.call("openat", -100, plan.blob(path), flags, 0, to=fd)
    plan.op("CHECK", fd, *check)
    assert failure(perform, plan) == expected


def test_check_takes_a_large_device_number(perform, tmp_path):
    path = tmp_path / "node"
    device = os.makedev(259, 70000)
    os.mknod(path, stat.S_IFBLK | 0o600, device)
    plan = Plan()
    fd = plan.register()
    plan.call("openat", -100, plan.blob(str(path)), 0o10000000, 0, to=fd)
    plan.op("CHECK", fd, stat.S_IFBLK, device, 0, 0)
    assert failure(perform, plan) == 0


def test_check_of_no_fd(perform):
    plan = Plan()
    plan.op("CHECK", 999, 0, 0, 0, 0)
    assert failure(perform, plan) == errno.EBADF


# CHECKCWD


def test_checkcwd(perform):
    plan = Plan()
    plan.op("CHECKCWD")
    assert failure(perform, plan) == 0


def test_checkcwd_of_a_removed_directory(perform, tmp_path):
    plan = Plan()
    path = plan.blob(str(tmp_path / "gone"))
    plan.call("mkdirat", -100, path, 0o700)
    plan.call("chdir", path)
    plan.call("unlinkat", -100, path, 0x200)
    plan.op("CHECKCWD")
    assert failure(perform, plan) == errno.ENOENT


def test_checkcwd_outside_the_root(perform, tmp_path):
    """V12: a directory that a leaked fd reached has no absolute path: the kernel says (unreachable)."""
    plan = Plan()
    plan.call("chroot", plan.blob(str(tmp_path)))
    plan.op("CHECKCWD")
    assert failure(perform, plan, cwd="/") == errno.ENOENT


# SIGNALS


def test_signals_are_back_to_default(start):
    """P05: CPython ignores SIGPIPE and SIGXFSZ, and ignoring survives execve."""
    plan = Plan()
    plan.op("SIGNALS")
    arguments = plan.strings(["grep", "SigIgn", "/proc/self/status"])
    plan.call("execve", plan.blob("/bin/grep"), arguments, plan.strings([]))
    run = start(plan, stdout=-1, restore_signals=False)
    assert run.process.stdout.read().split() == [b"SigIgn:", b"0" * 16]
    plan.ops.pop(0)
    run = start(plan, stdout=-1, restore_signals=False)
    assert run.process.stdout.read().split() != [b"SigIgn:", b"0" * 16]


# FIND


def find(plan: Plan, *paths: str):
    register = plan.register()
    at = plan.pointers([plan.blob(path) for path in paths])
    plan.op("FIND", at, len(paths), to=register)
    arguments = plan.strings(["true"])
    plan.call("execve", register, arguments, plan.strings([]))
    return register


@pytest.fixture
def files(tmp_path):
    """An executable, one that nobody may execute, a directory, and a link to nowhere."""
    (tmp_path / "good").write_text("#!/bin/sh\nexit 9\n")
    (tmp_path / "good").chmod(0o755)
    (tmp_path / "plain").write_text("#!/bin/sh\nexit 8\n")
    (tmp_path / "plain").chmod(0o644)
    (tmp_path / "dir").mkdir()
    (tmp_path / "dangling").symlink_to("nowhere")
    (tmp_path / "link").symlink_to("good")
    return tmp_path


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["good"], 9),
        (["link"], 9),
        (["missing", "good"], 9),
        (["plain", "dir", "missing", "dangling", "good/x", "good"], 9),
    ],
)
def test_find_takes_the_first_that_may_run(perform, files, names, expected):
    plan = Plan()
    find(plan, *[str(files / name) for name in names])
    assert perform(plan) == (expected, None)


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["missing"], errno.ENOENT),
        (["missing", "dangling"], errno.ENOENT),
        (["plain"], errno.EACCES),
        (["plain", "missing"], errno.EACCES),
        (["missing", "dir"], errno.EACCES),
        ([], errno.ENOENT),
    ],
)
def test_find_remembers_the_better_error(perform, files, names, expected):
    plan = Plan()
    find(plan, *[str(files / name) for name in names])
    assert failure(perform, plan) == expected


def test_find_asks_as_the_effective_user(perform, files):
    """decisions.md 27: AT_EACCESS. uid 1000 may not, root might; the answer is FIND's, not execve's."""
    (files / "good").chmod(0o700)
    files.chmod(0o755)
    plan = Plan()
    plan.call("setresuid", -1, 1000, -1)
    find(plan, str(files / "good"))
    status, record = perform(plan)
    assert (status, record.errno, record.operation) == (1, errno.EACCES, 1)
    plan = Plan()
    plan.call("setresuid", 1000, 0, -1)
    find(plan, str(files / "good"))
    assert perform(plan) == (9, None)


def test_find_of_a_pointer_out_of_the_data(perform):
    plan = Plan()
    plan.op("FIND", plan.blob((1).to_bytes(8, "little"), 8), 1)
    assert failure(perform, plan) == errno.EFAULT


def deny(plan: Plan, *numbers: int) -> None:
    """Load a filter under which these system calls fail with EPERM; its writing is in seccomp(2)."""
    rows = [(0x20, 0, 0, 0)]
    rows += [(0x15, len(numbers) - i, 0, number) for i, number in enumerate(numbers)]
    rows += [(0x06, 0, 0, 0x7FFF0000), (0x06, 0, 0, 0x00050000 | errno.EPERM)]
    code = b"".join(
        row[0].to_bytes(2, "little") + bytes(row[1:3]) + row[3].to_bytes(4, "little") for row in rows
    )
    program = plan.room(16)
    plan.data[program : program + 2] = len(rows).to_bytes(2, "little")
    at = plan.blob(code, 8)
    plan.data[program + 8 : program + 16] = at.to_bytes(8, "little")
    plan.relocations.append(program + 8)
    plan.call("prctl", 38, 1, 0, 0, 0)
    plan.call("seccomp", 1, 0, program)


@pytest.mark.parametrize(
    ("denied", "names", "expected"),
    [
        (["faccessat2"], ["plain", "good"], 9),
        (["faccessat2", "faccessat"], ["good"], 9),
        (["statx"], ["good"], 9),
    ],
)
def test_find_under_a_filter(perform, files, denied, names, expected):
    """decisions.md 27: never a false "not found" where a filter denies the question."""
    plan = Plan()
    deny(plan, *[abi.SYSCALLS[name][plan.column] for name in denied])
    find(plan, *[str(files / name) for name in names])
    assert perform(plan) == (expected, None)


# CLOSE


def fds_left(start, keep: tuple[int, ...], lowest: int = 3) -> list[int]:
    """What is open after CLOSE in a process that had 0 to 20 open and now waits on its stdin."""
    plan = Plan()
    for number in range(3, 21):
        plan.call("dup3", 2, number, 0)
    plan.op("CLOSE", lowest, *keep)
    plan.write(1, b"x")
    plan.call("read", 0, plan.room(1), 1)
    run = start(plan.encode(), stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert run.process.stdout.read(1) == b"x"
    return sorted(map(int, os.listdir(f"/proc/{run.process.pid}/fd")))


@pytest.mark.parametrize(
    ("keep", "left"),
    [
        ((), [0, 1, 2]),
        ((7,), [0, 1, 2, 7]),
        ((7, 3, 5), [0, 1, 2, 3, 5, 7]),
        ((19, 5, 12, 5, -1), [0, 1, 2, 5, 12, 19]),
        ((3, 4, 5, 6, 7), [0, 1, 2, 3, 4, 5, 6, 7]),
        ((1, 2, -9), [0, 1, 2]),
    ],
)
def test_close_spares_what_is_named(start, keep, left):
    """V12: whatever order the registers are in."""
    assert fds_left(start, keep) == left


def test_close_from_a_higher_number(start):
    assert fds_left(start, (), 6) == [0, 1, 2, 3, 4, 5]


# PARK


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("namespace", [0, 0x20000000], ids=["plain", "as pid 1"])
def test_park_ends_by_term_or_int(start, number, namespace):
    """decisions.md 8: also as pid 1 of its namespace, where the kernel drops default signals."""
    plan = Plan()
    child = Label()
    set_ = (1 << signal.SIGTERM - 1 | 1 << signal.SIGINT - 1).to_bytes(8, "little")
    plan.call("rt_sigprocmask", 0, plan.blob(set_, 8), 0, 8)
    pid = plan.fork(child, namespace)
    plan.op("SEND", ops.PID, pid, -1)
    plan.op("WAIT", pid)
    plan.exit(0)
    plan.here(child)
    plan.call("prctl", abi.PR_SET_PDEATHSIG, signal.SIGKILL)
    result = plan.register()
    plan.op("SEND", ops.READY, 0, -1)
    plan.op("PARK", to=result)
    plan.op("SEND", ops.FD, result, -1)
    run = start(plan)
    records = {record.kind: record for record in (run.record(), run.record())}
    os.kill(records[ops.PID].value, number)
    assert run.record().value == number
    assert run.wait() == 0


def test_park_reaps_orphans(start):
    """As pid 1 it inherits them; none stays a zombie."""
    plan = Plan()
    child, orphaner, orphan = Label(), Label(), Label()
    plan.op("SIGNALS")  # an ignored SIGCHLD would reap by itself
    pid = plan.fork(child, 0x20000000)
    plan.op("SEND", ops.PID, pid, -1)
    plan.op("WAIT", pid)
    plan.exit(0)
    plan.here(child)
    plan.call("prctl", abi.PR_SET_PDEATHSIG, signal.SIGKILL)
    plan.fork(orphaner)
    plan.op("SEND", ops.READY, 0, -1)
    plan.op("PARK")
    plan.exit(0)
    plan.here(orphaner)
    plan.fork(orphan)
    plan.exit(0)
    plan.here(orphan)
    plan.op("SEND", ops.HOOKS, 0, -1)
    plan.op("RECV", ops.GO, 0, 0)
    plan.exit(0)
    run = start(plan)
    records = {}
    while len(records) < 3:
        record = run.record()
        records[record.kind] = record
    holder = records[ops.PID].value
    children = Path(f"/proc/{holder}/task/{holder}/children")
    assert eventually(lambda: len(children.read_text().split()) == 1)
    last = int(children.read_text())
    # it sleeps while a child lives
    waiting = f"{abi.SYSCALLS['rt_sigtimedwait'][plan.column]} "
    assert eventually(lambda: Path(f"/proc/{holder}/syscall").read_text().startswith(waiting))
    run.say("GO")
    assert eventually(lambda: children.read_text() == "")
    assert not os.path.exists(f"/proc/{last}")
    os.kill(holder, signal.SIGKILL)
    run.wait()
