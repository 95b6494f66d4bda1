"""Resources of the spec as files of cgroup v2, and what v2 asks of the cgroups above ours.

Runs in: create (hot), update.   Imports: errno errors linux.cgroupfs; .limits .v1 (checks that both
         share).
Source:  kernel Documentation/admin-guide/cgroup-v2.rst; config-linux.md "Control groups".
Never:   drops what v2 lacks: that is an error with its pointer.

The spec's words are those of v1. Weights are converted as runc 1.1 does, so that a container moved
from one runtime to the other keeps its share.
"""

import errno

from skerry.errors import KernelError, SpecError
from skerry.linux import cgroupfs
from skerry.native.cgroup.limits import Write
from skerry.native.cgroup.v1 import check_memory, check_shares, device_key, page_limits
from skerry.native.cgroup.v1 import pids as pids
from skerry.native.cgroup.v1 import rdma as rdma

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any

    from skerry.native.cgroup.group import Cgroup

    Read = Callable[[str], str]

CPU_PERIOD_US = 100000
# what `events` counts; wanted in every container's cgroup, but not needed
ACCOUNTING = ("cpu", "io", "memory", "pids")
# files of the core that limit; the others would move, freeze or kill
_CORE_FILES = ("cgroup.max.depth", "cgroup.max.descendants", "cgroup.pressure")


def enable(group: "Cgroup", controllers: "Iterable[str]", /, *, needed: bool) -> None:
    """Switch controllers on in every cgroup above ours, from the top down.

    Errors  KernelError where one is `needed` and refused; without `needed` what cannot be had is
            let be.
    """
    leaf = group.paths[""]
    have = cgroupfs.read_or(f"{leaf}/cgroup.controllers").split()
    missing = [name for name in controllers if name not in have]
    if not missing:
        return
    above = group.unified
    for part in leaf[len(above) + 1 :].split("/"):
        if _is_occupied(above):
            # cpu and pids would be taken there, and make of it a threaded domain: below it no cgroup takes processes.
            if needed:
                raise _refusal(missing[0], above, errno.EBUSY)
            return
        for name in missing:
            try:
                cgroupfs.write(f"{above}/cgroup.subtree_control", f"+{name}")
            except KernelError as error:
                if needed:
                    raise _refusal(name, above, error.errno or 0) from None
        above = f"{above}/{part}"


def _is_occupied(path: str, /) -> bool:
    """Whether a cgroup holds processes itself; the root may, and it alone has no type."""
    return bool(
        cgroupfs.read_or(f"{path}/cgroup.type") and cgroupfs.read_or(f"{path}/cgroup.procs")
    )


_REFUSALS = {
    errno.EBUSY: "it holds processes itself, and cgroup v2 wants them in leaves only",
    errno.EOPNOTSUPP: "it is threaded",
    errno.ENOENT: "the controller is not offered there",
    errno.EINVAL: "the controller is not offered there",
}


def _refusal(name: str, path: str, number: int, /) -> KernelError:
    return KernelError(
        "enable", f"controller {name} in {path}", number, hint=_REFUSALS.get(number, "")
    )


def _number(value: int, /) -> str:
    return "max" if value < 0 else str(value)


def cpuset(cpu: "dict[str, Any]", pointer: str, read: "Read", /) -> list[Write]:
    return [
        Write("cpuset", f"cpuset.{name}", cpu[name], f"{pointer}/{name}")
        for name in ("cpus", "mems")
        if cpu.get(name)
    ]


def weight_of_shares(shares: int, /) -> int:
    """2..262144 to 1..10000, as runc 1.1."""
    return 1 + (shares - 2) * 9999 // 262142


def cpu(cpu: "dict[str, Any]", pointer: str, read: "Read", /) -> list[Write]:
    for key in ("realtimeRuntime", "realtimePeriod"):
        if cpu.get(key):
            raise SpecError(f"{pointer}/{key}", "cgroup v2 has no real-time group scheduling")
    writes = []
    if cpu.get("shares"):
        check_shares(cpu["shares"], f"{pointer}/shares")
        weight = weight_of_shares(cpu["shares"])
        writes.append(Write("cpu", "cpu.weight", weight, f"{pointer}/shares"))
    quota, period = cpu.get("quota"), cpu.get("period")
    if quota or period:
        old_quota, _, old_period = read("cpu.max").partition(" ")
        first = _number(quota) if quota else old_quota or "max"
        value = f"{first} {period or old_period or CPU_PERIOD_US}"
        writes.append(Write("cpu", "cpu.max", value, f"{pointer}/{'quota' if quota else 'period'}"))
    for key, file in (("burst", "cpu.max.burst"), ("idle", "cpu.idle")):
        if cpu.get(key) is not None:
            writes.append(Write("cpu", file, cpu[key], f"{pointer}/{key}"))
    return writes


