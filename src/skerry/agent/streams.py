"""Standard input and output of a process, between its pipes or terminal and the link.

Runs in: the guest.   Imports: fcntl, posix, struct; rpc.
Source:  docs/vm.md "The link"; docs/lifecycle.md 73; pipe(7), pty(7).
Never:   holds more of an input than its window, or reads an output that the host has no room for.

An output ends with its last writer, with `stop` (the host wants no more), or, once its container has ended, with what
was in the pipe by then: a process of another container may hold the pipe and write for ever.
"""

import errno
import fcntl
import posix
import struct

from skerry.rpc import frames
from skerry.rpc.loop import READ, WRITE, Future, Loop

TYPE_CHECKING = False
if TYPE_CHECKING:
    from skerry.rpc.link import Link

_FIONREAD = 0x541B
_TIOCSWINSZ = 0x5414
# A terminal hands output over a little later than it was written, and cannot say how much is to come.
_SILENCE_S = 0.1


class Output:
    """stdout or stderr: what becomes readable goes to the host, as far as it gave credit.

    ended   a Future: the last byte and the CLOSE have been sent
    """

    __slots__ = ("_credit", "_fd", "_link", "_loop", "_rest", "_silence", "ended", "number")

    def __init__(self, loop: Loop, link: "Link", number: int) -> None:
        self._loop, self._link, self.number = loop, link, number
        self._fd = -1
        self._credit = 0
        self._rest: int | None = None  # bytes until the end, once that is known
        self._silence: int | None = None  # timer: a terminal whose end is known by its silence
        self.ended = Future()

    def begin(self, fd: int) -> None:
        """Relay from here. Owns the fd."""
        posix.set_blocking(fd, False)
        self._fd = fd
        self._watch()

    def add_credit(self, size: int) -> None:
        self._credit += size
        self._watch()

    def finish(self) -> None:
        """No more than what is there now, whoever else could write."""
        if self._fd < 0 or self._rest is not None or self._silence is not None:
            return
        if _is_terminal(self._fd):
            self._silence = self._loop.call_later(_SILENCE_S, self._fall_silent)
            return
        self._rest = _waiting(self._fd)
        if not self._rest:
            self.stop()

    def stop(self) -> None:
        """The end: close and say so."""
        if self._silence is not None:
            self._loop.cancel(self._silence)
        if self._fd >= 0:
            self._loop.unwatch(self._fd)
            posix.close(self._fd)
            self._fd = -1
        if not self.ended.done:
            self._link.send(frames.CLOSE, self.number)
            self.ended.set()

    def _watch(self) -> None:
        """Watched only with credit: a pipe without a writer would be ready for ever."""
        if self._fd < 0:
            return
        if self._credit > 0:
            self._loop.watch(self._fd, READ, self._readable)
        else:
            self._loop.unwatch(self._fd)

    def _readable(self, events: int) -> None:
        size = min(self._credit, frames.DATA_LIMIT_BYTES)
        if self._rest is not None:
            size = min(size, self._rest)
        try:
            data = posix.read(self._fd, size)
        except BlockingIOError:
            return
        except OSError:
            data = b""  # EIO: nobody has the terminal open any more
        if not data:
            self.stop()
            return
        self._credit -= len(data)
        self._link.send(frames.DATA, self.number, data)
        if self._rest is not None:
            self._rest -= len(data)
            if not self._rest:
                self.stop()
                return
        if self._silence is not None:
            self._loop.cancel(self._silence)
            self._silence = self._loop.call_later(_SILENCE_S, self._fall_silent)
        if self._credit <= 0:
            self._watch()

    def _fall_silent(self) -> None:
        """Nothing came for a while; without credit nothing could, so what is there is still to be sent."""
        self._silence = None
        if self._credit <= 0 and self._fd >= 0 and _waiting(self._fd):
            self._silence = self._loop.call_later(_SILENCE_S, self._fall_silent)
        else:
            self.stop()


class Input:
    """stdin: what the host sends goes into the pipe or terminal, and is credited as it goes."""

    __slots__ = ("_buffer", "_closing", "_fd", "_is_terminal", "_link", "_loop", "_number")

    def __init__(self, loop: Loop, link: "Link", number: int) -> None:
        self._loop, self._link, self._number = loop, link, number
        self._fd = -1
        self._buffer = bytearray()
        self._closing = False
        self._is_terminal = False

    def begin(self, fd: int) -> None:
        """Pass on from here, and let the host send. Owns the fd."""
        posix.set_blocking(fd, False)
        self._fd = fd
        self._is_terminal = _is_terminal(fd)
        self._link.grant(self._number, frames.WINDOW_BYTES)

    def take(self, data: bytes) -> None:
        if self._fd < 0:
            return  # nobody reads any more
        self._buffer += data
        self._flush()

    def close(self) -> None:
        """The host has no more: pass the rest on, then close. A terminal stays, it has output, too."""
        self._closing = True
        self._flush()

    def stop(self) -> None:
        """Close now, whatever was not read."""
        self._buffer.clear()
        if self._fd >= 0:
            self._loop.unwatch(self._fd)
            posix.close(self._fd)
            self._fd = -1

    def _flush(self, events: int = 0) -> None:
        if self._fd < 0:
            return
        try:
            if self._buffer:
                size = posix.write(self._fd, self._buffer)
                del self._buffer[:size]
                self._link.grant(self._number, size)
        except BlockingIOError:
            pass
        except OSError as error:
            if error.errno not in (errno.EPIPE, errno.EIO):
                raise
            self.stop()
            return
        if self._buffer:
            self._loop.watch(self._fd, WRITE, self._flush)
        elif self._closing and not self._is_terminal:
            self.stop()
        else:
            self._loop.unwatch(self._fd)


def resize(fd: int, width: int, height: int) -> None:
    fcntl.ioctl(fd, _TIOCSWINSZ, struct.pack("HHHH", height, width, 0, 0))


def _waiting(fd: int) -> int:
    """How many bytes can be read now."""
    return int(struct.unpack("i", fcntl.ioctl(fd, _FIONREAD, bytes(4)))[0])


def _is_terminal(fd: int) -> bool:
    return posix.isatty(fd)
