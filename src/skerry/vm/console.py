"""What a guest, or a helper, writes on its console: the last lines, and a log of all of it.

Runs in: vmshim, template builder.   Imports: posix; errors, rpc.loop.
Source:  docs/lifecycle.md 61, 143; docs/security.md V55.
Never:   trusts a byte of it: lines are bounded and escaped, and a log that takes nothing is given nothing.
"""

import posix

from skerry.errors import one_line
from skerry.rpc.loop import READ, Loop

LINES = 200
_PANIC, _BEFORE_PANIC = "Kernel panic", 2
LINE_BYTES = 256
_READ_BYTES = 16 * 1024


class Console:
    """One console. `tail` is at hand while it is open and afterwards."""

    __slots__ = ("_fd", "_lines", "_log_fd", "_loop", "_rest")

    def __init__(self, loop: Loop, fd: int, *, log_fd: int = -1) -> None:
        """Takes both fds; the log's is a file opened for appending or a socket."""
        posix.set_blocking(fd, False)
        if log_fd >= 0:
            posix.set_blocking(log_fd, False)
        self._loop, self._fd, self._log_fd = loop, fd, log_fd
        self._lines: list[str] = []
        self._rest = b""
        loop.watch(fd, READ, self._events)

    def tail(self, lines: int = LINES) -> "list[str]":
        """The last lines, printable, each of at most some hundred characters."""
        self.drain()
        last = [*self._lines, _shown(self._rest)] if self._rest.strip() else self._lines
        return [line for line in last if line][-lines:]

    def last_words(self, lines: int) -> "list[str]":
        """The last lines; where the kernel has panicked what it gives as its reason, for a trace follows."""
        kept = self.tail()
        for number, line in enumerate(kept):
            if _PANIC in line:
                return kept[max(0, number - _BEFORE_PANIC) : number + 1][-lines:]
        return kept[-lines:]

    def drain(self) -> None:
        """Take what is there, at most some hundred kilobytes: it may be written faster than read."""
        for _ in range(16):
            if self._fd < 0 or not self._take():
                return

    def close(self) -> None:
        self.drain()
        self._end()
        if self._log_fd >= 0:
            posix.close(self._log_fd)
            self._log_fd = -1

    def _events(self, _events: int) -> None:
        self._take()

    def _take(self) -> bool:
        try:
            data = posix.read(self._fd, _READ_BYTES)
        except BlockingIOError:
            return False
        except OSError:
            data = b""
        if not data:
            self._end()
            return False
        self._write_log(data)
        *whole, rest = (self._rest + data).split(b"\n")
        self._lines += [_shown(line) for line in whole[-LINES:]]
        del self._lines[:-LINES]
        self._rest = rest[-LINE_BYTES:]
        return True

    def _write_log(self, data: bytes) -> None:
        """As it is: whoever asked for the log reads a file, not a message of ours."""
        if self._log_fd < 0:
            return
        try:
            posix.write(self._log_fd, data)
        except BlockingIOError:
            return  # the guest does not wait for a slow reader
        except OSError:
            posix.close(self._log_fd)
            self._log_fd = -1

    def _end(self) -> None:
        if self._fd >= 0:
            self._loop.unwatch(self._fd)
            posix.close(self._fd)
            self._fd = -1


def _shown(line: bytes) -> str:
    return one_line(line[:LINE_BYTES].strip().decode("utf-8", "replace"), LINE_BYTES)
