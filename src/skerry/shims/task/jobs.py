"""Work of the core: at once where nothing can hold it up, else in a child of this process.

Runs in: the task shim.   Imports: _signal, _socket, gc, posix; errors, jsonio, linux, timeouts, loop, .ttrpc.
Source:  docs/decisions/0009-task-shim.md; prctl(2) PR_SET_CHILD_SUBREAPER.
Never:   lets a child hold what is the shim's: connections, fifos, terminals.

A job is a function; what it returns is (facts, descriptors). A child sends both back and ends at once; the processes
that it made are ours then, for we are their subreaper, and only then the job counts as done. What is asked to stop
undoes what it has half made, as a command does on SIGTERM.
"""

import _signal  # type: ignore[import-not-found]
import _socket
import gc
import posix

from skerry import timeouts
from skerry.errors import Error
from skerry.jsonio import dumps, loads
from skerry.linux import process
from skerry.linux.fd import close_all, open_fds, recv_with_fds, send_with_fds
from skerry.shims.task import codes
from skerry.shims.task import loop as loops
from skerry.shims.task.ttrpc import EXHAUSTED, INTERNAL, Failure

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    Result = tuple[dict[str, Any], list[int]]
    Done = Callable[[Result | None, BaseException | None], object]

CHILDREN_LIMIT = 64
# Where nothing should wait at all, somebody waiting must not stop the whole pod for minutes.
AT_ONCE_S = 10
_ANSWER_LIMIT_BYTES = 1 << 16
_TERM, _KILL = 15, 9
_STUBBORN_S = 15.0  # undoing may wait for the kernel as long as timeouts' KILL


class Stopped(BaseException):
    """SIGTERM in a child: undo, and end."""


class Job:
    """One at work. `stop` asks it to undo what it does."""

    __slots__ = ("_answer", "_done", "_jobs", "_pidfd", "_sock", "pid")

    def __init__(self, jobs: "Jobs", pid: int, sock: "_socket.socket", done: "Done") -> None:
        self._jobs = jobs
        self._done = done
        self._sock = sock
        self._answer: tuple[bytes, list[int]] | None = None
        self.pid = pid
        self._pidfd = process.child_pidfd(pid)

    def watch(self, loop: loops.Loop) -> None:
        loop.watch(self._sock.fileno(), loops.READ, self._answered)
        loop.watch(self._pidfd, loops.READ, self._ended)

    def stop(self) -> None:
        process.send_signal(self._pidfd, _TERM)
        self._jobs.loop.call_later(_STUBBORN_S, self._kill)

    def _kill(self) -> None:
        if self._pidfd >= 0:
            process.send_signal(self._pidfd, _KILL)

    def _answered(self, events: int) -> None:
        self._jobs.loop.unwatch(self._sock.fileno())
        try:
            self._answer = recv_with_fds(self._sock, _ANSWER_LIMIT_BYTES)
        except Error:
            self._answer = None

    def _ended(self, events: int) -> None:
        loop = self._jobs.loop
        loop.unwatch(self._pidfd)
        if self._answer is None:
            self._answered(0)
        process.wait_exit(self._pidfd, 0)
        posix.close(self._pidfd)
        self._pidfd = -1
        self._sock.close()
        self._jobs.children.pop(self.pid, None)
        facts, fds = _unpack(self._answer)
        if type(facts) is Failure:
            self._done(None, facts)
        else:
            self._done((facts, fds), None)


class Jobs:
    """All of them. `mine` says which descriptors of ours a child keeps."""

    __slots__ = ("_base", "children", "loop")

    def __init__(self, loop: loops.Loop) -> None:
        self.loop = loop
        self.children: dict[int, Job] = {}
        # What is open now is the log and the interpreter's; what comes later is the pod's.
        self._base = frozenset(open_fds())

    def except_for(self, fd: int) -> None:
        """This one is the pod's, although it was open before."""
        self._base -= {fd}

    def at_once(self, work: "Callable[[], Result]", done: "Done") -> None:
        """In this process; `done` is called before this returns."""
        # A plan is thousands of objects and no garbage: looking through them again and again takes longer than it.
        gc.disable()
        try:
            timeouts.shorten(AT_ONCE_S)
            result = work()
        except Exception as error:
            done(None, error)
            return
        finally:
            timeouts.shorten(0)
            gc.enable()
        done(result, None)

    def apart(
        self, work: "Callable[[], Result]", done: "Done", keep: "tuple[int, ...]" = ()
    ) -> "Job | None":
        """In a child; `done` is called when it has ended. `keep`: descriptors that the work needs."""
        if len(self.children) >= CHILDREN_LIMIT:
            done(None, Failure(EXHAUSTED, f"{CHILDREN_LIMIT} operations are under way already"))
            return None
        kind = _socket.SOCK_SEQPACKET | _socket.SOCK_CLOEXEC
        ours, theirs = _socket.socketpair(_socket.AF_UNIX, kind)
        # Until the child answers for it, a SIGTERM would be taken by our own handler there, and be lost.
        mask = _signal.pthread_sigmask(_signal.SIG_BLOCK, (_signal.SIGTERM,))
        pid = posix.fork()
        if pid == 0:
            self._be_child(work, theirs, keep)
        _signal.pthread_sigmask(_signal.SIG_SETMASK, mask)
        theirs.close()
        job = Job(self, pid, ours, done)
        self.children[pid] = job
        job.watch(self.loop)
        return job

    def _be_child(
        self, work: "Callable[[], Result]", sock: "_socket.socket", keep: "tuple[int, ...]"
    ) -> None:
        """Does not return."""
        try:
            _signal.set_wakeup_fd(-1)
            _signal.signal(_signal.SIGTERM, _stop)
            kept = self._base.union(keep, (sock.fileno(),))
            close_all([fd for fd in open_fds() if fd > 2 and fd not in kept])
            try:
                _signal.pthread_sigmask(_signal.SIG_SETMASK, ())
                facts, fds = work()
            except BaseException as error:
                code, message = codes.of(error)
                facts, fds = {"code": code, "message": message}, []
            send_with_fds(sock, dumps(facts), fds)
        finally:
            posix._exit(0)


def _stop(number: int, frame: object) -> None:
    _signal.signal(_signal.SIGTERM, _signal.SIG_IGN)
    raise Stopped


def _unpack(answer: "tuple[bytes, list[int]] | None") -> "tuple[Any, list[int]]":
    if answer is None or not answer[0]:
        return Failure(INTERNAL, "the process that did it ended without an answer"), []
    data, fds = answer
    try:
        facts = loads(data)
    except Error as error:
        close_all(fds)
        return Failure(INTERNAL, str(error)), []
    if type(facts) is dict and "code" in facts:
        close_all(fds)
        return Failure(facts["code"], facts["message"]), []
    return facts, fds
