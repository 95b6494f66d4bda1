"""Resources as writes: native/cgroup/{limits,v1,v2}.py on a fake tree of plain files."""

import os

import pytest

from skerry.errors import KernelError, SpecError
from skerry.linux import cgroupfs
from skerry.native.cgroup import limits
from skerry.native.cgroup.group import Cgroup

AT = "/linux/resources"
V1 = ("cpu", "cpuset", "memory", "pids", "blkio", "hugetlb", "net_cls", "net_prio", "rdma")
V2 = ("cpu", "cpuset", "memory", "pids", "io", "hugetlb", "rdma")


@pytest.fixture
def one(tmp_path):
    """A v1 cgroup."""
    paths = {name: str(tmp_path / name) for name in (*V1, "devices")}
    return fake("v1", paths, "")


@pytest.fixture
def two(tmp_path):
    """A v2 cgroup `leaf` below a top."""
    leaf = str(tmp_path / "top" / "leaf")
    return fake("v2", {"": leaf, **dict.fromkeys(V2, leaf)}, str(tmp_path / "top"))


def fake(kind, paths, top):
    group = Cgroup(kind, paths, [], top)
    for path in group.leaves:
        os.makedirs(path)
    return group


def hold(group, controller, **files):
    """Give files of the fake a content: memory_current -> memory.current."""
    for name, text in files.items():
        path = f"{group.paths[controller]}/{name.replace('_', '.', 1)}"
        with open(path, "w") as file:
            file.write(text)


def wanted(group, resources):
    return [(write.file, write.text()) for write in limits.gather(group, resources, AT)]


