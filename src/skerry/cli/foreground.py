"""Staying with a process of a container until it ends: signals, its terminal, its exit code.

Runs in: run and exec in the foreground (hot).   Imports: _signal, posix, select, errors, cli.call.
Source:  signal(7); lifecycle.md 92, 98 and P; runc's handling of signals.
Never:   waits by time: everything that can happen is a descriptor that becomes readable.

    our signals -> wakeup pipe -.
    the process's end -> pidfd --+-> poll -> pass the signal on | relay | read the exit code
    fd 0, terminal -> relay -----|
    sd_notify -> Listener -------'

A signal that comes before the container exists ends the work in hand, which cleans up after
itself; from `forward` on signals are the process's.
"""

import _signal  # type: ignore[import-not-found]
import posix
import select

from skerry.cli.call import Interrupted
from skerry.errors import Error

TYPE_CHECKING = False
if TYPE_CHECKING:
    from skerry.addition import Process
    from skerry.cli.terminal import Terminal
    from skerry.container import Container
    from skerry.readiness import Listener

# number -> why it is not passed on
OURS = {
    _signal.SIGKILL: "cannot be caught",
    _signal.SIGSTOP: "cannot be caught",
    _signal.SIGCHLD: "is about our children",
    _signal.SIGURG: "is about our sockets",
    _signal.SIGPIPE: "is raised by our own writes, to a hook that does not read its state for one",
    _signal.SIGTTIN: "is job control's word to who reads a terminal; caught, each read raises the next",
    _signal.SIGTTOU: "the same for who sets one",
    # A handler for a fault of our own would return into the fault for ever.
    _signal.SIGSEGV: "is a fault of ours",
    _signal.SIGBUS: "is a fault of ours",
    _signal.SIGFPE: "is a fault of ours",
    _signal.SIGILL: "is a fault of ours",
}
ENDING = (_signal.SIGHUP, _signal.SIGINT, _signal.SIGQUIT, _signal.SIGTERM)
# 32 and 33 belong to the C library's threads.
NUMBERS = (*range(1, 32), *range(34, 65))
READ_BYTES = 4096
SILENCE_MS = 100


class Signals:
    """Catches every signal that can be passed on, as a readable descriptor. Use as a context.

    Owns the pipe. The handlers stay: the process ends with the verb.
    """

    __slots__ = ("fd", "_write_fd", "_forwarding")

    def __init__(self) -> None:
        self.fd, self._write_fd = posix.pipe2(posix.O_CLOEXEC | posix.O_NONBLOCK)
        self._forwarding = False

    def __enter__(self) -> "Signals":
        # The interpreter's own C handler writes the number into the pipe, whatever Python code is
        # at work.
        _signal.set_wakeup_fd(self._write_fd, warn_on_full_buffer=False)
        for number in NUMBERS:
            if number not in OURS:
                _signal.signal(number, self._arrived)
        return self

    def __exit__(self, *_: object) -> None:
        _signal.set_wakeup_fd(-1)
        posix.close(self._write_fd)
        posix.close(self.fd)

    def forward(self) -> None:
        """From now on signals do not end this process: they wait to be taken."""
        self._forwarding = True

    def _arrived(self, number: int, _frame: object) -> None:
        if number in ENDING and not self._forwarding:
            # Once: a second one must not break into the cleaning up after the first.
            self._forwarding = True
            raise Interrupted(number)

    def take(self) -> bytes:
        """The numbers of the signals that arrived, one byte each."""
        try:
            return posix.read(self.fd, READ_BYTES)
        except BlockingIOError:
            return b""


def follow(
    target: "Container | Process",
    signals: Signals,
    terminal: "Terminal | None",
    listener: "Listener | None" = None,
) -> int:
    """Pass signals on, relay the terminal, tell that it is ready; return the exit code once the process has ended."""
    if terminal is None:
        _until_end(target, signals, None, listener)
        return target.wait()
    terminal.enter()
    try:
        _until_end(target, signals, terminal, listener)
        _last_output(signals, terminal)
    finally:
        terminal.leave()
    return target.wait()


def _until_end(
    target: "Container | Process",
    signals: Signals,
    terminal: "Terminal | None",
    listener: "Listener | None",
) -> None:
    while True:
        wanted = {signals.fd: select.POLLIN, target.pidfd: select.POLLIN}
        if terminal:
            wanted |= terminal.wanted()
        if listener:
            wanted[listener.fd] = select.POLLIN
        ready = _poll(wanted, None)
        if signals.fd in ready:
            for number in signals.take():
                _pass_on(number, target, terminal)
        if terminal:
            terminal.move(ready)
        if listener and listener.fd in ready:
            listener.take()
        if target.pidfd in ready:
            if listener:
                listener.drain()
            return


def _pass_on(number: int, target: "Container | Process", terminal: "Terminal | None") -> None:
    if number == _signal.SIGWINCH:
        if terminal:
            terminal.resize()
    else:
        try:
            target.send_signal(number)
        except Error:
            # It has just ended; its pidfd says so next.
            return


def _last_output(signals: Signals, terminal: "Terminal") -> None:
    """Relay what the process wrote before it ended.

    The kernel hands a terminal's output over a little later, and says EIO when nobody holds its
    other side any more. If somebody does, a short silence is the end. A signal that ends programs
    gives up on a reader that does not read.
    """
    terminal.end_input()
    while wanted := terminal.wanted():
        ready = _poll(
            {signals.fd: select.POLLIN, **wanted}, None if terminal.holds_output() else SILENCE_MS
        )
        if not ready or (signals.fd in ready and not set(ENDING).isdisjoint(signals.take())):
            return
        terminal.move(ready)


def _poll(wanted: "dict[int, int]", timeout_ms: "int | None") -> "dict[int, int]":
    poll = select.poll()
    for fd, events in wanted.items():
        poll.register(fd, events)
    return dict(poll.poll(timeout_ms))
