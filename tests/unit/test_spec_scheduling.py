"""Rules for scheduler, ioPriority, execCPUAffinity, personality and memoryPolicy.

What is refused is what Linux 6.18 refuses whatever the host is (kernel/sched/syscalls.c, kernel/sched/deadline.c,
block/ioprio.c, mm/mempolicy.c), what runc's validator refuses, and what the schema of runtime-spec 1.3 does not have.
"""

from typing import Any

import pytest
from spec_samples import full_spec, put

from skerry.errors import SpecError
from skerry.spec.number_list import bits
from skerry.spec.validate import check_spec

SCHEDULER, IO, CPUS = "/process/scheduler", "/process/ioPriority", "/process/execCPUAffinity"
PERSONALITY, MEMORY = "/linux/personality", "/linux/memoryPolicy"


def deadline(runtime: int, deadline: int, period: int = 0) -> dict[str, Any]:
    return {"policy": "SCHED_DEADLINE", "runtime": runtime, "deadline": deadline, "period": period}


GOOD: list[tuple[str, object]] = [
    *[(SCHEDULER, {"policy": f"SCHED_{word}"}) for word in ("OTHER", "BATCH", "IDLE")],
    (SCHEDULER, {"policy": "SCHED_FIFO", "priority": 1}),
    (SCHEDULER, {"policy": "SCHED_RR", "priority": 99, "nice": -20}),
    (SCHEDULER, {"policy": "SCHED_BATCH", "nice": 19, "priority": 0, "runtime": 0}),
    (SCHEDULER, deadline(1024, 1024)),
    (SCHEDULER, deadline(5, 3) | {"flags": ["SCHED_FLAG_KEEP_PARAMS"]}),
    (SCHEDULER, {"policy": "SCHED_FIFO", "flags": ["SCHED_FLAG_KEEP_POLICY"]}),
    (IO, {"class": "IOPRIO_CLASS_RT", "priority": 0}),
    (IO, {"class": "IOPRIO_CLASS_IDLE"}),
    (CPUS, {}),
    (CPUS, {"initial": "", "final": " "}),
    (CPUS, {"final": "8191"}),  # features: no limit of 1024
    (PERSONALITY, {"domain": "LINUX"}),
    (MEMORY, {}),
    (MEMORY, {"mode": "MPOL_DEFAULT"}),
    (MEMORY, {"mode": "MPOL_DEFAULT", "flags": ["MPOL_F_STATIC_NODES"]}),
    (MEMORY, {"mode": "MPOL_LOCAL", "nodes": ""}),
    (MEMORY, {"mode": "MPOL_PREFERRED"}),
    (MEMORY, {"mode": "MPOL_PREFERRED_MANY", "nodes": "1023", "flags": ["MPOL_F_NUMA_BALANCING"]}),
]


@pytest.mark.parametrize(("pointer", "value"), GOOD)
def test_good(pointer: str, value: object) -> None:
    spec = full_spec()
    put(spec, pointer, value)
    assert check_spec(spec) == []


