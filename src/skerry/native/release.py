"""Give back what a container has acquired, item by item of its journal.

Runs in: delete, a failed create (hot).   Imports: posix, time; errors, timeouts, linux.process, state.journal.
Source:  docs/lifecycle.md 117-121.
Never:   signals a process that is not the one on record; removes what create did not make.

Releasing twice, or something that was never made, succeeds: whoever comes after a crash starts from the top.
"""

import posix
import time

from skerry import timeouts
from skerry.errors import DamagedKey, Error, KernelError, ReleaseError
from skerry.linux import process
from skerry.state.journal import Journal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    Table = dict[str, Callable[[dict[str, Any]], None]]

    from skerry.log import Log
    from skerry.state.store import Store

_SIGKILL = 9
_ETIMEDOUT = 110
_SLICE_S = 0.2


def release_all(journal: Journal, table: "Table | None" = None) -> bool:
    """Release every item, last first; whether there was one. All of them can be read (`unreadable`).

    `table` is of another engine: its kinds of items, and ours.

    Errors  ReleaseError with every cause; what failed stays on record for another try.
    """
    had_items = bool(journal.items)
    causes = []
    for item in reversed(journal.items[:]):
        try:
            (table or ITEMS)[item["kind"]](item)
        except Error as error:
            causes.append(str(error))
        else:
            journal.items.remove(item)
    if causes:
        # What is gone can be released again without harm, so one write at the end is enough.
        journal.save()
        raise ReleaseError(causes)
    return had_items


def release_remains(store: "Store", id: str, log: "Log") -> None:
    """Release what is left of a container whose facts are damaged, as far as they can be read.

    Errors  ReleaseError.
    """
    try:
        journal = Journal.load(store, id)
    except DamagedKey as error:
        log.warning(str(error))
        journal = Journal(store, id, [])
    for item in journal.items[:]:
        cause = unreadable(item)
        if cause:
            log.warning(cause)  # it names nothing that could be released
            journal.items.remove(item)
    if not journal.of("cgroup"):
        journal.items = [*_guess(store, id), *journal.items]
    release_all(journal)


def unreadable(item: "dict[str, Any]") -> str:
    """Why an item is not one that a skerry of this version has written, or ""."""
    kind = item.get("kind")
    if type(kind) is not str or kind not in ITEMS:
        return f"this version of skerry does not know what {kind!r} is"
    if kind == "cgroup":
        from skerry.native.cgroup.tree import from_record

        record = item.get("cgroup")
        try:
            from_record(record if type(record) is dict else {})
        except Error as error:
            return error.message
    elif type(item.get("pid")) is not int or type(item.get("start")) is not int:
        return f"a {kind} is not a pid with its start time"
    return ""


def end(pid: int, pidfd: int, timeout_s: float) -> bool:
    """Wait for the end of a process that was killed, and reap it if it is our child.

    One that only waits for others of its pid namespace to be reaped has ended for us: their parents may take any time.
    """
    deadline = time.monotonic() + timeout_s
    while not process.has_ended(pidfd, _SLICE_S):
        if process.exiting(pid):
            return True
        if time.monotonic() > deadline:
            return False
    process.wait_exit(pidfd, 0)
    return True


def kill_processes(journal: Journal) -> None:
    """Kill what is on record as a process on its way; it may not be in the cgroup yet."""
    for item in journal.of("process"):
        pidfd = None if unreadable(item) else _open(item)
        if pidfd is not None:
            process.send_signal(pidfd, _SIGKILL)
            posix.close(pidfd)


def _release_process(item: "dict[str, Any]") -> None:
    """A process that may still be on its way through its plan, or a holder."""
    pidfd = _open(item)
    if pidfd is None:
        return
    try:
        process.send_signal(pidfd, _SIGKILL)
        if not end(item["pid"], pidfd, timeouts.seconds("KILL")):
            raise KernelError("end", f"process {item['pid']}", _ETIMEDOUT)
    finally:
        posix.close(pidfd)


def _open(item: "dict[str, Any]") -> "int | None":
    return process.open_pidfd(item["pid"], item["start"])


def _release_cgroup(item: "dict[str, Any]") -> None:
    from skerry.native.cgroup.tree import from_record

    cgroup = from_record(item["cgroup"])
    # Whoever is in a cgroup that create did not get to enter is not ours to kill.
    if item.get("entered") and cgroup.processes():
        cgroup.kill(_SIGKILL)
    cgroup.remove()


def _guess(store: "Store", id: str) -> "list[dict[str, Any]]":
    """The items of a journal that is lost: init if its key is whole, and the cgroup that holds it.

    Without init there is nothing that tells our cgroup from another's of that name, so only an empty one goes.
    """
    from skerry.native.cgroup.tree import open_cgroup, read_layout

    init = _read(store, id, "pid") or _read(store, id, "shim")
    linux = _read(store, id, "spec").get("linux")
    named = linux.get("cgroupsPath") if type(linux) is dict else None
    try:
        cgroup = open_cgroup(read_layout(), named if type(named) is str else "", id)
    except Error:
        return [{**init, "kind": "process"}] if init else []
    pids = cgroup.processes()
    alive = bool(init) and process.is_alive(init["pid"], init["start"])
    items = []
    if not pids or (alive and init["pid"] in pids):
        made = [path for path in cgroup.leaves if path not in cgroup.made]
        items.append(
            {"kind": "cgroup", "cgroup": {**cgroup.record, "made": made}, "entered": bool(pids)}
        )
    if init:
        items.append({**init, "kind": "process"})
    return items


def _read(store: "Store", id: str, key: str) -> "dict[str, Any]":
    try:
        value = store.get(id, key)
    except Error:
        return {}
    whole = type(value) is dict and (
        key == "spec" or (type(value.get("pid")) is int and type(value.get("start")) is int)
    )
    return value if whole else {}  # type: ignore[return-value]


ITEMS: "Table" = {"process": _release_process, "cgroup": _release_cgroup, "holder": _release_process}
