"""containerd.task.v2 and v3: the methods that make processes and end them.

Runs in: the task shim.   Imports: posix; jsonio, spec.load, .messages, .pod, and what it takes.
Source:  containerd api/runtime/task/v3; engines "Call orders", "Status codes".
Never:   answers twice, or leaves a call without an answer: a method either returns its reply or takes the call with it.
"""

import posix

from skerry.jsonio import dumps, loads
from skerry.shims.task import messages as m
from skerry.shims.task import options, patience, work
from skerry.shims.task.pod import Pod
from skerry.shims.task.record import CREATED, RUNNING, STOPPED, UNKNOWN, Process, Task
from skerry.shims.task.stdio import open_stdio
from skerry.shims.task.ttrpc import (
    EXISTS,
    INTERNAL,
    INVALID,
    NOT_FOUND,
    PRECONDITION,
    UNIMPLEMENTED,
    Call,
    Failure,
)
from skerry.spec.load import load_bundle

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    Reply = dict[str, Any] | None

_SIGTERM, _SIGKILL = 15, 9


def create(pod: Pod, call: Call, request: "dict[str, Any]") -> "Reply":
    id = request["id"]
    if not id:
        raise Failure(INVALID, "a container without an id")
    if id in pod.tasks:
        raise Failure(EXISTS, f"container {id} already exists")
    if request["checkpoint"]:
        raise Failure(UNIMPLEMENTED, "cannot restore a checkpoint: skerry makes none")
    chosen = options.read(request["options"], pod.isolation)
    spec, _ = load_bundle(request["bundle"])
    in_vm = chosen.isolation == options.VM
    waits = "a virtual machine" if in_vm else patience.may_wait(spec, request["rootfs"])
    task = Task(request, chosen, waits)
    store = pod.store(chosen)
    if chosen.root != options.DEFAULT_ROOT:
        _write_options(task)
    streams = task.init.stdio = open_stdio(request, pod.namespace, chosen.io_owner)
    pod.tasks[id] = task
    fds = tuple(streams.fds)

    def go() -> None:
        pod.run(
            task,
            lambda: work.create(store, request, spec, fds, chosen, pod.log),  # type: ignore[arg-type]
            done,
            apart=bool(task.waits),
            keep=fds,
            owner=task.init,
        )

    def done(result: "Any", error: "BaseException | None") -> None:
        call.ended = None
        if isinstance(error, Failure) and error.code == INTERNAL:
            # Who made it was killed, and has undone nothing.
            cause = error
            pod.run(task, remove, lambda *_: fail(cause), apart=True)
            return
        if error is not None:
            fail(error)
            return
        try:
            pod.made(task, store, *result)
        except Exception as late:
            # It is there, and nobody will know of it: away with it.
            unfit: BaseException = late
            pod.run(task, remove, lambda *_: fail(unfit), apart=True)
            return
        pid = task.init.pid
        pod.publisher.publish("/tasks/create", {**_created(request), "pid": pid})
        call.reply(m.PID, {"pid": pid})

    def remove() -> "Any":
        return work.delete(store, id, task.bundle, pod.log, mounted=task.mounted)

    def fail(error: BaseException) -> None:
        pod.forget(task)
        pod.refuse(call, error)

    call.ended = lambda: _stop(task.init)
    pod.when_ready(streams, go, fail)
    return None


def _created(request: "dict[str, Any]") -> "dict[str, Any]":
    io = {name: request[name] for name in ("stdin", "stdout", "stderr", "terminal")}
    return {
        "container_id": request["id"],
        "bundle": request["bundle"],
        "rootfs": request["rootfs"],
        "io": io,
        "checkpoint": request["checkpoint"],
    }


def _write_options(task: Task) -> None:
    """For the delete action, which is told nothing but the bundle."""
    flags = posix.O_WRONLY | posix.O_CREAT | posix.O_TRUNC | posix.O_CLOEXEC | posix.O_NOFOLLOW
    fd = posix.open(f"{task.bundle}/{options.FILE}", flags, 0o600)
    try:
        posix.write(fd, dumps({"root": task.options.root}))
    finally:
        posix.close(fd)


def _stop(process: Process) -> None:
    if process.job is not None:
        process.job.stop()


def start(pod: Pod, call: Call, request: "dict[str, Any]") -> "Reply":
    task, process = pod.process(request)
    if process.exec_id:
        return _start_exec(pod, call, task, process)
    if process.status != CREATED or process.busy or task.container is None:
        raise Failure(PRECONDITION, f"cannot start container {task.id}: it is not created")
    container = task.container
    process.busy = True

    def done(result: "Any", error: "BaseException | None") -> None:
        process.busy = False
        if error is None:
            process.status = RUNNING
            pod.publisher.publish("/tasks/start", {"container_id": task.id, "pid": process.pid})
            call.reply(m.PID, {"pid": process.pid})
        else:
            pod.refuse(call, error)
        pod.settle(task, process)

    call.ended = lambda: _stop(process)
    pod.run(task, lambda: work.start(container), done, apart=bool(task.waits), owner=process)
    return None


