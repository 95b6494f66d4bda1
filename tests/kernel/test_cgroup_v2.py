"""Cgroup v2 on the real kernel, seen through a private mount of cgroup2 on /sys/fs/cgroup.

Where the host gives memory, cpu and pids to v1 mounts, v2 offers the core (freeze, kill,
populated), the device programs and perhaps hugetlb; limits of the other controllers are shown on a
fake tree in tests/unit.
"""

import ctypes
import os
import select
import signal
import struct
import time
from pathlib import Path

import pytest
from support import cgroups
from support.bpf import BpfLibrary
from support.cgroups import Child, HugetlbAsBefore, in_pure_v2

from skerry.errors import EngineError, KernelError, SpecError
from skerry.linux import cgroupfs
from skerry.native.cgroup import devices, ending, freezer, tree

pytestmark = cgroups.needs_root
HERE = Path("/sys/fs/cgroup")


class Scene:
    """Cgroups and processes of one test, taken away in the end, whatever happened."""

    def __init__(self):
        self.groups, self.children = [], []

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for group in reversed(self.groups):
            ending.kill(group, signal.SIGKILL)
            group.remove()
        for child in self.children:
            child.end()
        assert cgroups.leftovers() == []

    def make(self, suffix="a", *, created=True):
        group = tree.open_cgroup(tree.read_layout(), cgroups.name(suffix, "-v2"), "id")
        self.groups.append(group)
        if created:
            group.create()
        return group

    def child(self, group=None, text="exec sleep 1000"):
        one = Child(text)
        self.children.append(one)
        if group:
            group.attach(one.pid)
        one.go()
        return one


@in_pure_v2
def test_layout_paths_and_birth():
    """decisions.md 2: born in the cgroup by clone3 with CLONE_INTO_CGROUP."""
    layout = tree.read_layout()
    assert (layout.kind, layout.unified) == ("v2", str(HERE))
    with Scene() as scene:
        group = scene.make("pod/a")
        assert group.leaves == [str(HERE) + cgroups.name("pod/a", "-v2")]
        fd = group.join_fd()
        assert not os.get_inheritable(fd)
        pid = clone_into(fd)
        os.close(fd)
        assert group.processes() == [pid]
        group.kill(signal.SIGKILL)
        os.waitid(os.P_PID, pid, os.WEXITED | 0x40000000)


def clone_into(fd):
    """clone3; the child sleeps."""
    arguments = struct.pack("=11Q", 0x200000000, 0, 0, 0, signal.SIGCHLD, 0, 0, 0, 0, 0, fd)
    buffer = ctypes.create_string_buffer(arguments, len(arguments))
    pid = ctypes.CDLL(None, use_errno=True).syscall(435, buffer, len(arguments))
    if pid == 0:
        while True:
            signal.pause()
    assert pid > 0, os.strerror(ctypes.get_errno())
    return pid


@in_pure_v2
def test_freeze_and_thaw():
    with Scene() as scene:
        group = scene.make()
        one = scene.child(group, "while :; do :; done")
        group.freeze()
        events = Path(group.paths[""], "cgroup.events").read_text()
        assert group.frozen() and "frozen 1" in events
        before = Path(f"/proc/{one.pid}/stat").read_text().split()[13]
        again = scene.make(created=False)
        with pytest.raises(EngineError, match=r"not empty: 1 process\(es\) found"):
            again.create()
        assert Path(f"/proc/{one.pid}/stat").read_text().split()[13] == before
        group.thaw()
        assert not group.frozen()


@in_pure_v2
def test_frozen_is_refused():
    """security.md 4"""
    with Scene() as scene:
        parent = scene.make("ice")
        parent.freeze()
        with pytest.raises(EngineError, match="unexpectedly frozen"):
            scene.make("ice/a")
        parent.thaw()


@in_pure_v2
def test_what_does_not_stop_in_time_runs_again():
    """Half frozen is never left. The request is lost here, as if a task in state D made the kernel
    wait."""
    write = cgroupfs.write
    with Scene() as scene:
        group = scene.make()
        scene.child(group)
        try:
            cgroupfs.write = lambda path, text: write(path, text) if text != "1" else None
            with pytest.raises(EngineError, match="has not stopped in 0.1 s"):
                freezer.freeze(group, deadline_s=0.1)
        finally:
            cgroupfs.write = write
        assert not group.frozen()


@pytest.mark.parametrize("stroke", [True, False], ids=["cgroup.kill", "older kernel"])
def test_kill_takes_frozen_nested_and_bombs(stroke):
    """security.md 6: frozen at kill; a fork bomb; with cgroup.kill and without it."""
    _kill(stroke)


