"""A terminal between its master and the client's two fifos.

Runs in: the task shim.   Imports: errno, fcntl, posix, struct; loop.
Source:  pty(7), fifo(7).
Never:   holds more than a buffer in each direction, or reads what the other side does not take.

    stdin fifo -> master          until the fifo's end, which comes after CloseIO
    master -> stdout fifo         until the kernel says EIO: no process has the terminal any more
"""

import fcntl
import posix
import struct

from skerry.shims.task import loop as loops

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

_CHUNK_BYTES = 1 << 14
_TIOCSWINSZ = 0x5414


class Relay:
    """Owns the three descriptors. `ended` is called once, when the last output is with the client."""

    __slots__ = ("_from", "_in", "_loop", "_master", "_out", "_to", "ended", "open")

    def __init__(self, loop: loops.Loop, master: int, input_fd: int, output_fd: int) -> None:
        self._loop = loop
        self._master, self._in, self._out = master, input_fd, output_fd
        self._to = self._from = b""  # on their way to the master, from it
        self.ended: Callable[[], object] | None = None
        self.open = True
        for fd in (master, input_fd, output_fd):
            flags = fcntl.fcntl(fd, fcntl.F_GETFL)
            fcntl.fcntl(fd, fcntl.F_SETFL, flags | posix.O_NONBLOCK)
        self._watch()

    @property
    def fds(self) -> "list[int]":
        return [self._master, self._in, self._out]

    def resize(self, width: int, height: int) -> None:
        if self._master >= 0:
            size = struct.pack("HHHH", height & 0xFFFF, width & 0xFFFF, 0, 0)
            fcntl.ioctl(self._master, _TIOCSWINSZ, size)

    def close(self) -> None:
        """Give up what is still on its way."""
        if not self.open:
            return
        self.open = False
        for fd in self.fds:
            if fd >= 0:
                self._loop.unwatch(fd)
                posix.close(fd)
        self._master = self._in = self._out = -1
        if self.ended is not None:
            self.ended()

    def _watch(self) -> None:
        master = (0 if self._from else loops.READ) | (loops.WRITE if self._to else 0)
        for fd, events, call in (
            (self._master, master, self._on_master),
            (self._in, 0 if self._to else loops.READ, self._on_input),
            (self._out, loops.WRITE if self._from else 0, self._on_output),
        ):
            if fd < 0:
                continue
            if events:
                self._loop.watch(fd, events, call)
            else:
                # Not even its end is of interest now: poll would tell it again and again.
                self._loop.unwatch(fd)

    def _on_master(self, events: int) -> None:
        if events & loops.WRITE:
            self._to = _write(self._master, self._to)
        if events & (loops.READ | loops.ENDED) and not self._from:
            data = _read(self._master)
            if data == b"":
                self.close()
                return
            self._from = _write(self._out, data or b"")
        self._watch()

    def _on_input(self, events: int) -> None:
        data = _read(self._in)
        if data == b"":
            self._loop.unwatch(self._in)
            posix.close(self._in)
            self._in = -1
        elif data:
            self._to = _write(self._master, data)
        self._watch()

    def _on_output(self, events: int) -> None:
        self._from = _write(self._out, self._from)
        self._watch()


def _read(fd: int) -> "bytes | None":
    """None: nothing now; empty: never again."""
    try:
        return posix.read(fd, _CHUNK_BYTES)
    except BlockingIOError:
        return None
    except OSError:
        return b""


def _write(fd: int, data: bytes) -> bytes:
    """What is left to be written; nothing, where nobody will ever read it."""
    try:
        return data[posix.write(fd, data) :] if data else b""
    except BlockingIOError:
        return data
    except OSError:
        return b""
