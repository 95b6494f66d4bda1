"""How the kernel treats the program: scheduler, I/O priority, memory policy, processors of an exec.

The plain cases are in test_process.py; here is what takes privileges, a second process, or is refused.
"""

import json
import os

import pytest
from support import host
from support.box import Box, Container
from support.spec import fresh_spec

needs_nice = pytest.mark.skipif(
    not host.has_capability(host.CAP_SYS_NICE), reason="needs a host with CAP_SYS_NICE"
)
needs_two_cpus = pytest.mark.skipif(
    len(os.sched_getaffinity(0)) < 2, reason="needs two processors"
)


def scheduling(spec: dict, box: Box) -> list[int]:
    """policy, flags, nice, priority, runtime, deadline, period as the kernel has them."""
    spec["process"]["args"] = ["probe", "sched"]
    return [int(word) for word in box.run(spec).ok().out.split()]


@needs_nice
def test_deadline(box: Box) -> None:
    """sched_setattr(2); policy 6. Without RESET_ON_FORK such a process may not fork, so it comes after the last fork."""
    spec = fresh_spec()
    spec["process"]["scheduler"] = {
        "policy": "SCHED_DEADLINE", "runtime": 42000, "deadline": 100000, "period": 1000000,
    }  # fmt: skip
    assert scheduling(spec, box) == [6, 0, 0, 0, 42000, 100000, 1000000]


@needs_nice
@pytest.mark.parametrize(("nice", "policy"), [(-20, "SCHED_OTHER"), (19, "SCHED_BATCH")])
def test_whole_range_of_nice(box: Box, nice: int, policy: str) -> None:
    spec = fresh_spec()
    spec["process"]["scheduler"] = {"policy": policy, "nice": nice}
    assert scheduling(spec, box)[2] == nice


def test_scheduler_without_nice_means_zero(box: Box) -> None:
    """config.md: `If not set, the runtime must use the value 0`, whatever the caller has (decisions 25 is without one)."""
    spec = fresh_spec("probe", "sched")
    spec["process"]["scheduler"] = {"policy": "SCHED_BATCH"}
    before = os.getpriority(os.PRIO_PROCESS, 0)
    assert before == 0
    spec["process"]["scheduler"]["nice"] = 3
    assert scheduling(spec, box)[2] == 3
    del spec["process"]["scheduler"]["nice"]
    assert scheduling(spec, box)[2] == 0


@pytest.mark.parametrize(
    ("kind", "priority", "wanted"),
    [("IDLE", 4, 3 << 13 | 4), ("BE", None, 2 << 13), pytest.param("RT", 7, 1 << 13 | 7, marks=needs_nice)],
)
def test_io_priority_of_each_class(box: Box, kind: str, priority: int | None, wanted: int) -> None:
    """linux/ioprio.h: the class in the bits from 13 up."""
    spec = fresh_spec("probe", "call", "ioprio_get", "1", "0")
    spec["process"]["ioPriority"] = {"class": f"IOPRIO_CLASS_{kind}"}
    if priority is not None:
        spec["process"]["ioPriority"]["priority"] = priority
    assert int(box.run(spec).ok().out) == wanted


@pytest.mark.parametrize(
    ("policy", "wanted"),
    [
        ({"mode": "MPOL_LOCAL"}, "4 0"),
        ({"mode": "MPOL_PREFERRED", "nodes": "0", "flags": ["MPOL_F_RELATIVE_NODES"]}, f"{1 | 1 << 14} 1"),
        ({"mode": "MPOL_PREFERRED"}, "4 0"),
        ({"mode": "MPOL_BIND", "nodes": "0", "flags": ["MPOL_F_NUMA_BALANCING"]}, f"{2 | 1 << 13} 1"),
        ({"mode": "MPOL_PREFERRED_MANY", "nodes": "0-1023"}, "5 1"),
        ({"mode": "MPOL_WEIGHTED_INTERLEAVE", "nodes": "0"}, "6 1"),
    ],
    ids=["local", "relative", "preferred", "balanced", "many", "weighted"],
)
def test_memory_policies(box: Box, policy: dict, wanted: str) -> None:
    """linux/mempolicy.h. A preference without nodes is the local one (mpol_new of mm/mempolicy.c)."""
    spec = fresh_spec("probe", "policy")
    spec["linux"]["memoryPolicy"] = policy
    assert box.run(spec).ok().out == f"{wanted}\n"


@pytest.mark.parametrize("policy", [{}, {"mode": "MPOL_DEFAULT"}], ids=["empty", "default"])
def test_default_memory_policy(box: Box, policy: dict) -> None:
    """An empty one asks for nothing, as in runc's suite."""
    spec = fresh_spec("probe", "policy")
    spec["linux"]["memoryPolicy"] = policy
    assert box.run(spec).ok().out == "0 0\n"


def test_node_that_is_not_there(box: Box) -> None:
    spec = fresh_spec()
    spec["linux"]["memoryPolicy"] = {"mode": "MPOL_BIND", "nodes": "1023"}
    box.refuses(spec)


