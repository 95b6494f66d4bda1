"""A link: frames both ways over one fd, a socket or the guest's serial port.

Runs in: vmshim, container shim, agent.   Imports: posix; errors, rpc.
Source:  docs/vm.md "The link".
Never:   blocks, or keeps more than its limit of what a peer does not take.
"""

import posix

from skerry.errors import RpcError, SpecError
from skerry.jsonio import dumps, loads
from skerry.rpc import frames
from skerry.rpc.loop import READ, WRITE, Loop

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any


_READ_BYTES = 64 * 1024
# Streams cannot fill the queue: their senders stop for want of credit. Only requests can.
_QUEUE_LIMIT_BYTES = 8 * 1024 * 1024


def document(payload: bytes) -> "dict[str, Any]":
    """What a CONTROL frame carries.

    Errors  RpcError for anything but an object; its words go after who sent it.
    """
    try:
        value = loads(payload)
    except SpecError as error:
        raise RpcError(f"no JSON: {error}") from error
    if type(value) is not dict:
        raise RpcError("a document that is no object")
    return value


class Link:
    """One end.

    on_frame(kind, stream, payload)   for each frame; may close the link
    on_end(error)                     once: None for an orderly end of file, else what was wrong
    """

    __slots__ = ("_fd", "_loop", "_on_end", "_on_frame", "_queue", "_reader")

    def __init__(
        self,
        loop: Loop,
        fd: int,
        *,
        on_frame: "Callable[[int, int, bytes], None]",
        on_end: "Callable[[RpcError | None], None]",
        control_limit: int,
    ) -> None:
        """Takes ownership of the fd."""
        posix.set_blocking(fd, False)
        self._loop, self._fd = loop, fd
        self._on_frame, self._on_end = on_frame, on_end
        self._reader = frames.Reader(control_limit)
        self._queue = bytearray()
        loop.watch(fd, READ, self._events)

    @property
    def open(self) -> bool:
        return self._fd >= 0

    def send(self, kind: int, stream: int, payload: "bytes | memoryview" = b"") -> None:
        """Send or queue a frame; after the end it goes nowhere."""
        self._put(frames.encode(kind, stream, payload))

    def send_json(self, document: object) -> None:
        self.send(frames.CONTROL, frames.CONTROL_STREAM, dumps(document))

    def grant(self, stream: int, size: int) -> None:
        """Let the peer send so many more bytes of the stream."""
        self._put(frames.credit(stream, size))

    def close(self) -> None:
        """No more; on_end is not called."""
        if self._fd >= 0:
            self._loop.unwatch(self._fd)
            posix.close(self._fd)
            self._fd = -1

    def _put(self, data: bytes) -> None:
        if self._fd < 0:
            return
        if len(self._queue) + len(data) > _QUEUE_LIMIT_BYTES:
            self._end(RpcError("the peer takes nothing any more"))
            return
        was_empty = not self._queue
        self._queue += data
        if was_empty:
            self._flush()

    def _flush(self) -> None:
        try:
            while self._queue:
                del self._queue[: posix.write(self._fd, self._queue)]
        except BlockingIOError:
            pass
        except OSError as error:
            self._end(RpcError(f"cannot write to the peer: {error.strerror}"))
            return
        self._loop.watch(self._fd, READ | WRITE if self._queue else READ, self._events)

    def _events(self, events: int) -> None:
        if events & WRITE:
            self._flush()
        if self._fd >= 0 and events & ~WRITE:
            self._take()

    def _take(self) -> None:
        try:
            data = posix.read(self._fd, _READ_BYTES)
        except BlockingIOError:
            return
        except OSError as error:
            self._end(RpcError(f"cannot read from the peer: {error.strerror}"))
            return
        if not data:
            self._end(RpcError("the peer ended within a frame") if self._reader.pending() else None)
            return
        try:
            for frame in self._reader.feed(data):
                self._on_frame(*frame)
                if self._fd < 0:
                    return
        except RpcError as error:
            self._end(error)

    def _end(self, error: "RpcError | None") -> None:
        if self._fd >= 0:
            self.close()
            self._on_end(error)
