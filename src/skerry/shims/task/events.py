"""Events to containerd: queued, in order, again until they are taken.

Runs in: the task shim.   Imports: _socket, errno, time; loop, .protobuf, .messages, .ttrpc.
Source:  containerd.services.events.ttrpc.v1.Events; engines "Events".
Never:   waits for containerd, or tells an event before the one that was published earlier.

One event is under way at a time: containerd serves calls of a connection side by side, so two at once could overtake
each other. While containerd is down the queue grows up to its limit; then the oldest is lost, and the log says so.
"""

import _socket
import time

from skerry.shims.task import loop as loops
from skerry.shims.task import messages, protobuf, ttrpc

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from skerry.log import Log

SERVICE, METHOD = "containerd.services.events.ttrpc.v1.Events", "Forward"
NAMESPACE_KEY = "containerd-namespace-ttrpc"
QUEUE_LIMIT = 2048
ANSWER_S = 5.0
REFUSALS_LIMIT = 5  # an event that containerd answers with an error so often is dropped
_LONGEST_PAUSE_S = 5.0
_READ_BYTES = 1 << 16


def timestamp(nanoseconds: int) -> "dict[str, int]":
    seconds, nanos = divmod(nanoseconds, 1_000_000_000)
    return {"seconds": seconds, "nanos": nanos}


class Publisher:
    """The way to containerd's event exchange at `address` ("" for none)."""

    __slots__ = (
        "_address", "_attempts", "_frames", "_log", "_loop", "_marks", "_namespace", "_queue", "_sent", "_sock",
        "_stream", "_timer", "drained",
    )  # fmt: skip

    def __init__(self, loop: loops.Loop, address: str, namespace: str, log: "Log") -> None:
        self._loop = loop
        self._address = address.removeprefix("unix://")
        self._namespace = namespace
        self._log = log
        self._queue: list[tuple[str, bytes]] = []  # topic, Forward request
        self._marks: list[tuple[tuple[str, bytes], Callable[[], object]]] = []
        self._sock: _socket.socket | None = None
        self._frames = ttrpc.Frames()
        self._stream = -1
        self._sent = False
        self._attempts = 0
        self._timer = 0
        self.drained: Callable[[], object] | None = None

    @property
    def empty(self) -> bool:
        return not self._queue

    def publish(self, topic: str, event: "dict[str, Any]") -> None:
        if not self._address:
            return
        name, table = messages.EVENTS[topic]
        value = protobuf.encode(table, event)
        envelope = {
            "timestamp": timestamp(time.time_ns()),
            "namespace": self._namespace,
            "topic": topic,
            "event": {"type_url": f"containerd.events.{name}", "value": value},
        }
        payload = protobuf.encode(messages.FORWARD, {"envelope": envelope})
        if len(self._queue) >= QUEUE_LIMIT:
            # Not the first: it may be under way.
            lost = self._queue.pop(1)
            self._log.warning(f"event {lost[0]} is lost: {QUEUE_LIMIT} wait for containerd")
        self._queue.append((topic, payload))
        self._next()

    def delivered(self, limit_s: float, then: "Callable[[], object]") -> None:
        """Go on when what is published by now is with containerd, or when the time is up."""
        if not self._queue:
            then()
            return
        mark = [then]
        last = self._queue[-1]

        def go() -> None:
            self._loop.cancel(timer)
            if mark:
                mark.pop()()

        timer = self._loop.call_later(limit_s, go)
        self._marks.append((last, go))

    def _next(self) -> None:
        """Send the head of the queue, unless it is under way or its time has not come."""
        if self._sent or self._timer:
            return
        if not self._queue:
            if self.drained is not None:
                self.drained()
            return
        if self._sock is None and not self._connect():
            return
        self._stream += 2
        self._sent = True
        request = {
            "service": SERVICE,
            "method": METHOD,
            "payload": self._queue[0][1],
            "timeout_nano": int(ANSWER_S * 1e9),
            "metadata": [{"key": NAMESPACE_KEY, "value": self._namespace}],
        }
        body = protobuf.encode(messages.REQUEST, request)
        self._timer = self._loop.call_later(ANSWER_S, self._late)
        sock = self._sock
        data = ttrpc.frame(self._stream, ttrpc.REQUEST, body)
        try:
            # An event is far smaller than a socket's buffer, and the buffer is empty.
            if sock is None or sock.send(data, _socket.MSG_NOSIGNAL) != len(data):
                self._again("the event was sent in part")
        except OSError as error:
            self._again(error.strerror or "")

    def _connect(self) -> bool:
        kind = _socket.SOCK_STREAM | _socket.SOCK_CLOEXEC | _socket.SOCK_NONBLOCK
        sock = _socket.socket(_socket.AF_UNIX, kind)
        try:
            sock.connect(self._address)
        except (OSError, ValueError) as error:
            sock.close()
            self._again(str(error))
            return False
        self._sock = sock
        self._frames = ttrpc.Frames()
        self._loop.watch(sock.fileno(), loops.READ, self._ready)
        return True

    def _ready(self, events: int) -> None:
        sock = self._sock
        if sock is None:
            return
        try:
            data = sock.recv(_READ_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._disconnect()
            if self._sent:
                self._again("containerd has closed the connection")
            return
        for stream, kind, body in self._frames.feed(data):
            if kind == ttrpc.RESPONSE and stream == self._stream and self._sent:
                self._answered(body or b"")

    def _answered(self, body: bytes) -> None:
        status = protobuf.decode(messages.RESPONSE, body)["status"] or {"code": 0}
        if status["code"] and self._attempts < REFUSALS_LIMIT:
            self._again(status["message"])
            return
        if status["code"]:
            self._log.warning(f"event {self._queue[0][0]} is refused: {status['message']}")
        self._settle()
        self._attempts = 0
        taken = self._queue.pop(0)
        self._next()
        for mark in [mark for mark in self._marks if mark[0] is taken]:
            self._marks.remove(mark)
            mark[1]()

    def _late(self) -> None:
        self._timer = 0
        self._disconnect()
        self._again(f"no answer within {ANSWER_S:g} s")

    def _again(self, cause: str) -> None:
        """The head stays the head; another try after a pause."""
        self._settle()
        self._attempts += 1
        if self._attempts == 1:
            self._log.info(f"event {self._queue[0][0]} waits for containerd: {cause}")
        pause = min(float(self._attempts), _LONGEST_PAUSE_S)
        self._timer = self._loop.call_later(pause, self._resume)

    def _resume(self) -> None:
        self._timer = 0
        self._next()

    def _settle(self) -> None:
        self._sent = False
        self._loop.cancel(self._timer)
        self._timer = 0

    def _disconnect(self) -> None:
        if self._sock is not None:
            self._loop.unwatch(self._sock.fileno())
            self._sock.close()
            self._sock = None
