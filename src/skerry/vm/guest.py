"""The client of the agent: requests with deadlines, events, streams.

Runs in: vmshim.   Imports: errors, rpc.
Source:  docs/vm.md "The link"; docs/security.md V55.
Never:   believes what it hears: whatever no agent of ours says ends the link, and with it the VM.
"""

from skerry import timeouts
from skerry.errors import Error, GuestError, RpcError, one_line
from skerry.rpc import failures, frames
from skerry.rpc.link import Link
from skerry.rpc.link import document as parse
from skerry.rpc.loop import Future, Loop

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

CONTROL_LIMIT_BYTES = 256 * 1024
# What an honest receiver may have granted without our using it: the window, and some for what is on its way.
CREDIT_LIMIT_BYTES = 16 * frames.WINDOW_BYTES
_REQUESTS_LIMIT = 4096
_EVENTS = ("hello", "exit", "oom", "log")


class Stream:
    """One direction of a process's stdio, in the guest.

    on_data(bytes), on_close()   output: what the process wrote
    on_credit(size)              input: so much more may be sent
    room                         output: what the guest may still send; input: what may be sent to it
    """

    __slots__ = ("closed", "number", "on_close", "on_credit", "on_data", "output", "room")

    def __init__(self, number: int, *, output: bool) -> None:
        self.number, self.output = number, output
        self.room = 0
        self.closed = False
        self.on_data: Callable[[bytes], None] = lambda _: None
        self.on_credit: Callable[[int], None] = lambda _: None
        self.on_close: Callable[[], None] = lambda: None


class Guest:
    """One link to an agent.

    on_event(document)   `exit` and `oom`, their fields checked for type
    on_end(error)        once: None for an orderly end of file
    """

    __slots__ = ("_last_stream", "_link", "_log", "_next", "_on_end", "_on_event", "_streams", "_waiting", "hello")

    def __init__(
        self,
        loop: Loop,
        fd: int,
        *,
        on_event: "Callable[[dict[str, Any]], None]",
        on_end: "Callable[[RpcError | None], None]",
        log: "Callable[[str], None]",
    ) -> None:
        """Takes ownership of the fd."""
        self._on_event, self._on_end, self._log = on_event, on_end, log
        self._next = 1
        self._last_stream = 0
        self._waiting: dict[int, tuple[Future, Callable[[object], object] | None]] = {}
        self._streams: dict[int, Stream] = {}
        self.hello = Future()
        self._link = Link(
            loop, fd, on_frame=self._on_frame, on_end=self._ended, control_limit=CONTROL_LIMIT_BYTES
        )

    @property
    def open(self) -> bool:
        return self._link.open

    def close(self) -> None:
        """End the link; on_end is not called."""
        self._link.close()
        self._fail_waiting(RpcError("the link to the guest was closed"))

    # requests

    def request(
        self,
        loop: Loop,
        op: str,
        *,
        judge: "Callable[[object], object] | None" = None,
        limit_s: float = 0,
        **fields: object,
    ) -> Future:
        """Ask; the future has the answer, as `judge` has found it (vm/check.py).

        Errors  what the agent answered; GuestError if it does not, in time.
        """
        future = Future()
        if not self.open:
            future.fail(RpcError("the link to the guest is closed"))
            return future
        if len(self._waiting) >= _REQUESTS_LIMIT:
            future.fail(GuestError("the guest has too many requests to answer", operation=op))
            return future
        number, self._next = self._next, self._next + 1
        self._waiting[number] = (future, judge)
        self._link.send_json({"id": number, "op": op, **fields})
        limit = limit_s or timeouts.seconds("ANSWER")
        return loop.within(future, limit, f"the guest, asked to {op},")

    # streams

    def open_stream(self, *, output: bool) -> Stream:
        """Number a stream of a process that is about to be made."""
        number = self._last_stream
        while True:
            number = number % frames.STREAM_LIMIT + 1
            if number not in self._streams:
                break
        self._last_stream = number
        stream = self._streams[number] = Stream(number, output=output)
        return stream

    def drop_stream(self, stream: Stream) -> None:
        """After the end of its process: nothing more comes."""
        self._streams.pop(stream.number, None)

    def grant(self, stream: Stream, size: int) -> None:
        stream.room += size
        self._link.grant(stream.number, size)

    def send(self, stream: Stream, data: bytes) -> None:
        """Errors  RpcError beyond what the guest has granted."""
        if len(data) > stream.room:
            raise RpcError(f"{len(data)} bytes where the guest takes {stream.room}")
        stream.room -= len(data)
        self._link.send(frames.DATA, stream.number, data)

    def send_close(self, stream: Stream) -> None:
        self._link.send(frames.CLOSE, stream.number)

    # what comes

    def _on_frame(self, kind: int, number: int, payload: bytes) -> None:
        if kind == frames.CONTROL:
            self._on_control(payload)
            return
        stream = self._streams.get(number)
        if stream is None:
            raise RpcError(f"the guest speaks of stream {number}, which is not open")
        if kind == frames.DATA:
            if not stream.output or stream.closed or len(payload) > stream.room:
                raise RpcError(f"the guest sends more on stream {number} than it may")
            stream.room -= len(payload)
            stream.on_data(payload)
        elif kind == frames.CREDIT:
            (size,) = frames.CREDIT_FORMAT.unpack(payload)
            if stream.output or stream.room + size > CREDIT_LIMIT_BYTES:
                raise RpcError(f"the guest grants too much on stream {number}")
            stream.room += size
            stream.on_credit(size)
        elif not stream.closed:
            stream.closed = True
            stream.on_close()
        else:
            raise RpcError(f"the guest closes stream {number} twice")

    def _on_control(self, payload: bytes) -> None:
        try:
            document = parse(payload)
        except RpcError as error:
            raise RpcError(f"the guest sends {error}") from error
        if "id" in document:
            self._on_answer(document)
        elif document.get("event") in _EVENTS:
            self._on_any_event(document)
        else:
            raise RpcError("the guest sends neither an answer nor an event")

    def _on_answer(self, document: "dict[str, Any]") -> None:
        number = document["id"]
        if type(number) is not int or not 0 < number < self._next:
            raise RpcError("the guest answers what was never asked")
        future, judge = self._waiting.pop(number, (None, None))
        if future is None:
            raise RpcError(f"the guest answers request {number} twice")
        if "error" in document:
            future.fail(failures.decode(document["error"]))
            return
        answer = document.get("ok")
        try:
            future.set(judge(answer) if judge is not None else None)
        except RpcError as error:
            future.fail(error)
            raise

    def _on_any_event(self, document: "dict[str, Any]") -> None:
        name = document["event"]
        if name == "hello":
            if self.hello.done:
                raise RpcError("the guest says hello twice")
            self.hello.set(document)
        elif name == "log":
            text = document.get("message")
            self._log(one_line(f"guest: {text}" if type(text) is str else "guest: a message that is no text"))
        else:
            self._on_event(document)

    def _ended(self, error: "RpcError | None") -> None:
        self._fail_waiting(error or RpcError("the guest closed the link"))
        self._on_end(error)

    def _fail_waiting(self, error: Error) -> None:
        waiting, self._waiting = self._waiting, {}
        self.hello.fail(error)
        for future, _ in waiting.values():
            future.fail(error)
