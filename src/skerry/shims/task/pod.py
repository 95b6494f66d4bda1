"""The pod that a shim serves: its containers, the work that is under way, and how processes end.

Runs in: the task shim.   Imports: time; errors, container, linux, loop, .jobs, .record, .stdio, .work.
Source:  containerd.task.v2; engines "Events" (their order), "Recovery".
Never:   waits: what may take time is a job (jobs.py), what will happen is watched.

An end is told in this order, whatever the kernel says first: the start of a process before its end, the ends of execs
before the end of init, an out-of-memory before both, the delete last.
"""

import time

from skerry.container import Container, open_store
from skerry.errors import Error
from skerry.linux import process as processes
from skerry.native import host_mounts
from skerry.shims.task import codes, messages, work
from skerry.shims.task import loop as loops
from skerry.shims.task.events import Publisher
from skerry.shims.task.jobs import Jobs
from skerry.shims.task.options import VM, Options
from skerry.shims.task.record import CREATED, RUNNING, STOPPED, Process, Task, reap
from skerry.shims.task.side import GuestSide, HostSide
from skerry.shims.task.stdio import Stdio
from skerry.shims.task.ttrpc import INTERNAL, NOT_FOUND, UNKNOWN, Call, Failure

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from skerry.log import Log
    from skerry.state.store import Store

_SIGKILL = 9
DRAIN_S = 10.0  # how long a delete waits for the output of a terminal
LOGGER_S = 10.0
_HELD_BACK_S = 0.1
_REASON_S = 0.5
# How often, and how many times, an exec in a guest is looked for that must have ended with init
_GUEST_LOOK_S, _GUEST_LOOKS = 0.05, 40


