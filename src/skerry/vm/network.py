"""A pod's network in its VM: the interfaces of a namespace, and taps that stand in for them.

Runs in: vmshim.   Imports: _socket, fcntl, posix, struct; linux, native.visit.
Source:  docs/vm.md "Network"; docs/lifecycle.md 38-40, 118-121, 130.
Never:   enters the namespace, changes an address or a route there, or takes an interface that others redirect already.

    pod's namespace                                  guest
    eth0  --all that comes in-->  sktap0  -- QEMU --  NIC with eth0's MAC, MTU, addresses and routes
          <--all that comes in--

eth0 keeps what it has; only nothing arrives at it any more. The taps end with their last fd; `restore` ends the rest.
"""

import _socket
import fcntl
import posix
import struct

from skerry.errors import EngineError, KernelError
from skerry.linux import netlink as rt
from skerry.linux import traffic
from skerry.linux.fd import close_all
from skerry.linux.netlink import Link, Netlink
from skerry.native.visit import open_namespace, visit

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

_ETHERNET, _IFF_UP = 1, 1
_FAMILIES = (_socket.AF_INET, _socket.AF_INET6)
_SCOPE_NAMES = {number: name for name, number in rt.SCOPES.items()}
_LINK_LOCAL = b"\xfe\x80"
# linux/rtnetlink.h: what the kernel, or a router's advertisement, makes by itself in the guest, too
_MAIN_TABLE, _UNICAST, _CLONED, _ON_LINK = 254, 1, 0x200, 4
_MADE_BY_ITSELF = (2, 9)
_IFLA_AF_SPEC, _INET6_ADDR_GEN_MODE, _GEN_MODE_NONE = 26, 8, b"\1"
# linux/if_tun.h
_TUNSETIFF, _TUNGETIFF = 0x400454CA, 0x800454D2
_IFF_TAP, _IFF_NO_PI, _IFF_VNET_HDR = 0x2, 0x1000, 0x4000
_IFREQ = struct.Struct("16sH22x")
_TAP_NAME = b"sktap%d"
GETQDISC = 38
_TCA_KIND = 1


def mac(number: int) -> str:
    """The address of a NIC before the guest is told its real one: the same in every VM, so that templates fit."""
    return f"02:73:6b:00:00:{number:02x}"


class Interface:
    """One of the namespace, and the tap that stands in for it once there is one.

    addresses   `10.0.0.2/24`
    routes      as the agent takes them (docs/vm.md, `network`)
    """

    __slots__ = ("addresses", "link", "routes", "tap_fd")

    def __init__(self, link: Link) -> None:
        self.link = link
        self.addresses: list[str] = []
        self.routes: list[dict[str, Any]] = []
        self.tap_fd = -1

    def facts(self, number: int) -> "dict[str, Any]":
        """What the agent is told of the guest's NIC of this number."""
        link = self.link
        return {
            "mac": mac(number), "name": link.name, "address": link.address, "mtu": link.mtu,
            "addresses": self.addresses, "routes": self.routes,
        }  # fmt: skip


class PodNetwork:
    """The network of one namespace, seen from outside. `close` it; that changes nothing there."""

    __slots__ = ("_namespace_fd", "_netlink", "interfaces")

    def __init__(self, path: str) -> None:
        """Look at it; nothing is changed yet.

        Errors  KernelError, InitError; EngineError where somebody else redirects an interface.
        """
        self._namespace_fd = open_namespace(path)
        try:
            socket, _ = visit(self._namespace_fd)
            self._netlink = Netlink(socket)
        except BaseException:
            posix.close(self._namespace_fd)
            raise
        self.interfaces: list[Interface] = []
        try:
            self.interfaces = _read(self._netlink)
        except BaseException:
            self.close()
            raise

    @property
    def names(self) -> "list[str]":
        """For the record: what `release` needs besides the path."""
        return [interface.link.name for interface in self.interfaces]

    @property
    def taps(self) -> "list[int]":
        return [interface.tap_fd for interface in self.interfaces]

    def facts(self, first: int = 0) -> "list[dict[str, Any]]":
        """For the agent, when the machine's NICs begin with this number."""
        return [interface.facts(n) for n, interface in enumerate(self.interfaces, first)]

    def attach(self) -> None:
        """Make the taps, and send all traffic through them. It is on record before.

        Errors  KernelError; nothing is changed then.
        """
        if not self.interfaces:
            return
        socket, tuns = visit(self._namespace_fd, taps=len(self.interfaces))
        posix.close(socket)
        done = []
        try:
            for interface in self.interfaces:
                interface.tap_fd = tuns.pop(0)
                done.append(interface)
                self._stand_in(interface)
        except BaseException:
            close_all(tuns)
            for interface in done:
                traffic.restore(self._netlink, interface.link.index, what=interface.link.name)
            self.close_taps()
            raise

    def _stand_in(self, interface: Interface) -> None:
        link = interface.link
        name = make_tap(interface.tap_fd)
        index = next(i for i, other in self._netlink.links().items() if other.name == name)
        self._netlink.change(
            rt.NEWLINK, 0, rt.LINK.pack(0, 0, index, 0, 0) + _without_ipv6(), verb="set", what=name
        )
        self._netlink.set_link(index, mtu=link.mtu, up=True)
        traffic.redirect(self._netlink, link.index, index, what=f"{link.name} to {name}")
        traffic.redirect(self._netlink, index, link.index, what=f"{name} to {link.name}")

    def close_taps(self) -> None:
        """When QEMU has them, or nobody shall have them any more."""
        close_all([interface.tap_fd for interface in self.interfaces if interface.tap_fd >= 0])
        for interface in self.interfaces:
            interface.tap_fd = -1

    def restore(self) -> None:
        """Let the interfaces be as they were; the taps end with QEMU."""
        _restore(self._netlink, self.names)

    def close(self) -> None:
        self.close_taps()
        self._netlink.close()
        posix.close(self._namespace_fd)


