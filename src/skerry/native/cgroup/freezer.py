"""Stop and go: the v1 freezer and cgroup.freeze of v2.

Runs in: pause resume kill delete.   Imports: posix select time errors linux.cgroupfs.
Source:  kernel Documentation/admin-guide/cgroup-v1/freezer-subsystem.rst; cgroup-v2.rst
         "cgroup.freeze".
Never:   leaves a cgroup half frozen: what did not stop in time runs again.
"""

import posix
import select
import time

from skerry.errors import EngineError, KernelError
from skerry.linux import cgroupfs

TYPE_CHECKING = False
if TYPE_CHECKING:
    from skerry.native.cgroup.group import Cgroup

DEADLINE_S = 10.0
_RETRY_MS = 2
_THAW_EACH = 25


def freeze(group: "Cgroup", /, *, deadline_s: float = DEADLINE_S) -> None:
    """Stop all processes and return when they have stopped.

    Errors  EngineError if they have not at the deadline (a task in uninterruptible sleep), or
            nothing can freeze.
    """
    limit = time.monotonic() + deadline_s
    if "freezer" in group.paths:
        path = group.paths["freezer"]
        done = _freeze_v1(f"{path}/freezer.state", limit)
    elif "" in group.paths:
        path = group.paths[""]
        done = _freeze_v2(path, limit)
    else:
        raise EngineError("cannot freeze: the cgroup controller freezer is mounted nowhere")
    if not done:
        thaw(group)
        raise EngineError(f"cannot freeze {path}: a process has not stopped in {deadline_s:g} s")


def _freeze_v1(file: str, limit: float, /) -> bool:
    """Ask again and again: a task born meanwhile is caught by the next write.

    Now and then the state stays FREEZING although every task stands in the refrigerator (once in
    some thousand times on Linux 6.18), and only a thaw gets it out of that.
    """
    tries = 0
    while True:
        cgroupfs.write(file, "FROZEN")
        if cgroupfs.read(file) == "FROZEN":
            return True
        if time.monotonic() > limit:
            return False
        tries += 1
        if tries % _THAW_EACH == 0:
            cgroupfs.write(file, "THAWED")
        cgroupfs.pause(_RETRY_MS)


def _freeze_v2(path: str, limit: float, /) -> bool:
    """The kernel says POLLPRI on cgroup.events when the last process has stopped."""
    events = f"{path}/cgroup.events"
    try:
        fd = posix.open(events, posix.O_RDONLY | posix.O_CLOEXEC)
    except OSError as error:
        raise KernelError("open", events, error.errno or 0) from None
    try:
        poll = select.poll()
        poll.register(fd, select.POLLPRI)
        cgroupfs.write(f"{path}/cgroup.freeze", "1")
        while b"frozen 1" not in posix.pread(fd, 4096, 0):
            left = limit - time.monotonic()
            if left <= 0:
                return False
            poll.poll(left * 1000)
        return True
    except KernelError:
        raise
    except OSError as error:
        raise KernelError("read", events, error.errno or 0) from None
    finally:
        posix.close(fd)


def thaw(group: "Cgroup", /) -> None:
    """Let the processes go on; what is gone needs no thawing."""
    if "freezer" in group.paths:
        _unless_gone(f"{group.paths['freezer']}/freezer.state", "THAWED")
    elif "" in group.paths:
        _unless_gone(f"{group.paths['']}/cgroup.freeze", "0")


def thaw_below(group: "Cgroup", /) -> None:
    """Thaw what the container has frozen below too: the v1 freezer holds even SIGKILL back."""
    if "freezer" in group.paths:
        for path in cgroupfs.subtree(group.paths["freezer"]):
            _unless_gone(f"{path}/freezer.state", "THAWED")
    else:
        thaw(group)


def _unless_gone(file: str, text: str, /) -> None:
    try:
        cgroupfs.write(file, text)
    except KernelError as error:
        if error.errno not in cgroupfs.GONE:
            raise
