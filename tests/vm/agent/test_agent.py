"""The agent itself: what it serves first, how its link ends, what it leaves (docs/vm.md "The link", "Boot")."""

import json
import os
import select
import struct
from pathlib import Path

import pytest
from support import agent_alone, agent_vm, host, leaks
from support.agent_client import CONTROL, CREDIT, DATA, HEADER, Ended, Refused

from skerry import paths

SLEEP = ("sleep", "1000")
# frames that no host of ours writes
MALFORMED = {
    "kind": HEADER.pack(9, 0, 1, 1) + b"x",
    "reserved": HEADER.pack(DATA, 1, 1, 1) + b"x",
    "empty data": HEADER.pack(DATA, 0, 1, 0),
    "long data": HEADER.pack(DATA, 0, 1, 32769),
    "huge control": HEADER.pack(CONTROL, 0, 0, 0xFFFFFFFF),
    "control of a stream": HEADER.pack(CONTROL, 0, 5, 2) + b"{}",
    "data of no stream": HEADER.pack(DATA, 0, 0, 1) + b"x",
    "short credit": HEADER.pack(CREDIT, 0, 1, 3) + b"xxx",
    "no json": HEADER.pack(CONTROL, 0, 0, 3) + b"{x}",
    "no object": HEADER.pack(CONTROL, 0, 0, 4) + b"null",
    "no id": HEADER.pack(CONTROL, 0, 0, 12) + b'{"op":"seed"',
    "id of a wrong type": HEADER.pack(CONTROL, 0, 0, 9) + b'{"id":""}',
}


def agent_pid(place) -> int:
    """unshare's only child."""
    return int(Path(f"/proc/{place.process.pid}/task/{place.process.pid}/children").read_text())


def test_hello_says_who_it_is():
    with agent_alone.started() as (client, process):
        assert client.hello() == {"event": "hello", "version": paths.version(), "protocol": 1}
        client.request("seed", entropy="A" * 86 + "==", time_ns=1)
        client.request("shutdown")
        assert process.wait(10) == 0


def test_nothing_is_served_before_the_seed():
    """Clones of a template have the same randomness until then."""
    with agent_alone.started() as (client, _):
        client.hello()
        for op in ("identity", "create", "shutdown", "status"):
            with pytest.raises(Refused, match="not seeded"):
                client.request(op, container="x", hostname="x")
        with pytest.raises(Refused):
            client.request("seed", entropy="AAAA", time_ns=1)  # too little
        with pytest.raises(Refused, match="not seeded"):
            client.request("identity", hostname="x")
        assert client.seed()["boot_id"] == Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        assert client.request("identity", hostname="x") is None


@pytest.mark.parametrize("name", MALFORMED)
def test_malformed_frames_end_the_link(name):
    """Cleanly: containers end with the agent, whose exit code is 0."""
    with agent_alone.started() as (client, process):
        client.hello()
        client.seed()
        client.sock.sendall(MALFORMED[name])
        with pytest.raises(Ended):
            while client.pump(20):
                pass
        assert process.wait(10) == 0


def test_host_that_is_gone(alone):
    """End of file: everything is killed."""
    with agent_alone.started() as (client, process):
        client.hello()
        client.seed()
        id = alone.name()
        client.create(id, alone.spec(id, *SLEEP), storages=[])
        client.request("start", container=id)
        client.sock.close()
        assert process.wait(10) == 0
    found = leaks.cgroups(alone.token, id)
    assert found
    for path in found:
        assert not (path / "cgroup.procs").read_text()
        path.rmdir()


def test_request_as_long_as_is_allowed(place):
    """Just below 4 MiB: read whole, and answered."""
    filler = "x" * (4 * 1024 * 1024 - 1000)
    with pytest.raises(Refused, match="unknown operation"):
        place.client.request("no-such-op", filler=filler)


def test_fds_are_given_back(alone):
    """V36: after a hundred execs, some of which leave a child with the pipe, nothing is left in the agent."""
    pid = agent_pid(alone)
    count = lambda: len(os.listdir(f"/proc/{pid}/fd"))  # noqa: E731
    before = count()
    id = alone.run(*SLEEP)
    for number in range(100):
        streams = alone.client.open_streams("stdin", "stdout", "stderr")
        command = "sleep 100 & exit 0" if number % 2 else "exit 0"
        alone.client.exec(id, f"e{number}", alone.process_spec("sh", "-c", command), streams=streams)
    alone.remove(id)
    for number in range(100):
        alone.client.exit_of(id, f"e{number}")
    assert count() == before
    host.eventually(lambda: not Path(f"/proc/{pid}/task/{pid}/children").read_text().split())


def test_nothing_spins(alone):
    """security.md section 6: no CPU while blocked, whatever state the streams are in."""
    pid = agent_pid(alone)
    id = alone.run(*SLEEP)
    states = {
        "blocked": (("sh", "-c", "busybox yes"), {"reading": False}, False),
        "closed its output": (("sh", "-c", "exec >&- 2>&-; sleep 1000"), {"reading": False}, False),
        "closed its input": (("sh", "-c", "exec <&-; sleep 1000"), {}, False),
        "terminal": (("sleep", "1000"), {}, True),
        "terminal nobody reads": (("sh", "-c", "busybox yes"), {"reading": False}, True),
    }
    for number, (command, options, terminal) in enumerate(states.values()):
        streams = alone.client.open_streams("stdin", "stdout", **options)
        process = alone.process_spec(*command, terminal=terminal)
        alone.client.exec(id, f"s{number}", process, streams=streams)
        alone.client.write(streams["stdin"], b"x" * 10_000)

    def ticks() -> int:
        return sum(map(int, Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13]))

    alone.execute(id, "sleep", "1")
    before = ticks()
    select.select([], [], [], 1)
    assert ticks() - before <= 1


