"""Starting, knowing again, signalling and reaping processes, on the real kernel."""

import errno
import os
import select
import signal
import subprocess
import sys
import threading
import time

import pytest

from skerry.errors import KernelError
from skerry.linux import fd as fds
from skerry.linux import process

PYTHON = "/usr/bin/python3"
BUSYBOX = "/bin/busybox"


@pytest.fixture(autouse=True)
def nothing_stays_open():
    """P17."""
    before = fds.open_fds()
    yield
    assert fds.open_fds() == before


def in_child(function):
    pid = os.fork()
    if pid == 0:
        code = 99
        try:
            code = function() or 0
        except BaseException as error:
            os.write(9, f"in the child: {error!r}\n".encode())
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def finish(pid):
    pidfd = process.child_pidfd(pid)
    try:
        return process.wait_exit(pidfd)
    finally:
        os.close(pidfd)


def output_of(argv, env=(), **options):
    """Run a program with a pipe as its output; (status, text)."""
    reader, writer = os.pipe()
    try:
        pid = process.spawn(argv[0], list(argv), list(env), {1: writer}, **options)
    finally:
        os.close(writer)
    with open(reader, errors="surrogateescape") as file:
        text = file.read()
    return finish(pid), text


# -- spawn ----------------------------------------------------------------------------------------

# Prints nothing: exits with 0 if each fd holds what the arguments say.
READS = """
import os, sys
for pair in sys.argv[1:]:
    number, _, text = pair.partition("=")
    found = os.pread(int(number), 10, 0).decode()
    if found != text: sys.exit(10 + int(number))
"""

# where the sources a, b, c are in the parent; what shall be where in the child; which numbers the
# parent has closed
MATRIX = {
    "apart": ({"a": 20, "b": 21}, {0: "a", 1: "b"}, ()),
    "one source, three targets": ({"a": 20}, {0: "a", 1: "a", 2: "a"}, ()),
    "in place": ({"a": 3, "b": 4}, {3: "a", 4: "b"}, ()),
    "swapped": ({"a": 3, "b": 4}, {3: "b", 4: "a"}, ()),
    "rotated": ({"a": 3, "b": 4, "c": 5}, {3: "c", 4: "a", 5: "b"}, ()),
    "shifted up": ({"a": 3, "b": 4, "c": 5}, {4: "a", 5: "b", 6: "c"}, ()),
    "shifted down": ({"a": 4, "b": 5, "c": 6}, {3: "a", 4: "b", 5: "c"}, ()),
    "stdio closed": ({"a": 20, "b": 21}, {0: "a", 1: "b", 2: "a"}, (0, 1, 2)),
    "sources are 0-2": ({"a": 0, "b": 1, "c": 2}, {3: "a", 4: "b", 5: "c"}, ()),
    "stdio swapped": ({"a": 0, "b": 1, "c": 2}, {0: "c", 1: "a", 2: "b"}, ()),
    "only 1 open": ({"a": 1}, {0: "a", 2: "a", 7: "a"}, (0, 2)),
    "one target taken by another source": ({"a": 3, "b": 20}, {3: "b", 9: "a"}, ()),
    "far": ({"a": 3}, {200: "a"}, ()),
}


@pytest.mark.parametrize("program", ["path", "descriptor", "descriptor in the way"])
@pytest.mark.parametrize("case", MATRIX)
def test_descriptors_arrive_where_they_shall(case, program):
    sources, targets, closed = MATRIX[case]

    def run():
        os.dup2(2, 9)  # for the words of a failure
        program_fd = os.open(PYTHON, os.O_RDONLY | os.O_CLOEXEC)
        lifted = {name: fds.lift(fds.memfd(name, name.encode()), 300) for name in sources}
        program_fd = fds.lift(program_fd, 300)
        for number in (*range(0, 9), *range(10, 30)):
            fds.close_all([number])
        for name, number in sources.items():
            os.dup2(lifted[name], number, inheritable=False)
        for number in closed:
            assert number not in fds.open_fds()
        if program == "descriptor in the way":
            free = [n for n in sorted(targets) if n not in sources.values()]
            if free:
                program_fd = os.dup2(program_fd, free[0], inheritable=False)
        before = {fd: os.get_inheritable(fd) for fd in fds.open_fds()}
        expected = [f"{number}={name}" for number, name in targets.items()]
        pid = process.spawn(
            PYTHON if program == "path" else program_fd,
            ["python3", "-S", "-c", READS, *expected],
            [],
            {number: sources[name] for number, name in targets.items()},
        )
        assert {fd: os.get_inheritable(fd) for fd in fds.open_fds()} == before
        code, caught = finish(pid)
        return code or caught

    assert in_child(run) == 0