# where, value, what the pointer of the refusal has below
BAD: list[tuple[str, object, str]] = [
    (SCHEDULER, [], ""),
    (SCHEDULER, {}, "/policy"),
    (SCHEDULER, {"policy": "SCHED_NOPE"}, "/policy"),
    (SCHEDULER, {"policy": "SCHED_ISO"}, "/policy"),
    (SCHEDULER, {"policy": 3}, "/policy"),
    (SCHEDULER, {"policy": "SCHED_OTHER", "nice": 20}, "/nice"),
    (SCHEDULER, {"policy": "SCHED_OTHER", "nice": -21}, "/nice"),
    (SCHEDULER, {"policy": "SCHED_OTHER", "nice": 1.0}, "/nice"),
    (SCHEDULER, {"policy": "SCHED_OTHER", "priority": 1}, "/priority"),
    (SCHEDULER, {"policy": "SCHED_FIFO"}, "/priority"),
    (SCHEDULER, {"policy": "SCHED_RR", "priority": 100}, "/priority"),
    (SCHEDULER, {"policy": "SCHED_OTHER", "flags": ["SCHED_FLAG_NOPE"]}, "/flags/0"),
    (SCHEDULER, {"policy": "SCHED_OTHER", "flags": "SCHED_FLAG_RECLAIM"}, "/flags"),
    (SCHEDULER, {"policy": "SCHED_FIFO", "priority": 1, "runtime": 1}, "/runtime"),
    (SCHEDULER, {"policy": "SCHED_BATCH", "period": 1}, "/period"),
    (SCHEDULER, {"policy": "SCHED_DEADLINE"}, "/runtime"),
    (SCHEDULER, deadline(1023, 5000), "/runtime"),
    (SCHEDULER, deadline(5000, 4999), "/deadline"),
    (SCHEDULER, deadline(5000, 6000, 5999), "/period"),
    (SCHEDULER, deadline(1024, 1 << 63), "/deadline"),
    (IO, {}, "/class"),
    (IO, {"class": "IOPRIO_CLASS_NONE"}, "/class"),
    (IO, {"class": "IOPRIO_CLASS_BE", "priority": 8}, "/priority"),
    (IO, {"class": "IOPRIO_CLASS_BE", "priority": -1}, "/priority"),
    (IO, {"class": "IOPRIO_CLASS_BE", "priority": True}, "/priority"),
    (CPUS, "0-3", ""),
    (CPUS, {"initial": 0}, "/initial"),
    (CPUS, {"initial": "0-"}, "/initial"),
    (CPUS, {"final": "3-1"}, "/final"),
    (CPUS, {"final": "8192"}, "/final"),
    (CPUS, {"final": "0x1"}, "/final"),
    (PERSONALITY, {}, "/domain"),
    (PERSONALITY, {"domain": "SVR4"}, "/domain"),
    (PERSONALITY, {"domain": "LINUX", "flags": ["ADDR_NO_RANDOMIZE"]}, "/flags/0"),
    (MEMORY, {"nodes": "0-7"}, "/mode"),
    (MEMORY, {"mode": "INTERLEAVE", "nodes": "0"}, "/mode"),
    (MEMORY, {"mode": "MPOL_BIND"}, "/nodes"),
    (MEMORY, {"mode": "MPOL_BIND", "nodes": " "}, "/nodes"),
    (MEMORY, {"mode": "MPOL_WEIGHTED_INTERLEAVE"}, "/nodes"),
    (MEMORY, {"mode": "MPOL_BIND", "nodes": "1024"}, "/nodes"),
    (MEMORY, {"mode": "MPOL_BIND", "nodes": "0-9876543210"}, "/nodes"),
    (MEMORY, {"mode": "MPOL_DEFAULT", "nodes": "0"}, "/nodes"),
    (MEMORY, {"mode": "MPOL_LOCAL", "nodes": "0"}, "/nodes"),
    (MEMORY, {"mode": "MPOL_BIND", "nodes": "0", "flags": ["badflag"]}, "/flags/0"),
    (MEMORY, {"mode": "MPOL_INTERLEAVE", "nodes": "0", "flags": ["MPOL_F_NUMA_BALANCING"]}, "/flags"),
    (MEMORY, {"mode": "MPOL_PREFERRED", "flags": ["MPOL_F_RELATIVE_NODES"]}, "/flags"),
    (MEMORY, {"mode": "MPOL_BIND", "nodes": "0",
              "flags": ["MPOL_F_STATIC_NODES", "MPOL_F_RELATIVE_NODES"]}, "/flags"),
]  # fmt: skip


@pytest.mark.parametrize(("pointer", "value", "below"), BAD)
def test_bad(pointer: str, value: object, below: str) -> None:
    spec = full_spec()
    put(spec, pointer, value)
    with pytest.raises(SpecError) as caught:
        check_spec(spec)
    assert caught.value.pointer == pointer + below


@pytest.mark.parametrize(
    ("text", "numbers"),
    [("", []), (" ", []), ("0", [0]), ("0-2,7", [0, 1, 2, 7]), (" 3 , 1", [1, 3]), ("64", [64])],
)
def test_bits(text: str, numbers: list[int]) -> None:
    assert bits(text) == sum(1 << number for number in numbers)
