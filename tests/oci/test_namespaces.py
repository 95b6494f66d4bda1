"""Namespaces: new, joined by path, shared with the host; id maps, hostname, sysctl, time offsets."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from support import host
from support.box import Box
from support.spec import (
    DOCKER_CAPS,
    add_mount,
    drop_mount,
    drop_namespace,
    fresh_spec,
    namespace,
    set_caps,
    shell,
    user_namespace,
)

NAMES = {"pid": "pid", "network": "net", "ipc": "ipc", "uts": "uts", "mount": "mnt", "cgroup": "cgroup", "time": "time"}


class Holder:
    """A process of ours in new namespaces that somebody may join."""

    def __init__(self, *flags: str) -> None:
        line = ["unshare", *flags, "sh", "-c", "echo up; exec cat"]
        self.process = subprocess.Popen(line, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == b"up\n"

    @property
    def pid(self) -> int:
        """The process inside: with --fork unshare's child."""
        children = host.descendants(self.process.pid)
        return children[0] if children else self.process.pid

    def path(self, kind: str) -> str:
        return f"/proc/{self.pid}/ns/{kind}"

    def close(self) -> None:
        self.process.communicate(b"")


class Holders:
    """Makes holders; a test closes them before its own leak check."""

    def __init__(self) -> None:
        self._made: list[Holder] = []

    def __call__(self, *flags: str) -> Holder:
        self._made.append(Holder(*flags))
        return self._made[-1]

    def close(self) -> None:
        while self._made:
            self._made.pop().close()


@pytest.fixture
def hold() -> Iterator[Holders]:
    holders = Holders()
    yield holders
    holders.close()


@pytest.mark.parametrize("kind", NAMES)
def test_new_namespace(box: Box, kind: str) -> None:
    spec = fresh_spec()
    namespace(spec, kind)
    container = box.parked(spec)
    assert host.namespaces_of(container.pid)[NAMES[kind]] != host.namespaces_of("self")[NAMES[kind]]


@pytest.mark.parametrize("kind", ["pid", "network", "ipc", "uts", "cgroup", "time"])
def test_namespace_of_the_host(box: Box, kind: str) -> None:
    """A type that is not listed is the host's."""
    spec = fresh_spec()
    drop_namespace(spec, kind)
    if kind == "uts":
        del spec["hostname"]
    if kind == "network":
        drop_mount(spec, "/sys")  # sysfs of a network namespace that is not ours to mount
        spec["linux"]["maskedPaths"] = []
        drop_mount(spec, "/sys/fs/cgroup")
    container = box.parked(spec)
    assert host.namespaces_of(container.pid)[NAMES[kind]] == host.namespaces_of("self")[NAMES[kind]]


@pytest.mark.parametrize(
    ("kind", "flag"), [("network", "--net"), ("ipc", "--ipc"), ("uts", "--uts"), ("cgroup", "--cgroup")]
)
def test_join_by_path(box: Box, hold: Holders, kind: str, flag: str) -> None:
    holder = hold(flag)
    spec = fresh_spec()
    namespace(spec, kind, holder.path(NAMES[kind]))
    if kind == "uts":
        del spec["hostname"]
    container = box.parked(spec)
    assert host.namespaces_of(container.pid)[NAMES[kind]] == host.namespaces_of(holder.pid)[NAMES[kind]]
    container.delete("--force").ok()
    assert host.namespaces_of(holder.pid)[NAMES[kind]]  # lifecycle 39: the holder and its namespace are still there
    hold.close()


def test_join_pid(box: Box, hold: Holders) -> None:
    """decisions 19: proc shows the joined namespace, not the host."""
    holder = hold("--pid", "--fork", "--kill-child")
    spec = shell("cat /proc/1/comm; echo $$; ls -d /proc/[0-9]* | wc -l")
    namespace(spec, "pid", holder.path("pid"))
    lines = box.run(spec).ok().lines
    assert lines[0] == "cat"
    assert 1 < int(lines[1]) < 100
    assert int(lines[2]) < 10
    hold.close()


