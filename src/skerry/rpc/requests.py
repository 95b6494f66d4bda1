"""One request per connection, to a vmshim or to a container shim.

Runs in: every verb of a VM container, container shim.   Imports: _socket, posix, time; errors, jsonio, rpc.
Source:  docs/lifecycle.md 78, 85; docs/vm.md "The vmshim's socket".
Never:   waits longer than it was told to.
"""

import _socket
import posix
import time

from skerry.errors import RpcError, SpecError, VmUnreachable
from skerry.jsonio import dumps, loads
from skerry.rpc.handoff import READY, read_error

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_ANSWER_LIMIT_BYTES = 4 * 1024 * 1024
_READ_BYTES = 65536


class Peer:
    """Where a vmshim listens, and whose VM it is."""

    __slots__ = ("directory", "host_id", "name")

    def __init__(self, directory: str, name: str, host_id: str) -> None:
        self.directory, self.name, self.host_id = directory, name, host_id

    def connect(self, limit_s: float) -> "_socket.socket":
        """Errors  VmUnreachable."""
        sock = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM | _socket.SOCK_CLOEXEC)
        # One that is stopped has a queue, which may be full.
        sock.settimeout(limit_s)
        try:
            directory = posix.open(self.directory, posix.O_PATH | posix.O_DIRECTORY | posix.O_CLOEXEC)
            try:
                # A path of a socket ends at 108 bytes, one of a directory does not.
                sock.connect(f"/proc/self/fd/{directory}/{self.name}")
            finally:
                posix.close(directory)
        except OSError as error:
            sock.close()
            unreachable = self.unreachable()
            unreachable.is_late = isinstance(error, BlockingIOError | TimeoutError)
            raise unreachable from error
        return sock

    def unreachable(self) -> VmUnreachable:
        return VmUnreachable(f"VM {self.host_id} cannot be contacted", id=self.host_id)

    def ask(self, id: str, op: str, value: object = None, *, limit_s: float) -> "Any":
        """Ask, and read the answer to its end; the document, None without one.

        Errors  what was answered; VmUnreachable where nobody does, in time.
        """
        sock = self.connect(limit_s)
        try:
            deadline = time.monotonic() + limit_s
            self._send(sock, id, op, value, limit_s)
            answer = b""
            while piece := self._receive(sock, deadline, op):
                answer += piece
                if len(answer) > _ANSWER_LIMIT_BYTES:
                    raise RpcError(f"{op}: the answer is longer than {_ANSWER_LIMIT_BYTES} bytes")
            return self._judge(answer)
        finally:
            sock.close()

    def open(self, id: str, op: str, value: object = None, *, limit_s: float) -> "tuple[int, Any]":
        """Ask for what goes on after the answer: (fd, document).

        Owns    the caller closes the fd.
        """
        sock = self.connect(limit_s)
        try:
            deadline = time.monotonic() + limit_s
            self._send(sock, id, op, value, limit_s)
            answer = b""
            while not answer.endswith(b"\n"):
                # What comes behind the line is not ours to read.
                piece = self._receive(sock, deadline, op, _socket.MSG_PEEK)
                if not piece:
                    break
                answer += sock.recv(piece.find(b"\n") + 1 or len(piece))
            document = self._judge(answer)
            sock.settimeout(None)
            return sock.detach(), document
        finally:
            sock.close()

    def listen_for_answer(self, *, limit_s: float) -> None:
        """Connect to a shim, which takes that for `start`, and hear what came of it.

        Errors  VmUnreachable where it does not listen any more; what it answered.
        """
        sock = self.connect(limit_s)
        try:
            deadline = time.monotonic() + limit_s
            answer = b""
            while len(answer) <= _ANSWER_LIMIT_BYTES:
                piece = self._receive(sock, deadline, "start")
                if not piece:
                    break
                answer += piece
            if not answer:
                raise RpcError("the shim ended before the program ran")
            self._judge(answer)
        finally:
            sock.close()

    def _send(self, sock: "_socket.socket", id: str, op: str, value: object, limit_s: float) -> None:
        request: dict[str, Any] = {"ID": id, "Op": op}
        if value is not None:
            request["Value"] = value
        sock.settimeout(limit_s)
        try:
            sock.sendall(dumps(request) + b"\n")
        except OSError as error:
            raise self.unreachable() from error

    def _receive(self, sock: "_socket.socket", deadline: float, op: str, flags: int = 0) -> bytes:
        rest = deadline - time.monotonic()
        try:
            sock.settimeout(max(rest, 0.001))
            return sock.recv(_READ_BYTES, flags)
        except TimeoutError:
            late = VmUnreachable(
                f"VM {self.host_id} cannot be contacted: no answer to {op} in time", id=self.host_id
            )
            late.is_late = True
            raise late from None
        except OSError as error:
            raise self.unreachable() from error

    def _judge(self, answer: bytes) -> "Any":
        if not answer:
            raise self.unreachable()  # it ended while it worked on this
        if not answer.startswith(READY):
            raise read_error(answer)
        rest = answer[len(READY) :]
        if not rest:
            return None
        try:
            return loads(rest)
        except SpecError as error:
            raise RpcError(f"bad answer: {error}") from error
