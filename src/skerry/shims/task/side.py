"""What the shim asks of a container between jobs, the same of both isolations.

Runs in: the task shim.   Imports: the engines' parts, late; .record.
Source:  docs/decisions/0009-task-shim.md; docs/vm.md.
Never:   asks a guest in the loop: what needs its answer is a job, and `apart` says so.

    apart                     whether signals and figures are the guest's, which may not answer
    pids(task)                as Pids tells them: the host's
    frozen() changed(topic)   whether it is paused; what was published of it
    oom_watch()               an object with fileno, happened, close; None without one
    figures()                 a job (work.py): {"kind", "figures"} as metrics.TABLES names them
"""

from skerry.shims.task.record import CREATED, RUNNING

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Protocol

    from skerry.container import Container
    from skerry.native.cgroup.oom import OomWatch
    from skerry.shims.task.record import Task

    Result = tuple[dict[str, Any], list[int]]

    class Watch(Protocol):
        def fileno(self) -> int: ...

        def happened(self) -> bool: ...

        def close(self) -> None: ...


class HostSide:
    """A container in processes of the host: its cgroup is here to be read."""

    __slots__ = ("_cgroup",)

    apart = False

    def __init__(self, container: "Container") -> None:
        self._cgroup = container.engine.cgroup()

    def pids(self, _task: "Task") -> "list[int]":
        return self._cgroup.processes()

    def frozen(self) -> bool:
        return self._cgroup.frozen()

    def changed(self, topic: str) -> None:
        """The cgroup knows."""

    def oom_watch(self) -> "OomWatch":
        return self._cgroup.oom_watch()

    def figures(self) -> "Result":
        from skerry.shims.task import metrics

        kind, figures = metrics.read(self._cgroup)
        return {"kind": kind, "figures": figures}, []


class GuestSide:
    """A container in a VM: processes of the host stand for those in the guest.

    watch_fd   where its VM tells of out-of-memory, from the job that made it
    """

    __slots__ = ("_container", "_paused", "_watch_fd")

    apart = True

    def __init__(self, container: "Container", watch_fd: int) -> None:
        self._container = container
        self._watch_fd = watch_fd
        self._paused = False

    def pids(self, task: "Task") -> "list[int]":
        return sorted(p.pid for p in task.processes if p.status in (CREATED, RUNNING) and p.pid)

    def frozen(self) -> bool:
        """As we have left it: the guest cannot be asked now."""
        return self._paused

    def changed(self, topic: str) -> None:
        self._paused = topic == "/tasks/paused"

    def oom_watch(self) -> "Watch | None":
        from skerry.vm.engine import Watch

        fd, self._watch_fd = self._watch_fd, -1
        return Watch(fd) if fd >= 0 else None

    def figures(self) -> "Result":
        from skerry.shims.task import guest_metrics

        return {"kind": "v2", "figures": guest_metrics.v2(self._container.stats())}, []


Side = HostSide | GuestSide
