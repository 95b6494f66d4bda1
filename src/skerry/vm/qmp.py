"""Talk to QEMU: commands in turn, events as they come.

Runs in: vmshim, template builder.   Imports: _socket, select, time; jsonio, linux.fd.
Source:  QEMU docs/interop/qmp-spec, the schema of QEMU 7.2; qemu.qmp is the oracle of the tests.
Never:   waits without a limit, or keeps more than its limit: a guest that broke out speaks through QEMU.

A command takes QEMU milliseconds, so `execute` blocks. What takes the guest's time is told by an event, and that is a
future: `until("DEVICE_DELETED", device="disk3")`.
"""

import _socket
import errno
import select
import time

from skerry.errors import RpcError, VmError
from skerry.jsonio import dumps, loads
from skerry.linux.fd import send_with_fds
from skerry.rpc.loop import Future

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

_READ_BYTES = 64 * 1024
# The longest answer of a command that we give is query-named-block-nodes with some hundred disks.
LINE_LIMIT_BYTES = 1 << 20


class QmpError(VmError):
    """QEMU refused a command. `.kind` is its class of error."""

    def __init__(self, command: str, kind: str, description: str) -> None:
        super().__init__(f"cannot {command}: {description}", phase="device")
        self.kind = kind


class Qmp:
    """Our end of the monitor's socket. An RpcError from it means that QEMU is of no use any more."""

    __slots__ = ("_buffer", "_id", "_limit_s", "_sock", "_waiting")

    def __init__(self, sock: "_socket.socket", *, limit_s: float) -> None:
        """Takes the socket."""
        sock.setblocking(False)
        self._sock = sock
        self._limit_s = limit_s
        self._buffer = bytearray()
        self._id = 0
        self._waiting: list[tuple[str, dict[str, str], Future]] = []

    def fileno(self) -> int:
        return self._sock.fileno()

    def begin(self) -> None:
        """Take QEMU's greeting and agree on what is spoken; before that nothing but this is understood.

        Errors  RpcError when it ends or says nothing.
        """
        deadline = time.monotonic() + self._limit_s
        greeting = self._next(deadline)
        if type(greeting.get("QMP")) is not dict:
            raise RpcError("QEMU greets with something else than QMP")
        self.execute("qmp_capabilities")

    def execute(
        self, command: str, arguments: "dict[str, Any] | None" = None, fds: "Sequence[int]" = ()
    ) -> "Any":
        """One command and its answer; fds ride along and stay open here.

        Errors  QmpError for what QEMU refuses; RpcError when it is gone, too slow, or talks rubbish.
        """
        self._id += 1
        request: dict[str, Any] = {"execute": command, "id": self._id}
        if arguments:
            request["arguments"] = arguments
        deadline = time.monotonic() + self._limit_s
        self._send(dumps(request) + b"\n", fds, deadline)
        while True:
            message = self._next(deadline)
            if message.get("id") != self._id:  # an answer to none of ours, or an error without id
                raise RpcError("QEMU answers what nobody asked")
            self._take_events()
            if "return" in message:
                return message["return"]
            error = message.get("error")
            if type(error) is not dict:
                raise RpcError("QEMU gives neither answer nor error")
            raise QmpError(command, str(error.get("class")), str(error.get("desc")))

    def until(self, event: str, **data: str) -> Future:
        """Done with the event's data when one comes whose data has these values; ask before what causes it."""
        future = Future()
        row = (event, data, future)
        self._waiting.append(row)
        future.then(lambda _: self._waiting.remove(row))
        return future

    def pump(self) -> None:
        """Take what has come, without waiting; for the loop.

        Errors  RpcError as for `execute`.
        """
        while self._receive():
            pass
        self._take_events()

    def give_up(self) -> None:
        """No event will come any more: who waits for one learns it now."""
        for _, _, future in list(self._waiting):
            future.fail(RpcError("QEMU has ended"))

    def close(self) -> None:
        self._sock.close()

    def _send(self, data: bytes, fds: "Sequence[int]", deadline: float) -> None:
        """The socket holds far more than a command: nothing is left of the last one when the next is sent."""
        self._wait(select.POLLOUT, deadline)
        try:
            send_with_fds(self._sock, data, fds)
        except OSError as error:
            raise RpcError("QEMU takes no commands any more") from error

    def _next(self, deadline: float) -> "dict[str, Any]":
        """The next message that is no event."""
        while True:
            while (line := self._line()) is None:
                if not self._receive():
                    self._wait(select.POLLIN, deadline)
            message = self._parse(line)
            if "event" not in message:
                return message
            self._event(message)

    def _take_events(self) -> None:
        """All that has been read: nothing would call us for it again."""
        while (line := self._line()) is not None:
            self._event(self._parse(line))

    def _event(self, message: "dict[str, Any]") -> None:
        if "event" not in message:
            raise RpcError("QEMU answers what nobody asked")
        data = message.get("data")
        if type(data) is not dict:
            data = {}
        for event, wanted, future in list(self._waiting):
            if message["event"] == event and all(
                data.get(key) == value for key, value in wanted.items()
            ):
                future.set(data)

    def _line(self) -> "bytes | None":
        end = self._buffer.find(b"\n")
        if end < 0:
            if len(self._buffer) > LINE_LIMIT_BYTES:
                raise RpcError(f"QEMU says more than {LINE_LIMIT_BYTES} bytes at once")
            return None
        line = bytes(self._buffer[:end])
        del self._buffer[: end + 1]
        return line

    def _parse(self, line: bytes) -> "dict[str, Any]":
        try:
            message = loads(line, what="QEMU's answer")
        except ValueError:
            message = None
        except Exception as error:
            raise RpcError(f"QEMU does not speak JSON: {error}") from error
        if type(message) is not dict:
            raise RpcError("QEMU does not speak QMP")
        return message

    def _receive(self) -> bool:
        """Whether something was there."""
        try:
            data = self._sock.recv(_READ_BYTES)
        except BlockingIOError:
            return False
        except OSError as error:
            if error.errno != errno.ECONNRESET:
                raise RpcError(f"cannot read from QEMU: {error.strerror}") from error
            data = b""
        if not data:
            raise RpcError("QEMU is gone")
        self._buffer += data
        return len(self._buffer) <= LINE_LIMIT_BYTES

    def _wait(self, events: int, deadline: float) -> None:
        poller = select.poll()
        poller.register(self._sock.fileno(), events)
        rest = deadline - time.monotonic()
        if rest <= 0 or not poller.poll(rest * 1000):
            raise RpcError(f"QEMU did not answer within {self._limit_s:g} s")