@in_pure_v2
def _kill(stroke):
    kill_at_once = ending._kill_at_once
    try:
        if not stroke:
            ending._kill_at_once = lambda group: False
        with Scene() as scene:
            group = scene.make()
            below = Path(group.paths[""], "nested")
            below.mkdir()
            frozen = scene.child(group)
            (below / "cgroup.procs").write_text(str(frozen.pid))
            (below / "cgroup.freeze").write_text("1")
            bomb = "n=0; while [ $n -lt 40 ]; do sleep 100 & n=$((n+1)); done; echo up; wait"
            assert scene.child(group, bomb).answer() == b"up"
            assert len(group.processes()) == 42
            group.freeze()
            begin = time.monotonic()
            group.kill(signal.SIGKILL)
            assert group.processes() == [] and time.monotonic() - begin < 2
            group.remove()
            assert not below.exists()
    finally:
        ending._kill_at_once = kill_at_once


@in_pure_v2
def test_other_signals_reach_all():
    with Scene() as scene:
        group = scene.make()
        children = [scene.child(group) for _ in range(3)]
        group.kill(signal.SIGTERM)
        assert [child.process.wait(5) for child in children] == [-signal.SIGTERM] * 3


@in_pure_v2
def test_exec_follows_init_below():
    """decisions.md 2: EBUSY means init's current cgroup, if it is below the container's."""
    with Scene() as scene, HugetlbAsBefore(HERE):
        group = scene.make()
        init = scene.child(group)
        below = Path(group.paths[""], "init")
        below.mkdir()
        assert group.current(init.pid) is group
        (below / "cgroup.procs").write_text(str(init.pid))
        (HERE / "cgroup.subtree_control").write_text("+hugetlb")
        Path(group.paths[""]).parent.joinpath("cgroup.subtree_control").write_text("+hugetlb")
        Path(group.paths[""], "cgroup.subtree_control").write_text("+hugetlb")
        late = scene.child()
        with pytest.raises(KernelError, match="EBUSY .*enabled for its children"):
            group.attach(late.pid)
        group.current(init.pid).attach(late.pid)
        assert (below / "cgroup.procs").read_text().split() == sorted(
            [str(init.pid), str(late.pid)]
        )
        assert group.current(os.getpid()) is group
        group.kill(signal.SIGKILL)
        group.remove()


@in_pure_v2
def test_threads_below():
    """A threaded cgroup does not list its processes, and a cgroup beside it takes none."""
    with Scene() as scene:
        group = scene.make()
        for name in ("threads", "beside"):
            Path(group.paths[""], name).mkdir()
        Path(group.paths[""], "threads", "cgroup.type").write_text("threaded")
        late = scene.child()
        with pytest.raises(KernelError, match="ENOTSUP .*threaded"):
            group.leaf("beside").attach(late.pid)
        group.leaf("threads").attach(late.pid)
        assert group.processes() == [late.pid]


@in_pure_v2
def test_leaf_never_leads_out():
    """V21"""
    with Scene() as scene:
        group = scene.make("a")
        scene.make("ab")
        Path(group.paths[""], "sub").mkdir()
        assert group.leaf("/sub").leaves == [f"{group.paths['']}/sub"]
        for sub in ("../ab", "/../../", "sub/../../ab", "nowhere", "memory:sub"):
            with pytest.raises(EngineError, match="cannot join sub-cgroup"):
                group.leaf(sub)


@in_pure_v2
def test_limits_of_huge_pages():
    """features.md: hugepageLimits with reservations; the controller is enabled on the way down."""
    with HugetlbAsBefore(HERE), Scene() as scene:
        group = scene.make("pod/a")
        resources = {"hugepageLimits": [{"pageSize": "2MB", "limit": 4 << 20}]}
        group.check(resources)
        group.apply(resources)
        for file in ("hugetlb.2MB.max", "hugetlb.2MB.rsvd.max"):
            assert Path(group.paths[""], file).read_text() == f"{4 << 20}\n"
        group.apply({"unified": {"hugetlb.2MB.max": "2097152"}})
        assert Path(group.paths[""], "hugetlb.2MB.max").read_text() == "2097152\n"
        for wrong, rule in (("3MB", "no hugetlb.3MB.max"), ("2MB.rsvd", "no page size")):
            with pytest.raises(SpecError, match=rule) as caught:
                group.check({"hugepageLimits": [{"pageSize": wrong, "limit": 1}]})
            assert caught.value.pointer == "/linux/resources/hugepageLimits/0/pageSize"
        assert group.stats()["hugetlb"]["2MB"] == {"failcnt": 0}


