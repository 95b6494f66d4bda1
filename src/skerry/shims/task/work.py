"""What the core is asked to do, as jobs: functions of plain values that return (facts, descriptors).

Runs in: the task shim, and children of it.   Imports: posix; container, native.host_mounts, linux.
Source:  jobs.py says where they run; docs/decisions/0009-task-shim.md.
Never:   touches what the shim keeps of a container: a child has only a copy of that.
"""

from skerry import container as core
from skerry import timeouts
from skerry.container import Container
from skerry.errors import Error, NoSuchKey, NotFound, StateError, VmUnreachable
from skerry.native import host_mounts
from skerry.shims.task.options import VM
from skerry.shims.task.ttrpc import NOT_FOUND, Failure

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from skerry.log import Log
    from skerry.shims.task.options import Options
    from skerry.state.store import Store

    Result = tuple[dict[str, Any], list[int]]

ROOTFS = "rootfs"
LOG = "vm.log"  # in the bundle: of the helpers of a VM, which outlive the process that starts them
_SIGKILL = 9
SIGNAL_S = 10  # a guest that takes longer will not deliver a signal


def create(
    store: "Store",
    request: "dict[str, Any]",
    spec: "dict[str, Any]",
    stdio: "tuple[int, int, int]",
    options: "Options",
    log: "Log",
) -> "Result":
    """Mount the root, make the container; its program waits.

    Shape   descriptors: init's pidfd, the terminal's master if there is one, what tells of a guest's out-of-memory.
    """
    bundle, mounts = request["bundle"], request["rootfs"]
    rootfs = f"{bundle}/{ROOTFS}"
    if mounts:
        host_mounts.mount(mounts, rootfs)
    in_vm = options.isolation == VM
    terminal = bool((spec.get("process") or {}).get("terminal"))
    try:
        made = Container.create(
            store,
            request["id"],
            bundle=bundle,
            spec=spec,
            isolation=options.isolation,
            stdio=stdio,
            detach=not terminal,
            no_pivot=options.no_pivot_root,
            new_keyring=not options.no_new_keyring,
            shim_log=f"{bundle}/{LOG}" if in_vm else "",
            vm_log=f"{bundle}/{LOG}" if in_vm else "",
            log=log,
        )
    except BaseException:
        if mounts:
            host_mounts.unmount(rootfs)
        raise
    fds = [made.take_pidfd()]
    if made.console_fd >= 0:
        fds.append(made.console_fd)
    facts: dict[str, Any] = {"pid": made.engine.pid()}
    if in_vm:
        try:
            fds.append(made.engine.oom_watch().fileno())
            facts["watch"] = True
        except Error as error:
            log.warning(str(error))
    return facts, fds


def start(container: Container) -> "Result":
    container.start()
    return {}, []


def exec(
    container: Container, process: "dict[str, Any]", stdio: "tuple[int, int, int]"
) -> "Result":
    """Shape   descriptors as of `create`."""
    made = container.exec(process, stdio=stdio)
    fds = [made.pidfd]
    if made.console_fd >= 0:
        fds.append(made.console_fd)
    return {"pid": made.pid}, fds


def delete(store: "Store", id: str, bundle: str, log: "Log", *, mounted: bool) -> "Result":
    """Release the container, then its root. What is gone already is no error."""
    core.delete(store, id, force=True, log=log)
    if mounted:
        host_mounts.unmount(f"{bundle}/{ROOTFS}")
    return {}, []


def kill_all(container: Container, signal: int) -> "Result":
    container.engine.kill_all(signal)
    return {}, []


def signal_guest(container: Container, number: int, exec_pid: int, *, all: bool) -> "Result":
    """To init, to the exec that this pid of the host stands for, or to all: where only a guest can deliver it.

    Shape   facts: whether a SIGKILL was delivered, which does not depend on a guest that answers.
    Errors  Failure NotFound for a process that has ended in the guest; its end may be on its way yet.
    """
    timeouts.shorten(SIGNAL_S)
    engine = container.engine
    try:
        if all:
            engine.kill_all(number)
        else:
            engine.signal(number, exec_pid)
    except VmUnreachable:
        if number != _SIGKILL:
            raise
        return {"delivered": False}, []
    except (NotFound, NoSuchKey, StateError) as error:
        raise Failure(NOT_FOUND, "process already finished") from error
    return {"delivered": True}, []


def pause(container: Container) -> "Result":
    container.pause()
    return {}, []


def resume(container: Container) -> "Result":
    container.resume()
    return {}, []


def update(container: Container, resources: "dict[str, Any]") -> "Result":
    container.update(resources)
    return {}, []


def forget_exec(store: "Store", id: str, pid: int, log: "Log") -> None:
    """The key of an exec that has ended; its container may have gone before."""
    try:
        store.clear(id, f"exec-{pid}")
    except (NotFound, NoSuchKey):
        return
    except Error as error:
        log.debug(str(error))
