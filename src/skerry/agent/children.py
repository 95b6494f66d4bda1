"""One owner of wait: every child of pid 1 is reaped here, and whoever asked is told.

Runs in: the guest.   Imports: _signal, posix; rpc.loop.
Source:  wait(2), signal(7), set_wakeup_fd of Python.
Never:   loses an end: a process may be over before the worker that made it has told its number.

Processes of containers come to pid 1 when their worker ends, and the kernel tells of them by SIGCHLD from then on.
"""

import _signal  # type: ignore[import-not-found]
import posix

from skerry.linux.process import CLD_EXITED, WALL
from skerry.rpc.loop import READ, Future, Loop

_READ_BYTES = 4096


class Children:
    """Futures of (code, signal) by pid."""

    __slots__ = ("_early", "_expected", "_fd", "_waited", "_write_fd")

    def __init__(self, loop: Loop) -> None:
        self._waited: dict[int, Future] = {}
        self._early: dict[int, tuple[int, int]] = {}
        self._expected = 0
        self._fd, self._write_fd = posix.pipe2(posix.O_CLOEXEC | posix.O_NONBLOCK)
        _signal.set_wakeup_fd(self._write_fd, warn_on_full_buffer=False)
        _signal.signal(_signal.SIGCHLD, _nothing)
        loop.watch(self._fd, READ, self._arrived)

    def expect(self) -> None:
        """A worker is at work: ends of unknown processes are kept until `settled`."""
        self._expected += 1

    def settled(self) -> None:
        """What that worker made has been asked for."""
        self._expected -= 1
        if not self._expected:
            self._early.clear()

    def wait(self, pid: int) -> Future:
        """The end of a child: (exit code, 0), or (128 + signal, signal)."""
        future = Future()
        early = self._early.pop(pid, None)
        # One that is there was not reaped: what has the number in the list was an earlier process.
        if early is not None and not _exists(pid):
            future.set(early)
        else:
            self._waited[pid] = future
        return future

    def _arrived(self, events: int) -> None:
        posix.read(self._fd, _READ_BYTES)
        while True:
            try:
                ended = posix.waitid(posix.P_ALL, 0, posix.WEXITED | posix.WNOHANG | WALL)
            except ChildProcessError:
                return
            if ended is None:
                return
            status = ended.si_status
            end = (status, 0) if ended.si_code == CLD_EXITED else (128 + status, status)
            future = self._waited.pop(ended.si_pid, None)
            if future is not None:
                future.set(end)
            elif self._expected:
                self._early[ended.si_pid] = end


def _exists(pid: int) -> bool:
    try:
        posix.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def _nothing(number: int, frame: object) -> None:
    """The wakeup fd is what tells; without a handler the kernel would not."""