def exec(pod: Pod, call: Call, request: "dict[str, Any]") -> "Reply":
    """Only noted: Start runs it."""
    task, exec_id = pod.task(request["id"]), request["exec_id"]
    if not exec_id:
        raise Failure(INVALID, "a process without an exec id")
    if exec_id in task.execs:
        raise Failure(EXISTS, f"process {exec_id} of container {task.id} already exists")
    if task.container is None or task.init.status == STOPPED:
        raise Failure(PRECONDITION, f"cannot exec in container {task.id}: it does not run")
    document = loads((request["spec"] or {}).get("value") or b"", what="process")
    if type(document) is not dict:
        raise Failure(INVALID, "the process is not an object")
    process = Process(exec_id, request)
    process.document = document
    process.status = CREATED
    task.execs[exec_id] = process
    pod.publisher.publish("/tasks/exec-added", {"container_id": task.id, "exec_id": exec_id})
    return {}


def _start_exec(pod: Pod, call: Call, task: Task, process: Process) -> "Reply":
    container = task.container
    if process.status != CREATED or process.busy:
        raise Failure(PRECONDITION, f"cannot start process {process.exec_id}: it is not created")
    if container is None or task.init.status == STOPPED:
        raise Failure(PRECONDITION, f"cannot exec in container {task.id}: it does not run")
    streams = process.stdio = open_stdio(process.request, pod.namespace, task.options.io_owner)
    fds = tuple(streams.fds)
    process.busy = True

    def go() -> None:
        pod.beside(
            lambda: work.exec(container, process.document, fds),  # type: ignore[arg-type]
            done,
            apart=bool(task.waits),
            keep=fds,
            owner=process,
        )

    def done(result: "Any", error: "BaseException | None") -> None:
        call.ended = None
        if error is not None:
            fail(error)
            return
        facts, made = result
        process.started(pod.loop, facts["pid"], made)
        process.busy, process.status = False, RUNNING
        event = {"container_id": task.id, "exec_id": process.exec_id, "pid": process.pid}
        pod.publisher.publish("/tasks/exec-started", event)
        call.reply(m.PID, {"pid": process.pid})
        pod.watch(task, process)

    def fail(error: BaseException) -> None:
        process.busy = False
        streams.close()
        process.stdio = None
        pod.refuse(call, error)

    call.ended = lambda: _stop(process)
    pod.when_ready(streams, go, fail)
    return None


def delete(pod: Pod, call: Call, request: "dict[str, Any]") -> "Reply":
    task, process = pod.process(request)
    if process.busy or process.status == RUNNING:
        raise Failure(PRECONDITION, "cannot delete a process that runs")
    if process.exec_id:

        def exec_done() -> None:
            if task.execs.pop(process.exec_id, None) is not None:
                process.close()
            call.reply(m.DELETED, {"pid": process.pid, **process.end})

        pod.drained(process, exec_done)
        return None
    if process.status == UNKNOWN or task.deleting:
        _stop(process)
        raise Failure(PRECONDITION, f"container {task.id} is just being made or deleted")
    task.deleting = True
    store = pod.store(task.options)

    def go() -> None:
        pod.run(
            task,
            lambda: work.delete(store, task.id, task.bundle, pod.log, mounted=False),
            released,
            apart=task.may_linger,
        )

    def released(result: "Any", error: "BaseException | None") -> None:
        if error is not None:
            done(error)
            return
        pod.unmount(task, done)

    def done(error: "BaseException | None") -> None:
        if error is not None:
            task.deleting = False
            pod.refuse(call, error)
            return
        pod.settle(task, process)  # deleted before it was started: the end comes first
        facts = {"pid": process.pid, **process.end}
        pod.publisher.publish("/tasks/delete", {"container_id": task.id, **facts})
        pod.forget(task)
        call.reply(m.DELETED, facts)

    pod.drained(process, go)
    return None


def kill(pod: Pod, call: Call, request: "dict[str, Any]") -> "Reply":
    task, process = pod.process(request)
    signal = request["signal"]
    if process.status == STOPPED:
        raise Failure(NOT_FOUND, "process already finished")
    if process.status == UNKNOWN and process.job is not None and signal in (_SIGTERM, _SIGKILL):
        process.job.stop()
        return {}
    if process.pidfd < 0:
        raise Failure(PRECONDITION, "the process has not been started")
    container = task.container
    in_guest = task.side is not None and task.side.apart
    everything = request["all"] or (signal == _SIGKILL and not task.private_pids)

    def done(result: "Any", error: "BaseException | None") -> None:
        if error is None and not result[0].get("delivered", True):
            # The guest does not answer: what stands for the process goes, and the rest is the delete's.
            process.signal(signal)
        if error is not None and in_guest and process.status == STOPPED:
            # It has ended, and its VM may have been taken away, before the guest answered.
            error = None if signal == _SIGKILL else Failure(NOT_FOUND, "process already finished")
        if error is not None:
            pod.refuse(call, error)
        else:
            call.reply(m.EMPTY, {})

    everything = everything and not process.exec_id
    if in_guest and container is not None:
        exec_pid = process.pid if process.exec_id else 0
        pod.beside(lambda: work.signal_guest(container, signal, exec_pid, all=everything), done)
        return None
    if everything and container is not None:
        pod.beside(lambda: work.kill_all(container, signal), done)
        return None
    if not process.signal(signal):
        raise Failure(NOT_FOUND, "process already finished")
    if signal == _SIGKILL:
        pod.thaw_soon(task, process)
    return {}
