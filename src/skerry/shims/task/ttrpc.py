"""ttrpc: frames on a stream, calls that are answered in any order.

Runs in: the task shim.   Imports: _socket, errno, struct, time; errors, loop, .protobuf, .messages.
Source:  containerd/ttrpc PROTOCOL.md; google.rpc.Code.
Never:   lets a peer make us keep more than the limits below, whatever it sends or does not read.

    frame    u32be length, u32be stream, u8 type (1 request, 2 response, 3 data), u8 flags, then the body
    server   `Connection` hands each request to `serve` as a `Call`, which is answered once, now or later
"""

import _socket
import errno
import struct

from skerry.errors import RpcError, one_line
from skerry.shims.task import loop as loops
from skerry.shims.task import messages, protobuf

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

HEADER = struct.Struct(">IIBB")
REQUEST, RESPONSE = 1, 2
BODY_LIMIT_BYTES = 4 << 20
CALLS_LIMIT = 1024  # at once on a connection; most of them wait for an exit
UNREAD_LIMIT_BYTES = 1 << 20  # answers that the peer does not take: until then we read on
MESSAGE_LIMIT_BYTES = 4096
_READ_BYTES = 1 << 16

OK, CANCELLED, UNKNOWN, INVALID, DEADLINE, NOT_FOUND, EXISTS = 0, 1, 2, 3, 4, 5, 6
EXHAUSTED, PRECONDITION, UNIMPLEMENTED, INTERNAL, UNAVAILABLE = 8, 9, 12, 13, 14


