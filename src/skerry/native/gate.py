"""The gate: a socket that init waits on between create and start.

Runs in: create, start, state, delete, list (hot).   Imports: _socket, posix, select; linux.fd, plan.ops.
Source:  docs/decisions/0001; unix(7).
Never:   is stored as a word: the gate stands as long as init holds its socket.

`start` sends one datagram with the write end of a pipe. Init answers `+` on it, runs the startContainer hooks and
calls execve, which closes the pipe: `+` and end of file is success, `+` and a record is that error, nothing at all is
another start that was quicker.
"""

import _socket
import errno
import posix
import select
import struct

from skerry import paths
from skerry.errors import EngineError, KernelError
from skerry.linux.fd import send_with_fds
from skerry.native.conversation import Record
from skerry.plan import ops

_KIND = _socket.SOCK_DGRAM | _socket.SOCK_CLOEXEC
_RECORD_BYTES = struct.calcsize(ops.RECORD_FORMAT)
_ANSWER_LIMIT_BYTES = 4096
# A socket's path ends at 108 bytes; relative to a directory fd it never does.
_PATH = "/proc/self/fd/{}/" + paths.GATE


class TakenError(Exception):
    """Another start opened the gate first."""


def make(directory_fd: int) -> "_socket.socket":
    """Bind the gate in the id's directory, 0600.

    Owns    the caller closes it, once skerry-init has it.
    """
    sock = _socket.socket(_socket.AF_UNIX, _KIND)
    try:
        # The directory is 0700, so nobody gets in between the two.
        sock.bind(_PATH.format(directory_fd))
        posix.chmod(paths.GATE, 0o600, dir_fd=directory_fd)
    except OSError as error:
        sock.close()
        raise KernelError("make", "the gate", error.errno or 0) from error
    return sock


def stands(directory_fd: int) -> bool:
    """Whether init still waits there. Asking queues nothing."""
    sock = _connect(directory_fd)
    if sock is None:
        return False
    sock.close()
    return True


def open_gate(directory_fd: int, limit_s: int) -> "Record | None":
    """Let init go on; None when the program runs, else what it reported.

    Errors  TakenError; EngineError where init does not answer.
    """
    sock = _connect(directory_fd)
    if sock is None:
        raise TakenError
    reader, writer = posix.pipe2(posix.O_CLOEXEC)
    try:
        try:
            send_with_fds(sock, b"start", [writer])
        except KernelError as error:
            if error.errno == errno.ECONNREFUSED:  # init has ended since we connected
                raise TakenError from None
            raise
        finally:
            posix.close(writer)
            sock.close()
        answer = _read_answer(reader, limit_s)
    finally:
        posix.close(reader)
    if not answer:
        raise TakenError
    if len(answer) >= 1 + _RECORD_BYTES:
        return Record(answer[1:], -1)
    return None


def _read_answer(reader: int, limit_s: int) -> bytes:
    """All that init says until it closes the pipe; hooks may take their time in between."""
    import time

    answer = b""
    poller = select.poll()
    poller.register(reader, select.POLLIN)
    deadline = time.monotonic() + limit_s
    while True:
        rest = int((deadline - time.monotonic()) * 1000)
        if rest <= 0 or not poller.poll(rest):
            raise EngineError(f"cannot start the container: no answer within {limit_s} s")
        chunk = posix.read(reader, _ANSWER_LIMIT_BYTES)
        if not chunk:
            return answer
        answer += chunk


def _connect(directory_fd: int) -> "_socket.socket | None":
    sock = _socket.socket(_socket.AF_UNIX, _KIND)
    try:
        sock.connect(_PATH.format(directory_fd))
    except OSError as error:
        sock.close()
        if error.errno in (errno.ECONNREFUSED, errno.ENOENT):
            return None
        raise KernelError("reach", "the gate", error.errno or 0) from error
    return sock
