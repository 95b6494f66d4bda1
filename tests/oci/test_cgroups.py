"""cgroups: paths, every limit by the kernel's own file, update, pause, events."""

import json
import os
import select
from pathlib import Path

import pytest
from support import host
from support.box import Box, Container
from support.runtime import Stream
from support.spec import drop_namespace, fresh_spec, shell

MIB = 1 << 20
V2 = host.is_v2()


def knob(container: Container, controller: str, v1: str, v2: str = "") -> str:
    """Read a limit where the kernel keeps it."""
    return (host.cgroup_of(container.pid, controller) / (v2 if V2 else v1)).read_text().strip()


def resources(**parts: object) -> dict:
    spec = fresh_spec()
    spec["linux"]["resources"].update(parts)
    return spec


# --- paths

def test_absolute_path(box: Box) -> None:
    """features: exactly the given path, for engines read it."""
    spec = fresh_spec()
    path = spec["linux"]["cgroupsPath"] = box.cgroup_path()
    container = box.parked(spec)
    for controller, mount in host.cgroup_mounts().items():
        if controller != "unified" or V2:
            assert host.cgroup_of(container.pid, controller) == mount / path.lstrip("/")
    container.delete("--force").ok()
    assert not [mount for mount in host.cgroup_mounts().values() if (mount / path.lstrip("/")).exists()]


def test_relative_path(box: Box) -> None:
    """decisions 31: below our own cgroup on v1."""
    spec = fresh_spec()
    path = spec["linux"]["cgroupsPath"] = box.cgroup_path().lstrip("/")
    container = box.parked(spec)
    for controller in ("pids", "memory"):
        own = host.cgroup_of(os.getpid(), controller)
        assert host.cgroup_of(container.pid, controller) == (own.parent if V2 else own) / path


def test_no_path(box: Box) -> None:
    """decisions 31: the id, below our own cgroup on v1."""
    container = box.parked(fresh_spec())
    for controller in ("pids", "memory"):
        own = host.cgroup_of(os.getpid(), controller)
        assert host.cgroup_of(container.pid, controller) == (own.parent if V2 else own) / container.id


def test_path_with_dots_stays_in_the_hierarchy(box: Box) -> None:
    """security 8: stays, or is refused."""
    spec = fresh_spec()
    spec["linux"]["cgroupsPath"] = f"/../../..{box.cgroup_path()}"
    result = box.try_create(spec)
    assert result.code in (0, 1), result
    if result.code == 0:
        pid = box.runtime.call("state", box.ids[-1]).json()["pid"]
        for mount in host.cgroup_mounts().values():
            assert ".." not in str(host.cgroup_of(pid, "pids"))
            assert mount.exists()


def test_existing_parent_is_not_removed(box: Box) -> None:
    """lifecycle 121."""
    mounts = set(host.cgroup_mounts().values())
    path = box.cgroup_path()
    for mount in mounts:
        (mount / path.lstrip("/")).mkdir(parents=True, exist_ok=True)
    spec = fresh_spec()
    spec["linux"]["cgroupsPath"] = f"{path}/leaf"
    box.create(spec).delete().ok()
    for mount in mounts:
        assert (mount / path.lstrip("/")).is_dir()
        assert not (mount / path.lstrip("/") / "leaf").exists()
        (mount / path.lstrip("/")).rmdir()


def test_cgroup_in_use_is_refused(box: Box) -> None:
    """lifecycle P, features: a foreign process in it."""
    spec = fresh_spec()
    path = spec["linux"]["cgroupsPath"] = box.cgroup_path()
    first = box.parked(spec)
    other = fresh_spec()
    other["linux"]["cgroupsPath"] = path
    box.try_create(other).failed().says("container's cgroup is not empty")
    assert first.status == "running"
    first.delete("--force").ok()


