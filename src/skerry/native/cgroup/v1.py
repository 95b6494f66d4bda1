"""Resources of the spec as files of cgroup v1.

Runs in: create (hot), update.   Imports: posix errors; .limits.
Source:  kernel Documentation/admin-guide/cgroup-v1; config-linux.md "Control groups".
Never:   reads or writes a file itself; `read` shows a writer the present value.

Each function takes a section of the spec and returns the writes for it. As in runc, 0 means "not
said" for limits.
"""

import posix

from skerry.errors import SpecError
from skerry.native.cgroup.limits import Write

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    Read = Callable[[str], str]

SHARES_LEAST, SHARES_MOST = 2, 262144


def check_shares(shares: int, pointer: str, /) -> None:
    """Refuse what the kernel would silently change."""
    if shares < SHARES_LEAST:
        raise SpecError(pointer, f"the minimum allowed cpu-shares is {SHARES_LEAST}")
    if shares > SHARES_MOST:
        raise SpecError(pointer, f"the maximum allowed cpu-shares is {SHARES_MOST}")


def check_memory(memory: "dict[str, Any]", pointer: str, now: int, /) -> None:
    """Refuse a limit that no process can live with, or, where asked, one below what is used
    `now`."""
    limit = memory.get("limit", 0)
    page = posix.sysconf("SC_PAGE_SIZE")
    if 0 < limit < page:
        raise SpecError(f"{pointer}/limit", f"{limit} is too low: one page has {page} bytes")
    if memory.get("checkBeforeUpdate") and 0 < limit < now:
        raise SpecError(
            f"{pointer}/limit", f"unable to set memory limit to {limit} (current usage: {now})"
        )


def cpuset(cpu: "dict[str, Any]", pointer: str, read: "Read", /) -> list[Write]:
    return [
        Write("cpuset", f"cpuset.{name}", cpu[name], f"{pointer}/{name}")
        for name in ("cpus", "mems")
        if cpu.get(name)
    ]


_CPU = (
    ("shares", "cpu.shares"),
    ("period", "cpu.cfs_period_us"),
    ("quota", "cpu.cfs_quota_us"),
    ("realtimePeriod", "cpu.rt_period_us"),
    ("realtimeRuntime", "cpu.rt_runtime_us"),
)


def cpu(cpu: "dict[str, Any]", pointer: str, read: "Read", /) -> list[Write]:
    if cpu.get("shares"):
        check_shares(cpu["shares"], f"{pointer}/shares")
    writes = [
        Write("cpu", file, cpu[key], f"{pointer}/{key}") for key, file in _CPU if cpu.get(key)
    ]
    # for these two 0 is a value
    for key, file in (("burst", "cpu.cfs_burst_us"), ("idle", "cpu.idle")):
        if cpu.get(key) is not None:
            writes.append(Write("cpu", file, cpu[key], f"{pointer}/{key}"))
    return writes


_MEMORY = (
    ("limit", "memory.limit_in_bytes"),
    ("swap", "memory.memsw.limit_in_bytes"),
    ("reservation", "memory.soft_limit_in_bytes"),
)


def memory(memory: "dict[str, Any]", pointer: str, read: "Read", /) -> list[Write]:
    check_memory(memory, pointer, int(read("memory.usage_in_bytes") or 0))
    writes = [
        Write("memory", file, memory[key], f"{pointer}/{key}", may_miss=memory[key] == -1)
        for key, file in _MEMORY
        if memory.get(key)
    ]
    if memory.get("limit") == -1 and not memory.get("swap"):
        # without a limit of memory one of memory and swap makes no sense
        writes.append(
            Write("memory", "memory.memsw.limit_in_bytes", -1, f"{pointer}/limit", may_miss=True)
        )
    if memory.get("swappiness") is not None:
        value = memory["swappiness"]
        if value > 100:
            raise SpecError(f"{pointer}/swappiness", f"{value} is not in 0..100")
        writes.append(Write("memory", "memory.swappiness", value, f"{pointer}/swappiness"))
    if memory.get("disableOOMKiller") is not None:
        value = int(memory["disableOOMKiller"])
        # the kernel's default is 0, and not writing it spares hosts that lack the file
        if value or read("memory.oom_control").startswith("oom_kill_disable 1"):
            pointer_ = f"{pointer}/disableOOMKiller"
            writes.append(Write("memory", "memory.oom_control", value, pointer_))
    if memory.get("useHierarchy") is False:
        writes.append(Write("memory", "memory.use_hierarchy", 0, f"{pointer}/useHierarchy"))
    return writes


