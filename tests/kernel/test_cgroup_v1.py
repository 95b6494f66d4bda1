"""Cgroups of version 1 (and the v2 tree beside them, if the host is hybrid) on the real kernel."""

import json
import os
import select
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest
from support import cgroups
from support.cgroups import Child

from skerry.errors import EngineError, Error, KernelError, SpecError
from skerry.linux import cgroupfs
from skerry.native.cgroup import ending, freezer, tree

pytestmark = cgroups.needs_v1
MIB = 1 << 20
needs_runc = pytest.mark.skipif(
    not shutil.which("runc"), reason="runc is the oracle; not installed"
)


@pytest.fixture
def clean():
    """The test fails if it leaves a cgroup."""
    yield
    assert cgroups.leftovers() == []


@pytest.fixture
def make(clean):
    """Make cgroups by path and take all away afterwards."""
    groups = []

    def make(suffix="a", resources=None, created=True):
        group = tree.open_cgroup(tree.read_layout(), cgroups.name(suffix), "id")
        groups.append(group)
        if created:
            group.create()
            group.apply(resources or {})
        return group

    yield make
    # the first to make a parent is the last to go
    for group in reversed(groups):
        ending.kill(group, signal.SIGKILL)
        group.remove()


@pytest.fixture
def child():
    children = []

    def child(group, text="exec sleep 1000"):
        one = Child(text)
        children.append(one)
        group.attach(one.pid)
        one.go()
        return one

    yield child
    for one in children:
        one.end()


def read(group, controller, file):
    return Path(group.paths[controller], file).read_text().strip()


def own_cgroups(pid):
    lines = Path(f"/proc/{pid}/cgroup").read_text().split("\n")
    return {line.split(":", 2)[1]: line.split(":", 2)[2] for line in lines if line}


def test_a_process_is_in_every_hierarchy(make, child):
    """decisions.md 31; engines.md 3: the cgroup is exactly at linux.cgroupsPath."""
    group = make("pod/deep/a")
    pid = child(group).pid
    assert set(own_cgroups(pid).values()) == {cgroups.name("pod/deep/a")}
    assert group.processes() == [pid]
    assert group.join_fd() == -1


def test_processes_of_the_whole_subtree(make, child):
    group = make()
    below = Path(group.paths["pids"], "x", "y")
    below.mkdir(parents=True)
    one, two = child(group), Child()
    (below / "cgroup.procs").write_text(str(two.pid))
    assert group.processes() == sorted([one.pid, two.pid])
    two.end()


def test_a_record_is_enough_to_remove(make, child):
    """lifecycle 118-120: another process removes by the record; again and again."""
    group = make("pod/a")
    record = json.loads(json.dumps(group.record))
    one = child(group)
    one.end()
    tree.from_record(record).remove()
    tree.from_record(record).remove()
    assert cgroups.leftovers() == []


def test_removal_of_what_was_never_made(make):
    """lifecycle 118"""
    make("never", created=False).remove()


