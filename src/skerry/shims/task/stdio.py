"""Where a process reads and writes: fifos, files and loggers, as the request names them.

Runs in: the task shim.   Imports: posix, errno, fcntl; errors, linux.
Source:  fifo(7); containerd's cio and runtime/v2/logging; engines "stdio".
Never:   copies: without a terminal the program gets the fifo itself. Never waits for the other end of one either, and
         takes no address from anything but the request (CVE-2026-53488).

    no scheme   a fifo of the client (or a file); empty: nothing
    file        a path to append to
    binary      a program that reads: 3 standard output, 4 standard error, 5 ready when it is closed

What keeps a fifo usable when nobody else has it open is held here as long as the process is known: a read end, so that
a client that goes away does not break the pipe, and for standard input a write end until CloseIO, so that it has no
end before.
"""

import fcntl
import posix

from skerry.errors import KernelError, UsageError
from skerry.linux import process
from skerry.linux.fd import close_all

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

NULL = "/dev/null"
_S_IFMT, _S_IFIFO = 0o170000, 0o10000
_APPEND = posix.O_WRONLY | posix.O_APPEND | posix.O_CLOEXEC | posix.O_NOCTTY
_READ_NOW = posix.O_RDONLY | posix.O_NONBLOCK | posix.O_CLOEXEC | posix.O_NOCTTY
_WRITE = posix.O_WRONLY | posix.O_CLOEXEC | posix.O_NOCTTY
_SIGKILL = 9


class Stdio:
    """The streams of one process. `close` them.

    fds        for the program, until `given`: standard input, output, error
    ready_fd   readable or at its end when the logger is ready; -1 without one
    logger     pid of the logger, 0 without one
    """

    __slots__ = ("_kept", "_stdin_kept", "fds", "logger", "logger_pidfd", "ready_fd")

    def __init__(self) -> None:
        self.fds: list[int] = []
        self._kept: list[int] = []
        self._stdin_kept = -1
        self.ready_fd = -1
        self.logger, self.logger_pidfd = 0, -1

    def given(self) -> None:
        """The program has its own by now: an end of ours would keep it from its readers."""
        close_all([fd for fd in self.fds if fd >= 0])
        self.fds = []

    def close_stdin(self) -> None:
        if self._stdin_kept >= 0:
            posix.close(self._stdin_kept)
            self._stdin_kept = -1

    def take(self, number: int) -> int:
        """The fd of a stream, for a relay that closes it."""
        fd, self.fds[number] = self.fds[number], -1
        return fd

    def logger_ready(self) -> None:
        if self.ready_fd >= 0:
            posix.close(self.ready_fd)
            self.ready_fd = -1

    def kill_logger(self) -> None:
        """One that did not become ready: it would not look at the end of its pipes either."""
        if self.logger_pidfd >= 0:
            process.send_signal(self.logger_pidfd, _SIGKILL)

    def close(self) -> None:
        self.close_stdin()
        self.logger_ready()
        close_all([fd for fd in self.fds if fd >= 0])
        close_all(self._kept)
        if self.logger_pidfd >= 0:
            posix.close(self.logger_pidfd)
        self.fds, self._kept, self.logger_pidfd = [], [], -1

    # opening

    def open_input(self, path: str) -> None:
        if not path:
            self.fds.append(_open(NULL, posix.O_RDONLY | posix.O_CLOEXEC))
            return
        fd = _open(path, _READ_NOW)
        self.fds.append(fd)
        if _is_fifo(fd):
            self._stdin_kept = _open(path, _WRITE | posix.O_NONBLOCK)
        _block(fd)

    def open_output(self, uri: str, same: int = -1) -> None:
        """`same`: an fd that has the same address already."""
        if same >= 0:
            self.fds.append(fcntl.fcntl(same, fcntl.F_DUPFD_CLOEXEC, 3))
        elif not uri:
            self.fds.append(_open(NULL, _WRITE))
        else:
            scheme, path = split(uri)
            if scheme == "file":
                _make_parents(path)
                self.fds.append(_open(path, _APPEND | posix.O_CREAT))
            else:
                self._open_fifo(path)

    def _open_fifo(self, path: str) -> None:
        reader = _open(path, _READ_NOW)
        if not _is_fifo(reader):
            posix.close(reader)
            self.fds.append(_open(path, _APPEND))
            return
        self._kept.append(reader)
        # There is a reader, so this does not wait for one.
        self.fds.append(_open(path, _WRITE))

    def open_logger(self, uri: str, id: str, namespace: str) -> None:
        """Start the program that reads both outputs."""
        _, rest = split(uri)
        path, _, query = rest.partition("?")
        pipes: list[int] = []
        try:
            for _ in range(3):
                pipes += posix.pipe2(posix.O_CLOEXEC)
            out, out_end, err, err_end, ready, ready_end = pipes
            null = _open(NULL, posix.O_RDWR | posix.O_CLOEXEC)
            pipes.append(null)
            env = [f"CONTAINER_ID={id}", f"CONTAINER_NAMESPACE={namespace}"]
            fds = {0: null, 1: null, 2: null, 3: out, 4: err, 5: ready_end}
            self.logger = process.spawn(
                path, [path, *_arguments(query)], env, fds, own_group=True, close_others=True
            )
        except BaseException:
            close_all(pipes)
            raise
        close_all([out, err, ready_end, null])
        self.logger_pidfd = process.child_pidfd(self.logger)
        self.ready_fd = ready
        self.fds.append(out_end)
        self.fds.append(err_end)


