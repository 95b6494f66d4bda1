"""skerry shim: holds the stdio of a process in a VM, takes signals for it, and exits with its code.

Runs in: shim (a hidden verb).   Imports: _signal, _socket, posix; rpc, state: little, for there is one per container.
Source:  docs/lifecycle.md 68-76; docs/vm.md "The vmshim's socket".
Never:   looks into a byte that it passes on.

    create: the shim attaches to init, says that it is ready, and waits for start
    start   -- connects to our socket; we ask the vmshim, and answer what came of it
    exec:   the shim asks for a process of its own, and says that it is ready when it runs
"""

import _signal  # type: ignore[import-not-found]
import _socket
import posix

from skerry import timeouts
from skerry.errors import Error, RpcError, UsageError
from skerry.jsonio import loads
from skerry.linux import process
from skerry.paths import run_root, vm_dir
from skerry.rpc import frames
from skerry.rpc.handoff import READY, Answer, error_bytes, read_data
from skerry.rpc.link import Link
from skerry.rpc.loop import READ, Loop
from skerry.rpc.requests import Peer
from skerry.shims.stdio import Stdio
from skerry.state.store import Store
from skerry.vm import ends

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from skerry.log import Log

STDIO_FDS = (3, 4, 5)
TERMINAL_FD = 3
_CONTROL_LIMIT_BYTES = 256 * 1024
# KILL and STOP cannot be caught; 32 and 33 belong to the C library; the others speak to us.
_OURS = (_signal.SIGKILL, _signal.SIGSTOP, 32, 33, _signal.SIGCHLD, _signal.SIGPIPE, _signal.SIGWINCH)
_LOST_OUTPUT_S = 0.5
_UNKNOWN_END = {"code": 255, "signal": 0, "reason": "vm-lost"}


def main(general: "dict[str, Any]", words: "list[str]", log: "Log") -> int:
    """Shape   `words` is the id; the data {"host_id", "host_unique_id", "unique_id", "exec" (or null)}."""
    answer = Answer()
    try:
        data = read_data()
        if type(data) is not dict or len(words) != 1:
            raise UsageError("shim is started by skerry itself")
        _prepare()
        shim = Shim(Store(run_root(general["root"])), words[0], data, log)
        if data.get("exec") is None:
            shim.attach()
        else:
            shim.exec(data["exec"])
        answer.ready()
    except BaseException as error:
        answer.fail(error)
        return 1
    return shim.run()


def _prepare() -> None:
    """Our own session, as init has one; the terminal, if there is one, becomes its controlling terminal."""
    posix.setsid()
    posix.umask(0o077)
    posix.chdir("/")


