"""Where the shim of a pod listens: one socket for all starts of the pod, claimed by the first.

Runs in: the task shim and its start and delete.   Imports: _sha256, _socket, errno, fcntl, posix; errors.
Source:  unix(7), flock(2); engines "Grouping and socket"; CVE-2020-15257.
Never:   uses an abstract socket, or a directory that others can write to.

Who claims, and who takes away, holds a lock on the directory: two starts at once cannot both find a dead socket, and
none can meet one that is bound and does not listen yet.
"""

import _sha256  # type: ignore[import-not-found]
import _socket
import errno
import fcntl
import posix
import struct

from skerry.errors import Error, KernelError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

DIRECTORY = "/run/containerd/s"
FILE = "address"  # in the bundle, for containerd's recovery
# annotations that say which pod a container belongs to, the first that is there
GROUPS = ("io.containerd.runc.v2.group", "io.kubernetes.cri.sandbox-id")
_PEER = struct.Struct("iII")
_PATH_LIMIT_BYTES = 106
_BACKLOG = 128
_DEAD = (errno.ECONNREFUSED, errno.ENOENT)
_OTHERS_WRITE = 0o022


def group(spec: "dict[str, Any]", id: str) -> str:
    annotations = spec.get("annotations")
    for name in GROUPS:
        found = annotations.get(name) if type(annotations) is dict else None
        if type(found) is str and found:
            return found
    return id


class Address:
    """The socket of one pod: `claim` it, `remove` it."""

    __slots__ = ("_inode", "debug", "directory", "isolation", "namespace", "path")

    def __init__(
        self, grpc_address: str, namespace: str, group: str, isolation: str, directory: str = ""
    ) -> None:
        self.namespace = namespace
        self.isolation = isolation
        self.debug = False  # log more
        self._inode = 0  # of the socket that was claimed
        self.directory = directory or DIRECTORY
        # The isolation is in it, so that no other kind of shim for the same pod is taken for ours.
        name = "\0".join((f"skerry {isolation}", grpc_address, namespace, group))
        self.path = f"{self.directory}/{_sha256.sha256(name.encode()).hexdigest()}"

    @property
    def uri(self) -> str:
        return f"unix://{self.path}"

    def claim(self, kind: int = _socket.SOCK_STREAM) -> "_socket.socket | None":
        """Listen there; None if somebody does already.

        Errors  KernelError; Error for a directory that is not safe.
        Owns    the caller closes the socket.
        """
        if len(self.path.encode()) > _PATH_LIMIT_BYTES:
            raise Error(f"cannot listen on {self.path}: longer than {_PATH_LIMIT_BYTES} bytes")
        lock = self._lock()
        try:
            sock = self._listen(kind)
            if sock is None and not self.answers(kind):
                posix.unlink(self.path)
                sock = self._listen(kind)
            if sock is not None:
                self._inode = posix.stat(self.path).st_ino
            return sock
        except OSError as error:
            raise KernelError("listen on", self.path, error.errno or 0) from error
        finally:
            posix.close(lock)

    def answers(self, kind: int = _socket.SOCK_STREAM) -> bool:
        """Whether somebody listens."""
        sock = _socket.socket(_socket.AF_UNIX, kind | _socket.SOCK_CLOEXEC)
        try:
            sock.connect(self.path)
        except OSError as error:
            if error.errno in _DEAD:
                return False
            raise
        finally:
            sock.close()
        return True

    def is_ours(self, sock: "_socket.socket") -> bool:
        """Whether the caller is root, or who we are."""
        return _peer(sock)[1] in (0, posix.geteuid())

    def caller(self, sock: "_socket.socket") -> int:
        """The process that connected."""
        return _peer(sock)[0]

    def remove(self) -> None:
        """Take away the socket that was claimed, or a dead one; none is no error.

        Errors  KernelError.
        """
        lock = self._lock()
        try:
            found = posix.stat(self.path, follow_symlinks=False).st_ino
            if found == self._inode or (not self._inode and not self.answers()):
                posix.unlink(self.path)
        except FileNotFoundError:
            return
        except OSError as error:
            raise KernelError("remove", self.path, error.errno or 0) from error
        finally:
            posix.close(lock)

    def _listen(self, kind: int) -> "_socket.socket | None":
        """None if the name is taken."""
        sock = _socket.socket(_socket.AF_UNIX, kind | _socket.SOCK_CLOEXEC)
        old = posix.umask(0o177)  # 0600 from the first moment on
        try:
            sock.bind(self.path)
            sock.listen(_BACKLOG)
        except OSError as error:
            sock.close()
            if error.errno == errno.EADDRINUSE:
                return None
            raise
        finally:
            posix.umask(old)
        return sock

    def _lock(self) -> int:
        """Errors  KernelError; Error where others may write."""
        try:
            _make(self.directory)
            fd = posix.open(self.directory, posix.O_RDONLY | posix.O_DIRECTORY | posix.O_CLOEXEC)
            fcntl.flock(fd, fcntl.LOCK_EX)
        except OSError as error:
            raise KernelError("use", self.directory, error.errno or 0) from error
        status = posix.fstat(fd)
        if status.st_uid not in (0, posix.geteuid()) or status.st_mode & _OTHERS_WRITE:
            posix.close(fd)
            raise Error(f"cannot use {self.directory}: others than its owner may write to it")
        return fd


def _make(path: str) -> None:
    """The directory, 0700; those above it are containerd's."""
    try:
        posix.mkdir(path, 0o700)
    except FileExistsError:
        return
    except FileNotFoundError:
        _make(path.rpartition("/")[0])
        posix.mkdir(path, 0o700)


def _peer(sock: "_socket.socket") -> "tuple[int, int]":
    """The caller's pid and user."""
    raw = sock.getsockopt(_socket.SOL_SOCKET, _socket.SO_PEERCRED, _PEER.size)
    pid, user, _ = _PEER.unpack(raw)
    return pid, user
