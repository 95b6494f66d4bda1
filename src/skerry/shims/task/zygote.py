"""The zygote: a process that has loaded everything once, and does the errands of shims in forks of itself.

Runs in: a process of its own, one for each containerd; `begin` in a daemon that had to load for itself.
Imports: _socket, gc, posix, select, sys; errors, linux, paths, .address, .launch.
Source:  launcher/errand.c, the other side; docs/decisions/0009-task-shim.md; fork(2), namespaces(7).
Never:   serves a caller that differs from itself in what a container inherits, or that is of another build.

containerd runs `start` and `delete` of a shim once for each container, and an interpreter takes longer to start than
they take. A fork is there at once, and shares all but one of the zygote's five megabytes, which counts for those that
stay as daemons of pods. Nothing depends on the zygote: the launcher starts an interpreter where there is none, where it
refuses, or where it does not answer, and no daemon notices its end. It ends itself when it has had no pods for a while.

    launcher                                                 zygote
      name, number of words, words, environment -->            compares, forks
                                      <-- TAKEN                   the child (or closes: nothing was done)
      fds -->
                                      <-- the exit code
"""

import _socket
import gc
import posix
import select
import sys

from skerry import paths
from skerry.errors import Error
from skerry.linux import process
from skerry.linux.fd import close_all, recv_with_fds
from skerry.shims.task import launch
from skerry.shims.task.address import Address

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

TAKEN = b"\xff"
ANSWER_S = 2.0  # the launcher's patience, errand.c
IDLE_MS = 60_000
# A pod's first daemon loads for itself; where one pod was, others follow, but the first is waited for now.
BEGIN_S = 1.0
PREFIX = "skerry-zygote-"
_REQUEST_LIMIT_BYTES = 1 << 16
_NAMESPACES = ("mnt", "pid", "user", "net", "cgroup", "ipc", "uts", "time")
# lines of /proc/PID/status
_STATUS = (b"Uid:", b"Gid:", b"Groups:", b"NoNewPrivs:", b"Seccomp:", b"Cap")


def place(grpc_address: str, directory: str) -> Address:
    """Where the zygote of a containerd listens; errand.c comes to the same."""
    address = Address(grpc_address, "", "", "zygote", directory)
    both = f"{_script()}\0{grpc_address}\0".encode("utf-8", "surrogateescape")
    address.path = f"{address.directory}/{PREFIX}{checksum(both):016x}"
    return address


def checksum(data: bytes) -> int:
    """FNV-1a, 64 bits."""
    found = 0xCBF29CE484222325
    for byte in data:
        found = (found ^ byte) * 0x100000001B3 & (1 << 64) - 1
    return found


def _script() -> str:
    return f"{paths.install_root()}/skerry/launch.py"


def nature(pid: int, *, raised: int = 0) -> str:
    """Whatever a container, or a daemon, would inherit of a process; `raised`: what its OOM score will rise by.

    Errors  OSError when the process has gone.
    """
    parts = [posix.readlink(f"/proc/{pid}/ns/{name}") for name in _NAMESPACES]
    parts.append(posix.readlink(f"/proc/{pid}/root"))
    lines = _read(f"/proc/{pid}/status").splitlines()
    found = [_read(f"/proc/{pid}/{name}") for name in ("limits", "cgroup")]
    found += [line for line in lines if line.startswith(_STATUS)]
    parts += [raw.decode("utf-8", "replace") for raw in found]
    parts.append(str(min(int(_read(f"/proc/{pid}/oom_score_adj")) + raised, 1000)))
    parts.append(str(posix.getpriority(posix.PRIO_PROCESS, pid)))
    parts.append(str(sorted(posix.sched_getaffinity(pid))))
    return "\n".join(parts)


def _read(path: str) -> bytes:
    fd = posix.open(path, posix.O_RDONLY | posix.O_CLOEXEC)
    try:
        return posix.read(fd, 1 << 16)
    finally:
        posix.close(fd)


def build() -> "tuple[int, ...]":
    """What changes when skerry is installed anew."""
    found = posix.stat(_script())
    return (found.st_dev, found.st_ino, found.st_mtime_ns)


# a daemon of its own


def begin(program: str, grpc_address: str, directory: str) -> None:
    """Start a zygote, unless there is one."""
    if place(grpc_address, directory).answers(_socket.SOCK_SEQPACKET):
        return
    words = ["-address", grpc_address, "-socket", directory, "zygote"]
    argv = [sys.executable, "-I", "-S", "-B", "-X", "utf8", _script(), program, *words]
    null = posix.open("/dev/null", posix.O_RDWR | posix.O_CLOEXEC)
    try:
        mapping = {0: null, 1: null, 2: null}
        process.spawn(sys.executable, argv, posix.environ, mapping, close_others=True)
    finally:
        posix.close(null)