def test_a_half_made_cgroup_is_removed(make):
    group = make("half", created=False)
    for path in group.made[: len(group.made) // 2]:
        os.mkdir(path)
    group.remove()
    assert cgroups.leftovers() == []


def test_a_shared_parent_goes_with_the_last(make):
    """decisions.md 31"""
    one, two = make("pod/one"), make("pod/two")
    parent = Path(one.paths["memory"]).parent
    one.remove()
    assert parent.is_dir()
    two.remove()
    # `one` made the parent, and its record has gone; `two` found it there
    assert parent.is_dir() == (str(parent) not in two.made)
    one.remove()


def test_an_existing_parent_stays(make):
    """lifecycle 121"""
    layout = tree.read_layout()
    parent = Path(layout.controllers["memory"] + cgroups.name("old"))
    parent.mkdir(parents=True)
    group = make("old/a")
    group.remove()
    assert parent.is_dir() and not Path(group.paths["pids"]).parent.exists()
    parent.rmdir()
    parent.parent.rmdir()


def test_many_come_and_go_below_one_parent(clean):
    """security.md 6: whoever makes or takes the shared parent, nobody fails and no leaf is left."""

    def live(number):
        for turn in range(25):
            group = tree.open_cgroup(tree.read_layout(), cgroups.name(f"pod/{number}-{turn}"), "id")
            group.create()
            group.apply({})
            group.remove()

    pids = []
    for number in range(4):
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                live(number)
                code = 0
            finally:
                os._exit(code)
        pids.append(pid)
    codes = [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids]
    left = [path for top in cgroups.leftovers() for path, _, _ in os.walk(top)]
    # a parent is taken away by who made it, unless others are in it at that moment
    for path in sorted(left, reverse=True):
        os.rmdir(path)
    assert codes == [0] * 4
    assert not [path for path in left if "pod/" in path]


def test_removal_is_bounded_and_says_who_is_there(make, child):
    """security.md 6: bounded error, and a later delete works."""
    group = make()
    one = child(group)
    begin = time.monotonic()
    with pytest.raises(KernelError, match=r"1 process\(es\) are in it"):
        ending.remove(group, deadline_s=0.2)
    assert time.monotonic() - begin < 2
    one.end()
    group.remove()


def test_what_the_container_made_below_goes_too(make, child):
    group = make()
    for controller in ("memory", "freezer", "pids"):
        Path(group.paths[controller], "a", "b").mkdir(parents=True)
    group.remove()
    assert cgroups.leftovers() == []


def test_in_use_by_others(make, child):
    """features.md: cgroup not empty; the text is runc's."""
    first = make()
    child(first)
    second = make(created=False)
    with pytest.raises(EngineError) as caught:
        second.create()
    assert str(caught.value) == "container's cgroup is not empty: 1 process(es) found"


def test_an_old_empty_cgroup_is_used(make):
    make()
    again = make()
    assert again.made == []


@pytest.mark.parametrize("which", ["itself", "above"])
def test_frozen_is_refused(make, which):
    """security.md 4: a frozen one hangs for ever."""
    one = make("ice/a") if which == "itself" else make("ice")
    one.freeze()
    two = make("ice/a", created=False)
    with pytest.raises(EngineError, match="unexpectedly frozen"):
        two.create()
    one.thaw()
    two.create()


def test_cpuset_is_inherited(make, child):
    group = make("x/y/z")
    assert read(group, "cpuset", "cpuset.cpus") == read_top("cpuset", "cpuset.cpus")
    assert read(group, "cpuset", "cpuset.mems") == read_top("cpuset", "cpuset.mems")


def read_top(controller, file):
    return Path(tree.read_layout().controllers[controller], file).read_text().strip()


def test_attach_of_a_dead_process(make):
    one = Child()
    one.end()
    with pytest.raises(KernelError, match=f"cannot attach process {one.pid} to .*ESRCH"):
        make().attach(one.pid)


# limits


RESOURCES = {
    "memory": {
        "limit": 64 * MIB,
        "swap": 96 * MIB,
        "reservation": 32 * MIB,
        "swappiness": 7,
        "disableOOMKiller": True,
    },
    "cpu": {"shares": 517, "quota": 30000, "period": 60000, "cpus": "0", "mems": "0"},
    "pids": {"limit": 33},
    "blockIO": {"weight": 300},
    "devices": [
        {"allow": False, "access": "rwm"},
        {"allow": True, "type": "c", "major": 10, "minor": 229, "access": "rw"},
        {"allow": True, "type": "b", "major": 7, "access": "r"},
    ],
}
FILES = {
    "memory": (
        "memory.limit_in_bytes",
        "memory.memsw.limit_in_bytes",
        "memory.soft_limit_in_bytes",
        "memory.swappiness",
        "memory.oom_control",
        "memory.use_hierarchy",
    ),
    "cpu": ("cpu.shares", "cpu.cfs_quota_us", "cpu.cfs_period_us"),
    "cpuset": ("cpuset.cpus", "cpuset.mems"),
    "pids": ("pids.max",),
    "blkio": ("blkio.bfq.weight",),
    "devices": ("devices.list",),
}


@pytest.fixture
def runc(clean, tmp_path):
    """A container of runc, sleeping, as the oracle: (id, its cgroup as ours)."""
    ids = []

    def runc(suffix, resources):
        bundle = tmp_path / "bundle"
        (bundle / "rootfs" / "bin").mkdir(parents=True)
        shutil.copy("/bin/busybox", bundle / "rootfs" / "bin" / "sleep")
        subprocess.run(["runc", "spec"], cwd=bundle, check=True)
        config = json.loads((bundle / "config.json").read_text())
        config["process"].update(terminal=False, args=["/bin/sleep", "1000"])
        config["linux"].update(cgroupsPath=cgroups.name(suffix, "-runc"), resources=resources)
        (bundle / "config.json").write_text(json.dumps(config))
        id = f"skerry-test-{os.getpid()}"
        nothing = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL}
        root = ["runc", "--root", str(tmp_path / "root")]
        group = tree.open_cgroup(tree.read_layout(), cgroups.name(suffix, "-runc"), id)
        ids.append((root, id, group))
        subprocess.run([*root, "run", "-d", id], cwd=bundle, check=True, **nothing)
        return root, id, group

    yield runc
    for root, id, group in ids:
        subprocess.run([*root, "delete", "-f", id], check=True)
        group.remove()