def pids(pids: "dict[str, Any]", pointer: str, read: "Read", /) -> list[Write]:
    limit = pids.get("limit", 0)
    if not limit:
        return []
    value = "max" if limit < 0 else str(limit)
    return [Write("pids", "pids.max", value, f"{pointer}/limit", may_miss=limit < 0)]


_THROTTLE = (
    ("throttleReadBpsDevice", "blkio.throttle.read_bps_device"),
    ("throttleWriteBpsDevice", "blkio.throttle.write_bps_device"),
    ("throttleReadIOPSDevice", "blkio.throttle.read_iops_device"),
    ("throttleWriteIOPSDevice", "blkio.throttle.write_iops_device"),
)


def device_key(entry: "dict[str, Any]", pointer: str, /) -> str:
    for name in ("major", "minor"):
        if type(entry.get(name)) is not int or entry[name] < 0:
            raise SpecError(f"{pointer}/{name}", "must be a device number")
    return f"{entry['major']}:{entry['minor']}"


def block_io(io: "dict[str, Any]", pointer: str, read: "Read", /) -> list[Write]:
    # BFQ is the only scheduler with weights since Linux 5.0; the plain names are those of CFQ
    # before it
    style = "blkio" if read("blkio.weight") else "blkio.bfq"
    writes = []
    for key, file in (("weight", f"{style}.weight"), ("leafWeight", "blkio.leaf_weight")):
        if io.get(key):
            writes.append(Write("blkio", file, io[key], f"{pointer}/{key}"))
    for index, entry in enumerate(io.get("weightDevice") or ()):
        at = f"{pointer}/weightDevice/{index}"
        device = device_key(entry, at)
        for key, file in (
            ("weight", f"{style}.weight_device"),
            ("leafWeight", "blkio.leaf_weight_device"),
        ):
            if entry.get(key):
                writes.append(
                    Write("blkio", file, entry[key], f"{at}/{key}", key=device, blank="0")
                )
    for key, file in _THROTTLE:
        for index, entry in enumerate(io.get(key) or ()):
            at = f"{pointer}/{key}/{index}"
            rate = entry.get("rate", 0)
            device = device_key(entry, at)
            writes.append(Write("blkio", file, rate, f"{at}/rate", key=device, blank="0"))
    return writes


def hugetlb(limits: "list[dict[str, Any]]", pointer: str, read: "Read", /) -> list[Write]:
    return page_limits(limits, pointer, "limit_in_bytes")


def page_limits(limits: "list[dict[str, Any]]", pointer: str, word: str, /) -> list[Write]:
    """A limit counts for pages in use and, where the kernel has it, for reserved ones: those fail
    at mmap already."""
    writes = []
    for index, entry in enumerate(limits):
        size, value = entry["pageSize"], entry["limit"]
        at = f"{pointer}/{index}"
        if size[-2:] not in ("KB", "MB", "GB") or not size[:-2].isdigit():
            raise SpecError(f"{at}/pageSize", f"{size!r} is no page size")
        writes.append(Write("hugetlb", f"hugetlb.{size}.{word}", value, f"{at}/pageSize"))
        reserved = f"hugetlb.{size}.rsvd.{word}"
        writes.append(Write("hugetlb", reserved, value, f"{at}/limit", may_miss=True))
    return writes


def network_class(network: "dict[str, Any]", pointer: str, read: "Read", /) -> list[Write]:
    number = network.get("classID")
    return [Write("net_cls", "net_cls.classid", number, f"{pointer}/classID")] if number else []


def network_priorities(network: "dict[str, Any]", pointer: str, read: "Read", /) -> list[Write]:
    return [
        Write(
            "net_prio",
            "net_prio.ifpriomap",
            entry["priority"],
            f"{pointer}/priorities/{index}",
            key=entry["name"],
            blank="0",
        )
        for index, entry in enumerate(network.get("priorities") or ())
    ]


def rdma(rdma: "dict[str, Any]", pointer: str, read: "Read", /) -> list[Write]:
    """The file and its lines are the same in both versions."""
    writes = []
    for device, entry in rdma.items():
        words = [
            f"{word}={entry[key]}"
            for key, word in (("hcaHandles", "hca_handle"), ("hcaObjects", "hca_object"))
            if entry.get(key) is not None
        ]
        if words:
            blank = "hca_handle=max hca_object=max"
            at = f"{pointer}/{device}"
            writes.append(Write("rdma", "rdma.max", " ".join(words), at, key=device, blank=blank))
    return writes
