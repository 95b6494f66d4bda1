"""Network interfaces, addresses and routes, by the kernel's own protocol.

Runs in: the guest's agent, vmshim.   Imports: _socket, errno, struct; errors.
Source:  netlink(7), rtnetlink(7); linux/netlink.h, rtnetlink.h, if_link.h, if_addr.h.
Never:   runs a program, or guesses: what the kernel refuses is an error that names the thing.

A message is a header, a body of fixed shape, and attributes: length u16, kind u16, data, filled up to four bytes.
"""

import _socket
import errno
import struct

from skerry.errors import Error, KernelError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

NEWLINK, GETLINK, SETLINK = 16, 18, 19
NEWADDR, GETADDR = 20, 22
NEWROUTE, GETROUTE = 24, 26

REQUEST, ACK, ROOT_DUMP = 0x1, 0x4, 0x300
REPLACE, EXCL, CREATE = 0x100, 0x200, 0x400
_ERROR, _DONE = 2, 3

LINK, ADDRESS, ROUTE = struct.Struct("=BxHiII"), struct.Struct("=BBBBI"), struct.Struct("=8BI")
IFLA_ADDRESS, IFLA_IFNAME, IFLA_MTU = 1, 3, 4
IFA_ADDRESS, IFA_LOCAL, IFA_FLAGS = 1, 2, 8
RTA_DST, RTA_OIF, RTA_GATEWAY, RTA_PRIORITY, RTA_PREFSRC, RTA_TABLE = 1, 4, 5, 6, 7, 15

_UP = 1
_NO_DAD = 2  # IFA_F_NODAD: the address is usable at once
_ON_LINK = 4  # RTNH_F_ONLINK
_MAIN_TABLE, _STATIC, _UNICAST = 254, 4, 1
SCOPES = {"global": 0, "site": 200, "link": 253, "host": 254, "nowhere": 255}

_HEADER = struct.Struct("=IHHII")
_ATTRIBUTE = struct.Struct("=HH")
_TYPE_MASK = 0x3FFF  # the two highest bits of an attribute's kind are flags
_READ_BYTES = 64 * 1024


class Netlink:
    """A socket to the kernel's routing part, in the network namespace of this process. Use as a context.

    With a number it is a socket that is there already, of another namespace perhaps; it takes it.
    """

    __slots__ = ("_number", "_sock")

    def __init__(self, fileno: "int | None" = None) -> None:
        kind = _socket.SOCK_RAW | _socket.SOCK_CLOEXEC
        family, protocol = _socket.AF_NETLINK, _socket.NETLINK_ROUTE
        try:
            self._sock = _socket.socket(family, kind, protocol, fileno)
            self._sock.bind((0, 0))
        except OSError as error:
            raise KernelError("open", "a netlink socket", error.errno or 0) from error
        self._number = 0

    def __enter__(self) -> "Netlink":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._sock.close()

    def change(self, kind: int, flags: int, body: bytes, *, verb: str, what: str) -> None:
        """A request that the kernel acknowledges.

        Errors  KernelError `cannot <verb> <what>`.
        """
        self._send(kind, flags | ACK, body)
        for reply, data in self._replies():
            if reply == _ERROR:
                number = -struct.unpack_from("=i", data)[0]
                if number:
                    raise KernelError(verb, what, number)
                return

    def dump(self, kind: int, body: bytes, *, what: str) -> "list[bytes]":
        """All there are of a kind: bodies with their attributes."""
        self._send(kind, ROOT_DUMP, body)
        found = []
        for reply, data in self._replies():
            if reply == _DONE:
                break
            if reply == _ERROR:
                raise KernelError("read", what, -struct.unpack_from("=i", data)[0])
            found.append(data)
        return found

    def _send(self, kind: int, flags: int, body: bytes) -> None:
        self._number += 1
        size = _HEADER.size + len(body)
        self._sock.send(_HEADER.pack(size, kind, flags | REQUEST, self._number, 0) + body)

    def _replies(self) -> "Iterator[tuple[int, bytes]]":
        """(kind, what follows the header) of every answer to the last request."""
        while True:
            data = self._sock.recv(_READ_BYTES)
            at = 0
            while at + _HEADER.size <= len(data):
                size, kind, _, number, _ = _HEADER.unpack_from(data, at)
                if size < _HEADER.size:
                    raise KernelError("read", "a netlink message", errno.EBADMSG)
                if number == self._number:
                    yield kind, data[at + _HEADER.size : at + size]
                at += _aligned(size)

    # what can be asked for

    def links(self) -> "dict[int, Link]":
        """All interfaces by their index."""
        found = {}
        for data in self.dump(GETLINK, LINK.pack(0, 0, 0, 0, 0), what="the interfaces"):
            link = Link(data)
            found[link.index] = link
        return found

    def set_link(
        self,
        index: int,
        *,
        name: str = "",
        address: str = "",
        mtu: int = 0,
        up: "bool | None" = None,
    ) -> None:
        """Change an interface; what is not given stays. A name or address may want it down."""
        parts = []
        if name:
            parts.append(attribute(IFLA_IFNAME, name.encode() + b"\0"))
        if address:
            parts.append(attribute(IFLA_ADDRESS, mac_bytes(address)))
        if mtu:
            parts.append(attribute(IFLA_MTU, struct.pack("=I", mtu)))
        flags, change = (_UP if up else 0), (_UP if up is not None else 0)
        body = LINK.pack(0, 0, index, flags, change) + b"".join(parts)
        self.change(NEWLINK, 0, body, verb="set", what=f"interface {name or index}")

    def add_address(self, index: int, address: str) -> None:
        """`10.0.0.2/24` or `fd00::2/64`; one that is there is no error."""
        family, raw, bits = prefix(address)
        body = ADDRESS.pack(family, bits, 0, 0, index)
        body += attribute(IFA_LOCAL, raw) + attribute(IFA_ADDRESS, raw)
        if family == _socket.AF_INET6:
            body += attribute(IFA_FLAGS, struct.pack("=I", _NO_DAD))
        self.change(NEWADDR, CREATE | REPLACE, body, verb="add", what=f"address {address}")

    def add_route(
        self,
        index: int,
        to: str,
        *,
        via: str = "",
        source: str = "",
        scope: str = "",
        metric: int = 0,
        table: int = _MAIN_TABLE,
        on_link: bool = False,
    ) -> None:
        """A route through an interface; `to` is a prefix or `default`, whose family is that of `via`."""
        if to == "default":
            to = "::/0" if ":" in via else "0.0.0.0/0"
        family, raw, bits = prefix(to)
        number = (
            SCOPES[scope] if scope else (0 if via or family == _socket.AF_INET6 else SCOPES["link"])
        )
        flags = _ON_LINK if on_link else 0
        # What does not fit the field is in the attribute; the field has no meaning then.
        short_table = table if table < 256 else 0
        body = ROUTE.pack(family, bits, 0, 0, short_table, _STATIC, number, _UNICAST, flags)
        body += attribute(RTA_OIF, struct.pack("=I", index)) + attribute(
            RTA_TABLE, struct.pack("=I", table)
        )
        if bits:
            body += attribute(RTA_DST, raw)
        for kind, text in ((RTA_GATEWAY, via), (RTA_PREFSRC, source)):
            if text:
                body += attribute(kind, prefix(text)[1])
        if metric:
            body += attribute(RTA_PRIORITY, struct.pack("=I", metric))
        self.change(NEWROUTE, CREATE | REPLACE, body, verb="add", what=f"route to {to}")


