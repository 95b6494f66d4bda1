"""The recipe for a holder: a parked skerry-init that keeps namespaces alive.

Runs in: create of a sandbox; pure.   Imports: linux.abi, plan.
Source:  docs/decisions/0001; docs/lifecycle.md 39.
Never:   runs anything.
"""

from skerry.linux import abi
from skerry.plan import begin
from skerry.plan.build import Plan
from skerry.plan.request import Request


def build(r: Request, *, new: int = 0) -> Plan:
    """Join the namespaces of `r.join` of the process behind the pidfd, or make those of `new`, then sleep.

    Shape   starts with fds 0-2, plan, conversation and, to join, the pidfd.
    """
    p = Plan(r.machine)
    if r.join:
        p.fds[r.gate_fd] = "pidfd of the container's init"
    begin.begin(p, r, last_fd=r.gate_fd if r.join else r.conversation_fd, name="skerry:holder")
    p.step("hide from tracers")
    p.call("prctl", abi.PR_SET_DUMPABLE, 0)
    begin.wait_for(p, "our pid to be on record")
    if r.join:
        p.step("join the namespaces to hold")
        p.call("setns", r.gate_fd, r.join)
    else:
        p.step("make the namespaces to hold")
        p.call("unshare", new)
    begin.park(p, "hold them")
    return p
