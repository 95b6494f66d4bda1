"""The guest's interfaces: takes over what the pod's interfaces on the host were.

Runs in: the guest.   Imports: errors, linux.netlink.
Source:  docs/vm.md, `network`.
Never:   makes an interface, or leaves one half done without saying which.
"""

from skerry.errors import Error
from skerry.linux.netlink import Netlink

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def apply(interfaces: "list[dict[str, Any]]") -> None:
    """Errors  Error for a MAC that no interface has; KernelError."""
    with Netlink() as netlink:
        for wanted in interfaces:
            index = _find(netlink, wanted["mac"])
            # A name and an address can be changed only while it is down.
            netlink.set_link(index, up=False)
            netlink.set_link(
                index,
                name=wanted.get("name") or "",
                address=wanted.get("address") or "",
                mtu=wanted.get("mtu") or 0,
            )
            netlink.set_link(index, up=True)
            for address in wanted.get("addresses") or ():
                netlink.add_address(index, address)
            # Those that lead to a gateway first, else the kernel finds the gateway unreachable.
            routes = wanted.get("routes") or ()
            for route in sorted(routes, key=lambda route: bool(route.get("via"))):
                _add_route(netlink, index, route)


def _find(netlink: Netlink, mac: str) -> int:
    for index, link in netlink.links().items():
        if link.address == mac.lower():
            return index
    raise Error(f"cannot set up the network: the guest has no interface {mac}")


def _add_route(netlink: Netlink, index: int, route: "dict[str, Any]") -> None:
    netlink.add_route(
        index,
        route.get("to") or "default",
        via=route.get("via") or "",
        source=route.get("source") or "",
        scope=route.get("scope") or "",
        metric=route.get("metric") or 0,
        table=route.get("table") or 254,
        on_link=bool(route.get("on_link")),
    )