class Link:
    """An interface as the kernel tells of it."""

    __slots__ = ("address", "flags", "index", "kind", "mtu", "name")

    def __init__(self, data: bytes) -> None:
        _, self.kind, self.index, self.flags, _ = LINK.unpack_from(data)
        parts = attributes(data[LINK.size :])
        self.name = parts.get(IFLA_IFNAME, b"").rstrip(b"\0").decode("utf-8", "surrogateescape")
        self.address = ":".join(f"{byte:02x}" for byte in parts.get(IFLA_ADDRESS, b""))
        self.mtu = int.from_bytes(parts.get(IFLA_MTU, b""), "little")


def attribute(kind: int, data: bytes) -> bytes:
    size = _ATTRIBUTE.size + len(data)
    return _ATTRIBUTE.pack(size, kind) + data + b"\0" * (_aligned(size) - size)


def attributes(data: bytes) -> "dict[int, bytes]":
    """kind -> data of what follows a body."""
    found = {}
    at = 0
    while at + _ATTRIBUTE.size <= len(data):
        size, kind = _ATTRIBUTE.unpack_from(data, at)
        if size < _ATTRIBUTE.size:
            break
        found[kind & _TYPE_MASK] = data[at + _ATTRIBUTE.size : at + size]
        at += _aligned(size)
    return found


def prefix(text: str) -> "tuple[int, bytes, int]":
    """(family, address, length of the network in bits); without a length all of it.

    Errors  Error for what is no address.
    """
    address, slash, length = text.partition("/")
    family = _socket.AF_INET6 if ":" in address else _socket.AF_INET
    try:
        raw = _socket.inet_pton(family, address)
    except (OSError, ValueError):
        raise Error(f"cannot use {text!r} as an address") from None
    most = len(raw) * 8
    bits = int(length) if length.isascii() and length.isdigit() and len(length) <= 3 else -1
    if slash and not 0 <= bits <= most:
        raise Error(f"cannot use {text!r} as an address: the prefix is not in 0..{most}")
    return family, raw, bits if slash else most


def mac_bytes(text: str) -> bytes:
    """Errors  Error for what is no MAC address."""
    try:
        raw = bytes.fromhex(text.replace(":", ""))
    except ValueError:
        raw = b""
    if len(raw) != 6:
        raise Error(f"cannot use {text!r} as a MAC address")
    return raw


def _aligned(size: int) -> int:
    return size + -size % 4