def test_the_child_has_the_descriptors_it_was_given_and_no_lifted_ones():
    """V12, P01: what spawn makes for itself is close-on-exec."""
    source = fds.memfd("x", b"x")
    reader, writer = os.pipe()
    pid = process.spawn(
        BUSYBOX,
        ["busybox", "sh", "-c", "cd /proc/self/fd && echo *"],
        [],
        {0: source, 1: writer, 2: writer, source: source, writer: writer},
    )
    os.close(writer)
    with open(reader) as file:
        found = {int(word) for word in file.read().split()}
    assert finish(pid) == (0, 0)
    os.close(source)
    inherited = {fd for fd in fds.open_fds() if os.get_inheritable(fd)}
    # the shell reads the directory by one of its own, which is the lowest free one
    assert found - inherited - {0, 1, 2, source, writer} <= {3, 10}


def test_foreign_programs_get_nothing_else():
    def run():
        os.dup2(2, 9)
        leaked = os.open("/", os.O_RDONLY)
        os.set_inheritable(leaked, True)
        script = f"test -e /proc/self/fd/{leaked}"
        for close_others, code in ((False, 0), (True, 1)):
            pid = process.spawn(
                BUSYBOX, ["busybox", "sh", "-c", script], [], {}, close_others=close_others
            )
            if finish(pid) != (code, 0):
                return 1
        return 0

    assert in_child(run) == 0