class Pod:
    """All containers of one shim."""

    __slots__ = (
        "_stores",
        "isolation",
        "jobs",
        "log",
        "loop",
        "namespace",
        "publisher",
        "stop",
        "tasks",
    )

    def __init__(
        self, loop: loops.Loop, publisher: Publisher, namespace: str, isolation: str, log: "Log"
    ) -> None:
        self.loop = loop
        self.publisher = publisher
        self.namespace = namespace
        self.isolation = isolation
        self.log = log
        self.jobs = Jobs(loop)
        self.tasks: dict[str, Task] = {}
        self.stop: Callable[[], object] = loop.stop
        self._stores: dict[str, Store] = {}

    def store(self, options: Options) -> "Store":
        root = f"{options.root}/{self.namespace}"
        if root not in self._stores:
            self._stores[root] = open_store(root)
        return self._stores[root]

    # finding

    def task(self, id: str) -> Task:
        task = self.tasks.get(id)
        if task is None:
            raise Failure(NOT_FOUND, f"container {id} not found")
        return task

    def process(self, request: "dict[str, Any]") -> "tuple[Task, Process]":
        task = self.task(request["id"])
        exec_id = request["exec_id"]
        process = task.execs.get(exec_id) if exec_id else task.init
        if process is None:
            raise Failure(NOT_FOUND, f"process {exec_id} of container {task.id} not found")
        return task, process

    def known(self, pid: int) -> bool:
        """Whether an end of this child is told by its pidfd."""
        if pid in self.jobs.children:
            return True
        for task in self.tasks.values():
            for process in task.processes:
                if pid == process.pid and process.status != STOPPED:
                    return True
        return False

    # work

    def run(
        self,
        task: Task,
        job: "Callable[[], Any]",
        done: "Callable[[Any, BaseException | None], object]",
        *,
        apart: bool,
        keep: "tuple[int, ...]" = (),
        owner: "Process | None" = None,
    ) -> None:
        """One after the other for a container. `owner`: who can stop it."""

        def finished(result: "Any", error: "BaseException | None") -> None:
            task.working = False
            if owner is not None:
                owner.job = None
            try:
                done(result, error)
            finally:
                if task.queue and not task.working:
                    task.queue.pop(0)()

        def begin() -> None:
            task.working = True
            self._start(job, finished, apart=apart, keep=keep, owner=owner)

        if task.working:
            task.queue.append(begin)
        else:
            begin()

    def beside(
        self,
        job: "Callable[[], Any]",
        done: "Callable[[Any, BaseException | None], object]",
        *,
        apart: bool = True,
        keep: "tuple[int, ...]" = (),
        owner: "Process | None" = None,
    ) -> None:
        """Whatever else is under way."""

        def finished(result: "Any", error: "BaseException | None") -> None:
            if owner is not None:
                owner.job = None
            done(result, error)

        self._start(job, finished, apart=apart, keep=keep, owner=owner)

    def _start(
        self,
        job: "Callable[[], Any]",
        finished: "Callable[[Any, BaseException | None], object]",
        *,
        apart: bool,
        keep: "tuple[int, ...]",
        owner: "Process | None",
    ) -> None:
        if not apart:
            self.jobs.at_once(job, finished)
            return
        child = self.jobs.apart(job, finished, keep)
        if owner is not None:
            owner.job = child

    def refuse(self, call: Call, error: BaseException) -> None:
        code, message = codes.of(error)
        if code == INTERNAL:
            self.log.error(message)
        call.fail(code, message)

    def when_ready(
        self, stdio: Stdio, ready: "Callable[[], object]", failed: "Callable[[Failure], object]"
    ) -> None:
        """Go on once the logger, if there is one, is ready."""
        fd = stdio.ready_fd
        if fd < 0:
            ready()
            return

        def on_ready(events: int) -> None:
            self.loop.cancel(timer)
            self.loop.unwatch(fd)
            stdio.logger_ready()
            ready()

        def on_time() -> None:
            self.loop.unwatch(fd)
            stdio.kill_logger()
            failed(Failure(UNKNOWN, f"the logger was not ready within {LOGGER_S:g} s"))

        timer = self.loop.call_later(LOGGER_S, on_time)
        self.loop.watch(fd, loops.READ, on_ready)

    # lives

    def made(self, task: Task, store: "Store", facts: "dict[str, Any]", fds: "list[int]") -> None:
        """A container is there, at its gate."""
        watch_fd = fds.pop() if facts.get("watch") else -1
        task.init.started(self.loop, facts["pid"], fds)
        task.init.status = CREATED
        task.container = Container.load(store, task.id, log=self.log)
        task.container.take_init(task.init.pidfd, -1)
        if task.options.isolation == VM:
            task.side = GuestSide(task.container, watch_fd)
        else:
            task.side = HostSide(task.container)
        self._watch_oom(task)
        self.watch(task, task.init)

    def watch(self, task: Task, process: Process) -> None:
        def on_end(events: int) -> None:
            self.loop.unwatch(process.pidfd)
            self.settle(task, process)

        self.loop.watch(process.pidfd, loops.READ, on_end)

    def settle(self, task: Task, process: Process) -> None:
        """A process has ended, if it has; a start that is under way is told first and calls again."""
        if process.busy or process.status == STOPPED or not processes.has_ended(process.pidfd, 0):
            return
        self.loop.unwatch(process.pidfd)
        if process is not task.init:
            self._ended(task, process)
            return
        if not task.leaves_others or task.container is None:
            self._init_ended(task)
            return
        container = task.container
        self.beside(
            lambda: work.kill_all(container, _SIGKILL),
            lambda result, error: self._init_ended(task),
        )

    def _init_ended(self, task: Task, patience: int = _GUEST_LOOKS) -> None:
        apart = task.side is not None and task.side.apart
        for process in list(task.execs.values()):
            if process.status != RUNNING:
                continue
            if apart and not processes.has_ended(process.pidfd, 0):
                # What stands for it hears of its end by another way than init's did.
                if patience > 0:
                    self.loop.call_later(_GUEST_LOOK_S, lambda: self._init_ended(task, patience - 1))
                    return
                process.signal(_SIGKILL)
            if processes.has_ended(process.pidfd, _HELD_BACK_S):
                self.loop.unwatch(process.pidfd)
                self._ended(task, process)
        if not self._on_oom(task) and self.publisher.empty:
            self._ended(task, task.init)
            return
        # Who waits for the end asks for its reason next, and that comes by the other way.
        self.publisher.delivered(_REASON_S, lambda: self._ended(task, task.init))

    def _ended(self, task: Task, process: Process) -> None:
        if process.status == STOPPED:
            return
        process.exited_at = time.time_ns()
        code, signal = reap(process)
        process.exit_status = code
        process.status = STOPPED
        container = task.container
        if container is not None and process is task.init:
            self._on_oom(task)
            if not container.engine.writes_exit:
                container.record_end(code, signal, "exit")
        elif container is not None:
            work.forget_exec(container.store, task.id, process.pid, self.log)
        self.publisher.publish(
            "/tasks/exit",
            {
                "container_id": task.id,
                "id": process.exec_id or task.id,
                "pid": process.pid,
                **process.end,
            },
        )
        waiters, process.waiters = process.waiters, []
        for call in waiters:
            call.reply(messages.WAITED, process.end)

    def drained(self, process: Process, then: "Callable[[], object]") -> None:
        """Go on when the terminal's last output is with the client, or has had its time."""
        relay = process.relay
        if relay is None or not relay.open:
            then()
            return
        timer = self.loop.call_later(DRAIN_S, relay.close)

        def on_end() -> None:
            self.loop.cancel(timer)
            then()

        relay.ended = on_end

    def unmount(self, task: Task, then: "Callable[[BaseException | None], object]") -> None:
        """Take the root that the request brought away; a file system that does not let go is waited for by the loop."""
        if not task.mounted:
            then(None)
            return
        try:
            work_there = host_mounts.begin_unmount(f"{task.bundle}/{work.ROOTFS}")
        except Error as error:
            then(error)
            return
        fd = work_there.fileno()

        def finish(events: int) -> None:
            self.loop.unwatch(fd)
            try:
                work_there.finish()
            except Error as error:
                then(error)
                return
            then(None)

        self.loop.watch(fd, loops.READ, finish)

    def forget(self, task: Task) -> None:
        if self.tasks.get(task.id) is task:
            del self.tasks[task.id]
        if task.oom is not None:
            self.loop.unwatch(task.oom.fileno())
        for process in task.processes:
            if process.pidfd >= 0:
                self.loop.unwatch(process.pidfd)
            waiters, process.waiters = process.waiters, []
            for call in waiters:
                call.fail(NOT_FOUND, f"container {task.id} has been deleted")
        task.close()

    def thaw_soon(self, task: Task, process: Process) -> None:
        """What got SIGKILL and is still there is paused, or in a cgroup that the container has frozen itself."""

        def look() -> None:
            container = task.container
            if process.status != STOPPED and container is not None:
                try:
                    container.engine.thaw_below()
                except Error as error:
                    self.log.debug(str(error))

        self.loop.call_later(_HELD_BACK_S, look)

    def _watch_oom(self, task: Task) -> None:
        try:
            task.oom = task.side.oom_watch() if task.side is not None else None
        except Error as error:
            self.log.debug(str(error))
            return
        if task.oom is not None:
            self.loop.watch(task.oom.fileno(), loops.READ, lambda events: self._on_oom(task))

    def _on_oom(self, task: Task) -> bool:
        """Tell it; whether there was anything to tell."""
        watch = task.oom
        if watch is None:
            return False
        if watch.happened():
            self.publisher.publish("/tasks/oom", {"container_id": task.id})
            return True
        elif task.init.status == STOPPED:
            # The cgroup may be gone, and what watches it would be told of that for ever.
            self.loop.unwatch(watch.fileno())
            task.oom = None
            watch.close()
        return False