def test_all_processes_are_in_the_cgroup(box: Box) -> None:
    """Also children and execs."""
    spec = shell("sleep 1000 & echo up; wait")
    container = box.start(spec)
    container.stream.until("up")
    container.exec("sleep", "1000", flags=("--detach", "--pid-file", box.dir / "pid")).ok()
    exec_pid = int((box.dir / "pid").read_text())
    for controller in ("pids", "memory", "freezer"):
        if controller in host.cgroup_mounts():
            members = (host.cgroup_of(container.pid, controller) / "cgroup.procs").read_text().split()
            assert {str(container.pid), str(exec_pid)} < set(members)
            assert len(members) == 3


def test_delete_kills_what_init_left(box: Box) -> None:
    """security 6: shared pid namespace, init gone: by cgroup."""
    spec = shell("sleep 1000 & echo up")
    drop_namespace(spec, "pid")
    container = box.start(spec)
    container.stream.until("up")
    container.wait()
    container.delete("--force").ok()
    host.eventually(lambda: box.leftovers() == [])


# --- limits

LIMITS = [
    ({"memory": {"limit": 64 * MIB}}, "memory", "memory.limit_in_bytes", "memory.max", str(64 * MIB)),
    ({"memory": {"reservation": 32 * MIB}}, "memory", "memory.soft_limit_in_bytes", "memory.low", str(32 * MIB)),
    ({"memory": {"limit": 64 * MIB, "swap": 96 * MIB}}, "memory", "memory.memsw.limit_in_bytes", "memory.swap.max",
     str(32 * MIB) if V2 else str(96 * MIB)),
    ({"memory": {"swappiness": 10}}, "memory", "memory.swappiness", "", "10"),
    ({"pids": {"limit": 77}}, "pids", "pids.max", "pids.max", "77"),
    ({"pids": {"limit": -1}}, "pids", "pids.max", "pids.max", "max"),
    ({"cpu": {"shares": 512}}, "cpu", "cpu.shares", "cpu.weight", "20" if V2 else "512"),
    ({"cpu": {"quota": 20000, "period": 50000}}, "cpu", "cpu.cfs_quota_us", "cpu.max", "20000 50000" if V2 else "20000"),
    ({"cpu": {"quota": 20000, "period": 50000}}, "cpu", "cpu.cfs_period_us", "cpu.max", "20000 50000" if V2 else "50000"),
    ({"cpu": {"quota": 20000, "period": 50000, "burst": 10000}}, "cpu", "cpu.cfs_burst_us", "cpu.max.burst", "10000"),
    ({"cpu": {"idle": 1}}, "cpu", "cpu.idle", "cpu.idle", "1"),
    ({"cpu": {"cpus": "0"}}, "cpuset", "cpuset.cpus", "cpuset.cpus", "0"),
    ({"cpu": {"mems": "0"}}, "cpuset", "cpuset.mems", "cpuset.mems", "0"),
]  # fmt: skip


@pytest.mark.parametrize(("parts", "controller", "v1", "v2", "wanted"), LIMITS, ids=[f"{row[2]}={row[4]}" for row in LIMITS])
def test_limit(box: Box, parts: dict, controller: str, v1: str, v2: str, wanted: str) -> None:
    if V2 and not v2:
        pytest.skip(f"{v1} has no file in version 2")
    container = box.create(resources(**parts))
    assert knob(container, controller, v1, v2) == wanted


def test_unlimited_memory(box: Box) -> None:
    container = box.create(resources(memory={"limit": -1}))
    value = knob(container, "memory", "memory.limit_in_bytes", "memory.max")
    assert value == "max" or int(value) > 1 << 62


def test_oom_killer_is_off(box: Box) -> None:
    if V2:
        pytest.skip("version 1 only")
    container = box.create(resources(memory={"limit": 64 * MIB, "disableOOMKiller": True}))
    assert "oom_kill_disable 1" in knob(container, "memory", "memory.oom_control")


def test_memory_limit_by_effect(box: Box) -> None:
    """The limit kills what exceeds it, and passes what does not."""
    spec = resources(memory={"limit": 32 * MIB, "swap": 32 * MIB})
    spec["process"]["args"] = ["sh", "-c", "probe eat 8; probe eat 200; echo code $?"]
    assert box.run(spec).ok().lines == ["done", "code 137"]


