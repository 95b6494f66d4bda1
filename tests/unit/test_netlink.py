"""Messages of the kernel's routing protocol; on the kernel itself they are shown in tests/vm/agent."""

import socket
import struct

import pytest

from skerry.errors import Error
from skerry.linux import netlink


def test_attributes_come_back():
    parts = netlink.attribute(3, b"eth0\0") + netlink.attribute(0x8004, struct.pack("=I", 1400))
    assert len(parts) == 12 + 8
    assert netlink.attributes(parts) == {3: b"eth0\0", 4: struct.pack("=I", 1400)}


def test_damaged_attributes_end_the_list():
    assert netlink.attributes(b"\0\0\0\0" + netlink.attribute(3, b"x")) == {}
    assert netlink.attributes(netlink.attribute(3, b"x") + b"\1") == {3: b"x"}


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("10.0.0.2/24", (socket.AF_INET, b"\x0a\0\0\2", 24)),
        ("10.0.0.2", (socket.AF_INET, b"\x0a\0\0\2", 32)),
        ("::/0", (socket.AF_INET6, bytes(16), 0)),
        ("fd00::2/64", (socket.AF_INET6, b"\xfd" + bytes(14) + b"\2", 64)),
    ],
)
def test_prefixes(text, found):
    assert netlink.prefix(text) == found


@pytest.mark.parametrize("text", ["", "x", "10.0.0.0/33", "10.0.0.0/", "10.0.0.0/-1", "::/129", "10.0.0/8", "10.0.0.0/²"])
def test_prefixes_that_are_none(text):
    with pytest.raises(Error, match="as an address"):
        netlink.prefix(text)


def test_mac_addresses():
    assert netlink.mac_bytes("02:00:00:00:00:ff") == b"\2\0\0\0\0\xff"
    for text in ("", "02:00:00:00:00", "02:00:00:00:00:zz", "02:00:00:00:00:00:00"):
        with pytest.raises(Error, match="as a MAC address"):
            netlink.mac_bytes(text)


def test_loopback_is_there():
    with netlink.Netlink() as found:
        names = {link.name: link for link in found.links().values()}
    assert names["lo"].mtu == 65536
    assert names["lo"].address == "00:00:00:00:00:00"