def test_dispositions_and_mask_are_clean():
    """P05: CPython ignores SIGPIPE and SIGXFSZ, and a caller may block and ignore more."""

    def run():
        os.dup2(2, 9)
        for number in (signal.SIGTERM, signal.SIGCHLD, signal.SIGHUP, signal.SIGRTMIN + 5):
            signal.signal(number, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        with open("/proc/self/status") as file:
            assert [line for line in file if line.startswith("SigIgn")] != ["SigIgn:\t" + "0" * 16]
        reader, writer = os.pipe()
        process.spawn(BUSYBOX, ["busybox", "grep", "^Sig", "/proc/self/status"], [], {1: writer})
        os.close(writer)
        with open(reader) as file:
            masks = dict(line.split() for line in file if not line.startswith("SigQ"))
        # 32 and 33 are glibc's own; skerry-init resets them, too
        allowed = {"SigPnd:": 0, "SigBlk:": 0, "SigIgn:": 0b11 << 31, "SigCgt:": 0}
        return any(int(masks[name], 16) & ~bits for name, bits in allowed.items())

    assert in_child(run) == 0


def test_the_caller_keeps_what_it_had():
    """decisions.md 9: nothing of the process that uses the library changes."""
    before = (signal.pthread_sigmask(signal.SIG_BLOCK, []), os.getcwd(), dict(os.environ))
    dispositions = [signal.getsignal(n) for n in range(1, 32)]
    assert output_of([BUSYBOX, "true"]) == ((0, 0), "")
    assert (signal.pthread_sigmask(signal.SIG_BLOCK, []), os.getcwd(), dict(os.environ)) == before
    assert [signal.getsignal(n) for n in range(1, 32)] == dispositions


def test_the_environment_is_what_was_given():
    status, text = output_of([BUSYBOX, "env"], ["A=1", "B=x=y", "A=2", "C=", "D=ä\udcff"])
    assert status == (0, 0)
    assert sorted(text.splitlines()) == ["A=2", "B=x=y", "C=", "D=ä\udcff"]


def test_a_group_of_its_own():
    status, text = output_of([PYTHON, "-Sc", "import os; print(os.getpid() == os.getpgrp())"])
    assert (status, text) == ((0, 0), "False\n")
    status, text = output_of(
        [PYTHON, "-Sc", "import os; print(os.getpid() == os.getpgrp())"], own_group=True
    )
    assert (status, text) == ((0, 0), "True\n")


@pytest.mark.parametrize(
    ("program", "number"),
    [("/nonexistent", errno.ENOENT), ("/etc/passwd", errno.EACCES), ("/proc", errno.EACCES)],
)
def test_what_cannot_be_executed_is_an_error_with_its_errno(program, number):
    with pytest.raises(KernelError, match=f"^cannot execute {program}: ") as caught:
        process.spawn(program, ["x"], [], {})
    assert caught.value.errno == number
    assert "no such file or directory" in str(caught.value) or number != errno.ENOENT
    assert "permission denied" in str(caught.value) or number != errno.EACCES


def test_a_descriptor_that_cannot_be_executed_has_the_name_of_its_program():
    fd = fds.memfd("rubbish", b"no program", executable=True)
    with pytest.raises(KernelError, match="^cannot execute skerry-init: ENOEXEC"):
        process.spawn(fd, ["skerry-init"], [], {})
    os.close(fd)


def test_a_source_that_is_closed_is_an_error():
    closed = os.open("/dev/null", os.O_RDONLY)
    os.close(closed)
    for mapping in ({0: closed}, {0: closed, closed: 1}):
        with pytest.raises(KernelError, match="EBADF"):
            process.spawn(BUSYBOX, ["busybox", "true"], [], mapping)


# -- identity: lifecycle 14, decisions.md 7 -------------------------------------------------------


@pytest.mark.parametrize("name", ["plain", "a) R 1 (b", ") (", "((((", "))))", "x y z", "\n"])
def test_start_time_whatever_the_process_calls_itself(name):
    """A process chooses its own name, which stands before the fields in stat."""
    code = f"open('/proc/self/comm', 'w').write({name!r}); print(1, flush=True); input()"
    child = subprocess.Popen([PYTHON, "-Sc", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    child.stdout.readline()
    # the same by another road: the seconds that ps counts are from the boot, in ticks
    ticks = os.sysconf("SC_CLK_TCK")
    since_boot = time.clock_gettime(time.CLOCK_BOOTTIME)
    assert 0 <= since_boot * ticks - process.start_time(child.pid) < 60 * ticks
    assert process.is_alive(child.pid, process.start_time(child.pid))
    assert not process.zombie(child.pid)
    child.communicate(b"\n")
    assert process.start_time(child.pid) == 0


@pytest.mark.parametrize("pid", [0, -1, -(2**31), 2**22 + 1, 2**31 - 1])
def test_no_such_process_is_dead(pid):
    assert process.start_time(pid) == 0
    assert process.open_pidfd(pid, 1) is None
    assert not process.is_alive(pid, 1)
    assert not process.zombie(pid)


def test_another_start_time_is_another_process_lifecycle_14():
    me = os.getpid()
    started = process.start_time(me)
    assert process.is_alive(me, started)
    for other in (started - 1, started + 1, 0, -1):
        assert process.open_pidfd(me, other) is None
        assert not process.is_alive(me, other)


def test_a_zombie_is_dead():
    child = subprocess.Popen([BUSYBOX, "sleep", "1000"])
    started = process.start_time(child.pid)
    assert process.is_alive(child.pid, started)
    pidfd = process.open_pidfd(child.pid, started)
    child.kill()
    assert select.select([pidfd], [], [], 10)[0]
    assert process.zombie(child.pid)
    assert process.start_time(child.pid) == started  # so the start time alone says nothing
    assert not process.is_alive(child.pid, started)
    assert process.open_pidfd(child.pid, started) is None
    os.close(pidfd)
    child.wait()
    assert not process.zombie(child.pid)


# The leader ends by itself, its thread waits for stdin.
LEADERLESS = """
import ctypes, os, threading
def rest():
    print(1, flush=True)
    os.read(0, 1)
    os._exit(5)
threading.Thread(target=rest).start()
ctypes.CDLL(None).syscall({"x86_64": 60, "aarch64": 93}[os.uname().machine], 0)
"""


def test_a_zombie_leader_with_living_threads_is_not_dead():
    """decisions.md 7."""
    child = subprocess.Popen(
        [PYTHON, "-c", LEADERLESS], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    child.stdout.readline()
    deadline = time.monotonic() + 20
    while not process.zombie(child.pid):  # nothing tells when the leader has ended
        assert time.monotonic() < deadline
    started = process.start_time(child.pid)
    assert process.is_alive(child.pid, started)
    pidfd = process.open_pidfd(child.pid, started)
    assert process.wait_exit(pidfd, 0) is None
    assert process.send_signal(pidfd, 0)
    child.stdin.write(b"x")
    child.stdin.close()
    child.stdout.close()
    assert process.wait_exit(pidfd, 20) == (5, 0)
    os.close(pidfd)
    assert not process.is_alive(child.pid, started)
    child.returncode = 5  # reaped above


def test_the_number_of_a_thread_is_no_process():
    """The number of a dead process may be a thread's now."""
    ready, done = threading.Event(), threading.Event()

    def run():
        ready.set()
        done.wait()

    thread = threading.Thread(target=run)
    thread.start()
    ready.wait()
    try:
        tid = thread.native_id
        assert process.start_time(tid) > 0
        assert process.open_pidfd(tid, process.start_time(tid)) is None
    finally:
        done.set()
        thread.join()


REUSE = """
import os, sys
sys.path[:0] = sys.argv[1].split(":")
from skerry.linux import process
def fork():
    pid = os.fork()
    if pid == 0:
        os.read(reader, 1)
        os._exit(0)
    return pid
reader, writer = os.pipe()
first = fork()
started = process.start_time(first)
assert process.is_alive(first, started)
os.kill(first, 9)
os.waitpid(first, 0)
assert not process.is_alive(first, started)
while True:
    with open("/proc/sys/kernel/ns_last_pid", "w") as file:
        file.write(str(first - 1))
    second = fork()
    assert second == first, (first, second)
    again = process.start_time(second)
    if again != started:  # the next tick of the clock has come
        break
    os.kill(second, 9)
    os.waitpid(second, 0)
assert process.is_alive(second, again)
assert not process.is_alive(first, started)
assert process.open_pidfd(first, started) is None
os.kill(second, 9)
os.waitpid(second, 0)
print("seen")
"""


def test_a_number_that_is_used_again_counts_as_dead_lifecycle_14():
    """In a pid namespace of its own, where the next number can be chosen."""
    done = subprocess.run(
        ["unshare", "-pf", "--mount-proc", PYTHON, "-Sc", REUSE, ":".join(sys.path)],
        capture_output=True,
        text=True,
    )
    assert (done.stdout, done.stderr) == ("seen\n", "")


# -- signals and ends -----------------------------------------------------------------------------


def test_a_signal_reaches_the_process_and_not_the_dead():
    child = subprocess.Popen([BUSYBOX, "sleep", "1000"])
    pidfd = process.open_pidfd(child.pid, process.start_time(child.pid))
    assert process.send_signal(pidfd, 0)
    assert process.send_signal(pidfd, signal.SIGTERM)
    assert process.wait_exit(pidfd, 20) == (128 + signal.SIGTERM, signal.SIGTERM)
    assert not process.send_signal(pidfd, signal.SIGTERM)
    os.close(pidfd)
    child.returncode = -signal.SIGTERM  # reaped above


def test_a_number_that_is_no_signal_is_an_error():
    pidfd = process.child_pidfd(os.getpid())
    with pytest.raises(KernelError, match="^cannot send signal 99: EINVAL"):
        process.send_signal(pidfd, 99)
    os.close(pidfd)


@pytest.mark.parametrize(
    ("script", "status"),
    [
        ("exit 0", (0, 0)),
        ("exit 255", (255, 0)),
        ("kill -9 $$", (137, 9)),
        ("kill -6 $$", (134, 6)),
    ],
)
def test_how_it_ended(script, status):
    pid = process.spawn(BUSYBOX, ["busybox", "sh", "-c", f"ulimit -c 0; {script}"], [], {})
    pidfd = process.child_pidfd(pid)
    assert process.wait_exit(pidfd, 20) == status
    assert process.wait_exit(pidfd, 20) is None  # reaped: there is no second answer
    os.close(pidfd)


def test_a_wait_has_an_end():
    child = subprocess.Popen([BUSYBOX, "sleep", "1000"])
    pidfd = process.child_pidfd(child.pid)
    before = time.monotonic()
    assert process.wait_exit(pidfd, 0) is None
    assert process.wait_exit(pidfd, 0.05) is None
    assert 0.05 <= time.monotonic() - before < 10
    child.kill()
    assert process.wait_exit(pidfd, 1e12) == (137, 9)
    child.returncode = -9
    os.close(pidfd)


def test_only_the_child_that_is_meant_is_reaped():
    """P15: the user of the library has children, too."""
    other = subprocess.Popen([BUSYBOX, "sh", "-c", "exit 3"])
    pid = process.spawn(BUSYBOX, ["busybox", "sh", "-c", "exit 4"], [], {})
    assert finish(pid) == (4, 0)
    assert other.wait() == 3


def test_waiting_for_what_is_no_child():
    """Its end is seen, its status is not to be had."""
    reader, writer = os.pipe()
    # the shell starts a sleep, tells its number and leaves it to whoever adopts it
    script = f"sleep 1000 >/dev/null & echo $! >&{writer}"
    subprocess.run([BUSYBOX, "sh", "-c", script], pass_fds=[writer], check=True)
    pid = int(os.read(reader, 100))
    os.close(reader)
    os.close(writer)
    pidfd = process.open_pidfd(pid, process.start_time(pid))
    assert process.send_signal(pidfd, signal.SIGKILL)
    assert process.wait_exit(pidfd, 20) is None
    assert select.select([pidfd], [], [], 0)[0]
    os.close(pidfd)


def test_a_caller_that_ignores_sigchld_loses_the_status():
    def run():
        os.dup2(2, 9)
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)
        reader, writer = os.pipe()
        pid = process.spawn(BUSYBOX, ["busybox", "cat"], [], {0: reader, 1: 9})
        os.close(reader)
        pidfd = process.child_pidfd(pid)
        os.close(writer)
        return process.wait_exit(pidfd, 20) is not None

    assert in_child(run) == 0


CLONED = """
#include <linux/sched.h>
#include <sys/syscall.h>
#include <unistd.h>
int main(void) {
    struct clone_args args = {.flags = CLONE_PARENT, .exit_signal = 0};
    long pid = syscall(SYS_clone3, &args, sizeof args);
    if (pid == 0) { char c; read(0, &c, 1); _exit(6); }
    if (pid < 0) return 1;
    char text[12]; int n = 0, digits = 0;
    for (long rest = pid; rest; rest /= 10) digits++;
    for (long rest = pid, i = digits; rest; rest /= 10, n++) text[--i] = '0' + rest % 10;
    return write(1, text, n) != n;
}
"""


def test_what_a_child_made_beside_itself_is_reaped(tmp_path):
    """decisions.md 1: the forks of a plan, CLONE_PARENT with exit_signal 0."""
    source = tmp_path / "cloned.c"
    source.write_text(CLONED)
    program = str(tmp_path / "cloned")
    subprocess.run(["cc", "-O1", "-o", program, str(source)], check=True)
    gate_read, gate_write = os.pipe()
    out_read, out_write = os.pipe()
    launcher = process.spawn(program, ["cloned"], [], {0: gate_read, 1: out_write})
    assert finish(launcher) == (0, 0)
    pid = int(os.read(out_read, 12))
    pidfd = process.child_pidfd(pid)
    assert process.wait_exit(pidfd, 0) is None
    os.close(gate_read)
    os.close(gate_write)
    assert process.wait_exit(pidfd, 20) == (6, 0)
    for fd in (out_read, out_write, pidfd):
        os.close(fd)
    assert process.start_time(pid) == 0


def test_a_child_without_an_exit_signal_is_reaped():
    """Only __WALL sees it."""

    def run():
        import ctypes
        import struct

        os.dup2(2, 9)
        arguments = struct.pack("<8Q", 0, 0, 0, 0, 0, 0, 0, 0)  # struct clone_args, no exit_signal
        pid = ctypes.CDLL(None).syscall(435, arguments, len(arguments))
        if pid == 0:
            os._exit(6)
        return process.wait_exit(process.child_pidfd(pid), 20) != (6, 0)

    assert in_child(run) == 0


def test_one_that_ends_while_its_stat_is_opened_is_gone(monkeypatch):
    """The kernel says ESRCH where it ends between look-up and open; seen in a sweep of killed starts."""

    def ends(*_):
        raise ProcessLookupError

    with monkeypatch.context() as patched:
        patched.setattr(process.posix, "open", ends)
        assert process.start_time(os.getpid()) == 0
    assert process.start_time(os.getpid()) > 0