def test_exec_has_them_too(box: Box) -> None:
    """An exec by words takes the process of the spec; the policy and personality are the container's."""
    spec = fresh_spec()
    spec["process"]["scheduler"] = {"policy": "SCHED_BATCH", "nice": 5}
    spec["process"]["ioPriority"] = {"class": "IOPRIO_CLASS_BE", "priority": 6}
    spec["linux"]["personality"] = {"domain": "LINUX32"}
    spec["linux"]["memoryPolicy"] = {"mode": "MPOL_INTERLEAVE", "nodes": "0"}
    container = box.parked(spec)
    assert container.exec("probe", "sched").ok().out.split()[:3] == ["3", "0", "5"]
    assert container.exec("probe", "call", "ioprio_get", "1", "0").ok().out == f"{2 << 13 | 6}\n"
    assert container.exec("probe", "call", "personality", "0xffffffff").ok().out == "8\n"
    assert container.exec("probe", "policy").ok().out == "3 1\n"


# --- processors

def cpus_of_exec(container: Container, affinity: dict | None, box: Box) -> str:
    process = {"cwd": "/", "args": ["cat", "/proc/self/status"], "env": ["PATH=/bin"]}
    if affinity is not None:
        process["execCPUAffinity"] = affinity
    file = box.dir / "process.json"
    file.write_text(json.dumps(process))
    result = box.runtime.call("exec", "--process", file, container.id).ok()
    return result.fields()["Cpus_allowed_list"]


@needs_two_cpus
def test_affinity_of_exec(box: Box) -> None:
    """config.md 1.3: `final` after the transition to the cgroup; without it the kernel decides, which keeps `initial`."""
    first, second = sorted(os.sched_getaffinity(0))[:2]
    container = box.parked(fresh_spec())
    everything = cpus_of_exec(container, None, box)
    assert cpus_of_exec(container, {}, box) == everything
    assert cpus_of_exec(container, {"final": f"{second}"}, box) == f"{second}"
    assert cpus_of_exec(container, {"initial": f"{first}", "final": f"{second}"}, box) == f"{second}"
    assert cpus_of_exec(container, {"initial": f"{second}"}, box) == f"{second}"
    assert cpus_of_exec(container, {"initial": "", "final": " "}, box) == everything


@needs_two_cpus
def test_affinity_of_exec_is_not_that_of_init(box: Box) -> None:
    """config.md 1.3: `not applicable to the container's init process`; an exec by words has it from the spec."""
    first, second = sorted(os.sched_getaffinity(0))[:2]
    plain = box.run(fresh_spec("cat", "/proc/self/status")).ok().fields()["Cpus_allowed_list"]
    spec = fresh_spec("cat", "/proc/self/status")
    spec["process"]["execCPUAffinity"] = {"initial": f"{first}", "final": f"{second}"}
    assert box.run(spec).ok().fields()["Cpus_allowed_list"] == plain
    found = box.parked(spec).exec("cat", "/proc/self/status").ok().fields()
    assert found["Cpus_allowed_list"] == f"{second}"


@pytest.mark.parametrize("word", ["initial", "final"])
def test_affinity_to_processors_that_are_not_there(box: Box, word: str) -> None:
    container = box.parked(fresh_spec())
    file = box.dir / "process.json"
    process = {"cwd": "/", "args": ["/bin/true"], "execCPUAffinity": {word: "8191"}}
    file.write_text(json.dumps(process))
    box.runtime.call("exec", "--process", file, container.id).failed(255)


# --- refused before anything is made

@pytest.mark.parametrize(
    ("part", "value"),
    [
        ("scheduler", {}),
        ("scheduler", {"policy": "SCHED_NOPE"}),
        ("scheduler", {"policy": "SCHED_BATCH", "nice": 20}),
        ("scheduler", {"policy": "SCHED_OTHER", "priority": 1}),
        ("scheduler", {"policy": "SCHED_BATCH", "runtime": 42000}),
        ("ioPriority", {"class": "IOPRIO_CLASS_NOPE"}),
        ("ioPriority", {"class": "IOPRIO_CLASS_BE", "priority": 8}),
    ],
    ids=["no policy", "policy", "nice", "priority", "runtime", "class", "level"],
)
def test_bad_process_is_refused(box: Box, part: str, value: dict) -> None:
    """security 8: policy, class and level unknown; the rest as runc's validator has it."""
    spec = fresh_spec()
    spec["process"][part] = value
    box.refuses(spec)


def test_bad_personality_is_refused(box: Box) -> None:
    spec = fresh_spec()
    spec["linux"]["personality"] = {"domain": "SVR4"}
    box.refuses(spec)


@pytest.mark.parametrize(
    "policy",
    [
        {"mode": "INTERLEAVE", "nodes": "0"},
        {"nodes": "0-7"},
        {"mode": "MPOL_PREFERRED", "nodes": "0", "flags": ["badflag"]},
        {"mode": "MPOL_BIND", "nodes": "0-9876543210"},
        {"mode": "MPOL_DEFAULT", "nodes": "0-7"},
    ],
    ids=["mode", "no mode", "flag", "nodes", "default with nodes"],
)
def test_bad_memory_policy_is_refused(box: Box, policy: dict) -> None:
    """As in runc's suite."""
    spec = fresh_spec()
    spec["linux"]["memoryPolicy"] = policy
    box.refuses(spec)
