"""The recipe for a visit to a network namespace: sockets and devices that belong there are handed out, nobody stays.

Runs in: vmshim, template builder; pure.   Imports: linux.abi, plan.
Source:  netlink(7): a socket keeps the namespace it was made in; Documentation/networking/tuntap.rst: so does an open
         /dev/net/tun.
Never:   changes anything there; whoever asked does that with what it gets.
"""

from errno import EINVAL, ENOENT, ENXIO

from skerry.linux import abi
from skerry.plan import begin, ops
from skerry.plan.build import Plan
from skerry.plan.request import Request

NAMESPACE_FD = 3
_AF_NETLINK, _SOCK_RAW_CLOEXEC, _NETLINK_ROUTE = 16, 0o2000003, 0
_NO_TUN = "the kernel has no TUN/TAP driver (module tun)"


def build(r: Request, *, new: bool, taps: int) -> Plan:
    """Hand out a netlink socket (FD 0), then so many fds of /dev/net/tun (FD 1 and up).

    Shape   starts with fds 0-2, the namespace at 3 unless `new`, plan and conversation.
    """
    p = Plan(r.machine)
    if not new:
        p.fds[NAMESPACE_FD] = "network namespace"
    begin.begin(p, r, last_fd=r.conversation_fd, name="skerry:visit")
    begin.wait_for(p, "the order to go on")
    p.step("hide from tracers")
    p.call("prctl", abi.PR_SET_DUMPABLE, 0)
    if new:
        p.step("make a network namespace")
        p.call("unshare", abi.CLONE_NEWNET)
    else:
        p.step("enter the network namespace", "", {EINVAL: "it is another kind of namespace"})
        p.call("setns", NAMESPACE_FD, abi.CLONE_NEWNET)
    p.step("open a netlink socket")
    socket = p.result("socket", _AF_NETLINK, _SOCK_RAW_CLOEXEC, _NETLINK_ROUTE)
    p.call("SEND", ops.FD, 0, socket)
    for number in range(taps):
        p.step("open /dev/net/tun", "", {ENOENT: _NO_TUN, ENXIO: _NO_TUN})
        flags = abi.O_RDWR | abi.O_CLOEXEC
        tap = p.result("openat", abi.AT_FDCWD, "/dev/net/tun", flags, 0)
        p.call("SEND", ops.FD, 1 + number, tap)
        p.close(tap)
    p.step("say that this is all")
    p.call("SEND", ops.READY, 0, -1)
    return p
