"""Processes: start one from a clean slate, know it again, signal it, learn how it ended.

Runs in: every verb (hot).   Imports: posix, errno, select, _signal; skerry.errors, skerry.linux.fd.
Source:  posix_spawn(3), pidfd_open(2), pidfd_send_signal(2), waitid(2), proc_pid_stat(5).
Never:   forks the interpreter, touches a signal handler or mask of ours, or waits for a child it
         was not asked about.

A pid alone says nothing: the number is used again. What skerry stores is the pid with the start
time (field 22 of stat, in clock ticks since boot), and what it signals is a pidfd that was checked
against it. A process is dead when the kernel has none of that number, when the one it has started
at another time, or when the pidfd is readable. A zombie leader whose threads live on is none of
these, so the state letter of stat decides nothing.
"""

import _signal  # type: ignore[import-not-found]
import errno
import posix
import select

from skerry.errors import KernelError
from skerry.linux.fd import close_all, is_inheritable, lift, open_fds

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

# linux/wait.h; Python does not have it. A child made with exit_signal 0 is waited for only with it.
# One made with CLONE_PARENT has the signal of the process that made it, whatever was asked for.
WALL = 0x40000000
CLD_EXITED = 1
# KILL and STOP have no disposition. 32 and 33 belong to glibc: it takes no orders about them, and
# its posix_spawn leaves them ignored, which is why skerry-init resets all 64 once more.
PF_EXITING = 4  # linux/sched.h
RESETTABLE = tuple(n for n in range(1, 65) if n not in (9, 19, 32, 33))
# pidfd_open of a number that now names a thread: EINVAL up to Linux 6.12, ENOENT since. A thread is
# not our process.
_GONE = (errno.ESRCH, errno.EINVAL, errno.ENOENT)


def spawn(
    program: "int | str",
    argv: "list[str]",
    env: "Sequence[str] | dict[bytes, bytes]",
    mapping: "dict[int, int]",
    *,
    own_group: bool = False,
    close_others: bool = False,
) -> int:
    """Start a program with default dispositions and an empty mask; its parent is this process.

    Shape   `program` is a path or an open file; `env` is `NAME=value` strings, or posix.environ;
            `mapping` is {number there: descriptor here}. Sources may have any numbers, those of
            other targets too.
    Errors  KernelError with the errno of the failing step (posix_spawn reports execve's, too).
    Source  posix_spawn(3). CPython ignores SIGPIPE and SIGXFSZ, and ignoring survives execve: hence
            setsigdef.

    Inheritable descriptors of the caller pass through, as posix_spawn cannot help it: skerry-init
    closes them with its first operation. Foreign programs are started with `close_others`.
    """
    lifted: list[int] = []

    def clear(fd: int) -> int:
        # Above all targets a source cannot be overwritten by an earlier dup2 of the list, and a
        # dup2 onto itself, which would leave it close-on-exec, cannot happen. The program's own fd
        # must live until execve, too.
        if fd not in mapping:
            return fd
        lifted.append(lift(fd, max(mapping) + 1))
        return lifted[-1]

    actions: list[tuple[int, ...]] = []
    try:
        for target, source in mapping.items():
            actions.append((posix.POSIX_SPAWN_DUP2, clear(source), target))
        path = f"/proc/self/fd/{clear(program)}" if isinstance(program, int) else program
        if close_others:
            actions += [
                (posix.POSIX_SPAWN_CLOSE, fd)
                for fd in open_fds()
                if fd > 2 and fd not in mapping and is_inheritable(fd)
            ]
        return _posix_spawn(path, argv, env, actions, own_group)
    finally:
        close_all(lifted)


def _posix_spawn(
    path: str,
    argv: "list[str]",
    env: "Sequence[str] | dict[bytes, bytes]",
    actions: "list[tuple[int, ...]]",
    own_group: bool,
) -> int:
    options: dict[str, Any] = {"setpgroup": 0} if own_group else {}
    try:
        return posix.posix_spawn(
            path,
            argv,
            _environment(env),
            file_actions=actions,
            setsigmask=(),
            setsigdef=RESETTABLE,
            **options,
        )
    except OSError as error:
        # A path that names a descriptor of ours would tell nobody anything.
        what = argv[0] if path.startswith("/proc/self/fd/") else path
        raise KernelError("execute", what, error.errno or 0) from error


def _environment(env: "Sequence[str] | dict[bytes, bytes]") -> "dict[bytes, bytes]":
    """The mapping that posix_spawn asks for; of two equal names the last one counts."""
    if isinstance(env, dict):
        return env
    pairs = (entry.encode("utf-8", "surrogateescape").partition(b"=") for entry in env)
    return {name: value for name, _, value in pairs}


