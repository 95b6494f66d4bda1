"""The recipe for a holder: a parked skerry-init that keeps namespaces alive.

Runs in: create of a sandbox; pure.   Imports: linux.abi, plan.
Source:  docs/decisions/0001; docs/lifecycle.md 39.
Never:   runs anything.
"""

from skerry.linux import abi
from skerry.plan import begin, ops
from skerry.plan.build import Plan
from skerry.plan.request import Request


def build(r: Request) -> Plan:
    """Join the namespaces of `r.join` of the process behind the pidfd, then sleep.

    Shape   starts with fds 0-2, plan, conversation and the pidfd.
    """
    p = Plan(r.machine)
    p.fds[r.gate_fd] = "pidfd of the container's init"
    begin.begin(p, r, last_fd=r.gate_fd, name="skerry:holder")
    p.step("hide from tracers")
    p.call("prctl", abi.PR_SET_DUMPABLE, 0)
    begin.wait_for(p, "our pid to be on record")
    p.step("join the namespaces to hold")
    p.call("setns", r.gate_fd, r.join)
    p.step("leave the caller's session and directory")
    p.call("setsid")
    p.call("chdir", "/")
    p.step("say that they are held")
    p.call("SEND", ops.READY, 0, -1)
    begin.wait_for(p, "being on record")
    p.step("hold them")
    p.call("CLOSE", 0)
    p.call("PARK")
    return p
