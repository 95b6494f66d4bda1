"""Runs a plain program as the command line runs a container's: follow.py [--tty|--held] program
words...

Used by test_cli_foreground.py and test_cli_terminal.py. `--tty` gives the program a terminal of
its own; with `--held` its end does not hang that terminal up.
"""

import fcntl
import os
import signal
import sys
import termios
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[3] / "src"))

from skerry.cli.foreground import Signals, follow  # noqa: E402
from skerry.cli.terminal import Terminal  # noqa: E402


class Child:
    """A process with the part of the interface of Container that the face needs."""

    def __init__(self, words, tty, controlling):
        self.console_fd, slave = os.openpty() if tty else (-1, -1)
        self.pid = os.fork()
        if self.pid == 0:
            os.setsid()
            if controlling:
                fcntl.ioctl(slave, termios.TIOCSCTTY, 0)
            if tty:
                for fd in (0, 1, 2):
                    os.dup2(slave, fd)
            for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
                signal.signal(number, signal.SIG_DFL)
            os.execvp(words[0], words)
        if tty:
            os.close(slave)
        self.pidfd = os.pidfd_open(self.pid)

    def send_signal(self, number):
        signal.pidfd_send_signal(self.pidfd, number)

    def wait(self):
        _, status = os.waitpid(self.pid, 0)
        code = os.waitstatus_to_exitcode(status)
        return code if code >= 0 else 128 - code


def main(words):
    tty = words[0] in ("--tty", "--held")
    with Signals() as signals:
        signals.forward()
        child = Child(words[tty:], tty, words[0] == "--tty")
        return follow(child, signals, Terminal(child.console_fd) if tty else None)


os._exit(main(sys.argv[1:]))
