"""Starting a helper: the same program, a hidden verb, data on stdin, one answer on stdout.

Runs in: create, start, exec of VM containers; `answer` in the helpers.   Imports: posix, select, sys, time; linux.
Source:  docs/lifecycle.md 55-62.
Never:   leaves a child behind that did not become ready, not even a zombie.

    launcher                                    helper
    data (a sealed file, or /dev/null)   -->    stdin
    reads to the end                     <--    \\0OK\\0, or the text of an error, then its document
    log, if there is one                 <--    stderr
"""

import _socket
import posix
import select
import sys
import time

from skerry import paths
from skerry.errors import Error, KernelError, RpcError
from skerry.jsonio import dumps, loads
from skerry.linux import process
from skerry.linux.fd import memfd
from skerry.rpc import failures

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

READY = b"\0OK\0"
# An error's text, and behind a NUL the same as a document.
_ANSWER_LIMIT_BYTES = 64 * 1024
_SIGKILL = 9
_OPEN_LOG = posix.O_WRONLY | posix.O_CREAT | posix.O_APPEND | posix.O_CLOEXEC | posix.O_NOCTTY


class Helper:
    """A helper that is ready. The pidfd is the caller's to close."""

    __slots__ = ("pid", "pidfd", "start_time")

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.start_time = process.start_time(pid)
        self.pidfd = process.child_pidfd(pid)

    def kill(self) -> None:
        """End and reap it; once done it does nothing."""
        if self.pidfd >= 0:
            process.send_signal(self.pidfd, _SIGKILL)
            process.wait_exit(self.pidfd)
            posix.close(self.pidfd)
            self.pidfd = -1


def program() -> "list[str]":
    """What starts this very skerry, as its launcher does."""
    return [sys.executable, "-I", "-S", "-B", "-X", "utf8", paths.launch_path(), "skerry"]


def launch(
    words: "list[str]", *, data: object, fds: "dict[int, int]", log: str, limit_s: float, what: str
) -> Helper:
    """Start a helper and wait for its answer.

    Shape   `data` any JSON value, None for none; `fds` {number there: fd here} beyond 0-2; `log` a file or socket.
    Errors  what the helper answered; RpcError if it says nothing in time, or dies.
    """
    null = posix.open("/dev/null", posix.O_RDWR | posix.O_CLOEXEC)
    opened = [null]
    reader, writer = posix.pipe2(posix.O_CLOEXEC)
    helper = None
    try:
        stdin = null if data is None else memfd("data", dumps(data))
        opened.append(stdin)
        stderr = open_log_target(log) if log else null
        opened.append(stderr)
        argv = [*program(), *words]
        mapping = {0: stdin, 1: writer, 2: stderr, **fds}
        helper = Helper(process.spawn(argv[0], argv, posix.environ, mapping, close_others=True))
        posix.close(writer)
        writer = -1
        _await_ready(helper, reader, limit_s, what)
        return helper
    except BaseException:
        if helper is not None:
            helper.kill()
        raise
    finally:
        for fd in {reader, writer, *opened} - {-1}:
            posix.close(fd)


def _await_ready(helper: Helper, reader: int, limit_s: float, what: str) -> None:
    deadline = time.monotonic() + limit_s
    poller = select.poll()
    poller.register(reader, select.POLLIN)
    answer = b""
    while True:
        rest = deadline - time.monotonic()
        if rest <= 0 or not poller.poll(rest * 1000):
            raise RpcError(f"{what} did not become ready within {limit_s:g} s")
        piece = posix.read(reader, 65536)
        if not piece:
            break
        answer += piece
        if len(answer) > _ANSWER_LIMIT_BYTES:
            raise RpcError(f"{what} answered more than {_ANSWER_LIMIT_BYTES} bytes")
    if answer == READY:
        return
    if answer:
        raise read_error(answer)
    process.send_signal(helper.pidfd, _SIGKILL)
    ended = process.wait_exit(helper.pidfd)
    if ended is None:
        raise RpcError("unknown shim failure")
    raise RpcError(f"unknown shim failure, exit code {ended[0]}")


def error_bytes(error: BaseException) -> bytes:
    """What a process of ours answers when it cannot: the text, NUL, the document."""
    document = failures.encode(error)
    text = str(error) if isinstance(error, Error) else document["message"]
    return text.encode() + b"\0" + dumps(document)


def read_error(answer: bytes) -> Error:
    """The error that was answered; text without a document is one as well."""
    text, _, document = answer.partition(b"\0")
    if document:
        try:
            return failures.decode(loads(document))
        except Error:
            return RpcError("the answer is neither ready nor an error")
    return RpcError(text.decode("utf-8", "replace").removesuffix("\n"))


class Answer:
    """In the helper: the status pipe, from the start to the one answer. After it 0 and 1 are /dev/null."""

    __slots__ = ("_fd",)

    def __init__(self) -> None:
        self._fd = posix.dup(1)
        posix.set_inheritable(self._fd, False)
        null = posix.open("/dev/null", posix.O_RDWR | posix.O_CLOEXEC)
        posix.dup2(null, 1)
        posix.close(null)

    @property
    def given(self) -> bool:
        return self._fd < 0

    def ready(self) -> None:
        """Errors  RpcError where nobody waits for it any more."""
        self._give(READY)

    def fail(self, error: BaseException) -> None:
        self._give(error_bytes(error))

    def _give(self, data: bytes) -> None:
        if self._fd < 0:
            return
        fd, self._fd = self._fd, -1
        try:
            posix.write(fd, data)
        except OSError as error:
            raise RpcError("nobody waits for this helper any more") from error
        finally:
            posix.close(fd)


def read_data() -> "Any":
    """In the helper: the launcher's data, None without any; stdin is /dev/null afterwards."""
    data = b""
    while piece := posix.read(0, 1024 * 1024):
        data += piece
    null = posix.open("/dev/null", posix.O_RDWR | posix.O_CLOEXEC)
    posix.dup2(null, 0)
    posix.close(null)
    return loads(data) if data else None


def open_log_target(path: str) -> int:
    """A file to append to, 0600, or a unix socket that is listening.

    Errors  KernelError.
    """
    try:
        return posix.open(path, _OPEN_LOG, 0o600)
    except OSError as error:
        import errno

        if error.errno != errno.ENXIO:
            raise KernelError("open", f"log {path}", error.errno or 0) from error
    sock = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM | _socket.SOCK_CLOEXEC)
    try:
        sock.connect(path)
        return sock.detach()
    except OSError as error:
        sock.close()
        raise KernelError("connect to", f"log {path}", error.errno or 0) from error
