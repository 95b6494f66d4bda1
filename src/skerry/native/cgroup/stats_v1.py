"""The figures of cgroup v1.

Runs in: events.   Imports: posix linux.cgroupfs.
Source:  kernel Documentation/admin-guide/cgroup-v1 (cpuacct, cpusets, memory, blkio-controller,
         pids, hugetlb).
Never:   invents a figure: what is zero or missing is left out where runc leaves it out.
"""

import posix

from skerry.linux import cgroupfs

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from skerry.native.cgroup.group import Cgroup

NANOSECONDS = 1_000_000_000


def number(path: str, /) -> int:
    """Read a figure; what is missing, or `max`, is 0."""
    text = cgroupfs.read_or(path)
    return int(text) if text.lstrip("-").isdigit() else 0


def table(path: str, /) -> dict[str, int]:
    """Read lines of `name number`."""
    rows = (line.split(" ") for line in cgroupfs.read_or(path).split("\n"))
    return {row[0]: int(row[1]) for row in rows if len(row) == 2 and row[1].isdigit()}


def some(figures: "dict[str, Any]", keep: tuple[str, ...] = (), /) -> "dict[str, Any]":
    """Leave out what is zero or empty, unless it is to be kept."""
    return {key: value for key, value in figures.items() if value or key in keep}


def cpu(group: "Cgroup", /) -> "dict[str, Any]":
    """Units   nanoseconds."""
    path = group.paths["cpuacct"]
    tick = NANOSECONDS // posix.sysconf("SC_CLK_TCK")
    modes = table(f"{path}/cpuacct.stat")
    each = [
        line.split(" ") for line in cgroupfs.read_or(f"{path}/cpuacct.usage_all").split("\n")[1:]
    ]
    usage = {
        "total": number(f"{path}/cpuacct.usage"),
        "percpu": [int(word) for word in cgroupfs.read_or(f"{path}/cpuacct.usage_percpu").split()],
        "percpu_kernel": [int(row[2]) for row in each],
        "percpu_user": [int(row[1]) for row in each],
        "kernel": modes.get("system", 0) * tick,
        "user": modes.get("user", 0) * tick,
    }
    rows = table(f"{group.paths.get('cpu', '')}/cpu.stat")
    throttling = {
        "periods": rows.get("nr_periods", 0),
        "throttledPeriods": rows.get("nr_throttled", 0),
        "throttledTime": rows.get("throttled_time", 0),
    }
    return {"usage": some(usage, ("kernel", "user")), "throttling": some(throttling)}


_CPUSET = (
    "cpu_exclusive",
    "mem_hardwall",
    "mem_exclusive",
    "memory_migrate",
    "memory_spread_page",
    "memory_spread_slab",
    "memory_pressure",
    "sched_load_balance",
    "sched_relax_domain_level",
)


def cpuset(group: "Cgroup", /) -> "dict[str, Any]":
    path = group.paths["cpuset"]
    figures: dict[str, object] = {name: number(f"{path}/cpuset.{name}") for name in _CPUSET}
    for name in ("cpus", "mems"):
        figures[name] = expand(cgroupfs.read_or(f"{path}/cpuset.{name}"))
    order = ("cpus", "cpu_exclusive", "mems", *_CPUSET[1:])
    return some({name: figures[name] for name in order}, _CPUSET)


def expand(text: str, /) -> list[int]:
    """0-2,7 as 0 1 2 7."""
    numbers: list[int] = []
    for part in text.split(","):
        first, _, last = part.partition("-")
        if first:
            numbers += range(int(first), int(last or first) + 1)
    return numbers


_MEMORY = (
    ("usage", "memory"),
    ("swap", "memory.memsw"),
    ("kernel", "memory.kmem"),
    ("kernelTCP", "memory.kmem.tcp"),
)


