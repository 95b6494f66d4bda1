"""The figures of a container in a VM as containerd's Metrics message of cgroups v2, which is what a guest has.

Runs in: a job of the task shim, Stats.   Imports: nothing.
Source:  containerd/cgroups cgroup2/stats metrics.proto; native/cgroup/stats_v2.py, which made the figures in the guest.
Never:   believes a guest: what is no count is 0, and what it calls a device is a pair of counts.
"""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_US = 1000
_LIMIT = 2**64
_ENTRIES_LIMIT = 1024
# (name of the list, op) of an entry of `events` -> field of IOEntry
_IO = {
    ("ioServiceBytesRecursive", "Read"): "rbytes",
    ("ioServiceBytesRecursive", "Write"): "wbytes",
    ("ioServicedRecursive", "Read"): "rios",
    ("ioServicedRecursive", "Write"): "wios",
}


def v2(stats: "dict[str, Any]") -> "dict[str, Any]":
    """Shape   `stats` as the engine gives them."""
    return {
        "pids": {name: _count(stats, "pids", name) for name in ("current", "limit")},
        "cpu": _cpu(stats),
        "memory": _memory(stats),
        "io": {"usage": _io(stats)},
    }


def _cpu(stats: "dict[str, Any]") -> "dict[str, int]":
    """Units   microseconds of nanoseconds."""
    return {
        "usage_usec": _count(stats, "cpu", "usage", "total") // _US,
        "user_usec": _count(stats, "cpu", "usage", "user") // _US,
        "system_usec": _count(stats, "cpu", "usage", "kernel") // _US,
        "nr_periods": _count(stats, "cpu", "throttling", "periods"),
        "nr_throttled": _count(stats, "cpu", "throttling", "throttledPeriods"),
        "throttled_usec": _count(stats, "cpu", "throttling", "throttledTime") // _US,
    }


def _memory(stats: "dict[str, Any]") -> "dict[str, int]":
    """`events` adds memory to swap, as v1 does; here they are apart, as in the kernel's files."""
    raw = _at(stats, "memory", "raw")
    figures = {name: _count(raw, name) for name in raw} if type(raw) is dict else {}
    usage, limit = _count(stats, "memory", "usage", "usage"), _count(stats, "memory", "usage", "limit")
    both, both_limit = _count(stats, "memory", "swap", "usage"), _count(stats, "memory", "swap", "limit")
    unlimited = both_limit == _LIMIT - 1 or limit == _LIMIT - 1
    figures["usage"], figures["usage_limit"] = usage, limit
    figures["max_usage"] = _count(stats, "memory", "usage", "max")
    figures["swap_usage"] = max(both - usage, 0)
    figures["swap_limit"] = both_limit if unlimited else max(both_limit - limit, 0)
    return figures


def _io(stats: "dict[str, Any]") -> "list[dict[str, int]]":
    devices: dict[tuple[int, int], dict[str, int]] = {}
    for name in ("ioServiceBytesRecursive", "ioServicedRecursive"):
        entries = _at(stats, "blkio", name)
        for entry in entries[:_ENTRIES_LIMIT] if type(entries) is list else ():
            field = _IO.get((name, str(_at(entry, "op"))))
            device = _count(entry, "major"), _count(entry, "minor")
            if field is not None:
                figures = devices.setdefault(device, {"major": device[0], "minor": device[1]})
                figures[field] = _count(entry, "value")
    return list(devices.values())


def _at(value: object, *names: str) -> object:
    for name in names:
        value = value.get(name) if type(value) is dict else None
    return value


def _count(value: object, *names: str) -> int:
    found = _at(value, *names)
    return found if type(found) is int and 0 <= found < _LIMIT else 0