def test_pids_limit_by_effect(box: Box) -> None:
    spec = resources(pids={"limit": 20})
    spec["process"]["args"] = ["probe", "forks", "50"]
    assert box.run(spec).ok().out == "19\n"


def test_cpuset_by_effect(box: Box) -> None:
    spec = resources(cpu={"cpus": "0"})
    spec["process"]["args"] = ["cat", "/proc/self/status"]
    assert box.run(spec).ok().fields()["Cpus_allowed_list"] == "0"


def test_network_class(box: Box) -> None:
    if "net_cls" not in host.cgroup_mounts():
        pytest.skip("net_cls is not mounted")
    container = box.create(resources(network={"classID": 0x100001}))
    assert knob(container, "net_cls", "net_cls.classid") == str(0x100001)


def test_block_io_throttle(box: Box) -> None:
    """A rate for a real disk of this host."""
    disks = [name for name in os.listdir("/sys/block") if not name.startswith(("loop", "ram", "zram"))]
    if not disks or "blkio" not in host.cgroup_mounts():
        pytest.skip("no block device, or no blkio controller")
    major, minor = map(int, Path(f"/sys/block/{disks[0]}/dev").read_text().split(":"))
    rate = {"major": major, "minor": minor, "rate": 1048576}
    container = box.create(resources(blockIO={"throttleReadBpsDevice": [rate], "throttleWriteIOPSDevice": [rate]}))
    assert knob(container, "blkio", "blkio.throttle.read_bps_device") == f"{major}:{minor} 1048576"
    assert knob(container, "blkio", "blkio.throttle.write_iops_device") == f"{major}:{minor} 1048576"


def test_resources_of_a_missing_controller_are_refused(box: Box) -> None:
    """engines 2: an error naming it, never ignored."""
    if "rdma" in host.cgroup_mounts():
        pytest.skip("rdma is there")
    box.refuses(resources(rdma={"mlx5_1": {"hcaHandles": 3}}))


# --- update

UPDATES = [
    (["--memory", "67108864"], "memory", "memory.limit_in_bytes", "memory.max", "67108864"),
    (["--memory", "64M"], "memory", "memory.limit_in_bytes", "memory.max", "67108864"),
    (["--memory-reservation", "33554432"], "memory", "memory.soft_limit_in_bytes", "memory.low", "33554432"),
    (["--pids-limit", "33"], "pids", "pids.max", "pids.max", "33"),
    (["--pids-limit", "-1"], "pids", "pids.max", "pids.max", "max"),
    (["--cpu-share", "300"], "cpu", "cpu.shares", "", "300"),
    (["--cpu-period", "60000", "--cpu-quota", "30000"], "cpu", "cpu.cfs_quota_us", "cpu.max", "30000 60000" if V2 else "30000"),
    (["--cpuset-cpus", "0"], "cpuset", "cpuset.cpus", "cpuset.cpus", "0"),
    (["--cpuset-mems", "0"], "cpuset", "cpuset.mems", "cpuset.mems", "0"),
]  # fmt: skip


@pytest.mark.parametrize(("flags", "controller", "v1", "v2", "wanted"), UPDATES, ids=[" ".join(row[0]) for row in UPDATES])
def test_update_by_flag(box: Box, flags: list[str], controller: str, v1: str, v2: str, wanted: str) -> None:
    if V2 and not v2:
        pytest.skip(f"{v1} has no file in version 2")
    container = box.parked(fresh_spec())
    result = container.verb("update", *flags).ok()
    assert result.out == ""
    assert knob(container, controller, v1, v2) == wanted


def test_update_quota_keeps_the_period(box: Box) -> None:
    """features."""
    container = box.parked(resources(cpu={"quota": 20000, "period": 50000}))
    container.verb("update", "--cpu-quota", "10000").ok()
    assert knob(container, "cpu", "cpu.cfs_period_us", "cpu.max").endswith("50000")