# the zygote


def serve(grpc_address: str, directory: str) -> None:
    """Be the zygote, until nobody needs one."""
    from skerry.linux.libc import become_subreaper
    from skerry.shims.task.daemon import load_everything

    posix.setsid()
    own = place(grpc_address, directory)
    listener = own.claim(_socket.SOCK_SEQPACKET)
    if listener is None:
        return
    load_everything()
    become_subreaper(on=False)  # loaded, too
    gc.collect()
    gc.freeze()
    Zygote(own, listener, lambda: become_subreaper(on=True)).run()


class Errand:
    """What the launcher was asked: the words and environment of a program."""

    __slots__ = ("environment", "name", "words")

    def __init__(self, data: bytes) -> None:
        """Errors  ValueError for what is no errand."""
        name, count, *texts = data.split(b"\0")[:-1]
        number = int(count)
        if number > len(texts):
            raise ValueError(f"{number} words, and {len(texts)} texts")
        self.name = name.decode()
        self.words = [text.decode("utf-8", "surrogateescape") for text in texts[:number]]
        self.environment = [text.partition(b"=") for text in texts[number:]]

    @property
    def id(self) -> str:
        """The container's."""
        rest = iter(self.words)
        return next(rest, "") if "-id" in rest else ""


class Zygote:
    """Accepts, compares, forks."""

    __slots__ = ("_become_subreaper", "_build", "_children", "_listener", "_nature", "_place")

    def __init__(
        self, place: Address, listener: "_socket.socket", become_subreaper: "Callable[[], None]"
    ) -> None:
        self._place = place
        self._listener = listener
        self._become_subreaper = become_subreaper
        self._nature = nature(posix.getpid())
        self._build = build()
        self._children: dict[int, int] = {}  # pidfd -> pid

    def run(self) -> None:
        wanted = True
        while wanted:
            poller = select.poll()
            for fd in (self._listener.fileno(), *self._children):
                poller.register(fd, select.POLLIN)
            ready = poller.poll(None if self._children else IDLE_MS)
            if not ready:
                break
            for fd, _ in ready:
                if fd in self._children:
                    process.wait_exit(fd, 0)
                    posix.close(fd)
                    del self._children[fd]
                else:
                    wanted = self._accept()
        self._place.remove()

    def _accept(self) -> bool:
        """False when this process is not what callers start any more."""
        fd, _ = self._listener._accept()  # type: ignore[attr-defined]
        sock = _socket.socket(fileno=fd)
        try:
            if build() != self._build:
                return False
            errand = self._receive(sock)
            if errand is not None:
                pid = posix.fork()
                if pid == 0:
                    self._run(errand, sock)
                self._children[process.child_pidfd(pid)] = pid
        except (Error, OSError, ValueError):
            return True  # whoever it was has gone, or is not the launcher
        finally:
            sock.close()
        return True

    def _receive(self, sock: "_socket.socket") -> Errand | None:
        """None for a caller that must go another way."""
        if not self._place.is_ours(sock) or not _readable(sock):
            return None
        data = sock.recv(_REQUEST_LIMIT_BYTES)
        if not data:
            return None  # somebody asked whether we answer
        # The shims' score is one above their caller's, and so is ours, which a shim has started.
        same = nature(self._place.caller(sock), raised=1) == self._nature
        return Errand(data) if same else None

    def _run(self, errand: Errand, sock: "_socket.socket") -> None:
        """In the child: be what the launcher would have started. Does not return."""
        try:
            close_all([self._listener.fileno(), *self._children])
            posix.setsid()
            sock.send(TAKEN)
            if not _readable(sock):
                return
            _, fds = recv_with_fds(sock, 1)
            for number, fd in enumerate(fds[:3]):
                posix.dup2(fd, number)
            posix.fchdir(fds[3])
            close_all(fds)
            answer_fd = sock.detach()
            self._become_subreaper()
            _name(errand.id)
            posix.environ.clear()
            posix.environ.update({name: value for name, _, value in errand.environment})
            launch.run(errand.name, errand.words, errand_fd=answer_fd)
        finally:
            posix._exit(1)


def _readable(sock: "_socket.socket") -> bool:
    """Whether something comes while the launcher still waits."""
    poller = select.poll()
    poller.register(sock.fileno(), select.POLLIN)
    return bool(poller.poll(ANSWER_S * 1000))


def _name(id: str) -> None:
    """What ps shows; the words of the command line are the zygote's."""
    try:
        fd = posix.open("/proc/self/comm", posix.O_WRONLY | posix.O_CLOEXEC)
        posix.write(fd, f"shim:{id}".encode()[:15])
        posix.close(fd)
    except OSError:
        return
