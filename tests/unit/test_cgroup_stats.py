"""The figures of cgroup v1 and v2 from files as the kernel's documentation shows them."""

from skerry.native.cgroup.group import Cgroup


def fake_v2(tmp_path, **texts):
    leaf = tmp_path / "leaf"
    leaf.mkdir()
    for name, text in texts.items():
        (leaf / name).write_text(text)
    names = ("", "cpu", "memory", "pids", "io", "hugetlb")
    return Cgroup("v2", dict.fromkeys(names, str(leaf)), [], str(tmp_path))


V2 = {
    "cpu.stat": "usage_usec 5000\nuser_usec 3000\nsystem_usec 2000\n"
    "nr_periods 7\nnr_throttled 2\nthrottled_usec 9\nnr_bursts 0\nburst_usec 0\n",
    "memory.current": "4096\n",
    "memory.max": "8192\n",
    "memory.peak": "6000\n",
    "memory.swap.current": "100\n",
    "memory.swap.max": "1000\n",
    "memory.stat": "anon 12\nfile 34\nkernel_stack 0\n",
    "pids.current": "3\n",
    "pids.max": "max\n",
    "io.stat": "8:16 rbytes=1459200 wbytes=314773504 rios=192 wios=353 dbytes=0 dios=0\n8:0 \n",
    "hugetlb.2MB.current": "0\n",
    "hugetlb.2MB.max": "max\n",
    "hugetlb.2MB.events": "max 5\n",
    "hugetlb.2MB.rsvd.current": "0\n",
}


def test_v2(tmp_path):
    """Names and mapping of runc 1.1: `swap` is memory and swap together, file pages are `cache`."""
    figures = fake_v2(tmp_path, **V2).stats()
    assert figures["cpu"] == {
        "usage": {"total": 5000000, "kernel": 2000000, "user": 3000000},
        "throttling": {"periods": 7, "throttledPeriods": 2, "throttledTime": 9000},
    }
    memory = figures["memory"]
    assert memory["cache"] == 34
    assert memory["usage"] == {"limit": 8192, "usage": 4096, "max": 6000, "failcnt": 0}
    assert memory["swap"] == {"limit": 9192, "usage": 4196, "failcnt": 0}
    assert memory["raw"] == {"anon": 12, "file": 34, "kernel_stack": 0}
    assert figures["pids"] == {"current": 3}
    assert figures["blkio"] == {
        "ioServiceBytesRecursive": [
            {"major": 8, "minor": 16, "op": "Read", "value": 1459200},
            {"major": 8, "minor": 16, "op": "Write", "value": 314773504},
            {"major": 8, "minor": 16, "op": "Discard"},
        ],
        "ioServicedRecursive": [
            {"major": 8, "minor": 16, "op": "Read", "value": 192},
            {"major": 8, "minor": 16, "op": "Write", "value": 353},
            {"major": 8, "minor": 16, "op": "Discard"},
        ],
    }
    assert figures["hugetlb"] == {"2MB": {"failcnt": 5}}
    assert (figures["intel_rdt"], figures["network_interfaces"]) == ({}, None)


def test_v2_without_limits(tmp_path):
    texts = {**V2, "memory.max": "max\n", "memory.swap.max": "max\n"}
    memory = fake_v2(tmp_path, **texts).stats()["memory"]
    assert memory["usage"]["limit"] == memory["swap"]["limit"] == 18446744073709551615


def test_v2_without_any_file(tmp_path):
    figures = fake_v2(tmp_path).stats()
    assert figures["memory"]["usage"] == {"limit": 0, "failcnt": 0}
    assert figures["pids"] == figures["blkio"] == figures["hugetlb"] == {}


def fake_v1(tmp_path, controller, texts):
    path = tmp_path / controller
    path.mkdir()
    for name, text in texts.items():
        (path / name).write_text(text)
    return Cgroup("v1", {controller: str(path)}, [], "").stats()


BYTES = "8:0 Read 4096\n8:0 Write 0\n8:0 Sync 0\n8:0 Async 4096\n8:0 Total 4096\nTotal 4096\n"
READ = {"major": 8, "op": "Read", "value": 4096}


def test_v1_block_io_falls_back_to_the_throttle_layer(tmp_path):
    texts = {
        "blkio.bfq.io_serviced_recursive": "Total 0\n",
        "blkio.bfq.io_service_bytes_recursive": "Total 0\n",
        "blkio.throttle.io_serviced_recursive": "8:0 Read 1\nTotal 1\n",
        "blkio.throttle.io_service_bytes_recursive": BYTES,
    }
    blkio = fake_v1(tmp_path, "blkio", texts)["blkio"]
    assert list(blkio) == ["ioServiceBytesRecursive", "ioServicedRecursive"]
    assert blkio["ioServiceBytesRecursive"][0] == READ
    assert len(blkio["ioServiceBytesRecursive"]) == 5
    assert blkio["ioServicedRecursive"] == [{"major": 8, "op": "Read", "value": 1}]


def test_v1_block_io_of_bfq(tmp_path):
    texts = {
        "blkio.bfq.sectors_recursive": "8:0 8\n",
        "blkio.bfq.io_serviced_recursive": "8:0 Read 1\n",
        "blkio.bfq.io_service_bytes_recursive": BYTES,
        "blkio.throttle.io_serviced_recursive": "8:0 Read 99\n",
    }
    blkio = fake_v1(tmp_path, "blkio", texts)["blkio"]
    assert blkio["sectorsRecursive"] == [{"major": 8, "value": 8}]
    assert blkio["ioServicedRecursive"] == [{"major": 8, "op": "Read", "value": 1}]


def test_v1_huge_pages(tmp_path):
    texts = {
        "hugetlb.2MB.usage_in_bytes": "2097152\n",
        "hugetlb.2MB.max_usage_in_bytes": "4194304\n",
        "hugetlb.2MB.failcnt": "1\n",
        "hugetlb.2MB.rsvd.usage_in_bytes": "7\n",
    }
    figures = fake_v1(tmp_path, "hugetlb", texts)["hugetlb"]
    assert figures == {"2MB": {"usage": 2097152, "max": 4194304, "failcnt": 1}}
