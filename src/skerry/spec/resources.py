"""Rules for `linux.resources`: of a spec, and of the document that update is given.

Runs in: create, run, update (hot); pure.   Imports: spec.fields, spec.number_list.
Source:  config-linux.md "Control groups"; admin-guide/cgroup-v1 and cgroup-v2 of Linux 6.18.
Never:   knows which cgroup version the host has; native/cgroup refuses what that cannot do.
"""

from skerry.errors import SpecError
from skerry.jsonio import escape
from skerry.spec.fields import (
    LIMIT,
    UINT16,
    UINT32,
    UINT64,
    boolean,
    each,
    integer,
    mapping,
    members,
    name,
    one_of,
    record,
    text,
    wrong,
)
from skerry.spec.number_list import check_list

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

# kernel/sched/core.c, in microseconds; 0 leaves them as they are
_QUOTA_LOWEST_US, _PERIOD_LOWEST_US, _PERIOD_HIGHEST_US = 1000, 1000, 1_000_000
_WEIGHT_LOWEST, _WEIGHT_HIGHEST = 10, 1000
_INTERFACE_LIMIT_BYTES = 15  # IFNAMSIZ without the NUL
_ACCESS = "rwm"


def check_resources(resources: "Any", pointer: str = "/linux/resources") -> "list[str]":
    """Check types and ranges, and what holds on every kernel; answer warnings.

    Errors  SpecError.
    """
    members(resources, pointer, _RESOURCES)
    return [
        f"{pointer}/memory/{word}: limits of kernel memory are obsolete, it is ignored as in runc"
        for word in ("kernel", "kernelTCP")
        if word in resources.get("memory", ())
    ]


def _check_swap(memory: "Any", pointer: str) -> None:
    limit, swap = memory.get("limit", 0), memory.get("swap", 0)
    if 0 < swap < limit:
        raise SpecError(f"{pointer}/swap", f"{swap} is below the limit {limit}, which it includes")


def _check_burst(cpu: "Any", pointer: str) -> None:
    quota, burst = cpu.get("quota", 0), cpu.get("burst", 0)
    if 0 < quota < burst:
        raise SpecError(f"{pointer}/burst", f"{burst} is above the quota {quota}")


def _check_quota(value: "Any", pointer: str) -> None:
    LIMIT(value, pointer)
    if 0 < value < _QUOTA_LOWEST_US:
        raise SpecError(pointer, f"{value} is too low, the kernel takes {_QUOTA_LOWEST_US} or more")


def _check_period(value: "Any", pointer: str) -> None:
    UINT64(value, pointer)
    if value and not _PERIOD_LOWEST_US <= value <= _PERIOD_HIGHEST_US:
        raise SpecError(pointer, f"{value} is not in {_PERIOD_LOWEST_US}..{_PERIOD_HIGHEST_US}")


def _check_weight(value: "Any", pointer: str) -> None:
    UINT16(value, pointer)
    if value and not _WEIGHT_LOWEST <= value <= _WEIGHT_HIGHEST:
        raise SpecError(pointer, f"{value} is not in {_WEIGHT_LOWEST}..{_WEIGHT_HIGHEST}")


def _check_access(value: "Any", pointer: str) -> None:
    text(value, pointer)
    if value.strip(_ACCESS):
        raise wrong(value, pointer, "made of r, w and m")


def _check_page_size(value: "Any", pointer: str) -> None:
    text(value, pointer)
    number, unit = value[:-2], value[-2:]
    digits = number.isascii() and number.isdigit() and number[0] != "0"
    if unit not in ("KB", "MB", "GB") or not digits:
        raise wrong(value, pointer, "a size such as 2MB or 1GB")


def _check_interface(value: "Any", pointer: str) -> None:
    name(value, pointer)
    bad = "/" in value or " " in value or not value.isprintable() or value in (".", "..")
    if bad or len(value.encode()) > _INTERFACE_LIMIT_BYTES:
        raise wrong(value, pointer, "the name of a network interface")


def _check_unified(value: "Any", pointer: str) -> None:
    mapping(text)(value, pointer)
    for key in value:
        # A key is a file of the cgroup's own directory: controller, dot, name.
        if "/" in key or key.startswith(".") or "." not in key:
            raise SpecError(f"{pointer}/{escape(key)}", "is not the name of a cgroup file")


_MEMORY = {
    "limit": LIMIT,
    "reservation": LIMIT,
    "swap": LIMIT,
    "kernel": LIMIT,
    "kernelTCP": LIMIT,
    "swappiness": integer(0, 100),
    "disableOOMKiller": boolean,
    "useHierarchy": boolean,
    "checkBeforeUpdate": boolean,
}
_CPU = {
    "shares": UINT64,
    "quota": _check_quota,
    "burst": UINT64,
    "period": _check_period,
    "realtimeRuntime": LIMIT,
    "realtimePeriod": UINT64,
    "cpus": check_list,
    "mems": check_list,
    "idle": integer(0, 1),
}
# -1 stands for every number.
_DEVICE_NUMBER = integer(-1, 0xFFFFFFFF)
_DEVICE = {
    "allow": boolean,
    "type": one_of("", "a", "b", "c"),
    "major": _DEVICE_NUMBER,
    "minor": _DEVICE_NUMBER,
    "access": _check_access,
}
_BLOCK_DEVICE = {"major": UINT32, "minor": UINT32}
_WEIGHT_DEVICE = record(
    {**_BLOCK_DEVICE, "weight": _check_weight, "leafWeight": _check_weight}, required="major minor"
)
_THROTTLES = each(record({**_BLOCK_DEVICE, "rate": UINT64}, required="major minor rate"))
_BLOCK_IO = {
    "weight": _check_weight,
    "leafWeight": _check_weight,
    "weightDevice": each(_WEIGHT_DEVICE),
    "throttleReadBpsDevice": _THROTTLES,
    "throttleWriteBpsDevice": _THROTTLES,
    "throttleReadIOPSDevice": _THROTTLES,
    "throttleWriteIOPSDevice": _THROTTLES,
}
_HUGEPAGE = record({"pageSize": _check_page_size, "limit": UINT64}, required="pageSize limit")
_PRIORITY = record({"name": _check_interface, "priority": UINT32}, required="name priority")
_RESOURCES = {
    "memory": record(_MEMORY, then=_check_swap),
    "cpu": record(_CPU, then=_check_burst),
    "pids": record({"limit": LIMIT}, required="limit"),
    "devices": each(record(_DEVICE, required="allow")),
    "unified": _check_unified,
    "blockIO": record(_BLOCK_IO),
    "hugepageLimits": each(_HUGEPAGE),
    "network": record({"classID": UINT32, "priorities": each(_PRIORITY)}),
    "rdma": mapping(record({"hcaHandles": UINT32, "hcaObjects": UINT32})),
}