def _stat_fields(pid: int) -> "list[bytes]":
    """What follows the name in /proc/<pid>/stat; [] if there is no such process."""
    if pid <= 0:
        return []
    try:
        fd = posix.open(f"/proc/{pid}/stat", posix.O_RDONLY | posix.O_CLOEXEC)
    except (FileNotFoundError, ProcessLookupError):  # the latter where it ends between look-up and open
        return []
    try:
        text = posix.read(fd, 4096)
    except ProcessLookupError:
        return []
    finally:
        posix.close(fd)
    # A process chooses its name, `a) R (b` for example; only the last parenthesis is the kernel's.
    return text[text.rfind(b")") + 2 :].split()


def start_time(pid: int) -> int:
    """When the process started, 0 if there is none.

    Units   clock ticks since boot; only ever compared.
    """
    fields = _stat_fields(pid)
    return int(fields[19]) if len(fields) > 19 else 0


def zombie(pid: int) -> bool:
    """Whether the process has ended and is not reaped; its threads may live on all the same."""
    fields = _stat_fields(pid)
    return bool(fields) and fields[0] in (b"Z", b"X")


def exiting(pid: int) -> bool:
    """Whether the process is past its last instruction, though it may not have ended for the kernel.

    The first process of a pid namespace stays so until all others there are reaped, by whoever is their parent.
    """
    fields = _stat_fields(pid)
    return len(fields) > 6 and bool(int(fields[6]) & PF_EXITING)


def child_pidfd(pid: int) -> int:
    """A pidfd for a child that is not reaped yet, ended or not: nobody else can have its number.

    Errors  KernelError ESRCH where the caller ignores SIGCHLD: the kernel reaps by itself then.
    Owns    the caller closes it.
    """
    try:
        return posix.pidfd_open(pid)
    except OSError as error:
        raise KernelError("open", f"process {pid}", error.errno or 0) from error


def open_pidfd(pid: int, start_time: int) -> "int | None":
    """A pidfd for the process that is meant, None if it is dead.

    Owns    the caller closes it.
    """
    if pid <= 0 or start_time <= 0:
        return None
    try:
        pidfd = posix.pidfd_open(pid)
    except OSError as error:
        if error.errno in _GONE:
            return None
        raise KernelError("open", f"process {pid}", error.errno or 0) from error
    # In this order: the pidfd holds whoever had the number then; if that is another one, so is its
    # start time. Should the one meant die just here and the number go round, the pidfd is readable.
    if _started_at(pid, start_time) and not _is_readable(pidfd, 0):
        return pidfd
    posix.close(pidfd)
    return None


def _started_at(pid: int, expected: int) -> bool:
    return start_time(pid) == expected


def is_alive(pid: int, start_time: int) -> bool:
    pidfd = open_pidfd(pid, start_time)
    if pidfd is None:
        return False
    posix.close(pidfd)
    return True


def send_signal(pidfd: int, signal: int) -> bool:
    """Signal the process; False if it is gone.

    Errors  KernelError; EPERM for a process of another user, EINVAL for a number that is no signal.
    """
    try:
        _signal.pidfd_send_signal(pidfd, signal)
    except ProcessLookupError:
        return False
    except OSError as error:
        raise KernelError("send", f"signal {signal}", error.errno or 0) from error
    return True


def has_ended(pidfd: int, timeout_s: "float | None" = 0) -> bool:
    """Wait until the process has ended; it is not reaped. False at the timeout."""
    return _is_readable(pidfd, timeout_s)


def wait_exit(pidfd: int, timeout_s: "float | None" = None) -> "tuple[int, int] | None":
    """Wait for the end of a child and reap it; None at the timeout, or if it is not ours to reap.

    Shape   (code, 0), or (128 + signal, signal). With threads, when the last of them has ended.
    Errors  none for a process that is no child: it is waited for like any other, only its status is
            not to be had. So it is for children of a process that ignores SIGCHLD.
    """
    if not _is_readable(pidfd, timeout_s):
        return None
    try:
        # By pidfd, never by pid or "any child": a library's user has children, too, and waits for
        # them itself.
        result = posix.waitid(posix.P_PIDFD, pidfd, posix.WEXITED | posix.WNOHANG | WALL)
    except ChildProcessError:
        return None
    except OSError as error:
        raise KernelError("wait for", "a process", error.errno or 0) from error
    if result is None:
        return None
    if result.si_code == CLD_EXITED:
        return result.si_status, 0
    return 128 + result.si_status, result.si_status


def _is_readable(pidfd: int, timeout_s: "float | None") -> bool:
    poller = select.poll()
    poller.register(pidfd, select.POLLIN)
    return bool(poller.poll(None if timeout_s is None else _milliseconds(timeout_s)))


def _milliseconds(seconds: float) -> int:
    """Rounded up: a wait that ends early would find the clock still before its deadline, and
    spin."""
    return min(max(0, -int(-seconds * 1000 // 1)), 0x7FFFFFFF)