class Failure(Exception):
    """An answer that is no success: a code of google.rpc.Code and a line."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


class Frames:
    """Cuts a stream into frames; bodies that are too long are thrown away as they come."""

    __slots__ = ("_buffer", "_skip", "_skipped")

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._skip = 0
        self._skipped: tuple[int, int] | None = None

    def feed(self, data: bytes) -> "list[tuple[int, int, bytes | None]]":
        """(stream, type, body) of each frame that is whole by now; a body of None was too long."""
        found: list[tuple[int, int, bytes | None]] = []
        buffer = self._buffer
        buffer += data
        at = 0
        while True:
            if self._skipped is not None:
                dropped = min(self._skip, len(buffer) - at)
                self._skip -= dropped
                at += dropped
                if self._skip:
                    break
                found.append((*self._skipped, None))
                self._skipped = None
            if len(buffer) - at < HEADER.size:
                break
            length, stream, kind, _ = HEADER.unpack_from(buffer, at)
            if length > BODY_LIMIT_BYTES:
                self._skip, self._skipped = length, (stream, kind)
                at += HEADER.size
                continue
            end = at + HEADER.size + length
            if end > len(buffer):
                break
            found.append((stream, kind, bytes(buffer[at + HEADER.size : end])))
            at = end
        del buffer[:at]
        return found


def frame(stream: int, kind: int, body: bytes) -> bytes:
    return HEADER.pack(len(body), stream, kind, 0) + body


class Call:
    """A request that waits for its answer.

    service, method, payload     of the request
    ended                        called when nobody waits for the answer any more before it was given
    """

    __slots__ = (
        "_connection",
        "_loop",
        "_stream",
        "_timer",
        "ended",
        "method",
        "payload",
        "service",
    )

    def __init__(self, connection: "Connection", stream: int, request: "dict[str, Any]") -> None:
        self._connection: Connection | None = connection
        self._loop: loops.Loop | None = None
        self._stream = stream
        self._timer = 0
        self.service: str = request["service"]
        self.method: str = request["method"]
        self.payload: bytes = request["payload"]
        self.ended: Callable[[], object] | None = None

    @property
    def open(self) -> bool:
        return self._connection is not None

    def reply(self, table: "Any", message: "dict[str, Any]") -> None:
        self._answer({"payload": protobuf.encode(table, message)})

    def fail(self, code: int, message: str) -> None:
        text = one_line(message, MESSAGE_LIMIT_BYTES)
        self._answer({"status": {"code": code, "message": text}})

    def limit(self, loop: loops.Loop, seconds: float) -> None:
        self._loop, self._timer = loop, loop.call_later(seconds, self._late)

    def abandon(self) -> None:
        """The peer is gone."""
        self._connection = None
        self._stop_timer()
        ended, self.ended = self.ended, None
        if ended is not None:
            ended()

    def _late(self) -> None:
        ended, self.ended = self.ended, None
        self.fail(DEADLINE, f"{self.method}: the caller's deadline has passed")
        if ended is not None:
            ended()

    def _stop_timer(self) -> None:
        if self._loop is not None:
            self._loop.cancel(self._timer)
            self._loop = None

    def _answer(self, response: "dict[str, Any]") -> None:
        connection, self._connection = self._connection, None
        self._stop_timer()
        if connection is not None:
            self.ended = None
            connection.answer(self._stream, response)


class Connection:
    """One client. `closed` is called once, when it has gone or was thrown out."""

    __slots__ = ("_calls", "_closed", "_events", "_frames", "_loop", "_out", "_serve", "_sock")

    def __init__(
        self,
        loop: loops.Loop,
        sock: "_socket.socket",
        serve: "Callable[[Call], object]",
        closed: "Callable[[Connection], object]",
    ) -> None:
        self._loop = loop
        self._sock = sock
        self._serve = serve
        self._closed = closed
        self._frames = Frames()
        self._calls: dict[int, Call] = {}
        self._out = bytearray()
        sock.setblocking(False)
        self._events = loops.READ
        loop.watch(sock.fileno(), loops.READ, self._ready)

    @property
    def idle(self) -> bool:
        """Nothing is left to be sent."""
        return not self._out

    def answer(self, stream: int, response: "dict[str, Any]") -> None:
        self._calls.pop(stream, None)
        body = protobuf.encode(messages.RESPONSE, response)
        if len(body) > BODY_LIMIT_BYTES:
            status = {"code": EXHAUSTED, "message": "the answer is longer than a frame may be"}
            body = protobuf.encode(messages.RESPONSE, {"status": status})
        self._out += frame(stream, RESPONSE, body)
        self._flush()

    def close(self) -> None:
        if self._sock.fileno() < 0:
            return
        self._loop.unwatch(self._sock.fileno())
        self._sock.close()
        calls, self._calls = self._calls, {}
        for call in calls.values():
            call.abandon()
        self._closed(self)

    def _ready(self, events: int) -> None:
        if events & loops.WRITE:
            self._flush()
        if events & (loops.READ | loops.ENDED):
            self._read()

    def _read(self) -> None:
        try:
            data = self._sock.recv(_READ_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self.close()
            return
        for stream, kind, body in self._frames.feed(data):
            self._request(stream, kind, body)

    def _request(self, stream: int, kind: int, body: "bytes | None") -> None:
        if kind != REQUEST:
            return  # a stream of data that nobody has opened
        if body is None:
            self._refuse(stream, EXHAUSTED, f"a message may have {BODY_LIMIT_BYTES} bytes")
        elif not stream & 1 or stream in self._calls:
            self._refuse(stream, INVALID, f"stream {stream} is not a new odd number")
        elif len(self._calls) >= CALLS_LIMIT:
            self._refuse(stream, EXHAUSTED, f"{CALLS_LIMIT} calls wait already")
        else:
            try:
                request = protobuf.decode(messages.REQUEST, body)
            except RpcError as error:
                self._refuse(stream, INVALID, str(error))
                return
            call = self._calls[stream] = Call(self, stream, request)
            if request["timeout_nano"] > 0:
                call.limit(self._loop, request["timeout_nano"] / 1e9)
            self._serve(call)

    def _refuse(self, stream: int, code: int, message: str) -> None:
        body = protobuf.encode(messages.RESPONSE, {"status": {"code": code, "message": message}})
        self._out += frame(stream, RESPONSE, body)
        self._flush()

    def _flush(self) -> None:
        if self._sock.fileno() < 0:
            return
        try:
            while self._out:
                del self._out[: self._sock.send(self._out, _socket.MSG_NOSIGNAL)]
        except BlockingIOError:
            pass
        except OSError as error:
            if error.errno not in (errno.EPIPE, errno.ECONNRESET):
                self._loop.soon(self.close)
                return
            self._out.clear()  # reading finds the end
        events = loops.READ if len(self._out) < UNREAD_LIMIT_BYTES else 0
        if self._out:
            events |= loops.WRITE
        if events != self._events:
            self._events = events
            self._loop.watch(self._sock.fileno(), events, self._ready)
