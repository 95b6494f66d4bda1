"""Send all that comes in at one interface out at another.

Runs in: vmshim.   Imports: struct; errors, linux.netlink.
Source:  linux/pkt_sched.h, pkt_cls.h, tc_act/tc_mirred.h; tc-u32(8), tc-mirred(8).
Never:   touches what it did not make: an interface that has an ingress qdisc already is refused.
"""

import errno
import struct

from skerry.errors import KernelError
from skerry.linux.netlink import CREATE, EXCL, Netlink, attribute

NEWQDISC, DELQDISC, NEWTFILTER = 36, 37, 44
_INGRESS_PARENT, _INGRESS_HANDLE = 0xFFFFFFF1, 0xFFFF0000
TC = struct.Struct("=BxxxiIII")  # struct tcmsg: family, index, handle, parent, info
_TCA_KIND, _TCA_OPTIONS = 1, 2
_PRIORITY, _ALL_PROTOCOLS = 1, 0x0300  # ETH_P_ALL in network order
_ACT_KIND, _ACT_OPTIONS = 1, 2
_MIRRED_PARMS = 2
_EGRESS_REDIR, _STOLEN = 1, 4
# struct tc_mirred: index, capab, action, refcnt, bindcnt, eaction, ifindex
_MIRRED = struct.Struct("=IIiiiiI")
_U32_SEL, _U32_ACT = 5, 7
# struct tc_u32_sel (flags TC_U32_TERMINAL, one key) and a key that matches everything
_ALL = struct.pack("=BBBxHHhhI", 1, 0, 1, 0, 0, 0, 0, 0) + struct.pack("=IIii", 0, 0, 0, 0)
_MATCHALL_ACT = 2
# classifier -> (what matches everything, number of its actions); a kernel may have either, or both
_CLASSIFIERS = (
    ("u32", attribute(_U32_SEL, _ALL), _U32_ACT),
    ("matchall", b"", _MATCHALL_ACT),
)
HINT = "the kernel needs sch_ingress, act_mirred and one of cls_u32, cls_matchall"


def redirect(netlink: Netlink, source: int, target: int, *, what: str) -> None:
    """All that comes in at interface `source` goes out at `target`.

    Errors  KernelError; EEXIST where somebody else has put traffic control there.
    """
    body = TC.pack(0, source, _INGRESS_HANDLE, _INGRESS_PARENT, 0)
    body += attribute(_TCA_KIND, b"ingress\0")
    try:
        netlink.change(NEWQDISC, CREATE | EXCL, body, verb="redirect", what=what)
    except KernelError as error:
        raise KernelError("redirect", what, error.errno or 0, hint=HINT) from None
    try:
        _add_filter(netlink, source, target, what)
    except KernelError:
        restore(netlink, source, what=what)
        raise


def restore(netlink: Netlink, source: int, *, what: str) -> None:
    """The end of `redirect`; done already, or the interface gone, is no error."""
    body = TC.pack(0, source, _INGRESS_HANDLE, _INGRESS_PARENT, 0)
    try:
        netlink.change(DELQDISC, 0, body, verb="restore", what=what)
    except KernelError as error:
        if error.errno not in (errno.ENODEV, errno.ENOENT, errno.EINVAL):
            raise


def _add_filter(netlink: Netlink, source: int, target: int, what: str) -> None:
    redirection = _MIRRED.pack(0, 0, _STOLEN, 0, 0, _EGRESS_REDIR, target)
    options = attribute(_ACT_OPTIONS, attribute(_MIRRED_PARMS, redirection))
    actions = attribute(1, attribute(_ACT_KIND, b"mirred\0") + options)
    info = _PRIORITY << 16 | _ALL_PROTOCOLS
    failure: KernelError | None = None
    for name, match, number in _CLASSIFIERS:
        body = TC.pack(0, source, 0, _INGRESS_HANDLE, info)
        body += attribute(_TCA_KIND, name.encode() + b"\0")
        body += attribute(_TCA_OPTIONS, match + attribute(number, actions))
        try:
            netlink.change(NEWTFILTER, CREATE | EXCL, body, verb="redirect", what=what)
            return
        except KernelError as error:
            if failure is None:
                failure = error
    raise KernelError("redirect", what, failure.errno or 0 if failure else 0, hint=HINT)
