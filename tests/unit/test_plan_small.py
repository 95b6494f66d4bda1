"""The smaller parts: the device filter of v2, scheduling, holders, a container without a process."""

import errno
import struct

import pytest
from support.plans import Listing, exec_request, in_order, made, request, small_spec

from skerry.plan import hold, join

READY, GO, NAME = 6, 16, 15


# --- limits.py


def test_device_filter_is_loaded_and_attached() -> None:
    """bpf(2): PROG_LOAD (5) of CGROUP_DEVICE (15), PROG_ATTACH (8) as CGROUP_DEVICE (6), ALLOW_MULTI (2).

    V21: the kernel may write or read past a small attribute, so it is oversized and zero.
    """
    code = bytes(range(16))
    listing = made(cgroup_version=2, device_program=code)
    load, attach = listing.find("bpf")
    kind, count, instructions, license_ = struct.unpack_from("<IIQQ", load.args[1])
    data = bytes(listing.plan.data)
    assert (load.args[0], kind, count) == (5, 15, 2)
    assert data[instructions : instructions + 16] == code
    assert data[license_:].startswith(b"Apache-2.0\0")
    assert load.args[2] == attach.args[2] == 144 == len(load.args[1]) == len(attach.args[1])
    assert struct.unpack_from("<IIII", attach.args[1]) == (6, 0, 6, 2)
    assert attach.args[0] == 8
    store = listing.one("STORE")
    assert store.args[1] == 4 and store.args[2].number == load.dst.number
    assert store.op.args[0].offset == attach.op.args[1].offset + 4
    in_order(load, store, attach, listing.writes_through(load, "close")[0], listing.find("clone3")[0])


def test_no_device_filter_on_v1() -> None:
    assert not made().find("bpf")


# --- scheduling.py


def scheduled(**properties: object) -> Listing:
    spec = small_spec()
    for name, value in properties.items():
        (spec["process"] if name in ("scheduler", "ioPriority", "execCPUAffinity") else spec["linux"])[name] = value
    return made(spec)


@pytest.mark.parametrize(
    ("scheduler", "wanted"),
    [
        ({"policy": "SCHED_OTHER"}, (0, 0, 0, 0, 0, 0, 0)),
        ({"policy": "SCHED_BATCH", "nice": -5}, (3, 0, -5, 0, 0, 0, 0)),
        ({"policy": "SCHED_FIFO", "priority": 7, "flags": ["SCHED_FLAG_RESET_ON_FORK"]}, (1, 1, 0, 7, 0, 0, 0)),
        ({"policy": "SCHED_DEADLINE", "runtime": 1, "deadline": 2, "period": 3,
          "flags": ["SCHED_FLAG_RECLAIM", "SCHED_FLAG_UTIL_CLAMP_MAX"]}, (6, 0x42, 0, 0, 1, 2, 3)),
    ],
    ids=["other", "nice", "fifo", "deadline"],
)  # fmt: skip
def test_scheduler(scheduler: dict, wanted: tuple) -> None:
    """struct sched_attr of linux/sched/types.h, 56 bytes since Linux 5.3."""
    op = scheduled(scheduler=scheduler).one("sched_setattr")
    assert (op.args[0], op.args[2]) == (0, 0)
    size, *rest, minimum, maximum = struct.unpack("<IIQiIQQQII", op.args[1])
    assert (size, len(op.args[1]), minimum, maximum) == (56, 56, 0, 0)
    assert tuple(rest) == wanted


@pytest.mark.parametrize("policy", ["SCHED_BATCH", "SCHED_FIFO", "SCHED_DEADLINE"])
def test_what_a_scheduler_needs_is_told(policy: str) -> None:
    op = scheduled(scheduler={"policy": policy, "priority": 1}).one("sched_setattr")
    assert "CAP_SYS_NICE" in op.hints[errno.EPERM]


def test_io_priority() -> None:
    """ioprio_set(2): WHO_PROCESS, oneself, class from bit 13 up."""
    op = scheduled(ioPriority={"class": "IOPRIO_CLASS_RT", "priority": 7}).one("ioprio_set")
    assert op.args == [1, 0, 1 << 13 | 7]
    assert scheduled(ioPriority={"class": "IOPRIO_CLASS_IDLE"}).one("ioprio_set").args[2] == 3 << 13


@pytest.mark.parametrize(("domain", "number"), [("LINUX", 0), ("LINUX32", 8)])
def test_personality(domain: str, number: int) -> None:
    assert scheduled(personality={"domain": domain}).one("personality").args == [number]


@pytest.mark.parametrize(
    ("policy", "mode", "mask"),
    [
        ({"mode": "MPOL_DEFAULT"}, 0, 0),
        ({"mode": "MPOL_BIND", "nodes": "0,2-3"}, 2, 0b1101),
        ({"mode": "MPOL_WEIGHTED_INTERLEAVE", "nodes": "1023"}, 6, 1 << 1023),
        ({"mode": "MPOL_PREFERRED", "nodes": "1", "flags": ["MPOL_F_STATIC_NODES"]}, 1 | 1 << 15, 2),
    ],
    ids=["default", "bind", "last node", "static"],
)
def test_memory_policy(policy: dict, mode: int, mask: int) -> None:
    """set_mempolicy(2); the kernel reads one bit less than it is told."""
    op = scheduled(memoryPolicy=policy).one("set_mempolicy")
    if not mask:
        assert op.args == [mode, 0, 0]
        return
    assert op.args[0] == mode
    assert int.from_bytes(op.args[1], "little") == mask
    assert op.args[2] == len(op.args[1]) * 8 + 1 == 1025


