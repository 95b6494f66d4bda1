"""The device filter of cgroup v2; the other limits are files, which the parent writes.

Runs in: create, update (hot); pure.   Imports: plan.
Source:  bpf(2), linux/bpf.h BPF_PROG_TYPE_CGROUP_DEVICE; runtime-spec config-linux.md "Allowed Device list".
Never:   decides what is allowed; the program comes compiled.
"""

from errno import ENOSPC, EPERM

from skerry.plan import begin, ops
from skerry.plan.build import Data, Plan, Reg
from skerry.plan.request import Request

_PROG_LOAD, _PROG_ATTACH, _PROG_GET_FD_BY_ID, _PROG_QUERY = 5, 8, 13, 16
_PROG_TYPE_CGROUP_DEVICE, _ATTACH_CGROUP_DEVICE = 15, 6
_ALLOW_MULTI, _REPLACE = 2, 4
# An oversized, zeroed attribute: newer kernels look at later fields and must find nothing.
_ATTRIBUTE_BYTES = 144
_POINTER = "/linux/resources/devices"


def filter_devices(p: Plan, r: Request, cgroup_fd: int) -> None:
    """Load the program and attach it to the cgroup's directory."""
    if not r.device_program:
        return
    program = _load(p, r.device_program, _POINTER)
    p.call("bpf", _PROG_ATTACH, _attachment(p, cgroup_fd, program, _ALLOW_MULTI), _ATTRIBUTE_BYTES)
    p.close(program)


def build_replacement(r: Request, pointer: str) -> Plan:
    """The plan of update: the new filter takes the place of the old one, in one step of the kernel's.

    Were it attached beside it, both would have to agree, and what the old one forbids would stay forbidden.
    Shape   starts with fds 0-2, plan, conversation and the cgroup's directory.
    """
    p = Plan(r.machine)
    p.fds[r.gate_fd] = "the cgroup's directory"
    begin.begin(p, r, last_fd=r.gate_fd)
    begin.wait_for(p, "the order to go on")
    program = _load(p, r.device_program, pointer)
    p.step(
        "find the device filter in force",
        pointer,
        {ENOSPC: "another program has attached one, too", EPERM: "needs CAP_NET_ADMIN"},
    )
    ids = p.reserve(8)
    query = _attribute(p, [r.gate_fd | _ATTACH_CGROUP_DEVICE << 32, 0, ids, 1])
    p.call("bpf", _PROG_QUERY, query, _ATTRIBUTE_BYTES)
    attachment = _attachment(p, r.gate_fd, program, _ALLOW_MULTI)
    attach = p.mark()
    p.branch(p.result("LOAD", query.at(24), 4), ops.EQ, 0, attach)
    by_id = _attribute(p, [])
    p.call("STORE", by_id, 4, p.result("LOAD", ids, 4))
    old = p.result("bpf", _PROG_GET_FD_BY_ID, by_id, _ATTRIBUTE_BYTES)
    p.call("STORE", attachment.at(12), 4, _ALLOW_MULTI | _REPLACE)
    p.call("STORE", attachment.at(16), 4, old)
    p.place(attach)
    p.step("replace the device filter", pointer)
    p.call("bpf", _PROG_ATTACH, attachment, _ATTRIBUTE_BYTES)
    p.call("SEND", ops.READY, 0, -1)
    return p


def _load(p: Plan, program: bytes, pointer: str) -> Reg:
    p.step("install the device filter", pointer, {EPERM: "needs CAP_BPF or CAP_SYS_ADMIN"})
    count = len(program) // 8
    code, license = p.blob(program), p.text("Apache-2.0")
    load = _attribute(p, [_PROG_TYPE_CGROUP_DEVICE | count << 32, code, license])
    return p.result("bpf", _PROG_LOAD, load, _ATTRIBUTE_BYTES)


def _attachment(p: Plan, cgroup_fd: int, program: Reg, flags: int) -> Data:
    attach = _attribute(p, [cgroup_fd, _ATTACH_CGROUP_DEVICE | flags << 32])
    p.call("STORE", attach.at(4), 4, program)
    return attach


def _attribute(p: Plan, words: "list[int | Data]") -> Data:
    return p.words([*words, *[0] * (_ATTRIBUTE_BYTES // 8 - len(words))])
