"""The figures of a guest as containerd's Metrics of cgroups v2: units, sums taken apart again, and nothing believed."""

import pytest

from skerry.native.cgroup import stats_v2
from skerry.shims.task import guest_metrics, metrics, protobuf

FILES = {
    "cpu.stat": "usage_usec 3000\nuser_usec 2000\nsystem_usec 1000\nnr_periods 7\nnr_throttled 5\nthrottled_usec 40\n",
    "memory.stat": "anon 4096\nfile 8192\npgfault 12\nslab 100\n",
    "memory.current": "20480\n",
    "memory.max": "max\n",
    "memory.peak": "30000\n",
    "memory.swap.current": "512\n",
    "memory.swap.max": "1024\n",
    "pids.current": "3\n",
    "pids.max": "77\n",
    "io.stat": "8:0 rbytes=10 wbytes=20 rios=1 wios=2 dbytes=9 dios=9\n254:16 rbytes=5 wbytes=0 rios=1 wios=0\n",
}


@pytest.fixture
def cgroup(tmp_path) -> str:
    for name, text in FILES.items():
        (tmp_path / name).write_text(text)
    return str(tmp_path)


def stats_of(path: str) -> dict:
    figures = ("cpu", "memory", "pids", "blkio")
    return {name: getattr(stats_v2, name)(path) for name in figures}


@pytest.mark.parametrize("limit", ["max", "65536"])
def test_they_are_what_the_files_of_the_same_cgroup_say(cgroup, limit, tmp_path):
    """The guest's skerry has made `events` of its files; the way back ends where a v2 host's own figures are."""
    (tmp_path / "memory.max").write_text(limit)
    (tmp_path / "memory.swap.max").write_text(limit if limit == "max" else "1024")
    direct = metrics.v2(cgroup)
    found = guest_metrics.v2(stats_of(cgroup))
    for name in ("pids", "cpu", "memory"):
        wanted = {key: value for key, value in direct[name].items() if value}
        assert {key: value for key, value in found[name].items() if value} == wanted, name
    wanted = [{k: v for k, v in row.items() if k not in ("dbytes", "dios")} for row in direct["io"]["usage"]]
    assert [{**dict.fromkeys(("wbytes", "wios"), 0), **row} for row in found["io"]["usage"]] == wanted
    assert protobuf.decode(metrics.V2_TABLE, protobuf.encode(metrics.V2_TABLE, found))["pids"]["limit"] == 77


@pytest.mark.parametrize(
    "stats",
    [
        {},
        {"cpu": 7, "memory": [], "pids": None, "blkio": "x"},
        {"cpu": {"usage": {"total": -5, "user": 2**80, "kernel": True}}, "memory": {"raw": {"anon": "9" * 999}}},
        {"memory": {"usage": {"usage": 1.5, "limit": -1}, "swap": {"usage": -7, "limit": 2**64}}},
        {"blkio": {"ioServicedRecursive": [None, 5, {"op": "Read", "major": "8", "minor": [], "value": -1}, {"op": {}}]}},
    ],
)
def test_what_a_guest_makes_up_is_nothing(stats):
    found = guest_metrics.v2(stats)
    protobuf.encode(metrics.V2_TABLE, found)
    assert set(found["cpu"].values()) == {0}
    assert all(value == 0 for value in found["memory"].values())
    assert all(not any(row.values()) for row in found["io"]["usage"])


def test_a_guest_with_devices_without_end():
    entries = [{"op": "Read", "major": n, "minor": 0, "value": 1} for n in range(100_000)]
    found = guest_metrics.v2({"blkio": {"ioServicedRecursive": entries}})
    assert len(found["io"]["usage"]) <= 1024