def test_nothing_asked_for_is_left_alone() -> None:
    """decisions 25: nice and ioprio are inherited as in runc."""
    listing = scheduled(memoryPolicy={})
    for name in ("sched_setattr", "ioprio_set", "personality", "set_mempolicy"):
        assert not listing.find(name)


def test_every_cpu_of_the_cgroup() -> None:
    """decisions 25; more than the 1024 of cpu_set_t. execCPUAffinity is not for init."""
    op = scheduled(execCPUAffinity={"initial": "0", "final": "0"}).one("sched_setaffinity")
    assert op.args == [0, 1024, b"\xff" * 1024]


@pytest.mark.parametrize(
    ("affinity", "mask"),
    [
        (None, (1 << 8192) - 1),
        ({}, (1 << 8192) - 1),
        ({"initial": " ", "final": ""}, (1 << 8192) - 1),
        ({"final": "1,8191"}, 2 | 1 << 8191),
        ({"initial": "0", "final": "1"}, 2),
        ({"initial": "0"}, None),
    ],
    ids=["none", "empty", "blank", "final", "both", "initial"],
)
def test_affinity_of_an_exec(affinity: dict | None, mask: int | None) -> None:
    """config.md 1.3: without `final` the affinity is not changed after the move; the first one is the parent's part."""
    process = small_spec()["process"]
    if affinity is not None:
        process["execCPUAffinity"] = affinity
    found = Listing(join.build(exec_request(process))).find("sched_setaffinity")
    assert [int.from_bytes(op.args[2], "little") for op in found] == ([] if mask is None else [mask])


# --- hold.py


def test_holder() -> None:
    """decisions 8, 21: hidden, in the namespaces, out of the caller's session and directory; keeps no fd."""
    listing = Listing(hold.build(request(join=0x40000000)))
    assert listing.plan.fds[5] == "pidfd of the container's init"
    in_order(
        listing.one("prctl", 4, 0),
        listing.one("RECV", GO, step="our pid"),
        listing.one("setns", 5, 0x40000000),
        listing.one("setsid"),
        listing.one("chdir", "/"),
        listing.one("SEND", READY),
        listing.one("RECV", GO, step="being on record"),
        listing.one("CLOSE", 0),
        listing.one("PARK"),
    )
    assert listing.all[-1].name == "PARK"
    assert listing.one("prctl", NAME).args[1] == "skerry:holder"
    assert not listing.find("clone3") and not listing.find("execve")


# --- no process


def test_sandbox_without_a_process() -> None:
    """lifecycle 91: it waits at the gate like a container, then keeps the namespaces and nothing else."""
    spec = small_spec()
    del spec["process"]
    listing = made(spec)
    assert not listing.find("execve") and not listing.find("FIND")
    gate = listing.one("GATE")
    in_order(
        listing.one("pivot_root"),
        listing.one("setsid"),
        listing.find("rt_sigprocmask", 2, b"\xff" * 8)[-1],
        listing.one("SEND", READY),
        listing.one("RECV", GO, step="being on record"),
        gate,
        listing.one("CLOSE", 0),
        listing.one("PARK"),
    )


# --- join.py


def test_exec_joins_all_at_once_by_pidfd() -> None:
    """decisions 18."""
    listing = Listing(join.build(exec_request()))
    assert listing.one("setns").args == [5, 0x6C020000]
    assert "stopped" in listing.one("setns").hints[errno.ESRCH]
    assert Listing(join.build(exec_request(new_keyring=True))).one("keyctl", 1, "_ses.box")


def test_exec_into_nothing_but_ours() -> None:
    r = exec_request()
    r.join = 0
    assert not Listing(join.build(r)).find("setns")


def test_exec_where_the_container_has_cgroups_of_its_own() -> None:
    """decisions 2: EBUSY means that it enabled controllers."""
    listing = Listing(join.build(exec_request(cgroup_version=2)))
    assert "controllers" in listing.find("clone3")[0].hints[errno.EBUSY]
    assert listing.find("clone3")[1].hints == {}


def test_exec_sets_its_label_through_a_procfs_of_its_own() -> None:
    """Made in the container's namespaces, where no directory of the host may be held (V02); closed before the user changes."""
    process = {**small_spec()["process"], "apparmorProfile": "p"}
    listing = Listing(join.build(exec_request(process)))
    proc = listing.one("fsopen", "proc")
    write = listing.one("WRITE", ..., "exec p")
    assert write.pointer == "/apparmorProfile"
    in_order(
        listing.one("setns"), listing.one("clone3"), proc, write, listing.one("CLOSE", step="close what the program")
    )