class Shim:
    """One process in a VM.

    end   how it ended, once that is known
    """

    __slots__ = (
        "_data", "_is_exec", "_key", "_link", "_listener", "_log", "_peer", "_signals_fd", "_started", "end", "id",
        "loop", "stdio", "store",
    )  # fmt: skip

    def __init__(self, store: Store, id: str, data: "dict[str, Any]", log: "Log") -> None:
        self.store, self.id, self._data, self._log = store, id, data, log
        self._peer = Peer(vm_dir(store.root, data["host_unique_id"]), "vmshim", data["host_id"])
        self._is_exec = data.get("exec") is not None
        self._started = self._is_exec
        self._key = ""
        self._listener: _socket.socket | None = None
        self._link: Link | None = None
        self._signals_fd = -1
        self.end: dict[str, Any] | None = None
        self.loop = Loop()
        self.stdio = Stdio(self.loop, terminal=data["terminal"])

    # becoming ready

    def attach(self) -> None:
        """Init: take its stdio, and listen for start.

        Errors  what the vmshim answers.
        """
        limit = timeouts.seconds("ANSWER")
        fd, document = self._peer.open(self.id, "attach", limit_s=limit)
        self._catch_signals()
        self._listen()
        self._follow(fd, document["streams"])

    def exec(self, value: "dict[str, Any]") -> None:
        """An exec: make the process, write it down."""
        limit = timeouts.seconds("START") + timeouts.seconds("ANSWER")
        fd, document = self._peer.open(self.id, "exec", value, limit_s=limit)
        self._key = ends.exec_key(posix.getpid())
        who = {"pid": document["pid"], "tty": self._data["terminal"], "start": process.start_time(posix.getpid())}
        try:
            self.store.set(self.id, self._key, who)
        except BaseException:
            posix.close(fd)  # the vmshim kills it then
            raise
        self._catch_signals()
        self._follow(fd, document["streams"])

    def _follow(self, fd: int, streams: "list[int]") -> None:
        self._link = Link(
            self.loop, fd, on_frame=self._on_frame, on_end=self._on_link_end, control_limit=_CONTROL_LIMIT_BYTES
        )
        self.stdio.begin(self._link, streams)

    def _listen(self) -> None:
        directory = posix.open(
            self._peer.directory, posix.O_PATH | posix.O_DIRECTORY | posix.O_CLOEXEC
        )
        sock = _socket.socket(
            _socket.AF_UNIX, _socket.SOCK_STREAM | _socket.SOCK_CLOEXEC | _socket.SOCK_NONBLOCK
        )
        try:
            sock.bind(f"/proc/self/fd/{directory}/{self._data['unique_id']}")
            sock.listen(8)
        finally:
            posix.close(directory)
        self._listener = sock
        self.loop.watch(sock.fileno(), READ, lambda _: self._accept())

    def _stop_listening(self) -> None:
        """A second start must find nobody, not wait."""
        if self._listener is None:
            return
        self.loop.unwatch(self._listener.fileno())
        self._listener.close()
        self._listener = None
        try:
            posix.unlink(f"{self._peer.directory}/{self._data['unique_id']}")
        except OSError as error:
            self._log.debug(str(error))

    # start

    def _accept(self) -> None:
        if self._listener is None:
            return
        try:
            fd, _ = self._listener._accept()  # type: ignore[attr-defined]
        except OSError:
            return
        self._stop_listening()
        try:
            answer = self._start()
        except Error as error:
            answer = error_bytes(error)
        try:
            posix.write(fd, answer)
        except OSError as error:
            self._log.debug(str(error))
        posix.close(fd)

    def _start(self) -> bytes:
        """Ask for it, write its pid down (lifecycle 71, 72).

        Errors  what the guest answers: the container is stopped then.
        """
        limit = timeouts.seconds("START") + timeouts.seconds("ANSWER")
        document = self._peer.ask(self.id, "start", limit_s=limit)
        self._started = True
        pid = document.get("pid") if type(document) is dict else 0
        try:
            self.store.set(self.id, "pid", {"pid": pid, "start": 0})
        except Error:
            self._terminate()
            raise
        return READY

    # running

    def run(self) -> int:
        """Until the process has ended and all its output is out; the code."""
        self.loop.run()
        end: dict[str, Any] = self.end or _UNKNOWN_END
        self._stop_listening()
        self._write_end(end)
        if not self._started and end["reason"] != _UNKNOWN_END["reason"]:
            return 1  # nothing of the user's has run (lifecycle 70)
        return int(end["code"])

    def _on_frame(self, kind: int, stream: int, payload: bytes) -> None:
        if kind == frames.CONTROL:
            document = loads(payload)
            if type(document) is dict and type(document.get("exit")) is dict:
                self._ended(document["exit"])
            return
        self.stdio.take(kind, stream, payload)

    def _on_link_end(self, error: "RpcError | None") -> None:
        """The vmshim is gone, and the VM with it."""
        if self.end is None:
            self._log.warning(f"VM {self._data['host_id']} is lost" + (f": {error}" if error else ""))
            self.end = _UNKNOWN_END
        self._leave_soon()

    def _ended(self, end: "dict[str, Any]") -> None:
        if self.end is not None:
            return
        self.end = end
        if end.get("message"):
            self._log.warning(str(end["message"]))
        lost = str(end.get("reason")).startswith("vm-") or end.get("reason") == "deleted"
        if lost:
            self._leave_soon()
            return
        if not self._is_exec:
            self._stop_container()
        self.stdio.drain(self._leave)

    def _leave_soon(self) -> None:
        """There is no container to wait for any more, so a reader that does not read is not waited for either."""
        self.stdio.drain(self._leave)
        self.loop.call_later(_LOST_OUTPUT_S, self._leave)

    def _stop_container(self) -> None:
        """What init has left behind is asked to end, and made to at the limit (lifecycle 74)."""
        if not self._data.get("leftovers"):
            return
        try:
            self._peer.ask(self.id, "stop", limit_s=timeouts.seconds("STOP"))
        except Error as error:
            self._log.debug(str(error))
            self._terminate()

    def _terminate(self) -> None:
        try:
            self._peer.ask(self.id, "terminate", limit_s=timeouts.seconds("KILL") * 2)
        except Error as error:
            self._log.debug(str(error))

    def _leave(self) -> None:
        self.loop.stop()

    def _write_end(self, end: "dict[str, Any]") -> None:
        """The last thing written: who sees it finds the container stopped."""
        try:
            if self._is_exec:
                self.store.clear(self.id, self._key)
            else:
                ends.write(self.store, self.id, self._data["unique_id"], end)
        except Error as error:
            self._log.debug(str(error))

    # signals

    def _catch_signals(self) -> None:
        """Every signal that can be caught goes to the process (lifecycle 76)."""
        reader, writer = posix.pipe2(posix.O_CLOEXEC | posix.O_NONBLOCK)
        self._signals_fd = reader
        _signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
        for number in (*range(1, 32), *range(34, 65)):
            if number not in _OURS:
                _signal.signal(number, _noted)
        _signal.signal(_signal.SIGPIPE, _signal.SIG_IGN)
        if self._data["terminal"]:
            _signal.signal(_signal.SIGWINCH, _noted)
        _signal.pthread_sigmask(_signal.SIG_SETMASK, ())
        self.loop.watch(reader, READ, lambda _: self._signalled())

    def _signalled(self) -> None:
        for number in posix.read(self._signals_fd, 4096):
            if self._link is None:
                continue
            if number == _signal.SIGWINCH:
                self.stdio.send_size()
            else:
                self._link.send_json({"signal": number})


def _noted(_number: int, _frame: object) -> None:
    """The wakeup descriptor has it."""