# resources, what v1 and what v2 is told; a SpecError is written as "!pointer"; None: not asked.
# The numbers of v2 are those of runc 1.1 (cpu.weight 39 for 1024 shares).
CASES = [
    (
        {"memory": {"limit": 64 << 20}},
        [("memory.limit_in_bytes", "67108864")],
        [("memory.max", "67108864")],
    ),
    (
        {"memory": {"limit": 1000000, "swap": 3000000, "reservation": 5000}},
        [
            ("memory.limit_in_bytes", "1000000"),
            ("memory.memsw.limit_in_bytes", "3000000"),
            ("memory.soft_limit_in_bytes", "5000"),
        ],
        [("memory.swap.max", "2000000"), ("memory.max", "1000000"), ("memory.low", "5000")],
    ),
    (
        {"memory": {"limit": -1}},
        [("memory.limit_in_bytes", "-1"), ("memory.memsw.limit_in_bytes", "-1")],
        [("memory.swap.max", "max"), ("memory.max", "max")],
    ),
    (
        {"memory": {"limit": 8192, "swap": 8192}},
        [("memory.limit_in_bytes", "8192"), ("memory.memsw.limit_in_bytes", "8192")],
        [("memory.swap.max", "0"), ("memory.max", "8192")],
    ),
    (
        {"memory": {"limit": 8192, "swap": -1}},
        [("memory.limit_in_bytes", "8192"), ("memory.memsw.limit_in_bytes", "-1")],
        [("memory.swap.max", "max"), ("memory.max", "8192")],
    ),
    ({"memory": {"limit": 0, "swap": 0, "disableOOMKiller": False, "useHierarchy": True}}, [], []),
    ({"memory": {"swappiness": 0}}, [("memory.swappiness", "0")], "!/memory/swappiness"),
    ({"memory": {"swappiness": 101}}, "!/memory/swappiness", "!/memory/swappiness"),
    (
        {"memory": {"disableOOMKiller": True}},
        [("memory.oom_control", "1")],
        "!/memory/disableOOMKiller",
    ),
    ({"memory": {"useHierarchy": False}}, [("memory.use_hierarchy", "0")], "!/memory/useHierarchy"),
    ({"memory": {"limit": 1}}, "!/memory/limit", "!/memory/limit"),
    ({"memory": {"limit": 8192, "swap": 4096}}, None, "!/memory/swap"),
    ({"memory": {"swap": 4096}}, None, "!/memory/swap"),
    ({"memory": {"kernel": 1 << 20, "kernelTCP": 5}}, [], []),
    ({"cpu": {"shares": 2}}, [("cpu.shares", "2")], [("cpu.weight", "1")]),
    ({"cpu": {"shares": 1024}}, [("cpu.shares", "1024")], [("cpu.weight", "39")]),
    ({"cpu": {"shares": 262144}}, [("cpu.shares", "262144")], [("cpu.weight", "10000")]),
    ({"cpu": {"shares": 1}}, "!/cpu/shares", "!/cpu/shares"),
    ({"cpu": {"shares": 262145}}, "!/cpu/shares", "!/cpu/shares"),
    (
        {"cpu": {"quota": 20000, "period": 50000}},
        [("cpu.cfs_period_us", "50000"), ("cpu.cfs_quota_us", "20000")],
        [("cpu.max", "20000 50000")],
    ),
    ({"cpu": {"quota": -1}}, [("cpu.cfs_quota_us", "-1")], [("cpu.max", "max 100000")]),
    ({"cpu": {"period": 7000}}, [("cpu.cfs_period_us", "7000")], [("cpu.max", "max 7000")]),
    (
        {"cpu": {"burst": 0, "idle": 1}},
        [("cpu.cfs_burst_us", "0"), ("cpu.idle", "1")],
        [("cpu.max.burst", "0"), ("cpu.idle", "1")],
    ),
    (
        {"cpu": {"realtimePeriod": 9, "realtimeRuntime": 5}},
        [("cpu.rt_period_us", "9"), ("cpu.rt_runtime_us", "5")],
        "!/cpu/realtimeRuntime",
    ),
    (
        {"cpu": {"cpus": "0-1", "mems": "0"}},
        [("cpuset.cpus", "0-1"), ("cpuset.mems", "0")],
        [("cpuset.cpus", "0-1"), ("cpuset.mems", "0")],
    ),
    ({"pids": {"limit": 5}}, [("pids.max", "5")], [("pids.max", "5")]),
    ({"pids": {"limit": -1}}, [("pids.max", "max")], [("pids.max", "max")]),
    ({"pids": {"limit": 0}}, [], []),
    ({"blockIO": {"weight": 10}}, [("blkio.bfq.weight", "10")], [("io.weight", "1")]),
    ({"blockIO": {"weight": 1000}}, [("blkio.bfq.weight", "1000")], [("io.weight", "10000")]),
    ({"blockIO": {"leafWeight": 10}}, [("blkio.leaf_weight", "10")], "!/blockIO/leafWeight"),
    (
        {"blockIO": {"weightDevice": [{"major": 8, "minor": 0, "weight": 50}]}},
        [("blkio.bfq.weight_device", "8:0 50")],
        [("io.bfq.weight", "8:0 50")],
    ),
    (
        {"blockIO": {"throttleReadBpsDevice": [{"major": 8, "minor": 0, "rate": 1000}]}},
        [("blkio.throttle.read_bps_device", "8:0 1000")],
        [("io.max", "8:0 rbps=1000")],
    ),
    (
        {"blockIO": {"throttleWriteIOPSDevice": [{"major": 8, "minor": 16, "rate": 0}]}},
        [("blkio.throttle.write_iops_device", "8:16 0")],
        [("io.max", "8:16 wiops=max")],
    ),
    (
        {"blockIO": {"throttleReadBpsDevice": [{"rate": 1}]}},
        "!/blockIO/throttleReadBpsDevice/0/major",
        "!/blockIO/throttleReadBpsDevice/0/major",
    ),
    (
        {"hugepageLimits": [{"pageSize": "2MB", "limit": 9}]},
        [("hugetlb.2MB.limit_in_bytes", "9"), ("hugetlb.2MB.rsvd.limit_in_bytes", "9")],
        [("hugetlb.2MB.max", "9"), ("hugetlb.2MB.rsvd.max", "9")],
    ),
    (
        {"hugepageLimits": [{"pageSize": "../2MB", "limit": 9}]},
        "!/hugepageLimits/0/pageSize",
        "!/hugepageLimits/0/pageSize",
    ),
    ({"network": {"classID": 0x100001}}, [("net_cls.classid", "1048577")], "!/network/classID"),
    (
        {"network": {"priorities": [{"name": "eth0", "priority": 5}]}},
        [("net_prio.ifpriomap", "eth0 5")],
        "!/network/priorities/0",
    ),
    (
        {"rdma": {"mlx5_1": {"hcaHandles": 3, "hcaObjects": 0}}},
        [("rdma.max", "mlx5_1 hca_handle=3 hca_object=0")],
        [("rdma.max", "mlx5_1 hca_handle=3 hca_object=0")],
    ),
    ({"unified": {"memory.high": "5"}}, "!/unified/memory.high", [("memory.high", "5")]),
    (
        {"unified": {"cgroup.max.depth": "5"}},
        "!/unified/cgroup.max.depth",
        [("cgroup.max.depth", "5")],
    ),
    ({"unified": {"cgroup.procs": "1"}}, None, "!/unified/cgroup.procs"),
    ({"unified": {"a/../b.c": "1"}}, None, "!/unified/a~1..~1b.c"),
    ({"unified": {"..": "1"}}, None, "!/unified/.."),
    ({"unified": {"misc.max": "1"}}, None, "!/unified/misc.max"),
    ({"unified": {"memory.high": 5}}, None, "!/unified/memory.high"),
    ({"unknown": {"x": 1}}, [], []),
    ({}, [], []),
]


