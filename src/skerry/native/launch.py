"""Start skerry-init with a plan.

Runs in: create, start, exec (hot).   Imports: posix, errno, linux.fd, linux.process, plan.encode.
Source:  docs/decisions/0001 (sealed memfd), posix_spawn(3), CVE-2019-5736.
Never:   executes anything that a container could reach or write.
"""

import errno
import posix

from skerry import paths, timeouts
from skerry.errors import EngineError, KernelError
from skerry.linux import process
from skerry.linux.fd import memfd, read_all
from skerry.native.conversation import Conversation, pair
from skerry.plan.build import Plan
from skerry.plan.encode import encode
from skerry.plan.request import Request

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


END_S = 10  # the kernel's time to end what was told to


class Launched:
    """The first process of a plan, and our end of the conversation with all of them."""

    __slots__ = ("conversation", "pid", "pidfd", "plan", "start_time")

    def __init__(self, plan: Plan, pid: int, conversation: Conversation) -> None:
        self.plan = plan
        self.pid = pid
        self.start_time = process.start_time(pid)
        self.pidfd = process.child_pidfd(pid)
        self.conversation = conversation

    @property
    def item(self) -> "dict[str, Any]":
        return process_item(self.pid, self.start_time)

    def close(self) -> None:
        """End the conversation, and with it whatever still listens; reap the first process."""
        self.conversation.close()
        if self.pidfd >= 0:
            process.wait_exit(self.pidfd, END_S)
            posix.close(self.pidfd)
            self.pidfd = -1


def process_item(pid: int, start_time: int) -> "dict[str, Any]":
    """The journal's item for a process."""
    return {"kind": "process", "pid": pid, "start": start_time}


def launch(plan: Plan, r: Request, fds: "dict[int, int]", *, what: str, limit_s: int) -> Launched:
    """Spawn skerry-init on the plan; it waits for the first GO.

    Shape   `fds` is {number there: fd here} for all but plan and conversation.
    Errors  KernelError; EngineError where skerry-init is not installed.
    """
    plan_fd = ours = theirs = None
    try:
        plan_fd = memfd("skerry-plan", encode(plan))
        ours, theirs = pair()
        mapping = {**fds, r.plan_fd: plan_fd, r.conversation_fd: theirs.fileno()}
        try:
            pid = _spawn_sealed(r, mapping)
        except KernelError as error:
            if error.errno != errno.EACCES:
                raise
            pid = _spawn_installed(r, mapping)
        return Launched(plan, pid, Conversation(ours, what, limit_s))
    except BaseException:
        if ours is not None:
            ours.close()
        raise
    finally:
        if plan_fd is not None:
            posix.close(plan_fd)
        if theirs is not None:
            theirs.close()


def launch_aside(
    plan: Plan, r: Request, fds: "dict[int, int]", *, what: str, limit: str = "CREATE"
) -> Launched:
    """Start a plan that is no container's: nothing on standard input and output; `limit` is a name of timeouts.py."""
    null = posix.open("/dev/null", posix.O_RDWR | posix.O_CLOEXEC)
    try:
        stdio = {0: null, 1: null, 2: null}
        return launch(plan, r, {**stdio, **fds}, what=what, limit_s=timeouts.seconds(limit))
    finally:
        posix.close(null)


def _spawn_sealed(r: Request, mapping: "dict[int, int]") -> int:
    """From a copy in memory that not even root of a container can change.

    Errors  KernelError; EACCES where executable memory is forbidden.
    """
    path = paths.init_path()
    try:
        fd = posix.open(path, posix.O_RDONLY | posix.O_CLOEXEC)
    except OSError as error:
        raise EngineError(f"cannot open {path}: skerry-init is not built; run make") from error
    try:
        content = read_all(fd)
    finally:
        posix.close(fd)
    program = memfd("skerry-init", content, executable=True)
    try:
        return process.spawn(program, ["skerry-init", str(r.plan_fd)], {}, mapping)
    finally:
        posix.close(program)


def _spawn_installed(r: Request, mapping: "dict[int, int]") -> int:
    """From the installed file, whose first operations put a read-only clone in its own place."""
    from skerry.plan import installed

    path = paths.init_path()
    first = installed.build(r.machine, path, plan_fd=r.plan_fd, conversation_fd=r.conversation_fd)
    # Above all that the plan proper knows: its first operation closes this one.
    number = max(mapping) + 1
    fd = memfd("skerry-plan", encode(first))
    try:
        return process.spawn(path, ["skerry-init", str(number)], {}, {**mapping, number: fd})
    except KernelError as error:
        raise KernelError("execute", path, error.errno or 0, hint=installed.HINT) from error
    finally:
        posix.close(fd)
