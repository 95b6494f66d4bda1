"""The resident process: connections, calls, and its own end.

Runs in: the task shim, from its start's answer on.   Imports: _signal, _socket, gc, posix; loop, .*.
Source:  containerd runtime/v2 README; unix(7) SO_PEERCRED; prctl(2) PR_SET_CHILD_SUBREAPER (the launcher's doing).
Never:   serves another user, or ends while it has a container.
"""

import _signal  # type: ignore[import-not-found]
import _socket
import gc
import posix

from skerry.errors import Error, one_line
from skerry.linux.process import WALL
from skerry.shims.task import loop as loops
from skerry.shims.task import protobuf, task_api, zygote
from skerry.shims.task.events import Publisher
from skerry.shims.task.pod import Pod
from skerry.shims.task.ttrpc import UNIMPLEMENTED, Call, Connection

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from skerry.log import Log
    from skerry.shims.task.address import Address

CONNECTIONS_LIMIT = 512
# Without a container and without a caller nobody will ever ask this process to end.
LONELY_S = 60.0
_FLUSH_S = 2.0
_SWEEP_S = 0.05
_ENDING = (_signal.SIGTERM, _signal.SIGINT, _signal.SIGHUP, _signal.SIGQUIT)


class Daemon:
    """Listens, and hands calls to the functions of task_api.METHODS and the like."""

    __slots__ = (
        "_address", "_connections", "_ending", "_listener", "_log", "_loop", "_lonely", "_methods", "_pod",
        "_publisher", "_signals",
    )  # fmt: skip

    def __init__(self, listener: "_socket.socket", address: "Address", log: "Log") -> None:
        self._listener = listener
        self._address = address
        self._log = log
        self._loop = loops.Loop(self._failed)
        events = posix.environ.get(b"TTRPC_ADDRESS", b"").decode("utf-8", "surrogateescape")
        self._publisher = Publisher(self._loop, events, address.namespace, log)
        self._connections: set[Connection] = set()
        self._pod = Pod(self._loop, self._publisher, address.namespace, address.isolation, log)
        self._pod.jobs.except_for(listener.fileno())
        self._pod.stop = self._end
        self._ending = False
        self._lonely = 0
        self._signals = -1
        self._methods: dict[tuple[str, str], Any] = {}
        for service in task_api.SERVICES:
            for name, entry in task_api.METHODS.items():
                self._methods[service, name] = entry

    def run(self, *, first: "Callable[[], object] | None" = None) -> None:
        """Serve until the end. `first`: something to do in a quiet moment, once it is clear that there is a pod."""
        self._catch_signals()
        self._listener.setblocking(False)
        self._loop.watch(self._listener.fileno(), loops.READ, self._accept)
        self._expect()
        if first is not None:
            self._loop.call_later(zygote.BEGIN_S, first)
        gc.enable()
        self._loop.run()

    # connections and calls

    def _accept(self, events: int) -> None:
        try:
            fd, _ = self._listener._accept()  # type: ignore[attr-defined]
        except (BlockingIOError, ConnectionAbortedError):
            return
        sock = _socket.socket(fileno=fd)
        if not self._address.is_ours(sock) or len(self._connections) >= CONNECTIONS_LIMIT:
            self._log.warning("a connection is refused: of another user, or one too many")
            sock.close()
            return
        self._connections.add(Connection(self._loop, sock, self._serve, self._gone))
        self._expect()

    def _gone(self, connection: Connection) -> None:
        self._connections.discard(connection)
        self._expect()

    def _expect(self) -> None:
        """Count the time without anybody."""
        self._loop.cancel(self._lonely)
        if not self._connections and not self._pod.tasks:
            self._lonely = self._loop.call_later(LONELY_S, self._end)

    def _serve(self, call: Call) -> None:
        entry = self._methods.get((call.service, call.method))
        if entry is None:
            call.fail(UNIMPLEMENTED, f"{call.service}/{call.method} is not implemented")
            return
        request_table, reply_table, function = entry
        try:
            request = protobuf.decode(request_table, call.payload)
            reply = function(self._pod, call, request)
        except Exception as error:  # the edge: what went wrong is the caller's answer
            self._pod.refuse(call, error)
            return
        if reply is not None:
            call.reply(reply_table, reply)

    def _failed(self, error: BaseException) -> None:
        self._log.error(one_line(f"internal error: {type(error).__name__}: {error}"))

    # children and signals

    def _catch_signals(self) -> None:
        reader, writer = posix.pipe2(posix.O_CLOEXEC | posix.O_NONBLOCK)
        self._signals = reader
        _signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
        for number in (_signal.SIGCHLD, *_ENDING):
            _signal.signal(number, _wake)
        _signal.pthread_sigmask(_signal.SIG_SETMASK, ())
        self._loop.watch(reader, loops.READ, self._on_signals)

    def _on_signals(self, events: int) -> None:
        numbers = posix.read(self._signals, 4096)
        if _signal.SIGCHLD in numbers:
            self._sweep()
        if any(number in numbers for number in _ENDING) and not self._pod.tasks:
            self._end()

    def _sweep(self) -> None:
        """Reap orphans of containers that share their pid namespace with us: we are their subreaper.

        Children that are waited for by pidfd are left. The kernel shows one of those again and again, so the look ends
        with it and is taken up later. While jobs are under way, a child nobody knows may be what one of them makes.
        """
        while True:
            if self._pod.jobs.children:
                self._loop.call_later(_SWEEP_S, self._sweep)
                return
            try:
                flags = posix.WEXITED | posix.WNOHANG | posix.WNOWAIT | WALL
                found = posix.waitid(posix.P_ALL, 0, flags)
            except ChildProcessError:
                return
            if found is None:
                return
            if self._pod.known(found.si_pid):
                self._loop.call_later(_SWEEP_S, self._sweep)
                return
            posix.waitid(posix.P_PID, found.si_pid, posix.WEXITED | posix.WNOHANG | WALL)

    # the end

    def _end(self) -> None:
        """Take the address away first, so that whoever comes now starts another."""
        if self._ending or self._pod.tasks:
            return
        self._ending = True
        try:
            self._address.remove()
        except Error as error:
            self._log.warning(str(error))
        self._loop.unwatch(self._listener.fileno())
        self._listener.close()
        self._loop.call_later(_FLUSH_S, self._loop.stop)
        self._publisher.drained = self._stop_if_quiet
        self._loop.soon(self._stop_if_quiet)

    def _stop_if_quiet(self) -> None:
        """What was answered and published is on its way."""
        if self._publisher.empty and all(c.idle for c in self._connections):
            self._loop.soon(self._loop.stop)


def load_everything() -> None:
    """What the first container would wait for otherwise."""
    import skerry.addition
    import skerry.creation
    import skerry.deletion
    import skerry.native.cgroup.ending
    import skerry.native.cgroup.freezer
    import skerry.native.cgroup.oom
    import skerry.native.cgroup.v1
    import skerry.native.cgroup.v2
    import skerry.native.create
    import skerry.native.engine
    import skerry.native.exec
    import skerry.native.seccomp_cache  # noqa: F401


def load_for_vms() -> None:
    """What every job of a VM's container would load in its child, again and again."""
    import skerry.vm.create
    import skerry.vm.engine
    import skerry.vm.release
    import skerry.vm.shim  # noqa: F401


def _wake(number: int, frame: object) -> None:
    """The interpreter writes the number into the pipe; all the rest is the loop's."""
