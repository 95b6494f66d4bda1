"""Terminals: the engine's side of a console socket, and a pty for a foreground run."""

import array
import fcntl
import os
import socket
import struct
import termios
from pathlib import Path

from .runtime import Stream


class ConsoleSocket:
    """Listens where `--console-socket` points, and takes the master that the runtime sends."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.bind(str(path))
        self._socket.listen(1)
        self._socket.settimeout(10)

    def receive(self) -> "Terminal":
        """Accept one connection and one message: exactly one fd, which must be a terminal."""
        connection, _ = self._socket.accept()
        with connection:
            connection.settimeout(10)
            _, control, _, _ = connection.recvmsg(4096, socket.CMSG_SPACE(16), socket.MSG_CMSG_CLOEXEC)
        fds = array.array("i")
        for level, kind, data in control:
            assert (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS)
            fds.frombytes(data[: len(data) - len(data) % fds.itemsize])
        assert len(fds) == 1, list(fds)
        assert os.isatty(fds[0])
        return Terminal(fds[0])

    def close(self) -> None:
        self._socket.close()


class Terminal(Stream):
    """The master of a terminal. Newlines come as `\\r\\n`."""

    def write(self, text: str) -> None:
        os.write(self.fd, text.encode())

    @property
    def size(self) -> tuple[int, int]:
        """Rows and columns."""
        return struct.unpack("4H", fcntl.ioctl(self.fd, termios.TIOCGWINSZ, bytes(8)))[:2]

    @size.setter
    def size(self, rows_columns: tuple[int, int]) -> None:
        fcntl.ioctl(self.fd, termios.TIOCSWINSZ, struct.pack("4H", *rows_columns, 0, 0))


def open_terminal() -> tuple[Terminal, int]:
    """Give the master, and the slave as fd for a child's stdio."""
    master, slave = os.openpty()
    return Terminal(master), slave
