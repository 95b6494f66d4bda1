"""Hear of the OOM killer, and count what it took.

Runs in: events, a failing create.   Imports: posix select errors linux.cgroupfs.
Source:  kernel Documentation/admin-guide/cgroup-v1/memory.rst sections 9 and 10; cgroup-v2.rst
         "memory.events".
Never:   blocks.
"""

import posix
import select

from skerry.errors import EngineError, KernelError
from skerry.linux import cgroupfs

TYPE_CHECKING = False
if TYPE_CHECKING:
    from skerry.native.cgroup.group import Cgroup


def kills(group: "Cgroup", /) -> int:
    """Count the victims so far; 0 without a memory controller."""
    directory = group.paths.get("memory")
    if directory is None:
        return 0
    file = "memory.events" if group.is_v2("memory") else "memory.oom_control"
    for line in cgroupfs.read_or(f"{directory}/{file}").split("\n"):
        name, _, number = line.partition(" ")
        if name == "oom_kill":
            return int(number)
    return 0


class OomWatch:
    """A pollable object: readable (POLLIN) when something happened; then ask `happened`.

    v1 tells an eventfd. v2 marks memory.events with POLLPRI and calls it always readable, so an
    epoll set that looks for POLLPRI alone stands before it.
    Errors  EngineError without a memory controller; KernelError.
    """

    __slots__ = ("_epoll", "_fd", "_group", "_seen")

    def __init__(self, group: "Cgroup") -> None:
        directory = group.paths.get("memory")
        if directory is None:
            raise EngineError(
                "cannot watch for OOM: the cgroup controller memory is mounted nowhere"
            )
        self._group = group
        self._epoll: select.epoll | None = None
        try:
            if group.is_v2("memory"):
                self._fd = posix.open(
                    f"{directory}/memory.events", posix.O_RDONLY | posix.O_CLOEXEC
                )
                self._epoll = select.epoll()
                self._epoll.register(self._fd, select.EPOLLPRI)
            else:
                self._fd = _listen_v1(directory)
        except OSError as error:
            raise KernelError("watch", f"{directory} for OOM", error.errno or 0) from None
        self._seen = kills(group)

    def fileno(self) -> int:
        return self._epoll.fileno() if self._epoll else self._fd

    def happened(self) -> bool:
        """Take the notice; say whether memory ran out since. False when the cgroup was removed, which
        also tells.

        v1 tells before the killer has chosen, so its counter may still be what it was.
        """
        try:
            if self._epoll:
                posix.pread(self._fd, 4096, 0)
            else:
                posix.read(self._fd, 8)
        except OSError:
            # nothing to take (EAGAIN), or the cgroup is gone (ENODEV)
            return False
        if not self._epoll:
            return cgroupfs.is_directory(self._group.paths["memory"])
        before, self._seen = self._seen, kills(self._group)
        return self._seen > before

    def close(self) -> None:
        if self._epoll:
            self._epoll.close()
        posix.close(self._fd)


def _listen_v1(directory: str, /) -> int:
    """Owns   the caller closes the eventfd; the kernel keeps what it needs of
    memory.oom_control."""
    control = posix.open(f"{directory}/memory.oom_control", posix.O_RDONLY | posix.O_CLOEXEC)
    try:
        fd = posix.eventfd(0, posix.EFD_CLOEXEC | posix.EFD_NONBLOCK)
        try:
            cgroupfs.write(f"{directory}/cgroup.event_control", f"{fd} {control}")
        except KernelError:
            posix.close(fd)
            raise
        return fd
    finally:
        posix.close(control)
