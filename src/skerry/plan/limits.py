"""The device filter of cgroup v2; the other limits are files, which the parent writes.

Runs in: create, update (hot); pure.   Imports: plan.
Source:  bpf(2), linux/bpf.h BPF_PROG_TYPE_CGROUP_DEVICE; runtime-spec config-linux.md "Allowed Device list".
Never:   decides what is allowed; the program comes compiled.
"""

from errno import EPERM

from skerry.plan.build import Plan
from skerry.plan.request import Request

_PROG_LOAD, _PROG_ATTACH = 5, 8
_PROG_TYPE_CGROUP_DEVICE, _ATTACH_CGROUP_DEVICE = 15, 6
_ALLOW_MULTI = 2
# An oversized, zeroed attribute: newer kernels look at later fields and must find nothing.
_ATTRIBUTE_BYTES = 144


def filter_devices(p: Plan, r: Request, cgroup_fd: int) -> None:
    """Load the program and attach it to the cgroup's directory."""
    if not r.device_program:
        return
    p.step(
        "install the device filter",
        "/linux/resources/devices",
        {EPERM: "needs CAP_BPF or CAP_SYS_ADMIN"},
    )
    code = p.blob(r.device_program)
    count = len(r.device_program) // 8
    padding = [0] * ((_ATTRIBUTE_BYTES - 24) // 8)
    load = p.words([_PROG_TYPE_CGROUP_DEVICE | count << 32, code, p.text("Apache-2.0"), *padding])
    program = p.result("bpf", _PROG_LOAD, load, _ATTRIBUTE_BYTES)
    attach = p.words([cgroup_fd, _ATTACH_CGROUP_DEVICE | _ALLOW_MULTI << 32, *padding, 0])
    p.call("STORE", attach.at(4), 4, program)
    p.call("bpf", _PROG_ATTACH, attach, _ATTRIBUTE_BYTES)
    p.close(program)