def release(path: str, names: "Sequence[str]") -> None:
    """`restore`, from what is on record; a namespace that is gone has taken all of it along.

    Errors  KernelError.
    """
    try:
        namespace_fd = open_namespace(path)
    except (KernelError, EngineError):
        return
    try:
        socket, _ = visit(namespace_fd)
        with Netlink(socket) as netlink:
            _restore(netlink, names)
    finally:
        posix.close(namespace_fd)


def _restore(netlink: Netlink, names: "Sequence[str]") -> None:
    for link in netlink.links().values():
        if link.name in names:
            traffic.restore(netlink, link.index, what=link.name)


def make_tap(fd: int) -> str:
    """Make the tap of an fd of /dev/net/tun, in the namespace that it was opened in.

    Result  its name.
    Errors  KernelError.
    """
    try:
        flags = _IFF_TAP | _IFF_NO_PI | _IFF_VNET_HDR
        fcntl.ioctl(fd, _TUNSETIFF, _IFREQ.pack(_TAP_NAME, flags))
        name, _ = _IFREQ.unpack(fcntl.ioctl(fd, _TUNGETIFF, bytes(_IFREQ.size)))
    except OSError as error:
        raise KernelError("make", "a tap", error.errno or 0) from error
    return str(name.rstrip(b"\0").decode())


def _without_ipv6() -> bytes:
    """A tap only passes on what others say: it takes no address of its own."""
    inner = rt.attribute(_INET6_ADDR_GEN_MODE, _GEN_MODE_NONE)
    return rt.attribute(_IFLA_AF_SPEC, rt.attribute(_socket.AF_INET6, inner))


# reading


def _read(netlink: Netlink) -> "list[Interface]":
    """Every Ethernet interface that is up, in the order in which they came."""
    found = {
        index: Interface(link)
        for index, link in sorted(netlink.links().items())
        if link.kind == _ETHERNET and link.flags & _IFF_UP
    }
    _refuse_redirected(netlink, found)
    for family in _FAMILIES:
        _read_addresses(netlink, family, found)
        _read_routes(netlink, family, found)
    return list(found.values())


def _refuse_redirected(netlink: Netlink, found: "dict[int, Interface]") -> None:
    for data in netlink.dump(GETQDISC, traffic.TC.pack(0, 0, 0, 0, 0), what="the qdiscs"):
        _, index, *_ = (0, *traffic.TC.unpack_from(data)[1:])
        kind = rt.attributes(data[traffic.TC.size :]).get(_TCA_KIND, b"")
        if index in found and kind in (b"ingress\0", b"clsact\0"):
            name = found[index].link.name
            raise EngineError(f"cannot use interface {name}: others control its incoming traffic")


def _read_addresses(netlink: Netlink, family: int, found: "dict[int, Interface]") -> None:
    for data in netlink.dump(rt.GETADDR, rt.ADDRESS.pack(family, 0, 0, 0, 0), what="the addresses"):
        kind, bits, _, _, index = rt.ADDRESS.unpack_from(data)
        parts = rt.attributes(data[rt.ADDRESS.size :])
        raw = parts.get(rt.IFA_LOCAL) or parts.get(rt.IFA_ADDRESS)
        # The guest makes its link-local address from the same MAC.
        if kind == family and index in found and raw and not raw.startswith(_LINK_LOCAL):
            found[index].addresses.append(f"{_socket.inet_ntop(family, raw)}/{bits}")


def _read_routes(netlink: Netlink, family: int, found: "dict[int, Interface]") -> None:
    for data in netlink.dump(rt.GETROUTE, rt.ROUTE.pack(family, *[0] * 8), what="the routes"):
        kind, bits, _, _, table, protocol, scope, sort, flags = rt.ROUTE.unpack_from(data)
        parts = rt.attributes(data[rt.ROUTE.size :])
        index = int.from_bytes(parts.get(rt.RTA_OIF, b""), "little")
        wanted = kind == family and table == _MAIN_TABLE and sort == _UNICAST
        if not wanted or flags & _CLONED or protocol in _MADE_BY_ITSELF or index not in found:
            continue
        nowhere = _socket.inet_ntop(family, bytes(4 if family == _socket.AF_INET else 16))
        texts = {
            name: _socket.inet_ntop(family, parts[number])
            for name, number in (("to", rt.RTA_DST), ("via", rt.RTA_GATEWAY), ("source", rt.RTA_PREFSRC))
            if number in parts
        }  # fmt: skip
        route: dict[str, Any] = {**texts, "to": f"{texts.get('to', nowhere)}/{bits}"}
        if _SCOPE_NAMES.get(scope, "global") != "global":
            route["scope"] = _SCOPE_NAMES[scope]
        if rt.RTA_PRIORITY in parts:
            route["metric"] = int.from_bytes(parts[rt.RTA_PRIORITY], "little")
        if flags & _ON_LINK:
            route["on_link"] = True
        found[index].routes.append(route)
