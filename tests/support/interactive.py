"""A person at a terminal, for an engine's command line: type, read what comes, resize, wait for the end."""

import fcntl
import os
import select
import subprocess
import termios
import time

TIMEOUT_S = 60


def read_until(fd: int, wanted: bytes) -> bytes:
    """Read until `wanted` has come; end of file or a minute without it is a failure."""
    deadline, seen = time.monotonic() + TIMEOUT_S, b""
    while wanted not in seen:
        ready, _, _ = select.select([fd], [], [], max(0, deadline - time.monotonic()))
        assert ready, f"no {wanted!r} in {seen!r}"
        try:
            data = os.read(fd, 65536)
        except OSError:  # a terminal whose other side is gone
            data = b""
        assert data, f"ended without {wanted!r}: {seen!r}"
        seen += data
    return seen


class Terminal:
    """A process with a terminal of its own."""

    def __init__(self, command: list[str], environment: dict, rows: int, columns: int) -> None:
        self.master, slave = os.openpty()
        termios.tcsetwinsize(self.master, (rows, columns))
        self.process = subprocess.Popen(
            command,
            env=environment,
            stdin=slave,
            stdout=slave,
            stderr=slave,
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
        )
        os.close(slave)

    def type(self, text: str) -> None:
        os.write(self.master, text.encode())

    def expect(self, text: str) -> str:
        return read_until(self.master, text.encode()).decode()

    def resize(self, rows: int, columns: int) -> None:
        termios.tcsetwinsize(self.master, (rows, columns))

    def wait(self) -> int:
        return self.process.wait(TIMEOUT_S)

    def __enter__(self) -> "Terminal":
        return self

    def __exit__(self, *exception: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        os.close(self.master)