def test_join_all_of_another_container(box: Box) -> None:
    """As a pod's member does it."""
    first = box.parked(fresh_spec())
    spec = fresh_spec()
    for kind in ("network", "ipc", "uts"):
        namespace(spec, kind, f"/proc/{first.pid}/ns/{NAMES[kind]}")
    del spec["hostname"]
    second = box.parked(spec)
    ours, theirs = host.namespaces_of(second.pid), host.namespaces_of(first.pid)
    assert [ours[n] for n in ("net", "ipc", "uts")] == [theirs[n] for n in ("net", "ipc", "uts")]
    assert ours["pid"] != theirs["pid"]
    assert second.exec("hostname").ok().out == "box\n"


def test_join_user(box: Box) -> None:
    """A container in the user namespace of another."""
    spec = fresh_spec()
    user_namespace(spec)
    first = box.parked(spec)
    spec = fresh_spec()
    namespace(spec, "user", f"/proc/{first.pid}/ns/user")
    second = box.parked(spec)
    assert host.namespaces_of(second.pid)["user"] == host.namespaces_of(first.pid)["user"]
    assert host.status_of(second.pid)["Uid"].split()[0] == "100000"


def test_join_user_with_its_network(box: Box) -> None:
    """decisions 18: user first, then what it owns."""
    spec = fresh_spec()
    user_namespace(spec)
    first = box.parked(spec)
    spec = fresh_spec()
    for kind in ("user", "network", "ipc"):
        namespace(spec, kind, f"/proc/{first.pid}/ns/{NAMES.get(kind, kind)}")
    second = box.parked(spec)
    assert host.namespaces_of(second.pid)["net"] == host.namespaces_of(first.pid)["net"]


def test_new_user_namespace_with_a_network_of_the_host(box: Box, hold: Holders) -> None:
    """decisions 18: a host-owned network namespace is joined before the user namespace is entered."""
    holder = hold("--net")
    spec = fresh_spec()
    user_namespace(spec)
    namespace(spec, "network", holder.path("net"))
    drop_mount(spec, "/sys", "/sys/fs/cgroup")
    spec["linux"]["maskedPaths"] = []
    container = box.parked(spec)
    assert host.namespaces_of(container.pid)["net"] == host.namespaces_of(holder.pid)["net"]
    container.delete("--force").ok()
    hold.close()


def test_join_time(box: Box, hold: Holders) -> None:
    holder = hold("--time", "--boottime", "1000000", "--fork")
    spec = fresh_spec("cut", "-d.", "-f1", "/proc/uptime")
    namespace(spec, "time", holder.path("time"))
    uptime = float(Path("/proc/uptime").read_text().split()[0])
    assert abs(int(box.run(spec).ok().out) - uptime - 1000000) < 60
    hold.close()


# --- user namespace

def test_id_maps(box: Box) -> None:
    spec = shell("cat /proc/self/uid_map /proc/self/gid_map; id -u; id -g")
    namespace(spec, "user")
    spec["linux"]["uidMappings"] = [
        {"containerID": 0, "hostID": 200000, "size": 10},
        {"containerID": 100, "hostID": 300000, "size": 1},
    ]
    spec["linux"]["gidMappings"] = [{"containerID": 0, "hostID": 400000, "size": 65536}]
    lines = [" ".join(line.split()) for line in box.run(spec).ok().lines]
    assert lines == ["0 200000 10", "100 300000 1", "0 400000 65536", "0", "0"]


def test_user_of_a_mapped_container(box: Box) -> None:
    """On the host it is the mapped uid, and owns nothing of the host."""
    spec = fresh_spec()
    user_namespace(spec)
    spec["process"]["user"] = {"uid": 1000, "gid": 1000, "additionalGids": [7]}
    container = box.parked(spec)
    found = host.status_of(container.pid)
    assert found["Uid"].split() == ["101000"] * 4
    assert found["Gid"].split() == ["101000"] * 4
    assert found["Groups"].split() == ["100007"]


