"""Taking a container away.

Runs in: delete, run, a failed create (hot).   Imports: posix; errors, state, linux.process.
Source:  docs/lifecycle.md K.
Never:   removes the record before everything in the journal is gone.
"""

import posix
import select
import time

from skerry import timeouts
from skerry.errors import EngineError, Error, NotFound
from skerry.state import status as words

TYPE_CHECKING = False
if TYPE_CHECKING:
    from skerry.container import Container
    from skerry.log import Log
    from skerry.state.store import Store

_SIGKILL = 9
_POLL_MS = 20


def delete(container: "Container", *, force: bool) -> None:
    """Container.delete."""
    status = container.status()
    if not force:
        words.check("delete", status, container.id)
    if status == words.CREATING:
        if _wait_for_creator(container):
            return
    elif status != words.STOPPED:
        _kill(container)
    forget(container)


def forget(container: "Container") -> None:
    """Release, run the poststop hooks, remove; one process at a time.

    Errors  NotFound where another delete was quicker; ReleaseError.
    """
    lock = container.store.lock(container.id)
    try:
        container.engine.release()
        _poststop(container)
        container.store.remove(container.id)
    finally:
        posix.close(lock)


def remove_remains(store: "Store", id: str, log: "Log") -> None:
    """An id whose record is missing or damaged: all that can still be known of it, and the id itself."""
    from skerry.engine import engine_class

    lock = store.lock(id)
    try:
        engine_class("process")(store, id, log).release_remains()
        store.remove(id)
    finally:
        posix.close(lock)


def _kill(container: "Container") -> None:
    """SIGKILL, thawed if need be, and wait for the end."""
    try:
        container.kill(_SIGKILL)
    except Error as error:
        container.log.debug(str(error))
    limit = timeouts.seconds("KILL", warn=container.log.warning)
    if not container.engine.wait_for_init(limit):
        raise EngineError(
            f"cannot delete container {container.id}: its init did not end within {limit} s",
            id=container.id,
            operation="delete",
        )


def _wait_for_creator(container: "Container") -> bool:
    """Another process makes the container right now: end what it makes, let it clean up.

    Result  True when the id is gone.
    """
    try:
        container.engine.kill_all(_SIGKILL)
    except Error as error:
        container.log.debug(str(error))
    deadline = time.monotonic() + timeouts.seconds("KILL", warn=container.log.warning)
    poller = select.poll()
    while time.monotonic() < deadline:
        try:
            if container.status() != words.CREATING:
                return False
        except NotFound:
            return True
        poller.poll(_POLL_MS)
    return False


def _poststop(container: "Container") -> None:
    hooks = (container.record.get("Hooks") or {}).get("poststop")
    if hooks:
        from skerry.hooks import run_host_hooks

        state = container.hook_state(words.STOPPED)
        run_host_hooks("poststop", hooks, state, warn=container.log.warning)
