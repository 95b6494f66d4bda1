"""Setting the size of a process's terminal.

Runs in: resize-tty.   Imports: fcntl, posix; errors, linux.
Source:  docs/lifecycle.md 111; ioctl_tty(2).
Never:   opens /proc/<pid>/fd/0, which would be whatever is there by then.
"""

import fcntl
import posix
from struct import pack

from skerry.errors import KernelError, NoSuchKey
from skerry.linux import libc
from skerry.linux import process as processes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from skerry.state.store import Store

_TCGETS, _TIOCSWINSZ = 0x5401, 0x5414


def resize(
    store: "Store", id: str, init: "tuple[int, int]", width: int, height: int, pid: "int | None"
) -> None:
    """Of init, or of the exec with this pid. Takes the pidfd of init.

    Errors  NoSuchKey for an exec that is not there; KernelError for a process without a terminal.
    """
    pidfd = _find(store, id, init, pid)
    try:
        tty = libc.pidfd_getfd(pidfd, 0)
        try:
            fcntl.ioctl(tty, _TCGETS, bytes(64))
            fcntl.ioctl(tty, _TIOCSWINSZ, pack("HHHH", height, width, 0, 0))
        except OSError as error:
            raise KernelError(
                "resize", "the terminal of a process without one", error.errno or 0
            ) from error
        finally:
            posix.close(tty)
    finally:
        posix.close(pidfd)


def _find(store: "Store", id: str, init: "tuple[int, int]", pid: "int | None") -> int:
    init_pid, pidfd = init
    if pid is None or pid == init_pid:
        return pidfd
    posix.close(pidfd)
    key = f"exec-{pid}"
    value = store.get(id, key)
    found = None
    if type(value) is dict:
        found = processes.open_pidfd(value.get("pid") or 0, value.get("start") or 0)
    if found is None:
        raise NoSuchKey(id, key)
    return found