BOTH = [
    pytest.param(resources, version, expected, id=f"{version} {resources}"[:70])
    for resources, *answers in CASES
    for version, expected in zip(("v1", "v2"), answers, strict=True)
    if expected is not None
]


@pytest.mark.parametrize("resources, version, expected", BOTH)
def test_what_is_written(one, two, resources, version, expected):
    group = one if version == "v1" else two
    if isinstance(expected, str):
        with pytest.raises(SpecError) as caught:
            wanted(group, resources)
        assert caught.value.pointer == AT + expected[1:]
    else:
        assert wanted(group, resources) == expected


def test_a_controller_that_is_nowhere(tmp_path):
    """engines.md 2: the error names the controller and the key."""
    group = fake("v2", {"": str(tmp_path / "t" / "l")}, str(tmp_path / "t"))
    for resources, pointer, controller in (
        ({"memory": {"limit": 1 << 20}}, "/memory/limit", "memory"),
        ({"pids": {"limit": 7}}, "/pids/limit", "pids"),
        ({"cpu": {"cpus": "0"}}, "/cpu/cpus", "cpuset"),
        ({"blockIO": {"weight": 100}}, "/blockIO/weight", "io"),
        ({"network": {"classID": 1}}, "/network/classID", "net_cls"),
    ):
        with pytest.raises(SpecError, match=f"controller {controller}, which this host") as caught:
            wanted(group, resources)
        assert caught.value.pointer == AT + pointer
    # "no limit" needs no controller
    assert wanted(group, {"pids": {"limit": -1}, "memory": {"limit": -1}}) == []


def test_hybrid_takes_each_controller_where_it_is(tmp_path):
    unified = str(tmp_path / "u" / "l")
    paths = {"memory": str(tmp_path / "m"), "hugetlb": unified, "": unified}
    group = Cgroup("hybrid", paths, [], str(tmp_path / "u"))
    resources = {"memory": {"limit": 8192}, "hugepageLimits": [{"pageSize": "2MB", "limit": 0}]}
    files = [file for file, _ in wanted(group, resources)]
    assert files == ["memory.limit_in_bytes", "hugetlb.2MB.max", "hugetlb.2MB.rsvd.max"]


def test_check_before_update(one, two):
    hold(one, "memory", memory_usage_in_bytes="9000000")
    hold(two, "memory", memory_current="9000000")
    for group in (one, two):
        resources = {"memory": {"limit": 8000000, "checkBeforeUpdate": True}}
        with pytest.raises(SpecError, match="unable to set memory limit to 8000000") as caught:
            wanted(group, resources)
        assert caught.value.pointer == f"{AT}/memory/limit"
        assert wanted(group, {"memory": {"limit": 9000001, "checkBeforeUpdate": True}})


def test_v2_keeps_the_half_of_cpu_max_that_is_not_said(two):
    hold(two, "cpu", cpu_max="20000 50000")
    assert wanted(two, {"cpu": {"period": 70000}}) == [("cpu.max", "20000 70000")]
    assert wanted(two, {"cpu": {"quota": 30000}}) == [("cpu.max", "30000 50000")]


def test_v2_swap_alone_counts_from_the_present_limit(two):
    hold(two, "memory", memory_max="1000")
    assert wanted(two, {"memory": {"swap": 5000}}) == [("memory.swap.max", "4000")]


def test_v2_prefers_bfq_weights(two):
    hold(two, "io", **{"io_bfq.weight": "default 100"})
    assert wanted(two, {"blockIO": {"weight": 300}}) == [("io.bfq.weight", "300")]


