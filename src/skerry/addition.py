"""Running another process in a container.

Runs in: exec (hot).   Imports: posix, errors, creation, linux, native.create, spec.validate.
Source:  docs/lifecycle.md 94-98, 111.
Never:   changes the container's own keys.
"""

import posix

from skerry.creation import check_console, hand_over, inherited_fds, write_pid_file
from skerry.engine import Options
from skerry.errors import Error, InitError
from skerry.linux import process as processes
from skerry.spec.validate import check_process

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from skerry.container import Container


class Wishes:
    """The caller's arguments of Container.exec."""

    __slots__ = (
        "cgroup",
        "console_socket",
        "detach",
        "ignore_paused",
        "pid_file",
        "pidfd_socket",
        "preserve_fds",
        "stdio",
    )

    def __init__(self) -> None:
        self.stdio = (0, 1, 2)
        self.console_socket = self.pid_file = self.pidfd_socket = self.cgroup = ""
        self.detach = self.ignore_paused = False
        self.preserve_fds = 0


class Process:
    """An additional process in a container.

    pid          on the host
    pidfd        readable when it has ended; owned by the object, until `wait` or `close`
    console_fd   the master of its terminal, or -1; owned by the caller
    """

    __slots__ = ("_code", "_container", "console_fd", "pid", "pidfd")

    def __init__(self, container: "Container", pid: int, pidfd: int, console_fd: int) -> None:
        self._container = container
        self._code = 255
        self.pid = pid
        self.pidfd = pidfd
        self.console_fd = console_fd

    def send_signal(self, number: int) -> None:
        """Signal it; one that has ended is no error."""
        if self.pidfd >= 0:
            processes.send_signal(self.pidfd, number)

    def wait(self) -> int:
        """Wait for the process, a child of this one; asked again, the answer is the same.

        Result  its exit code, or 128 + signal; 255 if unknown.
        """
        if self.pidfd >= 0:
            ended = processes.wait_exit(self.pidfd)
            self._code = ended[0] if ended is not None else 255
            _clear(self._container, f"exec-{self.pid}")
            self.close()
        return self._code

    def close(self) -> None:
        """Give the pidfd back; the process is left alone. Can be repeated."""
        if self.pidfd >= 0:
            posix.close(self.pidfd)
            self.pidfd = -1


def add(container: "Container", process: "dict[str, Any]", wishes: Wishes) -> "Process":
    """Container.exec."""
    for warning in check_process(process, ""):
        container.log.warning(warning)
    check_console(bool(process.get("terminal")), wishes.console_socket, detach=wishes.detach)
    options = Options()
    options.stdio = wishes.stdio
    options.console = bool(process.get("terminal"))
    options.preserve, options.extra_env = inherited_fds(wishes.preserve_fds)
    options.ignore_paused = wishes.ignore_paused
    container.engine.refuse(options, pidfd_socket=bool(wishes.pidfd_socket))
    execution = container.engine.exec(
        container.spec(),
        process,
        options,
        bundle=container.record["Bundle"],
        sub_cgroup=wishes.cgroup,
    )
    dialogue = execution.dialogue
    if dialogue is None:
        raise InitError("cannot exec: skerry-init is not there")
    key = f"exec-{dialogue.pid}"
    try:
        if dialogue.console_fd >= 0 and wishes.console_socket:
            hand_over(wishes.console_socket, dialogue.console_fd, "/dev/ptmx")
            posix.close(dialogue.console_fd)
            dialogue.console_fd = -1
        if wishes.pidfd_socket:
            hand_over(wishes.pidfd_socket, dialogue.pidfd, "pidfd")
        if execution.facts is not None:
            value = {"pid": dialogue.pid, "start": dialogue.start_time, **execution.facts}
            container.store.set(container.id, key, value)
        if wishes.pid_file:
            write_pid_file(wishes.pid_file, dialogue.pid)
        execution.finish()
    except BaseException:
        dialogue.abort()
        _clear(container, key)
        raise
    return Process(container, dialogue.pid, dialogue.pidfd, dialogue.console_fd)


def _clear(container: "Container", key: str) -> None:
    try:
        container.store.clear(container.id, key)
    except Error as error:
        container.log.debug(str(error))