def memory(group: "Cgroup", /) -> "dict[str, Any]":
    path = group.paths["memory"]
    raw = table(f"{path}/memory.stat")
    figures: dict[str, object] = {"cache": raw.get("cache", 0)}
    for key, prefix in _MEMORY:
        entry = {
            "limit": number(f"{path}/{prefix}.limit_in_bytes"),
            "usage": number(f"{path}/{prefix}.usage_in_bytes"),
            "max": number(f"{path}/{prefix}.max_usage_in_bytes"),
            "failcnt": number(f"{path}/{prefix}.failcnt"),
        }
        figures[key] = some(entry, ("limit", "failcnt"))
    figures["raw"] = raw
    return some(figures)


def pids(group: "Cgroup", /) -> "dict[str, Any]":
    path = group.paths["pids"]
    return some({"current": number(f"{path}/pids.current"), "limit": number(f"{path}/pids.max")})


# in the order they are tried: BFQ with debug figures, BFQ, the throttle layer
_BLKIO = (
    (
        ("blkio.bfq.sectors_recursive", "sectorsRecursive"),
        ("blkio.bfq.io_service_time_recursive", "ioServiceTimeRecursive"),
        ("blkio.bfq.io_wait_time_recursive", "ioWaitTimeRecursive"),
        ("blkio.bfq.io_merged_recursive", "ioMergedRecursive"),
        ("blkio.bfq.io_queued_recursive", "ioQueueRecursive"),
        ("blkio.bfq.time_recursive", "ioTimeRecursive"),
        ("blkio.bfq.io_serviced_recursive", "ioServicedRecursive"),
        ("blkio.bfq.io_service_bytes_recursive", "ioServiceBytesRecursive"),
    ),
    (
        ("blkio.bfq.io_serviced_recursive", "ioServicedRecursive"),
        ("blkio.bfq.io_service_bytes_recursive", "ioServiceBytesRecursive"),
    ),
    (
        ("blkio.throttle.io_serviced_recursive", "ioServicedRecursive"),
        ("blkio.throttle.io_service_bytes_recursive", "ioServiceBytesRecursive"),
    ),
)


def blkio(group: "Cgroup", /) -> "dict[str, Any]":
    path = group.paths["blkio"]
    for files in _BLKIO:
        figures = {key: _entries(f"{path}/{file}") for file, key in files}
        if figures[files[0][1]]:
            order = ("ioServiceBytesRecursive", "ioServicedRecursive", "ioQueueRecursive")
            return some({key: figures[key] for key in (*order, *figures) if key in figures})
    return {}


def _entries(path: str, /) -> "list[dict[str, Any]]":
    """Lines of `8:0 Read 4096` or `8:0 16`; the line Total has no device."""
    entries = []
    for line in cgroupfs.read_or(path).split("\n"):
        words = line.split(" ")
        major, colon, minor = words[0].partition(":")
        if colon:
            op = words[1] if len(words) == 3 else ""
            entry = {"major": int(major), "minor": int(minor), "op": op, "value": int(words[-1])}
            entries.append(some(entry))
    return entries


def hugetlb(group: "Cgroup", /) -> "dict[str, Any]":
    path = group.paths["hugetlb"]
    return {size: _pages(f"{path}/hugetlb.{size}") for size in page_sizes(path, ".usage_in_bytes")}


def _pages(prefix: str, /) -> "dict[str, Any]":
    figures = {
        "usage": number(f"{prefix}.usage_in_bytes"),
        "max": number(f"{prefix}.max_usage_in_bytes"),
        "failcnt": number(f"{prefix}.failcnt"),
    }
    return some(figures, ("failcnt",))


def page_sizes(path: str, ending: str, /) -> list[str]:
    """The page sizes this cgroup has files for: 2MB, 1GB."""
    try:
        names = posix.listdir(path)
    except OSError:
        return []
    cut = [
        name[len("hugetlb.") : -len(ending)]
        for name in names
        if name.startswith("hugetlb.") and name.endswith(ending)
    ]
    return sorted(size for size in cut if "." not in size)
