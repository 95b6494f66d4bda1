"""What the core is asked to do, as jobs: functions of plain values that return (facts, descriptors).

Runs in: the task shim, and children of it.   Imports: posix; container, native.host_mounts, linux.
Source:  jobs.py says where they run; docs/decisions/0009-task-shim.md.
Never:   touches what the shim keeps of a container: a child has only a copy of that.
"""

from skerry import container as core
from skerry.container import Container
from skerry.errors import Error, NoSuchKey, NotFound
from skerry.native import host_mounts

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from skerry.log import Log
    from skerry.shims.task.options import Options
    from skerry.state.store import Store

    Result = tuple[dict[str, Any], list[int]]

ROOTFS = "rootfs"


def create(
    store: "Store",
    request: "dict[str, Any]",
    spec: "dict[str, Any]",
    stdio: "tuple[int, int, int]",
    options: "Options",
    log: "Log",
) -> "Result":
    """Mount the root, make the container; its program waits.

    Shape   descriptors: init's pidfd, then the terminal's master if there is one.
    """
    bundle, mounts = request["bundle"], request["rootfs"]
    rootfs = f"{bundle}/{ROOTFS}"
    if mounts:
        host_mounts.mount(mounts, rootfs)
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
            log=log,
        )
    except BaseException:
        if mounts:
            host_mounts.unmount(rootfs)
        raise
    fds = [made.take_pidfd()]
    if made.console_fd >= 0:
        fds.append(made.console_fd)
    return {"pid": made.engine.pid()}, fds


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
