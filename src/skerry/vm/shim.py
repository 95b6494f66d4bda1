"""Starting the container shim of init or of an exec, and its terminal.

Runs in: create, run, exec of VM containers.   Imports: fcntl, posix; errors, rpc.handoff.
Source:  docs/lifecycle.md E, 69-76; ptmx(4), ioctl_tty(2).
Never:   waits for the process in the guest.
"""

import posix
from fcntl import ioctl
from struct import pack

from skerry import timeouts
from skerry.engine import Options
from skerry.errors import KernelError
from skerry.rpc.handoff import Helper, launch

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from skerry.log import Log
    from skerry.state.store import Store

_TIOCSPTLCK, _TIOCGPTPEER, _TIOCSWINSZ = 0x40045431, 0x5441, 0x5414
_STDIO_FD = 3


class ShimProcess:
    """The host's process that stands for one in the guest, as the core sees it (engine.py `Built`)."""

    __slots__ = ("_helper", "console_fd", "pid", "pidfd", "start_time")

    def __init__(self, helper: Helper, console_fd: int) -> None:
        self._helper = helper
        self.pid, self.pidfd, self.start_time = helper.pid, helper.pidfd, helper.start_time
        self.console_fd = console_fd

    def abort(self) -> None:
        """Kill and reap it: the vmshim ends what it stands for."""
        self._helper.kill()
        self.pidfd = -1
        if self.console_fd >= 0:
            posix.close(self.console_fd)
            self.console_fd = -1


class Built:
    """A create or an exec that waits for nothing more (engine.py)."""

    __slots__ = ("dialogue", "facts")

    def __init__(self, dialogue: ShimProcess) -> None:
        self.dialogue: ShimProcess | None = dialogue
        # The shim itself writes the key.
        self.facts: dict[str, Any] | None = None

    def finish(self) -> None:
        return


def start(
    store: "Store",
    record: "dict[str, Any]",
    process: "dict[str, Any]",
    options: Options,
    log: "Log",
    *,
    execution: "dict[str, Any] | None" = None,
) -> Built:
    """Start it, up to its answer.

    Errors  what the shim, the vmshim and the guest said.
    """
    terminal = bool(process.get("terminal"))
    data = {
        "host_id": record["HostID"],
        "host_unique_id": record["HostUniqueID"],
        "unique_id": record["UniqueID"],
        "terminal": terminal,
        "leftovers": not record.get("PrivatePid", True),
        "exec": execution,
    }
    words = ["--root", store.root, *log.options(), "shim", record["ID"]]
    limit = timeouts.seconds("CREATE", warn=log.warning)
    master = slave = -1
    try:
        if terminal:
            master, slave = _open_terminal(process.get("consoleSize") or {})
            fds = {_STDIO_FD: slave}
        else:
            fds = {_STDIO_FD + number: fd for number, fd in enumerate(options.stdio)}
        what = f"the shim of container {record['ID']}"
        helper = launch(words, data=data, fds=fds, log=options.shim_log, limit_s=limit, what=what)
        taken, master = master, -1
        return Built(ShimProcess(helper, taken))
    finally:
        for fd in (master, slave):
            if fd >= 0:
                posix.close(fd)


def _open_terminal(size: "dict[str, Any]") -> "tuple[int, int]":
    """(master, slave). The slave is the master's own peer, whatever lies at its name.

    Errors  KernelError.
    """
    master = -1
    try:
        master = posix.open("/dev/ptmx", posix.O_RDWR | posix.O_NOCTTY | posix.O_CLOEXEC)
        ioctl(master, _TIOCSPTLCK, pack("i", 0))
        if size:
            ioctl(master, _TIOCSWINSZ, pack("HHHH", size["height"], size["width"], 0, 0))
        flags = posix.O_RDWR | posix.O_NOCTTY | posix.O_CLOEXEC
        return master, ioctl(master, _TIOCGPTPEER, flags)
    except OSError as error:
        if master >= 0:
            posix.close(master)
        raise KernelError("open", "a terminal", error.errno or 0) from error
