"""Taking a container away.

Runs in: delete, run, a failed create (hot).   Imports: posix, select, time; errors, timeouts, state.status.
Source:  docs/lifecycle.md K.
Never:   removes the record before everything in the journal is gone, or touches what has the id by now.
"""

import posix
import select
import time

from skerry import timeouts
from skerry.errors import Damaged, EngineError, Error, NoSuchKey, NotFound
from skerry.state import status as words

TYPE_CHECKING = False
if TYPE_CHECKING:
    from skerry.container import Container
    from skerry.log import Log
    from skerry.state.store import Store

_POLL_MS = 20


def delete_id(cls: "type[Container]", store: "Store", id: str, *, force: bool, log: "Log") -> None:
    """Delete by id, also where the record is missing or damaged (container.py `delete`)."""
    try:
        delete(cls.load(store, id, log=log), force=force)
    except NotFound:
        if not force:
            raise
    except NoSuchKey:
        # Its creator died in its first step: that there was no container is said all the same.
        _remove_remains(cls, store, id, log)
        if not force:
            raise
    except Damaged as error:
        if not force:
            raise
        log.warning(str(error))
        _remove_remains(cls, store, id, log)


def delete(container: "Container", *, force: bool) -> None:
    """Container.delete."""
    if not _delete_locked(container, force=force):
        # Another process makes it right now: it must be let through to its own undoing.
        if not _wait_for_creator(container):
            _delete_locked(container, force=force, creator_counts=False)


def _delete_locked(container: "Container", *, force: bool, creator_counts: bool = True) -> bool:
    """All of it under the id's lock; False if its creator is still at work.

    Errors  NotFound where another delete was quicker; StateError; ReleaseError.
    """
    lock = _lock(container)
    try:
        status = container.status()
        if not force:
            words.check("delete", status, container.id)
        if status == words.CREATING and creator_counts:
            return False
        if status not in (words.STOPPED, words.CREATING):
            _kill(container)
        _release(container)
    finally:
        posix.close(lock)
    return True


def forget(container: "Container") -> None:
    """Release, run the poststop hooks, remove: the end of a create that failed.

    Errors  NotFound where a delete was quicker; ReleaseError.
    """
    lock = _lock(container)
    try:
        _release(container)
    finally:
        posix.close(lock)


def _lock(container: "Container") -> int:
    """Lock the id, and see that it still is this container's and not that of a later one.

    Errors  NotFound.
    """
    store, id = container.store, container.id
    lock = store.lock(id)
    try:
        record = store.get(id, "state")
        if type(record) is not dict or record.get("UniqueID") != container.record.get("UniqueID"):
            raise NotFound(id)
    except BaseException:
        posix.close(lock)
        raise
    return lock


def _release(container: "Container") -> None:
    # A create that was refused before it made anything has nothing that hooks could clean up after.
    if container.engine.release():
        _poststop(container)
    container.store.remove(container.id)


def _remove_remains(cls: "type[Container]", store: "Store", id: str, log: "Log") -> None:
    """An id without a readable record: whatever its files still tell of, and the id itself."""
    try:
        lock = store.lock(id)
    except NotFound:
        return
    except Damaged:
        store.discard(id)
        return
    try:
        cls(store, id, {}, log).engine.release_remains()
        store.remove(id)
    finally:
        posix.close(lock)


def _kill(container: "Container") -> None:
    """Errors  EngineError for an init that does not end."""
    limit = timeouts.seconds("KILL", warn=container.log.warning)
    if not container.engine.destroy(limit):
        raise EngineError(
            f"cannot delete container {container.id}: its init did not end within {limit} s",
            id=container.id,
            operation="delete",
        )


def _wait_for_creator(container: "Container") -> bool:
    """End what its creator makes, and let it clean up; True when the id is gone.

    The creator itself is never signalled. Its processes change under our hands, hence again and again.
    """
    deadline = time.monotonic() + timeouts.seconds("KILL", warn=container.log.warning)
    poller = select.poll()
    while time.monotonic() < deadline:
        try:
            if container.status() != words.CREATING:
                return False
            container.engine.kill_creation()
        except NotFound:
            return True
        except Error as error:
            container.log.debug(str(error))
        poller.poll(_POLL_MS)
    return False


def _poststop(container: "Container") -> None:
    hooks = container.record["Hooks"].get("poststop")
    if hooks:
        from skerry.hooks import run_host_hooks

        state = container.hook_state(words.STOPPED)
        run_host_hooks("poststop", hooks, state, warn=container.log.warning)
