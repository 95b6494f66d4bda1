"""How the kernel shall treat the program: processors, scheduler, I/O priority, personality, memory policy.

Runs in: create, exec (hot); pure.   Imports: linux.abi, spec.number_list, plan.
Source:  sched_setaffinity(2), sched_setattr(2), ioprio_set(2), personality(2), set_mempolicy(2); runtime-spec config.md
         "Linux Process", config-linux.md "Personality", "Memory policy".
Never:   looks at the host's processors or nodes; spec/scheduling.py has checked what holds on every kernel.
"""

from errno import EBUSY, EINVAL, ENOSYS, EOPNOTSUPP, EPERM
from struct import pack

from skerry.linux import abi
from skerry.plan.build import Plan
from skerry.plan.request import Request

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_CPU_MASK_BYTES = 1024  # 8192 processors, the most a kernel is built for
_NODE_MASK_BYTES = 128  # 1024 nodes, likewise
# struct sched_attr of linux/sched/types.h, with the last two fields of Linux 5.3
_SCHED_ATTR = "<IIQiIQQQII"
_PERSONALITIES = {"LINUX": abi.PER_LINUX, "LINUX32": abi.PER_LINUX32}
_NEEDS_NICE = "needs CAP_SYS_NICE on the host"
_NEEDED = {
    "SCHED_FIFO": f"{_NEEDS_NICE}, and in a cgroup v1 cpu.realtimeRuntime",
    "SCHED_RR": f"{_NEEDS_NICE}, and in a cgroup v1 cpu.realtimeRuntime",
    "SCHED_DEADLINE": f"{_NEEDS_NICE}, and every processor of the host allowed",
}


def use_every_cpu(p: Plan) -> None:
    """All processors that the cgroup allows, whatever the caller of skerry was bound to.

    The kernel takes a mask of more processors than there are: 8192, where cpu_set_t ends at 1024.
    """
    p.step("use every CPU of the cgroup")
    p.call("sched_setaffinity", 0, _CPU_MASK_BYTES, p.blob(b"\xff" * _CPU_MASK_BYTES))


def set_exec_affinity(p: Plan, r: Request) -> None:
    """Right after the cgroup is joined, since other processors of it may belong to programs that never yield.

    `initial` was set by the parent before that. Without `final` the kernel's answer to both is to stay.
    """
    from skerry.spec.number_list import bits

    wanted = (r.process or {}).get("execCPUAffinity") or {}
    if wanted.get("final", "").strip():
        hints = {EINVAL: "the cgroup allows none of them"}
        pointer = f"{r.pointer}/execCPUAffinity/final"
        p.step(f"run on the CPUs {wanted['final']}", pointer, hints)
        mask = bits(wanted["final"]).to_bytes(_CPU_MASK_BYTES, "little")
        p.call("sched_setaffinity", 0, _CPU_MASK_BYTES, p.blob(mask))
    elif not wanted.get("initial", "").strip():
        use_every_cpu(p)


def schedule(p: Plan, r: Request) -> None:
    """While still privileged, and before a filter may forbid it; after the last fork, for SCHED_DEADLINE has none."""
    process = r.process or {}
    if process.get("scheduler"):
        _set_scheduler(p, process["scheduler"], f"{r.pointer}/scheduler")
    if process.get("ioPriority"):
        _set_io_priority(p, process["ioPriority"], f"{r.pointer}/ioPriority")
    if r.linux.get("personality"):
        domain = r.linux["personality"]["domain"]
        hints = {EINVAL: "the processor runs no 32-bit programs"}
        p.step(f"set the personality {domain}", "/linux/personality", hints)
        p.call("personality", _PERSONALITIES[domain])
    if r.linux.get("memoryPolicy"):
        _set_memory_policy(p, r.linux["memoryPolicy"])


def _set_scheduler(p: Plan, wanted: "dict[str, Any]", pointer: str) -> None:
    policy = wanted["policy"]
    hints = {
        EPERM: _NEEDED.get(policy, f"a nice value below the caller's {_NEEDS_NICE}"),
        EBUSY: "the processors have not that much time left",
        EOPNOTSUPP: "the kernel is built without utilization clamping",
    }
    if policy == "SCHED_DEADLINE":
        hints[EINVAL] = (
            "the kernel's limits of the period are sysctls, kernel.sched_deadline_period_*"
        )
    p.step(f"set the scheduler {policy}", pointer, hints)
    attributes = pack(
        _SCHED_ATTR,
        56,
        abi.SCHED_POLICIES[policy],
        _sum(abi.SCHED_FLAGS, wanted.get("flags")),
        wanted.get("nice", 0),
        wanted.get("priority", 0),
        wanted.get("runtime", 0),
        wanted.get("deadline", 0),
        wanted.get("period", 0),
        0,
        0,
    )
    p.call("sched_setattr", 0, p.blob(attributes), 0)


def _set_io_priority(p: Plan, wanted: "dict[str, Any]", pointer: str) -> None:
    kind = wanted["class"]
    p.step(f"set the I/O priority {kind}", pointer, {EPERM: f"{kind} {_NEEDS_NICE}"})
    value = abi.IOPRIO_CLASSES[kind] << abi.IOPRIO_CLASS_SHIFT | wanted.get("priority", 0)
    p.call("ioprio_set", abi.IOPRIO_WHO_PROCESS, 0, value)


def _set_memory_policy(p: Plan, wanted: "dict[str, Any]") -> None:
    from skerry.spec.number_list import bits

    hints = {
        EINVAL: "the cgroup allows none of the nodes, or this kernel does not know the mode or flag",
        ENOSYS: "the kernel is built without NUMA",
    }
    p.step(f"set the memory policy {wanted['mode']}", "/linux/memoryPolicy", hints)
    mode = abi.MPOL_MODES[wanted["mode"]] | _sum(abi.MPOL_FLAGS, wanted.get("flags"))
    nodes = bits(wanted.get("nodes", ""))
    if not nodes:
        p.call("set_mempolicy", mode, 0, 0)
        return
    # The kernel takes the length to be one more than the bits it reads.
    mask = p.blob(nodes.to_bytes(_NODE_MASK_BYTES, "little"))
    p.call("set_mempolicy", mode, mask, _NODE_MASK_BYTES * 8 + 1)


def _sum(table: "dict[str, int]", words: "list[str] | None") -> int:
    mask = 0
    for word in words or ():
        mask |= table[word]
    return mask
