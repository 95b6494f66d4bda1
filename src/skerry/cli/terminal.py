"""The relay between a container's terminal and ours.

Runs in: run and exec in the foreground with a terminal.   Imports: errno, posix, select; linux.fd;
         fcntl, struct, termios, tty late.
Source:  termios(3), pty(7), ioctl_tty(2), preadv2(2); n_tty of the kernel for the end of input.
Never:   blocks on one direction while the other could move; leaves our terminal raw; changes the
         flags of descriptors 0 and 1, which our caller shares.

Each direction holds at most one piece: it reads when it is empty and writes when it is not.
"""

import errno
import posix
import select

from skerry.linux.fd import write_some

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

SOURCE, SINK = 0, 1
PIECE_BYTES = 32768
# struct winsize: rows, columns, two unused, 16 bits each
WINSIZE_FORMAT, WINSIZE_EMPTY = "HHHH", bytes(8)


def console_size() -> "dict[str, int] | None":
    """The size of our terminal as the spec's consoleSize; None without a terminal."""
    size = _winsize()
    if size is None:
        return None
    from struct import unpack

    height, width, _, _ = unpack(WINSIZE_FORMAT, size)
    return {"height": height, "width": width} if height and width else None


def _winsize() -> "bytes | None":
    from fcntl import ioctl
    from termios import TIOCGWINSZ

    for fd in (0, 1, 2):
        if posix.isatty(fd):
            return ioctl(fd, TIOCGWINSZ, WINSIZE_EMPTY)
    return None


class Terminal:
    """The relay. The master is borrowed; a second descriptor of our standard output is owned."""

    __slots__ = (
        "_reader_gone",
        "_master",
        "_input",
        "_output",
        "_input_open",
        "_output_open",
        "_line_begins",
        "_sink",
        "_saved",
    )

    def __init__(self, master: int) -> None:
        self._reader_gone = False
        self._master = master
        self._input = self._output = b""
        self._input_open = self._output_open = True
        self._line_begins = True
        self._sink = _own_sink()
        self._saved: list[Any] | None = None
        posix.set_blocking(master, False)
        self.resize()

    def enter(self) -> None:
        """Make our terminal raw, so that every key reaches the container."""
        import termios
        import tty

        try:
            self._saved = termios.tcgetattr(SOURCE)
            # NOW: what was typed ahead stays, and output that is stuck is not waited for.
            tty.setraw(SOURCE, termios.TCSANOW)
        except termios.error:
            # No terminal, or not ours to set.
            self._saved = None

    def leave(self) -> None:
        """Make our terminal what it was."""
        import termios

        if self._saved is not None:
            try:
                termios.tcsetattr(SOURCE, termios.TCSANOW, self._saved)
            except termios.error:
                # It hung up.
                self._saved = None
        if self._sink != SINK:
            posix.close(self._sink)

    def resize(self) -> None:
        """Give the container's terminal the size of ours."""
        from fcntl import ioctl
        from termios import TIOCSWINSZ

        size = _winsize()
        if size is not None and size != WINSIZE_EMPTY:
            ioctl(self._master, TIOCSWINSZ, size)

    def wanted(self) -> "dict[int, int]":
        """What the relay waits for now: descriptor -> events of poll."""
        wanted: dict[int, int] = {}
        if self._output:
            wanted[self._sink] = select.POLLOUT
        elif self._output_open:
            wanted[self._master] = select.POLLIN
        if self._input:
            wanted[self._master] = wanted.get(self._master, 0) | select.POLLOUT
        elif self._input_open:
            wanted[SOURCE] = select.POLLIN
        return wanted

    def holds_output(self) -> bool:
        return bool(self._output)

    def end_input(self) -> None:
        """Relay no more input."""
        self._input, self._input_open = b"", False

    def move(self, ready: "dict[int, int]") -> None:
        """Move what can be moved without blocking. Shape: as poll answers what `wanted` asked."""
        if self._output:
            if self._sink in ready:
                self._write_output()
        elif self._output_open and ready.get(self._master, 0) & ~select.POLLOUT:
            self._read_output()
        if self._input:
            if self._master in ready:
                self._write_input()
        elif self._input_open and SOURCE in ready:
            self._read_input()

    def _read_output(self) -> None:
        piece = _read(self._master)
        if piece is not None:
            self._output_open = piece != b""
            # Read on when nobody looks: the program must not stop at a full terminal.
            self._output = b"" if self._reader_gone else piece

    def _write_output(self) -> None:
        try:
            self._output = self._output[write_some(self._sink, self._output) :]
        except OSError:
            self._reader_gone, self._output = True, b""

    def _read_input(self) -> None:
        piece = _read(SOURCE)
        if piece is None:
            return
        if piece:
            self._input, self._line_begins = piece, piece.endswith((b"\n", b"\r"))
        else:
            self._input, self._input_open = self._end_of_file(), False

    def _write_input(self) -> None:
        try:
            self._input = self._input[write_some(self._master, self._input) :]
        except OSError:
            # Nobody holds the other side any more.
            self.end_input()

    def _end_of_file(self) -> bytes:
        """What says "end of file" to a program that reads lines: ^D, and twice where a line has
        begun.

        A program that reads keys would see a key, so it gets nothing.
        """
        import termios

        try:
            attributes = termios.tcgetattr(self._master)
        except termios.error:
            return b""
        if not attributes[3] & termios.ICANON:
            return b""
        end: bytes = attributes[6][termios.VEOF]
        return end if self._line_begins else end * 2


def _own_sink() -> int:
    """A descriptor for our standard output that may be made nonblocking.

    A terminal that is full blocks its writer even after poll called it writable; where it cannot
    be opened again we live with that.
    """
    if not posix.isatty(SINK):
        return SINK
    try:
        return posix.open(
            f"/proc/self/fd/{SINK}",
            posix.O_WRONLY | posix.O_NONBLOCK | posix.O_NOCTTY | posix.O_CLOEXEC,
        )
    except OSError:
        return SINK


def _read(fd: int) -> "bytes | None":
    """Read a piece; None if there is none after all, empty at the end.

    A terminal whose other side is gone says EIO.
    """
    try:
        return posix.read(fd, PIECE_BYTES)
    except BlockingIOError:
        return None
    except OSError as error:
        if error.errno != errno.EIO:
            raise
        return b""