@pytest.mark.parametrize("form", ["-r -", "--resources -", "--resources=-", "file"])
def test_update_by_document(box: Box, form: str) -> None:
    """engines 3: podman passes =file, containerd - and =-."""
    container = box.parked(fresh_spec())
    document = json.dumps({"memory": {"limit": 64 * MIB}, "pids": {"limit": 44}})
    if form == "file":
        (box.dir / "resources.json").write_text(document)
        flags = [f"--resources={box.dir}/resources.json"]
    else:
        flags = form.split(" ")
    container.verb("update", *flags, stdin=document.encode()).ok()
    assert knob(container, "memory", "memory.limit_in_bytes", "memory.max") == str(64 * MIB)
    assert knob(container, "pids", "pids.max", "pids.max") == "44"


def test_update_of_memory_and_swap_together(box: Box) -> None:
    """v1 wants the right order of the two files, up and down."""
    container = box.parked(resources(memory={"limit": 64 * MIB, "swap": 64 * MIB}))
    for size in (128 * MIB, 48 * MIB):
        document = json.dumps({"memory": {"limit": size, "swap": size}})
        container.verb("update", "-r", "-", stdin=document.encode()).ok()
        assert knob(container, "memory", "memory.limit_in_bytes", "memory.max") == str(size)
        assert knob(container, "memory", "memory.memsw.limit_in_bytes", "memory.swap.max") == ("0" if V2 else str(size))


def test_update_changes_what_it_names_and_nothing_else(box: Box) -> None:
    container = box.parked(resources(memory={"limit": 64 * MIB}, pids={"limit": 30}, cpu={"shares": 512}))
    container.verb("update", "--pids-limit", "31").ok()
    assert knob(container, "pids", "pids.max", "pids.max") == "31"
    assert knob(container, "memory", "memory.limit_in_bytes", "memory.max") == str(64 * MIB)
    assert knob(container, "cpu", "cpu.shares", "cpu.weight") == ("20" if V2 else "512")


def test_update_of_a_created_and_a_paused_container(box: Box) -> None:
    container = box.create(fresh_spec("probe", "park"))
    container.verb("update", "--pids-limit", "40").ok()
    container.start()
    container.verb("pause").ok()
    container.verb("update", "--pids-limit", "41").ok()
    assert container.status == "paused"
    assert knob(container, "pids", "pids.max", "pids.max") == "41"


BAD_UPDATES = [b"", b"{", b"[]", b"null", b'{"pids": {"limit": "many"}}', b'{"memory": {"limit": 1.5}}', b'{"pids": 5}',
               b'{"cpu": {"cpus": "zz"}}', b"{}trailing", b'{"memory": {"limit": -5}}']  # fmt: skip


@pytest.mark.parametrize("document", BAD_UPDATES, ids=lambda d: d.decode() or "empty")
def test_bad_document_changes_nothing(box: Box, document: bytes) -> None:
    """security 8."""
    container = box.parked(resources(memory={"limit": 64 * MIB}, pids={"limit": 30}))
    container.verb("update", "-r", "-", stdin=document).failed()
    assert knob(container, "memory", "memory.limit_in_bytes", "memory.max") == str(64 * MIB)
    assert knob(container, "pids", "pids.max", "pids.max") == "30"


def test_update_that_fails_half_way_is_undone(box: Box) -> None:
    """security 6: the second value is impossible, so the first is put back."""
    container = box.parked(resources(pids={"limit": 30}))
    document = json.dumps({"pids": {"limit": 31}, "cpu": {"cpus": "4000"}}).encode()
    container.verb("update", "-r", "-", stdin=document).failed()
    assert knob(container, "pids", "pids.max", "pids.max") == "30"


# --- pause, resume

def test_pause_and_resume(box: Box) -> None:
    """lifecycle 110."""
    container = box.parked(fresh_spec())
    container.verb("pause").ok()
    assert container.status == "paused"
    container.kill("TERM")
    pidfd = os.pidfd_open(container.pid)
    assert not select.select([pidfd], [], [], 0.1)[0]
    os.close(pidfd)
    container.verb("resume").ok()
    assert container.wait() == 0


