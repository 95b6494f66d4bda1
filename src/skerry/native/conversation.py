"""What Python and skerry-init say to each other while a process is being made.

Runs in: create, start, exec (hot).   Imports: _socket, select, struct, time; linux.fd, plan.ops.
Source:  plan/ops.py (records), docs/decisions/0001.
Never:   decides; it sends, receives and names.

    Python                                     skerry-init
      go (our pid is on record)      ------>     outer: forks
               <------  pid, pidfd               outer, join: the next process exists
               <------  maps                     its user or time namespace waits
      go (maps, offsets written)     ------>
               <------  hooks                    mounts and /dev are done
      go, state (hooks, limits done) ------>     createContainer hooks, pivot
               <------  fd (terminal's master)
               <------  passwd, fd
      reply, HOME=...                ------>
               <------  fd (number of the seccomp listener)
               <------  ready
      go, state (on record)          ------>     create: to the gate; exec: execve
               <------  failed (operation, errno), at any time
      end of file                                exec: execve worked; else: it died
"""

import _socket
import errno
import select
import struct
import time

from skerry.errors import EngineError, KernelError
from skerry.linux.fd import recv_with_fds
from skerry.plan import ops

_RECORD = struct.Struct(ops.RECORD_FORMAT)
_RECORD_LIMIT_BYTES = 4096


class Record:
    """One record from skerry-init; `tail` is what follows it, `fd` the fd that came along or -1."""

    __slots__ = ("errno", "fd", "kind", "op", "process", "tail", "value")

    def __init__(self, data: bytes, fd: int) -> None:
        self.kind, self.op, self.errno, self.process, self.value = _RECORD.unpack_from(data)
        self.tail = data[_RECORD.size :]
        self.fd = fd


class Conversation:
    """Our end of the socket. `close` it; skerry-init takes that as the order to end."""

    __slots__ = ("_deadline", "_limit_s", "_poller", "_sock", "_what")

    def __init__(self, sock: "_socket.socket", what: str, limit_s: int) -> None:
        self._sock = sock
        self._what = what
        self._limit_s = limit_s
        self._deadline = time.monotonic() + limit_s
        self._poller = select.poll()
        self._poller.register(sock.fileno(), select.POLLIN)

    def fileno(self) -> int:
        """Readable when skerry-init has said something, or has ended."""
        return self._sock.fileno()

    def receive(self) -> "Record | None":
        """Wait for the next record; None at end of file.

        Errors  EngineError at the deadline.
        Owns    the caller closes the record's fd.
        """
        rest = max(0, int((self._deadline - time.monotonic()) * 1000) + 1)
        if not self._poller.poll(rest):
            raise EngineError(f"cannot {self._what}: no answer within {self._limit_s} s")
        try:
            data, fds = recv_with_fds(self._sock, _RECORD_LIMIT_BYTES)
        except KernelError as error:
            if error.errno != errno.ECONNRESET:
                raise
            # It ended without reading our last word; what it had said before is still there.
            data, fds = recv_with_fds(self._sock, _RECORD_LIMIT_BYTES)
        if len(data) < _RECORD.size:
            return None
        return Record(data, fds[0] if fds else -1)

    def send(self, kind: int, payload: bytes = b"", *, value: int = -1) -> None:
        """Send a record; a dead peer is no error here, the next `receive` tells."""
        number = len(payload) if value < 0 else value
        try:
            self._sock.send(_RECORD.pack(kind, 0, 0, 0, number) + payload, _socket.MSG_NOSIGNAL)
        except OSError as error:
            if error.errno not in (errno.EPIPE, errno.ECONNRESET):
                raise KernelError("send", "a record to skerry-init", error.errno or 0) from error

    def close(self) -> None:
        self._sock.close()


def pair() -> "tuple[_socket.socket, _socket.socket]":
    """(ours, skerry-init's)."""
    kind = _socket.SOCK_SEQPACKET | _socket.SOCK_CLOEXEC
    first, second = _socket.socketpair(_socket.AF_UNIX, kind)
    return first, second