def test_controllers_are_enabled_from_the_top_down(two, tmp_path):
    """decisions.md 31: subtree_control of every cgroup above, for the controllers that are
    needed."""
    hold(two, "", **{"memory_max": "", "cgroup_controllers": "cpu"})
    top = tmp_path / "top" / "cgroup.subtree_control"
    top.write_text("")
    two.apply({"memory": {"limit": 8192}})
    assert top.read_text() == "+memory"
    assert (tmp_path / "top" / "leaf" / "memory.max").read_text() == "8192"


class Kernel:
    """Files with rules, in place of cgroupfs.write: limit <= memsw, as mem_cgroup_resize_max has
    it."""

    def __init__(self, limit, memsw):
        self.now = {"memory.limit_in_bytes": limit, "memory.memsw.limit_in_bytes": memsw}
        self.writes = 0

    def write(self, path, text):
        file = path.rpartition("/")[2]
        self.writes += 1
        new = dict(self.now, **{file: int(text)})
        if new["memory.limit_in_bytes"] > new["memory.memsw.limit_in_bytes"]:
            raise KernelError("write", file, cgroupfs.errno.EINVAL)
        self.now = new


@pytest.mark.parametrize(
    "before, after", [((10, 20), (30, 40)), ((30, 40), (10, 20)), ((10, 20), (5, 50))]
)
def test_dependent_values_grow_and_shrink(one, monkeypatch, before, after):
    kernel = Kernel(*(value << 20 for value in before))
    monkeypatch.setattr(cgroupfs, "write", kernel.write)
    limit, swap = (value << 20 for value in after)
    limits.perform(one, limits.gather(one, {"memory": {"limit": limit, "swap": swap}}, AT))
    assert tuple(value >> 20 for value in kernel.now.values()) == after


def test_what_never_fits_is_an_error_and_no_loop(one, monkeypatch):
    kernel = Kernel(10 << 20, 20 << 20)
    monkeypatch.setattr(cgroupfs, "write", kernel.write)
    hold(one, "memory", **{"memory_memsw.limit_in_bytes": "20971520"})
    writes = limits.gather(one, {"memory": {"limit": 30 << 20}, "pids": {"limit": 3}}, AT)
    with pytest.raises(
        SpecError, match="refuses '31457280' for memory.limit_in_bytes: EINVAL"
    ) as caught:
        limits.perform(one, writes)
    assert "raise swap as well" in str(caught.value)
    assert caught.value.pointer == f"{AT}/memory/limit"
    assert kernel.writes <= 3


def test_a_file_the_kernel_lacks(one):
    with pytest.raises(SpecError, match="this kernel has no memory.memsw.limit_in_bytes") as caught:
        one.apply({"memory": {"swap": 1 << 20}})
    assert "swapaccount" in str(caught.value)
    with pytest.raises(SpecError, match="no blkio.leaf_weight"):
        one.check({"blockIO": {"leafWeight": 20}})


@pytest.mark.parametrize(
    "resources, controller, file, before, expected",
    [
        ({"pids": {"limit": 7}}, "pids", "pids_max", "max\n", "max"),
        (
            {"memory": {"disableOOMKiller": True}},
            "memory",
            "memory_oom_control",
            "oom_kill_disable 0\nunder_oom 0\noom_kill 0\n",
            "0",
        ),
        ({"cpu": {"cpus": "0"}}, "cpuset", "cpuset_cpus", "\n", "\n"),
        ({"blockIO": {"weight": 20}}, "blkio", "blkio_bfq.weight", "default 100\n8:0 5\n", "100"),
        (
            {"blockIO": {"throttleReadBpsDevice": [{"major": 8, "minor": 0, "rate": 5}]}},
            "blkio",
            "blkio_throttle.read_bps_device",
            "8:1 9\n8:0 77\n",
            "8:0 77",
        ),
        (
            {"blockIO": {"throttleReadBpsDevice": [{"major": 8, "minor": 0, "rate": 5}]}},
            "blkio",
            "blkio_throttle.read_bps_device",
            "8:1 9\n",
            "8:0 0",
        ),
    ],
)
def test_what_update_would_bring_back(one, resources, controller, file, before, expected):
    hold(one, controller, **{file: before})
    assert [write.text() for write in one.save_limits(resources)] == [expected]
