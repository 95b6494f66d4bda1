"""What the shim keeps of a container and of its processes.

Runs in: the task shim.   Imports: posix, time; errors, container, native, .stdio, .relay, .ttrpc.
Source:  containerd.task.v2; engines "State reply", "Status codes".
Never:   decides about calls; pod.py does.
"""

import posix

from skerry.errors import Error
from skerry.linux import process as processes
from skerry.shims.task import relay, stdio
from skerry.shims.task.events import timestamp
from skerry.shims.task.options import VM

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from skerry.container import Container
    from skerry.shims.task.jobs import Job
    from skerry.shims.task.loop import Loop
    from skerry.shims.task.options import Options
    from skerry.shims.task.side import Side, Watch
    from skerry.shims.task.ttrpc import Call

# status -> number in a State reply
UNKNOWN, CREATED, RUNNING, STOPPED, PAUSED = 0, 1, 2, 3, 4
# The time of a process that has not ended: Go's zero time, which is what containerd's own shim says.
NEVER = {"seconds": -62135596800, "nanos": 0}


class Process:
    """Init or an exec of a container.

    exec_id      "" for init
    status       a number of above; UNKNOWN while it is being made
    busy         a start is under way: an end that is seen meanwhile is told after it
    waiters      calls that want to know its end
    """

    __slots__ = (
        "busy", "document", "exec_id", "exit_status", "exited_at", "job", "pid", "pidfd", "relay", "request", "size",
        "status", "stdio", "waiters",
    )  # fmt: skip

    def __init__(self, exec_id: str, request: "dict[str, Any]") -> None:
        self.exec_id = exec_id
        self.request = request
        self.document: dict[str, Any] = {}
        self.status = UNKNOWN
        self.pid, self.pidfd = 0, -1
        self.stdio: stdio.Stdio | None = None
        self.relay: relay.Relay | None = None
        self.size = (0, 0)
        self.busy = False
        self.job: Job | None = None
        self.exit_status = self.exited_at = 0
        self.waiters: list[Call] = []

    @property
    def end(self) -> "dict[str, Any]":
        """As Wait and Delete tell it."""
        return {"exit_status": self.exit_status, "exited_at": self.ended_at}

    @property
    def ended_at(self) -> "dict[str, int]":
        return timestamp(self.exited_at) if self.exited_at else NEVER

    def started(self, loop: "Loop", pid: int, fds: "list[int]") -> None:
        """It is there: the core has made it, and these are its pidfd and perhaps its terminal."""
        self.pid, self.pidfd = pid, fds[0]
        streams = self.stdio
        if streams is None:
            return
        if len(fds) > 1:
            self.relay = relay.Relay(loop, fds[1], streams.take(0), streams.take(1))
            if any(self.size):
                self.relay.resize(*self.size)
        streams.given()

    def signal(self, number: int) -> bool:
        """False if it has ended."""
        return processes.send_signal(self.pidfd, number)

    def resize(self, width: int, height: int) -> None:
        self.size = (width, height)
        if self.relay is not None:
            self.relay.resize(width, height)

    def close(self) -> None:
        if self.relay is not None:
            self.relay.close()
        if self.stdio is not None:
            self.stdio.close()
        if self.pidfd >= 0:
            posix.close(self.pidfd)
            self.pidfd = -1

    def state(self) -> "dict[str, Any]":
        """What State says of it, without the container's part."""
        asked = self.request
        return {
            "pid": self.pid,
            "status": self.status,
            "stdin": asked["stdin"],
            "stdout": asked["stdout"],
            "stderr": asked["stderr"],
            "terminal": asked["terminal"],
            "exit_status": self.exit_status,
            "exited_at": self.ended_at,
        }


class Task:
    """A container.

    waits        what its processes may have to wait for when they are made (patience.py), or ""
    side         what can be asked of it between jobs; None until it is made
    queue        jobs that wait for the one at work: one at a time, in their order
    """

    __slots__ = (
        "bundle", "container", "deleting", "execs", "id", "init", "mounted", "oom", "options", "queue", "side",
        "waits", "working",
    )  # fmt: skip

    def __init__(self, request: "dict[str, Any]", options: "Options", waits: str) -> None:
        self.id: str = request["id"]
        self.bundle: str = request["bundle"]
        self.mounted = bool(request["rootfs"])
        self.options = options
        self.waits = waits
        self.init = Process("", request)
        self.execs: dict[str, Process] = {}
        self.container: Container | None = None
        self.side: Side | None = None
        self.oom: Watch | None = None
        self.queue: list[Callable[[], object]] = []
        self.working = self.deleting = False

    @property
    def processes(self) -> "list[Process]":
        return [self.init, *self.execs.values()]

    @property
    def private_pids(self) -> bool:
        return self.container is None or bool(self.container.record.get("PrivatePid", True))

    @property
    def leaves_others(self) -> bool:
        """Whether processes of it may live on when init has ended; in a VM, what stands for init has seen to that."""
        return not self.private_pids and self.options.isolation != VM

    @property
    def may_linger(self) -> bool:
        """Whether its release may have to wait: for hooks, for processes that init's end has not taken along."""
        hooks = self.container is not None and self.container.record["Hooks"].get("poststop")
        return bool(self.waits or hooks) or not self.private_pids or self.init.status != STOPPED

    def frozen(self) -> bool:
        """Whoever froze it: the command line may have."""
        try:
            return self.side is not None and self.side.frozen()
        except Error:
            return False

    def status(self, process: Process) -> int:
        if process.status == RUNNING and self.frozen():
            return PAUSED
        return process.status

    def close(self) -> None:
        for process in self.processes:
            process.close()
        if self.oom is not None:
            self.oom.close()
            self.oom = None


def reap(process: Process) -> "tuple[int, int]":
    """(code, signal) of a process whose pidfd is readable; 255 if nobody can tell."""
    ended = processes.wait_exit(process.pidfd, 0)
    return ended if ended is not None else (255, 0)
