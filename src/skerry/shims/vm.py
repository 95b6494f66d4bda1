"""skerry vmshim: the process that owns a utility VM.

Runs in: vmshim (a hidden verb).   Imports: the loop, rpc, vm.
Source:  docs/lifecycle.md 77-88; docs/vm.md "The vmshim's socket".
Never:   lets a client, a container or a request of one keep another waiting.
"""

import _signal  # type: ignore[import-not-found]
import _socket
import posix
from struct import unpack

from skerry.errors import Error, RpcError, SpecError, UsageError
from skerry.jsonio import dumps, loads
from skerry.paths import run_root
from skerry.rpc.handoff import READY, Answer, error_bytes, read_data
from skerry.rpc.loop import READ, WRITE, Loop
from skerry.state.store import Store
from skerry.vm.operations import OPERATIONS
from skerry.vm.settings import Settings
from skerry.vm.uvm import Uvm

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from skerry.log import Log
    from skerry.rpc.loop import Future

SILENCE_S = 30
REQUEST_LIMIT_BYTES = 4 * 1024 * 1024
CLIENTS_LIMIT = 256
_READ_BYTES = 65536
_BACKLOG = 64


def main(general: "dict[str, Any]", words: "list[str]", log: "Log") -> int:
    """Shape   `words` is the owner's id; the data {"unique_id", "settings"}."""
    answer = Answer()
    try:
        server = _boot(general["root"], words, log)
        answer.ready()
    except BaseException as error:
        answer.fail(error)
        return 1
    server.run()
    return 0


def _boot(root: str, words: "list[str]", log: "Log") -> "Server":
    """Listen, then start the VM; after an error nothing of it is left."""
    data = read_data()
    if type(data) is not dict or len(words) != 1:
        raise UsageError("vmshim is started by skerry itself")
    _prepare()
    loop = Loop()
    store = Store(run_root(root))
    settings = Settings.from_json(data.get("settings"))
    uvm = Uvm(loop, store, words[0], data.get("unique_id") or "", settings, log)
    server = Server(loop, uvm)
    try:
        server.listen()
        loop.complete(uvm.boot())
    except BaseException:
        loop.complete(uvm.end())
        server.finish()
        raise
    return server


def _prepare() -> None:
    """A session of our own: no terminal's signal is for us. The VM ends by request, not with whoever started it."""
    posix.setsid()
    posix.umask(0o077)
    posix.chdir("/")
    for number in (_signal.SIGHUP, _signal.SIGINT, _signal.SIGPIPE):
        _signal.signal(number, _signal.SIG_IGN)
    _signal.signal(_signal.SIGTERM, _signal.SIG_DFL)


class Server:
    """Takes requests, and answers each when its task is done."""

    __slots__ = ("_clients", "_loop", "_queues", "_sock", "_uvm")

    def __init__(self, loop: Loop, uvm: Uvm) -> None:
        self._loop, self._uvm = loop, uvm
        self._clients: set[Client] = set()
        # id -> requests whose turn has not come; the first is at work
        self._queues: dict[str, list[Client]] = {}
        self._sock = _socket.socket(
            _socket.AF_UNIX, _socket.SOCK_STREAM | _socket.SOCK_CLOEXEC | _socket.SOCK_NONBLOCK
        )

    def listen(self) -> None:
        """Errors  Error; before the VM exists (lifecycle 77)."""
        self._uvm.prepare_directory(self._sock)
        self._sock.listen(_BACKLOG)
        self._loop.watch(self._sock.fileno(), READ, self._accept)

    def run(self) -> None:
        """Until the VM has ended."""
        self._loop.run()
        self.finish()

    def finish(self) -> None:
        """The VM is gone: whoever still waits is told, as far as that goes at once."""
        self._loop.unwatch(self._sock.fileno())
        self._sock.close()
        for client in list(self._clients):
            client.drop()
        self._uvm.remove_directory()

    def _accept(self, _events: int) -> None:
        try:
            fd, _ = self._sock._accept()  # type: ignore[attr-defined]
        except OSError:
            return
        sock = _socket.socket(fileno=fd)
        pid_uid_gid = sock.getsockopt(_socket.SOL_SOCKET, _socket.SO_PEERCRED, 12)
        pid, uid, _ = unpack("iII", pid_uid_gid)
        if uid not in (0, posix.geteuid()) or len(self._clients) >= CLIENTS_LIMIT:
            sock.close()
            return
        self._clients.add(Client(self, self._loop, sock.detach(), pid))

    def forget(self, client: "Client") -> None:
        self._clients.discard(client)

    def take(self, client: "Client", request: "dict[str, Any]") -> None:
        """A whole request: run it, in its container's turn if the operation says so."""
        operation = OPERATIONS.get(request["Op"])
        if operation is None:
            client.answer_error(RpcError(f"unknown operation {request['Op']!r}"))
            return
        client.steps = lambda: operation.run(self._uvm, request["ID"], request.get("Value"), client)
        if not operation.in_turn:
            self._loop.spawn(client.steps(), done=client.done)
            return
        queue = self._queues.setdefault(request["ID"], [])
        queue.append(client)
        if len(queue) == 1:
            self._begin(request["ID"])

    def _begin(self, id: str) -> None:
        client = self._queues[id][0]

        def done(future: "Future") -> None:
            client.done(future)
            queue = self._queues[id]
            queue.pop(0)
            if queue:
                self._begin(id)
            else:
                del self._queues[id]

        self._loop.spawn(client.steps(), done=done)


