"""Work that may block, in a process of its own, so that the agent never waits.

Runs in: the guest.   Imports: _socket, _signal, posix; errors, jsonio, linux.fd, rpc.
Source:  fork(2); unix(7) SCM_RIGHTS.
Never:   outlives its work: what it started becomes the child of pid 1 when it ends, which is the agent.

    agent --fork--> worker: calls the core
          <-------- {"ok" or "error": ..., "log": [...]} and fds, then end of file

A forked worker has everything imported already. It is the only place where this interpreter forks, and neither the
agent nor a worker ever enters a namespace: skerry-init does.
"""

import _signal  # type: ignore[import-not-found]
import _socket
import gc
import posix

from skerry.errors import EngineError, one_line
from skerry.jsonio import dumps, loads
from skerry.linux.fd import close_all, recv_with_fds, send_with_fds
from skerry.log import Log
from skerry.rpc import failures
from skerry.rpc.loop import READ, Future, Loop

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    # What the work returns: a JSON document, and fds that go with it. It is given where to say what else is to be told.
    Work = Callable[["Notes"], tuple[Any, list[int]]]

_CHUNK_BYTES = 64 * 1024
_ANSWER_LIMIT_BYTES = 256 * 1024
_FD_LIMIT = 1 << 30
_NOTES_LIMIT = 20


class Notes(Log):
    """A log of the core whose warnings go to the host."""

    __slots__ = ("lines",)

    def __init__(self) -> None:
        super().__init__(-1, "text", ())
        self.lines: list[str] = []

    def warning(self, message: str) -> None:
        if len(self.lines) < _NOTES_LIMIT:
            self.lines.append(one_line(message))


class Worker:
    """One piece of work.

    done    gets (document, fds), or the error that the work raised
    """

    __slots__ = ("_answer", "_fds", "_loop", "_note", "_sock", "done", "pid")

    def __init__(
        self,
        loop: Loop,
        work: "Work",
        *,
        note: "Callable[[str], None]",
        keep: "Sequence[int]" = (),
    ) -> None:
        """Fork. `keep` are the fds that the work uses; the others are closed there. `note` is told of warnings."""
        self._note = note
        ours, theirs = _socket.socketpair(
            _socket.AF_UNIX, _socket.SOCK_STREAM | _socket.SOCK_CLOEXEC
        )
        self._loop = loop
        self._answer = bytearray()
        self._fds: list[int] = []
        self.done = Future()
        self.pid = posix.fork()
        if self.pid == 0:
            _be_worker(work, theirs, keep)
        theirs.close()
        ours.setblocking(False)
        self._sock = ours
        loop.watch(ours.fileno(), READ, self._readable)

    def _readable(self, events: int) -> None:
        try:
            data, fds = recv_with_fds(self._sock, _CHUNK_BYTES)
        except Exception as error:
            self._end(error)
            return
        self._fds += fds
        self._answer += data
        if not data or len(self._answer) > _ANSWER_LIMIT_BYTES:
            self._end(None)

    def _end(self, error: "Exception | None") -> None:
        self._loop.unwatch(self._sock.fileno())
        self._sock.close()
        if error is None:
            try:
                self._finish(loads(bytes(self._answer)))
                return
            except Exception as caught:
                error = caught
        close_all(self._fds)
        if not self._answer:
            error = EngineError("cannot finish: the process at work in the guest was killed")
        self.done.fail(error)

    def _finish(self, answer: "Any") -> None:
        for line in answer["log"]:
            self._note(line)
        if "error" in answer:
            close_all(self._fds)
            self.done.fail(failures.decode(answer["error"]))
        else:
            self.done.set((answer["ok"], self._fds))


def _be_worker(work: "Work", sock: "_socket.socket", keep: "Sequence[int]") -> None:
    """Do the work, tell, and end. Does not return."""
    try:
        gc.disable()  # it would touch, and so copy, what is shared with the agent
        _signal.set_wakeup_fd(-1)
        _signal.signal(_signal.SIGCHLD, _signal.SIG_DFL)
        # Ends of other containers' pipes among them: kept open here, they would never see an end of file.
        _close_but({0, 1, 2, sock.fileno(), *keep})
        notes = Notes()
        fds: list[int] = []
        try:
            document, fds = work(notes)
            answer = {"ok": document}
        except BaseException as error:
            answer = {"error": failures.encode(error)}
        send_with_fds(sock, dumps({**answer, "log": notes.lines}), fds)
    finally:
        posix._exit(0)


def _close_but(keep: "set[int]") -> None:
    start = 0
    for fd in sorted(keep):
        if (
            fd > start
        ):  # an empty range at 0 is all there are: the last one, -1, is taken as unsigned
            posix.closerange(start, fd)
        start = fd + 1
    posix.closerange(start, _FD_LIMIT)
