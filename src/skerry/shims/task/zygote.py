"""The zygote: a process that has loaded everything once, and forks the daemons of later pods.

Runs in: a process of its own, one for each containerd; `ask` in start; `begin` in a daemon that had to load for itself.
Imports: _socket, _signal, gc, posix, select, sys; errors, jsonio, linux, paths, .address, .daemon.
Source:  docs/decisions/0009-task-shim.md; fork(2), namespaces(7).
Never:   serves a caller that differs from itself in what a container inherits, or that is of another build.

An interpreter with our modules has five megabytes of its own; a fork shares all but one of them, and is there at once.
Nothing depends on it: start goes its plain way when there is none, when it refuses, or when it does not answer, and a
daemon does not notice its end. It ends itself when it has had no pods for a while.

    start                                      zygote
      what I am, the pod, listener, log   -->    forks
                <-- its pid                      (or closes: refused)
"""

import _socket
import gc
import posix
import select
import sys

from skerry import paths
from skerry.errors import Error
from skerry.jsonio import dumps, loads
from skerry.linux import process
from skerry.linux.fd import close_all, recv_with_fds, send_with_fds
from skerry.shims.task.address import Address

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

ANSWER_S = 5.0
IDLE_MS = 60_000
# A pod's first daemon loads for itself; where one pod was, others follow, but the first is waited for now.
BEGIN_S = 1.0
PREFIX = "skerry-zygote-"
_DIGITS = 16
_REQUEST_LIMIT_BYTES = 1 << 17
_NAMESPACES = ("mnt", "pid", "user", "net", "cgroup", "ipc", "uts")
_LIMITS = 16  # numbers of resource limits, asm-generic/resource.h


def place(grpc_address: str, directory: str) -> Address:
    """Where the zygote of a containerd listens."""
    address = Address(grpc_address, "", paths.install_root(), f"zygote {paths.VERSION}", directory)
    head, _, name = address.path.rpartition("/")
    address.path = f"{head}/{PREFIX}{name[:_DIGITS]}"
    return address


def nature() -> str:
    """Whatever a container, or a daemon, would inherit; and what the code is."""
    import resource

    parts = [str(resource.getrlimit(number)) for number in range(_LIMITS)]
    parts += [posix.readlink(f"/proc/self/ns/{name}") for name in _NAMESPACES]
    for file in ("/proc/self/cgroup", "/proc/self/oom_score_adj"):
        fd = posix.open(file, posix.O_RDONLY | posix.O_CLOEXEC)
        parts.append(posix.read(fd, 1 << 16).decode("utf-8", "replace"))
        posix.close(fd)
    script = posix.stat(f"{paths.install_root()}/skerry/launch.py")
    parts.append(f"{script.st_dev} {script.st_ino} {script.st_mtime_ns} {sys.version}")
    parts.append(f"{posix.getpriority(posix.PRIO_PROCESS, 0)} {sorted(posix.sched_getaffinity(0))}")
    return "\n".join(parts)


# start


def ask(pod: Address, grpc_address: str, listener: "_socket.socket", log_fd: int, id: str) -> bool:
    """Have the pod's daemon forked; False where there is no zygote for us, and nothing was done.

    Errors  Error where it may have been done and may not: the listener is worth nothing then.
    """
    sock = _socket.socket(_socket.AF_UNIX, _socket.SOCK_SEQPACKET | _socket.SOCK_CLOEXEC)
    try:
        sock.connect(place(grpc_address, pod.directory).path)
    except OSError:
        sock.close()
        return False
    request = {
        "nature": nature(),
        "pod": pod.facts,
        "id": id,
        "env": [_text(name) + "=" + _text(value) for name, value in posix.environ.items()],
    }
    try:
        send_with_fds(sock, dumps(request), [listener.fileno(), log_fd])
        poller = select.poll()
        poller.register(sock.fileno(), select.POLLIN)
        if not poller.poll(ANSWER_S * 1000):
            raise Error(f"the zygote did not answer within {ANSWER_S:g} s")
        return bool(sock.recv(64))
    except OSError:
        return False  # it closed the connection before it took the request
    finally:
        sock.close()


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "replace")


# a daemon of its own


def begin(program: str, grpc_address: str, directory: str) -> None:
    """Start a zygote, unless there is one."""
    if place(grpc_address, directory).answers(_socket.SOCK_SEQPACKET):
        return
    script = f"{paths.install_root()}/skerry/launch.py"
    words = ["-address", grpc_address, "-socket", directory, "zygote"]
    argv = [sys.executable, "-I", "-S", "-B", "-X", "utf8", script, program, *words]
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
    from skerry.shims.task.daemon import Daemon, load_everything

    posix.setsid()
    own = place(grpc_address, directory)
    listener = own.claim(_socket.SOCK_SEQPACKET)
    if listener is None:
        return
    load_everything()
    become_subreaper(on=False)  # loaded, too
    mine = nature()
    gc.collect()
    gc.freeze()
    Zygote(own, listener, mine, Daemon, become_subreaper).run()


class Zygote:
    """Accepts, checks, forks."""

    __slots__ = ("_become_subreaper", "_children", "_daemon", "_listener", "_nature", "_place")

    def __init__(
        self,
        place: Address,
        listener: "_socket.socket",
        nature: str,
        daemon: "Any",
        become_subreaper: "Any",
    ) -> None:
        self._place = place
        self._listener = listener
        self._nature = nature
        self._daemon = daemon
        self._become_subreaper = become_subreaper
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
        """False when this process is not what callers are any more."""
        fd, _ = self._listener._accept()  # type: ignore[attr-defined]
        sock = _socket.socket(fileno=fd)
        fds: list[int] = []
        try:
            if not self._place.is_ours(sock):
                return True
            poller = select.poll()
            poller.register(fd, select.POLLIN)
            if not poller.poll(ANSWER_S * 1000):
                return True
            data, fds = recv_with_fds(sock, _REQUEST_LIMIT_BYTES)
            if not data:
                return True  # somebody asked whether we answer
            request = loads(data)
            if type(request) is not dict or request.get("nature") != self._nature:
                return False
            pid = posix.fork()
            if pid == 0:
                self._be_daemon(sock, request, fds)
            self._children[process.child_pidfd(pid)] = pid
        except Error:
            return True
        finally:
            sock.close()
            close_all(fds)
        return True

    def _be_daemon(
        self, sock: "_socket.socket", request: "dict[str, Any]", fds: "list[int]"
    ) -> None:
        """In the child. Does not return."""
        from skerry.log import Log

        code = 1
        try:
            keep = (sock.fileno(), *fds)
            mine = [self._listener.fileno(), *self._children]
            close_all([fd for fd in mine if fd not in keep])
            posix.setsid()
            self._become_subreaper(on=True)
            _name(request["id"])
            posix.environ.clear()
            for entry in request["env"]:
                name, _, value = entry.partition("=")
                posix.environ[name.encode()] = value.encode()
            listener = _socket.socket(fileno=fds[0])
            levels = ("info", "warning", "error")
            log = Log(fds[1], "text", ("debug", *levels) if request["pod"]["debug"] else levels)
            pod = Address.from_facts(request["pod"])
            sock.send(b"%d" % posix.getpid())
            sock.close()
            self._daemon(listener, pod, log).run()
            code = 0
        finally:
            posix._exit(code)


def _name(id: str) -> None:
    """What ps shows; the words of the command line are the zygote's."""
    try:
        fd = posix.open("/proc/self/comm", posix.O_WRONLY | posix.O_CLOEXEC)
        posix.write(fd, f"shim:{id}".encode()[:15])
        posix.close(fd)
    except OSError:
        return