def open_stdio(request: "dict[str, Any]", namespace: str, owner: "tuple[int, int]") -> Stdio:
    """Open what the request (Create or Exec) names.

    Shape   `owner`: (uid, gid) for the pipes, 0 to leave them.
    Errors  UsageError for an unknown scheme; KernelError.
    """
    stdio = Stdio()
    out, err = request["stdout"], "" if request["terminal"] else request["stderr"]
    try:
        stdio.open_input(request["stdin"])
        if out and split(out)[0] == "binary":
            stdio.open_logger(out, request["id"], namespace)
        else:
            stdio.open_output(out)
            stdio.open_output(err, stdio.fds[1] if err and err == out else -1)
        if any(owner):
            _give_away(stdio.fds, owner)
    except BaseException:
        stdio.close()
        raise
    return stdio


def split(uri: str) -> "tuple[str, str]":
    """(scheme, path); a fifo's has none."""
    scheme, mark, path = uri.partition("://")
    if not mark:
        return "fifo", uri
    if scheme not in ("fifo", "file", "binary"):
        raise UsageError(f"cannot use {scheme}:// for output: only fifo, file and binary")
    return scheme, path


def _arguments(query: str) -> "list[str]":
    """k=v&x=y as the words k v x y."""
    words: list[str] = []
    for pair in query.split("&"):
        name, _, value = pair.partition("=")
        if name:
            words += (_unquote(name), _unquote(value))
    return words


def _unquote(text: str) -> str:
    head, *escaped = text.replace("+", " ").split("%")
    raw = head.encode()
    for part in escaped:
        try:
            raw += bytes.fromhex(part[:2]) + part[2:].encode()
        except ValueError:
            raw += b"%" + part.encode()
    return raw.decode("utf-8", "replace")


def _open(path: str, flags: int) -> int:
    try:
        return posix.open(path, flags, 0o644)
    except (OSError, ValueError) as error:
        raise KernelError("open", path, getattr(error, "errno", 0) or 22) from error


def _is_fifo(fd: int) -> bool:
    return posix.fstat(fd).st_mode & _S_IFMT == _S_IFIFO


def _block(fd: int) -> None:
    """A program reads its input in the ordinary way."""
    flags = fcntl.fcntl(fd, fcntl.F_GETFL)
    fcntl.fcntl(fd, fcntl.F_SETFL, flags & ~posix.O_NONBLOCK)


def _make_parents(path: str) -> None:
    parts = path.split("/")[1:-1]
    for count in range(1, len(parts) + 1):
        try:
            posix.mkdir("/" + "/".join(parts[:count]), 0o755)
        except FileExistsError:
            continue
        except OSError as error:
            raise KernelError("make the directory of", path, error.errno or 0) from error


def _give_away(fds: "list[int]", owner: "tuple[int, int]") -> None:
    for fd in fds:
        if _is_fifo(fd):
            posix.fchown(fd, *owner)
