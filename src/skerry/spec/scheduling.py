"""Rules for scheduler, ioPriority, execCPUAffinity, personality and memoryPolicy.

Runs in: create, run, exec, where a spec has one of them; pure.   Imports: linux.abi, spec.
Source:  config.md "Linux Process", config-linux.md; sched_setattr(2), ioprio_set(2), set_mempolicy(2); __checkparam_dl
         of kernel/sched/deadline.c and mpol_new of mm/mempolicy.c, Linux 6.18.
Never:   asks the host: what depends on its processors, nodes and privileges is told by the call, with a hint.
"""

from skerry.errors import SpecError
from skerry.linux import abi
from skerry.spec.fields import each, integer, members, one_of, record, text
from skerry.spec.number_list import bits, check_list

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

# The largest numbers a kernel is built for: NR_CPUS and 1 << NODES_SHIFT.
CPUS, NODES = 8192, 1024
_KEEP = {"SCHED_FLAG_KEEP_POLICY", "SCHED_FLAG_KEEP_PARAMS"}
_REAL_TIME = ("SCHED_FIFO", "SCHED_RR")
_DEADLINE_WORDS = ("runtime", "deadline", "period")
_RUNTIME_LOWEST_NS = 1024  # DL_SCALE
_NODES_WANTED = ("MPOL_BIND", "MPOL_INTERLEAVE", "MPOL_PREFERRED_MANY", "MPOL_WEIGHTED_INTERLEAVE")
_NODES_REFUSED = ("MPOL_DEFAULT", "MPOL_LOCAL")
_BALANCED = ("MPOL_BIND", "MPOL_PREFERRED_MANY")


def _check_scheduler(value: "Any", pointer: str) -> None:
    members(value, pointer, _SCHEDULER, required="policy")
    if _KEEP & set(value.get("flags", ())):
        return  # what counts is then what the caller of skerry has
    policy = value["policy"]
    priority = value.get("priority", 0)
    if policy in _REAL_TIME:
        if not 1 <= priority <= 99:
            raise SpecError(f"{pointer}/priority", f"{priority} is not in 1..99, as {policy} wants")
    elif priority:
        raise SpecError(f"{pointer}/priority", f"{policy} has none, only SCHED_FIFO and SCHED_RR")
    if policy == "SCHED_DEADLINE":
        _check_deadline(value, pointer)
        return
    for word in _DEADLINE_WORDS:
        if value.get(word):
            raise SpecError(f"{pointer}/{word}", f"{policy} has none, only SCHED_DEADLINE")


def _check_deadline(value: "dict[str, Any]", pointer: str) -> None:
    runtime, deadline, period = (value.get(word, 0) for word in _DEADLINE_WORDS)
    if runtime < _RUNTIME_LOWEST_NS:
        rule = f"{runtime} is too low, the kernel takes {_RUNTIME_LOWEST_NS} or more"
        raise SpecError(f"{pointer}/runtime", rule)
    if deadline < runtime:
        raise SpecError(f"{pointer}/deadline", f"{deadline} is below the runtime {runtime}")
    if 0 < period < deadline:
        raise SpecError(f"{pointer}/period", f"{period} is below the deadline {deadline}")


def _check_policy(value: "Any", pointer: str) -> None:
    if value == "SCHED_ISO":
        raise SpecError(pointer, "SCHED_ISO is reserved, Linux has no such scheduler")
    one_of(*abi.SCHED_POLICIES)(value, pointer)


def _check_memory_policy(value: "Any", pointer: str) -> None:
    """An empty object asks for nothing, as in runc."""
    members(value, pointer, _MEMORY_POLICY, required="mode" if value else "")
    if not value:
        return
    mode, flags = value["mode"], value.get("flags", ())
    nodes = value.get("nodes", "").strip()
    chosen = [flag for flag in ("MPOL_F_STATIC_NODES", "MPOL_F_RELATIVE_NODES") if flag in flags]
    if mode in _NODES_WANTED and not nodes:
        raise SpecError(f"{pointer}/nodes", f"{mode} wants at least one")
    if mode in _NODES_REFUSED and nodes:
        raise SpecError(f"{pointer}/nodes", f"{mode} takes none")
    if len(chosen) == 2:
        raise SpecError(f"{pointer}/flags", f"{' and '.join(chosen)} contradict each other")
    if chosen and not nodes and mode != "MPOL_DEFAULT":
        raise SpecError(f"{pointer}/flags", f"{chosen[0]} is about nodes, and there are none")
    if "MPOL_F_NUMA_BALANCING" in flags and mode not in _BALANCED:
        rule = f"MPOL_F_NUMA_BALANCING is for {' and '.join(_BALANCED)} only"
        raise SpecError(f"{pointer}/flags", rule)


def _numbers_below(limit: int) -> "Any":
    def check(value: "Any", pointer: str) -> None:
        check_list(value, pointer)
        highest = bits(value).bit_length() - 1
        if highest >= limit:
            raise SpecError(pointer, f"{highest} is not in 0..{limit - 1}")

    return check


def _no_flags(value: "Any", pointer: str) -> None:
    each(text)(value, pointer)
    if value:
        raise SpecError(f"{pointer}/0", "no flag is defined")


# The kernel refuses a deadline or period with the highest bit.
_NANOSECONDS = integer(0, (1 << 63) - 1)
_SCHEDULER = {
    "policy": _check_policy,
    "nice": integer(-20, 19),
    "priority": integer(0, 99),
    "flags": each(one_of(*abi.SCHED_FLAGS)),
    **dict.fromkeys(_DEADLINE_WORDS, _NANOSECONDS),
}
_MEMORY_POLICY = {
    "mode": one_of(*abi.MPOL_MODES),
    "nodes": _numbers_below(NODES),
    "flags": each(one_of(*abi.MPOL_FLAGS)),
}
_IO_PRIORITY = {"class": one_of(*abi.IOPRIO_CLASSES), "priority": integer(0, 7)}
_PERSONALITY = {"domain": one_of("LINUX", "LINUX32"), "flags": _no_flags}
# property -> check
CHECKS = {
    "scheduler": _check_scheduler,
    "ioPriority": record(_IO_PRIORITY, required="class"),
    "execCPUAffinity": record(dict.fromkeys(("initial", "final"), _numbers_below(CPUS))),
    "personality": record(_PERSONALITY, required="domain"),
    "memoryPolicy": _check_memory_policy,
}