@needs_runc
def test_every_file_holds_what_runc_writes(make, runc):
    _, _, theirs = runc("theirs", RESOURCES)
    ours = make("ours", RESOURCES)
    for controller, files in FILES.items():
        for file in files:
            got, want = read(ours, controller, file), read(theirs, controller, file)
            assert sorted(got.split("\n")) == sorted(want.split("\n")), file


@needs_runc
def test_stats_are_those_of_runc_field_by_field(runc):
    root, id, group = runc(
        "stats", {"memory": {"limit": 64 * MIB}, "pids": {"limit": 9}, "cpu": {"quota": 50000}}
    )

    def theirs():
        out = subprocess.run(
            [*root, "events", "--stats", id], capture_output=True, check=True
        ).stdout
        return json.loads(out)["data"]

    # a frozen container's figures come to rest; only an equal pair of answers can be compared with
    group.freeze()
    answers = []
    cgroups.wait_until(
        lambda: (
            answers.append((theirs(), group.stats(), theirs())) or answers[-1][0] == answers[-1][2]
        ),
        "two equal answers of runc",
    )
    before, ours, _ = answers[-1]
    group.thaw()
    assert json.loads(json.dumps(ours)) == before
    assert list(ours) == list(before)


def test_first_apply_denies_devices_without_a_list(make, child):
    """V07: also when the spec says nothing at all."""
    group = make()
    assert "a *:* rwm" not in read(group, "devices", "devices.list")
    assert "c 1:3 rwm" in read(group, "devices", "devices.list")


def test_update_leaves_devices_alone(make):
    """V07: again after an update of something else, and after one with the same rules."""
    group = make(resources=RESOURCES)
    before = read(group, "devices", "devices.list")
    again = tree.from_record(group.record)
    again.apply({"pids": {"limit": 5}})
    again.apply({"devices": RESOURCES["devices"]})
    assert read(group, "devices", "devices.list") == before
    assert read(group, "pids", "pids.max") == "5"


def test_devices_cannot_be_opened(make, child, tmp_path):
    """V07 with its control: nodes made by the process itself, 7:0 denied, null allowed."""
    group = make()
    text = (
        f"cd {tmp_path}; mknod loop b 7 0; mknod kmsg c 1 11; mknod null c 1 3;"
        "for n in null loop kmsg; do (: <$n) 2>/dev/null && printf '%s ' $n; done; echo end"
    )
    assert child(group, text).answer() == b"null end"


def test_hybrid_takes_the_rest_from_v2():
    """engines.md 2: v1 for what v1 mounts offer, the unified tree for the rest."""
    top = Path(tree.read_layout().unified or "/nowhere")
    with cgroups.HugetlbAsBefore(top):
        group = tree.open_cgroup(tree.read_layout(), cgroups.name("pages"), "id")
        try:
            group.create()
            limits = [{"pageSize": "2MB", "limit": 0}]
            group.apply({"hugepageLimits": limits, "pids": {"limit": 9}})
            assert Path(group.paths[""], "hugetlb.2MB.max").read_text() == "0\n"
            assert read(group, "pids", "pids.max") == "9"
        finally:
            group.remove()
    assert cgroups.leftovers() == []