def test_large_map(box: Box) -> None:
    """features: up to 340 lines in one write, which must be shorter than a page."""
    spec = fresh_spec("wc", "-l", "/proc/self/uid_map")
    namespace(spec, "user")
    spec["linux"]["uidMappings"] = [{"containerID": n, "hostID": 1000 + n * 2, "size": 1} for n in range(340)]
    spec["linux"]["gidMappings"] = [{"containerID": 0, "hostID": 1000, "size": 1000}]
    assert box.run(spec).ok().out.split()[0] == "340"


def test_bind_source_below_a_private_directory(box: Box) -> None:
    """decisions 16: what the mapped root may not reach on the host is mounted all the same."""
    private = box.dir / "private"
    (private / "volume").mkdir(parents=True)
    private.chmod(0o700)
    (private / "volume").chmod(0o755)
    (private / "volume/file").write_text("content\n")
    spec = fresh_spec("cat", "/vol/file")
    user_namespace(spec)
    add_mount(spec, "/vol", "bind", private / "volume", "rbind")
    assert box.run(spec).ok().out == "content\n"


def test_exec_into_a_user_namespace(box: Box) -> None:
    spec = fresh_spec()
    user_namespace(spec)
    container = box.parked(spec)
    assert container.exec("id", "-u").ok().out == "0\n"
    assert container.exec("cat", "/proc/self/uid_map").ok().out.split() == ["0", "100000", "65536"]
    result = container.exec("cat", "/proc/self/status", flags=("-u", "1000:1000")).ok()
    assert result.fields()["Uid"].split() == ["1000"] * 4


def test_init_in_a_user_namespace_has_all_its_namespaces(box: Box) -> None:
    """The other namespaces belong to the new user namespace: its root may set the hostname."""
    spec = shell("hostname changed && hostname")
    user_namespace(spec)
    set_caps(spec, *DOCKER_CAPS, "CAP_SYS_ADMIN")
    assert box.run(spec).ok().out == "changed\n"


# --- uts, network, time, sysctl

def test_hostname(box: Box) -> None:
    spec = fresh_spec("hostname")
    spec["hostname"] = "some-name.example"
    assert box.run(spec).ok().out == "some-name.example\n"
    assert os.uname().nodename != "some-name.example"


def test_domainname(box: Box) -> None:
    """runtime-spec 1.1."""
    spec = fresh_spec("cat", "/proc/sys/kernel/domainname")
    spec["domainname"] = "domain.example"
    assert box.run(spec).ok().out == "domain.example\n"


def test_loopback_is_up(box: Box) -> None:
    """As runc does it: a new network namespace has a lo that works."""
    assert "127.0.0.1" in box.run(fresh_spec("ip", "addr", "show", "lo")).ok().out
    assert box.run(shell("ip link show lo | grep -c LOWER_UP")).ok().out == "1\n"


def test_new_network_namespace_has_nothing_else(box: Box) -> None:
    spec = shell("grep -c : /proc/net/dev; wc -l < /proc/net/route")
    assert int(box.run(spec).ok().lines[1]) <= 1