@in_pure_v2
def test_a_parent_with_processes_cannot_pass_a_controller_on():
    with HugetlbAsBefore(HERE), Scene() as scene:
        parent = scene.make("pod")
        scene.child(parent)
        group = scene.make("pod/a")
        with pytest.raises(KernelError, match="cannot enable controller hugetlb .*leaves only"):
            group.apply({"hugepageLimits": [{"pageSize": "2MB", "limit": 0}]})
        # What is only counted is let be: a threaded domain above would take the child's processes from it.
        assert (HERE / parent.paths[""].removeprefix(f"{HERE}/") / "cgroup.type").read_text() == "domain\n"
        scene.child(group)
        assert group.processes()


@in_pure_v2
def test_a_controller_that_is_nowhere():
    """engines.md 2: controller and key are named."""
    with Scene() as scene:
        group = scene.make()
        if "memory" in group.paths:
            pytest.skip("this host offers the memory controller on v2")
        with pytest.raises(SpecError, match="controller memory") as caught:
            group.check({"memory": {"limit": 1 << 20}})
        assert caught.value.pointer == "/linux/resources/memory/limit"
        with pytest.raises(EngineError, match="controller memory"):
            group.oom_watch()
        assert group.oom_kills() == 0


@in_pure_v2
def test_stats_of_the_core():
    with Scene() as scene:
        group = scene.make()
        scene.child(group, "i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done; exec sleep 100")
        cgroups.wait_until(lambda: group.stats()["cpu"]["usage"].get("total", 0) > 0, "cpu time")


def test_the_watch_wakes_for_a_change_alone(tmp_path):
    _watch(tmp_path)


@in_pure_v2
def _watch(tmp_path):
    """A file of cgroup v2 is always readable; only POLLPRI says that it changed. cgroup.events
    stands in here."""
    with Scene() as scene:
        group = scene.make()
        (tmp_path / "memory.events").symlink_to(f"{group.paths['']}/cgroup.events")
        fake = tree.Cgroup("v2", {"": str(tmp_path), "memory": str(tmp_path)}, [], str(tmp_path))
        watch = fake.oom_watch()
        poll = select.poll()
        poll.register(watch, select.POLLIN)
        watch.happened()
        assert poll.poll(0) == []
        scene.child(group)
        assert poll.poll(5000)
        assert watch.happened() is False and poll.poll(0) == []
        watch.close()


# the device program


LISTS = {
    "nothing": [],
    "privileged": [{"allow": True, "access": "rwm"}],
    "docker": [
        {"allow": False, "access": "rwm"},
        {"allow": True, "type": "c", "major": 10, "minor": 229, "access": "rwm"},
        {"allow": False, "type": "c", "major": 10, "access": "w"},
    ],
    "many": [
        {"allow": index % 3 != 0, "type": "abc"[index % 3], "major": index, "access": "rw"}
        for index in range(1500)
    ],
}


@pytest.mark.parametrize("name", LISTS)
def test_the_verifier_takes_the_program(name):
    program = devices.program(devices.rules({"devices": LISTS[name]}, ""))
    os.close(BpfLibrary().load(program))


@pytest.mark.parametrize(
    "given, opens",
    [
        (None, "null"),
        ([], "null"),
        ([{"allow": False, "access": "rwm"}], "null"),
        ([{"allow": True, "type": "c", "major": 1, "minor": 11, "access": "r"}], "null kmsg"),
        ([{"allow": True, "access": "rwm"}], "null kmsg"),
    ],
)
def test_devices_cannot_be_opened(given, opens, tmp_path):
    """V07 with its controls: nodes made by the process itself."""
    _open_devices(given, opens, tmp_path)


@in_pure_v2
def _open_devices(given, opens, tmp_path):
    with Scene() as scene:
        group = scene.make()
        library = BpfLibrary()
        resources = {} if given is None else {"devices": given}
        fd, program = group.join_fd(), library.load(group.device_program(resources))
        library.attach(fd, program)
        text = (
            f"cd {tmp_path}; mknod null c 1 3; mknod kmsg c 1 11; mknod mem c 1 1;"
            "for n in null kmsg; do (: <$n) 2>/dev/null && printf '%s ' $n; done; echo end"
        )
        assert scene.child(group, text).answer().decode().split() == [*opens.split(), "end"]
        os.close(fd)
        os.close(program)