@pytest.mark.parametrize(
    "resources, pointer",
    [
        ({"cpu": {"cpus": "zz"}}, "/cpu/cpus"),
        ({"cpu": {"cpus": "4000"}}, "/cpu/cpus"),
        ({"cpu": {"quota": 1}}, "/cpu/quota"),
        ({"cpu": {"burst": 90000, "quota": 50000}}, "/cpu/burst"),
        (
            {"blockIO": {"throttleReadBpsDevice": [{"major": 4095, "minor": 9, "rate": 5}]}},
            "/blockIO/throttleReadBpsDevice/0/rate",
        ),
        ({"memory": {"limit": 64 * MIB, "swap": 32 * MIB}}, "/memory/swap"),
        ({"memory": {"useHierarchy": False}}, "/memory/useHierarchy"),
        ({"blockIO": {"leafWeight": 20}}, "/blockIO/leafWeight"),
        ({"network": {"classID": 5}}, "/network/classID"),
        ({"rdma": {"mlx": {"hcaHandles": 1}}}, "/rdma/mlx"),
        ({"unified": {"memory.high": "5"}}, "/unified/memory.high"),
    ],
)
def test_the_kernel_refuses(make, resources, pointer):
    """security.md 8 (cgroups): the pointer is named."""
    group = make()
    with pytest.raises(SpecError) as caught:
        group.apply(resources)
    assert caught.value.pointer == f"/linux/resources{pointer}"


def test_all_of_cpu(make):
    group = make(resources={"cpu": {"quota": 50000, "period": 100000, "burst": 20000, "idle": 1}})
    assert read(group, "cpu", "cpu.cfs_burst_us") == "20000"
    assert read(group, "cpu", "cpu.idle") == "1"
    group.apply({"cpu": {"idle": 0, "shares": 300}})
    assert (read(group, "cpu", "cpu.idle"), read(group, "cpu", "cpu.shares")) == ("0", "300")
    # period, quota and burst bind each other; both directions
    for quota, period, burst in ((5000, 10000, 5000), (900000, 1000000, 100000), (2000, 4000, 0)):
        group.apply({"cpu": {"quota": quota, "period": period, "burst": burst}})
        assert read(group, "cpu", "cpu.cfs_quota_us") == str(quota)
        assert read(group, "cpu", "cpu.cfs_period_us") == str(period)
        assert read(group, "cpu", "cpu.cfs_burst_us") == str(burst)


def test_memory_and_swap_grow_and_shrink(make):
    group = make(resources={"memory": {"limit": 20 * MIB, "swap": 30 * MIB}})
    for limit, swap in ((40, 50), (10, 15), (12, 80), (5, 5)):
        group.apply({"memory": {"limit": limit * MIB, "swap": swap * MIB}})
        assert read(group, "memory", "memory.limit_in_bytes") == str(limit * MIB)
        assert read(group, "memory", "memory.memsw.limit_in_bytes") == str(swap * MIB)
    with pytest.raises(SpecError, match="raise swap as well"):
        group.apply({"memory": {"limit": 90 * MIB}})
    group.apply({"memory": {"limit": -1}})
    assert int(read(group, "memory", "memory.memsw.limit_in_bytes")) > 1 << 60


HOLD_20_MIB = "exec python3 -c 'x=bytearray(20<<20); print(1, flush=True); input()'"


def test_memory_limit_below_what_is_used(make, child):
    """A clear error: numbers, the pointer, and nothing killed."""
    group = make()
    one = child(group, HOLD_20_MIB)
    assert one.answer() == b"1"
    with pytest.raises(
        SpecError, match=r"unable to set memory limit to \d+ \(current usage: \d+"
    ) as caught:
        group.apply({"memory": {"limit": 4 * MIB}})
    assert caught.value.pointer == "/linux/resources/memory/limit"
    with pytest.raises(SpecError, match="current usage"):
        group.check({"memory": {"limit": 4 * MIB, "checkBeforeUpdate": True}})
    assert one.process.poll() is None