def test_memory_of_the_agent_is_bounded(alone):
    """V36: a process writes without end to a reader that stopped."""
    pid = agent_pid(alone)
    id = alone.run(*SLEEP)

    def rss_kib() -> int:
        line = next(x for x in Path(f"/proc/{pid}/status").read_text().splitlines() if x.startswith("VmRSS"))
        return int(line.split()[1])

    before = rss_kib()
    for number in range(8):
        streams = alone.client.open_streams("stdout", reading=False)
        alone.client.send(CREDIT, streams["stdout"], struct.pack("<I", 65536))
        alone.client.exec(id, f"y{number}", alone.process_spec("busybox", "yes"), streams=streams)
    for _ in range(20):
        alone.execute(id, "true")
    assert rss_kib() - before < 8192


def test_orphans_are_reaped(place):
    """A container without a pid namespace of its own leaves its orphans to the agent."""
    id = place.name()
    spec = place.spec(id, *SLEEP)
    spec["linux"]["namespaces"] = [n for n in spec["linux"]["namespaces"] if n["type"] != "pid"]
    place.run(id=id, spec=spec)
    script = "for i in 1 2 3 4 5 6 7 8 9; do (sleep 0 & sleep 0 & sleep 0 &) ; done; sleep 1; grep -l '^State:.Z' /proc/[0-9]*/status"
    end, said = place.execute(id, "sh", "-c", script)
    assert not said, said
    assert end["code"] == 1  # grep found none


def test_no_interpreter_inside(place):
    """security.md section 4: in the guest as on the host no process of other namespaces maps Python."""
    watcher = place.watcher()
    # Whatever has Python mapped must be in the mount namespace of pid 1; `agent` shows that it is found at all.
    script = """
        for round in $(seq 1 $1); do
            for p in /proc/[0-9]*; do
                grep -q python $p/maps 2>/dev/null || continue
                its=$(readlink $p/ns/mnt) || continue
                [ "$its" = "$(readlink /proc/1/ns/mnt)" ] && echo agent || echo INSIDE $p
            done
        done
        true
        """
    id = place.create(*SLEEP)  # it stands at its gate meanwhile
    caps = {name: ["CAP_SYS_PTRACE", "CAP_DAC_READ_SEARCH"] for name in ("bounding", "effective", "permitted")}
    rounds = "3" if place.kind == "guest" else "60"
    process = place.process_spec("sh", "-c", script, "sh", rounds, capabilities=caps)
    streams = place.client.open_streams("stdout")
    place.client.exec(watcher, "scan", process, streams=streams)
    place.client.request("start", container=id)
    while not any(e["event"] == "exit" and e["container"] == watcher for e in place.client.events):
        place.execute(id, "true")
    assert set(place.client.output(streams["stdout"]).decode().split()) == {"agent"}


def test_identity(guest):
    guest.client.request("identity", hostname="pod-7")
    id = guest.name()
    spec = guest.spec(id, *SLEEP)
    del spec["hostname"]
    spec["linux"]["namespaces"] = [n for n in spec["linux"]["namespaces"] if n["type"] != "uts"]
    guest.run(id=id, spec=spec)
    assert guest.execute(id, "hostname")[1] == b"pod-7\n"


def test_seed_sets_the_clock(guest):
    import time

    id = guest.run(*SLEEP)
    assert abs(int(guest.execute(id, "date", "+%s")[1]) - time.time()) < 30


def test_network(guest):
    """Lifecycle 130: the guest's interface becomes what the pod's was; both families, routes, MTU, MAC, name."""
    interface = {
        "mac": "02:00:00:00:00:01",
        "name": "net0",
        "address": "02:00:00:00:00:99",
        "mtu": 1400,
        "addresses": ["10.9.0.2/24", "fd00:9::2/64"],
        "routes": [
            {"to": "default", "via": "10.9.0.1"},
            {"to": "10.8.0.0/16", "scope": "link", "metric": 7},
            {"to": "default", "via": "fd00:9::1"},
        ],
    }
    guest.client.request("network", interfaces=[interface])
    id = guest.run(*SLEEP)
    said = guest.execute(id, "sh", "-c", "ip addr show net0; ip route; ip -6 route; ip addr show lo")[1].decode()
    for line in (
        "mtu 1400",
        "link/ether 02:00:00:00:00:99",
        "inet 10.9.0.2/24",
        "inet6 fd00:9::2/64",
        "default via 10.9.0.1 dev net0",
        "10.8.0.0/16 dev net0",
        "default via fd00:9::1 dev net0",
        "inet 127.0.0.1/8",
    ):
        assert line in said, said
    with pytest.raises(Refused, match="no interface 02:00:00:00:00:01"):
        guest.client.request("network", interfaces=[interface])


def test_every_controller_is_delegated(guest):
    watcher = guest.watcher()
    said = guest.look(watcher, "cat", "/proc/1/root/sys/fs/cgroup/cgroup.subtree_control").split()
    assert {"cpuset", "cpu", "io", "memory", "pids", "hugetlb"} <= set(said)


def test_link_that_makes_no_sense_powers_off(built, disks):
    with agent_vm.Guest(built.kernel, built.initramfs) as machine:
        machine.client.hello()
        machine.client.sock.sendall(MALFORMED["kind"])
        assert machine.has_closed()
        assert machine.wait_end() == 0


def test_answer_to_an_error_is_bounded(place):
    with pytest.raises(Refused) as refused:
        place.client.request("exec", container="y" * 100_000, process="e", spec={}, streams={})
    assert len(json.dumps(refused.value.document)) < 4096 + 100_000