def memory(memory: "dict[str, Any]", pointer: str, read: "Read", /) -> list[Write]:
    if memory.get("swappiness") is not None:
        raise SpecError(f"{pointer}/swappiness", "cgroup v2 has no swappiness")
    if memory.get("disableOOMKiller"):
        raise SpecError(f"{pointer}/disableOOMKiller", "cgroup v2 cannot disable the OOM killer")
    if memory.get("useHierarchy") is False:
        raise SpecError(f"{pointer}/useHierarchy", "cgroup v2 always counts the whole subtree")
    check_memory(memory, pointer, int(read("memory.current") or 0))
    writes = _swap(memory, pointer, read)
    for key, file in (("limit", "memory.max"), ("reservation", "memory.low")):
        if memory.get(key):
            value = _number(memory[key])
            at = f"{pointer}/{key}"
            writes.append(Write("memory", file, value, at, may_miss=value == "max"))
    return writes


def _swap(memory: "dict[str, Any]", pointer: str, read: "Read", /) -> list[Write]:
    """v1 limits memory and swap together, v2 swap alone."""
    limit, both = memory.get("limit") or 0, memory.get("swap") or 0
    at = f"{pointer}/swap"
    if not both:
        value = "max" if limit < 0 else ""
    elif both < 0:
        value = "max"
    else:
        if not limit:
            now = read("memory.max")
            limit = int(now) if now.isdigit() else 0
        if limit <= 0:
            raise SpecError(at, "unable to set swap limit without memory limit")
        if both < limit:
            raise SpecError(at, "memory+swap limit should be >= memory limit")
        value = str(both - limit)
    # a kernel without swap accounting has no file, and neither "none" nor "any" needs one
    return (
        [Write("memory", "memory.swap.max", value, at, may_miss=value in ("max", "0"))]
        if value
        else []
    )


_THROTTLE = (
    ("throttleReadBpsDevice", "rbps"),
    ("throttleWriteBpsDevice", "wbps"),
    ("throttleReadIOPSDevice", "riops"),
    ("throttleWriteIOPSDevice", "wiops"),
)


def block_io(io: "dict[str, Any]", pointer: str, read: "Read", /) -> list[Write]:
    writes = []
    bfq = bool(read("io.bfq.weight"))
    if io.get("leafWeight"):
        raise SpecError(f"{pointer}/leafWeight", "cgroup v2 has no leaf weight")
    if io.get("weight"):
        # io.weight has the range 1..10000, BFQ and the spec 10..1000
        weight = io["weight"] if bfq else 1 + (io["weight"] - 10) * 9999 // 990
        file = "io.bfq.weight" if bfq else "io.weight"
        writes.append(Write("io", file, weight, f"{pointer}/weight"))
    for index, entry in enumerate(io.get("weightDevice") or ()):
        at = f"{pointer}/weightDevice/{index}"
        device = device_key(entry, at)
        if entry.get("leafWeight"):
            raise SpecError(f"{at}/leafWeight", "cgroup v2 has no leaf weight")
        if entry.get("weight"):
            writes.append(
                Write(
                    "io",
                    "io.bfq.weight",
                    entry["weight"],
                    f"{at}/weight",
                    key=device,
                    blank="default",
                )
            )
    blank = " ".join(f"{word}=max" for _, word in _THROTTLE)
    for key, word in _THROTTLE:
        for index, entry in enumerate(io.get(key) or ()):
            at = f"{pointer}/{key}/{index}"
            value = f"{word}={entry.get('rate') or 'max'}"
            device = device_key(entry, at)
            writes.append(Write("io", "io.max", value, f"{at}/rate", key=device, blank=blank))
    return writes


def hugetlb(limits: "list[dict[str, Any]]", pointer: str, read: "Read", /) -> list[Write]:
    return page_limits(limits, pointer, "max")


def unified(group: "Cgroup", files: "dict[str, Any]", pointer: str, /) -> list[Write]:
    """Files of cgroup v2 by their own names."""
    writes = []
    for file, value in files.items():
        at = f"{pointer}/{file.replace('~', '~0').replace('/', '~1')}"
        name, dot, _ = file.partition(".")
        if not dot or not name or "/" in file or "\0" in file:
            raise SpecError(at, "must be the name of a file of a controller, such as memory.high")
        if type(value) is not str:
            raise SpecError(at, "must be a string")
        if name == "cgroup" and file not in _CORE_FILES:
            raise SpecError(at, "is not a limit")
        controller = "" if name == "cgroup" else name
        if not group.is_v2(controller):
            rule = f"needs the cgroup v2 controller {name}, which this host does not offer"
            raise SpecError(at, rule)
        writes.append(Write(controller, file, value, at))
    return writes