def test_a_failed_update_is_undone(make):
    before = {
        "memory": {"limit": 20 * MIB, "swap": 30 * MIB},
        "pids": {"limit": 40},
        "cpu": {"cpus": "0", "shares": 99, "quota": 20000},
    }
    group = make(resources=before)
    files = [(c, f) for c in ("memory", "pids", "cpu", "cpuset") for f in FILES[c]]
    held = {file: read(group, controller, file) for controller, file in files}
    update = {
        "memory": {"limit": 50 * MIB, "swap": 60 * MIB},
        "pids": {"limit": 5},
        "cpu": {"shares": 1000, "quota": 5000, "period": 9000, "cpus": "0-1"},
        "blockIO": {"throttleReadBpsDevice": [{"major": 4095, "minor": 9, "rate": 5}]},
    }
    saved = group.save_limits(update)
    with pytest.raises(SpecError):
        group.apply(update)
    assert {file: read(group, controller, file) for controller, file in files} != held
    group.restore([write for write in saved if write.controller != "blkio"])
    assert {file: read(group, controller, file) for controller, file in files} == held


def test_check_changes_nothing(make):
    group = make("checked", created=False)
    group.check(RESOURCES)
    with pytest.raises(SpecError):
        group.check({"memory": {"limit": 5}})
    assert not Path(group.paths["memory"]).exists()


FORK = """
import os
n = 0
try:
    while n < 20:
        if os.fork() == 0:
            input()
        n += 1
except OSError as error:
    print(n, error.errno, flush=True)
    os.kill(0, 9)
"""


def test_pids_limit_has_effect(make, child):
    group = make(resources={"pids": {"limit": 7}})
    assert child(group, f"exec python3 -c '{FORK}'").answer() == b"6 11"


# freeze, kill


def state_of(pid):
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


def test_freeze_and_thaw(make, child):
    group = make()
    one = child(group, "while :; do :; done")
    assert not group.frozen()
    group.freeze()
    assert group.frozen() and read(group, "freezer", "freezer.state") == "FROZEN"
    before = Path(f"/proc/{one.pid}/stat").read_text().split()[13]
    assert tree.from_record(group.record).frozen()
    assert Path(f"/proc/{one.pid}/stat").read_text().split()[13] == before
    group.thaw()
    assert not group.frozen()
    cgroups.wait_until(lambda: state_of(one.pid) == "R", "running again")


def test_a_frozen_parent_is_no_pause_of_ours(make, child):
    parent, group = make("p"), make("p/a")
    parent.freeze()
    assert read(group, "freezer", "freezer.state") == "FROZEN" and not group.frozen()
    parent.thaw()


def test_frozen_of_a_cgroup_that_is_gone(make):
    group = make()
    group.remove()
    assert group.frozen() is False
    group.thaw()


def test_what_does_not_stop_in_time_runs_again(make, child, monkeypatch):
    """Half frozen is never left. The wait for FROZEN is cut off, as a task in state D would make it
    fail."""
    group = make()
    one = child(group)
    monkeypatch.setattr(freezer, "_freeze_v1", lambda file, limit: cgroupfs.write(file, "FROZEN"))
    with pytest.raises(EngineError, match="has not stopped in 0.1 s"):
        freezer.freeze(group, deadline_s=0.1)
    assert not group.frozen() and read(group, "freezer", "freezer.state") == "THAWED"
    one.process.terminate()
    assert one.process.wait(5) == -signal.SIGTERM


def test_kill_takes_the_frozen(make, child):
    """lifecycle 108, 112; security.md 6: frozen, and a frozen child cgroup."""
    group = make()
    one, two = child(group), child(group)
    below = Path(group.paths["freezer"], "nested")
    below.mkdir()
    (below / "cgroup.procs").write_text(str(two.pid))
    (below / "freezer.state").write_text("FROZEN")
    group.freeze()
    begin = time.monotonic()
    group.kill(signal.SIGKILL)
    assert group.processes() == [] and time.monotonic() - begin < 2
    assert {one.process.wait(5), two.process.wait(5)} == {-signal.SIGKILL}
    group.remove()


