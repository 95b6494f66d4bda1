"""The figures of cgroup v2, under the names that v1 gave them.

Runs in: events.   Imports: linux.cgroupfs; .stats_v1.
Source:  kernel Documentation/admin-guide/cgroup-v2.rst; the mapping of runc 1.1.
Never:   invents a figure; a directory of "" (no v2 tree) reads as nothing at all.

As on v1, `swap` means memory and swap together.
"""

from skerry.linux import cgroupfs
from skerry.native.cgroup.stats_v1 import _CPUSET, number, page_sizes, some, table

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

UNLIMITED = 2**64 - 1
_US = 1000


def cpu(path: str, /) -> "dict[str, Any]":
    """Units   nanoseconds; the kernel has microseconds."""
    rows = table(f"{path}/cpu.stat")
    usage = {
        "total": rows.get("usage_usec", 0) * _US,
        "kernel": rows.get("system_usec", 0) * _US,
        "user": rows.get("user_usec", 0) * _US,
    }
    throttling = {
        "periods": rows.get("nr_periods", 0),
        "throttledPeriods": rows.get("nr_throttled", 0),
        "throttledTime": rows.get("throttled_usec", 0) * _US,
    }
    return {"usage": some(usage, ("kernel", "user")), "throttling": some(throttling)}


def cpuset(path: str, /) -> "dict[str, Any]":
    return dict.fromkeys(_CPUSET, 0)


def memory(path: str, /) -> "dict[str, Any]":
    raw = table(f"{path}/memory.stat")
    plain = _memory_entry(f"{path}/memory")
    swap = _memory_entry(f"{path}/memory.swap")
    swap["usage"] += plain["usage"]
    if swap["limit"] != UNLIMITED:
        swap["limit"] += plain["limit"] if plain["limit"] != UNLIMITED else 0
    keep = ("limit", "failcnt")
    nothing = {"limit": 0, "failcnt": 0}
    figures = {
        "cache": raw.get("file", 0),
        "usage": some(plain, keep),
        "swap": some(swap, keep),
        "kernel": dict(nothing),
        "kernelTCP": dict(nothing),
        "raw": raw,
    }
    return some(figures)


def _memory_entry(prefix: str, /) -> dict[str, int]:
    limit = cgroupfs.read_or(f"{prefix}.max", "0")
    return {
        "limit": UNLIMITED if limit == "max" else int(limit),
        "usage": number(f"{prefix}.current"),
        "max": number(f"{prefix}.peak"),
        "failcnt": 0,
    }


def pids(path: str, /) -> "dict[str, Any]":
    return some({"current": number(f"{path}/pids.current"), "limit": number(f"{path}/pids.max")})


_IO = {
    "rbytes": ("ioServiceBytesRecursive", "Read"),
    "wbytes": ("ioServiceBytesRecursive", "Write"),
    "dbytes": ("ioServiceBytesRecursive", "Discard"),
    "rios": ("ioServicedRecursive", "Read"),
    "wios": ("ioServicedRecursive", "Write"),
    "dios": ("ioServicedRecursive", "Discard"),
}


def blkio(path: str, /) -> "dict[str, Any]":
    figures: dict[str, list[dict[str, Any]]] = {
        "ioServiceBytesRecursive": [],
        "ioServicedRecursive": [],
    }
    for line in cgroupfs.read_or(f"{path}/io.stat").split("\n"):
        device, _, rest = line.partition(" ")
        major, _, minor = device.partition(":")
        for word in rest.split():
            name, _, value = word.partition("=")
            if name in _IO:
                key, op = _IO[name]
                entry = {"major": int(major), "minor": int(minor), "op": op, "value": int(value)}
                figures[key].append(some(entry))
    return some(figures)


def hugetlb(path: str, /) -> "dict[str, Any]":
    figures = {}
    for size in page_sizes(path, ".current"):
        prefix = f"{path}/hugetlb.{size}"
        failed = table(f"{prefix}.events").get("max", 0)
        entry = {"usage": number(f"{prefix}.current"), "failcnt": failed}
        figures[size] = some(entry, ("failcnt",))
    return figures
