"""The bytes of a plan, taken apart by the words of plan/ops.py and nothing else of it."""

import struct

import pytest
from init.rules import check
from support import plans

from skerry.errors import SpecError
from skerry.plan import create, hold, join
from skerry.plan.build import Plan
from skerry.plan.encode import encode


class Decoded:
    """A plan as skerry-init sees it. Widths and places are written out here a second time."""

    def __init__(self, raw: bytes) -> None:
        (self.magic, self.version, self.total, ops, relocations, self.registers, self.data_offset,
         self.data_length, self.conversation, self.reserved) = struct.unpack("<IIIIIIIIiI", raw[:40])  # fmt: skip
        self.ops = [self._op(raw[40 + n * 80 : 40 + (n + 1) * 80]) for n in range(ops)]
        places = 40 + ops * 80
        self.relocations = list(struct.unpack_from(f"<{relocations}I", raw, places))
        self.padding = raw[places + 4 * relocations : self.data_offset]
        self.data = raw[self.data_offset : self.data_offset + self.data_length]

    @staticmethod
    def _op(raw: bytes) -> dict:
        code, dst, number, fail, count = struct.unpack_from("<HHHBB", raw, 0)
        return {
            "code": code, "dst": dst, "number": number, "fail": fail, "count": count,
            "errnos": struct.unpack_from("<4H", raw, 8), "target": struct.unpack_from("<I", raw, 16)[0],
            "kinds": list(raw[20:26]), "process": struct.unpack_from("<H", raw, 26)[0], "reserved": raw[28:32],
            "args": struct.unpack_from("<6Q", raw, 32),
        }  # fmt: skip


def small() -> Plan:
    p = Plan("x86_64")
    p.enter_process("skerry:1:outer")
    fd = p.result("openat", -100, "/x", 0o10000000, 0, ignore=(2, 20))
    end = p.mark()
    p.branch(fd, 2, 0, end)
    p.call("write", fd, p.words([p.text("abc")]), 8)
    p.place(end)
    p.call("CLOSE", 3)
    return p


def test_header() -> None:
    raw = encode(small())
    plan = Decoded(raw)
    assert raw[:4] == b"SKRY"
    assert (plan.version, plan.total, plan.registers, plan.conversation) == (1, len(raw), 1, -1)
    assert plan.reserved == 0
    assert plan.data_offset % 8 == 0 and plan.data_offset + plan.data_length == len(raw)
    assert not any(plan.padding)


def test_data_ends_with_a_zero_byte() -> None:
    """ops.py: a string never runs past it."""
    p = small()
    assert Decoded(encode(p)).data == bytes(p.data) + b"\0"


def test_operations() -> None:
    plan = Decoded(encode(small()))
    name, opened, branch, write, close = plan.ops
    assert (name["code"], name["number"], name["count"]) == (0, 157, 2)  # prctl
    assert opened["number"] == 257  # openat
    assert (opened["dst"], opened["fail"], opened["errnos"]) == (0, 1, (2, 20, 0, 0))
    assert opened["kinds"] == [0, 1, 0, 0, 0, 0]
    assert opened["args"][0] == 2**64 - 100  # AT_FDCWD, sign extended
    at = opened["args"][1]
    assert plan.data[at : at + 3] == b"/x\0"
    assert (branch["code"], branch["number"], branch["dst"], branch["target"]) == (4, 0, 0xFFFF, 4)
    assert branch["kinds"] == [2, 0, 0, 0, 0, 0]
    assert branch["args"] == (0, 2, 0, 0, 0, 0)
    assert write["kinds"] == [2, 1, 0, 0, 0, 0]
    assert (close["code"], close["count"], close["args"]) == (15, 1, (3, 0, 0, 0, 0, 0))
    assert all(op["process"] == 0 and not any(op["reserved"]) for op in plan.ops)


def test_relocations_lead_to_offsets() -> None:
    plan = Decoded(encode(small()))
    (place,) = plan.relocations
    (offset,) = struct.unpack_from("<Q", plan.data, place)
    assert plan.data[offset : offset + 4] == b"abc\0"


def test_numbers_of_the_other_machine() -> None:
    """asm-generic/unistd.h of aarch64."""
    p = Plan("aarch64")
    for name in ("openat", "clone3", "execve", "pivot_root", "sched_setattr", "ioprio_set", "set_mempolicy"):
        p.call(name, 0)
    assert [op["number"] for op in Decoded(encode(p)).ops] == [56, 435, 221, 41, 274, 30, 237]


def test_process_of_each_operation() -> None:
    p = small()
    p.enter_process("skerry:2:init")
    assert [op["process"] for op in Decoded(encode(p)).ops] == [0] * 5 + [1]


def test_a_plan_that_is_too_large() -> None:
    """decisions 12: 16 MiB."""
    p = small()
    p.blob(bytes(16 << 20))
    with pytest.raises(SpecError) as caught:
        encode(p)
    assert caught.value.pointer == ""


def test_too_many_registers() -> None:
    p = small()
    for _ in range(2048):
        p.result("dup", 0)
    with pytest.raises(SpecError):
        encode(p)


# --- what every recipe makes must pass skerry-init's own rules


def specs() -> dict[str, dict]:
    found = {"small": plans.small_spec()}
    users = found["users"] = plans.small_spec()
    plans.map_users(users)
    joined = found["joined"] = plans.small_spec()
    for kind in ("network", "ipc", "pid"):
        plans.join(joined, kind, f"/run/{kind}")
    full = found["full"] = plans.small_spec()
    full["hostname"] = "box"
    full["linux"]["namespaces"].append({"type": "time"})
    full["linux"].update(
        timeOffsets={"boottime": {"secs": 1}},
        sysctl={"net.ipv4.ip_forward": "1"},
        maskedPaths=["/proc/kcore"],
        readonlyPaths=["/proc/sys"],
        personality={"domain": "LINUX32"},
        memoryPolicy={"mode": "MPOL_BIND", "nodes": "0"},
        devices=[{"path": "/dev/fuse", "type": "c", "major": 10, "minor": 229, "uid": 5}],
    )
    full["process"].update(
        apparmorProfile="p", oomScoreAdj=5, noNewPrivileges=True, rlimits=[{"type": "RLIMIT_CORE", "soft": 1, "hard": 2}]
    )
    holder = found["no process"] = plans.small_spec()
    del holder["process"]
    return found


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
@pytest.mark.parametrize("kind", specs())
@pytest.mark.parametrize("version", [1, 2])
def test_created_plans_obey_the_rules(kind: str, version: int, machine: str) -> None:
    spec = specs()[kind]
    r = plans.request(spec, cgroup_version=version, device_program=bytes(16) if version == 2 else b"")
    r.machine = machine
    r.stdio_owner = (0, 1, 2)
    r.console = kind == "full"
    check(encode(create.build(r)))


@pytest.mark.parametrize("version", [1, 2])
def test_exec_plans_obey_the_rules(version: int) -> None:
    check(encode(join.build(plans.exec_request(cgroup_version=version, join_user=True, console=True))))


def test_holders_obey_the_rules() -> None:
    check(encode(hold.build(plans.request(None, join=0x40000000))))
