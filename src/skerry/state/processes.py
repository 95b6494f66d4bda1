"""Processes on record: a pid with its start time under a key, and the process that it still is.

Runs in: every verb (hot).   Imports: posix; errors, linux.process, state.status.
Source:  docs/lifecycle.md 14, 15.
Never:   takes a number for a process: what is opened has the start time that stands beside it.
"""

import posix

from skerry.errors import DamagedKey, NoSuchKey, StateError
from skerry.linux import process
from skerry.state import status as words

TYPE_CHECKING = False
if TYPE_CHECKING:
    from skerry.state.store import Store


def recorded(store: "Store", id: str, *keys: str) -> "tuple[int, int] | None":
    """(pid, start time) of the first of these keys that is there.

    Errors  DamagedKey.
    """
    for key in keys:
        try:
            value = store.get(id, key)
        except NoSuchKey:
            continue
        if (
            type(value) is not dict
            or type(value.get("pid")) is not int
            or type(value.get("start")) is not int
        ):
            raise DamagedKey(id, key, "it is not a pid with its start time")
        return value["pid"], value["start"]
    return None


def open_recorded(store: "Store", id: str, *keys: str) -> "tuple[int, int]":
    """(pid, pidfd) of the process.

    Errors  StateError if it has ended.
    Owns    the caller closes the pidfd.
    """
    found = recorded(store, id, *keys)
    pidfd = process.open_pidfd(*found) if found else None
    if found is None or pidfd is None:
        raise StateError("container not running", id=id, status=words.STOPPED, verb="signal")
    return found[0], pidfd


def lives_on(store: "Store", id: str, *keys: str, timeout_s: float) -> bool:
    """Wait for the end of the process; whether it is still there then. It is not reaped."""
    found = recorded(store, id, *keys)
    pidfd = process.open_pidfd(*found) if found else None
    if pidfd is None:
        return False
    try:
        return not process.has_ended(pidfd, timeout_s)
    finally:
        posix.close(pidfd)
