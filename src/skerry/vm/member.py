"""A container of a VM as its vmshim knows it: its processes in the guest and who holds their stdio.

Runs in: vmshim.   Imports: errors, rpc, vm.guest.
Source:  docs/vm.md "The vmshim's socket"; docs/lifecycle.md 73-76, 86.
Never:   keeps data of a stream: what a shim has no room for stays in the guest.
"""

from skerry.errors import RpcError
from skerry.rpc import frames
from skerry.rpc.link import Link, document
from skerry.rpc.loop import Future, Loop

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from skerry.state.journal import Journal
    from skerry.vm.guest import Guest, Stream

INIT = "init"
# How a shim calls the streams
STDIN, STDOUT, STDERR = 1, 2, 3
_SHIM_CONTROL_LIMIT_BYTES = 64 * 1024
LOST = {"code": 255, "signal": 0, "reason": "vm-lost"}


class GuestProcess:
    """Init or an exec. Its streams are numbered before it is made; a shim is attached later, or never.

    end      None, or {"code", "signal", "reason"}
    on_left  called when its shim has gone, whether or not the process has ended
    shim     pid and start time of that shim
    """

    __slots__ = (
        "_closed", "_gone", "_guest", "end", "link", "name", "on_control", "on_left", "pid", "shim", "streams",
        "terminal",
    )  # fmt: skip

    def __init__(self, guest: "Guest", name: str, *, terminal: bool, stdio: bool = True) -> None:
        self._guest = guest
        self._gone = Future()
        self.name = name
        self.pid = 0
        self.shim = (0, 0)
        self.terminal = terminal
        self.end: dict[str, Any] | None = None
        self.link: Link | None = None
        self.on_left: Callable[[], None] = lambda: None
        self.on_control: Callable[[dict[str, Any]], None] = lambda _: None
        self.streams: dict[int, Stream] = {}
        self._closed: set[int] = set()
        wanted = (STDIN, STDOUT) if terminal else (STDIN, STDOUT, STDERR)
        for number in wanted if stdio else ():
            stream = guest.open_stream(output=number != STDIN)
            stream.on_data = self._forward(number)
            stream.on_credit = self._credit(number)
            stream.on_close = self._close(number)
            self.streams[number] = stream

    def numbers(self) -> "dict[str, int]":
        """As the agent wants them."""
        names = {"stdin": STDIN, "stdout": STDOUT, "stderr": STDERR}
        return {
            name: self.streams[number].number if number in self.streams else 0
            for name, number in names.items()
        }

    # from the guest to the shim

    def _forward(self, number: int) -> "Callable[[bytes], None]":
        def forward(data: bytes) -> None:
            if self.link is not None:
                self.link.send(frames.DATA, number, data)

        return forward

    def _credit(self, number: int) -> "Callable[[int], None]":
        def credit(size: int) -> None:
            if self.link is not None:
                self.link.grant(number, size)

        return credit

    def _close(self, number: int) -> "Callable[[], None]":
        def close() -> None:
            self._closed.add(number)
            if self.link is not None:
                self.link.send(frames.CLOSE, number)

        return close

    def ended(self, end: "dict[str, Any]") -> None:
        """Its last frame has come; tell the shim."""
        if self.end is not None:
            return
        self.end = end
        self.drop()
        self._tell_end()
        self._gone.set()

    def on_end(self, callback: "Callable[[], None]") -> None:
        self._gone.then(lambda _: callback())

    def drop(self) -> None:
        """Its streams are of no use any more."""
        for stream in self.streams.values():
            self._guest.drop_stream(stream)

    def _tell_end(self) -> None:
        if self.link is not None and self.end is not None:
            self.link.send_json({"exit": self.end})

    # from the shim to the guest

    def attach(self, loop: Loop, fd: int) -> None:
        """Give its stdio to a shim, which hears first what was missed. Takes ownership of the fd."""
        link = self.link = Link(
            loop, fd, on_frame=self._on_frame, on_end=self._on_end, control_limit=_SHIM_CONTROL_LIMIT_BYTES
        )
        stdin = self.streams.get(STDIN)
        if stdin is not None and stdin.room:
            link.grant(STDIN, stdin.room)
        for number in sorted(self._closed):
            link.send(frames.CLOSE, number)
        self._tell_end()

    def detach(self) -> None:
        if self.link is not None:
            self.link.close()
            self.link = None

    def _on_frame(self, kind: int, number: int, payload: bytes) -> None:
        if kind == frames.CONTROL:
            self.on_control(document(payload))
            return
        stream = self.streams.get(number)
        if stream is None:
            raise RpcError(f"stream {number} is not open")
        if self.end is not None:
            return
        if kind == frames.DATA and number == STDIN:
            self._guest.send(stream, payload)
        elif kind == frames.CREDIT and number != STDIN:
            self._guest.grant(stream, frames.CREDIT_FORMAT.unpack(payload)[0])
        elif kind == frames.CLOSE:
            self._guest.send_close(stream)
        else:
            raise RpcError(f"a shim sends frame {kind} on stream {number}")

    def _on_end(self, _error: "RpcError | None") -> None:
        self.link = None
        self.on_left()


class Member:
    """A container: what of it is in the VM, and on the host for it.

    storages    what host.py has attached for it
    oom         its guest has told of an out of memory
    """

    __slots__ = ("execs", "id", "journal", "oom", "processes", "record", "storages", "watchers")

    def __init__(self, id: str, record: "dict[str, Any]", journal: "Journal") -> None:
        self.id, self.record, self.journal = id, record, journal
        self.processes: dict[str, GuestProcess] = {}
        self.storages: list[Any] = []
        self.watchers: list[Callable[[dict[str, Any] | None], None]] = []
        self.execs = 0
        self.oom = False

    @property
    def init(self) -> "GuestProcess | None":
        return self.processes.get(INIT)

    def named(self, process: object) -> str:
        """The agent's name of a process: `init`, or that of an exec by its guest pid.

        Errors  RpcError for one that is not there.
        """
        if process == INIT:
            return INIT
        for name, found in self.processes.items():
            if found.pid == process and found.end is None:
                return name
        raise RpcError(f"container {self.id} has no process {process}")

    def lost(self, end: "dict[str, Any]") -> None:
        """The VM is gone: everything in it has ended."""
        for process in self.processes.values():
            process.ended(end)
        self.tell_watchers(None)

    def tell_watchers(self, event: "dict[str, Any] | None") -> None:
        for tell in list(self.watchers):
            tell(event)
