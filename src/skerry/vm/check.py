"""What a guest says, judged: only these types and ranges are let further in.

Runs in: vmshim; pure.   Imports: errors.
Source:  docs/security.md V55; docs/vm.md "The link".
Never:   mends a value: what is wrong is RpcError, and ends the link.
"""

from skerry.errors import RpcError, one_line

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_PID_LIMIT = 1 << 22  # PID_MAX_LIMIT
REASONS = ("exit", "signal", "oom", "start-failed", "timeout")
STATUSES = ("creating", "created", "running", "paused", "stopped")
_TEXT_LIMIT = 4096
_ROWS_LIMIT = 65536


def pid(answer: object) -> int:
    """Of {"pid": n}."""
    found = answer.get("pid") if type(answer) is dict else None
    if type(found) is not int or not 0 < found <= _PID_LIMIT:
        raise RpcError("the guest answers without a pid")
    return found


def end(event: "dict[str, Any]") -> "dict[str, Any]":
    """How a process ended."""
    code, signal, reason = (event.get(name) for name in ("code", "signal", "reason"))
    if type(code) is not int or not 0 <= code <= 255:
        raise RpcError("the guest tells of an exit code that is none")
    if type(signal) is not int or not 0 <= signal <= 64 or reason not in REASONS:
        raise RpcError("the guest tells of an end that is none")
    return {"code": code, "signal": signal, "reason": reason}


def status(answer: object) -> "dict[str, Any]":
    word = answer.get("status") if type(answer) is dict else None
    if word not in STATUSES:
        raise RpcError("the guest answers a status that is none")
    return {"status": word}


def processes(answer: object) -> "dict[str, Any]":
    """Pids, and what ps shows of them."""
    pids = answer.get("pids") if type(answer) is dict else None
    table = answer.get("table") if type(answer) is dict else None
    if type(pids) is not list or not all(type(n) is int and 0 < n <= _PID_LIMIT for n in pids):
        raise RpcError("the guest answers pids that are none")
    if type(table) is not list or len(table) > _ROWS_LIMIT:
        raise RpcError("the guest answers a table that is none")
    return {"pids": sorted(pids), "table": [_row(row) for row in table]}


def _row(row: object) -> "dict[str, str]":
    if type(row) is not dict or len(row) > 16:
        raise RpcError("the guest answers a row that is none")
    return {
        one_line(str(name), 32): one_line(str(value), _TEXT_LIMIT)
        for name, value in row.items()
        if type(value) in (str, int)
    }


def stats(answer: object) -> "dict[str, Any]":
    """Figures: an object of objects, numbers, lists; the container's part is what events prints."""
    if type(answer) is not dict or type(answer.get("container")) is not dict:
        raise RpcError("the guest answers figures that are none")
    vm = answer.get("vm")
    return {"container": answer["container"], "vm": vm if type(vm) is dict else {}}