BOMB = "b() { while :; do sleep 100 & (b) & done; }; b"


@pytest.mark.parametrize("kind", ["hybrid", "v1"])
def test_kill_takes_a_fork_bomb(make, child, kind):
    """With the stroke of cgroup.kill, and where only v1 is: freeze, kill, thaw."""
    group = make(resources={"pids": {"limit": 150}})
    if kind == "v1":
        group.paths.pop("", None)
    elif "" not in group.paths:
        pytest.skip("this host has no cgroup2 mount beside v1")
    child(group, BOMB)
    cgroups.wait_until(lambda: len(group.processes()) > 40, "the bomb")
    group.kill(signal.SIGKILL)
    assert group.processes() == []


def test_other_signals_reach_all(make, child):
    group = make()
    one, two = (
        child(group, "trap 'echo hup' HUP; echo up; while :; do sleep 0.01; done"),
        child(group),
    )
    assert one.answer() == b"up"
    group.kill(signal.SIGHUP)
    assert one.answer() == b"hup"
    assert two.process.wait(5) == -signal.SIGHUP
    assert not group.frozen()


def test_a_signal_leaves_a_paused_container_paused(make, child):
    group = make()
    one = child(group)
    group.freeze()
    group.kill(signal.SIGTERM)
    assert group.frozen() and one.process.poll() is None
    group.thaw()
    assert one.process.wait(5) == -signal.SIGTERM


# out of memory

EAT = "exec python3 -c 'x=[bytearray(1<<20) for _ in range(200)]; print(2, flush=True)'"


def test_oom_is_seen_and_counted(make, child):
    group = make(resources={"memory": {"limit": 24 * MIB, "swap": 24 * MIB}})
    watch = group.oom_watch()
    poll = select.poll()
    poll.register(watch, select.POLLIN)
    assert group.oom_kills() == 0 and poll.poll(0) == [] and not watch.happened()
    one = child(group, EAT)
    assert poll.poll(10000)
    assert one.process.wait(10) == -signal.SIGKILL
    cgroups.wait_until(watch.happened, "the notice")
    assert group.oom_kills() == 1
    watch.close()


def test_oom_watch_of_a_removed_cgroup(make):
    group = make()
    watch = group.oom_watch()
    group.remove()
    poll = select.poll()
    poll.register(watch, select.POLLIN)
    assert poll.poll(5000) and not watch.happened()
    assert group.oom_kills() == 0
    watch.close()


# leaves


def test_leaf_is_below(make, child):
    group = make()
    for path in group.leaves:
        os.makedirs(f"{path}/sub/deep")
    for place in ("sub", "sub/deep"):
        for file in ("cpuset.cpus", "cpuset.mems"):
            Path(group.paths["cpuset"], place, file).write_text("0")
    pid = child(group.leaf("sub/deep")).pid
    assert set(own_cgroups(pid).values()) == {cgroups.name("a/sub/deep")}
    pid = child(group.leaf("memory,pids:/sub")).pid
    places = own_cgroups(pid)
    assert places["memory"] == places["pids"] == cgroups.name("a/sub")
    assert places["cpu"] == cgroups.name("a")


@pytest.mark.parametrize("sub", ["../ab", "/../../", "x/../../ab", "nowhere", "nope:sub", "a\0b"])
def test_leaf_never_leads_out(make, sub):
    """V21: containment by components, not by prefix: `ab` begins with the container's `a`."""
    group, _ = make("a"), make("ab")
    with pytest.raises(EngineError, match="cannot join sub-cgroup"):
        group.leaf(sub)


def test_no_fd_is_left_open(make, child):
    """V21: nothing of the cgroup tree stays open in us, so nothing is inherited."""
    before = set(os.listdir("/proc/self/fd"))
    group = make()
    one = child(group)
    group.stats()
    group.freeze()
    group.kill(signal.SIGKILL)
    one.end()
    group.remove()
    with pytest.raises(Error):
        group.attach(1 << 22)
    assert set(os.listdir("/proc/self/fd")) == before
