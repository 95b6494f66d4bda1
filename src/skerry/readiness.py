"""That a container's program is ready, by sd_notify, for the service manager that called us.

Runs in: create, start, run with NOTIFY_SOCKET set.   Imports: _socket, fcntl, posix, select; errors, paths, state.
Source:  sd_notify(3), unix(7); docs/lifecycle.md 131; runc's behaviour.
Never:   hands on a word of the program's but READY=1, or a descriptor.

    create:  the directory `notify` of the id is bound, read-only, at /run/notify, and named in the environment
    start:   program -- READY=1 --> /run/notify/notify.sock -> us -- READY=1, MAINPID=n --> the caller's socket
"""

import _socket
import fcntl
import posix
import select

from skerry import paths
from skerry.errors import KernelError, StateError
from skerry.state import status as words

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from skerry.container import Container
    from skerry.log import Log

INSIDE = "/run/notify"
_SOCKET = "notify.sock"
# Private: what is mounted on the host's side of it later is none of the container's business.
_OPTIONS = ["bind", "private", "nosuid", "noexec", "nodev", "ro"]
_KIND = _socket.SOCK_DGRAM | _socket.SOCK_CLOEXEC
_MESSAGE_BYTES = 4096
# The kernel queues net.unix.max_dgram_qlen messages, 512 unless root wants more; who goes on sending is not waited for.
_QUEUE = 512
# How long a manager may leave its own queue full.
_SEND_S = 10
_ENAMETOOLONG = 36


def offer(spec: "dict[str, Any]", directory: str) -> "dict[str, Any]":
    """A spec whose program finds our socket, which lies in a directory of the host; the given one stays as it is."""
    mount = {"destination": INSIDE, "type": "bind", "source": directory, "options": _OPTIONS}
    process = spec["process"]
    env = [entry for entry in process.get("env") or () if not entry.startswith("NOTIFY_SOCKET=")]
    process = {**process, "env": [*env, f"NOTIFY_SOCKET={INSIDE}/{_SOCKET}"]}
    return {**spec, "process": process, "mounts": [*(spec.get("mounts") or ()), mount]}


def make_directory(container: "Container") -> None:
    """Make what `offer` names. The id's directory is 0700; this one is seen by the container's user."""
    directory = container.store.directory(container.id)
    try:
        posix.mkdir(paths.NOTIFY, 0o755, dir_fd=directory)
        posix.chmod(paths.NOTIFY, 0o755, dir_fd=directory)  # whatever the umask
    except OSError as error:
        raise KernelError("make", "the directory for NOTIFY_SOCKET", error.errno or 0) from error
    finally:
        posix.close(directory)


def is_ready(message: bytes) -> bool:
    """Whether a datagram of sd_notify says READY=1, in any of its lines."""
    return b"READY=1" in message.split(b"\n")


def start(container: "Container", address: str) -> None:
    """Container.start, then wait until the program is ready or has ended."""
    listener = listen(container, address, container.engine.pid())
    if listener is None:
        container.start()
        return
    try:
        container.start()
        listener.wait()
    finally:
        listener.close()


def listen(container: "Container", address: str, main_pid: int) -> "Listener | None":
    """Be there when the program of a created container speaks.

    None where there is nothing to wait for: the container has no such socket, is not at its gate or is just being
    started by another; a caller that cannot be told costs a warning.
    Owns    the caller closes it.
    """
    if container.status() != words.CREATED:
        return None
    directory = _lock_directory(container)
    if directory < 0:
        return None
    caller = _reach(address, container.log)
    try:
        if caller is not None:
            _, pidfd = container.engine.init()
            return Listener(_bind(directory), caller, directory, pidfd, main_pid, container.log)
    except StateError:  # it has just ended; start says so
        pass
    except BaseException:
        posix.close(directory)
        raise
    posix.close(directory)
    return None


