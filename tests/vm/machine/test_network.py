"""A pod's interface in its VM: what arrives there, and what is left afterwards."""

import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support.vm import Guest

from skerry.errors import EngineError, KernelError
from skerry.rpc.loop import Loop
from skerry.vm import network
from skerry.vm.hardware import Hardware
from skerry.vm.network import PodNetwork


def ip(*words: object) -> str:
    done = subprocess.run(["ip", *map(str, words)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


class Pair:
    """Two namespaces and a cable between them: `inside` is the pod's, `outside` the world."""

    def __init__(self) -> None:
        token = os.urandom(3).hex()
        self.inside, self.outside = f"sk{token}i", f"sk{token}o"
        ip("netns", "add", self.inside)
        ip("netns", "add", self.outside)
        ip("link", "add", "eth0", "netns", self.inside, "type", "veth", "peer", "name", "peer0", "netns", self.outside)
        for namespace, name, last in ((self.inside, "eth0", 2), (self.outside, "peer0", 1)):
            ip("-n", namespace, "addr", "add", f"10.77.0.{last}/24", "dev", name)
            ip("-n", namespace, "addr", "add", f"fd77::{last}/64", "dev", name, "nodad")
            ip("-n", namespace, "link", "set", name, "mtu", 1400, "up")
            ip("-n", namespace, "link", "set", "lo", "up")
        ip("-n", self.inside, "route", "add", "default", "via", "10.77.0.1")
        ip("-n", self.inside, "-6", "route", "add", "default", "via", "fd77::1", "metric", 77)
        ip("-n", self.inside, "route", "add", "10.88.0.0/16", "dev", "eth0", "scope", "link")
        self.path = f"/run/netns/{self.inside}"

    def state(self) -> str:
        """All that may not change: links, addresses, routes, qdiscs."""
        parts = [ip("-n", self.inside, *words) for words in (["link"], ["-4", "addr"], ["route"], ["-6", "route"])]
        return "".join(parts) + self.tc("qdisc")

    def tc(self, *words: str) -> str:
        return subprocess.run(["tc", "-n", self.inside, *words], capture_output=True, text=True, check=True).stdout

    def remove(self) -> None:
        for namespace in (self.inside, self.outside):
            subprocess.run(["ip", "netns", "del", namespace], check=False)


@pytest.fixture
def pair() -> Iterator[Pair]:
    pair = Pair()
    yield pair
    pair.remove()


def test_reads_what_ip_shows(pair: Pair) -> None:
    found = PodNetwork(pair.path)
    try:
        (facts,) = found.facts()
        words = ip("-n", pair.inside, "link", "show", "eth0").split()
        assert facts["address"] == words[words.index("link/ether") + 1]
        assert (facts["name"], facts["mtu"], facts["mac"]) == ("eth0", 1400, network.mac(0))
        assert facts["addresses"] == ["10.77.0.2/24", "fd77::2/64"]
        assert facts["routes"] == [
            {"to": "0.0.0.0/0", "via": "10.77.0.1"},
            {"to": "10.88.0.0/16", "scope": "link"},
            {"to": "::/0", "via": "fd77::1", "metric": 77},
        ]
    finally:
        found.close()


def test_release_leaves_it_as_it_was(pair: Pair) -> None:
    """lifecycle 121"""
    before = pair.state()
    found = PodNetwork(pair.path)
    found.attach()
    assert "sktap0" in ip("-n", pair.inside, "link") and "ingress" in pair.tc("qdisc")
    found.restore()
    found.close()
    assert pair.state() == before


def test_release_from_the_record_alone(pair: Pair) -> None:
    """After a crash, twice, and after the namespace has gone."""
    before = pair.state()
    found = PodNetwork(pair.path)
    found.attach()
    names = found.names
    found.close()
    network.release(pair.path, names)
    assert pair.state() == before
    network.release(pair.path, names)
    network.release("/run/netns/nobody", names)


def test_what_others_control_is_refused(pair: Pair) -> None:
    pair.tc("qdisc", "add", "dev", "eth0", "ingress")
    before = pair.state()
    with pytest.raises(EngineError, match="eth0: others control"):
        PodNetwork(pair.path)
    assert pair.state() == before


def test_a_failure_half_way_is_undone(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    before = pair.state()
    found = PodNetwork(pair.path)
    real = network.traffic.redirect

    def fail(netlink: object, source: int, target: int, *, what: str) -> None:
        if what.startswith("sktap"):
            raise KernelError("redirect", what, 95)
        real(netlink, source, target, what=what)  # type: ignore[arg-type]

    monkeypatch.setattr(network.traffic, "redirect", fail)
    with pytest.raises(KernelError, match="redirect sktap0"):
        found.attach()
    assert pair.state() == before
    found.close()


@pytest.mark.parametrize("path", ["/proc/self/ns/uts", "/dev/null", "/etc/passwd"])
def test_only_network_namespaces(path: str) -> None:
    with pytest.raises(EngineError, match="not a network namespace"):
        PodNetwork(path)


@pytest.fixture
def attached(pair: Pair) -> Iterator[PodNetwork]:
    """The pod's network with its traffic redirected; as it was afterwards."""
    before = pair.state()
    found = PodNetwork(pair.path)
    try:
        found.attach()
        yield found
        found.restore()
    finally:
        found.close()
    assert pair.state() == before


def configure(guest: Guest, facts: dict, device: str) -> None:
    """What the agent does, by busybox."""
    guest.ok(f"ip link set {device} address {facts['address']} mtu {facts['mtu']} up")
    for address in facts["addresses"]:
        guest.ok(f"ip addr add {address} dev {device}")
    for route in facts["routes"]:
        via = f"via {route['via']}" if "via" in route else ""
        guest.ok(f"ip route add {route['to']} {via} dev {device}")


def insist_on_traffic(pair: Pair, guest: Guest) -> None:
    guest.ok("ping -c 2 -W 5 10.77.0.1")
    guest.ok("n=40; until ping -6 -c 1 -W 1 fd77::1; do n=$((n-1)); test $n -gt 0 || exit 1; sleep 0.2; done")
    for address in ("10.77.0.2", "fd77::2"):
        words = ["ip", "netns", "exec", pair.outside, "busybox", "ping", "-c", "2", "-W", "5", "-s", "1300", address]
        assert subprocess.run(words, capture_output=True, check=False).returncode == 0


def test_a_clone_takes_over_the_interface(
    pair: Pair, attached: PodNetwork, clone: Callable[..., Guest], files: tuple[str, str]
) -> None:
    """A microvm has its interface from the start: that of the template led nowhere."""
    guest = clone(Hardware(*files, macs=[network.mac(0)]), taps=attached.taps)
    attached.close_taps()
    assert network.mac(0) in guest.ok("cat /sys/class/net/eth0/address")
    configure(guest, attached.facts()[0], "eth0")
    insist_on_traffic(pair, guest)
    guest.end()


def test_an_interface_is_plugged_in_and_out(
    pair: Pair, attached: PodNetwork, clone: Callable[..., Guest], files: tuple[str, str], loop: Loop
) -> None:
    guest = clone(Hardware(*files, profile="q35"))
    id = guest.machine.plugs.attach_interface(attached.taps[0], network.mac(0))
    attached.close_taps()
    guest.until("test -e /sys/class/net/eth0")
    configure(guest, attached.facts()[0], "eth0")
    insist_on_traffic(pair, guest)
    loop.complete(guest.machine.plugs.detach_interface(id))
    guest.until("test ! -e /sys/class/net/eth0")
    assert "sktap0" not in ip("-n", pair.inside, "link")


def test_security_no_process_stays_in_the_namespace(pair: Pair, attached: PodNetwork) -> None:
    inode = os.stat(pair.path).st_ino
    inside = []
    for path in Path("/proc").glob("[0-9]*/ns/net"):
        try:
            if os.stat(path).st_ino == inode:
                inside.append(path)
        except OSError:
            continue
    assert inside == []
