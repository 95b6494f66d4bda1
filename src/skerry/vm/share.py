"""Directories of the host in a guest: virtiofsd, one for each share.

Runs in: vmshim.   Imports: _socket, posix; linux, rpc.loop, vm.
Source:  docs/vm.md "Shares"; docs/security.md V44, V45, V47, V48; virtiofsd(1).
Never:   lets a guest write where the host said read-only: the mount that virtiofsd serves is read-only itself.

virtiofsd serves a private copy of the mount, in which no symbolic link is followed and no device is opened, and makes
itself a root out of it. It reads the guest's memory, so the machine must have been started for shares.
"""

import _socket
import posix

from skerry import timeouts
from skerry.errors import Error, KernelError, VmError
from skerry.linux import process
from skerry.plan.helper import Share as Mount
from skerry.rpc.loop import READ, Future, Loop
from skerry.vm import confine, programs
from skerry.vm.console import Console

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from skerry.native.cgroup.group import Cgroup
    from skerry.rpc.loop import Steps
    from skerry.vm.machine import Machine

PROGRAMS = ("/usr/lib/qemu/virtiofsd", "/usr/libexec/virtiofsd")
PACKAGE = "virtiofsd (qemu-system-common on Debian 12)"
# The C program (QEMU up to 7.2) and its successor both take these.
_OPTIONS = "sandbox=namespace,cache=auto,xattr,no_writeback"
# What it keeps to act as any user of the guest; then what it needs to build its own root, and gives up.
_SERVES = ("CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "SETGID", "SETUID", "MKNOD", "SETFCAP")
_BUILDS = ("SYS_ADMIN", "SETPCAP", "DAC_READ_SEARCH")
_CAPABILITIES = tuple(f"CAP_{name}" for name in _SERVES + _BUILDS)
# It holds an fd for every file that the guest's kernel remembers.
_FILES = 1 << 20
_END_S = 5


class Share:
    """One that a guest may mount, by its tag; `users` is the account of who attaches it for containers."""

    __slots__ = ("_id", "_loop", "_machine", "_said", "ended", "pid", "pidfd", "tag", "users")

    def __init__(self, loop: Loop, machine: "Machine", tag: str) -> None:
        """Tag: at most 35 bytes, and of this machine alone."""
        self._loop, self._machine, self.tag = loop, machine, tag
        self._id = ""
        self._said: Console | None = None
        self.pid = self.pidfd = -1
        self.users = 0
        self.ended = Future()

    def start(
        self,
        source: str,
        *,
        read_only: bool,
        directory: str,
        file: bool = False,
        cgroup: "Cgroup | None" = None,
        on_process: "Callable[[int, int], None] | None" = None,
    ) -> None:
        """Serve the source and plug it in. A single file is `file` in an otherwise empty directory.

        Shape   directory: a private one, of root's; a socket is in it for a moment, and a mount point.
        Errors  VmError; nothing is left then.
        """
        if not self._machine.hardware.shares:
            raise VmError(f"cannot share {source}: the VM was started for none", phase="device")
        point = f"{directory}/{self.tag}"
        mount = Mount(source, point, read_only=read_only, file=file)
        listening = connected = None
        try:
            posix.mkdir(point, 0o700)
        except FileExistsError:
            pass
        except OSError as error:
            raise KernelError("make", point, error.errno or 0) from None
        try:
            listening, connected = _connect(f"{directory}/{self.tag}.sock")
            self._serve(mount, listening, cgroup, on_process)
            self._id = self._machine.plugs.attach_share(self.tag, connected.fileno())
        except Error as error:
            words = self._said.tail(1) if self._said is not None else []
            self.close()
            said = f" (virtiofsd said: {words[0]})" if words else ""
            raise VmError(f"cannot share {source}: {error}{said}", phase="device") from error
        finally:
            for sock in (listening, connected):
                if sock is not None:
                    sock.close()
            _remove_point(point)

    def _serve(
        self,
        mount: Mount,
        listening: "_socket.socket",
        cgroup: "Cgroup | None",
        on_process: "Callable[[int, int], None] | None",
    ) -> None:
        program = programs.find("virtiofsd", PROGRAMS, package=PACKAGE)
        said, said_fd = posix.pipe2(posix.O_CLOEXEC)
        self._said = Console(self._loop, said)
        words = [
            program, "--fd=3", "-f", "--rlimit-nofile=0", "-o", f"source={mount.point},{_OPTIONS}",
        ]  # fmt: skip
        confinement = confine.Confinement(
            0, capabilities=_CAPABILITIES, cgroup=cgroup, files=_FILES
        )
        try:
            running = confine.start(
                words,
                [(listening.fileno(), "socket that QEMU is connected to")],
                confinement,
                said_fd=said_fd,
                share=mount,
                on_process=on_process,
            )
        finally:
            posix.close(said_fd)
        self.pid, self.pidfd = running.pid, running.pidfd
        self._loop.watch(self.pidfd, READ, self._reap)

    def _reap(self, _events: int) -> None:
        ended = process.wait_exit(self.pidfd, 0)
        self._loop.unwatch(self.pidfd)
        self.ended.set(ended or (255, 0))

    def stop(self) -> "Steps":
        """Unplug it; the guest has unmounted it. virtiofsd ends when QEMU hangs up, or is killed.

        Errors  VmError, RpcError: the guest does not let go of it; `close` ends it all the same.
        """
        if self._id and not self._machine.ended.done:
            yield from self._machine.plugs.detach_share(self._id)
            self._id = ""
            waited = Future()
            self.ended.then(lambda _: waited.set())
            self._loop.call_later(_END_S, waited.set)
            yield waited
        self.close()

    def close(self) -> None:
        """End virtiofsd, whatever the guest does with it."""
        if self.pidfd >= 0:
            if not self.ended.done:
                process.send_signal(self.pidfd, 9)
                if process.has_ended(self.pidfd, timeouts.seconds("KILL")):
                    self._reap(0)
            self._loop.unwatch(self.pidfd)
            posix.close(self.pidfd)
            self.pidfd = -1
        if self._said is not None:
            self._said.close()
            self._said = None


def _connect(path: str) -> "tuple[_socket.socket, _socket.socket]":
    """(listening, connected to it): the file is gone before anybody else could connect.

    Errors  KernelError.
    """
    kind = _socket.SOCK_STREAM | _socket.SOCK_CLOEXEC
    listening = _socket.socket(_socket.AF_UNIX, kind)
    connected = _socket.socket(_socket.AF_UNIX, kind)
    directory, _, name = path.rpartition("/")
    fd = -1
    try:
        # A socket's path ends at 108 bytes: relative to the directory's fd it is short.
        fd = posix.open(directory, posix.O_PATH | posix.O_DIRECTORY | posix.O_CLOEXEC)
        short = f"/proc/self/fd/{fd}/{name}"
        listening.bind(short)
        try:
            listening.listen(1)
            connected.connect(short)
        finally:
            posix.unlink(short)
    except OSError as error:
        listening.close()
        connected.close()
        raise KernelError("make", f"socket {path}", error.errno or 0) from None
    finally:
        if fd >= 0:
            posix.close(fd)
    return listening, connected


def _remove_point(point: str) -> None:
    """Its mount is in virtiofsd's namespace; here it is an empty directory."""
    try:
        posix.rmdir(point)
    except OSError:
        return