class Listener:
    """The container's socket while somebody reads it.

    fd       readable when the program has said something: `take` it
    """

    __slots__ = ("_caller", "_directory", "_log", "_main_pid", "_pidfd", "_socket", "fd")

    def __init__(
        self,
        sock: "_socket.socket",
        caller: "_socket.socket",
        directory: int,
        pidfd: int,
        main_pid: int,
        log: "Log",
    ) -> None:
        self._socket, self._caller = sock, caller
        self._directory, self._pidfd = directory, pidfd
        self._main_pid = main_pid
        self._log = log
        self.fd = sock.fileno()

    def take(self) -> bool:
        """Read one message; whether the program is ready, which is handed on the first time."""
        try:
            # Without room for descriptors the kernel closes those that come along.
            message = self._socket.recv(_MESSAGE_BYTES, _socket.MSG_DONTWAIT)
        except BlockingIOError:
            return False
        if not is_ready(message):
            return False
        if self._main_pid:
            self._hand_on()
            self._main_pid = 0
        return True

    def wait(self) -> None:
        """Until the program is ready, or has ended."""
        poll = select.poll()
        poll.register(self.fd, select.POLLIN)
        poll.register(self._pidfd, select.POLLIN)
        while True:
            ready = dict(poll.poll())
            if self._pidfd in ready:
                self.drain()
                return
            if self.take():
                return

    def drain(self) -> None:
        """What a program said before it ended."""
        poll = select.poll()
        poll.register(self.fd, select.POLLIN)
        for _ in range(_QUEUE):
            if not poll.poll(0) or self.take():
                return

    def close(self) -> None:
        """From now on the program is refused, as without a manager."""
        self._socket.close()
        self._caller.close()
        try:
            posix.unlink(_SOCKET, dir_fd=self._directory)
        except OSError as error:
            # Deleted meanwhile, with all its directory.
            self._log.debug(f"cannot unlink {_SOCKET}: {error.strerror}")
        posix.close(self._directory)
        posix.close(self._pidfd)

    def _hand_on(self) -> None:
        try:
            self._caller.send(b"READY=1\n")
            self._caller.send(b"MAINPID=%d\n" % self._main_pid)
        except OSError as error:
            self._log.warning(f"cannot tell NOTIFY_SOCKET that the container is ready: {error.strerror or error}")


def _lock_directory(container: "Container") -> int:
    """Open the directory for one start alone; -1 where there is none, or another has it."""
    above = container.store.directory(container.id)
    flags = posix.O_RDONLY | posix.O_DIRECTORY | posix.O_NOFOLLOW | posix.O_CLOEXEC
    try:
        directory = posix.open(paths.NOTIFY, flags, dir_fd=above)
    except OSError as error:
        container.log.debug(f"the container has no socket for NOTIFY_SOCKET: {error.strerror}")
        return -1
    finally:
        posix.close(above)
    try:
        fcntl.flock(directory, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        posix.close(directory)
        return -1
    return directory


def _bind(directory: int) -> "_socket.socket":
    """The container's socket, for every user in it. Its program does not run yet, so nobody meddles."""
    sock = _socket.socket(_socket.AF_UNIX, _KIND)
    try:
        _forget_last(directory)
        # A socket's path ends at 108 bytes; relative to a directory fd it never does.
        sock.bind(f"/proc/self/fd/{directory}/{_SOCKET}")
        posix.chmod(_SOCKET, 0o777, dir_fd=directory)
    except OSError as error:
        sock.close()
        raise KernelError("make", "the container's socket for NOTIFY_SOCKET", error.errno or 0) from error
    return sock


def _forget_last(directory: int) -> None:
    """A start that was killed has left its socket."""
    try:
        posix.unlink(_SOCKET, dir_fd=directory)
    except FileNotFoundError:
        return


def _reach(address: str, log: "Log") -> "_socket.socket | None":
    """Connect to the caller's socket: an absolute path, or `@` and a name of the abstract kind."""
    if address[:1] not in ("/", "@") or "\0" in address:
        log.warning(f"cannot use NOTIFY_SOCKET {address}: it is neither an absolute path nor begins with @")
        return None
    raw = address.encode("utf-8", "surrogateescape")
    sock = _socket.socket(_socket.AF_UNIX, _KIND)
    try:
        sock.settimeout(_SEND_S)
        sock.connect(b"\0" + raw[1:] if address.startswith("@") else raw)
    except OSError as error:
        sock.close()
        # Without a number the path is too long for a socket's.
        log.warning(str(KernelError("reach", f"NOTIFY_SOCKET {address}", error.errno or _ENAMETOOLONG)))
        return None
    return sock
