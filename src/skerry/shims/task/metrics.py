"""The figures of a container as containerd's Metrics messages.

Runs in: the task shim, Stats.   Imports: linux.cgroupfs, native.cgroup, .ttrpc.
Source:  containerd/cgroups cgroup1/stats and cgroup2/stats metrics.proto; kernel cgroup-v1/memory.rst, cgroup-v2.rst.
Never:   mixes the two: a host with v1 controllers gets v1 figures, as from containerd's own shim.
"""

from skerry.linux import cgroupfs
from skerry.native.cgroup import stats_v1, stats_v2
from skerry.shims.task.ttrpc import NOT_FOUND, Failure

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from skerry.native.cgroup.group import Cgroup

V1, V2 = "io.containerd.cgroups.v1.Metrics", "io.containerd.cgroups.v2.Metrics"


def _numbers(names: str) -> "tuple[tuple[int, str, str], ...]":
    """Rows of a message whose fields are unsigned and numbered from 1."""
    return tuple((n, name, "uint64") for n, name in enumerate(names.split(), 1))


# field of v1 MemoryStat -> line of memory.stat, in the order of their numbers
_V1_MEMORY = (
    "cache rss rss_huge mapped_file dirty writeback pgpgin pgpgout pgfault pgmajfault inactive_anon active_anon "
    "inactive_file active_file unevictable hierarchical_memory_limit hierarchical_memsw_limit total_cache total_rss "
    "total_rss_huge total_mapped_file total_dirty total_writeback total_pgpgin total_pgpgout total_pgfault "
    "total_pgmajfault total_inactive_anon total_active_anon total_inactive_file total_active_file total_unevictable"
)
_ENTRY = _numbers("limit usage max failcnt")
_PIDS = _numbers("current limit")
_BLKIO_ENTRY = (
    (1, "op", "string"),
    (2, "device", "string"),
    (3, "major", "uint64"),
    (4, "minor", "uint64"),
    (5, "value", "uint64"),
)
_BLKIO = (
    "ioServiceBytesRecursive", "ioServicedRecursive", "ioQueueRecursive", "ioServiceTimeRecursive",
    "ioWaitTimeRecursive", "ioMergedRecursive", "ioTimeRecursive", "sectorsRecursive",
)  # fmt: skip
V1_TABLE = (
    (1, "hugetlb", [(*_numbers("usage max failcnt"), (4, "pagesize", "string"))]),
    (2, "pids", _PIDS),
    (
        3,
        "cpu",
        (
            (1, "usage", (*_numbers("total kernel user"), (4, "percpu", ["uint64"]))),
            (2, "throttling", _numbers("periods throttledPeriods throttledTime")),
        ),
    ),
    (
        4,
        "memory",
        (
            *_numbers(_V1_MEMORY),
            (33, "usage", _ENTRY),
            (34, "swap", _ENTRY),
            (35, "kernel", _ENTRY),
            (36, "kernelTCP", _ENTRY),
        ),
    ),
    (5, "blkio", tuple((n, name, [_BLKIO_ENTRY]) for n, name in enumerate(_BLKIO, 1))),
    (9, "memory_oom_control", _numbers("oom_kill_disable under_oom oom_kill")),
)

_V2_MEMORY = (
    "anon file kernel_stack slab sock shmem file_mapped file_dirty file_writeback anon_thp inactive_anon active_anon "
    "inactive_file active_file unevictable slab_reclaimable slab_unreclaimable pgfault pgmajfault workingset_refault "
    "workingset_activate workingset_nodereclaim pgrefill pgscan pgsteal pgactivate pgdeactivate pglazyfree pglazyfreed "
    "thp_fault_alloc thp_collapse_alloc usage usage_limit swap_usage swap_limit max_usage swap_max_usage"
)
_V2_EVENTS = "low high max oom oom_kill"
V2_TABLE = (
    (1, "pids", _PIDS),
    (2, "cpu", _numbers("usage_usec user_usec system_usec nr_periods nr_throttled throttled_usec")),
    (4, "memory", _numbers(_V2_MEMORY)),
    (6, "io", ((1, "usage", [_numbers("major minor rbytes wbytes rios wios")]),)),
    (7, "hugetlb", [(*_numbers("current max"), (3, "pagesize", "string"))]),
    (8, "memory_events", _numbers(_V2_EVENTS)),
)


# kind -> type url, and its table
TABLES = {"v1": (V1, V1_TABLE), "v2": (V2, V2_TABLE)}


def read(group: "Cgroup") -> "tuple[str, dict[str, Any]]":
    """(kind, message).

    Errors  Failure NotFound where the cgroup is gone.
    """
    if not any(cgroupfs.is_directory(path) for path in group.leaves):
        raise Failure(NOT_FOUND, f"cgroup {group.leaves[0] if group.leaves else ''} is gone")
    if group.kind == "v2":
        return "v2", v2(group.paths[""])
    return "v1", v1(group)


def v1(group: "Cgroup") -> "dict[str, Any]":
    figures: dict[str, Any] = {}
    paths = group.paths
    if "hugetlb" in paths and not group.is_v2("hugetlb"):
        sizes = stats_v1.hugetlb(group)
        figures["hugetlb"] = [{**entry, "pagesize": size} for size, entry in sizes.items()]
    if "pids" in paths:
        figures["pids"] = stats_v1.pids(group)
    if "cpuacct" in paths:
        figures["cpu"] = stats_v1.cpu(group)
    if "memory" in paths:
        memory = stats_v1.memory(group)
        figures["memory"] = {**memory["raw"], **memory}
        control = stats_v1.table(f"{paths['memory']}/memory.oom_control")
        figures["memory_oom_control"] = control
    if "blkio" in paths:
        figures["blkio"] = stats_v1.blkio(group)
    return figures


def v2(path: str) -> "dict[str, Any]":
    memory: dict[str, Any] = stats_v1.table(f"{path}/memory.stat")
    memory["usage"] = stats_v1.number(f"{path}/memory.current")
    memory["usage_limit"] = _limit(f"{path}/memory.max")
    memory["swap_usage"] = stats_v1.number(f"{path}/memory.swap.current")
    memory["swap_limit"] = _limit(f"{path}/memory.swap.max")
    memory["max_usage"] = stats_v1.number(f"{path}/memory.peak")
    memory["swap_max_usage"] = stats_v1.number(f"{path}/memory.swap.peak")
    return {
        "pids": stats_v2.pids(path),
        "cpu": stats_v1.table(f"{path}/cpu.stat"),
        "memory": memory,
        "io": {"usage": _io(path)},
        "hugetlb": [
            {
                "current": stats_v1.number(f"{path}/hugetlb.{size}.current"),
                "max": _limit(f"{path}/hugetlb.{size}.max"),
                "pagesize": size,
            }
            for size in stats_v1.page_sizes(path, ".current")
        ],
        "memory_events": stats_v1.table(f"{path}/memory.events"),
    }


def _limit(file: str) -> int:
    """`max` is the largest number."""
    text = cgroupfs.read_or(file)
    return stats_v2.UNLIMITED if text == "max" else stats_v1.number(file)


def _io(path: str) -> "list[dict[str, int]]":
    entries = []
    for line in cgroupfs.read_or(f"{path}/io.stat").split("\n"):
        device, _, rest = line.partition(" ")
        major, colon, minor = device.partition(":")
        if colon:
            entry = {"major": int(major), "minor": int(minor)}
            for word in rest.split():
                name, _, value = word.partition("=")
                if value.isdigit():
                    entry[name] = int(value)
            entries.append(entry)
    return entries
