"""What is on record of the end of a process in a VM.

Runs in: container shim, vmshim.   Imports: errors; state.
Source:  docs/lifecycle.md 15, 70, 76.
Never:   writes for an id that has become another's.

The shim writes, as the last thing that it does. What one that was killed could not write, the vmshim does.
"""

from skerry.errors import NoSuchKey

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from skerry.state.store import Store

SHIM_LOST = {"code": 137, "signal": 9, "reason": "shim-lost"}


def write(store: "Store", id: str, unique_id: str, end: "dict[str, Any]") -> None:
    """The key `exit`.

    Errors  Error: it is deleted meanwhile, or there is no room.
    """
    import time

    record = store.get(id, "state")
    if type(record) is not dict or record.get("UniqueID") != unique_id:
        return
    message = {"message": end["message"]} if end.get("message") else {}
    facts = {name: end.get(name) for name in ("code", "signal", "reason")}
    store.set(id, "exit", {**facts, "time": time.time(), **message})


def write_missing(store: "Store", id: str, unique_id: str, end: "dict[str, Any]") -> None:
    """The same, where the shim has not. Errors as above."""
    try:
        store.get(id, "exit")
    except NoSuchKey:
        write(store, id, unique_id, end)


def exec_key(pid: int) -> str:
    """Of an exec, by the pid of its shim."""
    return f"exec-{pid}"


def forget_exec(store: "Store", id: str, pid: int, start_time: int) -> None:
    """Clear the key of an exec whose shim has not; another shim may have that pid by now.

    Errors  Error.
    """
    try:
        value = store.get(id, exec_key(pid))
        if type(value) is dict and value.get("start") == start_time:
            store.clear(id, exec_key(pid))
    except NoSuchKey:
        return
