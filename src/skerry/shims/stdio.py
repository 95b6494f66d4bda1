"""The host's ends of a process's stdio: bytes both ways, as much as the other side takes.

Runs in: container shim.   Imports: posix, fcntl; linux.fd, rpc.
Source:  docs/vm.md "The link"; docs/lifecycle.md 73.
Never:   blocks on a reader or a writer, or keeps more than a window of what a reader does not take.
"""

import posix
from fcntl import ioctl
from struct import unpack

from skerry.linux.fd import write_some
from skerry.rpc import frames
from skerry.rpc.loop import READ, WRITE, Loop

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from skerry.rpc.link import Link

STDIN, STDOUT, STDERR = 1, 2, 3
_FIRST_FD = 3
_TIOCSCTTY, _TIOCGWINSZ, _TCGETS, _TCSETS = 0x540E, 0x5413, 0x5401, 0x5402
_PIECE_BYTES = frames.DATA_LIMIT_BYTES
# What a pipe takes without blocking whenever poll says that it takes something.
_PIPE_BUF_BYTES = 4096


class Output:
    """One of stdout, stderr: what came and is not written yet, at most a window."""

    __slots__ = ("_held", "closed", "fd", "gone")

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self._held = bytearray()
        self.closed = False  # the process writes no more
        self.gone = False  # nobody reads it

    @property
    def holds(self) -> bool:
        return bool(self._held)

    def put(self, data: bytes) -> None:
        if not self.gone:
            self._held += data

    def write(self) -> int:
        """What fits; how many bytes went.

        Errors  OSError where nobody reads any more.
        """
        total = 0
        while self._held:
            done = write_some(self.fd, self._held, at_once=_PIPE_BUF_BYTES)
            if not done:
                break
            del self._held[:done]
            total += done
        return total

    def discard(self) -> None:
        self.gone = True
        self._held.clear()


class Stdio:
    """Fds 3 to 5, or a terminal at 3. The process ends; they are not closed by us before."""

    __slots__ = ("_drained", "_input_open", "_link", "_loop", "_outputs", "_room", "_terminal", "_watched")

    def __init__(self, loop: Loop, *, terminal: bool) -> None:
        self._loop, self._terminal = loop, terminal
        self._room = 0
        self._input_open = True
        self._link: Link | None = None
        self._drained: Callable[[], None] | None = None
        self._watched: dict[int, int] = {}
        if terminal:
            ioctl(_FIRST_FD, _TIOCSCTTY, 0)
            _make_raw(_FIRST_FD)
            posix.set_blocking(_FIRST_FD, False)
            self._outputs = {STDOUT: Output(_FIRST_FD)}
        else:
            self._outputs = {STDOUT: Output(_FIRST_FD + 1), STDERR: Output(_FIRST_FD + 2)}

    def begin(self, link: "Link", streams: "list[int]") -> None:
        """The process is there: let it write. It may have no streams at all."""
        self._link = link
        self._outputs = {n: output for n, output in self._outputs.items() if n in streams}
        self._input_open = STDIN in streams
        for number in self._outputs:
            link.grant(number, frames.WINDOW_BYTES)
        if self._terminal:
            self.send_size()
        self._watch()

    def send_size(self) -> None:
        """The terminal of the host has another size, or its first."""
        try:
            rows, columns, _, _ = unpack("HHHH", ioctl(_FIRST_FD, _TIOCGWINSZ, bytes(8)))
        except OSError:
            return
        if rows and columns and self._link is not None:
            self._link.send_json({"resize": [columns, rows]})

    def take(self, kind: int, stream: int, payload: bytes) -> None:
        """A frame of the process."""
        if stream == STDIN:
            if kind == frames.CREDIT:
                self._room += frames.CREDIT_FORMAT.unpack(payload)[0]
            elif kind == frames.CLOSE:
                self._input_open = False
        elif stream in self._outputs:
            output = self._outputs[stream]
            if kind == frames.DATA:
                output.put(payload)
                if output.gone and self._link is not None:
                    self._link.grant(stream, len(payload))
                self._write(stream)
            elif kind == frames.CLOSE:
                output.closed = True
        self._watch()
        self._close_ended()

    def _close_ended(self) -> None:
        """Whoever reads an output that has ended is to see its end; a terminal has another direction."""
        if self._terminal:
            return
        for output in self._outputs.values():
            if output.closed and not output.holds and output.fd >= 0:
                posix.close(output.fd)
                output.fd = -1

    def drain(self, then: "Callable[[], None]") -> None:
        """The process has ended: call back when what it wrote is out."""
        self._drained = then
        self._input_open = False
        self._watch()

    # the host's side

    def _watch(self) -> None:
        """Ask for what can be moved now, and no more: a full pipe or a closed one would spin."""
        wanted: dict[int, int] = {}
        for output in self._outputs.values():
            if output.holds:
                wanted[output.fd] = wanted.get(output.fd, 0) | WRITE
        if self._input_open and self._room:
            wanted[_FIRST_FD] = wanted.get(_FIRST_FD, 0) | READ
        for fd in self._watched.keys() - wanted.keys():
            self._loop.unwatch(fd)
        for fd, events in wanted.items():
            if self._watched.get(fd) != events:
                self._loop.watch(fd, events, self._watcher(fd))
        self._watched = wanted
        if self._drained is not None and not any(o.holds for o in self._outputs.values()):
            self._drained()

    def _watcher(self, fd: int) -> "Callable[[int], None]":
        def happened(events: int) -> None:
            wanted = self._watched.get(fd, 0)
            if wanted & WRITE and events & ~READ:
                for number, output in self._outputs.items():
                    if output.fd == fd:
                        self._write(number)
                self._close_ended()
            if wanted & READ and events & ~WRITE:
                self._read()
            self._watch()

        return happened

    def _write(self, number: int) -> None:
        output = self._outputs[number]
        try:
            done = output.write()
        except OSError:
            # Nobody reads any more, and the process is to hear that as it would on the host.
            output.discard()
            if self._link is not None and not output.closed:
                self._link.send(frames.CLOSE, number)
            return
        if done and self._link is not None and not output.closed:
            self._link.grant(number, done)

    def _read(self) -> None:
        if self._link is None:
            return
        try:
            data = posix.read(_FIRST_FD, min(self._room, _PIECE_BYTES))
        except BlockingIOError:
            return
        except OSError:  # EIO: the master of the terminal is gone
            data = b""
        if data:
            self._room -= len(data)
            self._link.send(frames.DATA, STDIN, data)
        else:
            self._input_open = False
            self._link.send(frames.CLOSE, STDIN)


def _make_raw(fd: int) -> None:
    """Bytes as they are: the guest's terminal does the editing.

    Source  cfmakeraw(3), on the kernel's struct termios: four flags of 32 bits, the line, 19 characters.
    """
    from struct import pack

    size = 36
    settings = ioctl(fd, _TCGETS, bytes(size))
    iflag, oflag, cflag, lflag = unpack("IIII", settings[:16])
    iflag &= ~0o2753  # IGNBRK BRKINT PARMRK ISTRIP INLCR IGNCR ICRNL IXON
    oflag &= ~0o1  # OPOST
    lflag &= ~0o100113  # ECHO ECHONL ICANON ISIG IEXTEN
    cflag = cflag & ~0o460 | 0o60  # CSIZE PARENB; CS8
    ioctl(fd, _TCSETS, pack("IIII", iflag, oflag, cflag, lflag) + settings[16:])