@pytest.mark.parametrize(("clock", "seconds"), [("boottime", 500000), ("monotonic", 86400)])
def test_time_offsets(box: Box, clock: str, seconds: int) -> None:
    """config-linux.md 1.2."""
    spec = fresh_spec("cat", "/proc/self/timens_offsets")
    namespace(spec, "time")
    spec["linux"]["timeOffsets"] = {clock: {"secs": seconds, "nanosecs": 5}}
    rows = {line.split()[0]: line.split()[1:] for line in box.run(spec).ok().lines}
    assert rows[clock] == [str(seconds), "5"]


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("net.ipv4.ip_forward", "1"), ("net.ipv4.ping_group_range", "0 1000"), ("kernel.msgmax", "4096"),
        ("kernel.shm_rmid_forced", "1"), ("fs.mqueue.msg_max", "5"), ("kernel.domainname", "d.example"),
        ("net/ipv4/conf/lo/forwarding", "1"),
    ],
)  # fmt: skip
def test_sysctl(box: Box, key: str, value: str) -> None:
    """Namespaced ones, dots and slashes, and only inside."""
    path = "/proc/sys/" + (key if "/" in key else key.replace(".", "/"))
    before = Path(path).read_text()
    spec = fresh_spec("cat", path)
    spec["linux"]["sysctl"] = {key: value}
    assert box.run(spec).ok().out.split() == value.split()
    assert Path(path).read_text() == before


def test_sysctl_of_the_hosts_network_is_refused(box: Box) -> None:
    spec = fresh_spec()
    drop_namespace(spec, "network")
    spec["linux"]["sysctl"] = {"net.ipv4.ip_forward": "1"}
    forwarding = Path("/proc/sys/net/ipv4/ip_forward")
    before = forwarding.read_text()
    box.refuses(spec)
    assert forwarding.read_text() == before


@pytest.mark.skerry_only("8 of the promises: the host is not changed; runc and crun set these")
@pytest.mark.parametrize(("kind", "key"), [("uts", "kernel.domainname"), ("ipc", "kernel.msgmax")])
def test_sysctl_of_a_host_namespace_by_path_is_refused(box: Box, kind: str, key: str) -> None:
    spec = fresh_spec()
    namespace(spec, kind, f"/proc/self/ns/{NAMES[kind]}")
    spec.pop("hostname")
    box.run(spec).ok()
    # what it is already: harmless, should it be set all the same
    spec["linux"]["sysctl"] = {key: Path("/proc/sys", key.replace(".", "/")).read_text().strip()}
    box.refuses(spec, f"/linux/sysctl/{key}: is not allowed in the host's {kind} namespace")


@pytest.mark.skerry_only("8 of the promises: the host is not changed; runc and crun set it")
@pytest.mark.parametrize("word", ["hostname", "domainname"])
def test_name_of_the_host_is_not_set(box: Box, word: str) -> None:
    spec = fresh_spec()
    namespace(spec, "uts", "/proc/self/ns/uts")
    spec.pop("hostname")
    spec[word] = os.uname().nodename  # harmless, should it be set all the same
    box.refuses(spec, f"/{word}: is not allowed in the host's uts namespace")


@pytest.mark.skerry_only("8 of the promises: the host keeps its root; runc pivots there")
def test_mount_namespace_of_the_host_is_not_joined(box: Box) -> None:
    """The session has a mount namespace of its own: were this to work, it alone would suffer."""
    spec = fresh_spec()
    namespace(spec, "mount", "/proc/self/ns/mnt")
    box.refuses(spec, "/linux/namespaces/4/path: is the host's mount namespace")


def test_join_mount(box: Box, hold: Holders) -> None:
    """The positive control."""
    holder = hold("--mount")
    spec = shell("echo up")
    namespace(spec, "mount", holder.path("mnt"))
    assert box.run(spec).ok().out == "up\n"
    hold.close()


# --- V57

@pytest.mark.parametrize("kind", ["network", "ipc", "uts", "pid"])
def test_path_of_another_type_is_refused(box: Box, kind: str) -> None:
    """V57, with the right type as positive control in test_join_by_path."""
    spec = fresh_spec()
    namespace(spec, kind, f"/proc/self/ns/{'net' if kind != 'network' else 'uts'}")
    box.refuses(spec)


def test_duplicate_type_is_refused(box: Box) -> None:
    """V57."""
    spec = fresh_spec()
    spec["linux"]["namespaces"].append({"type": "pid"})
    box.refuses(spec)