class Client:
    """One connection: a line in, an answer out; `take_fd` where frames follow.

    pid   of the process that has connected
    """

    __slots__ = ("_answering", "_eof", "_fd", "_held", "_in", "_loop", "_out", "_server", "_timer", "pid", "steps")

    def __init__(self, server: Server, loop: Loop, fd: int, pid: int) -> None:
        self.pid = pid
        self._server, self._loop, self._fd = server, loop, fd
        self._in, self._out = bytearray(), b""
        self._answering = self._eof = False
        self._held = False  # by the operation, which writes to it itself
        self.steps: Any = None
        posix.set_blocking(fd, False)
        self._timer = loop.call_later(SILENCE_S, self.drop)
        loop.watch(fd, READ, self._events)

    def drop(self) -> None:
        if self._fd >= 0:
            self._loop.cancel(self._timer)
            self._loop.unwatch(self._fd)
            posix.close(self._fd)
            self._fd = -1
            self._server.forget(self)

    @property
    def gone(self) -> bool:
        return self._fd < 0

    def take_fd(self) -> int:
        """The connection is the caller's from here on; the answer has to be written first."""
        self._loop.cancel(self._timer)
        self._loop.unwatch(self._fd)
        fd, self._fd = self._fd, -1
        self._server.forget(self)
        return fd

    def hold(self) -> None:
        """The operation goes on writing (`line`); the end of its task does not end the answer."""
        self._held = True

    def write(self, data: bytes) -> None:
        """A piece of the answer, small enough to be taken at once."""
        if self._fd < 0:
            return
        try:
            if posix.write(self._fd, data) == len(data):
                return
        except OSError:
            pass
        self.drop()

    def done(self, future: "Future") -> None:
        """The task's end: its document, or its error."""
        if self._fd < 0 or (self._held and future.error is None):
            return
        if future.error is not None:
            self.answer_error(future.error)
        else:
            value = future.value
            self._answer(READY if value is None else READY + dumps(value))

    def answer_error(self, error: BaseException) -> None:
        self._answer(error_bytes(error))

    def _answer(self, data: bytes) -> None:
        if self._fd < 0:
            return
        self._answering = True
        self._out = data
        self._loop.cancel(self._timer)
        self._timer = self._loop.call_later(SILENCE_S, self.drop)
        self._flush()

    def _flush(self) -> None:
        try:
            while self._out:
                self._out = self._out[posix.write(self._fd, self._out) :]
        except BlockingIOError:
            self._loop.watch(self._fd, READ | WRITE, self._events)
            return
        except OSError:
            self.drop()
            return
        if self._eof:
            self.drop()
            return
        # Half-close; the client closes when it has read.
        sock = _socket.socket(fileno=self._fd)
        try:
            sock.shutdown(_socket.SHUT_WR)
        except OSError:
            pass
        finally:
            sock.detach()
        self._loop.watch(self._fd, READ, self._events)

    def _events(self, events: int) -> None:
        if self._out:
            if events & ~READ:
                self._flush()
            return
        try:
            data = posix.read(self._fd, _READ_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data and self.steps is not None and not self._answering:
            # It says no more, or is gone, which the answer will find out.
            self._eof = True
            self._loop.unwatch(self._fd)
            return
        if not data:
            self.drop()
            return
        if self._answering or self.steps is not None:
            return  # nothing is to be said behind a request
        self._in += data
        if b"\n" in self._in:
            self._request(bytes(self._in.partition(b"\n")[0]))
            self._in.clear()
        elif len(self._in) > REQUEST_LIMIT_BYTES:
            self.answer_error(RpcError(f"a request longer than {REQUEST_LIMIT_BYTES} bytes"))
            self._in.clear()

    def _request(self, line: bytes) -> None:
        self._loop.cancel(self._timer)
        try:
            request = loads(line)
            if type(request) is not dict or type(request.get("ID")) is not str or type(request.get("Op")) is not str:
                raise RpcError("bad request: it has no ID and Op")
        except SpecError as error:
            self.answer_error(RpcError(f"bad request: {error}"))
        except Error as error:
            self.answer_error(error)
        else:
            self._server.take(self, request)