def test_pause_of_a_created_container(box: Box) -> None:
    """lifecycle 110."""
    container = box.create(fresh_spec("echo", "up"))
    container.verb("pause").ok()
    assert container.status == "paused"
    container.verb("resume").ok()
    assert container.status == "created"
    container.start()
    assert container.stream.rest() == "up\n"


@pytest.mark.parametrize(
    ("verb", "text"), [("pause", "container not running"), ("resume", "container not paused")]
)
def test_pause_and_resume_of_a_stopped_one(box: Box, verb: str, text: str) -> None:
    """lifecycle 110."""
    container = box.start(fresh_spec())
    container.wait()
    container.verb(verb).failed().says(text)


def test_resume_of_a_running_one(box: Box) -> None:
    """lifecycle 110."""
    box.parked(fresh_spec()).verb("resume").failed().says("container not paused")


def test_exec_in_a_paused_container(box: Box) -> None:
    """lifecycle 94."""
    container = box.parked(fresh_spec())
    container.verb("pause").ok()
    result = container.exec("true")
    assert result.code != 0
    assert "cannot exec in a paused container (use --ignore-paused to override)" in result.err, result


def test_exec_ignores_the_pause_on_request(box: Box) -> None:
    """lifecycle 94: it waits in the frozen cgroup until resume."""
    container = box.parked(fresh_spec())
    container.verb("pause").ok()
    running = box.runtime.spawn("exec", "--ignore-paused", container.id, "echo", "up")
    container.verb("resume").ok()
    assert running.finish().ok().out == "up\n"


# --- events

@pytest.fixture
def stats(box: Box) -> dict:
    container = box.parked(resources(memory={"limit": 64 * MIB}, pids={"limit": 30}))
    result = container.verb("events", "--stats").ok()
    assert len(result.lines) == 1
    document = json.loads(result.out)
    assert document["type"] == "stats"
    assert document["id"] == container.id
    return document["data"]


def test_stats(stats: dict) -> None:
    """runc's form; podman and cadvisor read it."""
    assert stats["pids"] == {"current": 1, "limit": 30}
    assert stats["memory"]["usage"]["limit"] == 64 * MIB
    assert stats["memory"]["usage"]["usage"] > 0
    assert stats["cpu"]["usage"]["total"] > 0


@pytest.mark.slow
def test_events_by_interval(box: Box) -> None:
    container = box.parked(fresh_spec())
    end, out = os.pipe()
    running = box.runtime.spawn("events", "--interval", "1s", container.id, stdout=out)
    os.close(out)
    stream = Stream(end)
    stream.until("\n")
    assert json.loads(stream.text.splitlines()[0])["type"] == "stats"
    container.end()
    container.delete("--force").ok()
    running.finish()
    stream.close()


@pytest.mark.slow
def test_oom_event(box: Box) -> None:
    """features: counted from the cgroup; the event has type oom."""
    spec = resources(memory={"limit": 32 * MIB, "swap": 32 * MIB})
    spec["process"]["args"] = ["sh", "-c", "echo up; read x; probe eat 200; probe park"]
    gate, key = os.pipe()
    container = box.start(spec, stdin=gate)
    os.close(gate)
    container.stream.until("up")
    end, out = os.pipe()
    running = box.runtime.spawn("events", "--interval", "1s", container.id, stdout=out)
    os.close(out)
    stream = Stream(end)
    stream.until('"stats"')
    os.write(key, b"go\n")
    os.close(key)
    stream.until('"oom"')
    container.end()
    container.delete("--force").ok()
    running.finish()
    stream.close()


def test_events_of_a_stopped_container(box: Box) -> None:
    """lifecycle P."""
    container = box.start(fresh_spec())
    container.wait()
    container.verb("events", "--stats").failed().says(f"container with id {container.id} is not running")


def test_interval_is_checked(box: Box) -> None:
    container = box.parked(fresh_spec())
    container.verb("events", "--interval", "0s").failed()
