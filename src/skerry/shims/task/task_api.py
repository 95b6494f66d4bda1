"""containerd.task.v2 and v3: the table of methods, and those that ask or change.

Runs in: the task shim.   Imports: posix; jsonio, paths, .life, .messages, .pod, .work.
Source:  containerd api/runtime/task/v3; engines "Call orders", "Status codes".
Never:   answers twice, or leaves a call without an answer: a method either returns its reply or takes the call with it.
"""

import posix

from skerry import paths
from skerry.jsonio import loads
from skerry.shims.task import life, protobuf, work
from skerry.shims.task import messages as m
from skerry.shims.task.pod import Pod
from skerry.shims.task.record import STOPPED
from skerry.shims.task.ttrpc import INVALID, NOT_FOUND, PRECONDITION, UNIMPLEMENTED, Call, Failure

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    Reply = dict[str, Any] | None

SERVICES = ("containerd.task.v2.Task", "containerd.task.v3.Task")


def state(pod: Pod, call: Call, request: "dict[str, Any]") -> "Reply":
    task, process = pod.process(request)
    return {
        **process.state(),
        "id": process.exec_id or task.id,
        "exec_id": process.exec_id,
        "bundle": task.bundle,
        "status": task.status(process),
    }


def pids(pod: Pod, call: Call, request: "dict[str, Any]") -> "Reply":
    task = pod.task(request["id"])
    names = {process.pid: process.exec_id for process in task.execs.values()}
    found = []
    for pid in task.side.pids(task) if task.side is not None else ():
        entry: dict[str, Any] = {"pid": pid}
        if pid in names:
            value = m.PROCESS_DETAILS, {"exec_id": names[pid]}
            entry["info"] = _any("containerd.runc.v1.ProcessDetails", *value)
        found.append(entry)
    return {"processes": found}


def _any(url: str, table: "Any", message: "dict[str, Any]") -> "dict[str, Any]":
    return {"type_url": url, "value": protobuf.encode(table, message)}


def pause(pod: Pod, call: Call, request: "dict[str, Any]") -> "Reply":
    return _change(pod, call, request, work.pause, "/tasks/paused")


def resume(pod: Pod, call: Call, request: "dict[str, Any]") -> "Reply":
    return _change(pod, call, request, work.resume, "/tasks/resumed")


def update(pod: Pod, call: Call, request: "dict[str, Any]") -> "Reply":
    resources = loads((request["resources"] or {}).get("value") or b"", what="resources")
    if type(resources) is not dict:
        raise Failure(INVALID, "the resources are not an object")
    return _change(pod, call, request, lambda container: work.update(container, resources), "")


def _change(
    pod: Pod, call: Call, request: "dict[str, Any]", how: "Callable[[Any], Any]", topic: str
) -> "Reply":
    task = pod.task(request["id"])
    container = task.container
    if container is None or task.init.status == STOPPED:
        raise Failure(PRECONDITION, f"container {task.id} does not run")

    def done(result: "Any", error: "BaseException | None") -> None:
        if error is not None:
            pod.refuse(call, error)
            return
        if topic and task.side is not None:
            task.side.changed(topic)
            pod.publisher.publish(topic, {"container_id": task.id})
        call.reply(m.EMPTY, {})

    pod.run(task, lambda: how(container), done, apart=True)
    return None


def checkpoint(pod: Pod, call: Call, request: "dict[str, Any]") -> "Reply":
    pod.task(request["id"])
    raise Failure(UNIMPLEMENTED, "cannot checkpoint: skerry has no CRIU support")


def resize(pod: Pod, call: Call, request: "dict[str, Any]") -> "Reply":
    _, process = pod.process(request)
    process.resize(request["width"], request["height"])
    return {}


def close_io(pod: Pod, call: Call, request: "dict[str, Any]") -> "Reply":
    _, process = pod.process(request)
    if request["stdin"] and process.stdio is not None:
        process.stdio.close_stdin()
    return {}


def wait(pod: Pod, call: Call, request: "dict[str, Any]") -> "Reply":
    _, process = pod.process(request)
    if process.status == STOPPED:
        return process.end
    process.waiters = [waiter for waiter in process.waiters if waiter.open]
    process.waiters.append(call)
    return None


def stats(pod: Pod, call: Call, request: "dict[str, Any]") -> "Reply":
    from skerry.shims.task import metrics

    task = pod.task(request["id"])
    side = task.side
    if side is None:
        raise Failure(NOT_FOUND, f"container {task.id} has no cgroup")

    def done(result: "Any", error: "BaseException | None") -> None:
        if error is not None:
            pod.refuse(call, error)
            return
        url, table = metrics.TABLES[result[0]["kind"]]
        call.reply(m.STATS, {"stats": _any(url, table, result[0]["figures"])})

    pod.beside(side.figures, done, apart=side.apart)
    return None


def connect(pod: Pod, call: Call, request: "dict[str, Any]") -> "Reply":
    """An unknown id is no error: a shim that has lost its container is asked like this."""
    task = pod.tasks.get(request["id"])
    pid = task.init.pid if task is not None else 0
    return {"shim_pid": posix.getpid(), "task_pid": pid, "version": paths.version()}


def shutdown(pod: Pod, call: Call, request: "dict[str, Any]") -> "Reply":
    """Meant for one container of many: the shim ends with the last."""
    if not pod.tasks:
        pod.stop()
    return {}


# method -> (request, reply, function)
METHODS = {
    "State": (m.PROCESS_ID, m.STATE, state),
    "Create": (m.CREATE, m.PID, life.create),
    "Start": (m.PROCESS_ID, m.PID, life.start),
    "Delete": (m.PROCESS_ID, m.DELETED, life.delete),
    "Pids": (m.CONTAINER_ID, m.PIDS, pids),
    "Pause": (m.CONTAINER_ID, m.EMPTY, pause),
    "Resume": (m.CONTAINER_ID, m.EMPTY, resume),
    "Checkpoint": (m.CHECKPOINT, m.EMPTY, checkpoint),
    "Kill": (m.KILL, m.EMPTY, life.kill),
    "Exec": (m.EXEC, m.EMPTY, life.exec),
    "ResizePty": (m.RESIZE, m.EMPTY, resize),
    "CloseIO": (m.CLOSE_IO, m.EMPTY, close_io),
    "Update": (m.UPDATE, m.EMPTY, update),
    "Wait": (m.PROCESS_ID, m.WAITED, wait),
    "Stats": (m.CONTAINER_ID, m.STATS, stats),
    "Connect": (m.CONTAINER_ID, m.CONNECTED, connect),
    "Shutdown": (m.SHUTDOWN, m.EMPTY, shutdown),
}
